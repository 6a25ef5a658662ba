"""Your own queries and reward: openings of film reviews, to be finished in a short sentence."""

from cory import CORYConfig, CORYTrainer


def concise(completions: list[str], limit: list[int], **columns: object) -> list[float]:
    """1 where the first sentence ends within `limit` words, a column of the data."""
    pairs = zip(completions, limit, strict=True)
    return [float("." in text and len(text.split(".")[0].split()) <= most) for text, most in pairs]


if __name__ == "__main__":
    args = CORYConfig(
        dataset_name="examples/openings.jsonl",
        observer_template="I can make this sentence {references} more positive: {query}",
        reference_template='"{query}{answer}"',
        learning_rate=1e-4,
        max_steps=20,
        output_dir="runs/own",
    )
    print(CORYTrainer("pocket-reviews-lm", concise, args).train()["task_reward"])
