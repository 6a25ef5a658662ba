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
from collections.abc import Sequence
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
from cory.io.digests import damage, write_sums
from cory.io.files import OutputError, flush, writing
from cory.io.terminal import say
from cory.team.agent import Agent, AgentState
from cory.team.averaging import WeightAverage
from cory.team.controllers import RewardScaler


class Checkpoints:
    """The checkpoints of one run directory.

    Args:
        run_directory: the run's `output_dir`.
        limit: how many to keep; None: all.
        world: its first process writes, all read.
    """

    def __init__(self, run_directory: Path, limit: int | None, world: World = SINGLE) -> None:
        self.directory = run_directory / "checkpoints"
        self.limit = limit
        self.world = world

    def save(
        self,
        step: int,
        agents: Sequence[Agent],
        optimizer: Optimizer,
        tokenizer: PreTrainedTokenizerBase,
        progress: dict[str, Any],
    ) -> Path:
        """Write `step-{step}` under another name, flush it to the disk, then rename it into place.

        Args:
            progress: JSON values that `load` gives back.

        Raises:
            OutputError: the disk is full, say; older checkpoints are intact.
        """
        partial = self.directory / f".step-{step}.partial"
        writes, target = self.world.is_main, self.path(step)
        try:
            with self.world.fail_together():
                if writes:
                    shutil.rmtree(partial, ignore_errors=True)
                    with writing(target):
                        partial.mkdir(parents=True)
            for agent in agents:
                with self.world.fail_together(), writing(target), agent.as_result():
                    agent.policy.weights.save(partial / agent.name, writes)
            tensors = {
                name: full_tensor(tensor) for name, tensor in _tensors(agents, optimizer).items()
            }
            with self.world.fail_together():
                if writes:
                    with writing(target):
                        self._complete_save(step, agents, tokenizer, tensors, progress)
        except OutputError:
            # What is incomplete may be what fills the disk.
            shutil.rmtree(partial, ignore_errors=True)
            raise
        return target

    def _complete_save(
        self,
        step: int,
        agents: Sequence[Agent],
        tokenizer: PreTrainedTokenizerBase,
        tensors: dict[str, Tensor],
        progress: dict[str, Any],
    ) -> None:
        """Write what stands beside the weights, and give the whole its name."""
        partial = self.directory / f".step-{step}.partial"
        for agent in agents:
            tokenizer.save_pretrained(partial / agent.name)
        save_file(tensors, partial / "state.safetensors")
        state = {
            "step": step,
            "progress": progress,
            "agents": {agent.name: asdict(agent.state) for agent in agents},
            "random": global_random_state(),
        }
        (partial / "state.json").write_text(json.dumps(state, indent=1))
        write_sums(partial)
        for path in (*partial.rglob("*"), partial):
            flush(path)
        partial.rename(self.path(step))
        flush(self.directory)
        self._prune()

    def path(self, step: int) -> Path:
        """Where the checkpoint of a step is, once it is complete."""
        return self.directory / f"step-{step}"

    def latest(self) -> Path | None:
        """The newest complete checkpoint, sound or not."""
        return max(self._complete(), key=_step_of, default=None)

    def steps(self) -> list[int]:
        """Of which there are complete checkpoints, in order."""
        return sorted(map(_step_of, self._complete()))

    def newest_sound(self) -> Path | None:
        """The newest complete checkpoint that is what was written; newer ones are said to be not.

        Raises:
            ValueError: there are some, and every one is damaged.
        """
        damaged: list[str] = []
        for path in sorted(self._complete(), key=_step_of, reverse=True):
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

    def set_aside_after(self, step: int) -> None:
        """Rename checkpoints of later steps, which are damaged, so that new ones take their place.

        Raises:
            OutputError: the directory cannot be written.
        """
        for path in self._complete():
            if _step_of(path) > step:
                aside = path.with_name(f"{path.name}.damaged")
                with writing(aside):
                    shutil.rmtree(aside, ignore_errors=True)
                    path.rename(aside)

    def _complete(self) -> list[Path]:
        return [path for path in self.directory.glob("step-*") if _STEP.fullmatch(path.name)]

    def _prune(self) -> None:
        if self.limit is not None:
            for path in sorted(self._complete(), key=_step_of)[: -self.limit]:
                # Removing takes many steps: half of a checkpoint must not have a checkpoint's name.
                path.rename(path.with_name(f".{path.name}.removed"))
        for path in self.directory.glob(".step-*.removed"):
            shutil.rmtree(path)


