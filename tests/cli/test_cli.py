"""The command line: options, files, precedence, errors; and train, eval, generate end to end."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml
from transformers import AutoTokenizer

from cory.cli import main
from cory.cli.options import gather_lists, make_parser, parse, read_settings
from cory.cli.settings import model_settings, run_settings, training_settings
from cory.config import CORYConfig
from cory.config.presets import recipe_path
from cory.tasks import for_task, task_defaults
from cory.team.metrics import read_metrics
from cory.team.prompts import PromptEncoder
from cory.training.checkpoint import Checkpoints

REWARDS = """
def short(completions, **columns):
    return [1.0 / (1 + len(text)) for text in completions]

def has_vowel(completions, vowel, **columns):
    return [float(letter in text) for text, letter in zip(completions, vowel)]

def broken(completions, **columns):
    raise KeyError("gold")
"""
SIZES = "--max_steps 2 --batch_size 8 --max_completion_length 6 --num_eval_queries 4".split()


def settings_of(words: list[str]) -> dict:
    return parse(make_parser("", ""), words)[0]


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Queries and reward functions of a user."""
    directory = tmp_path_factory.mktemp("data")
    rows = [{"prompt": f"Film {row} is", "vowel": "aeiou"[row % 5]} for row in range(40)]
    (directory / "films.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (directory / "rewards.py").write_text(REWARDS)
    return directory


@pytest.fixture(scope="module")
def command(data_dir: Path, tiny_gpt2_dir: Path) -> list[str]:
    """Words of a small training on the user's own data."""
    return [
        *("train", "--model_name_or_path", str(tiny_gpt2_dir)),
        *("--dataset_name", str(data_dir / "films.jsonl")),
        *("--reward_funcs", f"{data_dir / 'rewards.py'}:has_vowel"),
        *SIZES,
    ]


@pytest.fixture(scope="module")
def run_dir(command: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with checkpoints of steps 1 and 2."""
    directory = tmp_path_factory.mktemp("runs") / "films"
    main([*command, "--learning_rate", "0.01", "--save_steps", "1", "--output_dir", str(directory)])
    return directory


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["train", "--help"],
        ["train", "--max_stepz", "3"],
        ["compare", "--help"],
        ["report", "--help"],
    ],
)
def test_help_and_mistakes_come_at_once(words: list[str]) -> None:
    """Prevents waiting ten seconds for torch, to be told that an option is misspelt."""
    program = (
        "import sys, time\nfrom cory.cli import main\n"
        f"try: main({words!r})\nexcept SystemExit: pass\n"
        "heavy = {'torch', 'transformers', 'datasets', 'matplotlib'} & sys.modules.keys()\n"
        "print(time.process_time() < 1, heavy or 'light')"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.endswith("True light\n"), done.stdout[-200:] + done.stderr


def test_every_setting_is_an_option_with_its_description(capsys: pytest.CaptureFixture) -> None:
    """Prevents settings that only Python can reach, or that the help does not explain."""
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    for field in fields(CORYConfig):
        assert f"--{field.name} " in text
    assert "Iterations between two exchanges of roles. None: never. [5]" in text


@pytest.mark.parametrize(
    ("words", "name", "value"),
    [
        (["--resume"], "resume", True),
        (["--resume", "false"], "resume", False),
        (["--role_exchange_period", "null"], "role_exchange_period", None),
        (["--learning_rate", "1e-4"], "learning_rate", 1e-4),
        (["--learning_rate", "1e-4", "1e-5"], "learning_rate", [1e-4, 1e-5]),
        (["--learning_rate=[1e-4, 1e-5]"], "learning_rate", [1e-4, 1e-5]),
        (["--reward_funcs", "a.py:f"], "reward_funcs", ["a.py:f"]),
        (["--reward_funcs", '["a.py:f", "b.py:g"]'], "reward_funcs", ["a.py:f", "b.py:g"]),
        (["--reward_funcs", "a.py:f", "b.py:g"], "reward_funcs", ["a.py:f", "b.py:g"]),
        (
            ["--reward_funcs", "a.py:f", "--seed", "1", "--reward_funcs=b.py:g"],
            "reward_funcs",
            ["a.py:f", "b.py:g"],
        ),
        (["--query_template", "{query}: null\n"], "query_template", "{query}: null\n"),
        (["--reward_weights", "1"], "reward_weights", [1.0]),
        (["--learning_rate", "1"], "learning_rate", 1.0),
        (["--reference_template", '"{query}{answer}"'], "reference_template", '"{query}{answer}"'),
    ],
)
def test_values_are_read_as_they_are_meant(words: list[str], name: str, value: object) -> None:
    """Prevents lists that must be typed as JSON, and templates that are taken for YAML."""
    assert settings_of(words)[name] == value


def test_a_lone_weight_is_a_list_in_a_file_too(tmp_path: Path) -> None:
    """Prevents "1 is not a list" for the weight of a single reward function."""
    path = tmp_path / "run.yaml"
    path.write_text("reward_weights: 2\nreward_funcs: a.py:f\n")
    given = settings_of(["--config", str(path)])
    assert given == {"reward_weights": [2.0], "reward_funcs": ["a.py:f"]}


def test_what_is_not_given_stays_out() -> None:
    """Prevents defaults of options from overriding a file, a task or a run that is resumed."""
    assert settings_of([]) == {}
    assert gather_lists(["RUN", "--seed", "1"]) == ["RUN", "--seed", "1"]


def test_options_win_over_the_file_and_the_file_over_the_task(tmp_path: Path) -> None:
    """Prevents a precedence that depends on where `--config` stands."""
    path = tmp_path / "run.yaml"
    path.write_text("task: imdb\nkl_coef: 0.7\nlearning_rate: 2e-5\nmax_steps: 7\nreport_to: wandb")
    for words in (
        ["--config", str(path), "--max_steps", "3"],
        ["--max_steps", "3", "--config", str(path)],
    ):
        args = training_settings(settings_of(words))
        assert (args.max_steps, args.kl_coef, args.learning_rate) == (3, 0.7, 2e-5)
        assert args.trackers == ["wandb"]
        assert args.batch_size == task_defaults("imdb")["batch_size"]


def test_a_preset_stands_between_the_task_and_the_file(tmp_path: Path) -> None:
    """Prevents a preset that a task's defaults undo, or that undoes what the user wrote."""
    path = tmp_path / "run.yaml"
    path.write_text("preset: paper\ntask: pocket-arithmetic\nlam: 0.9\nvf_coef: 0.3\n")
    args = training_settings(settings_of(["--config", str(path), "--vf_coef", "0.4"]))
    assert (args.lam, args.vf_coef, args.kl_estimator) == (0.9, 0.4, "full")
    assert args.batch_size == task_defaults("pocket-arithmetic")["batch_size"]


def test_a_run_records_what_its_preset_meant(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """Prevents a record that changes its meaning when a preset does."""
    words = ["--preset", "paper", "--vf_coef", "0.3", "--max_steps", "1"]
    main([*command, *words, "--output_dir", str(tmp_path / "run")])
    saved = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert "preset" not in saved
    assert (saved["kl_estimator"], saved["vf_coef"]) == ("full", 0.3)


def test_resuming_takes_the_settings_of_the_run(tmp_path: Path) -> None:
    """Prevents a resumed run from going on with default settings."""
    saved = for_task("imdb", seed=5, kl_coef=0.9, output_dir=str(tmp_path))
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(saved.to_dict()))
    args = training_settings(
        settings_of(["--resume", "--max_steps", "9", "--output_dir", str(tmp_path)])
    )
    assert args == saved.replace(max_steps=9, resume=True)


def test_another_task_brings_its_questions_only() -> None:
    """Prevents gsm8k questions in imdb's prompt, and a model quantised because its task was."""
    saved = for_task("imdb", seed=5).to_dict()
    args = run_settings(saved, {"task": "gsm8k"})
    assert args.observer_template == task_defaults("gsm8k")["observer_template"]
    assert (args.reward_model_name_or_path, args.max_completion_length) == (None, 256)
    assert (args.model_name_or_path, args.seed, args.use_peft) == ("gpt2-large", 5, False)
    assert not model_settings("some/model", {"task": "gsm8k"}).load_in_4bit


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["trian"], "no command 'trian': did you mean train?"),
        (["train", "--max_step", "3"], "unknown option --max_step: did you mean max_steps?"),
        (["train", "--num-agents=0"], "num_agents=0 must be greater than 0"),
        (["train", "--max-new-tokens", "3"], "unknown option --max_new_tokens: here it is max_com"),
        (["train", "--advantage_estimator", "rloo"], "reinforce: here it is leave_one_out"),
        (["train", "--seed", "x"], "--seed: 'x' is not a whole number"),
        (["train", "--save_steps", "0.5"], "'0.5' is not a whole number or null"),
        (["train", "--kl_placement", "all"], "'all' is not one of reward, loss, both"),
        (["train", "--lam", "1.5"], "lam=1.5 must lie between 0 and 1"),
        (
            ["train", "--task", "imbd"],
            "no task 'imbd': did you mean imdb?; there is pocket-reviews",
        ),
        (["train", "--preset", "papers"], "no preset 'papers': did you mean paper?"),
        (["train", "--config", "absent.yaml"], "--config absent.yaml: no such file"),
        (["train", "stray"], "unrecognized arguments: stray"),
        (["eval"], "required: target"),
        (
            ["generate", "gpt2", "--prompt", "x", "--num_samples", "0"],
            "must lie between 1 and 10000",
        ),
    ],
)
def test_mistakes_get_one_message_and_status_2(
    words: list[str], message: str, capsys: pytest.CaptureFixture
) -> None:
    """Prevents tracebacks, and lists of all options, where one word is wrong."""
    with pytest.raises(SystemExit) as stopped:
        main(words)
    error = capsys.readouterr().err
    assert stopped.value.code == 2
    assert message in error
    assert "Traceback" not in error


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("max_step: 3", "unknown key 'max_step': did you mean max_steps?"),
        ("lr: 1.0e-5", "unknown key 'lr': here it is learning_rate"),
        ("advantage_estimator: grpo", "'grpo' is not one of gae, group, leave_one_out"),
        ("preset: best of all", "no preset 'best of all'; there is paper, team"),
        ("seed: many", "seed: 'many' is not a whole number"),
        ("- seed", "must hold `key: value` lines"),
        ("seed: [", "is not YAML"),
    ],
)
def test_mistakes_in_a_file_name_the_file(tmp_path: Path, text: str, message: str) -> None:
    """Prevents a wrong key in a file from being ignored or blamed on the command."""
    path = tmp_path / "run.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"run\.yaml.*") as caught:
        settings_of(["--config", str(path)])
    assert message in str(caught.value)


