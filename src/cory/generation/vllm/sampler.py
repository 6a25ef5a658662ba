"""Sampler that asks a vLLM server for answers and the log-probabilities it drew them with.

Legend: B sequences, T response columns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from functools import partial
from pathlib import Path
from threading import Event

import torch

from cory.algorithm.filtering import WHOLE_DISTRIBUTION, TokenFilter, restricted_to
from cory.config import CORYConfig
from cory.distributed.world import SINGLE, World
from cory.generation.local import Answers, cut_after_ends
from cory.generation.stops import NO_STOPS, StopStrings
from cory.generation.vllm.adapters import ServedAdapters, check_servable
from cory.generation.vllm.answers import Completion, NoAnswerError, ServerError
from cory.generation.vllm.server import RetryPolicy, Server
from cory.io.urls import without_password
from cory.models.batch import make_batch, padded
from cory.models.policy import LanguageModel, Policy
from cory.models.weights import Adapter


class VllmSampler:
    """Has a server answer, with an agent's adapter as it is at that moment.

    Every response has a seed of its own, drawn from the generator, and is a request of its own: the
    server decides what it computes together. Of several processes the first one asks for all.

    Args:
        policies: of the team; all adapters on the base that the server serves.
        end_ids: token ids that end a response.
        args: settings; `vllm_server_base_url` names the server.
        world: who gets to know the answers.
        stops: texts that end a response.

    Raises:
        ValueError: the policies cannot be served.
        ServerLostError: there is no server.
        ServerError: it does not answer like vLLM.
    """

    def __init__(
        self,
        policies: Sequence[Policy],
        end_ids: frozenset[int],
        args: CORYConfig,
        world: World = SINGLE,
        stops: StopStrings = NO_STOPS,
    ) -> None:
        assert args.vllm_server_base_url is not None, "whoever builds this has looked"
        self.initial = initial_adapter(policies, args.vllm_server_base_url)
        self.end_ids = end_ids
        self.world = world
        self.stops = stops
        self.rows_at_once = args.per_device_eval_batch_size
        vocabulary_size = policies[0].model.config.get_text_config().vocab_size
        self.token_filter = TokenFilter.of(args)
        self.server = Server(
            args.vllm_server_base_url,
            args.vllm_server_timeout,
            vocabulary_size,
            stops.texts,
            asdict(self.token_filter),
        )
        self.retry = RetryPolicy(args.vllm_server_timeout, self.server.base_url)
        directory = args.vllm_adapter_dir or str(Path(args.output_dir) / "vllm")
        self.adapters = ServedAdapters(self.server, Path(directory))
        with world.fail_together():
            found = self._first_look() if world.is_main else ("", 0)
        self.base, self.context_length = world.broadcast_from_main(found)

    def generate(
        self,
        policy: LanguageModel,
        prompt_ids: Sequence[Sequence[int]],
        max_new_tokens: int,
        temperature: float,
        generator: torch.Generator,
    ) -> Answers:
        """See `Sampler`. Answers that had come when a server died are kept, the others asked again.

        Raises:
            ServerLostError: the server has not answered for `vllm_server_timeout` seconds.
            ServerError: it answers something else than a response.
            ValueError: it refuses a prompt or an adapter.
        """
        seeds = torch.randint(
            2**63 - 1, (len(prompt_ids),), generator=generator, device=generator.device
        ).tolist()
        end_ids = sorted(self.end_ids)

        def complete(model: str, row: int) -> Completion:
            return self.server.complete(
                model, list(prompt_ids[row]), max_new_tokens, temperature, seeds[row], end_ids
            )

        with self.world.fail_together():
            completions = (
                self._answer_all(policy, len(prompt_ids), complete) if self.world.is_main else []
            )
        answers = [Completion(*answer) for answer in self.world.broadcast_from_main(completions)]
        token_ids = cut_after_ends(
            [answer.token_ids for answer in answers], self.end_ids, self.stops
        )
        logprobs = [
            answer.logprobs[: len(ids)] for answer, ids in zip(answers, token_ids, strict=True)
        ]
        return Answers(token_ids, None, padded(logprobs, policy.device))

    def _answer_all(
        self, policy: LanguageModel, num_rows: int, complete: Callable[[str, int], Completion]
    ) -> list[Completion]:
        """One completion per prompt, asked for again while the retry policy allows it."""
        completions: dict[int, Completion] = {}
        while missing := [row for row in range(num_rows) if row not in completions]:
            try:
                for row, completion in self._ask(missing, partial(complete, self._name_of(policy))):
                    completions[row] = completion
                    self.retry.reset()
            except NoAnswerError as error:
                self.adapters.forget()
                self.retry.wait(error)
        return [completions[row] for row in range(num_rows)]

    def _ask(
        self, rows: Sequence[int], complete: Callable[[int], Completion]
    ) -> Iterable[tuple[int, Completion]]:
        """Answers as they were got, and then the error if one is missing.

        After the first error nothing more is asked: a dead server would have each question wait.
        """
        has_failed = Event()

        def outcome_of(row: int) -> Completion | Exception | None:
            if has_failed.is_set():
                return None
            try:
                return complete(row)
            except (NoAnswerError, ServerError, ValueError) as error:
                has_failed.set()
                return error

        with ThreadPoolExecutor(min(len(rows), self.rows_at_once)) as pool:
            outcomes = list(pool.map(outcome_of, rows))
        for row, outcome in zip(rows, outcomes, strict=True):
            if isinstance(outcome, Completion):
                yield row, outcome
        for outcome in outcomes:
            if isinstance(outcome, Exception):
                raise outcome

    def _name_of(self, policy: LanguageModel) -> str:
        """Under which name the server answers as this policy does."""
        if not isinstance(policy, Policy):
            return self.base if self.initial is None else self.adapters.publish(self.initial)
        assert isinstance(policy.weights, Adapter), "see initial_adapter"
        return self.adapters.publish(policy.weights)

    def _first_look(self) -> tuple[str, int]:
        """The base's name and context length, as soon as the server is up."""
        while True:
            try:
                found = self.server.base()
            except NoAnswerError as error:
                self.retry.wait(error)
            else:
                self.retry.reset()
                return found


