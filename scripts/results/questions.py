"""The index: a row for each question, with its answer and the difference that it rests on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scripts.results.columns import DECIMALS, NOTHING, Row, difference_text
from scripts.results.evaluations import Evaluations
from scripts.results.tables import markdown

TOGETHER = "\N{NO-BREAK SPACE}"
"""Keeps a figure and its interval on one line of a narrow cell."""


@dataclass(frozen=True)
class Question:
    """One question.

    Attributes:
        theme: which part of the index it stands in.
        page: its page, without `.md`.
        question: in a few words.
        answer: in a sentence.
        effects: the comparisons that the answer rests on; none where there is no interval.
        cost: what both have spent where they are compared.
    """

    theme: str
    page: str
    question: str
    answer: str
    effects: Sequence[Row] = ()
    cost: str = "iterations"


def index(questions: Sequence[Question], theme: str, experiments: Mapping[str, Evaluations]) -> str:
    """The rows of one theme.

    Raises:
        ValueError: no question has this theme.
    """
    asked = [question for question in questions if question.theme == theme]
    if not asked:
        themes = ", ".join(dict.fromkeys(question.theme for question in questions))
        raise ValueError(f"no question has the theme {theme!r}; there are {themes}")
    rows = [
        [
            f"[{question.question}]({question.page}.md)",
            question.answer,
            "<br>".join(_compared(row, question.cost, experiments) for row in question.effects)
            or NOTHING,
        ]
        for question in asked
    ]
    return markdown(["question", "answer", "difference in reward, and in KL"], rows)


def _compared(row: Row, cost: str, experiments: Mapping[str, Evaluations]) -> str:
    """What was compared where, with how many seeds if fewer than five, and what came."""
    arm = f"{row.arm}, merged" if row.agent == "merged" else row.arm
    values = [
        experiments[row.experiment].difference(row.arm, row.agent, row.baseline, name, cost)
        for name in ("reward", "KL")
    ]
    few = f", {len(values[0])} seeds" if len(values[0]) < 5 else ""
    reward, kl = (
        difference_text(value, DECIMALS[name])
        for name, value in zip(("reward", "KL"), values, strict=True)
    )
    figures = f"{reward}, KL {kl}".replace(" ± ", f"{TOGETHER}±{TOGETHER}")
    return f"{row.label}{few}, {arm} − {row.baseline}: {figures}"
