"""YAML files: plain values, of bounded size."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cory.io.yaml import MAX_BYTES, MAX_DEPTH, MAX_VALUES, parse_yaml, read_yaml

BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 10)
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (BOMB, "stands for more than 5,000 values"),
        ("a: &a [1, *a]", r"\*a stands inside itself"),
        ("[" * 2000, "nested more than 50 deep"),
        ("a: !!python/object/apply:os.system ['true']", "is not YAML"),
        ("a: !!python/name:os.system", "is not YAML"),
        ("a: !!int ''", "is not YAML: a value does not fit its tag"),
        ("a: !!bool 7", "is not YAML: a value does not fit its tag"),
        ("a: *b", "is not YAML"),
        ("a: [1", "is not YAML"),
        ("{[a]: 1}", "is not YAML"),
        ("a: 1\n---\nb: 2", "line 2, is not YAML: expected a single document"),
        ("a: 1\nb: 2\na: 3", "line 3, is not YAML: the key 'a' stands there twice"),
        ("a: {b: 1, b: 1}", "the key 'b' stands there twice"),
        ("a: 010", "line 1, is not YAML: 010 is a number of base 8 or 60"),
        ("a: [1:30]", "1:30 is a number of base 8 or 60"),
        ("a: 1:30:00.5", "1:30:00.5 is a number of base 8 or 60"),
        ("a: 1\n\tb: 2", "line 2, is not YAML: .*cannot start any token$"),
        ("a: \0", "is not YAML: .*not allowed"),
    ],
    ids=lambda text: repr(text[:20]),
)
def test_what_is_refused(tmp_path: Path, text: str, message: str) -> None:
    """Prevents a file that runs code, or that takes all memory, by being read."""
    (tmp_path / "file.yaml").write_text(text)
    started = time.process_time()
    with pytest.raises(ValueError, match=message):
        read_yaml(tmp_path / "file.yaml")
    assert time.process_time() - started < 2


def test_what_is_no_text(tmp_path: Path) -> None:
    """Prevents an error that does not name the file."""
    path = tmp_path / "file.yaml"
    with pytest.raises(ValueError, match=r"file\.yaml cannot be read"):
        read_yaml(path)
    path.write_bytes(b"a: \xff")
    with pytest.raises(ValueError, match=r"file\.yaml is not UTF-8"):
        read_yaml(path)
    path.write_text("#" * (MAX_BYTES + 1))
    with pytest.raises(ValueError, match="settings need no more than 1,000,000"):
        read_yaml(path)


def test_anchors_are_of_use_still() -> None:
    """Prevents a guard that takes away what comparisons are written with."""
    text = "base: &base {a: [1, 2]}\none: {<<: *base, b: 3}\ntwo: *base"
    assert parse_yaml(text, "x") == {
        "base": {"a": [1, 2]},
        "one": {"a": [1, 2], "b": 3},
        "two": {"a": [1, 2]},
    }
    assert parse_yaml("", "x") is None
    assert len(parse_yaml(f"[{'1, ' * (MAX_VALUES - 2)}1]", "x")) == MAX_VALUES - 1
    assert parse_yaml("[" * MAX_DEPTH + "]" * MAX_DEPTH, "x")


@given(st.text(st.characters(codec=None, categories=None) | st.sampled_from("&*a[]{}:,!-? \n'\"")))
def test_any_text_is_read_or_refused(text: str) -> None:
    """Prevents an error of the library that is no `ValueError`."""
    try:
        parse_yaml(text, "the file")
    except ValueError as error:
        message = str(error)
    else:
        message = "the file"
    assert "the file" in message or "surrogates" in message or "int" in message


def test_numbers_that_are_what_they_seem_to_be() -> None:
    """Prevents a guard that takes texts, or a key that wins over a merged one, for a mistake."""
    assert parse_yaml("a: '010'\nb: 0\nc: 0.5\nd: -0\ne: 10:00 pm", "f") == {
        **{"a": "010", "b": 0, "c": 0.5, "d": 0, "e": "10:00 pm"}
    }
    text = "a: &a {x: 1, y: 1}\nb: &b {<<: *a, x: 2}\nc: {<<: *b, x: 3}"
    assert parse_yaml(text, "f")["c"] == {"x": 3, "y": 1}
