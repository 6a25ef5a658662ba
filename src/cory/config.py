"""Every setting of a run: one frozen, flat dataclass, built from six themed parts.

Field names are those of `transformers.TrainingArguments` and TRL wherever the meaning is the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, fields, replace
from difflib import get_close_matches
from functools import wraps
from typing import Any, Literal

from cory.extensions import ExtensionConfig
from cory.presets import preset_settings


@dataclass(frozen=True, kw_only=True)
class TaskConfig:
    """What is asked, and how an answer is paid."""

    task: str | None = None
    """A built-in task: pocket-reviews, pocket-arithmetic, imdb or gsm8k. It sets the defaults of
    the fields below. None: bring `dataset_name` and `reward_funcs`."""
    dataset_name: str | None = None
    """Hub name, local directory, or .parquet/.jsonl/.json/.csv file."""
    dataset_config: str | None = None
    """Configuration name of a Hub data set."""
    dataset_train_split: str = "train"
    """Split to train on."""
    dataset_test_split: str = "test"
    """Held-out split to evaluate on."""
    prompt_column: str = "prompt"
    """Column that holds the query: a string, or a list of chat messages."""
    reward_funcs: list[str] | None = None
    """Reward functions: an import path (`package.module.function`, `path/to/file.py:function`), or
    the name or directory of a sequence-classification model."""
    reward_weights: list[float] | None = None
    """One weight per reward function. None: all 1."""
    reward_model_name_or_path: str | None = None
    """Sequence-classification model that a task's reward reads (imdb: lvwerra/distilbert-imdb)."""
    query_template: str = "{query}"
    """Prompt of whoever speaks first, and of every agent used alone. Must hold `{query}`."""
    observer_template: str = "{query}\n{references}\n"
    """Prompt of whoever speaks later. Must hold `{query}` and `{references}`."""
    reference_template: str = "{answer}"
    """How one earlier answer is shown inside `{references}`. Must hold `{answer}`, may hold
    `{query}`. Several answers follow each other in the order of speaking."""


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The initial model, and what of it each agent owns."""

    model_name_or_path: str | None = None
    """Hub name or local directory of a causal language model."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Number format of the weights."""
    attn_implementation: str | None = None
    """Attention of transformers: sdpa, eager, flash_attention_2 … None: its own choice."""
    trust_remote_code: bool = False
    """Run code that comes with a model."""
    use_peft: bool = False
    """True: one LoRA adapter per agent on one shared frozen base. False: full copies."""
    lora_r: int = 16
    """Rank of an adapter."""
    lora_alpha: int = 32
    """Scale of an adapter, divided by its rank."""
    lora_target_modules: list[str] | None = None
    """Modules that get an adapter. None: all linear layers but the head."""
    load_in_4bit: bool = False
    """Quantise the shared base to 4-bit NF4 with bitsandbytes. Needs `use_peft`."""


@dataclass(frozen=True, kw_only=True)
class TeamConfig:
    """The team: who speaks, who sees what, who is paid what."""

    num_agents: int = 2
    """Agents that answer in turn; 1 is single-agent PPO."""
    role_exchange_period: int | None = 5
    """Iterations between two exchanges of roles. None: never."""
    knowledge_transfer: bool = True
    """Observers see the earlier answers. False: everybody gets the plain query."""
    partner_reward_weight: float = 1.0
    """Weight of the partners' task rewards: 1 shared (the paper), 0 own, negative competitive."""
    credit: Literal["collective", "causal", "own"] = "collective"
    """Whose rewards count: all partners' (the paper), those who speak later, or nobody's."""
    reset_on_exchange: bool = False
    """Whenever an exchange is due, forget optimizer, reward statistics and KL coefficients, as the
    paper's reference code does (a control). A single agent forgets at the same iterations."""


