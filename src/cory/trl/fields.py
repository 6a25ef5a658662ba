"""The fields of TRL's configurations with TRL's defaults, and those of cory's settings.

Names, types and defaults are TRL 1.16's; what they do stands in the table (`arguments`,
`objectives`). Fields that earlier releases had stand last, so that their scripts can be read.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, make_dataclass
from typing import Any, ClassVar, get_type_hints

from transformers import TrainingArguments
from transformers.utils.import_utils import is_torch_bf16_gpu_available

from cory.config import SETTINGS, THEMES, CORYConfig


@dataclass
class SharedFields(TrainingArguments):
    """What TRL's trainers of sampled answers have beside `TrainingArguments`, or change in it."""

    learning_rate: float = 1e-6
    logging_steps: float = 10
    gradient_checkpointing: bool = True  # pyright: ignore[reportIncompatibleVariableOverride]
    bf16: bool | None = None  # pyright: ignore[reportIncompatibleVariableOverride]
    remove_unused_columns: bool | None = False  # pyright: ignore[reportIncompatibleVariableOverride]
    temperature: float = 1.0

    # of earlier releases of transformers
    evaluation_strategy: str | None = None
    warmup_ratio: float | None = None
    overwrite_output_dir: bool | None = None
    save_safetensors: bool | None = None
    logging_dir: str | None = None
    no_cuda: bool | None = None
    use_ipex: bool | None = None
    jit_mode_eval: bool | None = None
    group_by_length: bool | None = None
    half_precision_backend: str | None = None
    include_tokens_per_second: bool | None = None
    include_inputs_for_metrics: bool | None = None
    push_to_hub_model_id: str | None = None
    push_to_hub_organization: str | None = None
    push_to_hub_token: str | None = None

    def __post_init__(self) -> None:
        if self.bf16 is None:
            # On a CPU that it was not asked to use, transformers refuses bfloat16.
            has_bf16 = self.use_cpu or is_torch_bf16_gpu_available()
            self.bf16 = has_bf16 and not self.fp16  # pyright: ignore
        if self.activation_checkpointing is None:
            self.activation_checkpointing = self.gradient_checkpointing
        if self.activation_checkpointing_kwargs is None:
            self.activation_checkpointing_kwargs = self.gradient_checkpointing_kwargs
        if self.evaluation_strategy is not None:
            self.eval_strategy = self.evaluation_strategy
        super().__post_init__()


@dataclass
class GroupFields(SharedFields):
    """What TRL's `GRPOConfig` and `RLOOConfig` have in common."""

    _VALID_DICT_FIELDS: ClassVar[list[str]] = [  # pyright: ignore[reportIncompatibleVariableOverride]
        *TrainingArguments._VALID_DICT_FIELDS,
        "model_init_kwargs",
        "generation_kwargs",
        "chat_template_kwargs",
        "transformers_continuous_batching_config",
    ]

    model_init_kwargs: dict[str, Any] | str | None = None
    trust_remote_code: bool = False
    router_aux_loss_coef: float | None = None
    disable_dropout: bool = False
    num_generations: int | None = 8
    num_generations_eval: int | None = None
    max_completion_length: int | None = 512
    ds3_gather_for_generation: bool = True
    shuffle_dataset: bool | None = True
    pad_to_multiple_of: int | str | None = "auto"
    generation_batch_size: int | None = None
    steps_per_generation: int | None = None
    top_p: float = 1.0
    top_k: int | None = 0
    min_p: float | None = None
    generation_kwargs: dict[str, Any] | str | None = None
    chat_template_kwargs: dict[str, Any] | str | None = None
    repetition_penalty: float = 1.0
    cache_implementation: str | None = None
    use_vllm: bool = False
    vllm_mode: str = "colocate"
    vllm_model_impl: str = "vllm"
    vllm_enable_sleep_mode: bool = False
    vllm_structured_outputs_regex: str | None = None
    vllm_server_base_url: str | None = None
    vllm_server_host: str = "0.0.0.0"
    vllm_server_port: int = 8000
    vllm_server_timeout: float = 240.0
    vllm_group_port: int = 51216
    vllm_gpu_memory_utilization: float = 0.3
    vllm_max_model_length: int | None = None
    vllm_tensor_parallel_size: int = 1
    beta: float = 0.0
    num_iterations: int = 1
    epsilon: float = 0.2
    epsilon_high: float | None = None
    reward_weights: list[float] | None = None
    mask_truncated_completions: bool = False
    sync_ref_model: bool = False
    ref_model_mixup_alpha: float = 0.6
    ref_model_sync_steps: int = 512
    log_completions: bool = False
    log_multimodal: bool = True
    num_completions_to_print: int | None = None
    log_unique_prompts: bool = False
    use_transformers_continuous_batching: bool = False
    transformers_continuous_batching_config: dict[str, Any] | str | None = None
    use_transformers_paged: bool = False

    # of earlier releases
    max_prompt_length: int | None = None
    vllm_guided_decoding_regex: str | None = None
    use_liger_loss: bool | None = None
    wandb_log_unique_prompts: bool | None = None
    vllm_device: str | None = None
    vllm_dtype: str | None = None
    vllm_max_model_len: int | None = None
    vllm_enable_prefix_caching: bool | None = None


