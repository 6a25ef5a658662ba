"""Agents on the Hub, whose API a server of this test stands in for."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import huggingface_hub
import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.trainer_utils import get_last_checkpoint

from cory import CORYTrainer
from cory.cli import main
from cory.config import CORYConfig
from cory.io.checksums import damage
from cory.io.errors import CoryRuntimeError
from cory.training.hub import planned_uploads
from tests.training.test_trackers import QUERIES

TOKEN = "hf_made_up"


class Hub(BaseHTTPRequestHandler):
    """The calls of the Hub's API that an upload of small files makes."""

    repos: dict[str, dict[str, Any]]
    refuses: bool

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = self.path.partition("?")[0].strip("/").split("/")
        if self.headers.get("Authorization") != f"Bearer {TOKEN}" or self.refuses:
            self._answer(403, {"error": "not allowed"})
        elif self.path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked.get('organization') or 'me'}/{asked['name']}"
            self.repos.setdefault(name, {"asked": asked, "files": {}})
            self._answer(200, {"url": f"{huggingface_hub.constants.ENDPOINT}/{name}"})
        elif parts[1:] == ["validate-yaml"]:
            self._answer(200, {"errors": [], "warnings": []})
        elif parts[4:5] == ["preupload"]:
            files = [
                {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False}
                for file in json.loads(body)["files"]
            ]
            self._answer(200, {"files": files})
        elif parts[4:5] == ["commit"]:
            files = self.repos["/".join(parts[2:4])]["files"]
            for line in map(json.loads, body.decode().splitlines()):
                if line["key"] == "file":
                    value = line["value"]
                    files[value["path"]] = base64.b64decode(value["content"])
            url = f"{huggingface_hub.constants.ENDPOINT}/{'/'.join(parts[2:4])}/commit/1"
            self._answer(200, {"commitUrl": url, "commitOid": "1", "success": True})
        else:
            self._answer(404, {"error": self.path})

    def do_GET(self) -> None:
        self._answer(404, {"error": self.path})

    def _answer(self, status: int, value: dict[str, Any]) -> None:
        text = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Hub]]:
    """A stand-in for the Hub, with a user who is logged in."""
    kind = type("Standin", (Hub,), {"repos": {}, "refuses": False})
    server = ThreadingHTTPServer(("127.0.0.1", 0), kind)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", address)
    monkeypatch.setattr(huggingface_hub.hf_api.api, "endpoint", address)
    yield kind
    server.shutdown()
    server.server_close()
    thread.join()


def train(model: Path, directory: Path, **settings: Any) -> CORYTrainer:
    """A finished run of two iterations in `directory/first`."""
    args = CORYConfig(
        model_name_or_path=str(model),
        output_dir=str(directory / "first"),
        max_steps=2,
        batch_size=4,
        max_completion_length=4,
        use_cpu=True,
        **settings,
    )

    def lengths(completions: list[str], **_: Any) -> list[float]:
        return [float(len(text)) for text in completions]

    rows: Any = {"train_dataset": QUERIES, "eval_dataset": QUERIES}
    trainer = CORYTrainer(args=args, reward_funcs=lengths, **rows)
    trainer.train()
    return trainer


def test_a_card_says_what_was_measured(tiny_gpt2_dir: Path, tmp_path: Path) -> None:
    """Prevents a card of blanks to fill in, and results of another step."""
    trainer = train(tiny_gpt2_dir, tmp_path, save_steps=1, seed=7)
    results = trainer.events.last_metrics
    assert results is not None
    folder = tmp_path / "first" / "checkpoints" / "step-2"
    card = (folder / "agent_1" / "README.md").read_text()
    reward, half = results["agent_1/task_reward"], results["agent_1/task_reward_ci95"]
    assert f"| task reward per answer | {reward:.3f} ± {half:.3f} |" in card
    assert "rows that were passed to the trainer as an object, 4 queries" in card
    assert "Reward: `lengths`" in card
    assert "seed: 7" in card
    assert str(tmp_path / "first") not in card
    assert "they kept their roles" in card
    metadata = huggingface_hub.ModelCard.load(folder / "agent_1" / "README.md").data
    assert metadata.library_name == "transformers"
    assert metadata.base_model is None, "a directory of this machine is no name on the Hub"
    earlier = (folder.parent / "step-1" / "agent_1" / "README.md").read_text()
    assert "Nothing was measured on held-out queries at this step" in earlier
    assert damage(folder, ("state.json",)) is None


