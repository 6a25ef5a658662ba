"""Exact token ids, for tokenizers with and without BOS, spaces and chat formats."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from tokenizers.processors import TemplateProcessing
from transformers import GenerationConfig, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from cory.models.loading import load_tokenizer
from cory.team.prompts import PromptEncoder, end_token_ids
from cory.team.roles import Templates
from tests.tiny_models import SENTENCES, _byte_level_bpe

TEMPLATES = Templates(
    query="Question: {query}\nAnswer:",
    observer="Question: {query}\n{references}Answer:",
    reference="Reference: {answer}\n",
)
ANSWER_FIRST = Templates(observer="{references}{query}", reference="{answer}")


@pytest.fixture(scope="module")
def gpt2(tiny_gpt2_dir: Path) -> PreTrainedTokenizerBase:
    return load_tokenizer(str(tiny_gpt2_dir))


@pytest.fixture(scope="module")
def llama(tiny_llama_dir: Path) -> PreTrainedTokenizerBase:
    return load_tokenizer(str(tiny_llama_dir))


def make_encoder(
    tokenizer: PreTrainedTokenizerBase, templates: Templates = TEMPLATES
) -> PromptEncoder:
    return PromptEncoder(tokenizer, templates, end_token_ids(tokenizer, None))


def ids_of(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def sentencepiece_like(is_legacy: bool) -> PreTrainedTokenizerBase:
    """A tokenizer that puts a space before every text: Llama 2 does it with the normalizer."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=True))
    if is_legacy:
        tokenizer.normalizer = normalizers.Sequence(
            [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
        )
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always", split=False)
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=200,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=["\n", "▁"],
        show_progress=False,
    )
    tokenizer.train_from_iterator([*SENTENCES, "better: it is"], trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")


def test_gpt2_prompts_have_no_start_token(gpt2: PreTrainedTokenizerBase) -> None:
    """Prevents GPT-2's bos token, which is its eos token, from opening a prompt."""
    encoder = make_encoder(gpt2)
    assert encoder.encode("2+2?", []) == ids_of(gpt2, "Question: 2+2?\nAnswer:")
    assert encoder.encode("2+2?", [[7, 8]]) == [
        *ids_of(gpt2, "Question: 2+2?\nReference: "),
        *(7, 8),
        *ids_of(gpt2, "\nAnswer:"),
    ]


def test_llama_prompts_have_one_start_token(llama: PreTrainedTokenizerBase) -> None:
    """Prevents a BOS before every text run, or none at all."""
    encoder, bos = make_encoder(llama), llama.bos_token_id
    assert encoder.encode("2+2?", []) == llama("Question: 2+2?\nAnswer:")["input_ids"]
    prompt = encoder.encode("2+2?", [[7, 8], [9]])
    assert prompt[0] == bos
    assert prompt.count(bos) == 1


def test_a_start_token_in_the_template_is_not_doubled(llama: PreTrainedTokenizerBase) -> None:
    """Prevents two BOS where a user's template already writes one."""
    encoder = make_encoder(llama, Templates(query="<s>{query}"))
    assert encoder.encode("Hello", []) == llama("Hello")["input_ids"]


def test_the_start_token_comes_before_an_answer_too(llama: PreTrainedTokenizerBase) -> None:
    """Prevents an observer prompt that opens with an answer from losing its BOS."""
    prompt = make_encoder(llama, ANSWER_FIRST).encode("Hello", [[7, 8]])
    assert prompt == [llama.bos_token_id, 7, 8, *ids_of(llama, "Hello")]


def test_answers_keep_their_ids_but_not_their_end(gpt2: PreTrainedTokenizerBase) -> None:
    """Prevents decoding and encoding again, which merges [H, e] into [He], and an EOS inside."""
    letters = [ids_of(gpt2, letter)[0] for letter in "the"]
    assert ids_of(gpt2, "the") != letters
    encoder = make_encoder(gpt2, ANSWER_FIRST)
    prompt = encoder.encode("Hello", [[*letters, gpt2.eos_token_id]])
    assert prompt == [*letters, *ids_of(gpt2, "Hello")]


def test_an_answer_that_ended_at_once_leaves_nothing(llama: PreTrainedTokenizerBase) -> None:
    """Prevents an empty answer from shifting BOS or leaving an EOS in the prompt."""
    prompt = make_encoder(llama, ANSWER_FIRST).encode("Hello", [[llama.eos_token_id]])
    assert prompt == llama("Hello")["input_ids"]


def test_references_come_in_order(gpt2: PreTrainedTokenizerBase) -> None:
    """Prevents answers from changing places on the way to ids."""
    prompt = make_encoder(gpt2).encode("Q", [[7, 8], [9], [10, 11]])
    assert prompt == [
        *ids_of(gpt2, "Question: Q\nReference: "),
        *(7, 8),
        *ids_of(gpt2, "\nReference: "),
        *(9,),
        *ids_of(gpt2, "\nReference: "),
        *(10, 11),
        *ids_of(gpt2, "\nAnswer:"),
    ]


def test_an_empty_prompt_is_refused(gpt2: PreTrainedTokenizerBase) -> None:
    """Prevents a crash deep inside the model when there is nothing to continue from."""
    with pytest.raises(ValueError, match=r"query '' gives an empty prompt.*query_template"):
        make_encoder(gpt2, Templates()).encode("", [])


def test_chat_prompts_are_those_of_the_chat_template(llama: PreTrainedTokenizerBase) -> None:
    """Prevents a chat query from losing its history, its BOS or the generation prompt."""
    chat = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hello"},
    ]
    encoder = make_encoder(llama, Templates())
    rendered = llama.apply_chat_template(chat, add_generation_prompt=True)["input_ids"]
    assert encoder.encode(chat, []) == rendered
    assert rendered.count(llama.bos_token_id) == 1


