"""`cory train`: from options to a trained team."""

from __future__ import annotations

from collections.abc import Sequence

from cory.cli.options import make_parser, parse, read_settings
from cory.cli.settings import training_settings
from cory.config.presets import PRESETS, preset_settings, recipe_path, recipes
from cory.io.signals import end_with_the_parent

USAGE = (
    "cory train [--task TASK] [--preset PRESET] [--recipe NAME | --config FILE] "
    "[--output_dir RUN] [--resume] [--SETTING VALUE …]"
)
DESCRIPTION = """\
Train a team of agents from one initial model; --num_agents 1 is single-agent PPO. Settings come
from options, else from --config or --recipe, else from --preset, else from the run that --resume
continues, else from the --task, else from the defaults in [brackets]. Settings that are lists take
several values, or the option again."""


def run(words: Sequence[str]) -> None:
    """Carry out `cory train` with the words after it.

    Raises:
        ValueError: an option, the data or a reward function is at fault.
    """
    end_with_the_parent()
    parser = make_parser(USAGE, DESCRIPTION)
    parser.add_argument(
        "--recipe", metavar="NAME", help=f"--config that comes with cory: {', '.join(recipes())}"
    )
    parser.add_argument("--preset", help=f"settings with a name: {', '.join(PRESETS)}")
    parser.add_argument(
        "--dry_run",
        action="store_true",
        help="check everything, print the settings, memory and time, and train nothing",
    )
    given, options = parse(parser, words)
    if options["recipe"] is not None:
        if options["config"] is not None:
            raise ValueError("--recipe is a --config: copy the recipe's file, or leave one away")
        given = {**read_settings(recipe_path(options["recipe"])), **given}
    args = training_settings({**preset_settings(options["preset"]), **given})

    from cory.cli.libraries import quieten

    quieten()
    if options["dry_run"]:
        from cory.cli.dry_run import dry_run

        dry_run(args)
        return
    from cory.cli.outcome import initial_metrics, print_outcome
    from cory.training.trainer import CORYTrainer

    trainer = CORYTrainer(args=args)
    initial = initial_metrics(trainer)
    metrics = trainer.train()
    trainer.world.close()
    if trainer.world.is_main:
        print_outcome(trainer, initial, metrics)
