"""Names out of configs stay where they belong."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cory.cli import main
from cory.compare.plan import Comparison
from cory.config import CORYConfig
from cory.io.files import check_folder_name, path_inside
from cory.training.checkpoint import STATE, Checkpoints

ODD = (
    "../../x",
    "..",
    ".",
    ".hidden",
    "/absolute",
    "a/b",
    "a\\b",
    "C:x",
    "a\0b",
    "a\nb",
    "a\x1b[2J",
    "a\u202eb",
    "~",
    "-rf",
    "$HOME",
    "a*",
    "",
    " ",
    "a ",
    "x" * 101,
    "é" * 60,
)


@pytest.mark.parametrize("name", ODD, ids=repr)
def test_odd_arms_are_refused(name: str) -> None:
    """Prevents a comparison from writing where its file points to."""
    with pytest.raises(ValueError, match=r"arm .* becomes a folder: use letters"):
        Comparison(base={"task": "pocket-arithmetic"}, arms={name: {}})


@pytest.mark.parametrize("name", ODD, ids=repr)
def test_odd_run_names_are_refused_where_they_become_folders(name: str) -> None:
    """Prevents a tracker from writing outside of the run directory."""
    with pytest.raises(ValueError, match=r"run_name .* becomes a folder"):
        CORYConfig(run_name=name, report_to=["tensorboard"])
    assert CORYConfig(run_name=name).run_name == name


@pytest.mark.parametrize("name", ["ppo", "ppo-2x", "kl=0.1", "π, (η 0.3)", "x.y_z", "über 2"])
def test_common_names_are_not(name: str) -> None:
    """Prevents a rule that only fits the standard arms."""
    check_folder_name(name, "arm")


@given(st.text(st.characters(codec=None, categories=None) | st.sampled_from("./\\ a")))
def test_an_accepted_name_is_one_folder(name: str) -> None:
    """Prevents a sign that nobody thought of."""
    try:
        check_folder_name(name, "arm")
    except ValueError:
        return
    place = Path("somewhere")
    assert (place / name).parts == ("somewhere", name)
    assert name not in (".", "..")
    (name + "x" * 100).encode("utf-8")


def test_paths_inside(tmp_path: Path) -> None:
    """Prevents links, dots and absolute paths from leading out."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "link").symlink_to(tmp_path)
    for name in ("..", "../x", "/etc", "a/../../x", "link", "link/x", "a\0b"):
        with pytest.raises(ValueError, match="leads out of"):
            path_inside(tmp_path / "in", name)
    assert path_inside(tmp_path / "in", "a/../b") == tmp_path / "in" / "a/../b"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["eval", "RUN", "--step", "../../x"], "../../x"),
        (["generate", "RUN", "--prompt", "x", "--agent", "../../x"], "no agent '../../x'"),
        (["merge", "RUN", "--output_dir", "RUN/.."], "exists already"),
        (["compare", "--task", "pocket-arithmetic", "--arms", "../../x"], "no arm '../../x'"),
    ],
)
def test_options_lead_nowhere_else(
    tmp_path: Path, capsys: pytest.CaptureFixture, words: list[str], message: str
) -> None:
    """Prevents an option from reading or replacing another directory."""
    run = tmp_path / "run"
    (run / "checkpoints" / "step-1" / "agent_0").mkdir(parents=True)
    for name in STATE:
        (run / "checkpoints" / "step-1" / name).write_text('{"progress": {}}')
    (run / "config.yaml").write_text("num_agents: 1\ntask: pocket-arithmetic\n")
    with pytest.raises(SystemExit):
        main([word.replace("RUN", str(run)) for word in words])
    assert message in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]


def test_only_steps_are_checkpoints(tmp_path: Path) -> None:
    """Prevents a folder of another name from being taken for, or pruned as, a checkpoint."""
    for name in ("step-2", "step-x", "step-3.partial", "step-"):
        (tmp_path / "checkpoints" / name).mkdir(parents=True)
    assert Checkpoints(tmp_path, limit=1).steps() == [2]
