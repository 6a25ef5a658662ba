"""Answers found again by content: the same numbers with and without, and never another model's."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from cory.algorithm.seeding import seed_global_generators
from cory.models.batch import Batch
from cory.models.policy import Policy
from cory.team.evaluation import Evaluation
from cory.team.known_answers import Answered, KnownAnswers, is_known_by_content, model_digest
from cory.training.initial import OF_LEARNING, initial_answers
from cory.training.setup import RunComponents
from tests.teams import ADAPTERS, disturb, make_team, rows_of
from tests.tiny_runs import settings


def evaluations(team: RunComponents, known: KnownAnswers | None) -> dict[str, Evaluation]:
    policies = {f"agent_{index}": policy for index, policy in enumerate(team.policies)}
    return team.evaluator.evaluate_each(policies, rows_of(team), known)


def counted(team: RunComponents, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One number per pass of scoring: who finds answers has nothing to score."""
    passes: list[int] = []
    score = type(team.scorer).score

    def count(scorer: Any, policy: Any, batch: Batch, hidden: Any = None) -> Any:
        passes.append(len(batch))
        return score(scorer, policy, batch, hidden)

    monkeypatch.setattr(type(team.scorer), "score", count)
    return passes


@pytest.mark.parametrize("changes", [{}, ADAPTERS], ids=["copies", "adapters"])
def test_found_answers_give_the_same_numbers_bit_for_bit(
    changes: dict[str, Any], tiny_gpt2_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prevents a comparison whose iteration 0 depends on which run came first."""
    team = make_team(tiny_gpt2_dir, **changes)
    plain = evaluations(team, None)
    first = evaluations(team, KnownAnswers({}, tmp_path))
    passes = counted(team, monkeypatch)
    again = evaluations(team, KnownAnswers({}, tmp_path))
    assert passes == []
    assert plain == first == again
    assert len(list(tmp_path.glob("*.json"))) == 1


def test_agents_that_start_equal_answer_once(
    tiny_gpt2_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prevents a team from paying for its initial model once per agent."""
    team = make_team(tiny_gpt2_dir)
    plain = evaluations(team, None)
    passes = counted(team, monkeypatch)
    assert evaluations(team, KnownAnswers({})) == plain
    assert len(passes) == 1
    disturb(team.policies[1], seed=0)
    assert evaluations(team, KnownAnswers({})) == evaluations(team, None) != plain
    assert len(passes) == 1 + 2 + 2


def change_a_weight(team: RunComponents) -> None:
    with torch.no_grad():
        next(team.policies[0].model.parameters()).view(-1)[-1] += 1


def change_the_reference(team: RunComponents) -> None:
    with torch.no_grad():
        next(team.reference.model.parameters()).view(-1)[-1] += 1


def change_a_setting_of_the_model(team: RunComponents) -> None:
    team.policies[0].model.config.layer_norm_epsilon = 1e-3


def change_the_ends(team: RunComponents) -> None:
    further = next(token for token in range(100) if token not in team.sampler.end_ids)
    team.sampler.end_ids = team.sampler.end_ids | {further}


@pytest.mark.parametrize(
    "change",
    [change_a_weight, change_the_reference, change_a_setting_of_the_model, change_the_ends],
)
def test_another_content_is_not_found(
    change: Callable[[RunComponents], None],
    tiny_gpt2_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Prevents the answers of another model, or to another question, from being taken."""
    team = make_team(tiny_gpt2_dir, num_agents=1)
    evaluations(team, KnownAnswers({}, tmp_path))
    change(team)
    passes = counted(team, monkeypatch)
    evaluations(team, KnownAnswers({}, tmp_path))
    assert len(passes) == 1


def test_another_ground_or_other_queries_are_not_found(
    tiny_gpt2_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prevents numbers of another seed, library or machine, and of another data set."""
    team = make_team(tiny_gpt2_dir, num_agents=1)
    evaluations(team, KnownAnswers({"seed": 0}, tmp_path))
    passes = counted(team, monkeypatch)
    evaluations(team, KnownAnswers({"seed": 1}, tmp_path))
    policies = {"agent_0": team.policies[0]}
    known = KnownAnswers({"seed": 0}, tmp_path)
    team.evaluator.evaluate_each(policies, rows_of(team)[:-1], known)
    assert len(passes) == 2


def test_rewards_are_computed_each_time(tiny_gpt2_dir: Path, tmp_path: Path) -> None:
    """Prevents the rewards of another function, or of a judge's other day, from being taken."""
    calls: list[int] = []

    def judge(completions: list[str], **columns: Any) -> list[float]:
        calls.append(len(completions))
        return [float(len(calls))] * len(completions)

    team = make_team(tiny_gpt2_dir, reward_funcs=judge)
    evaluations(team, KnownAnswers({}, tmp_path))
    found = evaluations(team, KnownAnswers({}, tmp_path))
    assert [one.metrics["task_reward"] for one in found.values()] == [3.0, 4.0]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        "[3]",
        '[[[["a"]], {}]]',
        '[[[[1]], {"kl": "0"}]]',
        "[[[[1], [2]], {}]]",
    ],
)
def test_a_damaged_file_is_computed_again(text: str, tmp_path: Path) -> None:
    """Prevents half a file, or a changed one, from becoming numbers of a run."""
    right = [Answered([[1]], {"kl": 0.5})]
    assert KnownAnswers({}, tmp_path).get({}, (1, 1), lambda: right) == right
    (path,) = tmp_path.glob("*.json")
    path.write_text(text)
    assert KnownAnswers({}, tmp_path).get({}, (1, 1), lambda: right) == right
    assert json.loads(path.read_text()) == [[[[1]], {"kl": 0.5}]]


