"""The order of speaking, the prompt as text runs and slots, and who is paid."""

from __future__ import annotations

import pytest

from cory.team.roles import (
    Answer,
    Templates,
    exchange_is_due,
    reward_matrix,
    role_name,
    roles_at,
)

GSM8K = Templates(
    query="Question: {query}\nAnswer:",
    observer="Question: {query}\n{references}Answer:",
    reference="Reference: {answer}\n",
)
IMDB = Templates(
    observer="I can make this sentence {references} more positive: {query}",
    reference='"{query}{answer}"',
)


def test_roles_swap_every_period() -> None:
    """Prevents an exchange that comes one iteration early or late."""
    orders = [roles_at(step, 2, 3) for step in range(9)]
    assert orders == [(0, 1)] * 3 + [(1, 0)] * 3 + [(0, 1)] * 3
    assert [step for step in range(9) if exchange_is_due(step, 3)] == [3, 6]


@pytest.mark.parametrize("num_agents", [1, 2, 3, 5])
def test_every_agent_speaks_once_and_gets_every_role(num_agents: int) -> None:
    """Prevents an agent that speaks twice, or one that never becomes pioneer."""
    orders = [roles_at(step, num_agents, 2) for step in range(2 * num_agents)]
    assert all(sorted(order) == list(range(num_agents)) for order in orders)
    assert {order[0] for order in orders} == set(range(num_agents))


def test_nothing_exchanges_without_a_period_or_a_partner() -> None:
    """Prevents plots that mark an exchange where no role changed."""
    assert not any(exchange_is_due(step, None) for step in range(9))
    assert {roles_at(step, 1, 1) for step in range(9)} == {(0,)}
    assert {roles_at(step, 2, None) for step in range(9)} == {(0, 1)}


def test_role_names_down_a_chain() -> None:
    """Prevents two roles of one name, which would merge their metrics and reward statistics."""
    names = [role_name(index) for index in range(4)]
    assert names == ["pioneer", "observer", "observer_2", "observer_3"]


def test_a_team_of_one_is_paid_its_own_reward() -> None:
    """Prevents single-agent PPO from feeling the team's settings."""
    assert reward_matrix(1, -3.0) == ((1.0,),)


def test_reward_matrix_by_hand() -> None:
    """Prevents the partner's weight from touching one's own reward, or a transposed matrix."""
    assert reward_matrix(2, 1.0) == ((1, 1), (1, 1))
    assert reward_matrix(2, -5.0) == ((1, -5), (-5, 1))
    assert reward_matrix(3, 2.0) == ((1, 2, 2), (2, 1, 2), (2, 2, 1))
    assert reward_matrix(3, 0.0) == ((1, 0, 0), (0, 1, 0), (0, 0, 1))


def test_prompts_of_the_paper() -> None:
    """Prevents a prompt whose text runs are cut more often than answers demand."""
    assert GSM8K.compose("2+2?", 0) == ["Question: 2+2?\nAnswer:"]
    assert GSM8K.compose("2+2?", 1) == [
        "Question: 2+2?\nReference: ",
        Answer(0),
        "\nAnswer:",
    ]
    assert IMDB.compose("It was", 1) == [
        'I can make this sentence "It was',
        Answer(0),
        '" more positive: It was',
    ]


def test_several_references_keep_the_order_of_speaking() -> None:
    """Prevents a third agent from seeing its references swapped or only the last one."""
    assert GSM8K.compose("Q", 3) == [
        "Question: Q\nReference: ",
        Answer(0),
        "\nReference: ",
        Answer(1),
        "\nReference: ",
        Answer(2),
        "\nAnswer:",
    ]


def test_placeholders_in_the_query_are_text() -> None:
    """Prevents a query that holds `{references}` or JSON from being filled in, or from failing."""
    query = '{"a": {references}} {query} {answer} {0}'
    assert IMDB.compose(query, 0) == [query]
    assert GSM8K.compose(query, 1) == [
        f"Question: {query}\nReference: ",
        Answer(0),
        "\nAnswer:",
    ]


def test_other_braces_in_a_template_are_text() -> None:
    """Prevents `str.format`, which fails on a template that shows JSON."""
    templates = Templates(query='{"q": "{query}"}', observer="{x}{references}{query}")
    assert templates.compose("hi", 0) == ['{"q": "hi"}']
    assert templates.compose("hi", 1) == ["{x}", Answer(0), "hi"]


def test_a_chain_rotates_towards_its_front() -> None:
    """Prevents a rotation the other way round, which two agents do not show."""
    assert [roles_at(step, 3, 2) for step in (0, 2, 4, 6)] == [
        (0, 1, 2),
        (1, 2, 0),
        (2, 0, 1),
        (0, 1, 2),
    ]
