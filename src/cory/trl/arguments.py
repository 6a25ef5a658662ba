"""Rows for the fields of `transformers.TrainingArguments`, those of earlier releases included."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cory.trl.rows import Row, converted, no_op, refused, same, used

_PLAN = used("the sizes of an iteration and the number of iterations")
_TIMES = used("when something is logged, evaluated or saved, in iterations")
_TRACKERS = used("the trackers of transformers")
_HUB = used("`push_to_hub`")
_SCRIPTS = used("read by scripts")
_LOADER = no_op("rows are read by this process; it changes speed, not results")
_PROCESSES = no_op("gradients of processes are summed by cory itself")
_KERNELS = no_op("cory computes with its own kernels; it changes speed, not results")
_EVALUATION = no_op("evaluations of cory sample answers and pay them; this acts on other tasks")
_GONE = no_op("transformers has removed it, and nothing is left of it to do")
_FSDP_DEFAULTS = {
    "min_num_params": 0,
    "xla": False,
    "xla_fsdp_v2": False,
    "xla_fsdp_grad_ckpt": False,
}
_SHARDED = refused(
    "cory does not use it. Launch with torchrun or accelerate without it, and set "
    "shard_weights=True if one device cannot hold the model"
)


def _optimizer(name: Any) -> dict[str, Any]:
    text = str(getattr(name, "value", name))
    if "adamw" in text:
        return {}
    raise ValueError(f"optim={text!r}: cory trains with AdamW alone: leave it out")


def _schedule(name: Any) -> dict[str, Any]:
    return {"lr_scheduler_type": str(getattr(name, "value", name))}


def _half(fp16: bool) -> dict[str, Any]:
    return {"bf16": True} if fp16 else {}


def _norm(largest: float | None) -> dict[str, Any]:
    return {"max_grad_norm": float(largest or 0.0)}


ARGUMENTS: Mapping[str, Row] = {
    "output_dir": used("the same name; None: `trainer_output`"),
    **dict.fromkeys(
        (
            "per_device_train_batch_size",
            "gradient_accumulation_steps",
            "num_train_epochs",
            "max_steps",
            "warmup_steps",
            "warmup_ratio",
            "per_device_eval_batch_size",
        ),
        _PLAN,
    ),
    "learning_rate": same("learning_rate"),
    "lr_scheduler_type": converted("the same name", _schedule),
    "lr_scheduler_kwargs": converted(
        "the same name", lambda value: {"lr_scheduler_kwargs": value or None}
    ),
    "optim": converted("AdamW of every kind is AdamW in float32; others are refused", _optimizer),
    "optim_args": refused("cory trains with plain AdamW: use adam_beta1, adam_beta2, adam_epsilon"),
    "optim_target_modules": refused("cory trains all weights, or adapters: pass a peft_config"),
    **{
        name: same(name)
        for name in ("weight_decay", "adam_beta1", "adam_beta2", "adam_epsilon", "seed", "use_cpu")
    },
    "average_tokens_across_devices": no_op("losses are always divided by the tokens of all"),
    "max_grad_norm": converted("the same name; 0 or None: no limit", _norm),
    "label_smoothing_factor": refused("no loss with labels is computed: leave it out", 0.0),
    "bf16": used("`bf16`; None: True unless `fp16`"),
    "fp16": converted("`bf16=True`: no loss is scaled", _half),
    "half_precision_backend": _GONE,
    "bf16_full_eval": no_op("evaluations compute as training does"),
    "fp16_full_eval": no_op("evaluations compute as training does"),
    "tf32": used("set by transformers itself"),
    "activation_checkpointing": used("`gradient_checkpointing`"),
    "activation_checkpointing_kwargs": no_op("activations are recomputed without reentrance"),
    "gradient_checkpointing": used("`gradient_checkpointing`"),
    "gradient_checkpointing_kwargs": no_op("activations are recomputed without reentrance"),
    **dict.fromkeys(("torch_compile", "torch_compile_backend", "torch_compile_mode"), _KERNELS),
    **dict.fromkeys(("use_liger_kernel", "liger_kernel_config", "use_ipex"), _KERNELS),
    "use_cache": no_op("answers are always decoded with a cache"),
    "neftune_noise_alpha": refused("noise in embeddings would make ratios wrong: leave it out"),
    "torch_empty_cache_steps": no_op("the allocator is left alone"),
    "auto_find_batch_size": refused(
        "groups would be torn: set it to False and lower per_device_train_batch_size"
    ),
    **dict.fromkeys(("logging_strategy", "logging_steps", "logging_first_step"), _TIMES),
    "log_on_each_node": no_op("one process logs"),
    "logging_nan_inf_filter": no_op("a step that is not finite is not taken, and is counted"),
    "include_num_input_tokens_seen": no_op("`num_tokens` is always logged", "no"),
    "include_tokens_per_second": _GONE,
    "log_level": _SCRIPTS,
    "log_level_replica": _SCRIPTS,
    "disable_tqdm": used("True: the console says nothing"),
    **dict.fromkeys(("report_to", "run_name", "project", "logging_dir"), _TRACKERS),
    **dict.fromkeys(
        ("trackio_space_id", "trackio_bucket_id", "trackio_static_space_id"), _TRACKERS
    ),
    **dict.fromkeys(("eval_strategy", "evaluation_strategy", "eval_steps"), _TIMES),
    "eval_delay": refused("evaluations come at fixed distances: leave it out", 0),
    **dict.fromkeys(("eval_on_start", "save_strategy", "save_steps"), _TIMES),
    **dict.fromkeys(
        (
            "prediction_loss_only",
            "eval_do_concat_batches",
            "eval_use_gather_object",
            "eval_accumulation_steps",
            "include_for_metrics",
            "include_inputs_for_metrics",
            "batch_eval_metrics",
            "jit_mode_eval",
            "label_names",
        ),
        _EVALUATION,
    ),
    "save_only_model": no_op("checkpoints always hold what a resume needs"),
    "save_on_each_node": no_op("one process saves"),
    "save_safetensors": no_op("weights are always saved as safetensors"),
    "save_total_limit": same("save_total_limit"),
    "enable_jit_checkpoint": no_op("SIGTERM, SIGINT and SIGHUP always save before the end"),
    **dict.fromkeys(
        ("push_to_hub", "hub_token", "hub_private_repo", "hub_model_id", "hub_revision"), _HUB
    ),
    "push_to_hub_model_id": no_op("transformers has renamed it: set hub_model_id"),
    "push_to_hub_token": no_op("transformers has renamed it: set hub_token"),
    "push_to_hub_organization": no_op("transformers has renamed it: set hub_model_id"),
    "hub_strategy": no_op("the result is pushed once, at the end of training", "end", "every_save"),
    "hub_always_push": no_op("the result is pushed once, at the end of training"),
    "load_best_model_at_end": refused(
        "the weights of the last iteration are the result, and every checkpoint is kept: leave it "
        "out, and load the checkpoint that trainer.state.best_global_step names"
    ),
    "metric_for_best_model": used("read by callbacks; `trainer.state.best_metric`"),
    "greater_is_better": used("read by callbacks; `trainer.state.best_metric`"),
    "ignore_data_skip": no_op("a resumed run continues at its place in the data at no cost"),
    "restore_callback_states_from_checkpoint": refused(
        "callbacks start afresh when a run is resumed: leave it out"
    ),
    "full_determinism": no_op("runs of one seed and machine are equal on a CPU in any case"),
    "data_seed": no_op("`seed` decides the order of the data, too"),
    "accelerator_config": used("its defaults; cory moves data itself"),
    "parallelism_config": _SHARDED,
    **dict.fromkeys(
        (
            "dataloader_drop_last",
            "dataloader_num_workers",
            "dataloader_persistent_workers",
            "dataloader_prefetch_factor",
            "dataloader_multiprocessing_context",
            "dataloader_in_order",
            "group_by_length",
            "length_column_name",
        ),
        _LOADER,
    ),
    "dataloader_pin_memory": no_op("rows are read by this process", False),
    "remove_unused_columns": no_op("columns are passed on to the reward functions that take them"),
    "train_sampling_strategy": refused(
        "rows come shuffled, or in their own order with shuffle_dataset=False: leave it out"
    ),
    **dict.fromkeys(
        (
            "ddp_find_unused_parameters",
            "ddp_bucket_cap_mb",
            "ddp_broadcast_buffers",
            "ddp_static_graph",
            "ddp_backend",
            "local_rank",
        ),
        _PROCESSES,
    ),
    "ddp_timeout": same("ddp_timeout"),
    **dict.fromkeys(("fsdp", "deepspeed"), _SHARDED),
    "fsdp_config": no_op("it acts with fsdp", _FSDP_DEFAULTS),
    "debug": no_op("a loss that is not finite is always reported with its sample"),
    "skip_memory_metrics": no_op("memory is not measured"),
    "overwrite_output_dir": no_op(
        "a run is never written over: pass resume_from_checkpoint=True to train(), or choose "
        "another output_dir"
    ),
    "no_cuda": converted("`use_cpu`", lambda value: {"use_cpu": True} if value else {}),
    **dict.fromkeys(("do_train", "do_eval", "do_predict", "resume_from_checkpoint"), _SCRIPTS),
}
"""By name, in the order of `TrainingArguments`."""
