"""Pages of directories that others made: read with bounded work, or refused in one message."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow
import pyarrow.parquet
import pytest
import yaml

from cory.cli import main
from cory.config import CORYConfig
from cory.report.answers import browse
from cory.report.figures import MAX_POINTS
from cory.report.pages import describe, write_report
from cory.report.records import read_records
from cory.report.run_figures import MAX_SPANS, role_spans
from cory.report.samples import MAX_CHARACTERS

DEEP = "[" * 100_000 + "]" * 100_000
FINE = '{"step": 1, "agent_0/task_reward": 0.5}\n'


def stranger(directory: Path, metrics: str = FINE, **settings: Any) -> Path:
    """A run directory that nothing was trained in."""
    directory.mkdir(exist_ok=True)
    (directory / "config.yaml").write_text(yaml.safe_dump({"max_steps": 3, **settings}))
    (directory / "metrics.jsonl").write_text(metrics)
    return directory


def samples(directory: Path, rows: list[dict[str, Any]], name: str = "step-000001") -> None:
    (directory / "samples").mkdir(exist_ok=True)
    path = directory / "samples" / f"{name}.parquet"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)


def answer_row(**changes: Any) -> dict[str, Any]:
    row = {"step": 1, "index": 0, "query": "Q", "agent": "agent_0", "role": "pioneer"}
    return row | {"answer": "A", "task_reward": 0.5, "team_reward": 0.5, "kl": 0.1} | changes


@pytest.mark.parametrize("name", ["report.html", "eval.json", ".report.html.partial"])
def test_what_a_link_leads_to_stays(tmp_path: Path, name: str) -> None:
    """Prevents `cory report RUN` from overwriting a file of the one who runs it."""
    run = stranger(tmp_path / "run")
    victim = tmp_path / "victim"
    victim.write_text("{}" if name == "eval.json" else "mine")
    before = victim.read_text()
    (run / name).symlink_to(victim)
    if name == "eval.json":
        with pytest.raises(ValueError, match=r"eval\.json has no 'checkpoints'"):
            write_report(run)
    else:
        assert not write_report(run).is_symlink()
    assert victim.read_text() == before


def test_a_link_in_place_of_a_folder_is_refused(tmp_path: Path) -> None:
    """Prevents pictures, or a whole training, from going to another place."""
    run = stranger(tmp_path / "run")
    victim = tmp_path / "victim"
    victim.mkdir()
    (run / "plots").symlink_to(victim)
    with pytest.raises(ValueError, match=r"plots is a link, to '.*victim'.*remove it"):
        write_report(run)
    assert not any(victim.iterdir())


def test_pictures_replace_links(tmp_path: Path) -> None:
    """Prevents a picture from being written through a link in `plots`."""
    run, victim = stranger(tmp_path / "run"), tmp_path / "victim"
    victim.write_text("mine")
    (run / "plots").mkdir()
    (run / "plots" / "training_by_agent.png").symlink_to(victim)
    write_report(run)
    assert victim.read_text() == "mine"
    assert (run / "plots" / "training_by_agent.png").read_bytes()[1:4] == b"PNG"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"step": 1e30}', r"line 2: 'step' is 1e\+30; it must be a whole number from 0"),
        ('{"step": -1}', r"line 2: 'step' is -1"),
        ('{"step": "7"}', r"line 2: 'step' is '7'"),
        ('{"step": true}', r"line 2: 'step' is True"),
        (f'{{"step": {"9" * 4000}}}', r"line 2: 'step' is 9999"),
        (f'{{"step": {"9" * 9000}}}', r"line 2 is not JSON"),
        ("{}", r"line 2 has no 'step'"),
        ("[1]", r"line 2 holds a JSON list; it must be an object"),
        ("null", r"line 2 holds a JSON null"),
        ("", r"line 2 is not JSON"),
        ('{"step": 2', r"line 2 is not JSON"),
        (DEEP, r"line 2 is nested too deep"),
        ('{"step": 2, "agent_0/kl": "high"}', r"line 2: 'agent_0/kl' is 'high'; .* number or null"),
        ('{"step": 2, "agent_0/kl": [1]}', r"line 2: 'agent_0/kl' is \[1\]"),
        ('{"step": 2, "x": "' + "y" * 5_000_000 + '"}', r"line 2 has more than 4,000,000 bytes"),
    ],
    ids=lambda text: repr(text[:30]),
)
def test_a_line_that_is_no_record(tmp_path: Path, line: str, message: str) -> None:
    """Prevents a traceback, and a page that is never finished."""
    run = stranger(tmp_path / "run", f"{FINE}{line}\n{FINE}")
    with pytest.raises(ValueError, match=rf"metrics\.jsonl, {message}"):
        describe(run)


@pytest.mark.parametrize("value", ["NaN", "1e999", "-Infinity", "null", "9" * 400, "1e308"])
def test_numbers_that_cannot_be_drawn(tmp_path: Path, value: str) -> None:
    """Prevents an error of the library that draws, for what was no number in training."""
    lines = [f'{{"step": {step}, "agent_0/task_reward": {value}}}\n' for step in (1, 2)]
    run = stranger(tmp_path / "run", "".join(lines) + FINE)
    assert write_report(run).stat().st_size > 1000


def test_a_last_line_cut_short_is_left_out(tmp_path: Path) -> None:
    """Prevents a running training from having no page."""
    assert len(read_records(stranger(tmp_path / "run", FINE + '{"step": 2') / "metrics.jsonl")) == 1


def test_long_runs_are_read_in_part(tmp_path: Path) -> None:
    """Prevents minutes of work, and gigabytes of memory, for points that nobody sees."""
    lines = [f'{{"step": {step}, "agent_0/task_reward": 1}}\n' for step in range(1, 30_001)]
    lines[9_000:9_000] = ['{"step": 9000, "eval/agent_0/task_reward": 1}\n']
    records = read_records(stranger(tmp_path / "run", "".join(lines)) / "metrics.jsonl")
    assert [records[0]["step"], records[-1]["step"]] == [1, 30_000]
    assert len(records) <= MAX_POINTS + 2
    assert [record["step"] for record in records if "eval/agent_0/task_reward" in record] == [9000]


def test_a_billion_iterations_take_no_longer_than_three(tmp_path: Path) -> None:
    """Prevents work for each iteration, or each exchange, that metrics only claim."""
    metrics = FINE + FINE.replace('"step": 1', '"step": 1000000000')
    started = time.process_time()
    contents = describe(stranger(tmp_path / "run", metrics, role_exchange_period=1))
    assert time.process_time() - started < 5
    by_agent, by_role = contents.sections[0].figures[0], CORYConfig(role_exchange_period=1)
    assert by_agent.timeline is None
    assert "exchanged too often to show" in by_agent.note
    assert len(role_spans(by_role, MAX_SPANS)) == MAX_SPANS
    assert role_spans(by_role, MAX_SPANS + 1) == []


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([answer_row(role="initial model")], "has no answer of an agent to query 0"),
        ([{"step": 1}], "it has no column 'index'"),
        ([answer_row(query=None)], "column 'query' has a row without a value"),
        ([answer_row(index=None), answer_row()], "column 'index' has a row without a value"),
        ([answer_row(task_reward="much")], "'much'"),
        ([answer_row(answer=["A"])], "list"),
        ([answer_row(step={"a": 1})], "struct"),
    ],
    ids=["no turns", "no column", "no query", "no index", "text", "list", "struct"],
)
def test_samples_that_are_none(tmp_path: Path, rows: list[dict[str, Any]], message: str) -> None:
    """Prevents a traceback about the inside of a file that was damaged or made up."""
    run = stranger(tmp_path / "run")
    samples(run, rows)
    with pytest.raises(ValueError, match=rf"step-000001\.parquet .*{message}"):
        browse({"run": run}, max_bytes=10**6)


@pytest.mark.parametrize("unknown", [None, float("nan"), float("inf")])
def test_an_answer_without_a_reward_is_shown_without_one(tmp_path: Path, unknown: Any) -> None:
    """Prevents rewards that a function declined from hiding the answer."""
    run = stranger(tmp_path / "run")
    samples(run, [answer_row(), answer_row(role="observer", task_reward=unknown)])
    (entry,) = browse({"run": run}, max_bytes=10**6)["entries"]
    assert [turn["reward"] for turn in entry["turns"]] == [0.5, None]
    assert entry["lift"] is None


@pytest.mark.parametrize("text", ["a" * 1_000_000, "word " * 200_000, "é" * 500_000])
def test_an_answer_of_a_megabyte(tmp_path: Path, text: str) -> None:
    """Prevents minutes of work for one answer; what is not shown is said."""
    run = stranger(tmp_path / "run")
    rows = [answer_row(answer=text, agent=f"agent_{n}", role=f"role {n}") for n in range(3)]
    samples(run, rows)
    started = time.process_time()
    (entry,) = browse({"run": run}, max_bytes=10**7)["entries"]
    assert time.process_time() - started < 5
    shown = "".join(entry["turns"][0]["pieces"])
    assert shown == text[:MAX_CHARACTERS] + f" … ({len(text) - MAX_CHARACTERS:,} more characters)"


def test_of_many_files_some_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents minutes for ten thousand files, and a page that hides that it has not read all."""
    run = stranger(tmp_path / "run")
    for step in range(7):
        samples(run, [answer_row(step=step)], f"step-{step:06d}")
    monkeypatch.setattr("cory.report.answers.MAX_FILES", 3)
    found = browse({"run": run}, max_bytes=10**6)
    assert [entry["step"] for entry in found["entries"]] == [0, 3, 6]
    assert (found["total"], found["skipped"]) == (3, 4)


