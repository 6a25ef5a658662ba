"""Whether a server draws from the distribution that training believes in."""

from __future__ import annotations

import torch

from cory.config import CORYConfig
from cory.generation.vllm.sampler import VllmSampler
from cory.models.batch import make_batch
from cory.models.policy import LanguageModel

NUM_TOKENS = 8
LARGEST_DIFFERENCE = 1.0
"""Mean difference of log-probabilities, in nats per token, that is no matter of number formats."""


@torch.no_grad()
def check_same_distribution(
    sampler: VllmSampler,
    reference: LanguageModel,
    prompt_ids: list[int],
    args: CORYConfig,
) -> None:
    """Ask for one answer of the initial model and compare what both sides say of its tokens.

    Raises:
        ValueError: the server has another model, or gives log-probabilities from before the
            temperature; the message has the fix.
    """
    generator = torch.Generator(reference.device).manual_seed(0)
    length, temperature = min(NUM_TOKENS, args.max_completion_length), args.temperature
    answers = sampler.generate(reference, [prompt_ids], length, temperature, generator)
    served = answers.logprobs
    assert served is not None, "a server gives them"
    batch = make_batch([prompt_ids], answers.token_ids, device=reference.device)
    hidden = reference.response_hidden(batch)

    def difference(at: float) -> float:
        ours = reference.logprobs(hidden, batch.response_tokens, at)
        return float((served[0] - ours).abs().mean())

    if temperature != 1 and difference(1.0) < difference(temperature):
        raise ValueError(
            f"temperature={temperature}, but the vLLM server at {sampler.server.base_url} gives "
            "log-probabilities from before the temperature: start it with "
            "--logprobs-mode processed_logprobs"
        )
    if difference(temperature) > LARGEST_DIFFERENCE:
        raise ValueError(
            f"the vLLM server at {sampler.server.base_url} serves {sampler.base!r}, which is not "
            f"the initial model: its log-probabilities differ by {difference(temperature):.2f} "
            "nats per token. Start it with the model of model_name_or_path"
        )
