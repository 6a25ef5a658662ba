"""What must hold for any input of the parsers that read what others wrote.

Hypothesis asks these of some hundred inputs in the test suite, `scripts.fuzz.run` of as many as
atheris makes in ten minutes.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import TypeVar

from cory.cli.comparison import read_comparison
from cory.cli.options import read_settings
from cory.cli.settings import saved_settings, training_settings
from cory.tasks.final_number import MAX_DIGITS, final_number

T = TypeVar("T")
MAX_SECONDS = 5.0
"""Of one input on a busy machine; a quadratic pattern takes minutes on a long one."""
NO_OPTIONS = dict.fromkeys(
    ("preset", "arms", "baseline", "seeds", "kl_coefs", "learning_rates", "workers")
)


def check_answer(text: str) -> None:
    """Whatever a model wrote, there is a number or none, and a number reads as itself."""
    number = _in_time(lambda: final_number(text))
    assert number is None or isinstance(number, Fraction)
    if number is not None and max(map(_digits, number.as_integer_ratio())) <= MAX_DIGITS:
        assert final_number(str(number)) == number, f"{number} reads as {final_number(str(number))}"
        assert final_number(f"So the answer is {number}.") == number


def _digits(number: int) -> int:
    # Not len(str(…)), which Python refuses where there are thousands.
    return number.bit_length() * 30103 // 100000 + 1


def check_settings(text: str, directory: Path) -> None:
    """Whatever a file of settings holds, it is read or refused by a `ValueError` that says why."""
    path = directory / "config.yaml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    _read_or_refused(lambda: training_settings(read_settings(path)))
    _read_or_refused(lambda: saved_settings(directory))


def check_comparison(text: str, directory: Path) -> None:
    """The same of a file of a comparison; every run that it plans lies in the directory."""
    path = directory / "comparison.yaml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))

    def plan() -> None:
        comparison = read_comparison({}, {"config": str(path), **NO_OPTIONS})
        if len(comparison.arms) * len(comparison.seeds) <= 100:
            for run in comparison.runs(directory):
                assert run.directory.resolve().is_relative_to(directory.resolve() / "runs")
        comparison.warnings()
        comparison.to_dict()

    _read_or_refused(plan)


def _read_or_refused(read: Callable[[], object]) -> None:
    message = "none"
    try:
        _in_time(read)
    except ValueError as error:
        message = str(error)
    assert message.strip(), "an error without a message"


def _in_time(compute: Callable[[], T]) -> T:
    started = time.process_time()
    result = compute()
    seconds = time.process_time() - started
    assert seconds < MAX_SECONDS, f"took {seconds:.1f} s"
    return result
