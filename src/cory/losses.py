"""Public name of `cory.algorithm.losses`."""

from cory.algorithm.losses import *  # noqa: F403
