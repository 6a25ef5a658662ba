"""Reward functions: found by name, called in TRL's convention, checked, and added up."""

from cory.rewards.calling import RewardError
from cory.rewards.classifier import ClassifierReward
from cory.rewards.failures import RewardFailures
from cory.rewards.loading import load_reward_funcs, reward_device
from cory.rewards.scoring import Scores, score_completions
from cory.tasks import RewardFunc

__all__ = [
    "ClassifierReward",
    "RewardError",
    "RewardFailures",
    "RewardFunc",
    "Scores",
    "load_reward_funcs",
    "reward_device",
    "score_completions",
]
