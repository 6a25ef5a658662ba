"""Builds the components of a run from its settings and from the objects that the user passed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from datasets import Dataset, IterableDataset
from peft import PeftConfig, PeftModel
from transformers import BitsAndBytesConfig, PreTrainedModel, PreTrainedTokenizerBase

from cory.algorithm.filtering import TokenFilter
from cory.config import CORYConfig
from cory.distributed.world import SINGLE, World
from cory.generation.local import LocalSampler, Sampler
from cory.generation.probe import probe_models
from cory.generation.vllm.sampler import VllmSampler, check_same_distribution
from cory.models.complete import check_object
from cory.models.cpu import keep_freed_memory
from cory.models.layers import hold_in_bfloat16
from cory.models.loading import build_policies, ensure_pad_token, load_model, load_tokenizer
from cory.models.packing import has_bfloat16_products
from cory.models.policy import LanguageModel, Policy
from cory.models.scoring import TokenScorer
from cory.models.weights import Adapter, check_mergeable
from cory.rewards.calling import RewardFunc
from cory.rewards.failures import RewardFailures
from cory.rewards.loading import load_reward_funcs
from cory.rewards.scoring import RewardScorer
from cory.tasks import load_task
from cory.tasks.custom import load_queries
from cory.team.evaluation import Evaluator
from cory.team.kl_penalty import KL_PENALTIES, KL_PLACEMENTS
from cory.team.messages import is_chat
from cory.team.prompts import PromptEncoder, make_encoder
from cory.team.rollout import Rollout
from cory.training.data import Stream, queries_at
from cory.training.given import UNNAMED, EvalRows, GivenRows, given_rows, words_for
from cory.training.query_checks import Limits, checked_rows


@dataclass(frozen=True)
class UserObjects:
    """Objects that the user passed; None: the settings name it."""

    model: PreTrainedModel | PeftModel | None = None
    reward_funcs: Any = None
    reward_processing_classes: Any = None
    train_dataset: GivenRows | None = None
    eval_dataset: EvalRows | None = None
    processing_class: PreTrainedTokenizerBase | None = None
    peft_config: PeftConfig | None = None
    quantization_config: BitsAndBytesConfig | None = None


@dataclass(frozen=True)
class RunComponents:
    """Models, data and tools of one run, each built once."""

    args: CORYConfig
    tokenizer: PreTrainedTokenizerBase
    policies: list[Policy]
    encoder: PromptEncoder
    sampler: Sampler
    scorer: TokenScorer
    rewards: RewardScorer
    rollout: Rollout
    evaluator: Evaluator
    train_dataset: Dataset | Stream
    eval_sets: Mapping[str, Dataset]
    """Held-out rows by name; one that is alone may be `UNNAMED`."""
    world: World = SINGLE
    is_chat: bool = False
    """Whether the training queries are chat messages."""

    @property
    def eval_dataset(self) -> Dataset | None:
        """The first of the held-out sets, which counts as the run's own."""
        return next(iter(self.eval_sets.values()), None)

    @property
    def reference(self) -> LanguageModel:
        """The frozen initial model."""
        return self.scorer.reference


def settled(args: CORYConfig, device: torch.device) -> CORYConfig:
    """The settings with `bf16="auto"` decided for a device, as the run records them."""
    return args.replace(bf16=has_bfloat16_products(device)) if args.bf16 == "auto" else args


def build_components(
    args: CORYConfig,
    user: UserObjects,
    device: torch.device | str = "cpu",
    world: World = SINGLE,
) -> RunComponents:
    """Load what the settings name, check that it fits together, and put it on the device.

    Raises:
        ValueError: something is missing or does not fit; the message has the fix.
    """
    if user.model is not None:
        user = replace(user, model=check_object(user.model))
    tokenizer = _tokenizer(args, user)
    train_dataset, eval_sets, reward_funcs = _task(args, user, tokenizer, device)
    policies, reference = _models(args, user, device, world)
    encoder = make_encoder(args, tokenizer, reference.model.generation_config)
    sampler = _sampler(args, policies, encoder, world)
    limits = Limits(_context_length(reference, sampler), reference.num_embeddings)
    train_rows = checked_rows(train_dataset, encoder, limits, args)
    for name, rows in eval_sets.items():
        with _named(name):
            checked_rows(rows, encoder, limits, args)
    row = queries_at(train_rows, args, 0)[0]
    prompt = encoder.encode(row[args.prompt_column], [])
    samples_here = isinstance(sampler, LocalSampler)
    probe_models(policies, reference, prompt, limits.context_length, samples_here)
    if isinstance(sampler, VllmSampler):
        check_same_distribution(sampler, reference, prompt, args)
    scorer = _scorer(args, reference, world)
    rewards = _rewards(args, reward_funcs, world, row, eval_sets)
    evaluator = Evaluator(encoder, sampler, replace(scorer, keep_ref_hidden=False), rewards, args)
    return RunComponents(
        args=args,
        tokenizer=tokenizer,
        policies=policies,
        encoder=encoder,
        sampler=sampler,
        scorer=scorer,
        rewards=rewards,
        rollout=Rollout(policies, encoder, sampler, scorer, rewards, args),
        evaluator=evaluator,
        train_dataset=train_rows,
        eval_sets=eval_sets,
        world=world,
        is_chat=is_chat(row[args.prompt_column]),
    )