EVALUATION = {
    "checkpoints": {"agent_0": "checkpoints/step-1/agent_0"},
    "settings": {"task": None, "dataset_name": None},
    "num_queries": 1,
    "num_samples": 1,
    "metrics": {"agent_0": {"task_reward": 0.5}},
}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "holds a JSON list"),
        ("", "is not JSON"),
        (DEEP, "is nested too deep"),
        (json.dumps(EVALUATION | {"metrics": {"a": 1}}), "metrics of 'a' is 1"),
        (json.dumps(EVALUATION | {"metrics": {"a": {"kl": "x"}}}), "metrics of 'a': 'kl' is 'x'"),
        (json.dumps(EVALUATION | {"num_queries": None}), "'num_queries' is None"),
        (json.dumps(EVALUATION | {"checkpoints": {"a": 1}}), "'checkpoints' must hold the path"),
        (json.dumps(EVALUATION | {"settings": [1]}), r"'settings' is \[1\], not an object"),
        (json.dumps(EVALUATION | {"settings": {"task": 3}}), "the setting 'task' is no text"),
        (json.dumps({}), "has no 'checkpoints': run `cory eval` again"),
    ],
    ids=lambda text: repr(text[:30]),
)
def test_an_evaluation_that_is_none(tmp_path: Path, text: str, message: str) -> None:
    """Prevents a traceback about eval.json, which anybody may have written."""
    run = stranger(tmp_path / "run")
    (run / "eval.json").write_text(text)
    with pytest.raises(ValueError, match=rf"eval\.json:? {message}"):
        describe(run)


