"""The rules that settings must keep, each with the fix. No torch."""

from __future__ import annotations

import math
from functools import cache
from typing import Any, Literal, get_args, get_origin, get_type_hints
from urllib.parse import urlsplit

from cory.io.names import check_folder_name

GROUP_ESTIMATORS = ("group", "leave_one_out")
POSITIVE_FIELDS = (
    "num_agents",
    "num_generations",
    "num_ppo_epochs",
    "num_mini_batches",
    "max_steps",
    "batch_size",
    "per_device_train_batch_size",
    "per_device_eval_batch_size",
    "max_completion_length",
    "min_completion_length",
    "role_exchange_period",
    "elastic_reset_period",
    "logging_steps",
    "log_samples_steps",
    "eval_steps",
    "save_steps",
    "save_total_limit",
    "num_eval_queries",
    "num_eval_samples",
    "temperature",
    "kl_target",
    "kl_horizon",
    "lora_r",
    "adam_epsilon",
    "cliprange",
    "cliprange_value",
    "score_clip",
    "target_kl",
    "ddp_timeout",
    "vllm_server_timeout",
    "vllm_request_timeout",
    "vllm_importance_sampling_clip_max",
    "reward_timeout",
    "alarm_patience",
)
FRACTION_FIELDS = (
    "gamma",
    "lam",
    "adam_beta1",
    "adam_beta2",
    "elastic_reset_decay",
    "weight_average_decay",
    "merge_on_exchange",
    "min_unique_share",
)
NON_NEGATIVE_FIELDS = (
    "kl_coef",
    "vf_coef",
    "weight_decay",
    "max_grad_norm",
    "warmup_steps",
    "seed",
    "transfer_back_weight",
    "partner_samples_weight",
    "max_reward_failures",
    "min_entropy",
    "max_kl_per_token",
)
PLACEHOLDERS = {
    "query_template": ("{query}",),
    "observer_template": ("{query}", "{references}"),
    "reference_template": ("{answer}",),
}


def validate(args: Any) -> None:
    """Refuse values that break a rule.

    Raises:
        ValueError: names the field, its value, the rule and the fix.
    """
    _check_types(args)
    _check_ranges(args)
    _check_templates(args)
    _check_batches(args)
    _check_server(args)
    _check_model(args)
    _check_exchange(args)
    _check_contradictions(args)
    if args.run_name is not None and args.report_to:
        # Trackers make it a folder in theirs.
        check_folder_name(args.run_name, "run_name")


def _check_types(args: Any) -> None:
    for name, hint in _type_hints(type(args)).items():
        value = getattr(args, name)
        if _fits(value, hint):
            _check_finite(name, value)
            continue
        if get_origin(hint) is Literal:
            raise ValueError(f"{name}={value!r} is not one of {', '.join(get_args(hint))}")
        kind = getattr(hint, "__name__", str(hint))
        fix = " (YAML takes 1e-5 for a text: write 1.0e-5)" if "float" in kind else ""
        raise ValueError(f"{name}={value!r} must be {kind}, not {type(value).__name__}{fix}")


@cache
def _type_hints(kind: type) -> dict[str, Any]:
    """Resolving these takes longer than all checks."""
    return get_type_hints(kind)


def _check_finite(name: str, value: Any) -> None:
    numbers = value if isinstance(value, list) else [value]
    if any(isinstance(number, float) and not math.isfinite(number) for number in numbers):
        raise ValueError(f"{name}={value} must be finite")


def _fits(value: Any, hint: Any) -> bool:
    options = get_args(hint)
    if get_origin(hint) is Literal:
        return value in options
    if get_origin(hint) is list:
        return isinstance(value, list) and all(_fits(item, options[0]) for item in value)
    if options:
        return any(_fits(value, option) for option in options)
    if hint in (int, float):
        numbers = (int, float) if hint is float else int
        return isinstance(value, numbers) and not isinstance(value, bool)
    return isinstance(value, hint)


def _check_ranges(args: Any) -> None:
    for names, holds, rule in (
        (POSITIVE_FIELDS, lambda value: value > 0, "must be greater than 0"),
        (FRACTION_FIELDS, lambda value: 0 <= value <= 1, "must lie between 0 and 1"),
        (NON_NEGATIVE_FIELDS, lambda value: value >= 0, "must not be negative"),
    ):
        for name in names:
            value = getattr(args, name)
            if value is not None and not holds(value):
                raise ValueError(f"{name}={value} {rule}")


def _check_templates(args: Any) -> None:
    for name, placeholders in PLACEHOLDERS.items():
        template = getattr(args, name)
        for placeholder in placeholders:
            if placeholder not in template:
                raise ValueError(
                    f"{name}={template!r} has no {placeholder}: "
                    f"write {placeholder} where it should go"
                )


