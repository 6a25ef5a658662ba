"""Rows for the fields of TRL's `GRPOConfig`, `RLOOConfig` and `PPOConfig`, of all releases."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cory.trl.rows import Row, converted, no_op, refused, renamed, same, used

_PLAN = used("the sizes of an iteration and the number of iterations")
_COLOCATED = no_op("it acts on an engine inside this process, and cory has its own")
_OTHER_LOSS = no_op("it acts with a loss_type that cory does not have")
_TABLE = no_op("answers are written to samples/ of the run, all of them")
_CLASSIC = refused(
    "it belongs to the RLOOTrainer of TRL before 0.22, which is another trainer: use beta, "
    "epsilon, num_iterations, num_generations, max_completion_length, normalize_advantages"
)


def _loss_type(name: str) -> dict[str, Any]:
    if name in ("grpo", "bnpo", "dapo", "dr_grpo"):
        return {"loss_type": name}
    raise ValueError(
        f"loss_type={name!r}: cory has grpo, bnpo, dapo and dr_grpo: choose one of these"
    )


def _scale(value: Any) -> dict[str, Any]:
    text = {True: "group", False: "none"}.get(value, value)
    if isinstance(text, str):
        text = {"true": "group", "false": "none"}.get(text.lower(), text)
    if text in ("group", "batch", "none"):
        return {"scale_rewards": text}
    raise ValueError(f"scale_rewards={value!r} is none of group, batch, none, True and False")


def _reward_clip(value: Any) -> dict[str, Any]:
    if value is None:
        return {}
    low, high = value
    if low == -high:
        return {"score_clip": float(high)}
    raise ValueError(
        f"reward_clip_range={value}: cory clips to a range that is the same on both sides: set "
        f"({-high}, {high}), or clip in the reward function"
    )


SAMPLING = ("temperature", "top_p", "top_k", "min_p")
"""What `generation_kwargs` may hold, where it wins over the argument of the same name."""
WITHOUT_BEAMS = {"do_sample": True, "num_beams": 1, "repetition_penalty": 1.0}
"""Values that say what is done in any case."""
OF_BEAMS = ("length_penalty", "early_stopping", "use_cache")
"""What has no effect where answers are sampled."""


def _generation(value: Any) -> dict[str, Any]:
    given = dict(value or {})
    found = {name: given.pop(name) for name in SAMPLING if name in given}
    texts = given.pop("stop_strings", given.pop("stop", None))
    if others := [
        name
        for name, one in given.items()
        if name not in OF_BEAMS and WITHOUT_BEAMS.get(name) != one
    ]:
        raise ValueError(
            f"generation_kwargs={value}: cory would sample from another distribution than it "
            f"scores; leave {', '.join(others)} out ({', '.join(SAMPLING)} and stop_strings stay)"
        )
    if texts is not None:
        found["stop_strings"] = [texts] if isinstance(texts, str) else texts
    return found


OBJECTIVES: Mapping[str, Row] = {
    "model_init_kwargs": used("how a model that is named is loaded"),
    "trust_remote_code": same("trust_remote_code"),
    "router_aux_loss_coef": refused(
        "no load-balancing loss is added: set it to 0 or leave it out", 0.0
    ),
    "disable_dropout": no_op("dropout never acts"),
    "cast_lm_head_to_fp32": refused("set bf16=False for products in float32"),
    "num_generations": _PLAN,
    "num_generations_eval": _PLAN,
    "max_completion_length": same("max_completion_length"),
    "max_prompt_length": no_op("prompts are never cut; one that does not fit is refused"),
    "ds3_gather_for_generation": no_op("DeepSpeed is not used"),
    "shuffle_dataset": used("False: rows come in their own order"),
    "pad_to_multiple_of": no_op("padding changes memory, not results", "auto"),
    **dict.fromkeys(("generation_batch_size", "steps_per_generation", "num_iterations"), _PLAN),
    "temperature": same("temperature"),
    "top_p": renamed("top_p"),
    "top_k": converted("`top_k`; 0, -1 or None: all tokens", lambda k: {"top_k": max(0, k or 0)}),
    "min_p": renamed("min_p"),
    "generation_kwargs": converted(
        "`temperature`, `top_p`, `top_k`, `min_p`, `stop_strings`; others are refused", _generation
    ),
    "chat_template_kwargs": converted(
        "the same name", lambda value: {"chat_template_kwargs": value or None}
    ),
    "repetition_penalty": refused(
        "an answer would be sampled from another distribution than it is scored under: set 1.0", 1
    ),
    "cache_implementation": no_op("the cache is chosen by cory"),
    "use_vllm": used("with `vllm_mode='server'`: a server samples; else this process, by itself"),
    "vllm_mode": used("with `use_vllm`"),
    "vllm_server_base_url": used("`vllm_server_base_url`, with `use_vllm`"),
    "vllm_server_host": used("`vllm_server_base_url`, with `use_vllm`"),
    "vllm_server_port": used("`vllm_server_base_url`, with `use_vllm`"),
    "vllm_server_timeout": same("vllm_server_timeout"),
    "vllm_structured_outputs_regex": refused("answers are not bound to a pattern: leave it out"),
    "vllm_guided_decoding_regex": refused("answers are not bound to a pattern: leave it out"),
    **dict.fromkeys(
        (
            "vllm_model_impl",
            "vllm_enable_sleep_mode",
            "vllm_group_port",
            "vllm_gpu_memory_utilization",
            "vllm_max_model_length",
            "vllm_tensor_parallel_size",
            "vllm_device",
            "vllm_dtype",
            "vllm_max_model_len",
            "vllm_enable_prefix_caching",
        ),
        _COLOCATED,
    ),
    "beta": renamed("kl_coef"),
    "epsilon": renamed("cliprange"),
    "epsilon_high": renamed("cliprange_high"),
    "delta": refused("ratios have no second bound: leave it out"),
    **dict.fromkeys(
        (
            "sapo_temperature_neg",
            "sapo_temperature_pos",
            "vespo_k_pos",
            "vespo_lambda_pos",
            "vespo_k_neg",
            "vespo_lambda_neg",
        ),
        _OTHER_LOSS,
    ),
    "importance_sampling_level": same("importance_sampling_level"),
    "reward_weights": converted(
        "the same name",
        lambda value: {"reward_weights": None if value is None else list(map(float, value))},
    ),
    "multi_objective_aggregation": refused(
        "weighted rewards are summed, then compared: leave it out"
    ),
    "scale_rewards": converted("the same name", _scale),
    "loss_type": converted("the same name; grpo, bnpo, dapo or dr_grpo", _loss_type),
    "mask_truncated_completions": same("mask_truncated_completions"),
    "sync_ref_model": refused("the reference stays the initial model: leave it out"),
    "ref_model_mixup_alpha": no_op("it acts with sync_ref_model"),
    "ref_model_sync_steps": no_op("it acts with sync_ref_model"),
    "top_entropy_quantile": refused("all tokens are learnt from: set 1.0", 1),
    "entropy_coef": same("entropy_coef"),
    "use_adaptive_entropy": refused("the entropy bonus has a fixed weight: set entropy_coef"),
    **dict.fromkeys(
        ("entropy_coef_min", "entropy_coef_max", "entropy_coef_delta", "entropy_target"),
        no_op("it acts with use_adaptive_entropy"),
    ),
    "max_tool_calling_iterations": no_op("answers call no tools"),
    "vllm_importance_sampling_correction": used("with a server; False: no weights"),
    "vllm_importance_sampling_mode": no_op("weights are those of tokens, cut off at the largest"),
    "vllm_importance_sampling_clip_max": same("vllm_importance_sampling_clip_max"),
    "vllm_importance_sampling_clip_min": no_op("weights have no lower bound"),
    "vllm_importance_sampling_cap": renamed("vllm_importance_sampling_clip_max"),
    "off_policy_mask_threshold": refused("no answer is left out for its KL: leave it out"),
    "use_bias_correction_kl": same("use_bias_correction_kl"),
    "log_completions": used("True: answers are also printed"),
    **dict.fromkeys(
        (
            "log_multimodal",
            "num_completions_to_print",
            "log_unique_prompts",
            "wandb_log_unique_prompts",
            "log_completions_hub_repo",
        ),
        _TABLE,
    ),
    **dict.fromkeys(
        (
            "use_transformers_continuous_batching",
            "transformers_continuous_batching_config",
            "use_transformers_paged",
            "use_liger_loss",
        ),
        no_op("cory computes with its own kernels; it changes speed, not results"),
    ),
    "normalize_advantages": converted(
        "`whiten_advantages`", lambda value: {"whiten_advantages": bool(value)}
    ),
    "reward_clip_range": converted("`score_clip`", _reward_clip),
}
"""By name, in the order of TRL's `GRPOConfig`; then what its `RLOOConfig` alone has."""