def test_all_mistakes_are_listed_at_once(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Prevents a command that has to be started once for each of its mistakes."""
    path = tmp_path / "run.yaml"
    path.write_text("seed: many\nlam: 0.9\ndtype: int3\nmax_steps: 0.5\n")
    mixed = tmp_path / "mixed.yaml"
    mixed.write_text("batch_size: x\nnum_agents: 0\nseed: 3\n")
    cases = {
        ("--seed", "x", "--lam", "0.9", "--save_steps=y"): ("--seed: 'x'", "--save_steps: 'y'"),
        ("--max_step", "3", "--seeds", "3"): ("--max_step: did", "--seeds: did"),
        ("--config", str(path)): ("seed: 'many'", "dtype: 'int3'", "max_steps: '0.5'"),
        ("--batch_size=x", "--temperature=-1", "--kl_coef", ".inf", "--lam=0.9"): (
            "--batch_size: 'x' is not a whole number",
            "temperature=-1.0 must lie between",
            "kl_coef=inf must be finite",
        ),
        ("--config", str(mixed)): ("mixed.yaml: batch_size: 'x'", "num_agents=0 must be greater"),
        ("--learning_rate", "1e-5", "q", "--seed"): (
            "--seed: expected one argument",
            "--learning_rate: \"[1e-05, 'q']\" is not a number or a list",
        ),
    }
    for words, messages in cases.items():
        with pytest.raises(SystemExit):
            main(["train", *words])
        title, *lines = capsys.readouterr().err.splitlines()
        assert title == f"cory: {len(messages)} problems with the settings:"
        assert all(message in line for message, line in zip(messages, lines, strict=True))


def test_a_failing_reward_function_is_named_without_traceback(
    command: list[str], data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """Prevents a user's own mistake from drowning in our stack; --traceback still shows it."""
    words = [*command, "--output_dir", str(tmp_path / "run")]
    words[words.index("--reward_funcs") + 1] = f"{data_dir / 'rewards.py'}:broken"
    with pytest.raises(SystemExit) as stopped:
        main(words)
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert "cory: Reward function 'broken' raised KeyError: 'gold'" in error
    assert "Traceback" not in error
    with pytest.raises(ValueError, match="broken"):
        main([*words, "--traceback", "--output_dir", str(tmp_path / "other")])


def test_a_run_is_not_overwritten_but_resumed(run_dir: Path, tmp_path: Path) -> None:
    """Prevents a second training from mixing with the first, and `--resume` from starting anew."""
    import shutil

    copy = tmp_path / "run"
    shutil.copytree(run_dir, copy)
    with pytest.raises(SystemExit):
        main(["train", "--task", "imdb", "--output_dir", str(copy)])
    main(["train", "--resume", "--max_steps", "3", "--output_dir", str(copy)])
    steps = [record["step"] for record in read_metrics(copy / "metrics.jsonl")]
    assert sorted(set(steps)) == [1, 2, 3]
    assert Checkpoints(copy, None).steps()[-1] == 3


def test_eval_measures_every_agent_alone_and_the_initial_model(
    run_dir: Path, capsys: pytest.CaptureFixture
) -> None:
    """Prevents results without the point they started from, or of the initial weights only."""
    main(["eval", str(run_dir), "--num_queries", "3"])
    assert "initial model" in capsys.readouterr().out
    report = json.loads((run_dir / "eval.json").read_text())
    metrics = report["metrics"]
    assert list(metrics) == ["initial model", "agent_0", "agent_1"]
    assert metrics["initial model"]["kl"] == pytest.approx(0, abs=1e-6)
    assert min(metrics["agent_0"]["kl"], metrics["agent_1"]["kl"]) > 1e-4
    assert metrics["agent_0"]["kl"] != metrics["agent_1"]["kl"]
    assert set(metrics["agent_0"]) >= {f"pass@{k}" for k in range(1, 6)}
    assert (report["num_queries"], report["num_samples"]) == (3, 5)
    assert [row["query"] for row in report["answers"]["agent_1"]] == [
        row["query"] for row in report["answers"]["agent_0"]
    ]


def test_eval_of_a_checkpoint_or_of_an_agent_as_a_plain_model(
    run_dir: Path, command: list[str], tiny_gpt2_dir: Path, capsys: pytest.CaptureFixture
) -> None:
    """Prevents the three ways to name the same weights from giving three results."""
    sizes = ["--num_queries", "4", "--num_samples", "1", "--json"]
    agent = str(run_dir / "checkpoints" / "step-1" / "agent_1")
    data = command[3:7]
    reports = []
    for words in (
        [str(run_dir), "--step", "1"],
        [agent, *data, "--max_completion_length", "6", "--reference", str(tiny_gpt2_dir)],
        [agent, *data, "--max_completion_length", "6"],
    ):
        main(["eval", *words, *sizes])
        reports.append(json.loads(capsys.readouterr().out)["metrics"])
    of_run, against_initial, against_itself = reports
    assert against_initial["model"] == of_run["agent_1"]
    assert against_initial["initial model"] == of_run["initial model"]
    assert list(against_itself) == ["model"]
    assert against_itself["model"]["task_reward"] == of_run["agent_1"]["task_reward"]


def test_eval_of_the_mean_of_the_agents(
    run_dir: Path,
    command: list[str],
    tiny_gpt2_dir: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
) -> None:
    """Prevents a mean that is measured in another way than the model that is written."""
    sizes = ["--num_queries", "4", "--num_samples", "1", "--json"]
    main(["merge", str(run_dir), "--output_dir", str(tmp_path / "mean")])
    main(["eval", str(run_dir), "--evaluate_merged", *sizes])
    of_run = json.loads(capsys.readouterr().out)["metrics"]
    model = [str(tmp_path / "mean"), *command[3:7], "--max_completion_length", "6"]
    main(["eval", *model, "--reference", str(tiny_gpt2_dir), *sizes])
    of_model = json.loads(capsys.readouterr().out)["metrics"]
    assert list(of_run) == ["initial model", "agent_0", "agent_1", "merged"]
    assert of_run["merged"] == of_model["model"]


def test_eval_says_which_checkpoints_there_are(
    run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """Prevents a KeyError or a Hub search where a path or a step is wrong."""
    for words, message in (
        ([str(run_dir), "--step", "7"], "no checkpoint of step 7; there is 1, 2"),
        ([str(tmp_path), "--task", "imdb"], "neither a run (no config.yaml) nor a model"),
    ):
        with pytest.raises(SystemExit):
            main(["eval", *words])
        assert message in capsys.readouterr().err


def test_generate_answers_alone_and_as_a_team(
    run_dir: Path, tiny_gpt2_dir: Path, capsys: pytest.CaptureFixture
) -> None:
    """Prevents a team whose observer answers without, or a pioneer with, a reference."""
    main(["generate", str(run_dir), "--prompt", "Film 3 is", "--temperature", "0"])
    alone = capsys.readouterr().out
    main(["generate", str(run_dir), "--prompt", "Film 3 is", "--temperature", "0", "--as_team"])
    team = capsys.readouterr().out
    assert team.startswith(f"agent_0 (pioneer): {alone}agent_1 (observer): ")
    main(["generate", str(run_dir), "--prompt", "Film 3 is", "--agent", "agent_1"])
    main(["generate", str(tiny_gpt2_dir), "--prompt", "Film 3 is", "--max_completion_length", "3"])
    with pytest.raises(SystemExit):
        main(["generate", str(run_dir), "--prompt", "x", "--agent", "agent_2"])
    assert "agent 'agent_2': did you mean agent_1?" in capsys.readouterr().err


def test_generate_shows_chat_models_a_chat(
    tiny_llama_dir: Path, capsys: pytest.CaptureFixture
) -> None:
    """Prevents an instruction-tuned model from being asked outside its chat format."""
    words = ["generate", str(tiny_llama_dir), "--prompt", "Hello", "--temperature", "0"]
    sizes = ["--max_completion_length", "8"]
    main([*words, *sizes])
    plain = capsys.readouterr().out
    main([*words, *sizes, "--chat"])
    assert capsys.readouterr().out != plain


def test_generate_asks_as_training_did(
    tmp_path: Path, tiny_llama_dir: Path, data_dir: Path, capsys: pytest.CaptureFixture
) -> None:
    """Prevents an agent trained on chats from being asked outside its chat format."""
    rows = [
        {"prompt": [{"role": "user", "content": f"Film {row}"}], "vowel": "a"} for row in range(9)
    ]
    (tmp_path / "chats.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    model = tmp_path / "model"
    shutil.copytree(tiny_llama_dir, model)
    tokenizer = AutoTokenizer.from_pretrained(model)
    tokenizer.chat_template += "{% if not think %}no thoughts: {% endif %}"
    tokenizer.save_pretrained(model)
    words = [
        *("train", "--model_name_or_path", str(model), "--output_dir", str(tmp_path / "run")),
        *("--dataset_name", str(tmp_path / "chats.jsonl")),
        *("--reward_funcs", f"{data_dir / 'rewards.py'}:has_vowel"),
        *("--chat_template_kwargs", '{"think": false}', "--stop_strings", "e", "\n\n"),
        *("--mask_truncated_completions", *SIZES),
    ]
    main(words)
    saved = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert saved["chat_template_kwargs"] == {"think": False}
    assert saved["stop_strings"] == ["e", "\n\n"]
    encode, prompts = PromptEncoder.encode, []

    def noted(self: PromptEncoder, query: Any, answers: Any) -> list[int]:
        prompts.append(encode(self, query, answers))
        return prompts[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PromptEncoder, "encode", noted)
        for options in ([], ["--chat"], ["--no_chat"]):
            main(["generate", str(tmp_path / "run"), "--prompt", "Film 3", *options])
    chat = tokenizer.encode("<s>[user] Film 3\n[assistant] no thoughts: ", add_special_tokens=False)
    assert chat in prompts
    assert prompts[-1] == tokenizer.encode("Film 3")
    main([*words, "--resume", "--max_steps", "3"])
    main(["eval", str(tmp_path / "run")])
    assert capsys.readouterr().out


@pytest.mark.parametrize("command", ["eval", "generate", "merge"])
def test_help_shows_a_commands_own_options(
    command: str, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prevents ten options among a hundred that only matter to a training."""
    monkeypatch.setenv("COLUMNS", "1000")
    with pytest.raises(SystemExit):
        main([command, "--help"])
    text = capsys.readouterr().out
    assert "--step N" in text
    assert "Every setting of `cory train` is an option, too" in text
    assert "--learning_rate" not in text
    assert "optimizer" not in text
    given, _ = parse(make_parser("", "", lists_settings=False), ["--max_steps", "3"])
    assert given == {"max_steps": 3}


def test_a_recipe_is_a_file_of_the_package(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Prevents recipes that only a checkout has, and two files of settings at once."""
    assert read_settings(recipe_path("gsm8k-qwen"))["task"] == "gsm8k"
    for words, message in (
        (["--recipe", "gsm8k-quen"], "no recipe 'gsm8k-quen': did you mean gsm8k-qwen?"),
        (["--recipe", "gsm8k-qwen", "--config", "run.yaml"], "leave one away"),
    ):
        (tmp_path / "run.yaml").write_text("seed: 1\n")
        with pytest.raises(SystemExit):
            main(["train", *(str(tmp_path / w) if w == "run.yaml" else w for w in words)])
        assert message in capsys.readouterr().err
