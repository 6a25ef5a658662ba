"""The table of architectures says what `cory train` does with each."""

from __future__ import annotations

import pytest

from scripts.docs.architectures import PAGE, Outcome, causal_architectures, outcome_of

REPRESENTATIVE = ("bert", "gpt2", "gpt_oss", "mamba", "qwen3_next")
"""Another head, plain, an MLP that gives two tensors, another cache, a recurrent state."""


def is_listed(outcome: Outcome) -> bool:
    """Whether the table has it so; reasons may differ where annotations are checked."""
    text = outcome.text.partition(":")[0]
    row = f"| `{outcome.model_type}` | "
    row += f"`{outcome.model_class}` | {text}" if outcome.is_built else ""
    return any(line.startswith(row) for line in PAGE.read_text().splitlines())


@pytest.mark.parametrize("model_type", REPRESENTATIVE)
def test_the_table_is_true_of_some(model_type: str) -> None:
    """Prevents a table of yesterday's probe; `python -m scripts.docs.architectures` renews it."""
    outcome = outcome_of(model_type)
    assert outcome.is_built
    assert is_listed(outcome)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_table_is_true_of_all() -> None:
    """The same of every architecture of the installed transformers: driven right, or refused."""
    outcomes = map(outcome_of, causal_architectures())
    assert [outcome for outcome in outcomes if not is_listed(outcome)] == []
