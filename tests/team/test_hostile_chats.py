"""Any rows of chat messages: a prompt that holds their text, or one error for the user."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerBase

from cory.models.loading import load_tokenizer
from cory.team.messages import plain_messages
from cory.team.prompts import PromptEncoder, end_token_ids
from cory.team.roles import Templates

NOTHING = st.none() | st.integers() | st.booleans() | st.floats()
TEXTS = st.text(st.sampled_from("ab {}<>\n\t\ue000\ue001017é\u0000\ud7ff"), max_size=8)
PART = st.fixed_dictionaries(
    {"type": st.sampled_from(["text", "image", "input_text"]) | NOTHING},
    optional={"text": TEXTS | NOTHING, "image": NOTHING},
)
CONTENT = TEXTS | NOTHING | st.lists(PART | TEXTS | NOTHING, max_size=3) | PART
CALLS = st.lists(st.dictionaries(TEXTS, NOTHING, max_size=2), max_size=2)
ROLES = st.sampled_from(["user", "assistant", "system", "tool", "developer", ""])
MESSAGE = st.fixed_dictionaries(
    {"role": ROLES | NOTHING, "content": CONTENT},
    optional={"tool_calls": CALLS | NOTHING, "name": TEXTS | NOTHING},
)
SOUND = st.fixed_dictionaries({"role": ROLES, "content": TEXTS})
CHATS = st.lists(SOUND, min_size=1, max_size=4) | st.lists(MESSAGE | NOTHING | TEXTS, max_size=4)
TEMPLATES = (
    "{{ bos_token }}{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}[assistant] {% endif %}",
    "{% for m in messages %}{{ m.role + ':' + m.content | trim }};{% endfor %}",
    "{{ messages[-1].content }}",
    "{% if messages|length > 2 %}{{ raise_exception('too many') }}{% endif %}"
    "{{ messages[0].content.split('a')[0] + messages[1].content[3] }}",
    "{{ messages | tojson }}",
)


@pytest.fixture(scope="module")
def tokenizer(tiny_llama_dir: Path) -> PreTrainedTokenizerBase:
    return load_tokenizer(str(tiny_llama_dir))


@pytest.mark.parametrize("template", TEMPLATES)
@given(chat=CHATS, query=TEXTS)
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_chat_is_asked_or_refused(
    template: str, chat: list[Any], query: str, tokenizer: PreTrainedTokenizerBase
) -> None:
    """Prevents tracebacks of a template or of our own code, and prompts without the text."""
    check(template, chat, query, tokenizer)


def check(template: str, chat: list[Any], query: str, tokenizer: PreTrainedTokenizerBase) -> None:
    tokenizer.chat_template = template
    templates = Templates(observer="<{references}|{query}>", reference="({answer})" + query)
    encoder = PromptEncoder(tokenizer, templates, end_token_ids(tokenizer, None))
    for answers in ([], [[7, 8]], [[7], [9]]):
        try:
            ids = encoder.encode(chat, answers)
        except ValueError:
            continue
        if not answers:
            text = tokenizer.decode(ids)
            assert all(message["content"].strip() in text for message in plain_messages(chat))
