"""GSM8K (Cobbe et al. 2021, arXiv 2110.14168): school mathematics in words, checked exactly.

The defaults are the objective-reward setting of the CORY paper (arXiv 2410.06101).
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from cory.tasks import Task
from cory.tasks.custom import check_queries
from cory.tasks.final_number import final_number

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

    from cory.config import CORYConfig

EXAMPLE = """\
Question: A baker makes 4 trays of rolls, with 12 rolls on each tray. She keeps 6 rolls for her \
family and sells the rest for $2 each. How many dollars does she earn?
Answer: The baker makes 4 * 12 = 48 rolls.
She sells 48 - 6 = 42 rolls.
She earns 42 * 2 = $84.
#### 84

"""

DEFAULTS: dict[str, Any] = {
    "dataset_name": "openai/gsm8k",
    "dataset_config": "main",
    "query_template": EXAMPLE + "Question: {query}\nAnswer:",
    "observer_template": EXAMPLE + "Question: {query}\n{references}Answer:",
    "reference_template": "Reference: {answer}\n",
    "model_name_or_path": "meta-llama/Llama-2-7b-chat-hf",
    "use_peft": True,
    "load_in_4bit": True,
    "max_completion_length": 256,
    # The paper's minibatch of 2 with 16 steps of accumulation: one optimizer step per pass.
    "batch_size": 32,
    "num_mini_batches": 1,
    "per_device_train_batch_size": 2,
    "per_device_eval_batch_size": 32,
    "num_ppo_epochs": 4,
    "max_steps": 100,
    "learning_rate": 1e-4,
    "kl_coef": 0.01,
    "kl_estimator": "full",
    "kl_placement": "reward",
}


def gsm8k_reward(
    completions: Sequence[str | list[dict[str, Any]]],
    answer: Sequence[str],
    **kwargs: Any,
) -> list[float]:
    """1 for each completion whose final number equals the gold number exactly, else 0.

    Args:
        completions: texts, or chat messages of which the last one counts.
        answer: the published column, in which the gold number follows `####`.
        kwargs: other columns, not used.

    Raises:
        ValueError: the two differ in length, or an answer holds no number.
    """
    if len(completions) != len(answer):
        raise ValueError(
            f"gsm8k_reward got {len(completions)} completions and {len(answer)} answers; pass the "
            "gold answer of every completion."
        )
    golds = [gold_number(gold) for gold in answer]
    texts = [text if isinstance(text, str) else str(text[-1]["content"]) for text in completions]
    return [float(final_number(text) == gold) for text, gold in zip(texts, golds, strict=True)]


def gold_number(answer: str) -> Fraction:
    """The number after the last `####` of a published solution (`answer` may be just a number).

    Raises:
        ValueError: there is none.
    """
    number = final_number(str(answer).rpartition("####")[2])
    if number is None:
        raise ValueError(
            f"GSM8K answer {answer!r} holds no number; pass the published column `answer`, whose "
            "last line reads `#### 72`."
        )
    return number


def load(args: CORYConfig, tokenizer: PreTrainedTokenizerBase) -> Task:
    """Questions as queries; `answer` travels with them to the reward function.

    Raises:
        ValueError: the data set cannot be found or lacks `question` or `answer`.
    """
    from cory.tasks.data import load_splits, require_columns, task_rewards

    name = args.dataset_name or DEFAULTS["dataset_name"]
    columns = ["question", "answer"]

    def check(split: Dataset) -> None:
        check_queries(require_columns(split, columns, name), "question", name)

    train_dataset, eval_dataset = (
        split.select_columns(columns).rename_columns({"question": args.prompt_column})
        for split in load_splits(args, name, check)
    )
    return Task(train_dataset, eval_dataset, task_rewards(args, args.reward_funcs or gsm8k_reward))