CLASSIC_RLOO: Mapping[str, Row] = dict.fromkeys(
    (
        "exp_name",
        "rloo_k",
        "whiten_rewards",
        "normalize_reward",
        "token_level_kl",
        "total_episodes",
        "response_length",
        "missing_eos_penalty",
    ),
    _CLASSIC,
)

CLASSIC_PPO: Mapping[str, Row] = {
    **{
        name: same(name)
        for name in (
            "num_ppo_epochs",
            "num_mini_batches",
            "kl_coef",
            "kl_estimator",
            "cliprange",
            "cliprange_value",
            "vf_coef",
            "gamma",
            "lam",
            "temperature",
        )
    },
    "response_length": renamed("max_completion_length"),
    "total_episodes": _PLAN,
    "local_rollout_forward_batch_size": used("`per_device_eval_batch_size`"),
    "num_sample_generations": no_op("answers are written to samples/ of the run", 10, 0),
    "missing_eos_penalty": used("a reward function that takes it from answers without an end"),
    "stop_token": no_op("the tokenizer's end of text always ends an answer", "eos"),
    "stop_token_id": used("`stop_strings`: the text of that token"),
    "whiten_rewards": refused(
        "token rewards are not whitened: set it to False, and normalize_rewards=True for running "
        "statistics of the rewards"
    ),
    **dict.fromkeys(
        ("exp_name", "reward_model_path", "sft_model_path", "dataset_num_proc"),
        used("read by scripts"),
    ),
    "model_adapter_name": refused("each agent has an adapter of its own: leave it out"),
    "ref_adapter_name": refused("the reference is the initial model: leave it out"),
    "ds3_gather_for_generation": no_op("DeepSpeed is not used"),
}
"""What TRL's `PPOConfig` has beside `TrainingArguments`."""
