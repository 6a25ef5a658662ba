"""Public name of `cory.algorithm.advantages`."""

from cory.algorithm.advantages import *  # noqa: F403
