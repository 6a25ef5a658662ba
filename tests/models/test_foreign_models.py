"""Models, adapters and reward models of strangers: nothing that lies in their directories runs."""

from __future__ import annotations

import ast
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

import cory
from cory.cli import main
from cory.cli.settings import run_settings
from cory.config import CORYConfig
from cory.io.checksums import SUMS
from cory.io.files import LOCK
from cory.models.loading import load_model, load_tokenizer
from cory.models.pickles import refuse_pickled_adapter, refuse_pickled_weights
from cory.report.pages import describe, render
from cory.rewards.classifier import ClassifierReward
from cory.rewards.loading import load_reward_funcs
from cory.tasks.data import find_splits
from cory.training.runs import evaluate_alone, open_model, open_run, save_merged
from tests.tiny_runs import settings, trainer

PACKAGE = Path(cory.__file__).parent
CALLED = {"eval", "exec", "compile", "__import__"}
"""Functions that run a text."""
IMPORTED = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}


class Payload:
    """Touches a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return Path.touch, (self.path,)


def pickled(directory: Path, name: str, ran: Path) -> Path:
    """A directory whose weights are a pickle with a payload."""
    for path in directory.glob("*.safetensors"):
        path.unlink()
    torch.save({"weight": Payload(ran)}, directory / name)
    return directory


@pytest.fixture
def ran(tmp_path: Path) -> Path:
    """What a payload leaves."""
    return tmp_path / "ran"


def test_the_payload_works(tmp_path: Path, ran: Path) -> None:
    """Prevents tests of a payload that would do nothing anyway."""
    torch.save({"weight": Payload(ran)}, tmp_path / "x.bin")
    torch.load(tmp_path / "x.bin", weights_only=False)
    assert ran.exists()


def test_a_pickled_model_is_refused(tiny_gpt2_dir: Path, tmp_path: Path, ran: Path) -> None:
    """Prevents a model directory from running a program where it is only to be read."""
    model = pickled(shutil.copytree(tiny_gpt2_dir, tmp_path / "model"), "pytorch_model.bin", ran)
    message = r"holds its weights as a pickle, pytorch_model.bin, .* Convert it once"
    with pytest.raises(ValueError, match=message):
        load_model(str(model), settings(model, tmp_path))
    with pytest.raises(ValueError, match=message):
        trainer(model, tmp_path / "run")
    args = settings(tiny_gpt2_dir, tmp_path / "run", task="pocket-arithmetic")
    subject = open_model(str(model), args, reference=str(tiny_gpt2_dir))
    with pytest.raises(ValueError, match=message):
        evaluate_alone(subject)
    assert not ran.exists()


def test_a_pickled_adapter_is_refused(tiny_gpt2_dir: Path, tmp_path: Path, ran: Path) -> None:
    """The same of adapters, which peft loads."""
    run = tmp_path / "run"
    team = trainer(tiny_gpt2_dir, run, use_peft=True, num_agents=1, max_steps=1)
    team.train()
    # A stranger's run has the checksums of a stranger, or none.
    (run / "checkpoints" / "step-1" / SUMS).unlink()
    adapter = pickled(run / "checkpoints" / "step-1" / "agent_0", "adapter_model.bin", ran)
    message = r"holds its adapter as a pickle, adapter_model.bin, .* Convert it once"
    with pytest.raises(ValueError, match=message):
        load_model(str(adapter), team.args)
    with pytest.raises(ValueError, match=message):
        save_merged(open_run(run, team.args), tmp_path / "merged")
    assert not ran.exists()


def test_a_pickled_reward_model_is_refused(
    tiny_classifier_dir: Path, tmp_path: Path, ran: Path
) -> None:
    """The same of reward models."""
    directory = shutil.copytree(tiny_classifier_dir, tmp_path / "model")
    model = pickled(directory, "pytorch_model.bin", ran)
    with pytest.raises(ValueError, match=r"as a pickle, .*AutoModelForSequenceClassification"):
        load_reward_funcs(str(model))
    assert not ran.exists()


def conversion(message: str) -> list[str]:
    """The command that a message gives, as words."""
    found = re.search(r"python -c '(.*)' '(.*)'", message)
    assert found is not None, message
    return [sys.executable, "-c", found[1], found[2]]


@pytest.mark.slow
def test_the_conversions_work(tiny_gpt2_dir: Path, tmp_path: Path, ran: Path) -> None:
    """Prevents a fix that does not fix, or that runs what it should keep from running."""
    model = shutil.copytree(tiny_gpt2_dir, tmp_path / "model")
    weights = load_file(model / "model.safetensors")
    (model / "model.safetensors").unlink()
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    torch.save(weights, model / "pytorch_model.bin")
    torch.save({"lora": torch.ones(2)}, adapter / "adapter_model.bin")
    with pytest.raises(ValueError, match="pickle") as of_model:
        refuse_pickled_weights(model, "AutoModelForCausalLM")
    with pytest.raises(ValueError, match="pickle") as of_adapter:
        refuse_pickled_adapter(adapter)
    for error in (of_model, of_adapter):
        subprocess.run(conversion(str(error.value)), check=True, capture_output=True)
    converted = load_model(str(model), settings(model, tmp_path)).state_dict()
    assert all(torch.equal(converted[name], weight) for name, weight in weights.items())
    assert load_file(adapter / "adapter_model.safetensors")["lora"].tolist() == [1, 1]
    for name in ("adapter_model.bin", "adapter_model.safetensors"):
        (adapter / name).unlink()
    pickled(adapter, "adapter_model.bin", ran)
    done = subprocess.run(conversion(str(of_adapter.value)), capture_output=True, text=True)
    assert done.returncode != 0
    assert "Weights only load failed" in done.stderr
    assert not ran.exists()


MODELING = """
from pathlib import Path
from transformers import GPT2Config, GPT2LMHeadModel, GPT2ForSequenceClassification