@dataclass(frozen=True, kw_only=True)
class AlgorithmConfig:
    """How one agent learns from its own samples."""

    advantage_estimator: Literal["gae", "group", "leave_one_out", "batch_mean", "reinforce"] = "gae"
    """gae (PPO), group (GRPO), leave_one_out (RLOO), batch_mean (REINFORCE++) or reinforce."""
    num_generations: int = 1
    """Answers per query. group and leave_one_out need at least 2."""
    num_ppo_epochs: int = 4
    """Passes over the samples of an iteration."""
    num_mini_batches: int = 1
    """Optimizer steps per pass."""
    gamma: float = 1.0
    """Discount per token."""
    lam: float = 0.95
    """λ of GAE."""
    cliprange: float = 0.2
    """Clip range of the probability ratio."""
    cliprange_value: float | None = 0.2
    """Clip range of the value function. None: no clipping."""
    vf_coef: float = 0.1
    """Weight of the value loss."""
    whiten_advantages: bool | None = None
    """Whiten advantages over the agent's batch. None: as the estimator's own paper does."""
    kl_coef: float = 0.05
    """η, the weight of the KL to the initial model."""
    kl_estimator: Literal["full", "k1", "k2", "k3", "abs", "mse"] = "k1"
    """What the KL penalty is computed from; the full KL is reported in any case."""
    kl_placement: Literal["reward", "loss", "both"] = "reward"
    """Where the penalty goes. both, with `full` only: its exact gradient, a token's own KL in the
    loss and that of later tokens in the reward."""
    kl_controller: Literal["fixed", "adaptive"] = "fixed"
    """adaptive: each agent moves its η so that its KL per sequence tends to `kl_target`."""
    kl_target: float = 6.0
    """KL per sequence, in nats, that the adaptive controller aims at."""
    kl_horizon: int = 10000
    """Samples over which the adaptive controller acts."""
    target_kl: float | None = None
    """Stop an agent's epochs once its update has moved it this far (KL per token). None: never."""
    use_score_scaling: bool = False
    """Divide team rewards by their running standard deviation, kept per agent and role."""
    use_score_norm: bool = False
    """Subtract their running mean too. Needs `use_score_scaling`."""
    score_clip: float | None = None
    """Clip team rewards, after scaling, to ± this value."""
    elastic_reset_period: int | None = None
    """Elastic Reset (arXiv 2312.07551): every so many iterations weights go back to their moving
    average and the average to the initial weights. None: never."""
    elastic_reset_decay: float = 0.995
    """Decay, per optimizer step, of that moving average."""


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Sizes, optimizer, schedule, records."""

    output_dir: str = "runs/cory"
    """Run directory."""
    seed: int = 0
    """Seed of everything random."""
    max_steps: int = 100
    """Iterations: each is one rollout of the team and one update of each agent."""
    batch_size: int = 128
    """Answers per agent and iteration (queries × `num_generations`)."""
    per_device_train_batch_size: int | None = None
    """Sequences per forward and backward pass, at most; changes memory, not results. None: as many
    as are fast."""
    per_device_eval_batch_size: int = 256
    """Sequences generated or scored at once when no gradient is needed, at most."""
    max_completion_length: int = 32
    """New tokens per answer, at most."""
    min_completion_length: int | None = None
    """Draw each iteration's `max_completion_length` evenly from this up to it (the paper's IMDB
    setting). None: always the maximum."""
    temperature: float = 1.0
    """Sampling temperature, used in sampling and scoring alike."""
    recompute_logprobs: bool | None = None
    """Score the sampled answers in a pass of their own, instead of keeping what sampling computed.
    None: only where the two would differ by more than float32 rounds (bf16, 4-bit)."""
    learning_rate: float | list[float] = 1e-5
    """Peak learning rate; a list gives one per agent."""
    lr_scheduler_type: str = "constant"
    """Any scheduler name of transformers; it advances once per iteration."""
    warmup_steps: int = 0
    """Iterations of linear warm-up."""
    weight_decay: float = 0.0
    """Decoupled weight decay of AdamW."""
    adam_beta1: float = 0.9
    """β1 of AdamW."""
    adam_beta2: float = 0.999
    """β2 of AdamW."""
    adam_epsilon: float = 1e-8
    """ε of AdamW."""
    max_grad_norm: float = 1.0
    """Gradient clipping per agent; 0: none."""
    bf16: bool = False
    """Autocast to bfloat16 in sampling, scoring and learning; weights and statistics stay as they
    are."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, more time."""
    use_cpu: bool = False
    """Stay on the CPU although an accelerator is there."""
    logging_steps: int = 1
    """Iterations between two records in metrics.jsonl."""
    log_samples_steps: int | None = 10
    """Iterations between two files of answers in samples/. None: never."""
    eval_steps: int | None = None
    """Iterations between two evaluations on held-out queries. None: only at the end."""
    num_eval_queries: int = 256
    """Held-out queries per evaluation."""
    num_eval_samples: int = 1
    """Answers per held-out query in evaluations during training."""
    save_steps: int | None = None
    """Iterations between two checkpoints. None: only at the end."""
    save_total_limit: int | None = None
    """Checkpoints kept. None: all."""
    report_to: list[str] | None = None
    """Trackers of accelerate: tensorboard, wandb, trackio …"""
    run_name: str | None = None
    """Name of the run in trackers."""
    metric_for_best_model: str | None = None
    """Evaluation metric that callbacks such as EarlyStoppingCallback watch."""
    greater_is_better: bool = True
    """Whether a larger value of that metric is better."""
    resume: bool = False
    """Continue from the newest checkpoint in `output_dir`."""


