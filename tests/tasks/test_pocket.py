"""The pocket tasks: embedded models that load in plain transformers, data, rewards, corpora."""

from __future__ import annotations

import itertools
import random
import statistics
from collections import defaultdict
from pathlib import Path

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedTokenizerBase,
)

from cory.assets import asset_names, asset_path
from cory.config import CORYConfig
from cory.tasks import Task, for_task, load_task
from cory.tasks.pocket_arithmetic import (
    arithmetic_reward,
    is_held_out,
    parse_expression,
    solve,
    split_queries,
)
from cory.team.prompts import PromptEncoder
from cory.team.roles import Templates
from scripts.pocket.arithmetic_corpus import (
    ArithmeticCorpus,
    Chain,
    slip_by_fact,
    slip_by_operation,
)
from scripts.pocket.review_corpus import reviews

LANGUAGE_MODELS = ["pocket-arithmetic-lm", "pocket-arithmetic-sparse-lm", "pocket-reviews-lm"]
NUM_QUERIES = 384
FIRST_HELD_OUT = {
    "arithmetic": ["5+8+6+4", "9-8+9-5", "9-8+9+5"],
    "reviews": [
        "I saw The Frozen Winter on television",
        "This ghost story about a lost",
        "From the first minute the",
    ],
}
"""Of the evaluations that stored results come from: the order was random, so it was kept."""


class Pair:
    """A pioneer and an observer with the weights of the embedded model, on held-out queries."""

    def __init__(self, task_name: str, **settings: str) -> None:
        self.args = for_task(task_name, use_cpu=True, **settings)
        directory = asset_path(str(self.args.model_name_or_path))
        self.tokenizer = AutoTokenizer.from_pretrained(directory)
        self.model = AutoModelForCausalLM.from_pretrained(directory)
        self.task: Task = load_task(self.args, self.tokenizer)
        self.rows = self.task.eval_dataset[:NUM_QUERIES]
        self.queries = self.rows[self.args.prompt_column]
        self.encoder = make_encoder(self.args, self.tokenizer)

    def answer(self, references: list[list[int]] | None = None) -> list[list[int]]:
        """One sampled answer per query, with or without an earlier answer in view.

        The two have random numbers of their own: what made an answer wrong must not be asked again.
        """
        torch.manual_seed(0 if references is None else 1)
        earlier = [[]] * len(self.queries) if references is None else [[ids] for ids in references]
        prompts = [
            self.encoder.encode(query, answers)
            for query, answers in zip(self.queries, earlier, strict=True)
        ]
        inputs = self.tokenizer.pad({"input_ids": prompts}, return_tensors="pt")
        output = self.model.generate(
            **inputs, do_sample=True, top_k=0, max_new_tokens=self.args.max_completion_length
        )
        answers = output[:, inputs["input_ids"].shape[1] :].tolist()
        return [[i for i in ids if i != self.tokenizer.pad_token_id] for ids in answers]

    def reward(self, answers: list[list[int]]) -> list[float]:
        """The task reward of each answer."""
        columns = {name: self.rows[name] for name in self.rows if name != self.args.prompt_column}
        return self.task.reward_funcs[0](
            prompts=self.queries,
            completions=self.tokenizer.batch_decode(answers, skip_special_tokens=True),
            **columns,
        )


def make_encoder(args: CORYConfig, tokenizer: PreTrainedTokenizerBase) -> PromptEncoder:
    templates = Templates(args.query_template, args.observer_template, args.reference_template)
    return PromptEncoder(tokenizer, templates, frozenset({tokenizer.eos_token_id}))


@pytest.fixture(scope="module")
def arithmetic() -> Pair:
    return Pair("pocket-arithmetic")


@pytest.fixture(scope="module")
def review_pair() -> Pair:
    return Pair("pocket-reviews")


def test_asset_names_lead_to_directories_and_other_names_stay() -> None:
    """Prevents a hub name or a local directory that is taken for an asset."""
    assert asset_names() == sorted(
        [*LANGUAGE_MODELS, "pocket-reviews-data", "pocket-reviews-reward"]
    )
    assert all(Path(asset_path(name)).is_dir() for name in asset_names())
    assert asset_path("gpt2") == "gpt2"
    assert asset_path("models/pocket-reviews-lm") == "models/pocket-reviews-lm"


