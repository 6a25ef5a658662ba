"""Memory that runs out: smaller passes, the same result, and no step on half a gradient."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

from cory.distributed.memory import MemoryLimitError, PassSize, is_out_of_memory
from cory.models.policy import Policy
from cory.models.weights import Adapter
from cory.training.trainer import CORYTrainer
from tests.tiny_runs import records, same_bits, snapshot, trainer


@contextmanager
def little_memory(policy: Policy, rows: int, only_backward: bool = False) -> Iterator[list[int]]:
    """A device on which more than some rows do not fit; yields the sizes that were tried.

    With `only_backward` it is the gradient of the first layer that does not fit: those of all later
    layers are there by then.
    """
    tried: list[int] = []

    def refuse(size: int) -> None:
        if size > rows:
            raise torch.OutOfMemoryError("the device is out of memory")

    def forward(module: nn.Module, inputs: Any, output: Tensor) -> None:
        size = len(output)
        if not only_backward:
            tried.append(size)
            refuse(size)
        elif output.requires_grad:
            tried.append(size)
            output.register_hook(lambda gradient: refuse(size))

    hook = first_layer(policy).register_forward_hook(forward)
    try:
        yield tried
    finally:
        hook.remove()


def first_layer(policy: Policy) -> nn.Module:
    """The first that has weights of the policy: the embedding, or a layer with an adapter."""
    if isinstance(policy.weights, Adapter):
        return next(part for part in policy.model.modules() if isinstance(part, LoraLayer))
    return policy.model.get_input_embeddings()


def learnt(team: CORYTrainer, rows: int | None = None, only_backward: bool = False) -> list[int]:
    """Let the team answer, then learn with little memory; return the sizes tried by agent 0."""
    records = team.rollout.run(team.queries(0), 0).records
    tried: list[int] = []
    for record in records:
        agent = team.agents[record.generation.agent]
        if rows is None:
            agent.update(record, 0, records)
            continue
        with little_memory(agent.policy, rows, only_backward) as found:
            agent.update(record, 0, records)
        tried = tried or found
    return tried


@pytest.mark.parametrize("only_backward", [False, True], ids=["forward", "backward"])
@pytest.mark.parametrize("options", [{}, {"use_peft": True}], ids=["full", "adapters"])
def test_learning_is_what_smaller_passes_would_have_learnt(
    tiny_gpt2_dir: Path,
    tmp_path: Path,
    options: dict[str, Any],
    only_backward: bool,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Prevents a step on the part of a gradient that was there when memory ran out.

    In the mini-batch where it happens nothing of the first attempt may be left: the result is the
    one of passes of two rows from the start, bit for bit.
    """
    options = {"num_mini_batches": 2, "transfer_back_weight": 0.5, "batch_size": 16, **options}
    small = trainer(tiny_gpt2_dir, tmp_path / "small", per_device_train_batch_size=2, **options)
    scarce = trainer(tiny_gpt2_dir, tmp_path / "scarce", **options)
    learnt(small)
    tried = learnt(scarce, rows=2, only_backward=only_backward)
    assert list(dict.fromkeys(tried))[:3] == [8, 4, 2], "each size is tried once"
    assert tried.count(8) == tried.count(4) == 1
    told = capsys.readouterr().err
    assert "out of memory in learning, agent_0 with 8 sequences at a time; from now on 4" in told
    assert "with 4 sequences at a time; from now on 2" in told
    assert all(map(same_bits, map(snapshot, scarce.agents), map(snapshot, small.agents)))


def test_the_gradient_is_that_of_one_whole_pass(tiny_gpt2_dir: Path, tmp_path: Path) -> None:
    """Prevents smaller passes from weighing answers otherwise, or from counting some twice."""
    team = trainer(tiny_gpt2_dir, tmp_path)
    (first, _) = team.rollout.run(team.queries(0), 0).records
    agent = team.agents[0]
    samples, _ = agent.make_train_samples(first)

    def gradient() -> list[Tensor]:
        agent.passes.attempt(lambda: agent._gradient([samples]))
        return [
            weight.grad.clone()
            for weight in agent.policy.trainable_parameters()
            if weight.grad is not None
        ]

    whole = gradient()
    with little_memory(agent.policy, rows=1, only_backward=True) as tried:
        scarce = gradient()
    assert tried == [8, 4, 2, *[1] * 8]
    assert len(whole) == len(scarce) > 10
    for ours, theirs in zip(scarce, whole, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-4)