def test_a_link_is_refused(tmp_path: Path) -> None:
    """Prevents a directory from a stranger from having files elsewhere overwritten."""
    right = [Answered([[1]], {})]
    KnownAnswers({}, tmp_path).get({}, (1, 1), lambda: right)
    (path,) = tmp_path.glob("*.json")
    path.unlink()
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match="is a link"):
        KnownAnswers({}, tmp_path).get({}, (1, 1), lambda: right)


def test_what_no_digest_covers_is_not_known(tiny_gpt2_dir: Path) -> None:
    """Prevents answers of a server, of quantised weights and of a model's own code from sharing."""
    team = make_team(tiny_gpt2_dir, num_agents=1)
    assert is_known_by_content(team.sampler, team.policies)

    class Server:
        def generate(self, *args: Any) -> Any:
            raise NotImplementedError

    assert not is_known_by_content(Server(), team.policies)
    model = team.policies[0].model
    model.register_parameter("packed", torch.nn.Parameter(torch.zeros(1).byte(), False))
    assert not is_known_by_content(team.sampler, team.policies)
    del model.packed
    own = type("OwnModel", (type(model),), {"__module__": "transformers_modules.own"})
    model.__class__ = own
    assert not is_known_by_content(team.sampler, team.policies)


def seeded_policies(model: Path) -> list[Policy]:
    seed_global_generators(0)  # initial adapters are drawn from them
    return make_team(model, **ADAPTERS).policies


def test_a_digest_is_of_content(tiny_gpt2_dir: Path) -> None:
    """Prevents a digest of objects, which no other process would find."""
    first, second = (seeded_policies(tiny_gpt2_dir) for _ in range(2))
    assert [*map(model_digest, first)] == [*map(model_digest, second)]
    assert model_digest(first[0]) != model_digest(first[1])


def test_the_ground_is_that_of_the_initial_model(tmp_path: Path) -> None:
    """Prevents arms that differ in learning from paying each, and other seeds from sharing."""
    base = settings(tmp_path, tmp_path / "run")
    ground = initial_answers(base).ground

    def differs(**changes: Any) -> bool:
        return initial_answers(dataclasses.replace(base, **changes)).ground != ground

    assert not differs(num_agents=1, batch_size=4, kl_coef=0.3, learning_rate=1.0)
    assert not differs(output_dir=str(tmp_path / "other"))
    for change in ({"seed": 1}, {"temperature": 0.5}, {"bf16": True}, {"stop_strings": ["x"]}):
        assert differs(**change)
    assert base.to_dict().keys() >= OF_LEARNING


def test_other_libraries_settings_are_another_ground(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prevents numbers of other kernels from being taken."""
    base = settings(tmp_path, tmp_path / "run")
    before = initial_answers(base).ground
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    assert initial_answers(base).ground != before
