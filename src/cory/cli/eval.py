"""`cory eval`: each agent of a run, or a model, alone on held-out queries."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cory.cli.options import make_parser, parse
from cory.cli.settings import open_target
from cory.config.saved import saved_settings
from cory.io.files import refuse_unwritable_file, replace_text
from cory.io.terminal import say, write
from cory.io.urls import without_password

if TYPE_CHECKING:
    from cory.config import CORYConfig
    from cory.team.evaluation import Evaluation
    from cory.training.runs import Subject

USAGE = "cory eval RUN|MODEL [--task TASK] [--num_samples 5] [--output FILE] [--SETTING VALUE …]"
DESCRIPTION = """\
Measure each agent of a run, or a model (Hub name, directory or embedded asset), alone on held-out
queries: reward with its 95% interval, pass@k, KL to the initial model, signs of collapse. Settings
of the run can be overridden: --task or --dataset_name asks other questions."""
NUM_SAMPLES = 5
SHOWN_ANSWERS = 20


def run(words: Sequence[str]) -> None:
    """Carry out `cory eval` with the words after it.

    Raises:
        ValueError: there is no such run or model, or an option does not fit.
    """
    parser = make_parser(USAGE, DESCRIPTION, lists_settings=False)
    parser.add_argument("target", metavar="RUN|MODEL", help="run directory, or model")
    parser.add_argument("--step", type=int, help="checkpoint of a run [the newest]")
    parser.add_argument(
        "--num_samples", type=int, help=f"answers per query, so pass@1 to pass@N [{NUM_SAMPLES}]"
    )
    parser.add_argument("--num_queries", type=int, help="held-out queries [num_eval_queries]")
    parser.add_argument("--reference", help="initial model of a MODEL, for its KL [itself]")
    parser.add_argument("--output", metavar="FILE", help="JSON of the results [RUN/eval.json]")
    parser.add_argument("--json", action="store_true", help="print JSON, the table to stderr")
    given, options = parse(parser, words)
    given = {"num_eval_samples": NUM_SAMPLES, **given}
    for alias, name in (("num_samples", "num_eval_samples"), ("num_queries", "num_eval_queries")):
        if options[alias] is not None:
            given[name] = options[alias]
    output = _output(options)
    if output is not None:
        refuse_unwritable_file(output)
    subject = open_target(options, given)
    _publish(_measure(subject, options["target"]), output, is_json=options["json"])


def _output(options: Mapping[str, Any]) -> Path | None:
    """The file to write; a model, unlike a run, has no place for one."""
    if options["output"] is not None:
        return Path(options["output"])
    target = Path(options["target"])
    return target / "eval.json" if saved_settings(target) else None


def _measure(subject: Subject, target: str) -> dict[str, Any]:
    from cory.team.metrics import for_json
    from cory.training.runs import evaluate_alone

    args, evaluations = subject.args, evaluate_alone(subject)
    first = next(iter(evaluations.values()))
    return {
        "target": target,
        "checkpoints": {name: str(path) for name, path in subject.weights.items()},
        "num_queries": len(first.rows) // args.num_eval_samples,
        "num_samples": args.num_eval_samples,
        "metrics": {name: for_json(each.metrics) for name, each in evaluations.items()},
        "answers": {name: _answers(each, args) for name, each in evaluations.items()},
        "settings": {
            name: without_password(value) if isinstance(value, str) else value
            for name, value in args.to_dict().items()
        },
    }


def _answers(evaluation: Evaluation, args: CORYConfig) -> list[dict[str, Any]]:
    """The first answer to each of the first queries."""
    every_query = slice(0, SHOWN_ANSWERS * args.num_eval_samples, args.num_eval_samples)
    shown = (evaluation.rows, evaluation.completions, evaluation.task_rewards)
    return [
        {"query": row[args.prompt_column], "answer": completion, "task_reward": reward}
        for row, completion, reward in zip(*(column[every_query] for column in shown), strict=True)
    ]


def _publish(report: Mapping[str, Any], output: Path | None, *, is_json: bool) -> None:
    from cory.cli.tables import evaluation_table, print_table

    title = (
        f"alone on {report['num_queries']} held-out queries, {report['num_samples']} answers each"
        f" · {report['target']}"
    )
    table = evaluation_table(title, report["metrics"])
    print_table(table, to_stderr=is_json)
    text = json.dumps(report, indent=1, ensure_ascii=False)
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        replace_text(output, text + "\n")
        say(f"wrote {output}")
    if is_json:
        # Nothing but letters of ASCII can act on a terminal, and JSON stays JSON.
        write(json.dumps(report, indent=1).replace("\x7f", "\\u007f"))
