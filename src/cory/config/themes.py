"""Settings by theme, with the docstrings that help and reference are made from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from cory.config import fields
from cory.config.fields import FRACTION, NAME, NON_NEGATIVE, POSITIVE, Placeholders, setting


@dataclass(frozen=True, kw_only=True)
class TaskConfig:
    """What is asked, how long an answer may be, and how it is paid."""

    task: str | None = setting(None, NAME)
    """Built-in task: pocket-reviews, pocket-arithmetic, imdb or gsm8k. It sets the defaults of the
    other settings. None: set `dataset_name` and `reward_funcs` yourself."""
    dataset_name: str | None = setting(None, NAME)
    """Data set: a Hub name, a local directory, or a .parquet, .jsonl, .json or .csv file."""
    dataset_config: str | None = setting(None, NAME)
    """Configuration name of a Hub data set."""
    dataset_train_split: str = setting("train", NAME)
    """Split of the data set to train on."""
    dataset_test_split: str = setting("test", NAME)
    """Held-out split of the data set to evaluate on."""
    prompt_column: str = setting("prompt")
    """Column of the query: a string, or chat messages, in which users' special tokens are text."""
    reward_funcs: list[str] | None = setting(None, NAME)
    """Reward functions. Each is an import path (`package.module.function`), a function in a file
    (`path/to/file.py:function`), or the name or directory of a sequence-classification model."""
    reward_weights: list[float] | None = setting(None, fields.SIGNED)
    """One weight per reward function. None: every weight is 1."""
    reward_model_name_or_path: str | None = setting(None, NAME)
    """Sequence-classification model that the task's reward uses (imdb: lvwerra/distilbert-imdb)."""
    query_template: str = setting("{query}", Placeholders(("{query}",)))
    """Prompt of the pioneer, and of every agent that is used alone. Must hold `{query}`."""
    observer_template: str = setting(
        "{query}\n{references}\n", Placeholders(("{query}", "{references}"))
    )
    """Prompt of an observer. Must hold `{query}` and `{references}`."""
    reference_template: str = setting("{answer}", Placeholders(("{answer}",)))
    """Text of one earlier answer inside `{references}`. Must hold `{answer}` and may hold
    `{query}`. Several answers stand in the order in which the agents spoke."""
    max_completion_length: int = setting(32, fields.COUNT)
    """Maximum number of new tokens per answer."""
    min_completion_length: int | None = setting(None, fields.COUNT)
    """Draw the maximum length of each iteration uniformly from this number up to
    `max_completion_length`, as the paper does on IMDB. None: always the maximum."""


