"""A chat model, chat data and a reward that need no download, for the tutorial on LoRA.

    python -m examples.pocket_chat runs/chat

The model is the embedded `pocket-arithmetic-lm` with a chat template. Each row of the data has a
user's message, such as `3+4+2-1`, and the column `answer`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from transformers import AutoModelForCausalLM, AutoTokenizer

from cory.assets import asset_path
from cory.tasks.pocket_arithmetic import final_value, solve, split_queries

CHAT_TEMPLATE = (
    "{% for message in messages %}{{ message['content'] }}{% endfor %}"
    "{% if add_generation_prompt %}={% endif %}"
)
NUM_ROWS = {"train": 2048, "test": 256}


Message = dict[str, str]


def correct(completions: list[list[Message]], answer: list[int], **columns: object) -> list[float]:
    """1 where the last number of the assistant's message is `answer`, a column of the data."""
    texts = [messages[-1]["content"] for messages in completions]
    return [float(final_value(text) == true) for text, true in zip(texts, answer, strict=True)]


def main(directory: Path) -> None:
    """Write `directory/model`, `directory/data/train.jsonl` and `directory/data/test.jsonl`."""
    source = asset_path("pocket-arithmetic-lm")
    tokenizer = AutoTokenizer.from_pretrained(source)
    tokenizer.chat_template = CHAT_TEMPLATE
    tokenizer.save_pretrained(directory / "model")
    AutoModelForCausalLM.from_pretrained(source).save_pretrained(directory / "model")
    (directory / "data").mkdir(parents=True, exist_ok=True)
    for split, num_rows in NUM_ROWS.items():
        queries = split_queries(num_rows, held_out=split == "test", seed=0)
        lines = [json.dumps(row(query)) + "\n" for query in queries]
        (directory / "data" / f"{split}.jsonl").write_text("".join(lines))
    print(f"wrote {directory / 'model'} and {directory / 'data'}")


def row(query: str) -> dict[str, object]:
    """One line of the data: chat messages, and what the reward function needs."""
    return {"prompt": [{"role": "user", "content": query}], "answer": solve(query)}


if __name__ == "__main__":
    main(Path(sys.argv[1]))