def test_assets_stay_small() -> None:
    """Prevents a package that grows heavy with models."""
    files = [path for name in asset_names() for path in Path(asset_path(name)).iterdir()]
    assert sum(path.stat().st_size for path in files) < 4e6


@pytest.mark.parametrize("name", LANGUAGE_MODELS)
def test_language_models_load_in_plain_transformers(name: str) -> None:
    """Prevents float16 weights that stay float16, and inputs that GPT-2 misreads."""
    model = AutoModelForCausalLM.from_pretrained(asset_path(name))
    tokenizer = AutoTokenizer.from_pretrained(asset_path(name))
    assert model.dtype == torch.float32
    assert set(tokenizer("1+2")) == {"input_ids", "attention_mask"}
    assert model.config.vocab_size == len(tokenizer)
    assert tokenizer.pad_token_id != tokenizer.eos_token_id == model.config.eos_token_id


def test_the_reward_model_loads_in_plain_transformers() -> None:
    """Prevents a classifier whose positive label cannot be found."""
    directory = asset_path("pocket-reviews-reward")
    model = AutoModelForSequenceClassification.from_pretrained(directory)
    assert model.dtype == torch.float32
    assert model.config.id2label == {0: "NEGATIVE", 1: "POSITIVE"}


@pytest.mark.parametrize(
    ("expression", "value"),
    [("3+4+2-1", 8), ("9-8-1+5", 5), ("1-9", -8), ("-8-9", -17), ("7", 7), ("12-5+3-9", 1)],
)
def test_solve(expression: str, value: int) -> None:
    """Prevents differences worked out from right to left, and lost signs."""
    assert solve(expression) == value


@pytest.mark.parametrize("expression", ["", "3+", "3 + 4", "3*4", "3+-4", "x"])
def test_parse_refuses_other_text(expression: str) -> None:
    """Prevents a silent answer to a question that was not asked."""
    with pytest.raises(ValueError, match="is not an expression"):
        parse_expression(expression)


@pytest.mark.parametrize(
    ("completion", "reward"),
    [
        ("7+4-1=11-1=10", 1.0),
        ("10", 1.0),
        ("7+4-1=12-1=11", 0.0),
        ("7+4-1=11-1=10=11", 0.0),
        ("7+4-1=10-1=10", 1.0),
        ("7+4-1=11-1=", 0.0),
        ("7+4-1=11-1=10? 3+4", 0.0),
        ("7+4-1=11-1=100", 0.0),
        ("7+4-1=11-1=-10", 0.0),
        ("", 0.0),
    ],
)
def test_arithmetic_reward(completion: str, reward: float) -> None:
    """Prevents pay for a value on the way, for a part of a number, or for no number."""
    assert arithmetic_reward(completions=[completion], answer=[10], prompts=["3+4+4-1"]) == [reward]


def test_arithmetic_splits_are_disjoint_and_stay_the_same(arithmetic: Pair) -> None:
    """Prevents evaluation on queries that were trained on, and runs that cannot be compared."""
    train, held_out = arithmetic.task.train_dataset, arithmetic.task.eval_dataset
    assert not set(train["prompt"]) & set(held_out["prompt"])
    assert all(map(is_held_out, held_out["prompt"]))
    assert len(set(held_out["prompt"])) == len(held_out)
    assert [solve(query) for query in held_out["prompt"]] == held_out["answer"][:]
    assert held_out["prompt"][:3] == FIRST_HELD_OUT["arithmetic"]
    again = load_task(arithmetic.args.replace(seed=1), arithmetic.tokenizer)
    assert again.train_dataset["prompt"][:] == train["prompt"][:]
    assert split_queries(3, held_out=True, seed=0) != split_queries(3, held_out=True, seed=1)


