"""Public name of `cory.algorithm.losses` and `cory.algorithm.policy_losses`."""

from cory.algorithm.losses import *  # noqa: F403
from cory.algorithm.policy_losses import *  # noqa: F403
