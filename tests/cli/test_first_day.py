"""What a user meets on the first day: commands in a row, typing errors, what is printed."""

from __future__ import annotations

import io
import logging
import re
import time
from pathlib import Path

import pytest
from rich.console import Console as RichConsole

from cory import PPOTrainer
from cory.cli import main
from cory.cli.outcome import initial_metrics, print_outcome
from cory.cli.tables import evaluation_table
from cory.io.quiet import padded_at_the_end
from cory.report.measures import KL
from cory.training.console import Console
from cory.training.runs import answer, open_run
from tests.tiny_runs import queries, settings, share_of_letters, trainer


def refused(words: list[str], capsys: pytest.CaptureFixture) -> str:
    with pytest.raises(SystemExit) as stopped:
        main(words)
    assert stopped.value.code == 2
    return capsys.readouterr().err


def test_generate_follows_a_training_with_evaluations(tiny_gpt2_dir: Path, tmp_path: Path) -> None:
    """Prevents `cory generate RUN` from asking for held-out rows, as every recipe's run has."""
    team = trainer(
        tiny_gpt2_dir,
        tmp_path,
        eval_dataset=queries(2),
        max_steps=1,
        eval_steps=1,
        metric_for_best_model="kl",
    )
    team.train()
    subject = open_run(tmp_path, team.args)
    assert len(answer(subject, (0,), "Why?", 2, 1.0)[0]) == 2


def test_a_single_agent_takes_the_same_arguments(tiny_gpt2_dir: Path, tmp_path: Path) -> None:
    """Prevents a TypeError for arguments in the order of TRL, and for no callbacks."""
    args = settings(tiny_gpt2_dir, tmp_path)
    model = str(tiny_gpt2_dir)
    team = PPOTrainer(model, share_of_letters, args, queries(), queries(2), callbacks=None)
    assert (team.args.num_agents, len(team.agents)) == (1, 1)


@pytest.mark.parametrize("command", ["eval", "generate"])
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("runs/frist", "there is no directory 'runs/frist': did you mean runs/first"),
        ("./frist", "there is no directory './frist'"),
        ("/no/such/place", "there is no directory '/no/such/place'"),
        ("mine/nope", "there is no directory 'mine/nope': did you mean mine/nopes?"),
        ("a/b/c", "there is no directory 'a/b/c'"),
        (
            "pocket-review-lm",
            "no embedded asset 'pocket-review-lm': did you mean pocket-reviews-lm",
        ),
        ("x" * 300, "at most 255 bytes long"),
    ],
)
def test_a_place_that_is_not_there_is_known_at_once(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
    command: str,
    name: str,
    message: str,
) -> None:
    """Prevents two minutes of asking the Hub for a directory with a typing error."""
    monkeypatch.chdir(tmp_path)
    for directory in ("runs/first", "runs/other", "mine/nopes"):
        (tmp_path / directory).mkdir(parents=True)
    words = ["--prompt", "Q"] if command == "generate" else []
    started = time.process_time()
    assert message in refused([command, name, *words], capsys)
    assert time.process_time() - started < 5


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["report", "x" * 300], "target='xxx.* must be a name"),
        (["train", "--config", "x" * 300], "config='xxx.* must be a name"),
        (["generate", "R", "--prompt", "Q", "--num_samples", "9" * 30], "between 1 and 10000"),
        (["generate", "R", "--prompt", "Q", "--temperature", "1e-320"], "temperature=1e-320 must"),
        (["compare", "--preset", "pocket", "--workers", "9" * 30], "between 1 and 1000"),
        (["train", "--batch_size", "1" + "0" * 24], "batch_size=10000.* at most 1,000,000"),
        (["train", "--kl_coef", "1" + "0" * 400], "kl_coef: a number has too many digits"),
        (["train", "--output_dir", ""], "output_dir='' must be a name"),
        (["train", "--output_dir", "y" * 256], "output_dir='yyy.* must be a name"),
        (["train", "--output_dir=~/runs/x"], "output_dir='~/runs/x' must be a name"),
        (["train", "--output_dir", "${HOME}/x"], r"output_dir='\${HOME}/x' must be a name"),
        (["train", "--config", ""], "config='' must be a name"),
        (["train", "--adam_beta2", "1"], "adam_beta2=1.0 must be from 0 to less than 1"),
        (["report", ""], "target='' must be a name"),
        (
            ["generate", "R", "--prompt", "a\udcff"],
            "--prompt is empty, or holds bytes that are no UTF-8",
        ),
        (["report", "R", "--out", "-"], "out='-' must be a name"),
        (["eval", "R", "--output", ""], "output='' must be a name"),
        (["eval", "R", "--output", "/dev/null"], "/dev/null is a pipe or a device"),
        (["eval", "R", "--step", "1e3"], "--step: '1000.0' is not a whole number$"),
        (["compare", "--arms", "ppo,cory", "--preset", ""], "no preset ''"),
        (
            ["generate", "http://me:secret@h/x", "--prompt", "Q"],
            r"no directory 'http://\*\*\*@h/x'",
        ),
    ],
    ids=lambda value: value[-1][:12] if isinstance(value, list) else "",
)
def test_what_no_machine_can_do_is_one_message(
    words: list[str], message: str, capsys: pytest.CaptureFixture
) -> None:
    """Prevents a traceback, or memory without end."""
    said = refused(words, capsys)
    assert re.search(message, said), said
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("command", "kinds"),
    [("eval", ["--step N", "--num_samples N", "--reference TEXT"]), ("compare", ["--workers N"])],
)
def test_help_says_what_kind_of_value(
    command: str, kinds: list[str], capsys: pytest.CaptureFixture
) -> None:
    """Prevents TEXT where a whole number is meant."""
    with pytest.raises(SystemExit):
        main([command, "--help"])
    said = capsys.readouterr().out
    assert [kind for kind in kinds if kind not in said] == []


