"""Settings: sizes, optimizer, schedule, records."""

from __future__ import annotations

from dataclasses import dataclass

from cory.config.fields import FRACTION, NON_NEGATIVE, POSITIVE, setting


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Sizes, optimizer, schedule, records."""

    output_dir: str = setting("runs/cory", affects_result=False)
    """Run directory."""
    seed: int = setting(0, NON_NEGATIVE)
    """Seed of all random numbers."""
    max_steps: int = setting(100, POSITIVE, resume_may_change=True)
    """Number of iterations. An iteration is one rollout of the team and one update of each
    agent."""
    batch_size: int = setting(128, POSITIVE, arm_may_change=True)
    """Answers per agent and iteration: queries × `num_generations`."""
    per_device_train_batch_size: int | None = setting(None, POSITIVE, resume_may_change=True)
    """Maximum number of sequences per forward and backward pass. It changes memory, not results.
    None: as many as are fast."""
    per_device_eval_batch_size: int = setting(256, POSITIVE, resume_may_change=True)
    """Maximum number of sequences that are generated or scored at once without a gradient."""
    temperature: float = setting(1.0, POSITIVE)
    """Temperature, of sampling and scoring alike."""
    recompute_logprobs: bool | None = setting(None)
    """Compute the log-probabilities of the sampled answers in a separate pass, instead of keeping
    those from sampling. None: only where sampling computes differently (vLLM, 4-bit or bfloat16
    weights). Under `bf16` the two differ by rounding; answers were drawn with those of sampling."""
    learning_rate: float | list[float] = setting(1e-5)
    """Peak learning rate. A list gives one per agent."""
    lr_scheduler_type: str = setting("constant")
    """Name of any learning-rate scheduler of transformers. It advances once per iteration."""
    warmup_steps: int = setting(0, NON_NEGATIVE)
    """Iterations of linear warm-up."""
    weight_decay: float = setting(0.0, NON_NEGATIVE)
    """Decoupled weight decay of AdamW."""
    adam_beta1: float = setting(0.9, FRACTION)
    """β1 of AdamW."""
    adam_beta2: float = setting(0.999, FRACTION)
    """β2 of AdamW."""
    adam_epsilon: float = setting(1e-8, POSITIVE)
    """ε of AdamW."""
    max_grad_norm: float = setting(1.0, NON_NEGATIVE)
    """Maximum norm of each agent's gradient; a larger one is scaled down. 0: no limit."""
    bf16: bool = setting(False)
    """Autocast to bfloat16 in sampling, scoring and training. Weights and statistics keep their
    number format."""
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
    num_eval_samples: int = setting(1, POSITIVE, resume_may_change=True)
    """Answers per held-out query in evaluations during training."""
    save_steps: int | None = setting(None, POSITIVE, affects_result=False)
    """Iterations between two checkpoints. None: only at the end."""
    save_total_limit: int | None = setting(None, POSITIVE, affects_result=False)
    """Number of checkpoints to keep; older ones are deleted. None: keep all."""
    report_to: list[str] | None = setting(None, affects_result=False)
    """Trackers of accelerate: tensorboard, wandb, trackio …"""
    run_name: str | None = setting(None, affects_result=False)
    """Name of the run in trackers."""
    metric_for_best_model: str | None = setting(None, affects_result=False)
    """Evaluation metric that callbacks such as EarlyStoppingCallback read."""
    greater_is_better: bool = setting(True, affects_result=False)
    """Whether a larger value of that metric is better."""
    resume: bool = setting(False, affects_result=False)
    """Continue from the newest checkpoint in `output_dir`."""
