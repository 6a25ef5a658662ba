"""The parsers that read what others wrote: any text is read or refused, in time that is linear."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cory.cli.comparison import read_comparison
from cory.config import FIELD_NAMES
from cory.tasks.final_number import final_number
from scripts.fuzz.properties import NO_OPTIONS, check_answer, check_comparison, check_settings

ANY_TEXT = st.text(st.characters(codec=None, categories=None))
PIECES = st.sampled_from(
    r"#### \boxed{ \frac{1}{2} <<3*4=12>> </think> Question: answer Answer: A: = $ - − 1,234 .5 "
    r"3/4 1:30 10^{3} e9 x * , . ( { } ½ % 7 12 0 \times is about <|im_end|>".split()
)
ANSWERS = st.lists(PIECES | ANY_TEXT | st.sampled_from(" \n\t")).map("".join)
NAMES = st.sampled_from(sorted(FIELD_NAMES)) | st.sampled_from(
    "task preset base arms seeds kl_coefs learning_rates allow baseline title collapse ppo".split()
)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | ANY_TEXT
    | st.dates()
    | NAMES
    | st.sampled_from(["x2", "x1e9", "paper", "gsm8k", "../x", "ppo", [0, 1], ["ppo", "cory"]])
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(NAMES | st.integers() | ANY_TEXT, inner, max_size=4)
    ),
    max_leaves=8,
)
FILES = st.dictionaries(NAMES | ANY_TEXT, VALUES, max_size=4).map(yaml.safe_dump) | ANY_TEXT
ODD_FILES = (
    "",
    "[",
    "a: &a [*a]",
    "!!int ''",
    "!!bool 7",
    "!!python/object/apply:os.system [exit 1]",
    "seed: !!float 1_",
    "seed: 2001-99-99",
    f"seed: {'9' * 5000}",
    f"seed: {'[' * 5000}",
    "? {a: b}\n: c",
    "arms: [[1]]",
    "arms: {ppo: {1: x2}}",
    f"arms: {{ppo: {{batch_size: x{'9' * 400}}}}}",
    "arms: [ppo]\nseeds: [.inf]",
    "arms: [ppo]\nallow: 5",
    "arms: [ppo]\ncollapse: 5",
    "preset: {a: 1}",
    "preset: [1]",
)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("files")


@given(ANSWERS)
@example("\udc80####\0 1/0")
def test_any_answer_is_read(text: str) -> None:
    """Prevents an answer that ends a training of many hours."""
    check_answer(text)


@given(
    st.text(st.characters(exclude_categories=["Nd", "Cs"], exclude_characters="#</½¼¾⅓⅔")),
    st.integers(-(10**12), 10**12),
)
def test_the_gold_mark_decides(working: str, number: int) -> None:
    """Prevents signs before the mark from changing what follows it."""
    assert final_number(f"{working}\n#### {number}") == number


@settings(max_examples=60)
@given(st.lists(PIECES | ANY_TEXT | st.just(" "), min_size=1, max_size=4), ANSWERS, ANSWERS)
def test_long_answers_take_linear_time(unit: list[str], before: str, after: str) -> None:
    """Prevents a pattern that tries every pair of places: a minute for what takes milliseconds."""
    piece = "".join(unit) or " "
    text = before + piece * (50_000 // len(piece)) + after
    started = time.process_time()
    check_answer(text)
    assert time.process_time() - started < 5


@given(FILES)
def test_any_file_of_settings_is_read_or_refused(place: Path, text: str) -> None:
    """Prevents a traceback about a file, and a file that is never read to its end."""
    check_settings(text, place)


@given(FILES)
def test_any_file_of_a_comparison_is_read_or_refused(place: Path, text: str) -> None:
    """The same of comparisons; prevents, too, runs outside the comparison's directory."""
    check_comparison(text, place)


@pytest.mark.parametrize("text", ODD_FILES, ids=lambda text: repr(text[:30]))
def test_files_that_were_not_refused_once(place: Path, text: str) -> None:
    """Prevents what fuzzing found from coming back."""
    check_settings(text, place)
    check_comparison(text, place)
    (place / "odd.yaml").write_text(text)
    with pytest.raises(ValueError, match=r"\w"):
        read_comparison({}, {"config": str(place / "odd.yaml"), **NO_OPTIONS})
