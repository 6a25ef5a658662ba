"""The algorithm in one file is the algorithm of the library."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import Tensor

from cory.models.policy import Policy
from cory.team.roles import exchange_is_due
from cory.training.trainer import CORYTrainer
from examples import minimal_loop

# Mini-batches so large that an observer's are computed in several passes.
SIZES = {"max_steps": 3, "role_exchange_period": 2, "batch_size": 48, "num_mini_batches": 2}


def weights(policy: Policy) -> Tensor:
    return torch.cat([weight.detach().flatten() for weight in policy.trainable_parameters()])


def test_the_example_trains_the_weights_of_the_trainer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Prevents an example that explains another algorithm than the library's."""
    assert torch.get_num_threads() == 1, "several threads add gradients in another order"
    args = minimal_loop.ARGS.replace(**SIZES, output_dir=str(tmp_path))
    steps = range(args.max_steps)
    assert any(exchange_is_due(step, args.role_exchange_period) for step in steps)
    trainer = CORYTrainer(args=args)
    initial = weights(trainer.policies[0])
    for step in steps:
        trainer.iterate(step)
    agents = [weights(policy) for policy in minimal_loop.train(args)]
    assert len(capsys.readouterr().out.splitlines()) == len(steps)
    for agent, policy in zip(agents, trainer.policies, strict=True):
        assert torch.equal(agent, weights(policy))
        assert (agent != initial).float().mean() > 0.9, "most weights were never trained"
    assert not any(torch.equal(*pair) for pair in pairwise(agents)), "the agents did not differ"


def test_the_example_fits_on_a_few_screens() -> None:
    """Prevents an example that grows with the library."""
    assert len(Path(minimal_loop.__file__).read_text().splitlines()) <= 120
