"""`cory push`: the agents of a run on the Hugging Face Hub."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cory.cli.help import PlainParser
from cory.io.terminal import say, write

USAGE = "cory push RUN [REPO] [--agent agent_0] [--step N] [--private] [--dry_run]"
DESCRIPTION = """\
Upload the agents of a run to the Hugging Face Hub, each as a repository that plain transformers or
peft loads, with its model card. Log in before, with `hf auth login` or HF_TOKEN."""


def run(words: Sequence[str]) -> None:
    """Carry out `cory push` with the words after it.

    Raises:
        ValueError: there is no such run or agent, the name cannot be one on the Hub, or nobody is
            logged in.
        CoryRuntimeError: the Hub did not take it.
    """
    parser = PlainParser("cory push", usage=USAGE, description=DESCRIPTION)
    parser.add_argument("target", metavar="RUN", help="run directory")
    parser.add_argument(
        "repo",
        metavar="REPO",
        nargs="?",
        help="NAME or OWNER/NAME; of several agents each gets -0, -1 … behind it "
        "[hub_model_id, else the run's name]",
    )
    parser.add_argument("--agent", help="this one alone, as REPO itself [all]")
    parser.add_argument("--step", type=int, help="checkpoint of the run [the newest]")
    parser.add_argument("--private", action="store_true", help="make new repositories private")
    parser.add_argument(
        "--dry_run", action="store_true", help="check, and list what would be uploaded"
    )
    options = parser.parse_args(words)

    from cory.cli.libraries import quieten

    quieten()
    from cory.training.hub import planned_uploads, upload
    from cory.training.records import load_config

    directory = Path(options.target)
    args = load_config(directory)
    uploads = planned_uploads(directory, args, options.repo, options.agent, options.step)
    for planned in uploads:
        write(f"{planned.folder} → {planned.repo} ({planned.megabytes:.1f} MB)")
        if options.dry_run:
            write("\n".join(f"  {path.name}" for path in planned.files))
    if options.dry_run:
        say("dry run: nothing was uploaded")
        return
    for address in upload(uploads, options.private or args.hub_private_repo):
        write(address)