@dataclass(frozen=True, kw_only=True)
class TeamConfig:
    """The team: how many agents, who sees which answers, who is paid for what."""

    num_agents: int = setting(2, fields.AGENTS, arm_may_change=True)
    """Number of agents, which answer one after the other. 1: single-agent PPO."""
    role_exchange_period: int | None = setting(5, POSITIVE, arm_may_change=True)
    """Iterations between two exchanges of roles. None: never."""
    knowledge_transfer: bool = setting(True, arm_may_change=True)
    """Observers see the earlier answers. False: every agent gets the plain query."""
    partner_reward_weight: float = setting(1.0, fields.SIGNED, arm_may_change=True)
    """λ, the weight of the partners' task rewards in the team reward. 1: shared equally (the
    paper), 0: each agent earns its own reward only, negative: agents compete."""
    reset_on_exchange: bool = setting(False, arm_may_change=True)
    """Reset optimizer state, reward statistics and KL coefficients whenever an exchange is due, as
    the paper's reference code does. A control: a single agent is reset at the same iterations."""


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The initial model, and which weights each agent owns."""

    model_name_or_path: str | None = setting(None, NAME)
    """Hub name or local directory of a causal language model."""
    dtype: Literal["float32", "bfloat16", "float16"] = setting("float32")
    """Number format of the weights. Full copies are trained in float32 only, 16 bytes per weight
    with gradient and moments; `bf16` computes in bfloat16. The base of adapters may have any."""
    attn_implementation: str | None = setting(None)
    """Attention of transformers: sdpa, eager, flash_attention_2 … None: its default."""
    trust_remote_code: bool = setting(False, read_from_run=False)
    """Run Python code that comes with a model or a reward model. It is never read from a run
    directory: give it again to evaluate or use such a run."""
    use_peft: bool = setting(False)
    """True: each agent is a LoRA adapter on one shared frozen base. False: each agent is a full
    copy of the model."""
    lora_r: int = setting(16, fields.COUNT)
    """Rank of an adapter."""
    lora_alpha: int = setting(32, fields.COUNT)
    """Scale of an adapter; it is divided by the rank."""
    lora_target_modules: list[str] | None = setting(None)
    """Modules that get an adapter. None: all linear layers except the output layer."""
    load_in_4bit: bool = setting(False)
    """Quantize the shared base to 4-bit NF4 with bitsandbytes. Needs `use_peft`."""


@dataclass(frozen=True, kw_only=True)
class AlgorithmConfig:
    """How one agent learns from its own samples."""

    advantage_estimator: Literal["gae", "group", "leave_one_out", "batch_mean", "reinforce"] = (
        setting("gae", arm_may_change=True)
    )
    """Advantages: gae (PPO), group (GRPO), leave_one_out (RLOO), batch_mean (REINFORCE++) or
    reinforce."""
    num_generations: int = setting(1, fields.COUNT, arm_may_change=True)
    """Answers per query. group and leave_one_out need at least 2."""
    num_ppo_epochs: int = setting(4, fields.COUNT)
    """Passes over the samples of an iteration."""
    num_mini_batches: int = setting(1, fields.COUNT)
    """Optimizer steps per pass."""
    gamma: float = setting(1.0, FRACTION)
    """γ, the discount per token."""
    lam: float = setting(0.95, FRACTION, arm_may_change=True)
    """λ of GAE."""
    cliprange: float = setting(0.2, POSITIVE, arm_may_change=True)
    """Clip range of the probability ratio."""
    cliprange_value: float | None = setting(0.2, POSITIVE, arm_may_change=True)
    """Clip range of the value function. None: no clipping."""
    vf_coef: float = setting(0.1, NON_NEGATIVE, arm_may_change=True)
    """Weight of the value loss."""
    whiten_advantages: bool | None = setting(None, arm_may_change=True)
    """Whiten advantages over the agent's batch. None: as in the paper of the estimator."""
    kl_coef: float = setting(0.05, NON_NEGATIVE)
    """η, the weight of the KL divergence from the initial model."""
    kl_estimator: Literal["full", "k1", "k2", "k3", "abs", "mse"] = setting(
        "k1", arm_may_change=True
    )
    """How the KL penalty is computed. The full KL is always reported, whatever is chosen."""
    kl_placement: Literal["reward", "loss", "both"] = setting("reward", arm_may_change=True)
    """Where the KL penalty is applied. both needs the estimator full and gives its exact gradient:
    a token's own KL in the loss, the KL of later tokens in the reward."""
    kl_controller: Literal["fixed", "adaptive"] = setting("fixed")
    """fixed: η stays `kl_coef`. adaptive: each agent changes its η until its KL per sequence is
    near `kl_target`."""
    kl_target: float = setting(6.0, POSITIVE)
    """Target of the adaptive controller: KL per sequence, in nats."""
    kl_horizon: int = setting(10000, POSITIVE)
    """Horizon of the adaptive controller, in samples. Larger values change η more slowly."""
    target_kl: float | None = setting(None, POSITIVE, arm_may_change=True)
    """Stop an agent's epochs early when its update has changed it by more than this KL per token.
    None: never."""
    normalize_rewards: bool = setting(False)
    """Subtract the running mean from team rewards and divide by their running standard deviation.
    The statistics are kept per agent and role."""
    score_clip: float | None = setting(None, POSITIVE)
    """Clip team rewards to ± this value, after they are normalized. None: no clipping."""
    elastic_reset_period: int | None = setting(None, POSITIVE, arm_may_change=True)
    """Elastic Reset (arXiv 2312.07551): after every so many iterations, the weights become their
    moving average and the average becomes the initial weights. None: never."""
    elastic_reset_decay: float = setting(0.995, FRACTION, arm_may_change=True)
    """Decay of that moving average per optimizer step."""


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Sizes, optimizer, schedule, records."""

    output_dir: str = setting("runs/cory", NAME, affects_result=False)
    """Run directory."""
    seed: int = setting(0, fields.SEED)
    """Seed of all random numbers."""
    max_steps: int = setting(100, POSITIVE, resume_may_change=True)
    """Number of iterations. An iteration is one rollout of the team and one update of each
    agent."""
    batch_size: int = setting(128, fields.COUNT, arm_may_change=True)
    """Answers per agent and iteration: queries × `num_generations`."""
    per_device_train_batch_size: int | None = setting(None, POSITIVE, resume_may_change=True)
    """Sequences per forward and backward pass at most: memory, not results. None: what is fast."""
    per_device_eval_batch_size: int = setting(256, POSITIVE, resume_may_change=True)
    """Maximum number of sequences that are generated or scored at once without a gradient."""
    temperature: float = setting(1.0, fields.TEMPERATURE)
    """Temperature, of sampling and scoring alike."""
    recompute_logprobs: bool | None = setting(None)
    """Compute the log-probabilities of the sampled answers in a separate pass, instead of keeping
    those from sampling. None: only where the start-up probe finds that sampling computes
    differently, and with vLLM. On a CPU `bf16` needs no such pass, on a GPU it does."""
    learning_rate: float | list[float] = setting(1e-5, NON_NEGATIVE)
    """Peak learning rate. A list gives one per agent."""
    lr_scheduler_type: str = setting("constant")
    """Name of any learning-rate scheduler of transformers. It advances once per iteration."""
    lr_scheduler_kwargs: dict[str, Any] | None = setting(None)
    """Further arguments of that scheduler; on the command line as JSON, `'{"min_lr": 1e-6}'`."""
    warmup_steps: int = setting(0, NON_NEGATIVE)
    """Iterations of linear warm-up."""
    weight_decay: float = setting(0.0, NON_NEGATIVE)
    """Decoupled weight decay of AdamW."""
    adam_beta1: float = setting(0.9, fields.BELOW_ONE)
    """β1 of AdamW."""
    adam_beta2: float = setting(0.999, fields.BELOW_ONE)
    """β2 of AdamW."""
    adam_epsilon: float = setting(1e-8, POSITIVE)
    """ε of AdamW."""
    max_grad_norm: float = setting(1.0, NON_NEGATIVE)
    """Maximum norm of each agent's gradient; a larger one is scaled down. 0: no limit."""
    bf16: bool | Literal["auto"] = setting(False)
    """Autocast to bfloat16 in sampling, scoring and training. Weights and statistics keep their
    number format. `auto`: where the device has instructions for it; without, it is slow."""
    gradient_checkpointing: bool = setting(False)
    """Recompute activations in the backward pass. This takes less memory and more time."""
    use_cpu: bool = setting(False, resume_may_change=True)
    """Use the CPU even if there is an accelerator."""
    logging_steps: int = setting(1, POSITIVE, affects_result=False)
    """Iterations between two records in metrics.jsonl."""
    log_samples_steps: int | None = setting(10, POSITIVE, affects_result=False)
    """Iterations between two files of answers in samples/. None: no files."""
    eval_steps: int | None = setting(None, POSITIVE, resume_may_change=True)
    """Iterations between two evaluations on held-out queries. None: only at the end."""
    num_eval_queries: int = setting(256, POSITIVE, resume_may_change=True)
    """Number of held-out queries per evaluation."""
    num_eval_samples: int = setting(1, fields.COUNT, resume_may_change=True)
    """Answers per held-out query in evaluations during training."""
    save_steps: int | None = setting(None, POSITIVE, affects_result=False)
    """Iterations between two checkpoints. None: only at the end."""
    save_total_limit: int | None = setting(None, POSITIVE, affects_result=False)
    """Number of checkpoints to keep; older ones are deleted. None: keep all."""
    metric_for_best_model: str | None = setting(None, affects_result=False)
    """Evaluation metric that callbacks such as EarlyStoppingCallback read."""
    greater_is_better: bool = setting(True, affects_result=False)
    """Whether a larger value of that metric is better."""
    resume: bool = setting(False, affects_result=False)
    """Continue from the newest checkpoint in `output_dir`."""


