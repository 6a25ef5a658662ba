"""All that a run is made of, built from settings and from what the user brought."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from datasets import Dataset
from peft import PeftConfig, PeftModel
from transformers import BitsAndBytesConfig, PreTrainedModel, PreTrainedTokenizerBase

from cory.config import CORYConfig
from cory.evaluate import Evaluator
from cory.models import build_policies, ensure_pad_token, load_model, load_tokenizer
from cory.policy import LanguageModel, Policy, check_head
from cory.prompts import PromptEncoder, end_token_ids
from cory.rewards import RewardFunc, load_reward_funcs
from cory.roles import Templates
from cory.rollout import Rollout
from cory.sampling import LocalSampler, Sampler
from cory.tasks import load_task


@dataclass(frozen=True)
class Brought:
    """What the user hands over as objects; None: the settings name it."""

    model: PreTrainedModel | PeftModel | None = None
    reward_funcs: Any = None
    reward_processing_classes: Any = None
    train_dataset: Dataset | None = None
    eval_dataset: Dataset | None = None
    processing_class: PreTrainedTokenizerBase | None = None
    peft_config: PeftConfig | None = None
    quantization_config: BitsAndBytesConfig | None = None


@dataclass(frozen=True)
class Workbench:
    """Models, data and tools of one run."""

    args: CORYConfig
    tokenizer: PreTrainedTokenizerBase
    policies: list[Policy]
    reference: LanguageModel
    encoder: PromptEncoder
    sampler: Sampler
    reward_funcs: list[RewardFunc]
    train_dataset: Dataset
    eval_dataset: Dataset | None

    @property
    def rollout(self) -> Rollout:
        return Rollout(
            self.policies,
            self.reference,
            self.encoder,
            self.sampler,
            self.reward_funcs,
            self.tokenizer,
            self.args,
        )

    @property
    def evaluator(self) -> Evaluator:
        return Evaluator(
            self.reference,
            self.encoder,
            self.sampler,
            self.reward_funcs,
            self.tokenizer,
            self.args,
        )


def build_workbench(
    args: CORYConfig, brought: Brought, device: torch.device | str = "cpu"
) -> Workbench:
    """Load what the settings name, check that it fits together, and put it on the device.

    Raises:
        ValueError: something is missing or does not fit; the message has the fix.
    """
    tokenizer = _tokenizer(args, brought)
    train_dataset, eval_dataset, reward_funcs = _task(args, brought, tokenizer, device)
    model = brought.model
    if model is None:
        model = load_model(_model_name(args), args, brought.quantization_config)
    policies, reference = build_policies(model.to(device), args, brought.peft_config)
    for policy in policies:
        policy.to(device)
    end_ids = end_token_ids(tokenizer, reference.model.generation_config)
    templates = Templates(args.query_template, args.observer_template, args.reference_template)
    encoder = PromptEncoder(tokenizer, templates, end_ids)
    queries = train_dataset[args.prompt_column]
    check_context(queries, encoder, _context_length(reference), args)
    probe = torch.tensor([encoder.encode(queries[0], [])], device=device)
    check_head(reference, probe)
    sampler = LocalSampler(tokenizer.pad_token_id, end_ids, args.per_device_eval_batch_size)
    return Workbench(
        args=args,
        tokenizer=tokenizer,
        policies=policies,
        reference=reference,
        encoder=encoder,
        sampler=sampler,
        reward_funcs=reward_funcs,
        train_dataset=train_dataset,
        eval_dataset=eval_dataset,
    )


def _model_name(args: CORYConfig) -> str:
    if args.model_name_or_path is None:
        raise ValueError(
            "no model: pass `model`, or set model_name_or_path to a Hub name or a local directory"
        )
    return args.model_name_or_path


def _tokenizer(args: CORYConfig, brought: Brought) -> PreTrainedTokenizerBase:
    if brought.processing_class is not None:
        return ensure_pad_token(brought.processing_class)
    if brought.model is not None:
        name = brought.model.config._name_or_path
        return load_tokenizer(name or _model_name(args), args.trust_remote_code)
    return load_tokenizer(_model_name(args), args.trust_remote_code)


def _task(
    args: CORYConfig,
    brought: Brought,
    tokenizer: PreTrainedTokenizerBase,
    device: torch.device | str,
) -> tuple[Dataset, Dataset | None, list[RewardFunc]]:
    reward_funcs = None
    if brought.reward_funcs is not None:
        reward_funcs = load_reward_funcs(
            brought.reward_funcs, brought.reward_processing_classes, device
        )
    train_dataset, eval_dataset = brought.train_dataset, brought.eval_dataset
    if train_dataset is None or reward_funcs is None:
        task = load_task(args, tokenizer)
        if train_dataset is None:
            train_dataset, eval_dataset = task.train_dataset, eval_dataset or task.eval_dataset
        reward_funcs = reward_funcs or task.reward_funcs
    if len(train_dataset) == 0:
        raise ValueError("the training data set is empty: it needs at least one row")
    if args.prompt_column not in train_dataset.column_names:
        raise ValueError(
            f"prompt_column={args.prompt_column!r} is not a column of the training data set, which "
            f"has {', '.join(train_dataset.column_names)}: rename a column or set prompt_column"
        )
    return train_dataset, eval_dataset, reward_funcs


def _context_length(reference: LanguageModel) -> int | None:
    config = reference.model.config.get_text_config()
    return getattr(config, "max_position_embeddings", None)


def check_context(
    queries: Sequence[Any], encoder: PromptEncoder, context_length: int | None, args: CORYConfig
) -> None:
    """Refuse queries whose longest possible prompt and answer do not fit the model's context.

    Checked before training starts, because cutting a prompt would change what is asked.

    Raises:
        ValueError: names the longest query and the ways out.
    """
    if context_length is None:
        return
    num_answers = args.num_agents - 1 if args.knowledge_transfer else 0
    answers: list[list[int]] = [[] for _ in range(num_answers)]
    # An answer adds at most its tokens; a reference template may hold the query several times.
    room = (num_answers + 1) * args.max_completion_length
    lengths = [len(encoder.encode(query, answers)) + room for query in queries]
    too_long = [row for row, length in enumerate(lengths) if length > context_length]
    if too_long:
        row = max(too_long, key=lengths.__getitem__)
        raise ValueError(
            f"{len(too_long)} of {len(lengths)} queries do not fit the model's context of "
            f"{context_length} tokens; row {row} needs {lengths[row]} (prompt "
            f"{lengths[row] - room}, plus {num_answers + 1} × max_completion_length="
            f"{args.max_completion_length}). Leave such rows out of the data set, shorten the "
            "templates, or lower max_completion_length"
        )
