"""docs/pictures/team.svg shows the stored results, and the same tables give the same bytes."""

from __future__ import annotations

import csv
from pathlib import Path
from xml.etree import ElementTree

import pytest

from scripts.pictures.team import ARMS, PICTURE, RESULTS, learning_curves, main


def test_the_stored_picture_is_the_script_s(tmp_path: Path) -> None:
    """Prevents a picture of yesterday's results, and bytes that depend on the machine."""
    main(tmp_path / "team.svg")
    assert (tmp_path / "team.svg").read_bytes() == PICTURE.read_bytes()


def test_the_picture_is_well_formed_and_loads_nothing() -> None:
    """Prevents a broken image on the first page, or one that asks another address."""
    root = ElementTree.parse(PICTURE).getroot()
    paths = [path.get("class", "") for path in root.iter("{http://www.w3.org/2000/svg}path")]
    for arm in ARMS:
        assert paths.count(f"{arm} curve") == paths.count(f"{arm} band") == 2
    assert "href" not in PICTURE.read_text()
    assert "@import" not in PICTURE.read_text()


@pytest.mark.parametrize("name", ["arithmetic", "convinced-eta"])
def test_curves_end_where_the_summary_says(name: str) -> None:
    """Prevents curves of single agents or seeds; `cory compare` summed the same runs up itself."""
    with (RESULTS / name / "summary.csv").open(newline="") as file:
        summary = {row["arm"]: row for row in csv.DictReader(file) if row["agent"] == "mean"}
    tables = [str(path.relative_to(RESULTS)) for path in (RESULTS / name).glob("results*.csv")]
    curves = {curve.arm: curve for curve in learning_curves(tables)}
    checked = [arm for arm in ARMS if arm in summary]
    assert len(checked) >= 3
    for arm in checked:
        curve, row = curves[arm], summary[arm]
        assert curve.samples[-1] == float(row["total_samples"])
        assert curve.rewards[-1] == pytest.approx(float(row["task_reward"]))
        assert curve.intervals[-1] == pytest.approx(float(row["task_reward_interval"]), rel=1e-3)
