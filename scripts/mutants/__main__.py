"""Put known faults into a copy of the source, one at a time, and run the tests that should notice.

python -m scripts.mutants                     all of `changes/*.yaml` (`make mutants`)
python -m scripts.mutants --only losses       one theme, or one change, by its name
python -m scripts.mutants --list              what there is

The exit status is 1 if a change survives, if its tests cannot be run, or if they fail without it.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence

from scripts.mutants.catalogue import Mutant, chosen, read_mutants
from scripts.mutants.running import FAILED, PASSED, Outcome, Testable, copies, outcomes, unchanged


def main() -> int:
    """Test the mutants; the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m scripts.mutants",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", action="append", default=[], help="name of a change or a theme")
    parser.add_argument("--jobs", type=int, default=2, help="mutants tested at a time (default 2)")
    parser.add_argument("--list", action="store_true", help="name the changes and what they break")
    options = parser.parse_args()
    mutants = chosen(read_mutants(), options.only)
    if options.list:
        for mutant in mutants:
            print(f"{mutant.theme}: {mutant.name}\n    {mutant.breaks}")
        return 0
    with copies(options.jobs) as all_copies:
        return judged(all_copies, mutants, options.jobs)


def judged(all_copies: Testable, mutants: Sequence[Mutant], jobs: int) -> int:
    """Test the mutants and print what comes of each; the exit status."""
    started = time.monotonic()
    for outcome in unchanged(all_copies, mutants, jobs):
        if outcome.status != PASSED:
            print(outcome.output)
            print("these tests fail on the source as it is, so they can notice nothing")
            return 1
    print(f"the tests pass without a change, in {time.monotonic() - started:.0f} s", flush=True)
    unnoticed: list[tuple[Mutant, Outcome]] = []
    for mutant, outcome in outcomes(all_copies, mutants, jobs):
        print(f"{outcome.seconds:6.1f} s  {mutant.theme}: {mutant.name}: {_verdict(outcome)}")
        sys.stdout.flush()
        if outcome.status != FAILED:
            unnoticed.append((mutant, outcome))
    for mutant, outcome in unnoticed:
        print(f"\n{mutant.name}: {_verdict(outcome)}\n  {mutant.breaks}\n  src/cory/{mutant.file}")
        if outcome.status != PASSED:
            print(outcome.output)
    minutes = (time.monotonic() - started) / 60
    noticed = len(mutants) - len(unnoticed)
    print(f"\n{noticed} of {len(mutants)} changes were noticed, in {minutes:.1f} minutes")
    return int(bool(unnoticed))


def _verdict(outcome: Outcome) -> str:
    if outcome.status == FAILED:
        return f"noticed by {outcome.first_failure}"
    if outcome.status == PASSED:
        return "SURVIVED"
    return f"BROKEN: pytest ended with status {outcome.status}"


if __name__ == "__main__":
    sys.exit(main())
