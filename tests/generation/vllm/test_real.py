"""The real vLLM, on loopback, with a tiny Llama and two agents' adapters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from cory.generation.vllm.server import ServerLostError
from cory.models.batch import make_batch
from cory.models.policy import LanguageModel
from cory.training.checkpoint import Checkpoints
from cory.training.trainer import CORYTrainer
from tests.generation.vllm.servers import Running, real_server
from tests.teams import ADAPTERS, disturb
from tests.tiny_models import save_tiny_llama
from tests.tiny_runs import queries, records, trainer

pytestmark = pytest.mark.slow
TOLERANCE = 1e-4
"""Nats by which two float32 engines may differ on a token."""


@pytest.mark.timeout(1200)
def test_the_real_server(tmp_path: Path) -> None:
    """Prevents a sampler that works with our idea of vLLM only.

    One test, as a server takes its time to start, and the last part ends it.
    """
    # Heads are as wide as vLLM's attention on a CPU wants them at least.
    llama = save_tiny_llama(tmp_path / "llama", head_dim=32)
    with real_server(llama, tmp_path / "server.log") as server:
        the_server_follows_the_adapters(server, llama, tmp_path / "follows")
        older_weights_leave_nothing_in_the_cache(server, llama, tmp_path / "cache")
        a_training_repeats(server, llama, tmp_path / "repeats")
        a_killed_server_ends_the_run_and_keeps_it(server, llama, tmp_path / "killed")


def training(server: Running, model: Path, output_dir: Path, **settings: Any) -> CORYTrainer:
    """At a rate that moves the adapters far from the base."""
    return trainer(
        model,
        output_dir,
        **{
            **ADAPTERS,
            "vllm_server_base_url": server.url,
            "learning_rate": 2e-2,
            "temperature": 0.8,
            "max_steps": 3,
            **settings,
        },
    )


def served_and_own(team: CORYTrainer, policy: LanguageModel) -> tuple[torch.Tensor, ...]:
    """Log-probabilities of served answers: the server's, those of the policy, those of the base."""
    bench = team.components
    prompts = [bench.encoder.encode(text, []) for text in queries()["prompt"]]
    generator = torch.Generator().manual_seed(5)
    answers = bench.sampler.generate(policy, prompts, 6, team.args.temperature, generator)
    assert answers.logprobs is not None
    batch = make_batch(prompts, answers.token_ids)
    mask = batch.response_mask
    own = [
        bench.scorer.score(model, batch).logprobs[mask]
        for model in team.policies
        if model is policy
    ]
    with torch.no_grad():
        base = bench.reference.logprobs(
            bench.reference.response_hidden(batch), batch.response_tokens, team.args.temperature
        )
    return answers.logprobs[mask], *own, base


def the_server_follows_the_adapters(server: Running, llama: Path, output_dir: Path) -> None:
    """Prevents a server that goes on answering with the weights before an update."""
    team = training(server, llama, output_dir)
    for step in range(3):
        metrics = team.iterate(step)
        for agent, policy in enumerate(team.policies):
            assert metrics[f"agent_{agent}/engine_logprob_difference_max"] < TOLERANCE
            assert metrics[f"agent_{agent}/first_ratio_error"] < 1e-5
            served, own, base = served_and_own(team, policy)
            torch.testing.assert_close(served, own, atol=TOLERANCE, rtol=0)
            assert (served - base).abs().max() > 100 * TOLERANCE
    served, base = served_and_own(team, team.components.reference)
    torch.testing.assert_close(served, base, atol=TOLERANCE, rtol=0)
    assert len(server.served()) == 2, "older versions are unloaded"


def a_training_repeats(server: Running, llama: Path, output_dir: Path) -> None:
    """Prevents answers that depend on more than the seed, and a merged team that is not served."""
    for name in ("once", "again"):
        training(
            server,
            llama,
            output_dir / name,
            eval_dataset=queries(4),
            evaluate_merged=True,
            log_samples_steps=1,
        ).train()
    once, again = (records(output_dir / name) for name in ("once", "again"))
    for left, right in zip(once, again, strict=True):
        assert left == pytest.approx(right, rel=1e-3, abs=1e-3)


def older_weights_leave_nothing_in_the_cache(
    server: Running, llama: Path, output_dir: Path
) -> None:
    """Prevents keys and values of older weights under a long prompt that was asked before."""
    team = training(server, llama, output_dir)
    policy = team.policies[0]
    prompt = [0, *range(40, 100)] * 3
    for seed in range(2):
        disturb(policy, seed=seed)
        for _ in range(2):
            generator = torch.Generator().manual_seed(1)
            answers = team.components.sampler.generate(policy, [prompt], 6, 0.8, generator)
            batch = make_batch([prompt], answers.token_ids)
            own = team.components.scorer.score(policy, batch).logprobs
            assert answers.logprobs is not None
            torch.testing.assert_close(answers.logprobs, own, atol=TOLERANCE, rtol=0)


def a_killed_server_ends_the_run_and_keeps_it(
    server: Running, llama: Path, output_dir: Path
) -> None:
    """Prevents hours lost to a server that ran out of memory."""
    team = training(server, llama, output_dir, vllm_server_timeout=2.0, max_steps=5)
    iterate = team.iterate

    def iterate_and_kill(step: int) -> dict[str, float]:
        if step == 2:
            server.kill()
        return iterate(step)

    team.iterate = iterate_and_kill
    with pytest.raises(ServerLostError, match=r"not answered for 2 seconds"):
        team.train()
    checkpoints = Checkpoints(output_dir, None)
    assert checkpoints.steps()[-1] == 2