def _check_batches(args: Any) -> None:
    if args.batch_size % args.num_generations:
        raise ValueError(
            f"batch_size={args.batch_size} is not a multiple of "
            f"num_generations={args.num_generations}: every query gets num_generations answers, so "
            f"set batch_size to {_nearest_multiple(args.batch_size, args.num_generations)}"
        )
    if args.num_mini_batches > args.batch_size:
        raise ValueError(
            f"num_mini_batches={args.num_mini_batches} is more than batch_size={args.batch_size}: "
            "a mini-batch needs at least one answer"
        )
    if args.advantage_estimator in GROUP_ESTIMATORS and args.num_generations < 2:
        raise ValueError(
            f"advantage_estimator={args.advantage_estimator!r} compares the answers to one query, "
            f"so it needs num_generations of at least 2, not {args.num_generations}: set "
            "num_generations=4"
        )
    shortest, longest = args.min_completion_length, args.max_completion_length
    if shortest is not None and shortest > longest:
        raise ValueError(
            f"min_completion_length={shortest} is more than max_completion_length={longest}"
        )


def _nearest_multiple(value: int, divisor: int) -> int:
    return max(1, round(value / divisor)) * divisor


def _check_server(args: Any) -> None:
    url = args.vllm_server_base_url
    if url is None:
        return
    try:
        parts = urlsplit(url)
        is_address = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        is_address = False
    if not is_address:
        raise ValueError(
            f"vllm_server_base_url={url!r} is not the address of a server: write it like "
            "http://localhost:8000"
        )
    if urlsplit(url).path.rstrip("/").endswith("/v1"):
        raise ValueError(f"vllm_server_base_url={url!r} names a part of the server: leave /v1 away")


def _check_model(args: Any) -> None:
    if args.load_in_4bit and not args.use_peft:
        raise ValueError(
            "load_in_4bit=True freezes the base in 4 bits, so something else must learn: set "
            "use_peft=True"
        )
    if args.shard_weights and args.use_peft:
        raise ValueError(
            "shard_weights=True spreads full copies; adapters share one frozen base and are small, "
            "so every process holds them: set shard_weights=False (load_in_4bit=True makes the "
            "base smaller)"
        )
    if args.shard_weights and args.evaluate_merged:
        raise ValueError(
            "shard_weights=True and evaluate_merged=True: the mean of sharded models is not "
            "measured during training; set evaluate_merged=False and measure a checkpoint with "
            "`cory eval RUN --evaluate_merged`"
        )
    if "/" in (args.attn_implementation or "") and not args.trust_remote_code:
        raise ValueError(
            f"attn_implementation={args.attn_implementation!r} names code on the Hub: choose one "
            "that transformers has, such as sdpa, or set trust_remote_code=True"
        )


def _check_exchange(args: Any) -> None:
    if args.merge_on_exchange and args.role_exchange_period is None:
        raise ValueError(
            f"merge_on_exchange={args.merge_on_exchange} acts at exchanges of roles, but "
            "role_exchange_period is None: set a period, or merge_on_exchange=0"
        )
    if args.transfer_min_lift is not None and (
        args.role_exchange_period is None or not args.knowledge_transfer
    ):
        raise ValueError(
            f"transfer_min_lift={args.transfer_min_lift} ends knowledge transfer at an exchange of "
            "roles: it needs a role_exchange_period and knowledge_transfer=True"
        )


def _check_contradictions(args: Any) -> None:
    rates = args.learning_rate if isinstance(args.learning_rate, list) else [args.learning_rate]
    if any(rate < 0 for rate in rates) or len(rates) not in (1, args.num_agents):
        raise ValueError(
            f"learning_rate={args.learning_rate} must be one rate, or one per agent "
            f"({args.num_agents} of them), none negative"
        )
    if args.use_score_norm and not args.use_score_scaling:
        raise ValueError("use_score_norm=True needs use_score_scaling=True")
    if args.kl_controller == "adaptive" and args.kl_coef == 0:
        raise ValueError("kl_controller='adaptive' multiplies kl_coef, so kl_coef=0 would stay 0")
    if args.kl_placement == "both" and args.kl_estimator != "full":
        raise ValueError(
            f"kl_placement='both' splits the gradient of the full KL, but kl_estimator="
            f"{args.kl_estimator!r}: set kl_estimator='full' (k1 in the reward is complete already)"
        )
    weights, functions = args.reward_weights, args.reward_funcs
    if weights is not None and functions is not None and len(weights) != len(functions):
        raise ValueError(
            f"reward_weights has {len(weights)} entries for {len(functions)} reward_funcs: give "
            "one weight per function"
        )
    if args.metric_for_best_model is not None and args.eval_steps is None:
        raise ValueError(
            f"metric_for_best_model={args.metric_for_best_model!r} is watched at evaluations, but "
            "eval_steps is None: set eval_steps"
        )
