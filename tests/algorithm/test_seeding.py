"""One seed, many purposes."""

from __future__ import annotations

import random

import numpy as np
import torch

from cory.algorithm.seeding import (
    derive_generator,
    derive_seed,
    preserved_global_generators,
    seed_global_generators,
)


def test_every_purpose_has_its_own_seed() -> None:
    """Prevents two agents or two steps from drawing the same random numbers."""
    purposes = [("sampling", step, agent) for step in range(50) for agent in range(3)]
    purposes += [("data", 0), ("data", "0"), ("da", "ta", 0), ()]
    seeds = {derive_seed(seed, *purpose) for purpose in purposes for seed in range(3)}
    assert len(seeds) == 3 * len(purposes)
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_seeds_are_the_same_on_every_machine() -> None:
    """Prevents `hash`, which differs between processes: the value is part of every run."""
    assert derive_seed(0, "data", 1) == 6769683688136725807


def test_generators_of_one_purpose_agree() -> None:
    """Prevents a generator that depends on the global random state."""
    first = torch.rand(3, generator=derive_generator(1, "sampling", 2))
    torch.manual_seed(5)
    assert torch.equal(torch.rand(3, generator=derive_generator(1, "sampling", 2)), first)


def test_global_generators_follow_the_seed() -> None:
    """Prevents initial adapters, and rewards that draw numbers, from differing between runs."""

    def draw(seed: int) -> tuple[float, float, float]:
        seed_global_generators(seed)
        return random.random(), float(np.random.rand()), float(torch.rand(()))

    first = draw(0)
    assert draw(1) != first
    assert draw(0) == first
    assert len(set(first)) == 3


def test_draws_inside_leave_no_trace() -> None:
    """Prevents one generator from being forgotten, and a failure inside from leaving a trace."""

    def draw() -> tuple[float, float, float]:
        return random.random(), float(np.random.rand()), float(torch.rand(()))

    seed_global_generators(3)
    expected = draw()
    seed_global_generators(3)
    try:
        with preserved_global_generators():
            assert draw() == expected
            raise ZeroDivisionError
    except ZeroDivisionError:
        assert draw() == expected
