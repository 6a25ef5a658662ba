"""Rules between settings: each returns its error message where it is broken, else None."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from cory.io.files import check_folder_name
from cory.io.urls import without_password

GROUP_ESTIMATORS = ("group", "leave_one_out")

Rule = Callable[[Any], str | None]


def _refuse_if(is_broken: Callable[[Any], Any], message: str) -> Rule:
    """A rule whose message, as a format string, reads the settings from `args`."""
    return lambda args: message.format(args=args) if is_broken(args) else None


def _whole_groups(args: Any) -> str | None:
    if args.batch_size % args.num_generations == 0:
        return None
    nearest = max(1, round(args.batch_size / args.num_generations)) * args.num_generations
    return (
        f"batch_size={args.batch_size} is not a multiple of num_generations="
        f"{args.num_generations}: every query gets num_generations answers, so set batch_size to "
        f"{nearest}"
    )


def _server_address(args: Any) -> str | None:
    url = args.vllm_server_base_url
    if url is None:
        return None
    given = f"vllm_server_base_url={without_password(url)!r:.300}"
    try:
        parts = urlsplit(url)
        is_whole = parts.hostname and parts.hostname.encode("idna") and parts.port != 0
        is_whole = is_whole and not parts.query and not parts.fragment and " " not in url
        is_address = parts.scheme in ("http", "https") and is_whole
    except ValueError:
        is_address = False
    if not is_address:
        return f"{given} is not the address of a server: write it like http://localhost:8000"
    if urlsplit(url).path.rstrip("/").endswith("/v1"):
        return f"{given} names a part of the server: leave /v1 away"
    return None


def _learning_rates(args: Any) -> str | None:
    rates = args.learning_rate if isinstance(args.learning_rate, list) else [args.learning_rate]
    if len(rates) in (1, args.num_agents):
        return None
    return (
        f"learning_rate={args.learning_rate} must be one rate, or one per agent "
        f"({args.num_agents} of them)"
    )


def _folder_for_trackers(args: Any) -> str | None:
    """Trackers make the run's name a folder in their directory."""
    if args.run_name is None or not args.report_to:
        return None
    try:
        check_folder_name(args.run_name, "run_name")
    except ValueError as error:
        return str(error)
    return None


RULES: tuple[Rule, ...] = (
    _whole_groups,
    _refuse_if(
        lambda args: args.num_mini_batches > args.batch_size,
        "num_mini_batches={args.num_mini_batches} is more than batch_size={args.batch_size}: "
        "a mini-batch needs at least one answer",
    ),
    _refuse_if(
        lambda args: args.advantage_estimator in GROUP_ESTIMATORS and args.num_generations < 2,
        "advantage_estimator={args.advantage_estimator!r} compares the answers to one query, so it "
        "needs num_generations of at least 2, not {args.num_generations}: set num_generations=4",
    ),
    _refuse_if(
        lambda args: (
            args.importance_sampling_level != "token"
            and args.advantage_estimator not in GROUP_ESTIMATORS
        ),
        "importance_sampling_level={args.importance_sampling_level!r} takes one ratio per answer, "
        "so it needs one advantage per answer, and advantage_estimator="
        "{args.advantage_estimator!r} has one per token: set advantage_estimator='group' or "
        "'leave_one_out', or importance_sampling_level='token'",
    ),
    _refuse_if(
        lambda args: args.scale_rewards != "group" and args.advantage_estimator != "group",
        "scale_rewards={args.scale_rewards!r} says what the estimator group divides by, and "
        "advantage_estimator={args.advantage_estimator!r} divides by nothing: set "
        "advantage_estimator='group', or scale_rewards='group', its default",
    ),
    _refuse_if(
        lambda args: (args.min_completion_length or 0) > args.max_completion_length,
        "min_completion_length={args.min_completion_length} is more than "
        "max_completion_length={args.max_completion_length}",
    ),
    _server_address,
    _refuse_if(
        lambda args: args.load_in_4bit and not args.use_peft,
        "load_in_4bit=True freezes the base in 4 bits, so something else must learn: set "
        "use_peft=True",
    ),
    _refuse_if(
        lambda args: args.shard_weights and args.use_peft,
        "shard_weights=True spreads full copies; adapters share one frozen base and are small, so "
        "every process holds them: set shard_weights=False (load_in_4bit=True makes the base "
        "smaller)",
    ),
    _refuse_if(
        lambda args: args.shard_weights and args.evaluate_merged,
        "shard_weights=True and evaluate_merged=True: the mean of sharded models is not measured "
        "during training; set evaluate_merged=False and measure a checkpoint with "
        "`cory eval RUN --evaluate_merged`",
    ),
    _refuse_if(
        lambda args: "/" in (args.attn_implementation or "") and not args.trust_remote_code,
        "attn_implementation={args.attn_implementation!r} names code on the Hub: choose one that "
        "transformers has, such as sdpa, or set trust_remote_code=True",
    ),
    _refuse_if(
        lambda args: args.merge_on_exchange and args.role_exchange_period is None,
        "merge_on_exchange={args.merge_on_exchange} acts at exchanges of roles, but "
        "role_exchange_period is None: set a period, or merge_on_exchange=0",
    ),
    _refuse_if(
        lambda args: (
            args.transfer_min_lift is not None
            and (args.role_exchange_period is None or not args.knowledge_transfer)
        ),
        "transfer_min_lift={args.transfer_min_lift} ends knowledge transfer at an exchange of "
        "roles: it needs a role_exchange_period and knowledge_transfer=True",
    ),
    _learning_rates,
    _refuse_if(
        lambda args: (
            args.use_bias_correction_kl
            and (args.kl_placement != "loss" or args.kl_estimator == "full")
        ),
        "use_bias_correction_kl=True corrects an estimate of the KL in the loss, not kl_placement="
        "{args.kl_placement!r} with kl_estimator={args.kl_estimator!r}: set kl_placement='loss' "
        "and kl_estimator='k3' or 'k1', or use_bias_correction_kl=False",
    ),
    _refuse_if(
        lambda args: args.kl_controller == "adaptive" and args.kl_coef == 0,
        "kl_controller='adaptive' multiplies kl_coef, so kl_coef=0 would stay 0",
    ),
    _refuse_if(
        lambda args: args.kl_placement == "both" and args.kl_estimator != "full",
        "kl_placement='both' splits the gradient of the full KL, but kl_estimator="
        "{args.kl_estimator!r}: set kl_estimator='full' (k1 in the reward is complete already)",
    ),
    _refuse_if(
        lambda args: (
            None not in (args.reward_weights, args.reward_funcs)
            and len(args.reward_weights) != len(args.reward_funcs)
        ),
        "reward_weights={args.reward_weights} must be one weight for each of reward_funcs="
        "{args.reward_funcs}",
    ),
    _refuse_if(
        lambda args: args.metric_for_best_model is not None and args.eval_steps is None,
        "metric_for_best_model={args.metric_for_best_model!r} is watched at evaluations, but "
        "eval_steps is None: set eval_steps",
    ),
    _folder_for_trackers,
)
