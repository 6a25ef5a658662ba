"""What a run's page says."""

from __future__ import annotations

import json
import shutil
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

from cory.cli import main
from cory.config import CORYConfig
from cory.report.contents import Contents
from cory.report.figures import MAX_POINTS, Curve, Figure, every_so_many
from cory.report.run import describe_run
from cory.tasks import for_task
from cory.team.metrics import read_metrics


def figure(contents: Contents, key: str) -> Figure:
    (found,) = [f for section in contents.sections for f in section.figures if f.key == key]
    return found


def curve(found: Figure, label: str, name: str) -> Curve:
    (panel,) = [panel for panel in found.panels if panel.label.startswith(label)]
    (drawn,) = [each for each in panel.curves if each.name == name]
    return drawn


def test_curves_are_the_logged_numbers(team_run: Path) -> None:
    """Prevents a curve of another agent, role or metric under a name."""
    contents = describe_run(team_run)
    lines = read_metrics(team_run / "metrics.jsonl")
    trained = [line for line in lines if "agent_0/kl" in line]
    evaluated = [line for line in lines if "eval/agent_0/kl" in line]
    for key, owner in (("training_by_agent", "agent_1"), ("training_by_role", "observer")):
        drawn = curve(figure(contents, key), "KL", owner)
        assert list(drawn.x["step"]) == [1, 2, 3, 4]
        assert drawn.y == [line[f"{owner}/kl"] for line in trained]
    drawn = curve(figure(contents, "held_out"), "task reward", "agent_1")
    rewards = [line["eval/agent_1/task_reward"] for line in evaluated]
    widths = [line["eval/agent_1/task_reward_ci95"] for line in evaluated]
    assert (list(drawn.x["step"]), drawn.y) == ([0, 2, 4], rewards)
    assert drawn.lower == [r - w for r, w in zip(rewards, widths, strict=True)]
    assert drawn.upper == [r + w for r, w in zip(rewards, widths, strict=True)]
    path = curve(figure(contents, "frontier"), "task reward", "agent_0")
    assert path.x["kl"] == [line["eval/agent_0/kl"] for line in evaluated]
    copied = curve(figure(contents, "transfer"), "copied", "observer")
    assert copied.y == [line["observer/copy_rate"] for line in trained]


def test_the_strip_shows_who_had_which_role(team_run: Path) -> None:
    """Prevents a timeline that is off by one, or upside down."""
    contents = describe_run(team_run)
    by_agent = figure(contents, "training_by_agent").timeline
    by_role = figure(contents, "training_by_role").timeline
    assert by_agent is not None
    assert by_role is not None
    assert {
        row: [(span.start, span.end, span.name) for span in spans]
        for row, spans in {**by_agent, **by_role}.items()
    } == {
        "agent_0": [(1, 2, "pioneer"), (3, 4, "observer")],
        "agent_1": [(1, 2, "observer"), (3, 4, "pioneer")],
        "pioneer": [(1, 2, "agent_0"), (3, 4, "agent_1")],
        "observer": [(1, 2, "agent_1"), (3, 4, "agent_0")],
    }


def test_the_table_starts_from_the_initial_model(team_run: Path) -> None:
    """Prevents results without what they are to be compared with, or of an early evaluation."""
    (table,) = describe_run(team_run).sections[0].tables
    first, *_, last = [
        line for line in read_metrics(team_run / "metrics.jsonl") if "eval/kl" in line
    ]
    rewards = {row[0].text: row[1] for row in table.rows}
    assert list(rewards) == ["initial model", "agent_0", "agent_1"]
    assert rewards["initial model"].value == first["eval/agent_0/task_reward"]
    assert rewards["agent_1"].value == last["eval/agent_1/task_reward"]
    width = last["eval/agent_1/task_reward_ci95"]
    assert rewards["agent_1"].text == f"{rewards['agent_1'].value:.3f} ± {width:.3f}"


def test_a_single_agent_has_no_partners_on_its_page(single_run: Path) -> None:
    """Prevents empty figures of copying and exchange, and the same curves twice."""
    contents = describe_run(single_run)
    keys = [found.key for section in contents.sections for found in section.figures]
    assert "transfer" not in keys
    assert "training_by_role" not in keys
    note = contents.sections[0].note
    assert "Set eval_steps in training, or run `cory eval`" in note


def test_cory_eval_brings_its_own_table(
    tiny_gpt2_dir: Path, team_run: Path, tmp_path: Path
) -> None:
    """Prevents numbers of `cory eval` from being lost, or taken for those of training."""
    run = shutil.copytree(team_run, tmp_path / "run")
    metrics = {"initial model": {"task_reward": 0.25}, "agent_0": {"task_reward": 0.5}}
    report = {
        "checkpoints": {"agent_0": "somewhere/checkpoints/step-4/agent_0"},
        "num_queries": 7,
        "num_samples": 5,
        "settings": {"task": "gsm8k", "dataset_name": None},
        "metrics": metrics,
    }
    (run / "eval.json").write_text(json.dumps(report))
    _, table = describe_run(run).sections[0].tables
    assert table.caption == (
        "cory eval: gsm8k, 7 held-out queries, 5 answers each, checkpoint step-4"
    )
    assert [[cell.text for cell in row] for row in table.rows] == [
        ["initial model", "0.250"],
        ["agent_0", "0.500"],
    ]


def test_settings_are_compared_with_those_of_the_task(team_run: Path, tmp_path: Path) -> None:
    """Prevents a task's own defaults from being shown as the user's choice."""
    run = shutil.copytree(team_run, tmp_path / "run")
    settings = for_task("pocket-arithmetic", kl_coef=0.7).to_dict()
    (run / "config.yaml").write_text(yaml.safe_dump(settings))
    changed, everything = describe_run(run).appendix[0].tables
    assert [[cell.text for cell in row] for row in changed.rows] == [["kl_coef", "0.7", "0.1"]]
    assert everything.is_folded
    assert len(everything.rows) > 60


def test_a_run_that_has_not_begun_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Prevents an empty page, and a traceback for a mistyped path."""
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(CORYConfig().to_dict()))
    with pytest.raises(SystemExit) as stopped:
        main(["report", str(tmp_path)])
    assert stopped.value.code == 2
    assert "has no metrics yet" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["report", str(tmp_path / "nowhere")])
    assert "neither a run (no config.yaml) nor a comparison" in capsys.readouterr().err


def test_long_runs_are_thinned_to_their_end() -> None:
    """Prevents a page of a megabyte per curve, and one that does not show the last iteration."""
    for length in (0, 1, 999, 1000, 1001, 2500, 10_007):
        kept = every_so_many(range(length))
        assert len(kept) <= MAX_POINTS
        assert list(kept)[-1:] == list(range(length))[-1:]
        assert len({after - before for before, after in pairwise(kept)}) <= 1
