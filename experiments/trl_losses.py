"""Losses, advantages and gradients beside TRL's own, on the same model, answers and numbers.

`python -m experiments.trl_losses MODEL`, on a CPU, where TRL is installed beside cory. TRL's
trainers draw the answers and compute advantages, loss and gradient by their own code, unmodified;
cory computes the same from the same weights, answers, rewards and old log-probabilities.

MODEL must have rotary positions, such as `tests.tiny_models.save_tiny_llama` makes: TRL counts
absolute ones from the padding on, so a GPT-2 reads a short prompt at other positions.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import trl
from datasets import Dataset
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel
from trl import GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer

from cory.algorithm.advantages import estimator_of
from cory.config import CORYConfig
from cory.models.batch import Batch, make_batch
from cory.models.policy import Policy
from cory.models.weights import FullCopy
from cory.team.kl_penalty import KL_PENALTIES
from cory.team.train_samples import TrainSamples, loss_variant
from cory.team.update import microbatch_loss

QUERIES = ("The film", "It was", "A dull plot with a", "My money")
GROUP, LENGTH, TEMPERATURE, BETA = 4, 12, 0.8, 0.04
NOISE = 0.3
"""Standard deviation of what old and reference log-probabilities differ by: the clips act."""


class Result(NamedTuple):
    """What one side computes."""

    advantages: Tensor
    loss: float
    gradient: Tensor


def main() -> None:
    """Print how far cory and TRL are apart, and how large TRL's numbers are, for each variant."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", help="a directory with model and tokenizer")
    path = parser.parse_args().model
    torch.set_num_threads(1)
    print(f"TRL {trl.__version__}; largest differences of advantages, loss, gradient; (TRL's)")
    for settings in variants():
        theirs, ours = compared(path, settings)
        numbers = (
            float((ours.advantages - theirs.advantages).abs().max()),
            abs(ours.loss - theirs.loss),
            float((ours.gradient - theirs.gradient).abs().max()),
            abs(theirs.loss),
            float(theirs.gradient.abs().max()),
        )
        name = " ".join(f"{key}={value}" for key, value in settings.items())
        shown = "{:.1e} {:.1e} {:.1e} ({:.3f} {:.3f})".format(*numbers)
        print(f"{name:56} {shown}", flush=True)


def variants() -> list[dict[str, Any]]:
    """Settings by the names that TRL has for them; `num_mini_batches` is cory's."""
    types, levels = ("grpo", "bnpo", "dapo", "dr_grpo"), ("token", "sequence")
    found = [
        {"loss_type": kind, "importance_sampling_level": level}
        for kind, level in itertools.product(types, levels)
    ]
    found += [{"loss_type": kind, "num_mini_batches": 2} for kind in types]
    found += [{"scale_rewards": name} for name in ("group", "batch", "none")]
    found += [{"loss_type": kind, "entropy_coef": 0.5} for kind in types]
    found += [
        {"use_bias_correction_kl": False},
        {"epsilon_high": 0.28},
        {"beta": 0.0},
        {"algorithm": "rloo"},
    ]
    return found