@dataclass(frozen=True, kw_only=True)
class ServerConfig:
    """Sampling on a vLLM server."""

    vllm_server_base_url: str | None = setting(None, resume_may_change=True, read_from_run=False)
    """Address of a running vLLM server that samples the answers: http://HOST:PORT. Needs
    `use_peft`. None: this process samples them."""
    vllm_server_timeout: float = setting(600.0, fields.SECONDS, affects_result=False)
    """Seconds to wait for the server to start, to come back when it has stopped answering, and to
    answer one request, its time in the queue included. Then the run saves and stops; `resume`
    continues it."""
    vllm_adapter_dir: str | None = setting(None, NAME, affects_result=False)
    """Directory from which the server loads the adapters. It must have the same path for the server
    and for this process. None: `vllm` in `output_dir`."""
    vllm_importance_sampling_clip_max: float | None = setting(2.0, POSITIVE)
    """Each token's policy loss is weighted by its probability under the trainer divided by that
    under the server, which sampled it. This number is the largest weight. None: no weights."""


@dataclass(frozen=True, kw_only=True)
class ProcessesConfig:
    """Training on several processes (accelerate launch, torchrun)."""

    shard_weights: bool = setting(False, affects_result=False)
    """Shard full copies of the model over the processes (FSDP2): weights, gradients, optimizer
    moments and the reference. For models that do not fit on one device."""
    ddp_timeout: int = setting(600, fields.SECONDS, affects_result=False)
    """Seconds until a process stops waiting for another one. Must be longer than the slowest call
    of a reward function. A process that has ended is noticed at once."""


