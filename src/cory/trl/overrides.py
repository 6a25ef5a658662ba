"""Methods of TRL's trainers that a subclass cannot replace here, and why."""

from __future__ import annotations

from collections.abc import Iterator

_LOSS = (
    "cory computes losses itself, on micro-batches whose sizes must not change the sum: choose "
    "loss_type, advantage_estimator, kl_estimator and kl_placement, or write a reward function"
)
_ANSWERS = (
    "cory samples and pays answers itself: write a reward function, or set query_template, "
    "stop_strings or chat_template_kwargs"
)
_DATA = "rows are a function of seed and step, so that a run can be resumed: pass the rows in order"
_OPTIMIZER = "cory trains with AdamW: set learning_rate, lr_scheduler_type, adam_beta1, …"

REFUSED = {
    **dict.fromkeys(
        ("compute_loss", "_compute_loss", "training_step", "get_batch_loss_metrics"), _LOSS
    ),
    **dict.fromkeys(
        (
            "_generate",
            "_generate_single_turn",
            "_generate_and_score_completions",
            "_calculate_rewards",
            "_get_per_token_logps",
            "_get_per_token_logps_and_entropies",
            "_prepare_inputs",
            "prediction_step",
        ),
        _ANSWERS,
    ),
    **dict.fromkeys(
        ("get_train_dataloader", "_get_train_sampler", "_get_eval_sampler", "get_eval_dataloader"),
        _DATA,
    ),
    **dict.fromkeys(
        ("create_optimizer", "create_scheduler", "create_optimizer_and_scheduler"), _OPTIMIZER
    ),
}
"""The reason, by the name of the method."""


def refused_overrides(kind: type, base: type) -> Iterator[str]:
    """A problem for each method that `kind` has, `base` has not, and cory would never call."""
    for name, why in REFUSED.items():
        if getattr(kind, name, None) is not getattr(base, name, None):
            yield f"{kind.__name__}.{name} would never be called: {why}"
