"""IMDB reviews (Maas et al. 2011): finish the opening of a review so that it sounds positive.

The defaults are the subjective-reward setting of the CORY paper (arXiv 2410.06101).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cory.tasks import Task

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

    from cory.config import CORYConfig

MIN_QUERY_TOKENS = 2
MAX_QUERY_TOKENS = 8

# Eight tokens are about 40 characters; tokenising whole reviews would take minutes.
OPENING_CHARACTERS = 120

DEFAULTS: dict[str, Any] = {
    "dataset_name": "stanfordnlp/imdb",
    "reward_model_name_or_path": "lvwerra/distilbert-imdb",
    "query_template": "{query}",
    "observer_template": "I can make this sentence {references} more positive: {query}",
    "reference_template": '"{query}{answer}"',
    "model_name_or_path": "gpt2-large",
    "min_completion_length": 4,
    "max_completion_length": 15,
    "batch_size": 256,
    "num_mini_batches": 1,
    "num_ppo_epochs": 4,
    "max_steps": 100,
    "learning_rate": 1.41e-5,
    "kl_coef": 0.3,
    "kl_estimator": "full",
    "kl_placement": "reward",
}


def load(args: CORYConfig, tokenizer: PreTrainedTokenizerBase) -> Task:
    """Openings of 2 to 8 tokens as queries; the reward is the logit of "positive".

    The lengths of the training queries follow `args.seed`. Those of the held-out queries do not, so
    that runs with different seeds are evaluated on the same queries.

    Raises:
        ValueError: the data set or the reward model cannot be found, or there is no column `text`.
    """
    from cory.tasks.data import load_splits, task_rewards

    name = args.dataset_name or DEFAULTS["dataset_name"]
    train_dataset, eval_dataset = load_splits(args, name)
    reward_model = args.reward_model_name_or_path or DEFAULTS["reward_model_name_or_path"]
    return Task(
        openings(train_dataset, tokenizer, args.prompt_column, args.seed, name),
        openings(eval_dataset, tokenizer, args.prompt_column, 0, name),
        task_rewards(args, args.reward_funcs or reward_model),
    )


def openings(
    reviews: Dataset, tokenizer: PreTrainedTokenizerBase, prompt_column: str, seed: int, name: str
) -> Dataset:
    """The first k tokens of every review, as text in `prompt_column`.

    k is drawn evenly from 2 to 8 and depends on `seed` and the review's row only.
    Reviews of fewer than k tokens, and the rare ones cut inside a character, are left out. `label`
    is kept where there is one.

    Raises:
        ValueError: there is no column `text`, or no review is long enough.
    """
    import numpy
    from datasets import Dataset

    from cory.tasks.data import require_columns

    texts = [
        " ".join(text[: 2 * OPENING_CHARACTERS].replace("<br />", " ").split())[:OPENING_CHARACTERS]
        for text in require_columns(reviews, ["text"], name)["text"][:]
    ]
    lengths = numpy.random.default_rng(seed).integers(
        MIN_QUERY_TOKENS, MAX_QUERY_TOKENS, size=len(texts), endpoint=True
    )
    token_ids = tokenizer(texts, add_special_tokens=False)["input_ids"]
    queries = tokenizer.batch_decode(
        [ids[:length] for ids, length in zip(token_ids, lengths, strict=True)],
        skip_special_tokens=True,
        clean_up_tokenization_spaces=False,
    )
    kept = [
        row
        for row, query in enumerate(queries)
        if len(token_ids[row]) >= lengths[row] and query.strip() and not query.endswith("\ufffd")
    ]
    if not kept:
        raise ValueError(
            f"Data set {name!r} has no review of {MAX_QUERY_TOKENS} tokens; give longer texts."
        )
    columns: dict[str, list[Any]] = {prompt_column: [queries[row] for row in kept]}
    if "label" in reviews.column_names:
        labels = reviews["label"][:]
        columns["label"] = [labels[row] for row in kept]
    return Dataset.from_dict(columns)
