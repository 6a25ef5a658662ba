"""`cory merge`: the agents of a run as one plain model, the mean of their weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cory.cli.options import make_parser, parse
from cory.cli.settings import open_target
from cory.config.saved import saved_settings
from cory.io.terminal import say

USAGE = "cory merge RUN --output_dir DIR [--step N] [--weights 0.5,0.5]"
DESCRIPTION = """\
Write the mean of a run's agents as one plain model, which transformers loads; of adapters as one
adapter whose update is the mean of theirs. `cory eval RUN --evaluate_merged` measures it beside the
agents."""


def run(words: Sequence[str]) -> None:
    """Carry out `cory merge` with the words after it.

    Raises:
        ValueError: there is no such run, or nowhere to write.
    """
    parser = make_parser(USAGE, DESCRIPTION, lists_settings=False)
    parser.add_argument("target", metavar="RUN", help="run directory")
    parser.add_argument("--step", type=int, help="checkpoint of the run [the newest]")
    parser.add_argument("--weights", metavar="W0,W1,…", help="weight of each agent [all equal]")
    given, options = parse(parser, words)
    if saved_settings(Path(options["target"])) is None:
        raise ValueError(f"{options['target']} is not a run directory: it has no config.yaml")
    if "output_dir" not in given:
        raise ValueError("nowhere to write the model: name a new directory with --output_dir")
    directory = Path(given.pop("output_dir"))
    shares = None if options["weights"] is None else _numbers(options["weights"])
    subject = open_target(options, given)

    from cory.training.runs import save_merged

    save_merged(subject, directory, shares)
    say(f"wrote {directory}")


def _numbers(text: str) -> list[float]:
    try:
        return [float(number) for number in text.split(",")]
    except ValueError as error:
        raise ValueError(f"--weights {text}: write numbers with commas, such as 0.7,0.3") from error