@dataclass
class GRPOFields(GroupFields):
    """What TRL's `GRPOConfig` has."""

    cast_lm_head_to_fp32: bool = False
    delta: float | None = None
    sapo_temperature_neg: float = 1.05
    sapo_temperature_pos: float = 1.0
    vespo_k_pos: float = 2.0
    vespo_lambda_pos: float = 3.0
    vespo_k_neg: float = 3.0
    vespo_lambda_neg: float = 2.0
    importance_sampling_level: str = "token"
    multi_objective_aggregation: str = "sum_then_normalize"
    scale_rewards: str = "group"
    loss_type: str = "dapo"
    top_entropy_quantile: float = 1.0
    entropy_coef: float = 0.0
    use_adaptive_entropy: bool = False
    entropy_coef_min: float = 0.0
    entropy_coef_max: float = 1.0
    entropy_coef_delta: float = 0.005
    entropy_target: float = 0.2
    max_tool_calling_iterations: int | None = None
    vllm_importance_sampling_correction: bool = True
    vllm_importance_sampling_mode: str = "sequence_mask"
    vllm_importance_sampling_clip_max: float | None = 3.0
    vllm_importance_sampling_clip_min: float | None = None
    vllm_importance_sampling_cap: float | None = None
    off_policy_mask_threshold: float | None = None
    use_bias_correction_kl: bool = True
    log_completions_hub_repo: str | None = None


@dataclass
class RLOOFields(GroupFields):
    """What TRL's `RLOOConfig` has."""

    num_generations: int | None = 2
    beta: float = 0.05
    normalize_advantages: bool = False
    reward_clip_range: tuple[float, float] | None = None

    # of the trainer before 0.22
    exp_name: str | None = None
    rloo_k: int | None = None
    whiten_rewards: bool | None = None
    normalize_reward: bool | None = None
    token_level_kl: bool | None = None
    total_episodes: int | None = None
    response_length: int | None = None
    missing_eos_penalty: float | None = None


@dataclass
class PPOFields(SharedFields):
    """What the `PPOConfig` of TRL 0.12 to 1.15 has."""

    learning_rate: float = 3e-6
    temperature: float = 0.7
    exp_name: str = "ppo_config"
    reward_model_path: str = "EleutherAI/pythia-160m"
    sft_model_path: str = "EleutherAI/pythia-160m"
    dataset_num_proc: int | None = None
    model_adapter_name: str | None = None
    ref_adapter_name: str | None = None
    num_ppo_epochs: int = 4
    num_mini_batches: int = 1
    whiten_rewards: bool = False
    kl_coef: float = 0.05
    kl_estimator: str = "k1"
    cliprange: float = 0.2
    vf_coef: float = 0.1
    cliprange_value: float = 0.2
    gamma: float = 1.0
    lam: float = 0.95
    ds3_gather_for_generation: bool = True
    total_episodes: int | None = None
    local_rollout_forward_batch_size: int = 64
    num_sample_generations: int = 10
    response_length: int = 53
    stop_token: str | None = None
    stop_token_id: int | None = None
    missing_eos_penalty: float | None = None


WHAT_IS_PASSED = frozenset(
    {setting.name for setting in fields(THEMES["model"])}
    | {"task", "prompt_column", "dataset_name", "dataset_config", "dataset_train_split"}
    | {"dataset_test_split", "reward_funcs", "reward_model_name_or_path", "resume"}
)
"""Settings of what a TRL script passes as objects. They are keywords, and no options of a parser,
where scripts and TRL's ScriptArguments and ModelConfig have options of these names."""

FROM_TRL = (
    *("batch_size", "num_ppo_epochs", "num_mini_batches", "advantage_estimator"),
    *("kl_coef", "kl_estimator", "kl_placement", "cliprange", "cliprange_high"),
    *("num_eval_queries", "num_eval_samples", "max_completion_length", "recompute_logprobs"),
)
"""Settings that follow from TRL's fields, unless they are given."""


def with_settings(base: type) -> Any:
    """A dataclass of the fields of `base` and of all settings of cory that it does not have."""
    hints = get_type_hints(CORYConfig)
    own = {one.name for one in fields(base)}
    further = [
        (name, hints[name] | None, None) if name in FROM_TRL else (name, hints[name], default)
        for name, default in _defaults().items()
        if name not in own | WHAT_IS_PASSED
    ]
    return make_dataclass(
        f"{base.__name__}AndSettings",
        [(name, hint, field(default=default)) for name, hint, default in further],
        bases=(base,),
        namespace={"__module__": __name__},
    )


def _defaults() -> dict[str, Any]:
    """The default of each setting; here a team has one agent, unless more are asked for."""
    declared = {one.name: one.default for one in fields(CORYConfig)}
    return {name: declared[name] for name in SETTINGS} | {"num_agents": 1}