Path({ran!r}).touch()

class OwnConfig(GPT2Config):
    model_type = "own"

class OwnModel(GPT2LMHeadModel):
    config_class = OwnConfig

class OwnClassifier(GPT2ForSequenceClassification):
    config_class = OwnConfig
"""


@pytest.fixture
def own_code(tiny_gpt2_dir: Path, tmp_path: Path, ran: Path) -> Path:
    """A model that comes with code."""
    model = shutil.copytree(tiny_gpt2_dir, tmp_path / "own_model")
    (model / "modeling.py").write_text(MODELING.format(ran=str(ran)))
    config = json.loads((model / "config.json").read_text())
    config |= {
        "model_type": "own",
        "architectures": ["OwnModel"],
        "auto_map": {
            "AutoConfig": "modeling.OwnConfig",
            "AutoModelForCausalLM": "modeling.OwnModel",
            "AutoModelForSequenceClassification": "modeling.OwnClassifier",
        },
    }
    (model / "config.json").write_text(json.dumps(config))
    return model


def test_code_of_a_model_does_not_run(own_code: Path, tmp_path: Path, ran: Path) -> None:
    """Prevents a default, or a forgotten argument, that runs a stranger's code, or asks for it."""
    message = "trust_remote_code"
    args = settings(own_code, tmp_path / "run")
    for load in (
        lambda: load_model(str(own_code), args),
        lambda: ClassifierReward(str(own_code)),
        lambda: load_reward_funcs([str(own_code)]),
        lambda: trainer(own_code, tmp_path / "run"),
    ):
        with pytest.raises(ValueError, match=message):
            load()
    load_tokenizer(str(own_code))  # It is plain here, so it needs no code.
    assert not ran.exists()


def test_code_of_a_model_runs_where_it_is_trusted(
    own_code: Path, tmp_path: Path, ran: Path
) -> None:
    """Prevents a model with code from training, but not resuming, being measured or merged."""
    rewards = tmp_path / "rewards.py"
    rewards.write_text("def zero(completions, **columns):\n    return [0.0] * len(completions)\n")
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps({"prompt": f"Film {i}"}) + "\n" for i in range(20)))
    run = tmp_path / "run"
    args = settings(own_code, run, trust_remote_code=True, max_steps=1, save_steps=1)
    args = args.replace(dataset_name=str(rows), reward_funcs=[f"{rewards}:zero"])
    cory.CORYTrainer(args=args).train()
    assert ran.exists()
    cory.CORYTrainer(args=args.replace(resume=True, max_steps=2)).train()
    saved = yaml.safe_load((run / "config.yaml").read_text())
    assert saved["trust_remote_code"] is True
    with pytest.raises(ValueError, match="trust_remote_code"):
        evaluate_alone(open_run(run, run_settings(saved, {})))
    trusting = run_settings(saved, {"trust_remote_code": True})
    assert {"agent_0", "agent_1"} <= evaluate_alone(open_run(run, trusting)).keys()
    save_merged(open_run(run, trusting), tmp_path / "merged")
    assert (tmp_path / "merged" / "model.safetensors").is_file()
    with pytest.raises(SystemExit):
        main(["merge", str(run), "--output_dir", str(tmp_path / "again")])


def test_code_of_an_attention_does_not_run() -> None:
    """Prevents a stranger's config.yaml from fetching a kernel."""
    with pytest.raises(ValueError, match="names code on the Hub"):
        CORYConfig(attn_implementation="somebody/attention")
    CORYConfig(attn_implementation="somebody/attention", trust_remote_code=True)