def initial_adapter(policies: Sequence[Policy], base_url: str) -> Adapter | None:
    """The adapter that training started from; None: the base itself.

    Raises:
        ValueError: the policies are no adapters that vLLM serves.
    """
    adapters: list[Adapter] = []
    for policy in policies:
        if not isinstance(policy.weights, Adapter):
            raise ValueError(
                f"vllm_server_base_url={without_password(base_url)!r} needs adapters, and this "
                "team has full copies: a server holds one set of weights, so it cannot serve a "
                "team of copies, and its ways to replace them (NCCL, CUDA IPC) need GPUs on both "
                "sides. Set use_peft=True, or leave vllm_server_base_url away"
            )
        check_servable(policy.weights)
        adapters.append(policy.weights)
    peft_model = adapters[0].peft_model
    others = peft_model.peft_config.keys() - {adapter.name for adapter in adapters}
    return Adapter(peft_model, others.pop(), is_trainable=False) if others else None


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

    def difference(at: float, token_filter: TokenFilter) -> float:
        logits, tokens = reference.logits(hidden, at), batch.response_tokens
        kept = token_filter.kept_with(logits, tokens) if token_filter.is_on else None
        ours = restricted_to(logits, kept).log_softmax(-1).gather(1, tokens[:, None])[:, 0]
        return float((served[0] - ours).abs().mean())

    token_filter = sampler.token_filter
    of_drawing = difference(temperature, token_filter)
    changes = temperature != 1 or token_filter.is_on
    if changes and difference(1.0, WHOLE_DISTRIBUTION) < of_drawing:
        raise ValueError(
            f"temperature={temperature}, top_p={args.top_p}, top_k={args.top_k}, min_p="
            f"{args.min_p}, but the vLLM server at {sampler.server.base_url} gives "
            "log-probabilities from before the temperature and the filters: start it with "
            "--logprobs-mode processed_logprobs"
        )
    if of_drawing > LARGEST_DIFFERENCE:
        raise ValueError(
            f"the vLLM server at {sampler.server.base_url} serves {sampler.base!r}, which is not "
            f"the initial model: its log-probabilities differ by {of_drawing:.2f} "
            "nats per token. Start it with the model of model_name_or_path"
        )
