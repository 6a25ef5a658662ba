"""Settings of chat formats and of the end of an answer: a theme of its own, like those in `themes`.

No torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cory.config.fields import NOT_EMPTY, setting


@dataclass(frozen=True, kw_only=True)
class AnswersConfig:
    """The chat format of prompts, and where an answer ends."""

    chat_template_kwargs: dict[str, Any] | None = setting(None)
    """Variables of the tokenizer's chat template, by name, such as `enable_thinking: false` for
    Qwen3. On the command line as JSON: `'{"enable_thinking": false}'`. Needs queries that are chat
    messages."""
    stop_strings: list[str] | None = setting(None, NOT_EMPTY)
    """Texts that end an answer, which is cut behind the token that completes one. The text itself
    stays part of the answer. It is looked for in the answer alone, without special tokens; a
    special token of the tokenizer, such as `<|im_end|>`, may be named as well."""
    mask_truncated_completions: bool = setting(False, arm_may_change=True)
    """Leave answers that were cut off at the maximum length out of the losses and of all baselines.
    They are still paid, shown to observers and counted in the metrics of rewards."""
