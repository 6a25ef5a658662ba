"""Pocket reviews: finish the opening of a short film review so that it sounds positive.

The small sibling of `cory.tasks.imdb`, with models and openings that come with the package. They
were made from a grammar, see `scripts/pocket`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from cory.assets import asset_path
from cory.tasks import Task, imdb

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

    Openings are cut as in the imdb task. The packaged ones were drawn from the grammar one by one,
    so their order is random. Short ones repeat ("I saw"), so those of the held-out
    split are taken out of the training split.

    Raises:
        ValueError: the data set or the reward model cannot be found, or there is no column `text`.
    """
    named = {
        name: asset_path(getattr(args, name) or DEFAULTS[name])
        for name in ("dataset_name", "reward_model_name_or_path")
    }
    task = imdb.load(args.replace(**named), tokenizer)
    held_out = set(task.eval_dataset[args.prompt_column])
    queries = task.train_dataset[args.prompt_column]
    rows = [row for row, query in enumerate(queries) if query not in held_out]
    return replace(task, train_dataset=task.train_dataset.select(rows))
