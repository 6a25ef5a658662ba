"""Fuzz a parser with atheris, which steers inputs by the branches they reach.

    python -m venv .venv-fuzz
    .venv-fuzz/bin/pip install atheris "jsonargparse[signatures]" pyyaml rich numpy
    PYTHONPATH=src:. .venv-fuzz/bin/python -m scripts.fuzz.run answer -max_total_time=600

`answer`, `settings` or `comparison`; what follows goes to libFuzzer. It prints the count of inputs,
and where a property of `scripts.fuzz.properties` does not hold, the input as a file.
"""

from __future__ import annotations

import re
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["cory", "yaml"]):
    from cory.config import FIELD_NAMES
    from scripts.fuzz.properties import check_answer, check_comparison, check_settings

ROOT = Path(__file__).resolve().parents[2]
WORDS = {
    "answer": r"""
        #### | \boxed{ | </think> | Question: | The answer is | Answer: | <<3*4=12>> | \frac{1}{2}
        $1,234.50 | x = | 1:30 | e10 | 10^{3} | \times | ½ | − | USD | % | 3 1/2 | ... | ((( | **
    """,
    "settings": "preset: paper | task: gsm8k | null | [ | { | &a | *a | !!int | <<: | : | - | ?",
    "comparison": "base: | arms: | ppo: {} | ../ | x2 | seeds: [0] | allow: [ | &a | *a",
}
"""What to put together, between bars."""


def words(parser: str) -> list[str]:
    """Pieces of inputs, the names of all settings among them."""
    pieces = [piece.strip() for line in WORDS[parser].splitlines() for piece in line.split("|")]
    settings = [f"{name}: " for name in sorted(FIELD_NAMES)] if parser != "answer" else []
    return [piece for piece in pieces if piece] + settings


def seeds(parser: str) -> list[str]:
    """Inputs to begin with."""
    if parser == "answer":
        return [
            "She makes 9 * 2 = $<<9*2=18>>18 every day.\n#### 18",
            "The answer is $1,234.50 (for 12 months).",
            r"Thus \boxed{\frac{3}{4}}.",
            "Answer: 16 - 3 = 13 eggs.\n\nQuestion: next? 5",
        ]
    patterns = {"settings": ["src/cory/recipes/*"], "comparison": ["examples/*", "experiments/*/*"]}
    files = [path for pattern in patterns[parser] for path in sorted(ROOT.glob(f"{pattern}.yaml"))]
    return [re.sub(r"^ *#.*\n", "", path.read_text(), flags=re.MULTILINE) for path in files]


def main(parser: str, options: list[str]) -> None:
    """Fuzz until an input breaks a property, or libFuzzer's options end it."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        corpus = directory / "corpus"
        corpus.mkdir()
        for number, seed in enumerate(seeds(parser)):
            (corpus / f"seed-{number}").write_text(seed)
        dictionary = directory / "words"
        dictionary.write_text("".join(f'"{_escaped(word)}"\n' for word in words(parser)))
        checks = {
            "answer": check_answer,
            "settings": lambda text: check_settings(text, directory),
            "comparison": lambda text: check_comparison(text, directory),
        }
        check = checks[parser]

        def check_bytes(data: bytes) -> None:
            check(data.decode("utf-8", "surrogateescape"))

        atheris.Setup(
            [sys.argv[0], f"-dict={dictionary}", "-max_len=8192", *options, str(corpus)],
            check_bytes,
        )
        atheris.Fuzz()


def _escaped(word: str) -> str:
    """As a libFuzzer dictionary writes a word."""
    return "".join(
        chr(byte) if 32 <= byte < 127 and chr(byte) not in '"\\' else f"\\x{byte:02x}"
        for byte in word.encode()
    )


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