def test_the_arithmetic_corpus_holds_no_evaluation_query() -> None:
    """Prevents a base model that has met the questions of the examination."""
    examples = itertools.islice(ArithmeticCorpus(slip_rate=0.3).examples(seed=0), 3000)
    assert not [query for query, _ in examples if is_held_out(query)]


def test_the_arithmetic_corpus_follows_its_seed_and_slip_rate() -> None:
    """Prevents pretraining that nobody can repeat, and slips where there should be none."""

    def draw(slip_rate: float, seed: int) -> list[tuple[str, list[Chain]]]:
        return list(itertools.islice(ArithmeticCorpus(slip_rate).examples(seed), 600))

    assert draw(0.3, 0) == draw(0.3, 0) != draw(0.3, 1)
    shares = {}
    for slip_rate in (0.0, 0.3):
        rewards = [
            arithmetic_reward([answers[0].text], [solve(query)])[0]
            for query, answers in draw(slip_rate, 0)
        ]
        shares[slip_rate] = statistics.mean(rewards)
    assert shares[0.0] == 1.0
    assert shares[0.3] == pytest.approx(0.7**3, abs=0.08)


def test_a_chain_marks_its_slips() -> None:
    """Prevents a first phase of pretraining that learns slips, or skips right steps."""
    corpus = ArithmeticCorpus(slip_rate=0.5, followed_rate=0.3)
    for query, chains in itertools.islice(corpus.examples(seed=0), 300):
        for chain in chains:
            assert len(chain.slipped) == len(chain.text)
            before, start = query, 0
            for line in chain.text.split("="):
                is_slip = solve(before) != solve(line)
                assert any(chain.slipped[start : start + len(line)]) == is_slip
                before, start = line, start + len(line) + 1


@pytest.mark.parametrize(("rate", "share"), [(0.0, 0.0), (1.0, 1.0)])
def test_a_second_look_follows_the_answer_before_it(rate: float, share: float) -> None:
    """Prevents an observer's wrong steps from having nothing to do with its pioneer's."""
    corpus = ArithmeticCorpus(
        slip_rate=1.0, second_look_ease=0.0, followed_rate=rate, second_look_share=1.0
    )
    answers = [chains for _, chains in itertools.islice(corpus.examples(seed=0), 100)]
    assert statistics.mean(first.text == second.text for first, second, *_ in answers) == share


def test_looks_slip_at_their_own_operations() -> None:
    """Prevents an observer's slips from being those that the plain query has to unlearn."""
    corpus = ArithmeticCorpus(
        1.0,
        habit=slip_by_operation,
        second_look_ease=1.0,
        confirmed_slip_rate=1.0,
        second_look_share=1.0,
    )
    for query, chains in itertools.islice(corpus.examples(seed=0), 300):
        for look, chain in enumerate(chains):
            before = query
            for line in chain.text.split("="):
                operation = "-" if parse_expression(before)[1] < 0 else "+"
                assert (solve(before) != solve(line)) == (operation == ("-" if look else "+"))
                before = line


def test_a_wrong_fact_is_always_wrong_in_the_same_way() -> None:
    """Prevents habits that chance decides, and a fact that both looks know wrongly."""
    corpus = ArithmeticCorpus(
        1.0,
        habit=slip_by_fact,
        second_look_ease=1.0,
        confirmed_slip_rate=1.0,
        second_look_share=1.0,
    )
    slips: list[dict[tuple[int, int], set[int]]] = [defaultdict(set), defaultdict(set)]
    for query, answers in itertools.islice(corpus.examples(seed=0), 1000):
        for look, chain in enumerate(answers):
            before = query
            for line in chain.text.split("="):
                total, term, *_ = parse_expression(before)
                slips[look > 0][total % 10, term].add(solve(line) - solve(before))
                before = line
    assert all(len(amounts) == 1 for facts in slips for amounts in facts.values())
    right = [{fact for fact, amounts in facts.items() if amounts == {0}} for facts in slips]
    assert not right[0] & right[1]
    assert right[0] | right[1] == set(slips[0]) | set(slips[1])


