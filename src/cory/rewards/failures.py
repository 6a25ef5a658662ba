"""What happens when a reward function fails: the sample is kept, and the call skipped or not."""

from __future__ import annotations

import json
import math
from pathlib import Path

from cory.io.files import OutputError, replace_text, writing
from cory.io.terminal import say
from cory.rewards.calling import Call, Outcome, make_calls
from cory.rewards.values import RewardError, described, shown

LARGEST_NUMBER_OF_CULPRITS = 3
"""Once so many rows have failed alone, the function fails on anything: nothing else is tried."""


class RewardFailures:
    """The rule for calls that fail, and how many did.

    Whoever fails on a whole batch is called again for each answer alone, to find those at fault;
    not after a hang, which would take the time limit for each. With a limit of 0 that ends with the
    first culprit, and with the run.

    Args:
        limit: failed calls that are skipped; one more is an error.
        timeout: seconds that a call may take; None: no limit.
        directory: of the run, where samples are kept in `failures/`; None: they are not.
    """

    def __init__(
        self, limit: int = 0, timeout: float | None = None, directory: Path | None = None
    ) -> None:
        self.limit = limit
        self.timeout = timeout
        self.directory = directory
        self.count = 0

    def settled(self, call: Call, outcome: Outcome) -> list[float]:
        """Rewards of a call, NaN where its function does not apply.

        After a failure that is skipped, the rows at fault get the mean of the others', so that they
        neither gain nor lose; NaN, if there is none.

        Raises:
            RewardError: the call failed, and no failure is allowed any more.
        """
        if not isinstance(outcome, RewardError):
            return outcome
        self.count += 1
        is_last = self.count > self.limit
        failure = outcome if outcome.rows else self._examined(call, outcome)
        where = self._keep(call, failure)
        if is_last:
            more = f" ({self.count} calls have failed)" if self.limit else ""
            raise RewardError(
                f"{failure}\nThe run stops: max_reward_failures={self.limit}{more}{where}"
            ) from outcome.__cause__
        say(
            f"cory: {str(failure).splitlines()[0]}\n  skipped, failure {self.count} of at most "
            f"{self.limit}{where}"
        )
        rewards = failure.rewards or [math.nan] * len(call)
        known = [reward for reward in rewards if not math.isnan(reward)]
        mean = math.fsum(known) / len(known) if known else math.nan
        at_fault = set(failure.rows or ())
        return [mean if row in at_fault else reward for row, reward in enumerate(rewards)]

    def _examined(self, call: Call, failure: RewardError) -> RewardError:
        """The failure with the rows that fail alone, and what the others are paid alone."""
        at_fault: list[int] = []
        rewards = [math.nan] * len(call)
        most = LARGEST_NUMBER_OF_CULPRITS if self.count <= self.limit else 1
        for row in range(len(call)):
            if len(at_fault) == most:
                break
            (outcome,) = make_calls([call.alone(row)], self.timeout)
            if isinstance(outcome, RewardError):
                at_fault.append(row)
            else:
                rewards[row] = outcome[0]
        if not at_fault:
            return RewardError(f"{failure}\nNo answer alone makes it fail.", None, rewards)
        first = at_fault[0]
        if len(at_fault) == LARGEST_NUMBER_OF_CULPRITS:
            at_fault += range(at_fault[-1] + 1, len(call))
        return RewardError(
            f"{failure}\nThe first that fails alone is row {first}.\n"
            f"Its prompt: {shown(call.inputs['prompts'][first], 500)}\n"
            f"Its completion: {shown(call.inputs['completions'][first], 500)}",
            at_fault,
            rewards,
        )

    def _keep(self, call: Call, failure: RewardError) -> str:
        """Write the rows at fault, or all if these are not known; return where, in words."""
        if self.directory is None:
            return ""
        path = self.directory / "failures" / f"reward-{self.count}.json"
        rows = range(len(call)) if failure.rows is None else failure.rows
        samples = [
            {"row": row, **{name: column[row] for name, column in call.inputs.items()}}
            for row in rows
        ]
        kept = {"function": call.name, "error": str(failure), "samples": samples}
        try:
            with writing(path):
                path.parent.mkdir(parents=True, exist_ok=True)
            # A data set may have columns, such as pictures, that JSON cannot hold.
            replace_text(path, json.dumps(kept, indent=1, default=shown) + "\n")
        except (OutputError, TypeError, ValueError, RecursionError) as error:
            return f"; the sample is not kept: {described(error)}"
        return f"; the sample is in {path}"
