"""How far log-probabilities of sampling, scoring and learning are apart under bfloat16.

`python -m experiments.first_ratio MODEL [--use_peft] [--plain_attention]`, on a CPU.
"""

from __future__ import annotations

import argparse

import torch
from torch import Tensor

from cory.config import CORYConfig
from cory.generation.local import LocalSampler
from cory.models.batch import make_batch
from cory.models.loading import build_policies, load_model
from cory.models.policy import Policy

NUM_ANSWERS = 32
NUM_TOKENS = 16
ADAPTER_NOISE = 0.02
"""Standard deviation of what is added to adapters, which start as nothing."""


def main() -> None:
    """Print max |ratio − 1| over the tokens of 32 answers, for pairs of ways to compute them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--use_peft", action="store_true")
    parser.add_argument("--plain_attention", action="store_true", help="torch's, in bfloat16")
    options = parser.parse_args()
    torch.set_num_threads(1)
    args = CORYConfig(num_agents=1, bf16=True, use_peft=options.use_peft)
    [policy], _ = build_policies(load_model(options.model, args), args)
    if options.plain_attention:
        policy.model.set_attn_implementation("sdpa")
    with torch.no_grad():
        if options.use_peft:
            for weight in policy.language_parameters():
                weight.add_(ADAPTER_NOISE * torch.randn(weight.shape))
        for name, one, other in compared(policy):
            print(f"{name:32} {(one - other).exp().sub(1).abs().max():.4f}")


def compared(policy: Policy) -> list[tuple[str, Tensor, Tensor]]:
    """Pairs of log-probabilities of the same tokens."""
    prompts = [
        [(row * 7919 + column * 104729) % policy.vocab_size for column in range(12 + row % 9)]
        for row in range(NUM_ANSWERS)
    ]
    sampler = LocalSampler(frozenset(), NUM_ANSWERS)
    generator = torch.Generator().manual_seed(0)
    answers = sampler.generate(policy, prompts, NUM_TOKENS, 1.0, generator)
    batch = make_batch(prompts, answers.token_ids, policy.device)
    assert answers.hidden is not None

    def scored(rows_per_pass: int) -> Tensor:
        parts = [batch.select(rows) for rows in torch.arange(NUM_ANSWERS).split(rows_per_pass)]
        hidden = [policy.response_hidden(part) for part in parts]
        return torch.cat(
            [
                policy.logprobs(states, part.response_tokens, 1.0)
                for states, part in zip(hidden, parts, strict=True)
            ]
        )

    together = scored(NUM_ANSWERS)
    sampled = policy.logprobs(answers.hidden[batch.response_mask], batch.response_tokens, 1.0)
    policy.bf16 = False
    exact = scored(NUM_ANSWERS)
    policy.bf16 = True
    return [
        ("sampled, scored", sampled, together),
        ("scored by 32, by 4", together, scored(4)),
        ("scored by 32, one by one", together, scored(1)),
        ("scored in bfloat16, in float32", together, exact),
    ]


if __name__ == "__main__":
    main()