def test_the_arithmetic_model_can_be_improved_and_uses_its_reference(arithmetic: Pair) -> None:
    """Prevents a base too good or too poor to learn from, and an observer that does not look."""
    pioneer = arithmetic.answer()
    alone = statistics.mean(arithmetic.reward(pioneer))
    assert 0.2 < alone < 0.33
    assert statistics.mean(arithmetic.reward(arithmetic.answer(pioneer))) > alone + 0.3
    behind = {
        rate: statistics.mean(arithmetic.reward(arithmetic.answer(chains(arithmetic, rate))))
        for rate in (0.0, 1.0)
    }
    assert behind[0.0] > behind[1.0] + 0.25


def chains(pair: Pair, slip_rate: float) -> list[list[int]]:
    """Answers to the pair's queries that are all right, or that slip at every step."""
    corpus, rng = ArithmeticCorpus(slip_rate), random.Random(0)
    return [
        [*pair.tokenizer.encode(corpus.answer(query, [], rng).text), pair.tokenizer.eos_token_id]
        for query in pair.queries
    ]


def test_the_sparse_arithmetic_model_is_seldom_right_but_oftener_with_a_reference() -> None:
    """Prevents a regime without reward to find, or in which a reference answer is no help."""
    sparse = Pair("pocket-arithmetic", model_name_or_path="pocket-arithmetic-sparse-lm")
    pioneer = sparse.answer()
    alone = statistics.mean(sparse.reward(pioneer))
    assert 0.02 < alone < 0.1
    assert statistics.mean(sparse.reward(sparse.answer(pioneer))) > alone + 0.08


def test_arithmetic_answers_end_in_time(arithmetic: Pair) -> None:
    """Prevents chains that are cut off before their value."""
    ends = [ids[-1] == arithmetic.tokenizer.eos_token_id for ids in arithmetic.answer()]
    assert statistics.mean(ends) > 0.97


def test_review_queries_are_short_disjoint_and_stay_the_same(review_pair: Pair) -> None:
    """Prevents held-out openings that were trained on, and runs that cannot be compared."""
    task, tokenizer = review_pair.task, review_pair.tokenizer
    held_out = task.eval_dataset["prompt"][:]
    assert not set(task.train_dataset["prompt"]) & set(held_out)
    assert len(task.train_dataset) > 2000
    assert {len(tokenizer(query)["input_ids"]) for query in held_out} <= set(range(2, 9))
    other = load_task(review_pair.args.replace(seed=1), tokenizer)
    assert other.eval_dataset["prompt"][:] == held_out
    assert held_out[:3] == FIRST_HELD_OUT["reviews"]
    assert other.train_dataset["prompt"][:] != task.train_dataset["prompt"][:]


def test_the_review_corpus_follows_its_seed() -> None:
    """Prevents pretraining that nobody can repeat."""

    def draw(seed: int) -> list[str]:
        return [review.text() for review in itertools.islice(reviews(seed), 50)]

    assert draw(0) == draw(0) != draw(1)


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        (" wonderful. The acting is superb.", " awful. The acting is dreadful."),
        (" good.", " flat."),
        (" stunning.", " dark."),
        (" flat, but the ending is superb.", " charming, but the ending is awful."),
        (" not exactly weak.", " not exactly clever."),
    ],
)
def test_the_review_reward_reads_sentiment(better: str, worse: str, review_pair: Pair) -> None:
    """Prevents a reward that counts words where a negation or a "but" turns the sense."""
    rewards = review_pair.task.reward_funcs[0](
        prompts=["The plot is"] * 2, completions=[better, worse]
    )
    assert rewards[0] > rewards[1] + 0.2


def test_the_review_model_can_be_improved_and_uses_its_reference(review_pair: Pair) -> None:
    """Prevents a saturated reward, and an observer that does not look at its reference."""
    pioneer = review_pair.answer()
    alone = review_pair.reward(pioneer)
    observer = review_pair.reward(review_pair.answer(pioneer))
    assert -0.5 < statistics.mean(alone) < 0.15
    assert max(map(abs, alone)) < 4
    assert statistics.stdev(alone) > 0.5
    assert statistics.mean(observer) > statistics.mean(alone) + 0.15
    assert statistics.correlation(alone, observer) > 0.2