def test_generating_runs_no_reward_function_of_a_run(
    tiny_gpt2_dir: Path, tmp_path: Path, ran: Path, capsys: pytest.CaptureFixture
) -> None:
    """Prevents an answer, or a report, from running what a stranger's config.yaml names."""
    run = tmp_path / "run"
    trainer(tiny_gpt2_dir, run, max_steps=1).train()
    (tmp_path / "evil.py").write_text(f"from pathlib import Path\nPath({str(ran)!r}).touch()\n")
    saved = yaml.safe_load((run / "config.yaml").read_text())
    saved |= {"reward_funcs": [f"{tmp_path / 'evil.py'}:f"], "dataset_name": "x", "task": None}
    (run / "config.yaml").write_text(yaml.safe_dump(saved))
    main(["generate", str(run), "--prompt", "Film", "--max_completion_length", "2"])
    assert render(describe(run))
    assert not ran.exists()


def test_a_checkpoint_of_another_architecture_is_refused(
    tiny_gpt2_dir: Path, tiny_llama_dir: Path, tmp_path: Path
) -> None:
    """Prevents weights that are not there from being made up."""
    team = trainer(tiny_gpt2_dir, tmp_path)
    with pytest.raises(ValueError, match="another architecture"):
        team.policies[0].weights.load(tiny_llama_dir)


def test_a_data_set_runs_no_script(tmp_path: Path, ran: Path) -> None:
    """Prevents a loading script, which data sets once had, from running."""
    folder = tmp_path / "films"
    folder.mkdir()
    script = f"from pathlib import Path\nPath({str(ran)!r}).touch()\n"
    (folder / "films.py").write_text(script)
    with pytest.raises(ValueError, match="holds no data files"):
        find_splits(str(folder), None)
    with pytest.raises(ValueError, match="must share one ending"):
        find_splits(str(folder / "films.py"), None)["train"]()
    (folder / "train.jsonl").write_text('{"prompt": "x"}\n')
    assert len(find_splits(str(folder), None)["train"]()) == 1
    import datasets

    with pytest.raises((RuntimeError, ValueError)):
        datasets.load_dataset(str(folder / "films.py"))
    assert not ran.exists()


def dangers(source: str) -> list[str]:
    """Places of a source that run a text, or read a format that can."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if alias.name in IMPORTED]
        elif isinstance(node, ast.ImportFrom):
            found += [node.module or ""] if node.module in IMPORTED else []
        elif isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            given = {word.arg: ast.unparse(word.value) for word in node.keywords}
            is_danger = (
                name in CALLED
                or (name == "torch.load" and given.get("weights_only") != "True")
                or given.get("weights_only") == "False"
                or given.get("allow_pickle") == "True"
                or given.get("shell") == "True"
                or (name.startswith("yaml.") and "load" in name and "safe" not in name)
                or name in ("os.system", "pd.read_pickle", "pandas.read_pickle")
                or (name.endswith(".from_pretrained") and not is_safe_loading(name, given))
            )
            found += [name] if is_danger else []
    return found


def is_safe_loading(name: str, given: dict[str | None, str]) -> bool:
    """Whether a call of transformers or peft says what it trusts; configs of peft are JSON."""
    if name.startswith(("PeftConfig.", "PeftModel.")) or None in given:
        return True
    if "Tokenizer" in name or "Config" in name:
        return "trust_remote_code" in given
    return given.get("use_safetensors") == "True"


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from joblib import load",
        "eval(text)",
        "exec(text)",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "np.load(path, allow_pickle=True)",
        "yaml.load(text, yaml.Loader)",
        "yaml.full_load(text)",
        "subprocess.run(text, shell=True)",
        "AutoModelForCausalLM.from_pretrained(path)",
        "AutoTokenizer.from_pretrained(path)",
        "AutoConfig.from_pretrained(path)",
    ],
)
def test_the_scan_finds_what_it_should(source: str) -> None:
    """Prevents a scan that passes because it sees nothing."""
    assert len(dangers(source)) == 1


def test_no_source_reads_what_can_run() -> None:
    """Prevents a pickle, an `eval` or a loader without its guard from coming in."""
    assert dangers("model.eval()\ntorch.load(p, weights_only=True)\nyaml.safe_load(t)") == []
    for path in PACKAGE.rglob("*.py"):
        assert dangers(path.read_text()) == [], path


def test_only_open_formats_are_written(tiny_gpt2_dir: Path, tmp_path: Path) -> None:
    """Prevents a file in a run directory that must be unpickled."""
    trainer(tiny_gpt2_dir, tmp_path, log_samples_steps=1, num_agents=2).train()
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert [path.read_bytes() for path in written if path.name == LOCK] == [b""]
    endings = {path.suffix for path in written if path.name != LOCK}
    assert endings <= {
        *(".yaml", ".json", ".jsonl", ".parquet", ".safetensors", ".jinja", ".txt", ".md")
    }