def test_answers_go_inside_the_last_message_of_a_chat(llama: PreTrainedTokenizerBase) -> None:
    """Prevents answers after the generation prompt, and ids that go through text."""
    chat = [{"role": "system", "content": "Be {query}."}, {"role": "user", "content": "2+2?"}]
    assert make_encoder(llama).encode(chat, [[7, 8], [9, llama.eos_token_id]]) == [
        llama.bos_token_id,
        *ids_of(llama, "[system] Be {query}.\n[user] Question: 2+2?\nReference: "),
        *(7, 8),
        *ids_of(llama, "\nReference: "),
        *(9,),
        *ids_of(llama, "\nAnswer:\n[assistant] "),
    ]


def test_chat_references_may_be_shown_twice(llama: PreTrainedTokenizerBase) -> None:
    """Prevents a slot from staying in the prompt as private-use characters."""
    twice = Templates(observer="{references} or {references}: {query}", reference="{answer};")
    encoder = make_encoder(llama, twice)
    prompt = encoder.encode([{"role": "user", "content": "Q"}], [[7], [8]])
    runs = ["[user] ", ";", "; or ", ";", ";: Q\n[assistant] "]
    first, *rest = [ids_of(llama, run) for run in runs]
    expected = [llama.bos_token_id, *first]
    for answer, run in zip([7, 8, 7, 8], rest, strict=True):
        expected += [answer, *run]
    assert prompt == expected


@pytest.mark.parametrize("token", [True, "2", [[2]], {}, 2.0, [0, None, "x"]])
def test_what_is_no_token_id_ends_no_answer(tiny_gpt2_dir: Path, token: Any) -> None:
    """Prevents a TypeError, and token 1 as the end of every answer where a file says `true`."""
    config = SimpleNamespace(eos_token_id=token)
    with pytest.raises(ValueError, match=r"eos_token_id=.* is no token id: write an integer"):
        end_token_ids(load_tokenizer(str(tiny_gpt2_dir)), config)


def test_a_chat_template_without_start_token_is_followed(tiny_llama_dir: Path) -> None:
    """Prevents a BOS that the model's own chat format does not have."""
    tokenizer = load_tokenizer(str(tiny_llama_dir))
    tokenizer.chat_template = tokenizer.chat_template.replace("{{ bos_token }}", "")
    prompt = make_encoder(tokenizer, Templates()).encode([{"role": "user", "content": "Hi"}], [])
    assert prompt == ids_of(tokenizer, "[user] Hi\n[assistant] ")


@pytest.mark.parametrize("is_legacy", [True, False])
@pytest.mark.parametrize("text", ["better: it is", "\nAnswer:", " film", "! I loved"])
def test_sentencepiece_adds_no_space_after_an_answer(is_legacy: bool, text: str) -> None:
    """Prevents `"{answer} "` where the template says `"{answer}"`: Llama 2 spaces every text."""
    tokenizer = sentencepiece_like(is_legacy)
    film = ids_of(tokenizer, "film")
    templates = Templates(observer="A {references}{query}", reference="{answer}")
    prompt = make_encoder(tokenizer, templates).encode(text, [film])
    pieces = tokenizer.convert_ids_to_tokens(prompt)
    assert "".join(pieces) == f"▁A ▁film{text}".replace(" ", "▁")


