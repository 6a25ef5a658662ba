"""`cory chat`: talk to an agent of a run, to the whole team, or to a model."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from cory.cli.options import make_parser, parse
from cory.cli.settings import open_target
from cory.io.files import look_up
from cory.io.terminal import is_unicode, say, write
from cory.team.roles import role_name, roles_at

if TYPE_CHECKING:
    from cory.team.messages import Query

USAGE = "cory chat RUN|MODEL [--agent agent_0 | --as_team] [--SETTING VALUE …]"
DESCRIPTION = """\
Talk to an agent of a run, to the whole team, or to a model. A line is a query; where the run was
trained on chat messages, or with --chat, the conversation goes on, and a line /new begins another.
Ctrl-D ends."""
NEW = "/new"
PROMPT = "> "


def run(words: Sequence[str]) -> None:
    """Carry out `cory chat` with the words after it.

    Raises:
        ValueError: there is no such run, model or agent, or a query does not fit the model.
    """
    parser = make_parser(USAGE, DESCRIPTION, lists_settings=False)
    parser.add_argument("target", metavar="RUN|MODEL", help="run directory, or model")
    parser.add_argument("--agent", help="who answers alone [agent_0]")
    parser.add_argument("--as_team", action="store_true", help="all agents answer in turn")
    parser.add_argument("--chat", action="store_true", help="send chat messages")
    parser.add_argument("--step", type=int, help="checkpoint of a run [the newest]")
    given, options = parse(parser, words)
    if options["as_team"] and options["agent"] is not None:
        raise ValueError("--as_team lets all agents answer: leave --agent away")
    is_greedy = given.get("temperature") == 0
    if is_greedy:
        del given["temperature"]
    subject = open_target(options, given)
    is_chat = options["chat"] or subject.is_chat
    agents = {f"agent_{index}": index for index in range(subject.args.num_agents)}
    alone = look_up("agent", options["agent"] or "agent_0", agents)
    speakers = roles_at(0, len(agents), None) if options["as_team"] else (alone,)

    from cory.training.runs import Answerer

    answerer = Answerer(replace(subject, is_chat=is_chat))
    temperature = 0.0 if is_greedy else subject.args.temperature
    said: list[dict[str, Any]] = []
    for line in _lines():
        if line == NEW:
            said.clear()
            continue
        said.append({"role": "user", "content": line})
        query: Query = said if is_chat else line
        answers = [each[0] for each in answerer.answer(speakers, query, 1, temperature)]
        for place, (speaker, answer) in enumerate(zip(speakers, answers, strict=True)):
            name = f"agent_{speaker} ({role_name(place)}): " if options["as_team"] else ""
            write(f"{name}{answer}")
        said.append({"role": "assistant", "content": answers[-1]})


def _lines() -> Iterator[str]:
    """What is typed or piped in, until its end; empty lines are left out."""
    is_terminal = sys.stdin.isatty()
    while True:
        try:
            line = input(PROMPT) if is_terminal else sys.stdin.readline()
        except EOFError:
            say("")
            return
        if not line and not is_terminal:
            return
        if not is_unicode(line):
            raise ValueError("a query holds bytes that are no UTF-8")
        if line.strip():
            yield line.rstrip("\n")