def test_sampling_and_scoring_need_less_memory_too(
    tiny_gpt2_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Prevents a run that ends in its first rollout, where only gradients were provided for."""
    whole = trainer(tiny_gpt2_dir, tmp_path / "whole", recompute_logprobs=True)
    whole.train()
    scarce = trainer(tiny_gpt2_dir, tmp_path / "scarce", recompute_logprobs=True)
    with little_memory(scarce.policies[0], rows=3) as tried:
        scarce.train()
    assert max(tried) == 8
    told = capsys.readouterr().err
    assert "out of memory in sampling with 8 sequences at a time; from now on 4" in told
    assert "out of memory in sampling with 4 sequences at a time; from now on 2" in told
    for ours, theirs in zip(records(tmp_path / "scarce"), records(tmp_path / "whole"), strict=True):
        for name in ("task_reward", "kl", "entropy", "policy_loss", "grad_norm"):
            assert ours[f"agent_0/{name}"] == pytest.approx(
                theirs[f"agent_0/{name}"], abs=1e-5, rel=1e-3
            )


def test_one_sequence_that_does_not_fit_ends_the_run(tiny_gpt2_dir: Path, tmp_path: Path) -> None:
    """Prevents an endless loop, and an error that does not say what could be done."""
    team = trainer(tiny_gpt2_dir, tmp_path)
    before = snapshot(team.agents[0])
    with pytest.raises(
        MemoryLimitError, match=r"learning, agent_0, with one sequence at a time: .*gradient_check"
    ):
        learnt(team, rows=0)
    assert same_bits(snapshot(team.agents[0]), before)


def test_other_errors_are_not_tried_again() -> None:
    """Prevents a mistake from being repeated until it is one of memory."""
    calls: list[int] = []

    def work() -> None:
        calls.append(1)
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes do not match"):
        PassSize("learning").attempt(work)
    assert calls == [1]
    assert is_out_of_memory(MemoryError())
    assert not is_out_of_memory(RuntimeError("index out of range"))


REAL = """
import resource, sys, torch
from pathlib import Path
from cory import CORYTrainer
from tests.tiny_runs import trainer, records
model, out = Path(sys.argv[1]), Path(sys.argv[2])
options = dict(
    batch_size=512, max_completion_length=40, max_steps=1, num_ppo_epochs=1,
    per_device_train_batch_size=512, recompute_logprobs=False, role_exchange_period=None,
)
from cory.models import policy
policy.TOKENS_PER_PASS["cpu"] = 10**9
team = trainer(model, out, num_agents=1, **options)
(record,) = team.rollout.run(team.queries(0), 0).records
agent = team.agents[0]
agent._gradient([agent.make_train_samples(record)[0].select(torch.arange(1))])
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + int(sys.argv[3]) * 2**20,) * 2)
metrics = agent.update(record, 0)
print("limit", agent.passes.limit, "norm", repr(metrics["grad_norm"]), metrics["optimizer_steps"])
"""


@pytest.mark.slow
def test_a_real_allocation_that_fails(tiny_gpt2_dir: Path, tmp_path: Path) -> None:
    """Prevents a rule that knows errors of tests only: here the operating system refuses memory."""

    def norm(mebibytes: int) -> tuple[str, float, str]:
        done = subprocess.run(
            [sys.executable, "-c", REAL, tiny_gpt2_dir, tmp_path / f"{mebibytes}", f"{mebibytes}"],
            capture_output=True,
            text=True,
            timeout=400,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        _, limit, _, value, steps = done.stdout.split()
        assert float(steps) == 1
        return limit, float(value), done.stderr

    limit, scarce, told = norm(8)
    assert limit != "None"
    assert "DefaultCPUAllocator: can't allocate memory" in told
    limit, plenty, _ = norm(8192)
    assert limit == "None"
    assert scarce == pytest.approx(plenty, rel=1e-4)
