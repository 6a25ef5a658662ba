"""One agent's update: what moves, what stays, and which ways of learning work."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
import torch

from cory.algorithm.advantages import ESTIMATORS
from cory.algorithm.losses import next_kl_coef
from cory.config.themes import AlgorithmConfig
from cory.models import policy as policy_room
from cory.team import update as learning
from cory.team.agent import Agent
from cory.team.kl_penalty import KL_PENALTIES, KL_PLACEMENTS
from cory.team.types import Generation, RolloutRecord
from cory.team.update import NotFiniteError
from cory.training.trainer import CORYTrainer
from tests.teams import disturb
from tests.tiny_runs import same_bits, snapshot, trainer

ADAM_EPSILON = 1e-3
"""Adam divides a gradient by its own size, and so makes a step of what should vanish and is a
rounding error (that of a key's bias); not so with this."""


def records(team: CORYTrainer, step: int = 0) -> list[RolloutRecord]:
    """What the team answers in an iteration, by agent number."""
    found = team.rollout.run(team.queries(step), step).records
    return sorted(found, key=lambda record: record.generation.agent)


def updated(team: CORYTrainer, agent: int = 0, step: int = 0) -> dict[str, float]:
    """Metrics of one update of one agent."""
    record = team.agents[agent].scale_rewards(records(team, step)[agent])
    return team.agents[agent].update(record, step)


def weights(agent: Agent) -> torch.Tensor:
    return torch.cat([weight.detach().flatten() for weight in agent.policy.trainable_parameters()])


@pytest.mark.parametrize("options", [{}, {"use_peft": True}], ids=["full", "adapters"])
def test_an_update_moves_its_own_agent_only(
    tiny_llama_dir: Path, tmp_path: Path, options: dict
) -> None:
    """Prevents gradients, momentum or weight decay from reaching the other agent."""
    team = trainer(tiny_llama_dir, tmp_path, weight_decay=0.1, **options)
    first, second = team.agents
    updated(team, agent=1)
    before = snapshot(first), snapshot(second)
    updated(team, agent=0, step=1)
    assert same_bits(snapshot(second), before[1])
    assert not same_bits(snapshot(first), before[0])
    reference = set(team.components.reference.model.parameters())
    if not options:
        assert all(parameter.grad is None for parameter in reference)


@pytest.mark.parametrize("options", [{}, {"kl_placement": "loss", "kl_estimator": "full"}])
def test_micro_batches_change_nothing(tiny_gpt2_dir: Path, tmp_path: Path, options: dict) -> None:
    """Prevents a result that depends on how much fits into memory."""
    results = []
    for size in (None, 1, 3):
        team = trainer(
            tiny_gpt2_dir,
            tmp_path / str(size),
            per_device_train_batch_size=size,
            adam_epsilon=ADAM_EPSILON,
            **options,
        )
        metrics = updated(team)
        results.append((weights(team.agents[0]), metrics))
    for weight, metrics in results[1:]:
        torch.testing.assert_close(weight, results[0][0], atol=1e-6, rtol=0)
        assert metrics == pytest.approx(results[0][1], abs=1e-5)


@pytest.mark.parametrize("fixture", ["tiny_gpt2_dir", "tiny_llama_dir"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"kl_placement": "loss", "kl_estimator": "full"},
        {"gradient_checkpointing": True},
        {"partner_samples_weight": 1.0, "bf16": True},
    ],
)
def test_several_cores_change_nothing(
    fixture: str, options: dict, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Prevents passes side by side from mixing, losing or adding up anything otherwise."""
    threads = torch.get_num_threads()
    results = []
    for cores in (1, 2, 2):
        team = trainer(
            request.getfixturevalue(fixture),
            tmp_path / str(len(results)),
            per_device_train_batch_size=1,
            **options,
        )
        rollout = records(team)
        torch.set_num_threads(cores)
        try:
            metrics = team.agents[1].update(rollout[1], 0, rollout)
        finally:
            torch.set_num_threads(threads)
        results.append((snapshot(team.agents[1]), metrics))
    for state, metrics in results[1:]:
        assert same_bits(state, results[0][0])
        assert metrics == results[0][1]


def test_what_cannot_go_side_by_side_does_not(
    tiny_gpt2_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prevents adapters, which switch the base they share, and large models from being mixed up."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    team = trainer(tiny_gpt2_dir, tmp_path / "copies")
    assert learning._bears_threads(team.policies[0])
    monkeypatch.setattr(policy_room, "SMALL_MODEL", 1000)
    assert not learning._bears_threads(team.policies[0])
    monkeypatch.undo()
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    team = trainer(tiny_gpt2_dir, tmp_path / "adapters", use_peft=True)
    assert not learning._bears_threads(team.policies[0])


def test_the_order_of_rows_changes_nothing(tiny_gpt2_dir: Path, tmp_path: Path) -> None:
    """Prevents answers from being paid or weighted by their row in the batch."""
    results = []
    for name, order in (("as they are", range(8)), ("reversed", range(7, -1, -1))):
        team = trainer(tiny_gpt2_dir, tmp_path / name, adam_epsilon=ADAM_EPSILON)
        record = records(team)[0]
        team.agents[0].update(reordered(record, list(order)), 0)
        results.append(weights(team.agents[0]))
    torch.testing.assert_close(*results, atol=1e-6, rtol=0)


def reordered(record: RolloutRecord, order: list[int]) -> RolloutRecord:
    """The same answers in another order."""
    generation, scores = record.generation, record.scores
    rows = torch.tensor(order)
    return RolloutRecord(
        generation=Generation(
            agent=generation.agent,
            role_index=generation.role_index,
            prompt_ids=[generation.prompt_ids[row] for row in order],
            response_ids=[generation.response_ids[row] for row in order],
            completions=[generation.completions[row] for row in order],
        ),
        batch=record.batch.select(rows),
        scores=type(scores)(*(None if part is None else part[rows] for part in scores)),
        task_reward=record.task_reward[rows],
        team_reward=record.team_reward[rows],
        scaled_reward=record.scaled_reward[rows],
    )


LOW_IDS = 60
"""Tokens below are those that pay, a fifth of the vocabulary."""


def low_ids(completion_ids: list[list[int]], **columns: Any) -> list[float]:
    return [sum(token < LOW_IDS for token in ids) / len(ids) for ids in completion_ids]


def nothing(completions: list[str], **columns: Any) -> list[float]:
    return [0.0] * len(completions)


class Learner:
    """A team and its answers, put together anew for each way of learning, from the same weights.

    Args:
        rate: of learning.
        options: further settings.
    """

    def __init__(
        self, model: Path, output_dir: Path, reward: Any, rate: float, **options: Any
    ) -> None:
        self.team = trainer(
            model,
            output_dir,
            reward,
            batch_size=48,
            num_generations=4,
            max_completion_length=3,
            kl_placement="loss",
            kl_estimator="full",
            learning_rate=rate,
            num_ppo_epochs=1,
            num_mini_batches=1,
            **options,
        )
        disturb(self.team.policies[0], seed=0, size=0.05)
        self.record = records(self.team)[0]
        self.before = [w.detach().clone() for w in self.team.policies[0].trainable_parameters()]
        self.share_before, self.kl_before = self.share_of_low_ids(), self.kl()

    def learn(self, **settings: Any) -> tuple[Agent, dict[str, float]]:
        """The agent after one update under other settings, and the metrics of it."""
        args = self.team.args.replace(**settings)
        policy, scorer = self.team.policies[0], self.team.components.scorer
        agent = Agent(0, policy, scorer, self.team.optimizer, args)
        agent.reset_state()
        with torch.no_grad():
            for weight, start in zip(policy.trainable_parameters(), self.before, strict=True):
                weight.copy_(start)
        return agent, agent.update(agent.scale_rewards(self.record), 0)

    @torch.no_grad()
    def share_of_low_ids(self) -> float:
        """Probability that the next token pays, mean over all states of the answers."""
        policy, batch = self.team.policies[0], self.record.batch
        logits = policy.logits(policy.response_hidden(batch), self.team.args.temperature)
        return float(logits.softmax(-1)[:, :LOW_IDS].sum(1).mean())

    def kl(self) -> float:
        """Full KL to the initial model, mean over all states of the answers."""
        scores = self.team.components.scorer.score(self.team.policies[0], self.record.batch)
        return float(scores.full_kl[self.record.batch.response_mask].mean())


@pytest.fixture(scope="module")
def paid(tiny_gpt2_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Learner:
    return Learner(tiny_gpt2_dir, tmp_path_factory.mktemp("paid"), low_ids, rate=5e-3)


@pytest.fixture(scope="module")
def far(tiny_gpt2_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Learner:
    return Learner(tiny_gpt2_dir, tmp_path_factory.mktemp("far"), nothing, rate=1e-3)


WAYS = [
    (advantages, estimator, placement)
    for advantages in ESTIMATORS
    for placement in KL_PLACEMENTS
    for estimator in (KL_PENALTIES if placement != "both" else ["full"])
]


@pytest.mark.parametrize(("advantages", "estimator", "placement"), WAYS)
def test_every_way_of_learning_learns_what_pays(
    paid: Learner, advantages: str, estimator: str, placement: str
) -> None:
    """Prevents a combination of settings that nobody has tried from learning the opposite."""
    agent, metrics = paid.learn(
        advantage_estimator=advantages, kl_estimator=estimator, kl_placement=placement
    )
    assert paid.share_of_low_ids() > paid.share_before + 0.02
    assert all(torch.tensor(list(metrics.values())).isfinite())
    assert weights(agent).isfinite().all()
    assert ("kl_loss" in metrics) == (placement != "reward")
    assert ("value_loss" in metrics) == (advantages == "gae")


# In the reward k1 alone has the gradient of the KL, in the loss all others (that of k1 is 0 in
# expectation).
PENALTIES = [
    *((advantages, "k1", "reward") for advantages in ESTIMATORS),
    *((advantages, "full", "both") for advantages in ESTIMATORS),
    *(
        (advantages, estimator, "loss")
        for advantages in ("gae", "group")
        for estimator in KL_PENALTIES
        if estimator != "k1"
    ),
]


@pytest.mark.parametrize(("advantages", "estimator", "placement"), PENALTIES)
def test_a_penalty_lowers_the_kl(
    far: Learner, advantages: str, estimator: str, placement: str
) -> None:
    """Prevents a penalty of the wrong sign, or one that an estimator of advantages loses."""
    far.learn(
        kl_coef=1.0,
        num_ppo_epochs=3,
        advantage_estimator=advantages,
        kl_estimator=estimator,
        kl_placement=placement,
    )
    assert far.kl() < 0.96 * far.kl_before


@pytest.mark.parametrize("whiten", [True, False])
def test_the_two_parts_of_the_exact_kl_keep_their_proportion(
    tiny_gpt2_dir: Path, tmp_path: Path, whiten: bool
) -> None:
    """Prevents a KL in the loss that outweighs the whitened KL in the reward, or vanishes by it.

    Rewards and η times ten make advantages ten times as large: whitened, they are the same, and so
    must be the whole update.
    """
    results = []
    for scale in (1.0, 10.0):
        team = trainer(
            tiny_gpt2_dir,
            tmp_path / str(scale),
            reward_weights=[scale],
            kl_coef=0.5 * scale,
            kl_placement="both",
            kl_estimator="full",
            advantage_estimator="reinforce",
            whiten_advantages=whiten,
            max_grad_norm=0.0,
            adam_epsilon=ADAM_EPSILON,
        )
        disturb(team.policies[0], seed=0)
        updated(team)
        results.append(weights(team.agents[0]))
    assert torch.allclose(*results, atol=1e-5) == whiten


def test_one_token_has_no_kl_to_come(tiny_gpt2_dir: Path, tmp_path: Path) -> None:
    """Prevents the KL of a token from being charged to its own choice: it is fixed by then."""
    results = []
    for placement in ("both", "loss"):
        team = trainer(
            tiny_gpt2_dir,
            tmp_path / placement,
            max_completion_length=1,
            kl_placement=placement,
            kl_estimator="full",
            whiten_advantages=False,
        )
        disturb(team.policies[0], seed=0)
        updated(team)
        results.append(weights(team.agents[0]))
    assert torch.equal(*results)


def test_every_name_of_the_settings_is_tried() -> None:
    """Prevents a setting that names a way of learning which does not exist."""
    hints = get_type_hints(AlgorithmConfig)
    assert set(get_args(hints["advantage_estimator"])) == set(ESTIMATORS)
    assert set(get_args(hints["kl_estimator"])) == set(KL_PENALTIES)


@pytest.mark.parametrize("placement", ["reward", "loss"])
def test_a_coefficient_of_zero_is_no_penalty(
    tiny_gpt2_dir: Path, tmp_path: Path, placement: str
) -> None:
    """Prevents a penalty that is paid in spite of η = 0, and one that does nothing at η > 0."""
    results = {}
    for coefficient, estimator in ((0.0, "k1"), (0.0, "full"), (5.0, "k1")):
        name = f"{coefficient}-{estimator}"
        team = trainer(
            tiny_gpt2_dir,
            tmp_path / name,
            kl_coef=coefficient,
            kl_estimator=estimator,
            kl_placement=placement,
        )
        updated(team, step=0)
        updated(team, step=1)
        results[name] = weights(team.agents[0])
    torch.testing.assert_close(results["0.0-k1"], results["0.0-full"], atol=1e-6, rtol=0)
    assert not torch.allclose(results["0.0-k1"], results["5.0-k1"], atol=1e-4)


def test_a_far_step_stops_the_epochs(tiny_gpt2_dir: Path, tmp_path: Path) -> None:
    """Prevents `target_kl` from being ignored, or from ending an epoch in its middle."""
    options = {"num_ppo_epochs": 4, "num_mini_batches": 2, "learning_rate": 1e-2}
    free = updated(trainer(tiny_gpt2_dir, tmp_path / "free", **options))
    held = updated(trainer(tiny_gpt2_dir, tmp_path / "held", target_kl=1e-4, **options))
    assert (free["optimizer_steps"], held["optimizer_steps"]) == (8, 2)


def test_the_adaptive_coefficient_follows_the_kl(tiny_gpt2_dir: Path, tmp_path: Path) -> None:
    """Prevents a controller that is never called, or that is shared by the agents."""
    team = trainer(
        tiny_gpt2_dir, tmp_path, kl_controller="adaptive", kl_coef=0.1, kl_target=1, kl_horizon=80
    )
    metrics = updated(team)
    # At step 0 the KL is 0, so the error is clipped at −0.2 and acts over 8 of 80 samples.
    assert metrics["kl_coef"] == 0.1
    assert team.agents[0].state.kl_coef == pytest.approx(0.1 * (1 - 0.2 * 8 / 80))
    assert team.agents[1].state.kl_coef == 0.1


def test_reward_statistics_are_kept_per_agent_and_role(tiny_gpt2_dir: Path, tmp_path: Path) -> None:
    """Prevents an observer's rewards from being measured by a pioneer's."""
    team = trainer(tiny_gpt2_dir, tmp_path, normalize_rewards=True, role_exchange_period=1)
    for step in range(3):
        for record in records(team, step):
            agent = team.agents[record.generation.agent]
            agent.update(agent.scale_rewards(record), step)
    counts = [
        {role: scaler.count for role, scaler in agent.state.reward_scalers.items()}
        for agent in team.agents
    ]
    assert counts == [{"pioneer": 16, "observer": 8}, {"pioneer": 8, "observer": 16}]


def test_a_clipped_score_pays_no_more_than_its_limit(tiny_gpt2_dir: Path, tmp_path: Path) -> None:
    """Prevents `score_clip` from being applied before scaling, or not at all."""
    limit = 0.01
    options = {"advantage_estimator": "reinforce", "kl_coef": 0.0, "normalize_rewards": True}
    free = updated(trainer(tiny_gpt2_dir, tmp_path / "free", **options))
    clipped = updated(trainer(tiny_gpt2_dir, tmp_path / "clipped", score_clip=limit, **options))
    assert free["advantage_std"] > 10 * limit
    assert clipped["advantage_std"] <= limit


def test_copies_of_the_weights_are_kept_only_if_asked_for(
    tiny_gpt2_dir: Path, tmp_path: Path
) -> None:
    """Prevents copies of every agent's weights in a run that neither resets nor averages."""
    plain = trainer(tiny_gpt2_dir, tmp_path / "plain").agents[0]
    assert plain.elastic_reset is None
    assert plain.weight_average is None
    copying = trainer(
        tiny_gpt2_dir,
        tmp_path / "copying",
        elastic_reset_period=17,
        elastic_reset_decay=0.9,
        weight_average_decay=0.8,
    ).agents[0]
    assert copying.elastic_reset is not None
    assert copying.elastic_reset.decay == 0.9
    assert copying.weight_average is not None
    assert copying.weight_average.decay == 0.8


def test_elastic_reset_at_its_period(tiny_gpt2_dir: Path, tmp_path: Path) -> None:
    """Prevents a reset at the wrong step, or to anything but the moving average."""
    team = trainer(tiny_gpt2_dir, tmp_path, elastic_reset_period=2, elastic_reset_decay=0.5)
    agent = team.agents[0]
    assert agent.elastic_reset is not None
    initial = [weight.detach().clone() for weight in agent.policy.language_parameters()]
    updated(team, step=0)
    for weight, average, start in zip(
        agent.policy.language_parameters(), agent.elastic_reset.average, initial, strict=True
    ):
        assert not torch.equal(weight, average), "too early"
        assert not torch.equal(average, start), "the average does not follow"
    followed = RecordAverage(agent)
    updated(team, step=1)
    for weight, average, start, target in zip(
        agent.policy.language_parameters(),
        agent.elastic_reset.average,
        initial,
        followed.last,
        strict=True,
    ):
        torch.testing.assert_close(weight.detach(), target, atol=1e-6, rtol=0)
        assert torch.equal(average, start)


class RecordAverage:
    """Follows an agent's weights after each optimizer step, as Elastic Reset should."""

    def __init__(self, agent: Agent) -> None:
        assert agent.elastic_reset is not None
        self.weights = agent.policy.language_parameters()
        self.last = [average.clone() for average in agent.elastic_reset.average]
        agent.optimizer.register_step_post_hook(self.follow)

    def follow(self, *_: object) -> None:
        self.last = [
            (average + weight.detach()) / 2
            for average, weight in zip(self.last, self.weights, strict=True)
        ]


def test_a_learning_rate_for_each_agent(tiny_gpt2_dir: Path, tmp_path: Path) -> None:
    """Prevents one agent's learning rate from being used for the other."""
    team = trainer(tiny_gpt2_dir, tmp_path, learning_rate=[1e-3, 0.0])
    before = [weights(agent) for agent in team.agents]
    team.iterate(0)
    assert not torch.equal(weights(team.agents[0]), before[0])
    assert torch.equal(weights(team.agents[1]), before[1])


def test_bfloat16_learns(tiny_llama_dir: Path, tmp_path: Path) -> None:
    """Prevents sampling, scoring and learning from computing in different number formats."""
    learner = Learner(tiny_llama_dir, tmp_path / "learner", low_ids, rate=5e-3, bf16=True)
    agent, _ = learner.learn()
    assert learner.share_of_low_ids() > learner.share_before + 0.02
    assert weights(agent).dtype == torch.float32

    team = trainer(tiny_llama_dir, tmp_path / "team", bf16=True)
    passes: list[tuple[torch.dtype, bool]] = []

    def note(module: object, inputs: object, output: torch.Tensor) -> None:
        passes.append((output.dtype, torch.is_grad_enabled()))

    for policy in team.policies:
        policy.model.get_submodule("model.layers.1.mlp.down_proj").register_forward_hook(note)
    metrics = team.iterate(0)
    assert {dtype for dtype, _ in passes} == {torch.bfloat16}
    assert {is_learning for _, is_learning in passes} == {False, True}
    for agent in team.agents:
        assert metrics[f"{agent.name}/first_ratio_error"] < 1e-4


def spoil(team: CORYTrainer, agent: int, sample: int) -> RolloutRecord:
    """An agent's record with one return that is not a number."""
    record = records(team)[agent]
    rewards = record.team_reward.clone()
    rewards[sample] = float("nan")
    return team.agents[agent].scale_rewards(replace(record, team_reward=rewards))


def test_a_step_that_is_not_finite_is_not_taken(tiny_gpt2_dir: Path, tmp_path: Path) -> None:
    """Prevents one overflow from making every weight nan, and moments from remembering it."""
    team = trainer(tiny_gpt2_dir, tmp_path, num_ppo_epochs=1, num_mini_batches=2)
    agent = team.agents[0]
    updated(team)
    before = snapshot(agent)
    metrics = agent.update(spoil(team, 0, 2), 1)
    assert (metrics["skipped_steps"], metrics["optimizer_steps"]) == (2, 0)
    assert same_bits(snapshot(agent), before)
    metrics = updated(team, step=2)
    assert (metrics["skipped_steps"], agent.state.skips_in_a_row) == (0, 0)
    assert weights(agent).isfinite().all()


def test_the_third_skip_in_a_row_names_the_sample(tiny_gpt2_dir: Path, tmp_path: Path) -> None:
    """Prevents a run that spends its hours on steps that it does not take."""
    team = trainer(tiny_gpt2_dir, tmp_path, num_ppo_epochs=3, num_mini_batches=1)
    before = snapshot(team.agents[1])
    expected = r"agent_1: .* 3 optimizer steps in a row.*iteration 5; sample 2 .*such returns.*\[\d"
    with pytest.raises(NotFiniteError, match=expected):
        team.agents[1].update(spoil(team, 1, 2), 4)
    assert same_bits(snapshot(team.agents[1]), before)


def test_weights_that_overflow_are_named(tiny_gpt2_dir: Path, tmp_path: Path) -> None:
    """Prevents an error that blames a reward for what the weights did."""
    team = trainer(tiny_gpt2_dir, tmp_path, num_ppo_epochs=3, num_mini_batches=1)
    found = records(team)[0]
    with torch.no_grad():
        team.policies[0].value_head.weight.fill_(float("inf"))
    with pytest.raises(NotFiniteError, match=r"sample 0 .*such new values"):
        team.agents[0].update(found, 0)


def test_the_coefficient_of_an_agent_is_its_own(tiny_gpt2_dir: Path, tmp_path: Path) -> None:
    """Prevents an adaptive coefficient that the rewards never see."""
    team = trainer(tiny_gpt2_dir, tmp_path, whiten_advantages=False)
    disturb(team.policies[0], seed=0)
    agent, record = team.agents[0], records(team)[0]
    before = agent.make_train_samples(record)[0].returns
    agent.state.kl_coef = 10.0
    assert not torch.equal(agent.make_train_samples(record)[0].returns, before)


def test_the_controller_sees_the_kl_of_a_sequence(tiny_gpt2_dir: Path, tmp_path: Path) -> None:
    """Prevents a target for sequences that is held against the KL of a token."""
    team = trainer(tiny_gpt2_dir, tmp_path, kl_controller="adaptive", kl_horizon=100)
    disturb(team.policies[0], seed=0)
    agent, record = team.agents[0], records(team)[0]
    kl = float(record.scores.full_kl.sum(1).mean())
    agent.args = agent.args.replace(kl_target=kl / 1.1)
    before = agent.state.kl_coef
    agent.update(record, 0)
    expected = next_kl_coef(before, kl, kl / 1.1, len(record.batch), 100)
    assert agent.state.kl_coef == pytest.approx(expected)
    assert agent.state.kl_coef > before


def test_agents_draw_mini_batches_of_their_own(tiny_gpt2_dir: Path, tmp_path: Path) -> None:
    """Prevents agents that meet the queries in one order."""
    first, second = (
        torch.cat(list(agent._mini_batches(64, 0, 0))).tolist()
        for agent in trainer(tiny_gpt2_dir, tmp_path).agents
    )
    assert sorted(first) == sorted(second) == list(range(64))
    assert first != second


def test_a_target_that_is_far_stops_no_epoch(tiny_gpt2_dir: Path, tmp_path: Path) -> None:
    """Prevents a target_kl that ends every update after one epoch."""
    team = trainer(tiny_gpt2_dir, tmp_path, target_kl=1e9, num_ppo_epochs=3, num_mini_batches=2)
    assert updated(team)["optimizer_steps"] == 6