@dataclass(frozen=True, kw_only=True)
class CORYConfig(ExtensionConfig, RunConfig, AlgorithmConfig, TeamConfig, ModelConfig, TaskConfig):
    """All settings of a run.

    The plain defaults keep the paper's transfer, exchange and shared reward.
    `CORYConfig.for_task("imdb", max_steps=20)` starts from a task's own defaults.

    Raises:
        ValueError: a value breaks a rule; the message names the value, the rule and the fix.
    """

    def __post_init__(self) -> None:
        from cory.validation import validate

        validate(self)

    @classmethod
    def for_task(cls, task: str, *, preset: str | None = None, **overrides: Any) -> CORYConfig:
        """The task's defaults, changed by a preset such as `paper`, changed by `overrides`."""
        from cory.tasks import task_defaults

        return cls(**{"task": task, **task_defaults(task), **preset_settings(preset), **overrides})

    @property
    def eval_strategy(self) -> str:
        """`steps` or `no`, as callbacks of transformers ask for it."""
        return "no" if self.eval_steps is None else "steps"

    @property
    def load_best_model_at_end(self) -> bool:
        """Always False: the agents of the last step are the result, every checkpoint is kept."""
        return False

    def replace(self, **changes: Any) -> CORYConfig:
        """A copy with some fields changed."""
        return replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """Plain values by field name, as written to config.yaml."""
        return asdict(self)


FIELD_NAMES = frozenset(field.name for field in fields(CORYConfig))


def refuse_unknown_names(names: Iterable[str]) -> None:
    """Check that every name is a setting.

    Raises:
        ValueError: one is not; the message has the nearest that is.
    """
    for name in names:
        if name not in FIELD_NAMES:
            nearest = get_close_matches(name, FIELD_NAMES, n=1)
            fix = f"did you mean {nearest[0]!r}?" if nearest else "`cory train --help` lists them"
            raise ValueError(f"{name!r} is not a setting of CORYConfig: {fix}")


def _refusing_unknown_names(init: Callable[..., None]) -> Callable[..., None]:
    @wraps(init)
    def checked_init(self: CORYConfig, **settings: Any) -> None:
        refuse_unknown_names(settings)
        init(self, **settings)

    return checked_init


# Python's own message for an unknown keyword knows no alternative.
CORYConfig.__init__ = _refusing_unknown_names(CORYConfig.__init__)
