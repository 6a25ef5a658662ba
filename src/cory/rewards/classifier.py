"""Sequence-classification models as reward functions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from cory.assets import asset_path
from cory.io.hub import asking_the_hub
from cory.models.complete import check_json_objects
from cory.models.loading import ensure_pad_token, readable
from cory.models.pickles import refuse_pickled_weights

POSITIVE_LABELS = frozenset({"positive", "pos", "label_1"})
# A tokenizer that knows no limit says 10^30.
NO_LIMIT = 10**9
BATCH_SIZE = 64


class ClassifierReward:
    """Pays a completion with a logit of a sequence-classification model.

    The model reads prompt + completion in float32, without dropout; the logit is the only one, or
    that of the positive label of two. Texts longer than it can read are truncated on the
    tokenizer's truncation side. Chat messages pass through the tokenizer's chat template where it
    has one; else their contents are joined by newlines.

    Args:
        model: Hub name, directory, embedded asset, or a loaded model, which is moved and set to
            evaluation.
        tokenizer: of the model; None: the one saved with it.
        device: where it runs.
        trust_remote_code: run code that comes with the model.

    Raises:
        ValueError: the model cannot be loaded, has no trained classification head or more than two
            labels, or its tokenizer has no token to pad with.
    """

    def __init__(
        self,
        model: str | PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase | None = None,
        device: torch.device | str = "cpu",
        trust_remote_code: bool = False,
    ) -> None:
        name = asset_path(model) if isinstance(model, str) else model.config._name_or_path
        loaded = _load_classifier(name, trust_remote_code) if isinstance(model, str) else model
        self.__name__ = name.rstrip("/").rpartition("/")[2] or type(loaded).__name__
        self.label = reward_label(loaded.config, name)
        # Where code comes with it and nothing is said of trust, transformers asks on the terminal.
        what = f"Reward model {name!r} has no tokenizer that can be loaded"
        with readable(what), asking_the_hub(name):
            self.tokenizer: PreTrainedTokenizerBase = tokenizer or AutoTokenizer.from_pretrained(
                name, trust_remote_code=trust_remote_code
            )
        try:
            ensure_pad_token(self.tokenizer)
        except ValueError as error:
            raise ValueError(
                f"Reward model {name!r}: {error}, and pass it in reward_processing_classes"
            ) from None
        self.model = loaded.eval().requires_grad_(False)
        self.model.to(device=torch.device(device), dtype=torch.float32)  # pyright: ignore[reportCallIssue]
        if self.model.config.pad_token_id is None:
            # Decoder models find the last real token by it.
            self.model.config.pad_token_id = self.tokenizer.pad_token_id
        self.max_length = max_input_length(self.tokenizer, self.model.config)

    @torch.inference_mode()
    def __call__(
        self, prompts: Sequence[Any], completions: Sequence[Any], **columns: Any
    ) -> list[float]:
        """The logit of each prompt + completion."""
        texts = [
            self._text(prompt, completion)
            for prompt, completion in zip(prompts, completions, strict=True)
        ]
        # A chat template has written them already.
        add_special_tokens = isinstance(prompts[0], str) or not self.tokenizer.chat_template
        # Texts of similar length share a batch: less padding.
        order = sorted(range(len(texts)), key=lambda row: len(texts[row]))
        rewards = [0.0] * len(texts)
        for start in range(0, len(order), BATCH_SIZE):
            rows = order[start : start + BATCH_SIZE]
            inputs = self.tokenizer(
                [texts[row] for row in rows],
                add_special_tokens=add_special_tokens,
                padding=True,
                truncation=True,
                max_length=self.max_length,
                return_tensors="pt",
            ).to(self.model.device)
            logits = self.model(**inputs).logits[:, self.label]
            for row, reward in zip(rows, logits.tolist(), strict=True):
                rewards[row] = reward
        return rewards

    def _text(self, prompt: Any, completion: Any) -> str:
        if isinstance(prompt, str):
            return prompt + completion
        messages = [*prompt, *completion]
        if self.tokenizer.chat_template:
            return str(self.tokenizer.apply_chat_template(messages, tokenize=False))
        return "\n".join(str(message["content"]) for message in messages)


def reward_label(config: Any, name: str) -> int:
    """Index of the logit that pays: the only one, or the positive label's of two.

    Raises:
        ValueError: there are more than two.
    """
    if config.num_labels > 2:
        raise ValueError(
            f"Reward model {name!r} has {config.num_labels} labels ({sorted(config.label2id)}); a "
            "reward needs one or two. Write a reward function that picks or mixes its logits."
        )
    for label, index in config.label2id.items():
        if str(label).lower() in POSITIVE_LABELS:
            return int(index)
    return config.num_labels - 1


def max_input_length(tokenizer: PreTrainedTokenizerBase, config: Any) -> int | None:
    """Tokens that the model can read at once; None when neither side knows a limit."""
    positions = getattr(config, "max_position_embeddings", None)
    if positions is not None and "roberta" in config.model_type:
        positions -= config.pad_token_id + 1  # its positions start after the padding index
    limits = [tokenizer.model_max_length, positions]
    return min((limit for limit in limits if limit and limit < NO_LIMIT), default=None)


def _load_classifier(name: str, trust_remote_code: bool) -> PreTrainedModel:
    refuse_pickled_weights(name, "AutoModelForSequenceClassification")
    what = (
        f"Reward {name!r} is not an import path (package.module.function, file.py:function), "
        "and no sequence-classification model could be loaded from it"
    )
    with readable(what), asking_the_hub(name):
        check_json_objects(name)
        model, report = AutoModelForSequenceClassification.from_pretrained(
            name,
            dtype=torch.float32,
            output_loading_info=True,
            trust_remote_code=trust_remote_code,
            use_safetensors=True,
        )
    if report["missing_keys"]:
        raise ValueError(
            f"Reward model {name!r} lacks {sorted(report['missing_keys'])}: it was not trained to "
            "classify, and its rewards would be random. Name a sequence-classification model."
        )
    return model
