"""What counts as copied: worked out by hand, and compared with a slow definition."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cory.team.copying import copied_spans, copy_rate

FILM = "They say it is a great film, and they are right"


@pytest.mark.parametrize(
    ("answer", "earlier", "copied", "rate"),
    [
        # Two words in a row may be chance, three are copied.
        ("a great day", [FILM], [], 0),
        ("a great film", [FILM], ["a great film"], 1),
        # Case and punctuation count for nothing; what is between copied words is marked too.
        ('"A great FILM: and" so', [FILM], ["A great FILM: and"], 4 / 5),
        # Two runs, parted by a word of the answer's own.
        ("they say it never is a great film", [FILM], ["they say it", "is a great film"], 7 / 8),
        # The order matters, and the ends of two earlier answers do not join.
        ("film great a", [FILM], [], 0),
        ("it is good", ["it is", "good it"], [], 0),
        # Runs overlap in the answer: "b c d" and "c d e" each stand in some earlier answer.
        ("a b c d e f", ["x b c d", "c d e x"], ["b c d e"], 4 / 6),
        # A word with an apostrophe is one word; another word that begins like it is another.
        ("I don't think so", ["you don't think so"], ["don't think so"], 3 / 4),
        ("I don't think so", ["you don think so"], [], 0),
        # No white space in any of the texts: characters, at least four.
        ("07+2-1=09", ["05+2-1=06"], ["+2-1=0"], 6 / 9),
        ("07+2", ["17+2"], [], 0),
        # One word against a sentence is compared by words.
        ("great", [FILM], [], 0),
        ("", [FILM], [], 0),
        (" ,.", [FILM], [], 0),
        ("a great film", [], [], 0),
        ("a great film", ["", FILM], ["a great film"], 1),
    ],
)
def test_worked_examples(answer: str, earlier: list[str], copied: list[str], rate: float) -> None:
    """Prevents highlights that claim more, or less, than the definition."""
    spans = copied_spans(answer, earlier)
    assert [answer[start:end] for start, end in spans] == copied
    assert copy_rate(answer, earlier) == pytest.approx(rate)


SENTENCES = st.lists(st.sampled_from("abc"), min_size=2, max_size=9).map(" ".join)


@given(SENTENCES, st.lists(SENTENCES, min_size=1, max_size=3))
def test_a_word_is_copied_if_a_run_around_it_is(answer: str, earlier: list[str]) -> None:
    """Prevents runs that the fast way loses or makes up; here every run is looked for."""
    words = answer.split()
    copied = set()
    for start in range(len(words)):
        for end in range(start + 3, len(words) + 1):
            run = " ".join(["", *words[start:end], ""])
            if any(run in f" {text} " for text in earlier):
                copied |= set(range(start, end))
    assert copy_rate(answer, earlier) == pytest.approx(len(copied) / len(words))