def compared(path: str, settings: dict[str, Any]) -> tuple[Result, Result]:
    """TRL's result and cory's, on one mini-batch."""
    torch.manual_seed(0)
    settings = dict(settings)
    num_mini_batches = settings.pop("num_mini_batches", 1)
    is_rloo = settings.pop("algorithm", "grpo") == "rloo"
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
    rewards: list[float] = []
    with tempfile.TemporaryDirectory() as directory:
        trainer = their_trainer(
            path, model, rewards, settings, num_mini_batches, is_rloo, directory
        )
        beta = trainer.beta if is_rloo else settings.get("beta", BETA)
        rows = [{"prompt": query} for query in QUERIES for _ in range(GROUP)]
        drawn = trainer._generate_and_score_completions(rows)
    # An untrained model seldom ends an answer: cut them, so that they are ragged.
    lengths = torch.randint(1, LENGTH + 1, (len(rows), 1))
    lengths[0] = LENGTH
    drawn["completion_mask"] *= torch.arange(drawn["completion_ids"].shape[1]) < lengths
    drawn["num_items_in_batch"] = drawn["completion_mask"].sum()
    tokens = torch.randn(2, *drawn["completion_ids"].shape)
    trainer.beta, trainer.current_gradient_accumulation_steps = beta, 1
    batch = ragged(drawn)
    with torch.no_grad():
        policy = Policy(FullCopy(model))
        now = torch.zeros(batch.response_mask.shape)
        hidden = policy.response_hidden(batch)
        now[batch.response_mask] = policy.logprobs(hidden, batch.response_tokens, TEMPERATURE)
    old, ref = (now + NOISE * noise[:, : now.shape[1]] for noise in tokens)
    rows_of_step = slice(0, len(rows) // num_mini_batches)
    theirs = their_result(trainer, model, drawn, old, ref, rows_of_step, is_rloo)
    args = our_settings(settings, num_mini_batches, is_rloo)
    ours = our_result(policy, args, batch, old, ref, torch.tensor(rewards), rows_of_step, beta)
    return theirs, ours


def their_trainer(
    path: str,
    model: PreTrainedModel,
    rewards: list[float],
    settings: dict[str, Any],
    num_mini_batches: int,
    is_rloo: bool,
    directory: str,
) -> Any:
    """A trainer of TRL; the rewards that its answers get are noted."""

    def reward(completions: Sequence[str], **_: Any) -> list[float]:
        rewards[:] = (
            torch.randn(len(completions)) * torch.arange(1, len(completions) + 1)
        ).tolist()
        return rewards

    num_rows = len(QUERIES) * GROUP
    shared = {
        "output_dir": directory,
        "use_cpu": True,
        "report_to": "none",
        "per_device_train_batch_size": num_rows // num_mini_batches,
        "steps_per_generation": num_mini_batches,
        "num_generations": GROUP,
        "max_completion_length": LENGTH,
        "temperature": TEMPERATURE,
        "bf16": False,
        "gradient_checkpointing": False,
    }
    kind, config = (RLOOTrainer, RLOOConfig) if is_rloo else (GRPOTrainer, GRPOConfig)
    # The reference's log-probabilities are given; TRL would load a model for them.
    own = {key: value for key, value in settings.items() if key != "beta"} | {"beta": 0.0}
    return kind(
        model=model,
        reward_funcs=reward,
        args=config(**shared, **own),
        train_dataset=Dataset.from_dict({"prompt": list(QUERIES)}),
        processing_class=AutoTokenizer.from_pretrained(path, padding_side="left"),
    )


def ragged(drawn: dict[str, Any]) -> Batch:
    """TRL's padded prompts and answers as cory's batch."""

    def rows(name: str) -> list[list[int]]:
        pairs = zip(drawn[f"{name}_ids"], drawn[f"{name}_mask"].bool(), strict=True)
        return [ids[mask].tolist() for ids, mask in pairs]

    return make_batch(rows("prompt"), rows("completion"))


def their_result(
    trainer: Any,
    model: nn.Module,
    drawn: dict[str, Any],
    old: Tensor,
    ref: Tensor,
    rows: slice,
    is_rloo: bool,
) -> Result:
    """Advantages of all answers; loss and gradient of some, by TRL's `compute_loss`."""
    inputs = {
        key: value[rows] if isinstance(value, Tensor) and value.ndim else value
        for key, value in drawn.items()
    }
    inputs["old_per_token_logps"], inputs["ref_per_token_logps"] = old[rows], ref[rows]
    if is_rloo:
        mask = inputs["completion_mask"]
        inputs["old_logps"] = (old[rows] * mask).sum(1)
    model.zero_grad()
    loss = trainer.compute_loss(model.train(), inputs)
    loss.backward()
    return Result(drawn["advantages"], float(loss.detach()), gradient_of(model))


def our_settings(settings: dict[str, Any], num_mini_batches: int, is_rloo: bool) -> CORYConfig:
    """TRL's names in cory's."""
    renamed = {key: value for key, value in settings.items() if key != "beta"}
    if "epsilon_high" in renamed:
        renamed["cliprange_high"] = renamed.pop("epsilon_high")
    defaults: dict[str, Any] = {
        "advantage_estimator": "group",
        "loss_type": "dapo",
        "use_bias_correction_kl": True,
    }
    if is_rloo:
        defaults = {
            "advantage_estimator": "leave_one_out",
            "importance_sampling_level": "sequence_product",
            "loss_type": "grpo",
        }
    return CORYConfig(
        num_agents=1,
        num_generations=GROUP,
        num_mini_batches=num_mini_batches,
        batch_size=len(QUERIES) * GROUP,
        max_completion_length=LENGTH,
        temperature=TEMPERATURE,
        kl_placement="loss",
        kl_estimator="k3",
        **(defaults | renamed),
    )


def our_result(
    policy: Policy,
    args: CORYConfig,
    batch: Batch,
    old: Tensor,
    ref: Tensor,
    rewards: Tensor,
    rows: slice,
    beta: float,
) -> Result:
    """The same by cory's estimator and the loss of its update."""
    mask = batch.response_mask
    token_rewards = torch.zeros(mask.shape)
    token_rewards[:, 0] = rewards
    advantages, _ = estimator_of(args.advantage_estimator, args.scale_rewards).compute(
        token_rewards, None, mask, 1.0, 1.0, GROUP
    )
    samples = TrainSamples(
        batch, old, advantages, ref_logprobs=ref, kl_weight=beta or None, **loss_variant(args)
    )
    chosen = samples.mini_batch(torch.arange(len(batch))[rows], args)
    policy.model.zero_grad()
    loss, _ = microbatch_loss(
        chosen, chosen.batch.num_tokens, policy, policy, KL_PENALTIES["k3"], args
    )
    loss.backward()
    return Result(advantages[:, 0], float(loss.detach()), gradient_of(policy.model))


def gradient_of(model: nn.Module) -> Tensor:
    """The gradient of all weights, as one vector."""
    gradients = [weight.grad for weight in model.parameters() if weight.grad is not None]
    return torch.cat([gradient.flatten() for gradient in gradients])


if __name__ == "__main__":
    main()