@dataclass(frozen=True, kw_only=True)
class ExtensionsConfig:
    """Beyond the paper: averages of weights, and learning from partners' answers."""

    weight_average_decay: float | None = setting(None, FRACTION, arm_may_change=True)
    """Decay of a moving average (EMA) of each agent's weights over iterations. The average is the
    result of the run; training continues with the weights themselves. None: no average, the
    weights are the result."""
    evaluate_merged: bool = setting(False, arm_may_change=True, resume_may_change=True)
    """Also evaluate the mean of all agents' weights, as `merged`. `cory merge` saves that mean."""
    merge_on_exchange: float = setting(0.0, FRACTION, arm_may_change=True)
    """At every exchange of roles, interpolate each agent's weights to the team's mean by this
    share. 0: no change, 1: all agents become equal. Optimizer moments stay."""
    transfer_back_weight: float = setting(0.0, NON_NEGATIVE, arm_may_change=True)
    """Weight of transfer back in the loss: all agents learn observers' answers that earn more than
    the pioneer's, as answers to the plain query."""
    transfer_min_lift: float | None = setting(None, fields.SIGNED, arm_may_change=True)
    """End knowledge transfer at an exchange of roles if, since the previous exchange, observers
    earned on average at most this much more than the pioneer. Afterwards every agent gets the
    plain query. 0: end it when references no longer help. None: it never ends."""
    partner_samples_weight: float = setting(0.0, NON_NEGATIVE, arm_may_change=True)
    """Weight in the loss of a partner's answers to the plain query, which each agent learns from
    beside its own. They are importance-weighted."""


@dataclass(frozen=True, kw_only=True)
class FaultsConfig:
    """What happens when something goes wrong."""

    reward_timeout: float | None = setting(None, fields.SECONDS, resume_may_change=True)
    """Maximum number of seconds for one call of a reward function, which then runs in its own
    thread. None: no limit; the function runs in the main thread, as math-verify needs for its own
    time limits."""
    max_reward_failures: int = setting(0, NON_NEGATIVE, resume_may_change=True)
    """Number of calls of reward functions that may fail in a run: an exception, a timeout, or a
    result that is not a reward. A failed answer gets the mean of the other answers of the call. One
    more failure stops the run."""
    collapse_alarms: Literal["off", "warn", "stop"] = setting("warn", affects_result=False)
    """What to do when an agent shows a sign of collapse: entropy below 0.01 nats per token, KL to
    the initial model above 2 nats per token, or less than 10% distinct answers. warn: print a
    warning. stop: also save and end the run after 5 such iterations in a row."""
