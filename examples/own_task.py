"""Your own queries, reward and template: openings of reviews, to be finished concisely."""

from datasets import load_dataset

from cory import CORYConfig, CORYTrainer


def concise(completions: list[str], limit: list[int], **columns: object) -> list[float]:
    """1 where the first sentence ends within `limit` words, a column of the data."""
    return [
        float("." in text and len(text.split(".")[0].split()) <= words)
        for text, words in zip(completions, limit, strict=True)
    ]


if __name__ == "__main__":
    rows = load_dataset("json", data_files="examples/openings.jsonl", split="train")
    splits = rows.train_test_split(test_size=0.2, seed=0)
    args = CORYConfig(
        observer_template="I can make this sentence {references} more positive: {query}",
        reference_template='"{query}{answer}"',
        max_completion_length=16,
        learning_rate=1e-4,
        max_steps=20,
        output_dir="runs/own-python",
    )
    trainer = CORYTrainer("pocket-reviews-lm", concise, args, splits["train"], splits["test"])
    print(trainer.train()["task_reward"])
