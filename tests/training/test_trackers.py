"""Trackers: what the packages themselves read back of a run, without any network."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from accelerate.utils import LoggerType

from cory import CORYTrainer
from cory.config import CORYConfig
from cory.config.rules import TRACKERS
from cory.training.trackers import answers_table, markdown

QUERIES = [{"prompt": f"Say {number}|"} for number in range(4)]
SPEAKERS = ("pioneer", "observer", "initial model")


def train(
    model: Path, directory: Path, look: Callable[[], None] = lambda: None, **settings: Any
) -> CORYConfig:
    """A run of two iterations with answers at each, sent to `report_to`; it calls `look`."""
    args = CORYConfig(
        model_name_or_path=str(model),
        output_dir=str(directory / "first"),
        max_steps=2,
        batch_size=4,
        max_completion_length=4,
        log_samples_steps=1,
        use_cpu=True,
        **settings,
    )

    def lengths(completions: list[str], **_: Any) -> list[float]:
        look()
        return [float(len(text)) for text in completions]

    CORYTrainer(args=args, reward_funcs=lengths, train_dataset=QUERIES).train()
    return args


def test_the_names_are_those_of_accelerate() -> None:
    """Prevents a tracker that accelerate knows and cory refuses, or the other way round."""
    assert set(TRACKERS) == {str(kind) for kind in LoggerType} | {"none"}


@pytest.mark.parametrize("nothing", [None, "none", [], ["none"]])
def test_none_is_no_tracker(nothing: Any) -> None:
    """Prevents `report_to: none` of TrainingArguments from starting a tracker of that name."""
    assert CORYConfig(report_to=nothing).trackers == []
    assert CORYConfig(report_to="wandb").trackers == ["wandb"]


def test_a_table_has_a_row_per_query_and_a_column_per_speaker() -> None:
    """Prevents answers beside the query of another, and cells that break a table of Markdown."""
    rows = [
        {"index": index, "query": f"q{index}", "role": role, "answer": f"{role[0]}\n{index}|"}
        | {"task_reward": float(index), "kl": 0.5}
        for role in SPEAKERS
        for index in range(3)
    ]
    table = answers_table(rows, most=2)
    assert table["query"] == ["q0", "q1"]
    assert table["observer"] == ["o\n0|", "o\n1|"]
    assert table["initial model reward"] == [0.0, 1.0]
    lines = markdown(table).splitlines()
    assert len(lines) == 4
    assert "| q1 | p 1\\| | 1 | 0.5 | o 1\\| |" in lines[3]


def test_tensorboard_has_the_answers_as_text(tiny_gpt2_dir: Path, tmp_path: Path) -> None:
    """Prevents a dashboard of numbers, in which nobody sees what the agents say."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train(tiny_gpt2_dir, tmp_path, report_to="tensorboard", project="sums")
    (directory,) = {path.parent for path in tmp_path.glob("first/sums/events*")}
    events = EventAccumulator(str(directory)).Reload()
    written = events.Tensors("answers/text_summary")
    assert [event.step for event in written] == [1, 2]
    text = written[0].tensor_proto.string_val[0].decode()
    assert text.startswith("| query | pioneer | pioneer reward | pioneer KL | observer |")
    assert "| Say 2\\| |" in text


def test_wandb_has_project_run_and_answers(
    tiny_gpt2_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prevents a run that is called a project, and WANDB_PROJECT without effect."""
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB_PROJECT", "of-the-shell")
    seen: list[tuple[str, str]] = []

    def look() -> None:
        seen.append((wandb.run.project, wandb.run.name))

    train(tiny_gpt2_dir, tmp_path, look, report_to="wandb", run_name="mine")
    assert set(seen) == {("of-the-shell", "mine")}
    files = sorted(tmp_path.glob("wandb/offline-run-*/files/media/table/answers_*.json"))
    assert len(files) == 2
    table = json.loads(files[0].read_text())
    assert table["columns"][:3] == ["query", "pioneer", "pioneer reward"]
    assert len(table["data"]) == 4
    assert {row[0] for row in table["data"]} <= {row["prompt"] for row in QUERIES}


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_mlflow_has_experiment_run_and_answers(
    tiny_gpt2_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prevents runs without names in an experiment of the run's name."""
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())
    monkeypatch.chdir(tmp_path)
    train(tiny_gpt2_dir, tmp_path, report_to="mlflow", project="sums")
    (experiment,) = mlflow.search_experiments(filter_string="name = 'sums'")
    (run,) = mlflow.search_runs([experiment.experiment_id], output_format="list")
    assert run.info.run_name == "first"
    assert run.data.params["project"] == "sums"
    assert "observer/task_reward" in run.data.metrics
    table = mlflow.artifacts.load_dict(f"{run.info.artifact_uri}/answers/step-000002.json")
    assert set(SPEAKERS) < set(table["columns"])
    assert len(table["data"]) == 4


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_trackio_has_project_run_and_answers(
    tiny_gpt2_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prevents trackio, Hugging Face's own, from having less than the others."""
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    pytest.importorskip("trackio")
    from trackio.sqlite_storage import SQLiteStorage

    monkeypatch.setenv("TRACKIO_PROJECT", "of-the-shell")
    train(tiny_gpt2_dir, tmp_path, report_to="trackio")
    assert SQLiteStorage.get_runs("of-the-shell") == ["first"]
    logs = SQLiteStorage.get_logs("of-the-shell", "first")
    tables = [log["answers"] for log in logs if "answers" in log]
    assert len(tables) == 2
    assert set(SPEAKERS) < set(tables[0]["_value"][0])
    assert any("observer/task_reward" in log for log in logs)
