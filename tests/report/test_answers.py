"""What the browser of answers is given."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pyarrow.parquet
import pytest

from cory.report import answers
from cory.report.answers import browse, fitting, pieces
from cory.training.samples import INITIAL_MODEL


def test_answers_of_one_query_stand_together(team_run: Path) -> None:
    """Prevents rewards beside another's answer, roles before an exchange, and a lost query."""
    found = browse({"team": team_run}, max_bytes=10**6)
    assert (found["runs"], found["total"], len(found["entries"])) == (["team"], 32, 32)
    for step, speakers in ((2, ["agent_0", "agent_1"]), (4, ["agent_1", "agent_0"])):
        rows = pyarrow.parquet.read_table(
            team_run / "samples" / f"step-{step:06d}.parquet"
        ).to_pylist()
        entries = [entry for entry in found["entries"] if entry["step"] == step]
        for index, entry in enumerate(entries):
            mine = {row["agent"]: row for row in rows if row["index"] == index}
            assert [turn["agent"] for turn in entry["turns"]] == speakers
            assert [turn["role"] for turn in entry["turns"]] == ["pioneer", "observer"]
            for turn in entry["turns"]:
                row = mine[turn["agent"]]
                assert "".join(turn["pieces"]) == row["answer"]
                assert turn["reward"] == pytest.approx(row["task_reward"], abs=1e-4)
                assert turn["kl"] == pytest.approx(row["kl"], abs=1e-4)
            assert entry["query"] == mine[INITIAL_MODEL]["query"]
            assert entry["initial"][0]["text"] == mine[INITIAL_MODEL]["answer"]
            pioneer, observer = (mine[agent]["task_reward"] for agent in speakers)
            assert entry["lift"] == pytest.approx(observer - pioneer, abs=1e-4)


def test_a_single_agent_copies_nothing(single_run: Path) -> None:
    """Prevents a copy rate of 0 where there was nothing to copy from."""
    for entry in browse({"single": single_run}, max_bytes=10**6)["entries"]:
        (turn,) = entry["turns"]
        assert turn["copied"] is None
        assert entry["lift"] == 0


@pytest.mark.parametrize(
    ("text", "spans", "expected"),
    [
        ("all of it", [], ["all of it"]),
        ("all of it", [(0, 9)], ["", "all of it", ""]),
        ("🎬 it is a film, it is", [(2, 9), (17, 22)], ["🎬 ", "it is a", " film, i", "t is", ""]),
    ],
)
def test_pieces_put_together_are_the_text(
    text: str, spans: list[tuple[int, int]], expected: list[str]
) -> None:
    """Prevents highlights that slip behind an emoji, or words lost at a cut."""
    expected = expected if "🎬" not in text else [text[a:b] for a, b in _cuts(spans, len(text))]
    assert pieces(text, spans) == expected
    assert "".join(pieces(text, spans)) == text


def _cuts(spans: list[tuple[int, int]], length: int) -> list[tuple[int, int]]:
    cuts: list[tuple[int, int]] = []
    end = 0
    for start, stop in spans:
        cuts += [(end, start), (start, stop)]
        end = stop
    return [*cuts, (end, length)]


def test_what_does_not_fit_is_left_out_evenly() -> None:
    """Prevents a page that shows the first iterations only, or grows beyond its size."""
    groups = [["aaaa"] * 5, ["bbbb"] * 5, ["cc"]]
    size = len(json.dumps("aaaa")) * 4 + len(json.dumps("cc"))
    assert fitting(groups, max_bytes=size) == ["aaaa", "aaaa", "bbbb", "bbbb", "cc"]
    assert fitting(groups, max_bytes=size - 1) == ["aaaa", "bbbb", "cc"]
    # Not one of each: every second group, then every fourth.
    assert fitting(groups, max_bytes=size // 2) == ["aaaa", "cc"]
    assert fitting(groups, max_bytes=6) == ["aaaa"]
    assert fitting(groups, max_bytes=3) == []
    assert fitting([], max_bytes=3) == []


def test_many_queries_are_thinned_to_a_number(
    team_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prevents a page of a hundred thousand queries; the total still counts them all."""
    monkeypatch.setattr(answers, "MAX_QUERIES", 10)
    found = browse({"team": team_run}, max_bytes=10**6)
    assert found["total"] == 32
    assert [entry["step"] for entry in found["entries"]] == [2] * 5 + [4] * 5


def test_a_broken_file_is_named(team_run: Path, tmp_path: Path) -> None:
    """Prevents a bare pyarrow error when a run was cut off while writing."""
    run = shutil.copytree(team_run, tmp_path / "run")
    path = run / "samples" / "step-000002.parquet"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"step-000002\.parquet cannot be read .* delete it"):
        browse({"run": run}, max_bytes=10**6)