def load_checkpoint(
    path: Path, agents: Sequence[Agent], optimizer: Optimizer, scheduler: LambdaLR
) -> dict[str, Any]:
    """Put agents, moments, schedule and global random states back as they were.

    Learning rate and decay are those of the settings: they may have been changed.

    Returns:
        the `progress` that was saved.

    Raises:
        ValueError: the checkpoint is of another team.
    """
    state = json.loads((path / "state.json").read_text())
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
    moments: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        if match := _MOMENT.fullmatch(key):
            moments.setdefault(int(match[1]), {})[match[2]] = tensor
    parameters = [weight for group in optimizer.param_groups for weight in group["params"]]
    for index, named in moments.items():
        moments[index] = {
            name: shard_like(moment, parameters[index]) if moment.ndim else moment
            for name, moment in named.items()
        }
    optimizer.load_state_dict({**optimizer.state_dict(), "state": moments})
    _advance(scheduler, state["step"])
    restore_global_random_state(state["random"])
    return state["progress"]


STATE = ("state.json", "state.safetensors")
"""The files of a checkpoint that are not an agent's."""
_STEP = re.compile(r"step-(\d+)")
_MOMENT = re.compile(r"optimizer/(\d+)/(\w+)")


def _step_of(path: Path) -> int:
    return int(path.name.removeprefix("step-"))


def _tensors(agents: Sequence[Agent], optimizer: Optimizer) -> dict[str, Tensor]:
    tensors = {
        f"optimizer/{index}/{name}": moment
        for index, moments in optimizer.state_dict()["state"].items()
        for name, moment in moments.items()
    }
    for agent in agents:
        for name, weight in agent.policy.value_head.state_dict().items():
            tensors[f"{agent.name}/value_head/{name}"] = weight
        if agent.elastic_reset is not None:
            for index, average in enumerate(agent.elastic_reset.average):
                tensors[f"{agent.name}/elastic_average/{index}"] = average
        if agent.weight_average is not None:
            tensors |= _averaged_tensors(agent.name, agent.weight_average)
    return tensors


def _averaged_tensors(name: str, kept: WeightAverage) -> dict[str, Tensor]:
    tensors = {f"{name}/weight_average_count": torch.tensor(kept.count)}
    for index, (average, weight) in enumerate(zip(kept.average, kept.weights, strict=True)):
        tensors[f"{name}/weight_average/{index}"] = average
        tensors[f"{name}/trained/{index}"] = weight.detach()
    return tensors


def _load_agent(agent: Agent, state: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    scalers = {role: RewardScaler(**scaler) for role, scaler in state["reward_scalers"].items()}
    agent.state = AgentState(**{**state, "reward_scalers": scalers})
    head = agent.policy.value_head
    head.load_state_dict(
        {
            name: shard_like(tensors[f"{agent.name}/value_head/{name}"], weight)
            for name, weight in head.state_dict().items()
        }
    )
    if agent.elastic_reset is not None:
        for index, average in enumerate(agent.elastic_reset.average):
            average.copy_(shard_like(tensors[f"{agent.name}/elastic_average/{index}"], average))
    _load_averaged(agent, tensors)


@torch.no_grad()
def _load_averaged(agent: Agent, tensors: dict[str, Tensor]) -> None:
    """If an average was kept; a run that no longer keeps one still needs the weights."""
    count = tensors.get(f"{agent.name}/weight_average_count")
    if count is None:
        return
    for index, weight in enumerate(agent.policy.language_parameters()):
        weight.copy_(shard_like(tensors[f"{agent.name}/trained/{index}"], weight))
    if agent.weight_average is not None:
        agent.weight_average.count = int(count)
        for index, average in enumerate(agent.weight_average.average):
            average.copy_(shard_like(tensors[f"{agent.name}/weight_average/{index}"], average))


def _advance(scheduler: LambdaLR, step: int) -> None:
    """Put a new schedule where `step` calls would have put it."""
    before = {"last_epoch": step - 1, "_step_count": step + 1}
    scheduler.load_state_dict(scheduler.state_dict() | before)
    scheduler.step()