def test_a_card_of_an_adapter_loads_as_one(tiny_gpt2_dir: Path, tmp_path: Path) -> None:
    """Prevents the card that peft writes, with `[More Information Needed]` in twenty places."""
    from peft import AutoPeftModelForCausalLM

    train(tiny_gpt2_dir, tmp_path, use_peft=True, num_agents=1)
    folder = tmp_path / "first" / "checkpoints" / "step-2" / "agent_0"
    card = (folder / "README.md").read_text()
    assert "More Information" not in card
    assert "AutoPeftModelForCausalLM" in card
    assert "agent_0 was trained from an initial model" in card
    AutoPeftModelForCausalLM.from_pretrained(folder)


def test_a_card_can_be_changed(tiny_gpt2_dir: Path, tmp_path: Path) -> None:
    """Prevents a checkpoint that counts as damaged because somebody wrote a sentence."""
    train(tiny_gpt2_dir, tmp_path)
    folder = tmp_path / "first" / "checkpoints" / "step-2"
    (folder / "agent_0" / "README.md").write_text("Mine.")
    assert damage(folder, ("state.json",)) is None


def test_transformers_finds_the_last_checkpoint(tiny_gpt2_dir: Path, tmp_path: Path) -> None:
    """Prevents scripts that resume from what `get_last_checkpoint` finds from starting again."""
    train(tiny_gpt2_dir, tmp_path, save_steps=1, save_total_limit=1)
    last = get_last_checkpoint(str(tmp_path / "first"))
    assert last == str(tmp_path / "first" / "checkpoint-2")
    assert json.loads((Path(last) / "trainer_state.json").read_text())["global_step"] == 2
    assert not (tmp_path / "first" / "checkpoint-1").exists()


def test_push_uploads_each_agent_with_its_card(
    hub: type[Hub], tiny_gpt2_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """Prevents a repository that nothing loads, or that lacks the card."""
    train(tiny_gpt2_dir, tmp_path)
    run = str(tmp_path / "first")
    main(["push", run, "team", "--dry-run"])
    shown = capsys.readouterr()
    assert "agent_1 → team-1 (" in shown.out
    assert "  model.safetensors" in shown.out
    assert hub.repos == {}
    main(["push", run, "team", "--private"])
    assert set(hub.repos) == {"me/team-0", "me/team-1"}
    assert hub.repos["me/team-1"]["asked"]["visibility"] == "private"
    assert capsys.readouterr().out.splitlines()[-1].endswith("/me/team-1")
    for path, content in hub.repos["me/team-1"]["files"].items():
        assert (Path(run) / "checkpoints" / "step-2" / "agent_1" / path).read_bytes() == content
        (tmp_path / path).write_bytes(content)
    assert (tmp_path / "README.md").read_text().startswith("---\n")
    AutoModelForCausalLM.from_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(tmp_path)
    main(["push", run, "them/one", "--agent", "agent_1"])
    assert "them/one" in hub.repos


def test_training_pushes_at_its_end(
    hub: type[Hub], tiny_gpt2_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """Prevents `push_to_hub` without effect, and a card without the last results."""
    train(tiny_gpt2_dir, tmp_path, push_to_hub=True, hub_model_id="me/sums", hub_private_repo=True)
    card = hub.repos["me/sums-0"]["files"]["README.md"].decode()
    assert "| task reward per answer |" in card
    assert "cory: uploaded" in capsys.readouterr().err


def test_a_refused_push_loses_nothing(
    hub: type[Hub], tiny_gpt2_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prevents a training that is done before anybody hears that it cannot be uploaded."""
    hub.refuses = True
    with pytest.raises(CoryRuntimeError, match="the Hub did not make first-0"):
        train(tiny_gpt2_dir, tmp_path, push_to_hub=True)
    assert not (tmp_path / "first" / "checkpoints").exists()
    hub.refuses = False
    monkeypatch.setattr(
        "cory.training.state.make_repositories", lambda *_: setattr(hub, "refuses", True)
    )
    with pytest.raises(CoryRuntimeError, match=r"finished and saved.*`cory push .*` tries again"):
        train(tiny_gpt2_dir, tmp_path / "again", push_to_hub=True)
    assert (tmp_path / "again" / "first" / "checkpoints" / "step-2").is_dir()


@pytest.mark.parametrize("repo", ["a/b/c", "-x", "runs with spaces"])
def test_names_that_the_hub_refuses_are_refused_here(tmp_path: Path, repo: str) -> None:
    """Prevents an upload that fails after hours of training."""
    args = CORYConfig(output_dir=str(tmp_path))
    (tmp_path / "checkpoints" / "step-1").mkdir(parents=True)
    for name in ("state.json", "state.safetensors"):
        (tmp_path / "checkpoints" / "step-1" / name).touch()
    with pytest.raises(ValueError, match="cannot be a repository on the Hub"):
        planned_uploads(tmp_path, args, repo)
    with pytest.raises(ValueError, match="no agent 'agent_7'"):
        planned_uploads(tmp_path, args, "fine", agent="agent_7")