def test_merge_takes_numbers_only(tiny_gpt2_dir: Path, tmp_path: Path) -> None:
    """Prevents a model of NaNs."""
    from cory.team.averaging import merged

    policies = trainer(tiny_gpt2_dir, tmp_path).policies
    for shares in ([float("nan"), 1.0], [float("inf"), 1.0], [1.0, -1.0], [1.0], [1.0, -1 + 1e-9]):
        with (
            pytest.raises(ValueError, match=r"one number per agent \(2 of them\)"),
            merged(policies, shares),
        ):
            pass


def test_a_training_ends_with_what_it_was_for(
    tiny_gpt2_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """Prevents numbers without the initial model's, and an end without the next command."""
    for number, eval_steps in enumerate((None, 1)):
        run = tmp_path / f"run {number}"
        team = trainer(
            tiny_gpt2_dir, run, eval_dataset=queries(4), max_steps=1, eval_steps=eval_steps
        )
        initial = initial_metrics(team)
        assert (initial == {}) == (eval_steps is not None)
        metrics = team.train()
        capsys.readouterr()
        print_outcome(team, initial, metrics)
        said = capsys.readouterr().out
        assert said.index("initial model") < said.index("agent_0") < said.index("agent_1")
        assert said.count("\n  agent_0, reward ") == 2
        assert f"next: cory report '{run}'" in said


def test_a_declined_answer_is_shown_as_such(
    tiny_gpt2_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """Prevents a TypeError after the training, where a reward is None."""
    team = trainer(
        tiny_gpt2_dir,
        tmp_path,
        lambda prompts, completions, **_: [None] * len(prompts),
        eval_dataset=queries(2),
        max_steps=1,
    )
    print_outcome(team, initial_metrics(team), team.train())
    assert capsys.readouterr().out.count("\n  agent_0, declined: ") == 2


def test_held_out_queries_that_are_trained_on_are_told(
    tiny_gpt2_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """Prevents numbers of an evaluation on the training rows that look like those of others."""
    fresh = [{"prompt": f"Held out {row}", "topic": "x"} for row in range(3)]
    sets = {"same": queries(3), "fresh": fresh}
    trainer(tiny_gpt2_dir, tmp_path, eval_dataset=sets, max_steps=1).train()
    told = [line for line in capsys.readouterr().err.splitlines() if "trained on" in line]
    assert [line[:78] for line in told] == [
        "cory: warning: 3 of the 3 held-out queries of eval_dataset['same'] are trained"
    ]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["generate", "RUN", "--prompt", ""], "--prompt is empty, or holds bytes that are no UTF"),
        (["generate", "RUN", "--prompt", "a\udcff"], "--prompt is empty, or holds bytes"),
        (["generate", "RUN", "--prompt", "-x"], "(one that begins with - is written --prompt=-…)"),
        (["generate", "RUN", "--prompt=x", "--chat", "--no_chat"], "exclude each other"),
        (["generate", "RUN", "--prompt=x", "--as_team", "--agent=agent_1"], "leave --agent away"),
        (["merge", "RUN", "--weights", "-1,2"], "is written --weights=-…"),
        (["eval", "RUN", "--output", "DIR"], "is a directory: it must be a file"),
        (["eval", "RUN", "--output", "DIR/file/a.json"], "file is no directory that can be"),
        (["compare", "--arms=ppo", "--task=pocket-reviews", "--output_dir=DIR"], "a single run"),
    ],
)
def test_a_slip_is_found_before_any_work(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """Prevents an evaluation whose results cannot be written, and options that are ignored."""
    (tmp_path / "file").touch()
    (tmp_path / "config.yaml").touch()
    assert message in refused([word.replace("DIR", str(tmp_path)) for word in words], capsys)


def test_a_training_without_held_out_rows_ends_too(
    tiny_gpt2_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """Prevents an empty table, or an error, where nothing is measured at the end."""
    team = trainer(tiny_gpt2_dir, tmp_path, max_steps=1)
    print_outcome(team, initial_metrics(team), team.train())
    assert capsys.readouterr().out.split()[:3] == ["next:", "cory", "report"]


def test_there_is_no_minus_zero() -> None:
    """Prevents -0.000 where a KL is 0 but for rounding."""
    assert KL.write(-1e-6, 1e-9) == "0.000 ± 0.000"
    text = io.StringIO()
    columns = {"agent_0": {"task_reward": -1e-9, "kl": -1e-9, "entropy": -1e-9}}
    RichConsole(file=text, width=80).print(evaluation_table("t", columns))
    assert "-0.0" not in text.getvalue()


def test_the_time_left_is_known_after_one_slow_iteration(
    tiny_gpt2_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prevents `-:--:--` for as long as iterations take longer than half a minute."""
    text = io.StringIO()
    console = Console(RichConsole(file=text, force_terminal=True, width=100))
    args = settings(tiny_gpt2_dir, tmp_path, max_steps=3)
    state = type("State", (), {"global_step": 0, "max_steps": 3})()
    console.on_train_begin(args, state, None)
    monkeypatch.setattr(time, "monotonic", lambda: console.started + 100)
    state.global_step = 1
    console.on_step_end(args, state, None)
    console.close()
    assert "3:20" in text.getvalue()
    assert "-:--:--" not in text.getvalue()


def test_only_warnings_that_do_not_apply_are_dropped(caplog: pytest.LogCaptureFixture) -> None:
    """Prevents noise in every command, and a filter that hides what is meant."""
    kernels = logging.getLogger("bitsandbytes.backends.cpu.ops")
    padding = logging.getLogger("transformers.modeling_utils")
    padding.addHandler(caplog.handler)
    try:
        kernels.warning("Failed to load CPU gemm_4bit_forward from kernels-community: x")
        kernels.warning("Failed to load the library")
        with padded_at_the_end():
            padding.warning("We strongly recommend passing in an `attention_mask` since")
        padding.warning("We strongly recommend passing in an `attention_mask` there")
    finally:
        padding.removeHandler(caplog.handler)
    assert list(dict.fromkeys(message.split()[-1] for message in caplog.messages)) == [
        "library",
        "there",
    ]
