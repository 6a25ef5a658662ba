"""docs/reference/metrics.md explains what is logged: all of it, and nothing else."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.generation.vllm.servers import computing_server
from tests.tiny_runs import queries, trainer

PAGE = Path(__file__).resolve().parents[1] / "docs" / "reference" / "metrics.md"
OWNER = re.compile(r"(agent_\d+|merged|pioneer|observer(_\d+)?)/")
WAYS_OF_LEARNING: tuple[dict[str, Any], ...] = (
    {"num_agents": 3, "evaluate_merged": True},
    {"transfer_back_weight": 1.0, "partner_samples_weight": 1.0},
    {
        "kl_placement": "loss",
        "advantage_estimator": "group",
        "num_generations": 2,
        "entropy_coef": 0.01,
    },
)


def right_or_wrong(completions: list[str], log_metric: Any, **columns: Any) -> list[float]:
    """0 or 1, so that pass@k is measured."""
    log_metric("NAME", 1.0)
    return [float(len(text) % 2) for text in completions]


@pytest.fixture(scope="module")
def logged(tiny_gpt2_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """Keys by the heading under which they are explained."""
    keys: dict[str, set[str]] = {name: set() for name in explained()}
    runs = tmp_path_factory.mktemp("runs")
    with computing_server(tiny_gpt2_dir) as server:
        from_server = {"use_peft": True, "vllm_server_base_url": server.url}
        for number, options in enumerate((*WAYS_OF_LEARNING, from_server)):
            trainer(
                tiny_gpt2_dir,
                runs / str(number),
                right_or_wrong,
                eval_dataset=queries(2),
                num_eval_samples=6,
                max_steps=1,
                **options,
            ).train()
    for directory in runs.iterdir():
        for line in (directory / "metrics.jsonl").read_text().splitlines():
            for key in json.loads(line).keys() - {"step"}:
                heading, name = place(key)
                keys[heading].add(name)
    return keys


def place(key: str) -> tuple[str, str]:
    """The heading that a key belongs to, and its name there."""
    name = OWNER.sub("", key.removeprefix("eval/"), count=1)
    name = re.sub(r"^reward/.*", "reward/NAME", re.sub(r"^pass@[1-5]$", "pass@k", name))
    name = re.sub(r"^from_agent_\d+/", "from_agent_K/", name)
    if key.startswith("eval/"):
        return "Of an evaluation", name
    return ("Of one agent in one iteration" if OWNER.match(key) else "Of the whole iteration"), name


def explained() -> dict[str, set[str]]:
    """Keys of each heading's lists."""
    _, *parts = re.split(r"^## (.*)$", PAGE.read_text(), flags=re.MULTILINE)
    return {
        heading: set(re.findall(r"^- \*\*`([^`]+)`\*\*: ", text, flags=re.MULTILINE))
        for heading, text in zip(parts[::2], parts[1::2], strict=True)
    }


def test_every_key_is_explained_and_logged(logged: dict[str, set[str]]) -> None:
    """Prevents a number that nobody can interpret, and a page about numbers that are gone."""
    assert explained() == logged