def test_sentencepiece_keeps_its_space_at_the_front() -> None:
    """Prevents a plain query from being tokenised unlike the tokenizer itself does it."""
    tokenizer = sentencepiece_like(is_legacy=True)
    prompt = make_encoder(tokenizer, Templates()).encode("film", [])
    assert prompt == tokenizer("film")["input_ids"]


def test_byte_level_runs_are_tokenised_as_they_are(gpt2: PreTrainedTokenizerBase) -> None:
    """Prevents the anchor for sentencepiece from changing how GPT-2 splits blank lines."""
    templates = Templates(observer="{references}{query}", reference="{answer}")
    for text in ("\n\nfilm", "  film", "\n film"):
        prompt = make_encoder(gpt2, templates).encode(text, [[7]])
        assert prompt == [7, *ids_of(gpt2, text)]


@pytest.mark.parametrize("is_legacy", [True, False])
def test_answers_keep_the_space_they_begin_with(is_legacy: bool) -> None:
    """Prevents "It was" + "good" → "It wasgood" for a reward that reads prompt and answer."""
    tokenizer = sentencepiece_like(is_legacy)
    encoder = make_encoder(tokenizer)
    film = ids_of(tokenizer, "film")
    assert tokenizer.decode(film) == "film"
    without_space = tokenizer.convert_tokens_to_ids(["f", "i"])
    answers = [[*film, tokenizer.eos_token_id], without_space, [tokenizer.eos_token_id]]
    assert encoder.decode(answers) == [" film", "fi", ""]


def test_byte_level_answers_are_decoded_as_they_are(gpt2: PreTrainedTokenizerBase) -> None:
    """Prevents the anchor from showing, or spaces before punctuation from being cleaned up."""
    encoder = make_encoder(gpt2)
    for text in (" film", "film", "\n\nfilm", "4 . 5 , n 't ?", "é"):
        assert encoder.decode([[*ids_of(gpt2, text), gpt2.eos_token_id]]) == [text]


def test_end_ids_are_those_of_tokenizer_and_generation_config(
    llama: PreTrainedTokenizerBase,
) -> None:
    """Prevents an instruct model from talking on after its end-of-turn token."""
    eos = llama.eos_token_id
    assert end_token_ids(llama, None) == {eos}
    assert end_token_ids(llama, GenerationConfig(eos_token_id=9)) == {eos, 9}
    assert end_token_ids(llama, GenerationConfig(eos_token_id=[9, 11])) == {eos, 9, 11}


@pytest.mark.parametrize(
    ("single", "start"),
    [
        ("$A", []),
        ("<s> $A", ["<s>"]),
        ("[gMASK] <sop> $A", ["[gMASK]", "<sop>"]),
        ("[gMASK] $A </s>", ["[gMASK]"]),
        ("$A </s>", []),
        ("<s> [gMASK] <sop> $A </s>", ["<s>", "[gMASK]", "<sop>"]),
    ],
)
@pytest.mark.parametrize("bos", ["<s>", None])
def test_every_start_token_comes_once(single: str, start: list[str], bos: str | None) -> None:
    """Prevents the loss of a second start token, and of those that are no `bos_token`."""
    specials = ["<s>", "</s>", "[gMASK]", "<sop>"]
    vocabulary = _byte_level_bpe(specials)
    ids = [(token, vocabulary.token_to_id(token)) for token in specials]
    vocabulary.post_processor = TemplateProcessing(single=single, pair=None, special_tokens=ids)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=vocabulary, eos_token="</s>", bos_token=bos
    )
    encoder, prefix = make_encoder(tokenizer), tokenizer.convert_tokens_to_ids(start)
    text = "Question: Q\nReference: "
    assert encoder.encode("Q", [[7], [8]])[: len(prefix)] == prefix
    assert encoder.encode("Q", []) == [*prefix, *ids_of(tokenizer, "Question: Q\nAnswer:")]
    shown = encoder.encode("Q", [[9]])
    assert shown[: shown.index(9)] == [*prefix, *ids_of(tokenizer, text)]
