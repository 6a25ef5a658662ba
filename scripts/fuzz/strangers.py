"""What must hold for any options, run directory, server or chat row: a result, or a `ValueError`.

    PYTHONPATH=src:. python -m scripts.fuzz.strangers 100000 [SEED]

asks it of that many seeded inputs and prints how many there were of each kind. An input that
breaks a property ends it, with its kind and its seed: `check(kind, seed, directory)` repeats it.
"""

from __future__ import annotations

import json
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from cory.cli.options import make_parser, parse
from cory.cli.settings import training_settings
from cory.config import FIELD_NAMES, CORYConfig
from cory.generation.vllm.answers import (
    NoAnswerError,
    ServerError,
    base_of,
    read_completion,
    read_models,
)
from scripts.fuzz.mutations import HOSTILE, mutated, mutated_json

MAX_SECONDS = 10.0
"""Of one input on a busy machine."""
METRICS = ("task_reward", "kl", "entropy", "distinct_2", "copy_rate", "lift", "task_reward_ci95")
OWNERS = ("agent_0", "agent_1", "pioneer", "observer", "eval/agent_0", "eval/agent_1")
RECORD = {"step": 3, **{f"{owner}/{name}": 0.5 for owner in OWNERS for name in METRICS}} | {
    f"total_{what}": 7.0 for what in ("samples", "tokens", "seconds")
}
EVALUATION = {
    "checkpoints": {"agent_0": "checkpoints/step-1/agent_0"},
    "settings": {"task": "gsm8k", "dataset_name": None},
    "num_queries": 1,
    "num_samples": 1,
    "metrics": {"agent_0": {"task_reward": 0.5, "kl": 0.1}},
}
ROW = {"step": 1, "index": 0, "query": "Q", "agent": "agent_0", "role": "pioneer"} | {
    "answer": "one two three",
    "task_reward": 0.5,
    "team_reward": 0.5,
    "kl": 0.1,
}
COMPLETION = {
    "choices": [
        {
            "token_ids": [5, 6, 1],
            "logprobs": {"token_logprobs": [-1.0, -2.0, 0.0]},
            "finish_reason": "stop",
        }
    ]
}
MODELS = {
    "data": [
        {"id": "base", "parent": None, "max_model_len": 512},
        {"id": "agent_0", "parent": "base"},
    ]
}
CHAT = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"}]


def check_options(chance: random.Random, directory: Path) -> None:
    """Words of a command."""
    words: list[str] = []
    for _ in range(chance.randint(1, 4)):
        name = chance.choice(sorted(FIELD_NAMES))
        value = chance.choice([*HOSTILE, 1, 0.5, "paper", "gsm8k", "float32", "a b"])
        text = value if isinstance(value, str) else json.dumps(value)
        words += [f"--{name}", text] if chance.random() < 0.7 else [f"--{name}={text}"]
    if chance.random() < 0.1:
        words.append(chance.choice(["--", "-", "--x", "--config", "x", "--lam", "--seed="]))
    given, _ = parse(_parser(), words)
    training_settings({"output_dir": str(directory / "none"), **given})


def check_settings_file(chance: random.Random, directory: Path) -> None:
    """A run's config.yaml, and a file of `--config`."""
    from cory.cli.options import read_settings
    from cory.training.records import load_config

    path = directory / "settings" / "config.yaml"
    path.parent.mkdir(exist_ok=True)
    names = chance.sample(sorted(FIELD_NAMES), 4)
    settings = mutated({name: getattr(CORYConfig, name) for name in names}, chance)
    text = json.dumps(settings) if chance.random() < 0.5 else yaml.safe_dump(settings)
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    if chance.random() < 0.5:
        read_settings(path)
    else:
        load_config(path.parent)


def check_metrics(chance: random.Random, directory: Path) -> None:
    """A run's metrics.jsonl, and now and then its pictures."""
    from cory.report.pages import render, write_report
    from cory.report.run import describe_run

    run = _run(directory / "metrics", chance)
    lines = [{**RECORD, "step": step} for step in range(chance.randint(1, 3))]
    texts = [
        mutated_json(line, chance) if chance.random() < 0.5 else json.dumps(line).encode()
        for line in lines
    ]
    (run / "metrics.jsonl").write_bytes(b"\n".join(texts) + b"\n" * chance.randint(0, 1))
    if chance.random() < 0.02:
        write_report(run)
    elif chance.random() < 0.1:
        render(describe_run(run))
    else:
        describe_run(run)


