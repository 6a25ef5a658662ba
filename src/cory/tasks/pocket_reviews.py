"""Pocket reviews: finish the opening of a short film review so that it sounds positive.

The small sibling of `cory.tasks.imdb`, with models and openings that come with the package. They
were made from a grammar, see `scripts/pocket`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cory.tasks import Task

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from cory.config import CORYConfig

DEFAULTS: dict[str, Any] = {
    "model_name_or_path": "pocket-reviews-lm",
    "reward_model_name_or_path": "pocket-reviews-reward",
    "dataset_name": "pocket-reviews-data",
    "query_template": "{query}",
    "observer_template": "I can make this sentence {references} more positive: {query}",
    "reference_template": '"{query}{answer}"',
    "max_completion_length": 16,
    "batch_size": 128,
    "learning_rate": 3e-4,
    "kl_coef": 0.1,
    "num_ppo_epochs": 2,
    "num_mini_batches": 1,
    "normalize_rewards": True,
    "max_steps": 60,
}


def load(args: CORYConfig, tokenizer: PreTrainedTokenizerBase) -> Task:
    """Openings of 2 to 8 tokens as queries; the reward is the logit of "positive".

    Openings are cut as in the imdb task. Short ones repeat ("I saw"), so those of the held-out
    split are taken out of the training split.

    Raises:
        ValueError: the data set or the reward model cannot be found, or there is no column `text`.
    """
    from cory.assets import asset_path
    from cory.rewards.loading import load_reward_funcs, reward_device
    from cory.tasks.data import load_splits
    from cory.tasks.imdb import openings

    name = args.dataset_name or DEFAULTS["dataset_name"]
    train_reviews, eval_reviews = load_splits(args, asset_path(name))
    eval_dataset = openings(eval_reviews, tokenizer, args.prompt_column, 0, name)
    train_dataset = openings(train_reviews, tokenizer, args.prompt_column, args.seed, name)
    held_out = set(eval_dataset[args.prompt_column])
    rows = [
        row for row, query in enumerate(train_dataset[args.prompt_column]) if query not in held_out
    ]
    reward_model = args.reward_model_name_or_path or DEFAULTS["reward_model_name_or_path"]
    return Task(
        train_dataset.select(rows),
        eval_dataset,
        load_reward_funcs(
            args.reward_funcs or asset_path(reward_model),
            device=reward_device(args),
            trust_remote_code=args.trust_remote_code,
        ),
    )
