"""Names that other libraries and papers give to settings and values, and what they are here.

An unknown name gets the fix from these tables. Nothing here is accepted in place of a setting: a
setting has one name, and `cory.trl` takes TRL's. No torch.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from cory.config.saved import ADVICE
from cory.io.files import did_you_mean

_ELSEWHERE = {
    "model_name_or_path": "model model_name base_model policy pretrained",
    "reward_model_name_or_path": "reward_model reward_model_path",
    "reward_funcs": "reward_func reward_fn reward_function rewards",
    "dataset_name": "dataset data train_dataset dataset_path datasets",
    "dataset_config": "dataset_config_name dataset_subset",
    "dataset_train_split": "dataset_split train_split",
    "dataset_test_split": "eval_split test_split dataset_eval_split",
    "prompt_column": "prompt_field prompt_key input_key",
    "output_dir": "output out run save_dir logging_dir",
    "learning_rate": "lr step_size actor_learning_rate",
    "lr_scheduler_type": "scheduler lr_scheduler lr_schedule",
    "warmup_steps": "warmup num_warmup_steps warmup_iters",
    "max_grad_norm": "grad_clip clip_grad max_norm gradient_clipping",
    "kl_coef": "beta kl_beta init_kl_coef kl_loss_coef kl_coeff eta",
    "kl_estimator": "kl_penalty kl_loss_type",
    "cliprange": "epsilon clip_range clip_ratio clip_eps eps_clip",
    "cliprange_value": "epsilon_value vf_clip value_clip cliprange_vf",
    "vf_coef": "value_coef vf_coeff critic_coef value_loss_coef",
    "lam": "gae_lambda lambda lambd",
    "gamma": "discount discount_factor",
    "num_ppo_epochs": "num_iterations ppo_epochs noptepochs mu epochs",
    "num_mini_batches": "num_minibatches mini_batches nminibatches",
    "num_generations": "group_size num_return_sequences rloo_k rollouts_per_prompt",
    "max_completion_length": "max_new_tokens response_length max_response_length max_tokens",
    "min_completion_length": "min_new_tokens min_length",
    "stop_strings": "stop stop_sequences stop_words",
    "batch_size": "generation_batch_size train_batch_size rollout_batch_size",
    "per_device_train_batch_size": "micro_batch_size mini_batch_size",
    "per_device_eval_batch_size": "eval_batch_size",
    "max_steps": "steps num_steps total_steps iterations max_iters max_iterations",
    "dtype": "torch_dtype model_dtype precision",
    "use_peft": "lora peft",
    "lora_r": "lora_rank rank r",
    "lora_target_modules": "target_modules lora_modules",
    "load_in_4bit": "quantize use_4bit qlora",
    "seed": "random_seed data_seed",
    "use_cpu": "cpu no_cuda",
    "logging_steps": "log_every log_interval logging_interval",
    "log_samples_steps": "log_completions log_samples",
    "eval_steps": "eval_every eval_interval evaluation_steps",
    "num_eval_queries": "num_eval_prompts max_eval_samples eval_size",
    "save_steps": "save_every save_interval checkpoint_steps",
    "save_total_limit": "keep_checkpoints max_checkpoints",
    "report_to": "tracker trackers log_with logger",
    "run_name": "experiment_name exp_name wandb_name tracker_run_name",
    "resume": "resume_from_checkpoint resume_from",
    "num_agents": "agents team_size n_agents",
    "role_exchange_period": "exchange_period role_exchange exchange_every",
    "advantage_estimator": "algorithm algo adv_estimator estimator",
    "normalize_rewards": "whiten_rewards normalize_reward",
    "score_clip": "reward_clip clip_reward_range cliprange_reward",
    "vllm_server_base_url": "vllm_server_url vllm_url vllm_base_url",
    "weight_average_decay": "ema_decay ema",
    "attn_implementation": "attention attn use_flash_attention_2",
}
SAME = {other: name for name, others in _ELSEWHERE.items() for other in others.split()}
"""Settings by the names that they have elsewhere."""

DIFFERENT = {
    "num_train_epochs": "set max_steps; an iteration uses batch_size / num_generations queries",
    "total_episodes": "set max_steps; an iteration has batch_size answers of each agent",
    "warmup_ratio": "set warmup_steps to that share of max_steps",
    "gradient_accumulation_steps": (
        "set batch_size, and num_mini_batches for the optimizer steps in it; "
        "per_device_train_batch_size bounds memory alone"
    ),
    "steps_per_generation": "set num_mini_batches, the optimizer steps of a pass over a batch",
    "optim": "leave it out; the optimizer is AdamW, with adam_beta1, adam_beta2 and adam_epsilon",
    "fp16": "set bf16, or dtype for the frozen base of adapters",
    "load_in_8bit": "set load_in_4bit, the quantization there is",
    "use_vllm": "set vllm_server_base_url to the address of a vLLM server",
    "vllm_mode": "start `vllm serve` and set vllm_server_base_url to its address",
    "deepspeed": "set shard_weights; full copies are spread over processes by FSDP2",
    "fsdp": "set shard_weights, which is FSDP2",
    "fsdp_config": "set shard_weights, which is FSDP2",
    "do_train": "leave it out: `cory train` trains, and `cory eval` evaluates (eval_steps)",
    "do_eval": "leave it out: set eval_steps, or run `cory eval`",
    "eval_strategy": "set eval_steps to a number of iterations",
    "evaluation_strategy": "set eval_steps to a number of iterations",
    "save_strategy": "set save_steps to a number of iterations",
    "logging_strategy": "set logging_steps to a number of iterations",
    "overwrite_output_dir": "choose another output_dir, or set resume to go on",
    "logging_first_step": "leave it out; logging_steps counts from the first iteration",
    "optim_target_modules": "leave it out; the optimizer is AdamW for every weight",
    "load_best_model_at_end": "leave it out; save_steps keeps checkpoints to choose from",
    "hub_token": "log in with `hf auth login`, or set the environment's HF_TOKEN",
    "disable_tqdm": "set quiet",
    "verbose": "set quiet to False, or log_level to info",
    "missing_eos_penalty": "write a reward function (reward_funcs) that reads completion_ids",
    "ref_model": "leave it out; the frozen model_name_or_path is the reference",
    "value_model": "leave it out; a value head is made on model_name_or_path",
    "critic_model": "leave it out; a value head is made on model_name_or_path",
    "max_prompt_length": "leave it out; a query that does not fit beside max_completion_length is "
    "refused with its length",
    "sync_ref_model": "set elastic_reset_period, which moves the reference too",
    "wandb_project": "set project, or the environment's WANDB_PROJECT",
    "num_processes": "start them with torchrun or accelerate; shard_weights spreads weights",
    **{
        name: f"set advantage_estimator to {value}"
        for name, value in (
            ("ppo", "gae"),
            ("grpo", "group with num_generations of at least 2"),
            ("rloo", "leave_one_out with num_generations of at least 2"),
        )
    },
}
"""Names elsewhere of what is done by other means here: the fix."""

VALUES = {
    "advantage_estimator": {
        "ppo": "gae",
        "grpo": "group",
        "rloo": "leave_one_out",
        "loo": "leave_one_out",
        "reinforce++": "batch_mean",
        "reinforce_plus_plus": "batch_mean",
    },
    "dtype": {
        "bf16": "bfloat16",
        "fp16": "float16",
        "half": "float16",
        "fp32": "float32",
        "float": "float32",
        "auto": "float32, or bfloat16 for the frozen base of adapters",
    },
    "kl_estimator": {"kl": "k1", "low_var_kl": "k3", "schulman": "k3", "exact": "full"},
    "kl_controller": {"constant": "fixed"},
    "collapse_alarms": {"none": "off", "error": "stop"},
}
"""Names elsewhere of the values of a setting that has a few."""


def advice(name: str) -> str | None:
    """What to write instead of a name that is known, though no setting.

    >>> advice("lr"), advice("warmup_ratio"), advice("learnin_rate")
    ('here it is learning_rate', 'set warmup_steps to that share of max_steps', None)
    """
    if name in ADVICE:
        return ADVICE[name]
    plain = name.replace("-", "_").lower()
    if plain in SAME:
        return f"here it is {SAME[plain]}"
    return DIFFERENT.get(plain)


def fix(name: Any, known: Iterable[str]) -> str:
    """`: what to write instead` of an unknown name, for an error message, or nothing.

    >>> fix("beta", ["kl_coef"]), fix("max_step", ["max_steps"]), fix("deeply", ["seed"])
    (': here it is kl_coef', ': did you mean max_steps?', '')
    """
    found = advice(str(name))
    return did_you_mean(str(name), known) if found is None else f": {found}"


def value_fix(name: str, value: Any) -> str:
    """`: here it is …` for a value that another library has in place of one of a few, or nothing.

    >>> value_fix("advantage_estimator", "GRPO"), value_fix("dtype", "int3")
    (': here it is group', '')
    """
    found = VALUES.get(name, {}).get(str(value).lower())
    return "" if found is None else f": here it is {found}"
