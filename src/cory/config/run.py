"""Settings: sizes, optimizer, schedule, records."""

from __future__ import annotations

from dataclasses import dataclass


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
    None: only where sampling computes in another way (vLLM, 4-bit or bfloat16 weights); under
    `bf16` the two differ by rounding, and sampling's are what the tokens were drawn with."""
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
