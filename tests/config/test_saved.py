"""Settings of earlier versions: refused by name, and read where a finished run has them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from cory.cli import main
from cory.cli.options import make_parser, parse_words, typed_settings
from cory.config import FIELD_NAMES, CORYConfig
from cory.config.saved import ADVICE, todays_settings


@pytest.mark.parametrize("name", ADVICE)
def test_an_old_name_says_what_replaced_it(name: str) -> None:
    """Prevents `did you mean` with a guess where the answer is known, however a name is given."""
    with pytest.raises(ValueError, match="is no longer a setting") as refused:
        CORYConfig(**{name: None})
    assert ADVICE[name] in str(refused.value)
    with pytest.raises(ValueError, match=f"run.yaml: unknown key '{name}'") as refused:
        typed_settings({name: None}, "run.yaml")
    assert ADVICE[name] in str(refused.value)
    with pytest.raises(ValueError, match=f"unknown option --{name}") as refused:
        parse_words(make_parser("", ""), [f"--{name}", "1"])
    assert ADVICE[name] in str(refused.value)


def test_advice_is_of_today() -> None:
    """Prevents advice that is out of date itself, or that a setting of today stands before."""
    assert ADVICE.keys().isdisjoint(FIELD_NAMES)
    for name, advice in ADVICE.items():
        words = set(advice.replace(",", " ").replace(";", " ").replace(":", " ").split())
        assert words & FIELD_NAMES, name


@pytest.mark.parametrize(
    ("old", "today"),
    [
        ({"use_score_scaling": True, "use_score_norm": True}, {"normalize_rewards": True}),
        ({"use_score_scaling": False, "use_score_norm": False}, {"normalize_rewards": False}),
        ({"min_entropy": 0.01, "alarm_patience": None}, {"collapse_alarms": "warn"}),
        ({"min_unique_share": 0.3, "alarm_patience": 4}, {"collapse_alarms": "stop"}),
        (
            {"min_entropy": None, "max_kl_per_token": None, "min_unique_share": None},
            {"collapse_alarms": "off"},
        ),
        (
            {"vllm_server_timeout": 240.0, "vllm_request_timeout": 600.0},
            {"vllm_server_timeout": 240.0},
        ),
        (
            {
                "vllm_importance_sampling_correction": False,
                "vllm_importance_sampling_clip_max": 2.0,
            },
            {"vllm_importance_sampling_clip_max": None},
        ),
        (
            {
                "vllm_importance_sampling_correction": True,
                "vllm_importance_sampling_clip_max": 3.0,
            },
            {"vllm_importance_sampling_clip_max": 3.0},
        ),
        ({"credit": "collective", "partner_reward_weight": 0.5}, {"partner_reward_weight": 0.5}),
        ({"credit": "own", "partner_reward_weight": 1.0}, {"partner_reward_weight": 0.0}),
        ({"observer_generations": 1}, {}),
        (
            {"transfer_back": "likelihood", "transfer_back_weight": 0.1},
            {"transfer_back_weight": 0.1},
        ),
        ({"transfer_back": "clipped", "transfer_back_weight": 0.0}, {"transfer_back_weight": 0.0}),
        ({"kl_coef": 0.3, "somebodys_own": 1}, {"kl_coef": 0.3, "somebodys_own": 1}),
    ],
)
def test_a_finished_run_is_read_under_todays_names(
    old: dict[str, Any], today: dict[str, Any]
) -> None:
    """Prevents finished runs from becoming unreadable where nothing but a name has changed."""
    assert todays_settings(old) == today
    assert todays_settings(today) == today


@pytest.mark.parametrize(
    "old",
    [
        {"use_score_scaling": True, "use_score_norm": False},
        {"credit": "causal"},
        {"credit": ["collective"]},
        {"observer_generations": 2},
        {"transfer_back": "clipped", "transfer_back_weight": 0.1},
    ],
)
def test_what_has_no_counterpart_today_stays_and_is_refused(old: dict[str, Any]) -> None:
    """Prevents a run under a rule that is gone from being taken for one under today's."""
    assert todays_settings(old) == old


@pytest.mark.parametrize("command", ["eval", "generate", "report", "train"])
def test_a_run_under_a_rule_that_is_gone_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    """Prevents a traceback, or numbers of another rule, where an old run is used."""
    settings = {**CORYConfig(output_dir=str(tmp_path)).to_dict(), "use_score_scaling": True}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(settings))
    words = {
        "eval": [str(tmp_path)],
        "generate": [str(tmp_path), "--prompt", "Hello"],
        "report": [str(tmp_path)],
        "train": ["--output_dir", str(tmp_path), "--resume"],
    }[command]
    with pytest.raises(SystemExit) as ended:
        main([command, *words])
    assert ended.value.code == 2
    told = capsys.readouterr().err
    assert "'use_score_scaling' is no longer a setting of CORYConfig: set normalize_rewards" in told
