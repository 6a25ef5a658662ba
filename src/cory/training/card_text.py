"""The text of model cards: what an agent is, was trained on and is worth.

Every sentence follows from the settings, the objects and the measurements of the run. What is not
known, such as a licence, is not said.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import yaml
from huggingface_hub import ModelCardData
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

from cory import __version__
from cory.assets import asset_names
from cory.config import CORYConfig
from cory.io.terminal import printable
from cory.io.urls import without_password
from cory.tasks import task_defaults

NOT_LEARNT = frozenset(
    "output_dir resume report_to project run_name push_to_hub hub_model_id hub_private_repo "
    "vllm_server_base_url vllm_adapter_dir".split()
)
"""Settings that say nothing about what was learnt, and something about the machine."""
ROWS = {
    "task_reward": "task reward per answer",
    **{f"pass@{k}": f"pass@{k}" for k in range(2, 6)},
    "kl": "KL to the initial model, nats per answer",
    "unique_share": "share of distinct answers",
    "completion_length": "tokens per answer",
}
"""The measurements that a card shows, in its words."""
INTRODUCTION = """\
# {name}: {agent} after {step} iterations

{origin} by reinforcement learning with
[cory](https://arxiv.org/abs/2410.06101) {version}. {method}
It answers the plain query alone. {weights}
"""
LOADING = {
    "transformers": """\
```python
from transformers import AutoModelForCausalLM, AutoTokenizer

folder = "."  # this folder, or its name on the Hub
model = AutoModelForCausalLM.from_pretrained(folder)
tokenizer = AutoTokenizer.from_pretrained(folder)
```

```text
vllm serve FOLDER
lm_eval --model hf --model_args pretrained=FOLDER --tasks TASK
```
""",
    "peft": """\
This is an adapter: it needs its base, whose name is in `adapter_config.json`.

```python
from peft import AutoPeftModelForCausalLM
from transformers import AutoTokenizer

folder = "."  # this folder, or its name on the Hub
model = AutoPeftModelForCausalLM.from_pretrained(folder)
tokenizer = AutoTokenizer.from_pretrained(folder)
```

```text
vllm serve BASE --enable-lora --max-lora-rank {rank} --lora-modules agent=FOLDER
lm_eval --model hf --model_args pretrained=BASE,peft=FOLDER,tokenizer=FOLDER --tasks TASK
```
""",
}
"""How to load a folder, by the library that wrote it."""


@dataclass(frozen=True)
class CardFacts:
    """What a card says beside the settings.

    Args:
        base: where the initial model came from; None: an object that does not say.
        data: a line about the training queries.
        rewards: the names of the reward functions, with their weights.
        is_chat: whether queries are chat messages.
        is_adapter: whether the agents are adapters on the base.
    """

    base: str | None
    data: str
    rewards: Mapping[str, float]
    is_chat: bool
    is_adapter: bool


def model_card(
    agent: str,
    step: int,
    args: CORYConfig,
    facts: CardFacts,
    metrics: Mapping[str, float] | None = None,
) -> str:
    """The text of a card; the arguments are those of `cards.write_cards`."""
    kind = "peft" if facts.is_adapter else "transformers"
    name = args.run_name or Path(args.output_dir).resolve().name
    parts = [
        f"---\n{_metadata(args, facts, kind).to_yaml()}\n---\n",
        INTRODUCTION.format(
            name=printable(name),
            agent=agent,
            step=step,
            origin=_origin(agent, args.num_agents),
            version=__version__,
            method=_method(args, step),
            weights=_weights(args),
        ),
        _training(args, facts),
        _results(agent, args, metrics),
        f"## Loading\n\n{LOADING[kind].format(rank=args.lora_r)}\n{_prompt(args, facts)}",
        _settings(args),
    ]
    return "\n".join(parts)


def _origin(agent: str, count: int) -> str:
    if count == 1:
        return f"{agent} was trained from an initial model"
    return f"{agent} is one of {count} agents that were trained from one initial model"


def _metadata(args: CORYConfig, facts: CardFacts, kind: str) -> ModelCardData:
    """What the Hub reads: only names that the Hub can know."""
    data = args.dataset_name
    return ModelCardData(
        base_model=facts.base if _is_on_hub(facts.base) else None,
        datasets=[data] if data is not None and _is_on_hub(data) else None,
        library_name=kind,
        pipeline_tag="text-generation",
        tags=["reinforcement-learning", "cory", *(["lora"] if kind == "peft" else [])],
    )


def _is_on_hub(name: str | None) -> bool:
    """Whether a name may be one on the Hub: no path of this machine, and no embedded asset."""
    if name is None or Path(name).exists() or name in asset_names():
        return False
    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return True


def _method(args: CORYConfig, step: int) -> str:
    estimator = f"PPO's loss with the advantages `{args.advantage_estimator}`"
    if args.num_agents == 1:
        return f"It learnt alone, by {estimator}."
    period = args.role_exchange_period
    was_exchanged = period is not None and period < step
    roles = f"roles changed every {period} iterations" if was_exchanged else "they kept their roles"
    view = "in view of" if args.knowledge_transfer else "without a view of"
    return (
        f"They answered in turn, {view} the earlier answers; {roles}. Each learnt by {estimator}."
    )


def _weights(args: CORYConfig) -> str:
    decay = args.weight_average_decay
    if decay is None:
        return "Its weights are those after the last of these iterations."
    return f"Its weights are the moving average over iterations, with decay {decay}."


def _training(args: CORYConfig, facts: CardFacts) -> str:
    base = "a model that was passed as an object" if facts.base is None else f"`{facts.base}`"
    if facts.base in asset_names():
        base += ", which is embedded in cory"
    rewards = ", ".join(
        f"`{name}`" + ("" if weight == 1 else f" × {weight:g}")
        for name, weight in facts.rewards.items()
    )
    libraries = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers"))
    lines = [
        f"- Base: {base}",
        f"- Data: {facts.data}",
        f"- Reward: {rewards}",
        f"- Seed {args.seed}; {libraries}",
    ]
    return printable("## Training\n\n" + "\n".join(map(without_password, lines)) + "\n")


def _results(agent: str, args: CORYConfig, metrics: Mapping[str, float] | None) -> str:
    found = {} if metrics is None else metrics
    rows = [
        f"| {title} | {_number(found[f'{agent}/{key}'], found.get(f'{agent}/{key}_ci95'))} |"
        for key, title in ROWS.items()
        if f"{agent}/{key}" in found
    ]
    if not rows:
        return "## Results\n\nNothing was measured on held-out queries at this step.\n"
    caption = (
        f"On at most {args.num_eval_queries} held-out queries, {args.num_eval_samples} sampled "
        f"answer{'s' * (args.num_eval_samples > 1)} each at temperature {args.temperature:g}, the "
        "agent alone; ± is half a 95% interval over queries."
    )
    table = "\n".join(["| measure | value |", "|---|---|", *rows])
    return f"## Results\n\n{caption}\n\n{table}\n"


def _number(value: float, half: float | None) -> str:
    """A value, with half its interval where there is one.

    >>> _number(0.51234, 0.02), _number(1.0, None), _number(math.nan, None)
    ('0.512 ± 0.020', '1.000', 'no answer was paid')
    """
    if math.isnan(value):
        return "no answer was paid"
    interval = "" if half is None or math.isnan(half) else f" ± {half:.3f}"
    return f"{value:.3f}{interval}"


def _prompt(args: CORYConfig, facts: CardFacts) -> str:
    if facts.is_chat:
        return "It was trained on chat messages: use the tokenizer's chat template.\n"
    template = printable(args.query_template)
    return f"It was trained on this prompt:\n\n{_fenced(template)}\n"


def _settings(args: CORYConfig) -> str:
    """The settings that differ from the defaults, as a file for `cory train --config`."""
    defaults = CORYConfig().to_dict()
    task = {} if args.task is None else task_defaults(args.task)
    changed = {
        name: without_password(value) if isinstance(value, str) else value
        for name, value in args.to_dict().items()
        if value != {**defaults, **task}[name] or name == "task"
        if name not in NOT_LEARNT and value is not None
    }
    text = yaml.safe_dump(changed, sort_keys=False, allow_unicode=True).rstrip()
    of = "the defaults" if args.task is None else f"the defaults of the task {args.task}"
    return f"## Settings\n\nWhat differs from {of}:\n\n{_fenced(printable(text), 'yaml')}\n"


def _fenced(text: str, language: str = "text") -> str:
    """A block of code that no line of the text can end."""
    longest = max(map(len, re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text}\n{fence}"
