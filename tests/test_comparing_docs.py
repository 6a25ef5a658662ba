"""docs/how-to/comparing.md keeps its word: its files run, its arms, presets and settings exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from cory.cli.comparison import KEYS, read_comparison
from cory.cli.options import make_parser, parse_words
from cory.compare.arms import STANDARD_ARMS
from cory.compare.presets import PRESETS
from cory.training.trainer import CORYTrainer

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "how-to" / "comparing.md").read_text()
FILES = dict(
    zip(
        re.findall(r"\[(examples/\S+\.yaml)\]", PAGE),
        re.findall(r"<!-- runs -->\n```yaml\n(.*?)```", PAGE, re.DOTALL),
        strict=True,
    )
)
COMMANDS = [shlex.split(line) for line in re.findall(r"^cory compare.*", PAGE, flags=re.MULTILINE)]
OPTIONS = ("config", "preset", "arms", "baseline", "seeds", "kl_coefs", "learning_rates")
TINY = {"max_steps": 1, "eval_steps": 1, "batch_size": 4, "num_eval_queries": 4, "use_cpu": True}


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A working directory with the examples, which keeps what is run out of the checkout."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("name", FILES)
def test_the_page_shows_the_examples(name: str) -> None:
    """Prevents a page and a file that drift apart, and a short example that grows."""
    assert (ROOT / name).read_text() == FILES[name]
    assert len(FILES[name].splitlines()) <= 10


@pytest.mark.parametrize("name", FILES)
def test_the_arms_of_the_examples_train(name: str) -> None:
    """Prevents examples that are read, and then fail in every run; only sizes are changed."""
    plan = read_comparison(TINY, {**dict.fromkeys(OPTIONS), "config": name, "seeds": "0"})
    rewards = []
    for run in plan.runs("out"):
        metrics = CORYTrainer(args=run.args).train()
        rewards.append({key for key in metrics if key.startswith("agent_0/reward/")})
    assert len(rewards) == 2
    assert rewards[0] == rewards[1], "both arms are measured by all reward functions"


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_the_commands_are_valid(words: list[str]) -> None:
    """Prevents options, presets and files that no longer exist."""
    parser = make_parser("", "")
    for name in OPTIONS[1:]:
        parser.add_argument(f"--{name}")
    given, options = parse_words(parser, words[2:])
    del given["output_dir"]
    assert read_comparison(given, options).warnings() in (
        [],
        ["arms are paid differently: compare reward/NAME, not their task reward"],
    )


def first_column(header: str) -> set[str]:
    """The names in the first column of the table with this header."""
    _, *rows = PAGE.split(header)[1].split("\n\n")[0].splitlines()[1:]
    return {name for row in rows for name in re.findall(r"`(.+?)`", row.split("|")[1])}


def test_arms_presets_and_keys_are_all_explained() -> None:
    """Prevents a page about yesterday's arms, or an arm that nobody can find."""
    assert first_column("| standard arm |") == set(STANDARD_ARMS)
    assert first_column("| key | meaning |") == KEYS
    assert all(f"`{name}`" in PAGE for name in PRESETS)