def _rewards(
    args: CORYConfig,
    reward_funcs: list[RewardFunc],
    world: World,
    row: Mapping[str, Any],
    eval_sets: Mapping[str, Dataset],
) -> RewardScorer:
    """The reward functions, which can be called with the columns of all data sets."""
    failures = RewardFailures(args.max_reward_failures, args.reward_timeout)
    scorer = RewardScorer(reward_funcs, args.reward_weights, args.prompt_column, failures, world)
    scorer.check_signatures(row)
    for name, rows in eval_sets.items():
        with _named(name):
            scorer.check_signatures(rows.column_names)
    return scorer


@contextmanager
def _named(set_name: str) -> Iterator[None]:
    """Context of a check whose message names the held-out set that breaks it."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{words_for(set_name)}: {error}") from error


def _models(
    args: CORYConfig, user: UserObjects, device: torch.device | str, world: World
) -> tuple[list[Policy], LanguageModel]:
    """The policies and the frozen reference, on the device and equal in all processes."""
    model = user.model
    if model is None:
        model = load_model(_model_name(args, user), args, user.quantization_config)
    if not args.shard_weights:
        model.to(torch.device(device))  # pyright: ignore[reportArgumentType]
    world.copy_from_main([*model.parameters(), *model.buffers()])
    policies, reference = build_policies(model, args, user.peft_config, world)
    if args.evaluate_merged and isinstance(policies[0].weights, Adapter):
        check_mergeable(policies[0].weights)
    reference.to(device)
    for policy in policies:
        policy.to(device)
    # A model that the user passed stays as it was.
    if args.bf16 is True and user.model is None and not args.shard_weights:
        trained = [weight for policy in policies for weight in policy.language_parameters()]
        hold_in_bfloat16(reference.model, trained)
    if reference.device.type == "cpu":
        keep_freed_memory()
    return policies, reference


def _scorer(args: CORYConfig, reference: LanguageModel, world: World) -> TokenScorer:
    in_loss = KL_PLACEMENTS[args.kl_placement].in_loss
    return TokenScorer(
        reference,
        args.temperature,
        args.per_device_eval_batch_size,
        keep_ref_hidden=in_loss and KL_PENALTIES[args.kl_estimator].needs_ref_hidden,
        world=world,
        token_filter=TokenFilter.of(args),
    )


def _tokenizer(args: CORYConfig, user: UserObjects) -> PreTrainedTokenizerBase:
    if user.processing_class is not None:
        return ensure_pad_token(user.processing_class)
    return load_tokenizer(_model_name(args, user), args.trust_remote_code)


def _model_name(args: CORYConfig, user: UserObjects) -> str:
    """Where the model that was passed says that it was loaded from, or what the settings name."""
    own = None if user.model is None else user.model.config._name_or_path
    name = own or args.model_name_or_path
    if name is None:
        raise ValueError(
            "no model: pass `model`, or set model_name_or_path to a Hub name or a local directory"
            if user.model is None
            else "no tokenizer: the model does not say where it was loaded from, so pass its "
            "tokenizer as processing_class"
        )
    return name


def _task(
    args: CORYConfig,
    user: UserObjects,
    tokenizer: PreTrainedTokenizerBase,
    device: torch.device | str,
) -> tuple[Dataset | IterableDataset, Mapping[str, Dataset], list[RewardFunc]]:
    reward_funcs = _reward_funcs(args, user, device)
    train_dataset, eval_sets = given_rows(user.train_dataset, user.eval_dataset, args)
    if train_dataset is None and reward_funcs is not None and args.task is None:
        train_dataset, held_out = load_queries(args)
        eval_sets = eval_sets or {UNNAMED: held_out}
    elif train_dataset is None or reward_funcs is None:
        task = load_task(args, tokenizer)
        if train_dataset is None:
            train_dataset = task.train_dataset
            eval_sets = eval_sets or {UNNAMED: task.eval_dataset}
        reward_funcs = reward_funcs or task.reward_funcs
    if not eval_sets and args.eval_steps is not None:
        raise ValueError(
            f"eval_steps={args.eval_steps} asks for evaluations, but nothing is held out: pass "
            "eval_dataset, or leave eval_steps away"
        )
    return train_dataset, eval_sets, reward_funcs


def _reward_funcs(
    args: CORYConfig, user: UserObjects, device: torch.device | str
) -> list[RewardFunc] | None:
    """The user's own; None: the task has some."""
    given = user.reward_funcs
    if given is None and user.train_dataset is not None and args.task is None:
        given = args.reward_funcs or []
    if given is None:
        return None
    reward_funcs = load_reward_funcs(
        given, user.reward_processing_classes, device, args.trust_remote_code
    )
    if not reward_funcs:
        raise ValueError(
            "no reward functions: pass `reward_funcs`, or set it to import paths such as "
            "my_rewards.py:accuracy or to the name of a reward model"
        )
    return reward_funcs


def _sampler(
    args: CORYConfig, policies: list[Policy], encoder: PromptEncoder, world: World
) -> Sampler:
    end_ids, stops = encoder.end_ids, encoder.stops
    if args.vllm_server_base_url is not None:
        return VllmSampler(policies, end_ids, args, world, stops)
    return LocalSampler(
        end_ids, args.per_device_eval_batch_size, world, stops, TokenFilter.of(args)
    )


def _context_length(reference: LanguageModel, sampler: Sampler) -> int | None:
    config = reference.model.config.get_text_config()
    served = sampler.context_length if isinstance(sampler, VllmSampler) else None
    own = getattr(config, "max_position_embeddings", None)
    return min(filter(None, (own, served)), default=None)
