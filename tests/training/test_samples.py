"""samples/: who answered what, and that looking at the initial model changes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest
import torch
from datasets import Dataset

from cory import CORYTrainer
from cory.training.samples import INITIAL_MODEL
from tests.tiny_runs import records, same_bits, settings, share_of_letters, snapshot, trainer


def rows_of(run: Path, step: int) -> list[dict[str, Any]]:
    return pyarrow.parquet.read_table(run / "samples" / f"step-{step:06d}.parquet").to_pylist()


def with_luck(completions: list[str], **columns: Any) -> list[float]:
    """A reward that draws from the global generators of numpy and torch.

    Not from Python's own: beartype, which checks annotations while tests run, draws from it too.
    """
    return [float(np.random.rand()) + float(torch.rand(())) for _ in completions]


def test_samples_hold_every_answer(tiny_gpt2_dir: Path, tmp_path: Path) -> None:
    """Prevents rewards that stand beside another agent's answer."""
    team = trainer(tiny_gpt2_dir, tmp_path, max_steps=2, log_samples_steps=2, num_generations=2)
    team.train()
    (path,) = (tmp_path / "samples").iterdir()
    assert path.name == "step-000002.parquet"
    rows = rows_of(tmp_path, step=2)
    speakers = (("agent_0", "pioneer"), ("agent_1", "observer"), (INITIAL_MODEL, INITIAL_MODEL))
    assert [(row["agent"], row["role"], row["index"]) for row in rows] == [
        (agent, role, index) for agent, role in speakers for index in range(8)
    ]
    for row in rows:
        (judged,) = team.components.rewards.funcs[0](prompts=[""], completions=[row["answer"]])
        assert row["task_reward"] == pytest.approx(judged)
        assert row["step"] == 2
    for mine, theirs, initial in zip(rows[:8], rows[8:16], rows[16:], strict=True):
        assert mine["query"] == theirs["query"] == initial["query"]
        assert (initial["team_reward"], initial["kl"]) == (None, 0)
        total = mine["task_reward"] + theirs["task_reward"]
        assert mine["team_reward"] == theirs["team_reward"] == pytest.approx(total)


@pytest.mark.parametrize("options", [{}, {"use_peft": True}], ids=["full", "adapters"])
def test_the_initial_model_answers_as_it_was(
    tiny_gpt2_dir: Path, tmp_path: Path, options: dict[str, Any]
) -> None:
    """Prevents a trained agent, or an adapter left on, from passing for the initial model."""
    answers = {}
    for rate in (0.05, 0.0):
        run = tmp_path / str(rate)
        trainer(
            tiny_gpt2_dir, run, log_samples_steps=1, max_steps=3, learning_rate=rate, **options
        ).train()
        rows = [row for step in (2, 3) for row in rows_of(run, step)]
        answers[rate] = {
            who: [row["answer"] for row in rows if row["agent"] == who]
            for who in (INITIAL_MODEL, "agent_0")
        }
    assert answers[0.05][INITIAL_MODEL] == answers[0.0][INITIAL_MODEL]
    assert answers[0.05]["agent_0"] != answers[0.0]["agent_0"]
    assert len(set(answers[0.0][INITIAL_MODEL])) > 8


@pytest.mark.parametrize("reward", [share_of_letters, with_luck])
def test_training_is_the_same_with_and_without_samples(
    tiny_gpt2_dir: Path, tmp_path: Path, reward: Any
) -> None:
    """Prevents the record from taking random numbers that training would have got."""
    ends = []
    for name, period in (("with", 1), ("without", None)):
        team = trainer(
            tiny_gpt2_dir, tmp_path / name, reward, max_steps=3, log_samples_steps=period
        )
        team.train()
        ends.append([snapshot(agent) for agent in team.agents])
    assert all(same_bits(left, right) for left, right in zip(*ends, strict=True))
    assert records(tmp_path / "with") == records(tmp_path / "without")


def test_chats_are_shown_by_their_last_message(tiny_llama_dir: Path, tmp_path: Path) -> None:
    """Prevents samples of chat models from failing, or from showing a Python list."""
    chats = [[{"role": "user", "content": f"Film {row}?"}] for row in range(8)]
    CORYTrainer(
        reward_funcs=lambda completions, **columns: [float(len(c[0])) for c in completions],
        args=settings(tiny_llama_dir, tmp_path, max_steps=1, log_samples_steps=1),
        train_dataset=Dataset.from_dict({"prompt": chats}),
    ).train()
    rows = rows_of(tmp_path, step=1)
    assert len(rows) == 24
    assert {row["query"] for row in rows} == {f"Film {row}?" for row in range(8)}


def length_of_the_query(prompts: list[str], completions: list[str], **columns: Any) -> list[float]:
    return [float(len(prompt)) for prompt in prompts]


def test_samples_after_an_exchange(tiny_gpt2_dir: Path, tmp_path: Path) -> None:
    """Prevents a log that names the wrong agent, role or query, or has the KL of a token."""
    options = {"role_exchange_period": 1, "log_samples_steps": 2}
    trainer(tiny_gpt2_dir, tmp_path, length_of_the_query, **options).train()
    rows = rows_of(tmp_path, step=2)
    speakers = {(row["agent"], row["role"]) for row in rows}
    assert speakers == {
        ("agent_1", "pioneer"),
        ("agent_0", "observer"),
        (INITIAL_MODEL, INITIAL_MODEL),
    }
    assert all(row["task_reward"] == len(row["query"]) for row in rows)
    (metrics,) = [
        record for record in records(tmp_path) if record["step"] == 2 and "kl" not in record
    ]
    for role in ("pioneer", "observer"):
        kls = [row["kl"] for row in rows if row["role"] == role]
        assert np.mean(kls) == pytest.approx(metrics[f"{role}/kl"], rel=1e-4)
