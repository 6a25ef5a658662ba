"""`cory generate`: answers to a prompt, of one agent, of a whole team, or of a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from cory.cli.options import make_parser, parse
from cory.cli.settings import open_target
from cory.io.files import look_up
from cory.io.objects import shown
from cory.io.terminal import is_unicode, write
from cory.team.roles import role_name, roles_at

if TYPE_CHECKING:
    from cory.team.messages import Query
    from cory.training.runs import Subject

MAX_SAMPLES = 10_000
USAGE = "cory generate RUN|MODEL --prompt TEXT [--agent agent_0] [--as_team] [--SETTING VALUE …]"
DESCRIPTION = """\
Answer a prompt, which is sent as a user's chat message where the run was trained on such. An agent
alone gets the plain query, as it is meant to be used; --as_team shows the
pioneer's answer and then the observer's, who has seen it."""


def run(words: Sequence[str]) -> None:
    """Carry out `cory generate` with the words after it.

    Raises:
        ValueError: there is no such run, model or agent, or an option does not fit.
    """
    parser = make_parser(USAGE, DESCRIPTION, lists_settings=False)
    parser.add_argument("target", metavar="RUN|MODEL", help="run directory, or model")
    parser.add_argument("--prompt", required=True, metavar="TEXT", help="the query")
    parser.add_argument("--chat", action="store_true", help="send it as a user's chat message")
    parser.add_argument(
        "--no_chat", action="store_true", help="send it as it is, though the run had chat messages"
    )
    parser.add_argument("--agent", help="who answers alone [agent_0]")
    parser.add_argument("--as_team", action="store_true", help="all agents answer in turn")
    parser.add_argument("--num_samples", type=int, default=1, help="answers [1]")
    parser.add_argument("--step", type=int, help="checkpoint of a run [the newest]")
    given, options = parse(parser, words)
    _check(options)
    if not 1 <= options["num_samples"] <= MAX_SAMPLES:
        number = shown(options["num_samples"])
        raise ValueError(f"--num_samples {number} must lie between 1 and {MAX_SAMPLES}")
    # A training refuses temperature 0, at which nothing would be sampled; here it has a meaning.
    is_greedy = given.get("temperature") == 0
    if is_greedy:
        del given["temperature"]
    subject = open_target(options, given)
    speakers = _speakers(subject, options)
    subject, query = _asked(subject, options)

    from cory.training.runs import answer

    answers = answer(
        subject,
        speakers,
        query,
        options["num_samples"],
        0.0 if is_greedy else subject.args.temperature,
    )
    for sample in range(options["num_samples"]):
        for place, speaker in enumerate(speakers):
            name = f"agent_{speaker} ({role_name(place)}): " if options["as_team"] else ""
            write(f"{name}{answers[place][sample]}")


def _check(options: dict[str, Any]) -> None:
    """Refuse what cannot be asked, and options that say two things."""
    if not options["prompt"] or not is_unicode(options["prompt"]):
        raise ValueError("--prompt is empty, or holds bytes that are no UTF-8: write the query")
    if options["chat"] and options["no_chat"]:
        raise ValueError("--chat and --no_chat exclude each other: leave one of them away")
    if options["as_team"] and options["agent"] is not None:
        raise ValueError("--as_team lets all agents answer: leave --agent away")


def _asked(subject: Subject, options: dict[str, Any]) -> tuple[Subject, Query]:
    """The query, as a chat message where training had such or it is asked for."""
    if options["no_chat"]:
        plain = subject.args.replace(chat_template_kwargs=None)
        subject = replace(subject, args=plain, is_chat=False)
    if options["chat"] or subject.is_chat:
        return subject, [{"role": "user", "content": options["prompt"]}]
    return subject, options["prompt"]


def _speakers(subject: Subject, options: dict[str, Any]) -> tuple[int, ...]:
    if options["as_team"]:
        return roles_at(0, subject.args.num_agents, None)
    numbers = {f"agent_{index}": index for index in range(subject.args.num_agents)}
    return (look_up("agent", options["agent"] or "agent_0", numbers),)
