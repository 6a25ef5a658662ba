"""`cory generate`: answers to a prompt, of one agent, of a whole team, or of a model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cory.cli.options import make_parser, parse
from cory.cli.settings import model_settings, run_settings, saved_settings
from cory.io.files import did_you_mean
from cory.io.terminal import write
from cory.team.roles import role_name, roles_at

if TYPE_CHECKING:
    from cory.team.prompts import Query
    from cory.training.runs import Subject

USAGE = "cory generate RUN|MODEL --prompt TEXT [--agent agent_0] [--as_team] [--SETTING VALUE …]"
DESCRIPTION = """\
Answer a prompt. An agent alone gets the plain query, as it is meant to be used; --as_team shows the
pioneer's answer and then the observer's, who has seen it."""


def run(words: Sequence[str]) -> None:
    """Carry the command out.

    Args:
        words: after `cory generate`.

    Raises:
        ValueError: there is no such run, model or agent, or an option does not fit.
    """
    parser = make_parser(USAGE, DESCRIPTION)
    parser.add_argument("target", metavar="RUN|MODEL", help="run directory, or model")
    parser.add_argument("--prompt", required=True, metavar="TEXT", help="the query")
    parser.add_argument("--chat", action="store_true", help="send it as a user's chat message")
    parser.add_argument("--agent", default="agent_0", help="who answers alone [agent_0]")
    parser.add_argument("--as_team", action="store_true", help="all agents answer in turn")
    parser.add_argument("--num_samples", type=int, default=1, help="answers [1]")
    parser.add_argument("--step", type=int, help="checkpoint of a run [the newest]")
    given, options = parse(parser, words)
    if options["num_samples"] < 1:
        raise ValueError(f"--num_samples {options['num_samples']} must be at least 1")
    # A training refuses temperature 0, at which nothing would be sampled; here it has a meaning.
    temperature = given.pop("temperature", None)
    subject = _open(options, given)
    speakers = _speakers(subject, options)
    query: Query = options["prompt"]
    if options["chat"]:
        query = [{"role": "user", "content": options["prompt"]}]

    from cory.training.runs import answer

    answers = answer(
        subject,
        speakers,
        query,
        options["num_samples"],
        subject.args.temperature if temperature is None else temperature,
    )
    for sample in range(options["num_samples"]):
        for place, speaker in enumerate(speakers):
            name = f"agent_{speaker} ({role_name(place)}): " if options["as_team"] else ""
            write(f"{name}{answers[place][sample]}")


def _open(options: dict[str, Any], given: dict[str, Any]) -> Subject:
    saved = saved_settings(Path(options["target"]))
    args = model_settings(options["target"], given) if saved is None else run_settings(saved, given)

    from cory.cli.libraries import quieten

    quieten()
    from cory.training.runs import open_model, open_run

    if saved is None:
        return open_model(options["target"], args)
    return open_run(Path(options["target"]), args, options["step"])


def _speakers(subject: Subject, options: dict[str, Any]) -> tuple[int, ...]:
    if options["as_team"]:
        return roles_at(0, subject.args.num_agents, None)
    names = [f"agent_{index}" for index in range(subject.args.num_agents)]
    if options["agent"] not in names:
        hint = did_you_mean(options["agent"], names) or f"; there is {', '.join(names)}"
        raise ValueError(f"no agent {options['agent']!r}{hint}")
    return (names.index(options["agent"]),)