def test_an_evaluation_of_nothing(tmp_path: Path) -> None:
    """Prevents an error where there is no model, or no checkpoint, to show."""
    run = stranger(tmp_path / "run")
    for changes in ({"metrics": {}}, {"checkpoints": {}}, {"settings": {}}):
        (run / "eval.json").write_text(json.dumps(EVALUATION | changes))
        assert describe(run)


def _column(name: str, value: Any) -> Callable[[Path], None]:
    def change(out: Path) -> None:
        table, column = name.split("/")
        path = out / f"{table}.csv"
        pd.read_csv(path).assign(**{column: value}).to_csv(path, index=False)

    return change


def _plan(**changes: Any) -> Callable[[Path], None]:
    def change(out: Path) -> None:
        path = out / "comparison.yaml"
        path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | changes))

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_column("summary/step", "x"), r"summary\.csv: the column 'step' must hold numbers"),
        (_column("curves/kl_ci95", "x"), r"curves\.csv: the column 'kl_ci95' must hold numbers"),
        (_column("curves/arm", None), r"curves\.csv, line 2 has no 'arm'"),
        (_column("frontier/learning_rate", float("inf")), r"frontier\.csv, line 2 has no 'learn"),
        (_column("results/run", None), r"results\.csv, line 2 has no 'run'"),
        (_column("robustness/collapsed", None), r"robustness\.csv, line 2 has no 'collapsed'"),
        (_column("robustness/runs", 1e200), r"robustness\.csv, line 2 has no 'runs'"),
        (_column("results/kl_coef", "x"), r"results\.csv cannot be read as CSV"),
        (_plan(arms=["ppo"]), r"comparison\.yaml: \['ppo'\] must hold `name: value` lines"),
        (_plan(arms={"ppo": 3}), r"comparison\.yaml: 3 must hold"),
        (_plan(base=7), r"comparison\.yaml: 7 must hold"),
        (_plan(title=7), r"comparison\.yaml: title=7 must be a text"),
    ],
)
def test_a_comparison_that_is_none(
    comparison: Path, tmp_path: Path, change: Callable[[Path], None], message: str
) -> None:
    """Prevents a traceback about a table that was edited, cut off or made up."""
    out = shutil.copytree(comparison, tmp_path / "out")
    change(out)
    with pytest.raises(ValueError, match=message):
        describe(out)


