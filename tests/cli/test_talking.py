"""Commands that show a run before, while and after it trains: dry run, chat, completion, report."""

from __future__ import annotations

import io
import subprocess
from pathlib import Path

import pytest

from cory.cli import main
from cory.cli.completion import script

SIZES = (
    "--task pocket-arithmetic --max_steps 2 --batch_size 8 --max_completion_length 4 "
    "--num_eval_queries 8 --use_cpu --save_steps 1"
).split()


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two short runs, `a` of a team and `b` of one agent."""
    directory = tmp_path_factory.mktemp("talking")
    for name, more in (("a", ["--log_samples_steps", "1"]), ("b", ["--num_agents", "1"])):
        main(["train", *SIZES, *more, "--output_dir", str(directory / name)])
    return directory


def test_a_dry_run_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Prevents a mistake that shows after the queue, and an estimate that nobody measured."""
    main(["train", *SIZES, "--output_dir", str(tmp_path / "run"), "--dry-run", "--seed", "3"])
    shown = capsys.readouterr().out
    assert "seed: 3" in shown
    assert "2 agents" in shown
    assert "(a full copy)" in shown
    assert "s per iteration, measured" in shown
    assert "GB at the peak" in shown
    assert not (tmp_path / "run").exists()
    with pytest.raises(SystemExit):
        main(["train", *SIZES, "--dry_run", "--model_name_or_path", str(tmp_path / "absent")])


def test_chat_answers_every_line(
    runs: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prevents a new start of seconds for each question."""
    monkeypatch.setattr("sys.stdin", io.StringIO("3+4\n\n/new\n1+1\n"))
    main(["chat", str(runs / "a"), "--as_team", "--temperature", "0"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == [
        "agent_0 (pioneer)",
        "agent_1 (observer)",
    ] * 2
    monkeypatch.setattr("sys.stdin", io.StringIO("3+4\n"))
    main(["generate", str(runs / "a"), "--prompt", "3+4", "--as_team", "--temperature", "0"])
    assert capsys.readouterr().out.splitlines() == lines[:2]


def test_runs_stand_side_by_side(runs: Path, tmp_path: Path) -> None:
    """Prevents two tabs of a browser as the way to compare two runs that exist."""
    page = tmp_path / "both.html"
    main(["report", str(runs / "a"), str(runs / "b"), "--out", str(page)])
    text = page.read_text()
    assert "a · agent_1" in text
    assert '"text":"num_agents"' in text, "settings that differ"
    assert '"text":"batch_size"' not in text, "and no others"
    assert (tmp_path / "plots" / "held_out.png").is_file()
    with pytest.raises(SystemExit):
        main(["report", str(runs / "a"), str(runs / "a"), "--out", str(page)])


def test_a_watched_page_renews_itself_until_the_run_ends(runs: Path, tmp_path: Path) -> None:
    """Prevents a page that has to be written by hand, and one that loads itself for ever."""
    from cory.report import write_report

    page = write_report(runs / "b", tmp_path / "page.html", refresh=7)
    assert '<meta http-equiv="refresh" content="7">' in page.read_text()
    main(["report", str(runs / "b"), "--watch", "1", "--out", str(page)])
    assert 'http-equiv="refresh"' not in page.read_text()


def complete(words: str) -> list[str]:
    """What bash offers for the last of the words."""
    count = len(words.split(" ")) - 1
    line = f'COMP_WORDS=({words}); COMP_CWORD={count}; _cory; printf "%s\\n" "${{COMPREPLY[@]}}"'
    command = ["bash", "-c", f"{script()}\n{line}"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()


def test_bash_completes_commands_options_and_choices() -> None:
    """Prevents a hundred options that must be typed out."""
    assert complete("cory tr") == ["train"]
    assert "--learning_rate" in complete("cory train --learn")
    assert complete("cory train --dry") == ["--dry_run"]
    assert complete("cory eval runs/a --num_q") == ["--num_queries"]
    assert "--max_completion_length" in complete("cory eval --max_c")
    assert complete("cory train --task im") == ["imdb"]
    assert complete("cory train --kl_placement l") == ["loss"]
