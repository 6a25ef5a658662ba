"""Rules between settings: each returns its error message where it is broken, else None."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from cory.io.files import check_folder_name

GROUP_ESTIMATORS = ("group", "leave_one_out")


def _whole_groups(args: Any) -> str | None:
    if args.batch_size % args.num_generations == 0:
        return None
    nearest = max(1, round(args.batch_size / args.num_generations)) * args.num_generations
    return (
        f"batch_size={args.batch_size} is not a multiple of num_generations="
        f"{args.num_generations}: every query gets num_generations answers, so set batch_size to "
        f"{nearest}"
    )


def _answers_for_mini_batches(args: Any) -> str | None:
    if args.num_mini_batches <= args.batch_size:
        return None
    return (
        f"num_mini_batches={args.num_mini_batches} is more than batch_size={args.batch_size}: "
        "a mini-batch needs at least one answer"
    )


def _several_generations(args: Any) -> str | None:
    if args.advantage_estimator not in GROUP_ESTIMATORS or args.num_generations >= 2:
        return None
    return (
        f"advantage_estimator={args.advantage_estimator!r} compares the answers to one query, so "
        f"it needs num_generations of at least 2, not {args.num_generations}: set num_generations=4"
    )


def _completion_lengths(args: Any) -> str | None:
    shortest, longest = args.min_completion_length, args.max_completion_length
    if shortest is None or shortest <= longest:
        return None
    return f"min_completion_length={shortest} is more than max_completion_length={longest}"


def _server_address(args: Any) -> str | None:
    url = args.vllm_server_base_url
    if url is None:
        return None
    try:
        parts = urlsplit(url)
        is_address = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        is_address = False
    if not is_address:
        return (
            f"vllm_server_base_url={url!r} is not the address of a server: write it like "
            "http://localhost:8000"
        )
    if urlsplit(url).path.rstrip("/").endswith("/v1"):
        return f"vllm_server_base_url={url!r} names a part of the server: leave /v1 away"
    return None


def _something_to_train(args: Any) -> str | None:
    if not args.load_in_4bit or args.use_peft:
        return None
    return (
        "load_in_4bit=True freezes the base in 4 bits, so something else must learn: set "
        "use_peft=True"
    )


def _shards_of_full_copies(args: Any) -> str | None:
    if not args.shard_weights or not args.use_peft:
        return None
    return (
        "shard_weights=True spreads full copies; adapters share one frozen base and are small, so "
        "every process holds them: set shard_weights=False (load_in_4bit=True makes the base "
        "smaller)"
    )


def _no_mean_of_shards(args: Any) -> str | None:
    if not args.shard_weights or not args.evaluate_merged:
        return None
    return (
        "shard_weights=True and evaluate_merged=True: the mean of sharded models is not measured "
        "during training; set evaluate_merged=False and measure a checkpoint with "
        "`cory eval RUN --evaluate_merged`"
    )


def _trusted_attention(args: Any) -> str | None:
    if "/" not in (args.attn_implementation or "") or args.trust_remote_code:
        return None
    return (
        f"attn_implementation={args.attn_implementation!r} names code on the Hub: choose one that "
        "transformers has, such as sdpa, or set trust_remote_code=True"
    )


def _exchange_to_merge_at(args: Any) -> str | None:
    if not args.merge_on_exchange or args.role_exchange_period is not None:
        return None
    return (
        f"merge_on_exchange={args.merge_on_exchange} acts at exchanges of roles, but "
        "role_exchange_period is None: set a period, or merge_on_exchange=0"
    )


def _transfer_to_end(args: Any) -> str | None:
    if args.transfer_min_lift is None or (
        args.role_exchange_period is not None and args.knowledge_transfer
    ):
        return None
    return (
        f"transfer_min_lift={args.transfer_min_lift} ends knowledge transfer at an exchange of "
        "roles: it needs a role_exchange_period and knowledge_transfer=True"
    )


def _learning_rates(args: Any) -> str | None:
    rates = args.learning_rate if isinstance(args.learning_rate, list) else [args.learning_rate]
    if all(rate >= 0 for rate in rates) and len(rates) in (1, args.num_agents):
        return None
    return (
        f"learning_rate={args.learning_rate} must be one rate, or one per agent "
        f"({args.num_agents} of them), none negative"
    )


def _coefficient_to_adapt(args: Any) -> str | None:
    if args.kl_controller != "adaptive" or args.kl_coef != 0:
        return None
    return "kl_controller='adaptive' multiplies kl_coef, so kl_coef=0 would stay 0"


def _full_kl_to_split(args: Any) -> str | None:
    if args.kl_placement != "both" or args.kl_estimator == "full":
        return None
    return (
        f"kl_placement='both' splits the gradient of the full KL, but kl_estimator="
        f"{args.kl_estimator!r}: set kl_estimator='full' (k1 in the reward is complete already)"
    )


def _one_weight_per_reward(args: Any) -> str | None:
    weights, functions = args.reward_weights, args.reward_funcs
    if weights is None or functions is None or len(weights) == len(functions):
        return None
    return (
        f"reward_weights has {len(weights)} entries for {len(functions)} reward_funcs: give one "
        "weight per function"
    )


def _evaluations_to_watch(args: Any) -> str | None:
    if args.metric_for_best_model is None or args.eval_steps is not None:
        return None
    return (
        f"metric_for_best_model={args.metric_for_best_model!r} is watched at evaluations, but "
        "eval_steps is None: set eval_steps"
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


RULES = (
    _whole_groups,
    _answers_for_mini_batches,
    _several_generations,
    _completion_lengths,
    _server_address,
    _something_to_train,
    _shards_of_full_copies,
    _no_mean_of_shards,
    _trusted_attention,
    _exchange_to_merge_at,
    _transfer_to_end,
    _learning_rates,
    _coefficient_to_adapt,
    _full_kl_to_split,
    _one_weight_per_reward,
    _evaluations_to_watch,
    _folder_for_trackers,
)
