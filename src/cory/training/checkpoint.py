"""Atomic checkpoints and exact resume.

`checkpoints/step-N/` holds a folder per agent, which plain transformers or peft loads, and in
`state.safetensors` and `state.json` all else that training needs: value heads, optimizer moments,
KL coefficients, reward statistics, moving averages, global random states. `sha256sums.txt` has the
checksum of every file: a checkpoint that is not what was written is not used. Sampling,
mini-batches, the order of the data and the schedule are functions of the seed and the step: they
need no state.

Where an average of the weights is kept, the folders hold the average, as it is the result; the
weights from which training goes on are then among the state.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from transformers import PreTrainedTokenizerBase

from cory.algorithm.seeding import global_random_state, restore_global_random_state
from cory.distributed.fsdp import full_tensor, shard_like
from cory.distributed.world import SINGLE, World
from cory.io.checksums import damage, write_sums
from cory.io.files import OutputError, flush, writing
from cory.io.objects import finite, read_object, shown
from cory.io.terminal import say
from cory.team.agent import Agent, AgentState
from cory.team.controllers import RewardScaler

STATE = ("state.json", "state.safetensors")
"""The files of a checkpoint that are not an agent's."""
_STEP = re.compile(r"step-(0|[1-9][0-9]{0,9})")
_MOMENT = re.compile(r"optimizer/(\d+)/(\w+)")


class Checkpoints:
    """The checkpoints of one run directory, of which the last `limit` are kept (None: all).

    The first process of the world writes, all read.
    """

    def __init__(self, run_directory: Path, limit: int | None, world: World = SINGLE) -> None:
        self.directory = run_directory / "checkpoints"
        self.limit = limit
        self.world = world
        self.own: set[int] = set()
        """Steps whose checkpoint this run has written or loaded."""

    def save(
        self,
        step: int,
        agents: Sequence[Agent],
        optimizer: Optimizer,
        tokenizer: PreTrainedTokenizerBase,
        progress: dict[str, Any],
    ) -> Path:
        """Write `step-{step}` under another name, flush it to the disk, then rename it into place.

        `progress` has JSON values, which `load_checkpoint` gives back. A checkpoint of another run
        that has the name is set aside.

        Raises:
            OutputError: the disk is full, say; older checkpoints are intact.
        """
        target = self.path(step)
        partial = target.with_name(f".{target.name}.partial")
        try:
            with self.world.fail_together(), writing(target):
                self._make_empty(partial)
            for agent in agents:
                with self.world.fail_together(), writing(target), agent.as_result():
                    agent.policy.weights.save(partial / agent.name, self.world.is_main)
            tensors = {name: full_tensor(own) for name, own in _tensors(agents, optimizer).items()}
            state = {
                "step": step,
                "progress": progress,
                "agents": {agent.name: asdict(agent.state) for agent in agents},
                "random": global_random_state(),
            }
            with self.world.fail_together(), writing(target):
                if self.world.is_main:
                    for agent in agents:
                        tokenizer.save_pretrained(partial / agent.name)
                    save_file(tensors, partial / "state.safetensors")
                    (partial / "state.json").write_text(json.dumps(state, indent=1))
                    if target.exists():
                        aside = _set_aside(target, "other")
                        say(f"cory: {target} was not of this run; it is now {aside}")
                    self._complete(partial, target)
        except OutputError:
            # What is incomplete may be what fills the disk.
            shutil.rmtree(partial, ignore_errors=True)
            raise
        self.own.add(step)
        return target

    def _make_empty(self, partial: Path) -> None:
        if self.world.is_main:
            if partial.is_symlink():
                partial.unlink()
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)

    def _complete(self, partial: Path, target: Path) -> None:
        """Give a checkpoint its name, once it is on the disk, and remove what is over the limit."""
        write_sums(partial)
        for path in (*partial.rglob("*"), partial):
            flush(path)
        partial.rename(target)
        flush(self.directory)
        if self.limit is not None:
            for path in map(self.path, self.steps()[: -self.limit]):
                # Removing takes many steps: half of a checkpoint must not have a checkpoint's name.
                path.rename(path.with_name(f".{path.name}.removed"))
        for path in self.directory.glob(".step-*.removed"):
            shutil.rmtree(path)

    def has(self, step: int) -> bool:
        """Whether the checkpoint of this step is there, and this run's own."""
        return self.world.broadcast_from_main(step in self.own and self.path(step).exists())

    def path(self, step: int) -> Path:
        """Where the checkpoint of a step is, once it is complete."""
        return self.directory / f"step-{step}"

    def steps(self) -> list[int]:
        """Of which there are complete checkpoints, sound or not, in order."""
        names = (_STEP.fullmatch(path.name) for path in self.directory.glob("step-*"))
        return sorted(int(name[1]) for name in names if name)

    def newest_sound(self) -> Path | None:
        """The newest complete checkpoint that is what was written; newer ones are said to be not.

        Raises:
            ValueError: there are some, and every one is damaged.
        """
        damaged: list[str] = []
        for path in map(self.path, reversed(self.steps())):
            fault = damage(path, STATE)
            if fault is None:
                if damaged:
                    say(f"cory: {'; '.join(damaged)}; using {path.name} instead")
                return path
            damaged.append(f"{path} is damaged ({fault})")
        if damaged:
            raise ValueError(
                f"{'; '.join(damaged)}: no checkpoint is left to be used. Restore one from a "
                "backup, or begin again in another output_dir"
            )
        return None

    def newest_for_all(self) -> Path | None:
        """`newest_sound` of the first process, in all; raises the same."""
        newest = None
        with self.world.fail_together():
            if self.world.is_main:
                newest = self.newest_sound()
        found = self.world.broadcast_from_main(str(newest) if newest else None)
        return Path(found) if found else None

    def set_aside_after(self, step: int) -> None:
        """Rename checkpoints of later steps, which are damaged, so that new ones take their place.

        Raises:
            OutputError: the directory cannot be written.
        """
        for path in (self.path(later) for later in self.steps() if later > step):
            with writing(path):
                _set_aside(path, "damaged")