def test_values_of_yaml_that_json_has_not(comparison: Path, tmp_path: Path) -> None:
    """Prevents a TypeError about a date, or about a key that is none."""
    out = shutil.copytree(comparison, tmp_path / "out")
    text = "base: {seed: 2001-01-01, 2001-01-02: {2001-01-03: !!binary aGk=}, x: !!set {a}}\n"
    plan = yaml.safe_load((out / "comparison.yaml").read_text())
    del plan["base"]
    (out / "comparison.yaml").write_text(yaml.safe_dump(plan) + text)
    assert describe(out)


def test_tables_that_do_not_belong_together(comparison: Path, tmp_path: Path) -> None:
    """Prevents an IndexError where a file was replaced by that of another comparison."""
    for name in ("curves", "summary", "frontier", "robustness", "results"):
        out = shutil.copytree(comparison, tmp_path / name)
        table = pd.read_csv(out / f"{name}.csv")
        table.assign(arm="another").to_csv(out / f"{name}.csv", index=False)
        if name in ("curves", "summary"):
            with pytest.raises(ValueError, match=r"summary\.csv has no model of curves\.csv"):
                write_report(out)
        else:
            assert write_report(out).is_file()


def test_a_training_goes_through_no_link(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Prevents `cory train --resume` in a stranger's directory from writing outside of it."""
    victim = tmp_path / "victim"
    victim.mkdir()
    run = stranger(tmp_path / "run", model_name_or_path="pocket-reviews", use_cpu=True)
    (run / "checkpoints").symlink_to(victim)
    words = ["train", "--task", "pocket-reviews", "--resume", "--output_dir", str(run)]
    with pytest.raises(SystemExit):
        main(words)
    assert "checkpoints is a link, to" in capsys.readouterr().err
    assert not any(victim.iterdir())
