"""Training through a server: the whole way, and what is left when the server goes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from transformers import TrainerCallback

from cory.cli import main
from cory.cli.settings import run_settings, saved_settings
from cory.generation.vllm.server import ServerLostError
from cory.training.checkpoint import Checkpoints
from cory.training.trainer import CORYTrainer
from tests.generation.vllm.servers import Running, computing_server
from tests.teams import ADAPTERS
from tests.tiny_runs import queries, records, same_bits, snapshot, trainer

STEPS = 4


def training(server: Running, model: Path, output_dir: Path, **settings: Any) -> CORYTrainer:
    return trainer(
        model,
        output_dir,
        **{
            **ADAPTERS,
            "vllm_server_base_url": server.url,
            "vllm_server_timeout": 10.0,
            "max_steps": STEPS,
            **settings,
        },
    )


class Killer(TrainerCallback):
    """Ends a server in the middle of an iteration, or after it."""

    def __init__(
        self, server: Running, step: int, *, questions: int = 11, after: bool = False
    ) -> None:
        self.server = server
        self.step = step
        self.questions = questions
        self.after = after

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == self.step and not self.after:
            self.server.meets(*["ok"] * self.questions, "die")

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == self.step and self.after:
            self.server.kill()


IMPATIENT = {"vllm_server_timeout": 1.0}
EVALUATED = {"eval_dataset": queries(2), "eval_steps": 2, "num_eval_queries": 2}


@pytest.fixture(scope="module")
def undisturbed(tiny_llama_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> CORYTrainer:
    """A finished training whose server stayed."""
    with computing_server(tiny_llama_dir) as server:
        whole = training(
            server, tiny_llama_dir, tmp_path_factory.mktemp("whole") / "run", **EVALUATED
        )
        whole.train()
    return whole


@pytest.mark.parametrize("after", [False, True], ids=["mid-iteration", "evaluation"])
def test_a_lost_server_stops_the_run_and_loses_nothing(
    tiny_llama_dir: Path, tmp_path: Path, undisturbed: CORYTrainer, after: bool
) -> None:
    """Prevents a dead server from costing iterations, or a resumed run from learning one twice."""
    with computing_server(tiny_llama_dir) as server:
        killer = Killer(server, step=2, after=after)
        stopped = training(
            server, tiny_llama_dir, tmp_path / "run", callbacks=[killer], **IMPATIENT, **EVALUATED
        )
        with pytest.raises(ServerLostError, match=r"not answered for 1 seconds .* --resume"):
            stopped.train()
    checkpoints = Checkpoints(tmp_path / "run", None)
    assert checkpoints.steps()[-1] == 2
    with computing_server(tiny_llama_dir, port=server.port) as again:
        resumed = training(again, tiny_llama_dir, tmp_path / "run", resume=True, **EVALUATED)
        resumed.train()
    for left, right in zip(undisturbed.agents, resumed.agents, strict=True):
        assert same_bits(snapshot(left), snapshot(right))
    assert records(tmp_path / "run")[-2:] == records(undisturbed.args.output_dir)[-2:]


@pytest.mark.parametrize(
    ("settings", "questions", "saved"),
    [({"merge_on_exchange": 0.5}, 11, []), ({"log_samples_steps": 3}, 16, [2])],
    ids=["pulled together", "for the record"],
)
def test_half_an_iteration_is_never_saved(
    tiny_llama_dir: Path,
    tmp_path: Path,
    settings: dict[str, Any],
    questions: int,
    saved: list[int],
) -> None:
    """Prevents a resumed run from merging, or learning, once more than it should.

    The agents are pulled together before they speak; and before they learn from their eight
    questions, the initial model answers for the record.
    """
    with computing_server(tiny_llama_dir) as server:
        killer = Killer(server, step=2, questions=questions)
        team = training(
            server, tiny_llama_dir, tmp_path, callbacks=[killer], **IMPATIENT, **settings
        )
        with pytest.raises(ServerLostError):
            team.train()
    assert Checkpoints(tmp_path, None).steps() == saved


def test_every_update_reaches_the_server(tiny_llama_dir: Path, tmp_path: Path) -> None:
    """Prevents an agent that answers with the weights it had before."""
    with computing_server(tiny_llama_dir) as server:
        training(server, tiny_llama_dir, tmp_path).train()
        served = server.served()
    assert len(served) == 2
    for line in records(tmp_path):
        for agent in ("agent_0", "agent_1"):
            assert line[f"{agent}/engine_logprob_difference_max"] < 1e-4
            assert line[f"{agent}/engine_importance"] == pytest.approx(1, abs=1e-4)
            assert line[f"{agent}/first_ratio_error"] < 1e-5
            assert line[f"{agent}/kl"] > 1e-3 or line["step"] == 1


def test_without_recomputing_the_first_ratio_tells_the_difference(
    tiny_llama_dir: Path, tmp_path: Path
) -> None:
    """Prevents a choice that is taken and not acted on."""
    with computing_server(tiny_llama_dir) as server:
        server.meets(*["raw"] * 17)
        team = training(server, tiny_llama_dir, tmp_path, temperature=1.0, recompute_logprobs=False)
        metrics = team.iterate(0)
    assert metrics["agent_0/first_ratio_error"] == pytest.approx(
        metrics["agent_0/engine_logprob_difference_max"], abs=1e-5
    )


def test_the_command_line(
    tiny_llama_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Prevents a traceback for a lost server, and a finished run that cannot be opened without."""
    queries(4).to_json(tmp_path / "queries.jsonl")
    (tmp_path / "rewards.py").write_text(
        "def short(completions, **columns): return [1 / (1 + len(text)) for text in completions]"
    )
    run = tmp_path / "run"
    words = [
        *("train", "--model_name_or_path", str(tiny_llama_dir), "--use_peft", "--lora_r", "4"),
        *("--dataset_name", str(tmp_path / "queries.jsonl"), "--use_cpu"),
        *("--reward_funcs", f"{tmp_path / 'rewards.py'}:short", "--output_dir", str(run)),
        *("--max_steps", "2", "--batch_size", "4", "--max_completion_length", "4"),
        *("--save_steps", "1", "--vllm_server_timeout", "1"),
    ]
    with computing_server(tiny_llama_dir) as server:
        main([*words, "--vllm_server_base_url", server.url])
    with pytest.raises(SystemExit) as stopped:
        main([*words, "--vllm_server_base_url", server.url, "--resume", "--max_steps", "3"])
    assert stopped.value.code == 3
    assert "has not answered for 1 seconds" in capsys.readouterr().err
    saved = saved_settings(run)
    assert saved is not None
    assert saved["vllm_server_base_url"] == server.url
    assert run_settings(saved, {}).vllm_server_base_url is None
    main(["generate", str(run), "--prompt", "It"])
