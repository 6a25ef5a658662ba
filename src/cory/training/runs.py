"""Finished runs and plain models, opened to be measured or asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from datasets import Dataset
from peft import PeftConfig

from cory.algorithm.seeding import derive_generator
from cory.assets import asset_path
from cory.config import CORYConfig
from cory.io.checksums import damage
from cory.io.files import replacing_directory
from cory.io.objects import read_object, shown, whole_number
from cory.models.loading import (
    build_policies,
    check_json_objects,
    load_model,
    load_tokenizer,
    readable,
)
from cory.models.policy import Policy
from cory.models.weights import MERGED
from cory.rewards.loading import reward_device
from cory.team.averaging import merged
from cory.team.evaluation import Evaluation
from cory.team.messages import Query
from cory.training.checkpoint import STATE, Checkpoints
from cory.training.data import held_out_queries
from cory.training.samples import INITIAL_MODEL
from cory.training.setup import RunComponents, UserObjects, build_components

MODEL = "model"
MAX_RANK = 1_000_000


@dataclass(frozen=True)
class Subject:
    """An initial model, and what became of it.

    `args` names the initial model, `weights` the directory of each agent's weights, in the order of
    agents. Without weights the initial model is itself what is looked at. `is_chat` says whether it
    was trained on chat messages.
    """

    args: CORYConfig
    weights: Mapping[str, Path] = field(default_factory=dict)
    is_chat: bool = False

    @property
    def peft_config(self) -> PeftConfig | None:
        """Of the adapters; None for full copies."""
        for directory in self.weights.values():
            if (directory / "adapter_config.json").is_file():
                with readable(f"the adapter in {directory} cannot be loaded"):
                    check_json_objects(directory)
                    config = PeftConfig.from_pretrained(str(directory))
                    # Memory is taken for this rank before it is compared with the weights.
                    whole_number(getattr(config, "r", None) or 0, "its rank r", MAX_RANK)
                    return config
        return None


def open_run(directory: Path, args: CORYConfig, step: int | None = None) -> Subject:
    """The agents of a run with the settings `args`, at `step`; None: the newest checkpoint.

    Raises:
        ValueError: there is no such checkpoint.
    """
    checkpoint = find_checkpoint(directory, step)
    names = [f"agent_{index}" for index in range(args.num_agents)]
    if missing := [name for name in names if not (checkpoint / name).is_dir()]:
        raise ValueError(f"{checkpoint} has no {missing[0]}: num_agents={args.num_agents} is wrong")
    progress = read_object(checkpoint / "state.json").get("progress", {})
    if not isinstance(progress, dict):
        raise ValueError(f"{checkpoint / 'state.json'}: 'progress' is {shown(progress)}, no object")
    weights = {name: checkpoint / name for name in names}
    # Checkpoints of earlier versions do not say.
    return Subject(args, weights, progress.get("is_chat", False))


def open_model(model: str, args: CORYConfig, reference: str | None = None) -> Subject:
    """A model alone, measured against `reference` (None: against itself)."""
    path = Path(asset_path(model))
    if path.is_dir() and not any(
        (path / name).is_file() for name in ("config.json", "adapter_config.json")
    ):
        raise ValueError(
            f"{model} is neither a run (no config.yaml) nor a model (no config.json): name a run "
            "directory, a model directory or a Hub model"
        )
    if reference is None:
        return Subject(args.replace(model_name_or_path=model))
    return Subject(args.replace(model_name_or_path=reference), {MODEL: path})


def find_checkpoint(directory: Path, step: int | None = None) -> Path:
    """A checkpoint of a run: the newest, or that of `step`.

    Raises:
        ValueError: there is none, and the message lists those there are; or it is damaged.
    """
    checkpoints = Checkpoints(directory, limit=None)
    if not checkpoints.steps():
        raise ValueError(f"{directory} has no checkpoint yet: a run saves one at its end at least")
    if step is None:
        newest = checkpoints.newest_sound()
        assert newest is not None, "there are some"
        return newest
    path = checkpoints.path(step)
    if not path.is_dir():
        there = ", ".join(map(str, checkpoints.steps()))
        raise ValueError(f"{directory} has no checkpoint of step {step}; there is {there}")
    if fault := damage(path, STATE):
        raise ValueError(f"{path} is damaged ({fault}): choose another step")
    return path


def build(subject: Subject, **user: Any) -> RunComponents:
    """Models, data and tools for a subject; its policies are still the initial model.

    `user` has fields of `UserObjects`, in place of what the settings name.
    """
    user.setdefault("peft_config", subject.peft_config)
    return build_components(subject.args, UserObjects(**user), reward_device(subject.args))


def take_weights(policies: Sequence[Policy], subject: Subject) -> None:
    """Turn the policies from the initial model into what became of it.

    Raises:
        ValueError: weights are of another architecture.
    """
    for policy, directory in zip(policies, subject.weights.values(), strict=False):
        name = subject.args.model_name_or_path
        with readable(f"the weights in {directory} do not fit the initial model {name!r}"):
            policy.weights.load(directory)


def evaluate_alone(subject: Subject) -> dict[str, Evaluation]:
    """The initial model and each agent, alone on the same held-out queries.

    With `evaluate_merged` the mean of the agents is among them.

    Raises:
        ValueError: the settings name no model, data or rewards that can be used.
    """
    args, components = subject.args, build(subject)
    assert components.eval_dataset is not None, "tasks hold queries out"
    queries = held_out_queries(components.eval_dataset, args.num_eval_queries)
    evaluator, policies = components.evaluator, components.policies
    before = evaluator.evaluate(policies[0], queries, args.num_eval_samples)
    if not subject.weights:
        return {MODEL: before}
    take_weights(policies, subject)
    agents = dict(zip(subject.weights, policies, strict=False))
    return {INITIAL_MODEL: before, **evaluator.evaluate_each(agents, queries)}


def save_merged(subject: Subject, directory: Path, shares: Sequence[float] | None = None) -> None:
    """Write the mean of a run's agents as one plain model, or as one adapter, with its tokenizer.

    Args:
        directory: to write; plain transformers or peft loads it.
        shares: of each agent, divided by their sum; None: all equal.

    Raises:
        ValueError: the directory is taken, or the agents have no mean of their kind.
    """
    args, first = subject.args, next(iter(subject.weights.values()))
    if directory.exists():
        raise ValueError(f"{directory} exists already: choose another output_dir")
    if directory.resolve().is_relative_to(first.parent.parent.resolve()):
        raise ValueError(f"{directory} lies among the run's checkpoints: choose another output_dir")
    if args.model_name_or_path is None:
        raise ValueError("the run was given its model as an object: name it, --model_name_or_path")
    model = load_model(args.model_name_or_path, args)
    policies, _ = build_policies(model, args, subject.peft_config)
    take_weights(policies, subject)
    with merged(policies, shares) as mean, replacing_directory(directory) as partial:
        mean.weights.save(partial / MERGED)
        load_tokenizer(str(first), args.trust_remote_code).save_pretrained(partial / MERGED)
        # peft has put a model card beside its adapter.
        for path in partial.iterdir():
            if path.name != MERGED:
                path.unlink()
        for path in (partial / MERGED).iterdir():
            path.rename(partial / path.name)
        (partial / MERGED).rmdir()


class Answerer:
    """Answers queries with the agents of a subject, whose models are built once.

    Args:
        subject: whose agents answer.
        query: the first one, checked like a training's; None: any.

    Raises:
        ValueError: the subject's models, or the query, do not fit its settings.
    """

    def __init__(self, subject: Subject, query: Query | None = None) -> None:
        # Nothing is held out where one query is asked; nor may a watched metric be missed.
        args = subject.args.replace(eval_steps=None, metric_for_best_model=None)
        if query is None:
            query = [{"role": "user", "content": "?"}] if subject.is_chat else "?"
        self.args = args
        self.components = build(
            replace(subject, args=args),
            train_dataset=Dataset.from_list([{args.prompt_column: query}]),
            reward_funcs=lambda **columns: [],  # nobody is paid
        )
        take_weights(self.components.policies, subject)
        self.num_queries = 0

    def answer(
        self, speakers: Sequence[int], query: Query, num_samples: int, temperature: float
    ) -> list[list[str]]:
        """The answers of each speaker to a query, later ones in view of the earlier answers.

        Args:
            speakers: agent numbers in the order of speaking; one alone gets the plain query.
            query: a text or chat messages.
            num_samples: answers of each speaker; sample i sees the earlier samples i.
            temperature: of sampling; 0 takes the likeliest tokens.

        Raises:
            ValueError: the query leaves no room for an answer.
        """
        parts, args, again = self.components, self.args, [self.num_queries] * bool(self.num_queries)
        token_ids: list[list[list[int]]] = []
        for speaker in speakers:
            policy = parts.policies[speaker]
            prompts = [
                parts.encoder.encode(query, [earlier[index] for earlier in token_ids])
                for index in range(num_samples)
            ]
            self._refuse_too_long(max(map(len, prompts)))
            generator = derive_generator(
                args.seed, "generate", speaker, *again, device=policy.device
            )
            token_ids.append(
                parts.sampler.generate(
                    policy, prompts, args.max_completion_length, temperature, generator
                ).token_ids
            )
        self.num_queries += 1
        return [parts.encoder.decode(ids) for ids in token_ids]

    def _refuse_too_long(self, length: int) -> None:
        config = self.components.reference.model.config.get_text_config()
        most = getattr(config, "max_position_embeddings", None)
        if most is not None and length + self.args.max_completion_length > most:
            raise ValueError(
                f"a prompt of {length} tokens and max_completion_length="
                f"{self.args.max_completion_length} do not fit into the model's {most} tokens: "
                "ask less, begin a new conversation, or lower max_completion_length"
            )


def answer(
    subject: Subject, speakers: Sequence[int], query: Query, num_samples: int, temperature: float
) -> list[list[str]]:
    """`Answerer.answer` for a single query, with models that are built for it."""
    return Answerer(subject, query).answer(speakers, query, num_samples, temperature)