def _set_aside(path: Path, why: str) -> Path:
    """Give a checkpoint a name under which it is not used."""
    aside = path.with_name(f"{path.name}.{why}")
    shutil.rmtree(aside, ignore_errors=True)
    return path.rename(aside)


def load_checkpoint(
    path: Path, agents: Sequence[Agent], optimizer: Optimizer, scheduler: LambdaLR
) -> dict[str, Any]:
    """Put agents, moments, schedule and global random states back; return the saved `progress`.

    Learning rate and decay are those of the settings: they may have been changed.

    Raises:
        ValueError: the checkpoint is of another team.
    """
    state = read_object(path / "state.json")
    step = state["step"]
    if type(step) is not int or path.name != f"step-{step}":
        raise ValueError(f"{path} holds step {shown(step)}: give the directory its own name back")
    names = [agent.name for agent in agents]
    if list(state["agents"]) != names:
        raise ValueError(
            f"{path} holds {', '.join(state['agents'])}, but this run has {', '.join(names)}: "
            "resume with the num_agents that the run began with"
        )
    tensors = load_file(path / "state.safetensors")
    for agent in agents:
        agent.policy.weights.load(path / agent.name)
        _load_agent(agent, state["agents"][agent.name], tensors)
    parameters = [weight for group in optimizer.param_groups for weight in group["params"]]
    moments: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        if match := _MOMENT.fullmatch(key):
            index, name = int(match[1]), match[2]
            moment = shard_like(tensor, parameters[index]) if tensor.ndim else tensor
            moments.setdefault(index, {})[name] = moment
    optimizer.load_state_dict({**optimizer.state_dict(), "state": moments})
    # The schedule goes to where `step` calls would have put it.
    before = {"last_epoch": step - 1, "_step_count": step + 1}
    scheduler.load_state_dict(scheduler.state_dict() | before)
    scheduler.step()
    restore_global_random_state(state["random"])
    return state["progress"]


def _load_agent(agent: Agent, state: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    scalers = {role: RewardScaler(**scaler) for role, scaler in state["reward_scalers"].items()}
    numbers = [value for name, value in state.items() if name != "reward_scalers"]
    numbers += [value for scaler in scalers.values() for value in asdict(scaler).values()]
    if None in [finite(value, f"the state of {agent.name}") for value in numbers]:
        raise ValueError(f"the state of {agent.name} has a number that is not finite")
    agent.state = AgentState(**{**state, "reward_scalers": scalers})
    count = tensors.get(f"{agent.name}/weight_average_count")
    needed = _agent_tensors(agent, has_average=count is not None)
    # A run may begin at a resume to keep such an average.
    begun = [name for name in needed if "/elastic_average/" in name and name not in tensors]
    for name in begun:
        del needed[name]
    _refuse_other_tensors(needed, tensors)
    for name, own in needed.items():
        own.copy_(shard_like(tensors[name], own))
    if begun and agent.elastic_reset is not None:
        agent.elastic_reset.begin()
    if count is not None and agent.weight_average is not None:
        agent.weight_average.count = int(count)


def _refuse_other_tensors(own: Mapping[str, Tensor], saved: Mapping[str, Tensor]) -> None:
    """Check that a checkpoint has what a run needs, in its shapes.

    Raises:
        ValueError: it was made under other settings.
    """
    for name, tensor in own.items():
        found = tuple(saved[name].shape) if name in saved else "nothing"
        if found != tuple(tensor.shape):
            raise ValueError(
                f"the checkpoint has {found} for {name}, where this run needs "
                f"{tuple(tensor.shape)}: resume with the model and settings of the run's begin"
            )


def _tensors(agents: Sequence[Agent], optimizer: Optimizer) -> dict[str, Tensor]:
    tensors = {
        f"optimizer/{index}/{name}": moment
        for index, moments in optimizer.state_dict()["state"].items()
        for name, moment in moments.items()
    }
    for agent in agents:
        average = agent.weight_average
        tensors |= _agent_tensors(agent, has_average=average is not None)
        if average is not None:
            tensors[f"{agent.name}/weight_average_count"] = torch.tensor(average.count)
    return tensors


def _agent_tensors(agent: Agent, has_average: bool) -> dict[str, Tensor]:
    """What `state.safetensors` has of an agent, by name: the tensors in use, to be written over.

    If the checkpoint has an average of the weights, a run that no longer keeps one still needs the
    weights that stand beside it.
    """
    groups: dict[str, Iterable[tuple[Any, Tensor]]] = {
        "value_head": agent.policy.value_head.state_dict().items()
    }
    if agent.elastic_reset is not None:
        groups["elastic_average"] = enumerate(agent.elastic_reset.average)
    if has_average:
        groups["trained"] = enumerate(agent.policy.language_parameters())
        if agent.weight_average is not None:
            groups["weight_average"] = enumerate(agent.weight_average.average)
    return {
        f"{agent.name}/{group}/{name}": tensor.detach()
        for group, named in groups.items()
        for name, tensor in named
    }