def check_samples(chance: random.Random, directory: Path) -> None:
    """A run's files of samples."""
    import pyarrow
    import pyarrow.parquet

    from cory.report.answers import browse

    path = directory / "samples" / "samples" / "step-000001.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [{**ROW, "index": n // 2, "role": ("pioneer", "observer")[n % 2]} for n in range(4)]
    changed = [mutated(row, chance) if chance.random() < 0.3 else row for row in rows]
    rows = [row for row in changed if isinstance(row, dict)]
    try:
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    except (pyarrow.ArrowException, LookupError, OverflowError, UnicodeError, TypeError):
        return
    if chance.random() < 0.2:
        content = bytearray(path.read_bytes())
        content[chance.randrange(4)] = chance.randrange(256)
        path.write_bytes(content)
    found = browse({"run": path.parents[1]}, max_bytes=10**6)
    json.dumps(found, allow_nan=False)


def check_evaluation(chance: random.Random, directory: Path) -> None:
    """A run's eval.json."""
    from cory.report.records import read_evaluation
    from cory.report.run import _separate_evaluation

    path = directory / "eval.json"
    path.write_bytes(mutated_json(EVALUATION, chance))
    read_evaluation(path)
    _separate_evaluation(path)


def check_server(chance: random.Random, directory: Path) -> None:
    """What a vLLM server answers."""
    if chance.random() < 0.3:
        _, length = base_of(read_models(mutated_json(MODELS, chance)))
        assert length > 0
        return
    found = read_completion(mutated_json(COMPLETION, chance), 4, 100)
    assert 0 < len(found.token_ids) == len(found.logprobs) <= 4
    assert all(type(number) is int and 0 <= number < 100 for number in found.token_ids)
    assert all(-1e308 < number <= 0 for number in found.logprobs)


def check_chat(chance: random.Random, directory: Path) -> None:
    """A row of a data set, checked and encoded as training does."""
    import pyarrow
    from datasets import Dataset

    from cory.tasks.custom import check_queries

    row = {"prompt": mutated(CHAT if chance.random() < 0.8 else "Why?", chance)}
    try:
        dataset = Dataset.from_list([row])
    except (pyarrow.ArrowException, OverflowError, UnicodeError, TypeError, AttributeError):
        return
    check_queries(dataset, "prompt", "rows")
    encoder = _encoder()
    ids = encoder.encode(dataset[0]["prompt"], [[5]])
    assert ids, "a prompt holds at least one token"


CHECKS: Mapping[str, tuple[int, Callable[[random.Random, Path], None]]] = {
    "options": (10, check_options),
    "settings": (1, check_settings_file),
    "metrics": (2, check_metrics),
    "samples": (3, check_samples),
    "evaluation": (20, check_evaluation),
    "server": (60, check_server),
    "chat": (4, check_chat),
}
"""By kind: how many of a hundred inputs, and the property."""


def check(kind: str, seed: int, directory: Path) -> bool:
    """Ask the property of a kind of one input; whether the input was sound."""
    chance = random.Random(f"{kind} {seed}")
    started = time.process_time()
    try:
        CHECKS[kind][1](chance, directory)
        message = None
    except (ValueError, ServerError, NoAnswerError) as error:
        message = str(error)
    seconds = time.process_time() - started
    assert seconds < MAX_SECONDS, f"took {seconds:.1f} s"
    assert message is None or message.strip(), "an error without a message"
    assert len(message or "") < 20_000, "a message that nobody reads"
    return message is None


def _run(run: Path, chance: random.Random) -> Path:
    run.mkdir(exist_ok=True)
    period = chance.choice([1, 5, None])
    (run / "config.yaml").write_text(f"role_exchange_period: {json.dumps(period)}\nmax_steps: 9\n")
    return run


@cache
def _parser() -> Any:
    return make_parser("", "")


@cache
def _encoder() -> Any:
    from cory.models.loading import load_tokenizer
    from cory.team.prompts import PromptEncoder
    from cory.team.roles import Templates

    tokenizer = load_tokenizer("pocket-reviews-lm")
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant:"
    )
    return PromptEncoder(tokenizer, Templates(), frozenset({1}))


def main(count: int, seed: int) -> None:
    """Check `count` inputs, and print what they were."""
    kinds = [kind for kind, (share, _) in CHECKS.items() for _ in range(share)]
    found: Counter[tuple[str, bool]] = Counter()
    with tempfile.TemporaryDirectory() as name:
        for number in range(count):
            kind = kinds[number % len(kinds)]
            try:
                is_sound = check(kind, seed + number, Path(name))
            except Exception:
                print(f"broken: kind {kind}, seed {seed + number}", flush=True)
                raise
            found[kind, is_sound] += 1
            if (number + 1) % 5000 == 0:
                print(number + 1, flush=True)
    for kind in CHECKS:
        print(f"{kind}: {found[kind, True]:,} sound, {found[kind, False]:,} refused")
    print(f"{count:,} inputs, no broken property")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0)
