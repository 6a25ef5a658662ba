"""Agents on the Hugging Face Hub: which folder goes to which repository, and the upload."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import huggingface_hub
from httpx2 import HTTPError
from huggingface_hub import HfApi
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

from cory.config import CORYConfig
from cory.io.errors import CoryRuntimeError
from cory.io.files import look_up
from cory.training.runs import find_checkpoint

LOGIN = "log in with `hf auth login`, or set the environment's HF_TOKEN"


@dataclass(frozen=True)
class Upload:
    """A folder of an agent, and the repository that it goes to."""

    folder: Path
    repo: str

    @property
    def files(self) -> list[Path]:
        """What is uploaded, in order."""
        return sorted(path for path in self.folder.iterdir() if path.is_file())

    @property
    def megabytes(self) -> float:
        """Size of the files."""
        return sum(path.stat().st_size for path in self.files) / 1e6


def repositories(args: CORYConfig, repo: str | None = None) -> dict[str, str]:
    """The repository of each agent, by the agent's name.

    Args:
        args: of the run; `hub_model_id`, else the name of `output_dir`, counts without a `repo`.
        repo: NAME or OWNER/NAME.

    Raises:
        ValueError: the Hub takes no such name.
    """
    name = repo or args.hub_model_id or Path(args.output_dir).resolve().name
    ends = [f"-{index}" for index in range(args.num_agents)] if args.num_agents > 1 else [""]
    found = {f"agent_{index}": f"{name}{end}" for index, end in enumerate(ends)}
    try:
        for each in (name, *found.values()):
            validate_repo_id(each)
    except HFValidationError as error:
        raise ValueError(
            f"{name!r:.200} cannot be a repository on the Hub: {error} Write NAME or OWNER/NAME"
        ) from error
    return found


def planned_uploads(
    run: Path,
    args: CORYConfig,
    repo: str | None = None,
    agent: str | None = None,
    step: int | None = None,
) -> list[Upload]:
    """What `upload` would do; nothing is asked of the Hub.

    Args:
        run: directory of the run.
        args: its settings.
        repo: see `repositories`.
        agent: the only one to upload, to `repo` itself; None: all.
        step: of the checkpoint; None: the newest.

    Raises:
        ValueError: there is no such checkpoint or agent, or a name is none for the Hub.
    """
    checkpoint = find_checkpoint(run, step)
    names = repositories(args, repo)
    if agent is not None:
        look_up("agent", agent, names)
        alone = repositories(args.replace(num_agents=1), repo)
        names = {agent: alone["agent_0"]}
    return [Upload(checkpoint / name, place) for name, place in names.items()]


def refuse_without_login() -> None:
    """Check that there is a token for the Hub.

    Raises:
        ValueError: there is none.
    """
    if huggingface_hub.get_token() is None:
        raise ValueError(f"nobody is logged in to the Hugging Face Hub: {LOGIN}")


def make_repositories(names: Sequence[str], private: bool | None) -> list[str]:
    """Make the repositories that are missing; returns their whole names, with the owner.

    Raises:
        ValueError: nobody is logged in.
        CoryRuntimeError: the Hub refused, or is out of reach.
    """
    refuse_without_login()
    api, made = HfApi(library_name="cory"), []
    for name in names:
        try:
            made.append(api.create_repo(name, private=private, exist_ok=True).repo_id)
        except (HTTPError, OSError) as error:
            raise CoryRuntimeError(f"the Hub did not make {name}: {_reason(error)}") from error
    return made


def upload(uploads: Sequence[Upload], private: bool | None = None) -> list[str]:
    """Upload folders to their repositories, which are made if they are missing.

    Args:
        uploads: what goes where.
        private: of new repositories; None: as the owner's account says.

    Returns:
        the address of each repository.

    Raises:
        ValueError: nobody is logged in.
        CoryRuntimeError: the Hub refused, or is out of reach.
    """
    names = make_repositories([each.repo for each in uploads], private)
    api, addresses = HfApi(library_name="cory"), []
    for each, name in zip(uploads, names, strict=True):
        step = each.folder.parent.name
        try:
            api.upload_folder(
                repo_id=name,
                folder_path=each.folder,
                commit_message=f"{each.folder.name} of {step}, trained with cory",
            )
        except (HTTPError, OSError) as error:
            reason = _reason(error)
            raise CoryRuntimeError(f"the Hub did not take {each.folder}: {reason}") from error
        addresses.append(f"{api.endpoint}/{name}")
    return addresses


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())


def upload_at_the_end(args: CORYConfig, checkpoint: Path) -> list[str]:
    """What `push_to_hub` asks for; returns the addresses.

    Raises:
        CoryRuntimeError: the Hub did not take it; the message has the command that tries again.
    """
    folders = {name: checkpoint / name for name in repositories(args)}
    uploads = [Upload(folders[name], repo) for name, repo in repositories(args).items()]
    try:
        return upload(uploads, args.hub_private_repo)
    except (CoryRuntimeError, ValueError) as error:
        raise CoryRuntimeError(
            f"the run is finished and saved, but {error}. `cory push {args.output_dir}` tries again"
        ) from error
