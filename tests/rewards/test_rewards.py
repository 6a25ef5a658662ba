"""Reward functions: TRL's convention, sync or async, by name or by model, with clear errors."""

from __future__ import annotations

import asyncio
import math
import sys
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from cory.rewards.calling import RewardError
from cory.rewards.classifier import ClassifierReward, max_input_length, reward_label
from cory.rewards.loading import load_reward_funcs
from cory.rewards.scoring import RewardScorer, Scores
from cory.rewards.signatures import GIVEN, ON_REQUEST

CHAT = [{"role": "user", "content": "Hello"}]


def length(completions: list[str], **kwargs: Any) -> list[float]:
    return [float(len(completion)) for completion in completions]


async def slow_length(completions: list[str], **kwargs: Any) -> list[float]:
    await asyncio.sleep(0)
    return length(completions)


class Raising:
    def __repr__(self) -> str:
        raise ZeroDivisionError

    __str__ = __repr__


class RaisingNumber(Fraction):
    def __float__(self) -> float:
        raise ZeroDivisionError


class Exiting:
    def __repr__(self) -> str:
        sys.exit(3)


class RaisingScalar:
    shape = ()

    def item(self) -> float:
        raise ZeroDivisionError


class RaisingList(list[float]):
    def __iter__(self) -> Any:
        raise ZeroDivisionError


class Endless:
    def __len__(self) -> int:
        return 9

    def __getitem__(self, place: int) -> float:
        return 1.0


class Nameless:
    """A judge that says neither its name nor how to call it."""

    def __call__(self, completions: list[str], **kwargs: Any) -> list[float]:
        return length(completions)

    @property
    def __name__(self) -> str:
        raise ZeroDivisionError

    __signature__ = __name__


class Constant:
    def __init__(self, value: Any) -> None:
        self.value = value

    def __call__(self, completions: list[Any], **kwargs: Any) -> list[Any]:
        return [self.value for _ in completions]


def score(*reward_funcs: Any, weights: list[float] | None = None, **columns: list[Any]) -> Scores:
    names, values = ["prompt", *columns], zip(["p", "q"], *columns.values(), strict=True)
    rows = [dict(zip(names, row, strict=True)) for row in values]
    return RewardScorer(reward_funcs, weights).score(rows, ["a", "bcd"], [[1], [2, 3]])


def test_rewards_are_weighted_and_added() -> None:
    """Prevents weights that meet the wrong function, and metrics that are weighted twice."""
    scores = score(length, Constant(10), weights=[2.0, -1.0])
    assert scores.total.tolist() == [2 - 10, 6 - 10]
    assert scores.total.dtype == torch.float32
    assert scores.means == {"length": 2.0, "Constant": 10.0}


def test_functions_get_what_trl_gives_them() -> None:
    """Prevents TRL's reward functions from needing a change."""
    seen: dict[str, Any] = {}

    def spy(**kwargs: Any) -> list[float]:
        seen.update(kwargs)
        return [0.0, 0.0]

    rows = [
        {"prompt": "p", "answer": 3, "completions": "gold"},
        {"prompt": CHAT, "answer": 4, "completions": "gold"},
    ]
    RewardScorer([spy]).score(rows, ["a", "b"], [[1], [2]])
    assert {name: seen.pop(name) for name in ON_REQUEST}["trainer_state"].global_step == 0
    assert seen == {
        "prompts": ["p", CHAT],
        "completions": ["a", [{"role": "assistant", "content": "b"}]],
        "completion_ids": [[1], [2]],
        "answer": [3, 4],
    }


def test_queries_may_stand_in_another_column() -> None:
    """Prevents a data set whose queries are in another column from being judged on nothing."""
    seen: list[dict[str, Any]] = []

    def spy(prompts: Any, completions: Any, completion_ids: Any, gold: Any) -> list[float]:
        seen.append(locals())
        return [0.0]

    scorer = RewardScorer([spy], prompt_column="question")
    scorer.score([{"question": "2+2?", "gold": 4}], ["four"], [[7]])
    for name, value in {"prompts": ["2+2?"], "completions": ["four"], "gold": [4]}.items():
        assert seen[0][name] == value


@pytest.mark.parametrize(
    "absent", [None, math.nan, np.float32("nan"), torch.tensor(math.nan), np.ma.masked]
)
def test_none_means_not_applicable(absent: Any, capsys: pytest.CaptureFixture) -> None:
    """Prevents None, or nan, from counting as 0 in a mean or in a reward."""

    def only_short(completions: list[str], **kwargs: Any) -> list[float | None]:
        return [4.0 if len(completion) == 1 else absent for completion in completions]

    scores = score(only_short, length)
    assert scores.total.tolist() == [5.0, 3.0]
    assert scores.means == {"only_short": 4.0, "length": 2.0}
    scores = score(only_short)
    assert "applies to row 1 of the batch" in capsys.readouterr().err
    assert scores.total[0] == 4
    assert scores.total[1].isnan(), "there is no reward"
    assert score(Constant(None)).means == {}
    assert "row 0 of the batch (2 such rows)" in capsys.readouterr().err
    scores = score(only_short, length, weights=[1.0, 0.0])  # the other only measures
    assert "row 1 of the batch" in capsys.readouterr().err
    assert scores.total.isnan().tolist() == [False, True]
    assert scores.means["length"] == 2


def test_the_warning_of_declined_answers_is_given_once(capsys: pytest.CaptureFixture) -> None:
    """Prevents a line in every iteration where many queries have no judge."""
    scorer = RewardScorer([Constant(None)])
    scorer.score([{"prompt": "p"}], ["a"], [[1]])
    assert "said once" in capsys.readouterr().err
    scorer.score([{"prompt": "p"}], ["a"], [[1]])
    assert not capsys.readouterr().err


def test_async_functions_run_together() -> None:
    """Prevents calls to a remote judge from waiting for each other."""
    started: list[str] = []

    def meeting(name: str) -> Any:
        async def judge(**kwargs: Any) -> list[float]:
            started.append(name)
            while len(started) < 2:
                await asyncio.sleep(0)
            return [1.0, 1.0]

        return judge

    scores = score(meeting("a"), length, meeting("b"))
    assert scores.total.tolist() == [3.0, 5.0]
    assert scores.means == {"judge": 1.0, "length": 2.0, "judge_2": 1.0}


def test_async_functions_run_inside_a_running_loop() -> None:
    """Prevents "asyncio.run() cannot be called from a running event loop" in Jupyter."""

    async def notebook() -> Scores:
        return score(slow_length)

    assert asyncio.run(notebook()).total.tolist() == [1.0, 3.0]


@pytest.mark.parametrize(
    "value", [1, True, 1.0, np.float32(1), np.array(1.0), torch.tensor(1.0), np.int64(1)]
)
def test_any_kind_of_number_is_a_reward(value: Any) -> None:
    """Prevents a refusal of what numpy and torch return, one by one or as a whole array."""
    assert score(Constant(value)).total.tolist() == [1.0, 1.0]
    assert score(lambda **_: np.array([value, value])).total.tolist() == [1.0, 1.0]
    assert score(lambda **_: torch.tensor([float(value)] * 2)).total.tolist() == [1.0, 1.0]


def test_a_function_without_a_name_is_called_after_its_class() -> None:
    """Prevents a traceback of what only looks at a function."""
    scorer = RewardScorer([Nameless(), Constant(1.0)])
    scorer.check_signatures(["topic"])
    assert scorer.names == ["Nameless", "Constant"]
    assert score(Nameless()).total.tolist() == [1, 3]


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        ([1.0], "returned 1 values for 2 completions"),
        ([1.0, 2.0, 3.0], "returned 3 values for 2 completions"),
        ([1.0, -(10**400)], r"returned -10000.*OverflowError.* for row 1; .*finite number"),
        ([1.0, 1e39], r"returned 1e\+39 for row 1; .* at most 1e\+15"),
        ([Fraction(10**400), 1.0], "Fraction.*OverflowError.* for row 0"),
        (torch.ones(2, device="meta"), "for row 0"),
        ([1.0, Raising()], r"an object of type Raising \(Raising\) for row 1"),
        ([1.0, RaisingNumber()], "RaisingNumber.*ZeroDivisionError.* for row 1"),
        ([1.0, RaisingScalar()], "RaisingScalar.*ZeroDivisionError.* for row 1"),
        (RaisingList(), "cannot be read .ZeroDivisionError"),
        ([1.0, Exiting()], "an object of type Exiting .Exiting. for row 1"),
        ({1.0, 2.0}, "it must return a list"),
        (iter([1.0, 2.0]), "it must return a list"),
        (np.ones((2, 2)), "it must return a list"),
        (pd.DataFrame({0: [1.0, 2.0], 1: [3.0, 4.0]}), "it must return a list"),
        (bytearray(b"12"), "it must return a list"),
        (Endless(), "returned 9 values for 2 completions"),
        ([np.datetime64("2026-01-01"), 1.0], "for row 0"),
        ([math.inf, 1.0], "returned inf for row 0"),
        ([1.0, "2"], r"returned '2' \(str\) for row 1; it must return a finite number"),
        ([1.0, [2]], r"returned \[2\] \(list\) for row 1"),
        ([1.0, 2j], "complex.* for row 1"),
        ("ab", "returned 'ab'; it must return a list"),
        ({0: 1.0, 1: 1.0}, "must return a list"),
        (1.0, "returned 1.0; it must return a list"),
        (torch.tensor(1.0), "must return a list"),
        (None, "returned None; it must return a list"),
    ],
)
def test_what_is_no_reward_is_refused(returned: Any, message: str) -> None:
    """Prevents NaN weights, and rewards that belong to another row."""

    def judge(**kwargs: Any) -> Any:
        return returned

    with pytest.raises(RewardError, match=f"'judge'.*{message}|{message}"):
        score(judge)


@pytest.mark.parametrize("is_async", [False, True])
def test_an_exception_names_its_function_and_the_input(is_async: bool) -> None:
    """Prevents a traceback that ends in the library and hides which function failed on what."""

    def fail(completions: list[str], **kwargs: Any) -> list[float]:
        raise KeyError("gold")

    async def fail_later(completions: list[str], **kwargs: Any) -> list[float]:
        return fail(completions)

    name = "fail_later" if is_async else "fail"
    with pytest.raises(RewardError, match=f"(?s)'{name}' raised KeyError.*'answer'.*'p'.*'a'") as e:
        score(fail_later if is_async else fail, answer=[1, 2])
    assert isinstance(e.value.__cause__, KeyError)


def test_every_function_has_a_weight() -> None:
    """Prevents a function that is silently left out."""
    with pytest.raises(ValueError, match="1 reward_weights for 2 reward functions"):
        score(length, length, weights=[1.0])
    with pytest.raises(ValueError, match="at least one function"):
        score()


def test_functions_are_found_by_name(tmp_path: Path) -> None:
    """Prevents the same function from being two, depending on how it is given."""
    path = tmp_path / "my rewards.py"
    path.write_text(
        "from dataclasses import dataclass\n\n@dataclass\nclass Box:\n    value: float\n\n"
        "def one(completions, **kwargs):\n    return [Box(1.0).value for _ in completions]\n"
    )
    from_file, from_package, itself, bound = load_reward_funcs(
        [f"{path}:one", "cory.tasks.gsm8k.gsm8k_reward", length, partial(length)]
    )
    assert from_file(completions=["a"]) == [1.0]
    assert load_reward_funcs(f"{path}:one") == [from_file]
    assert from_package(completions=["72"], answer=["#### 72"]) == [1.0]
    assert itself is length
    assert score(itself, bound).means == {"length": 2.0, "length_2": 2.0}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no_such_package.judge", "there is no module 'no_such_package'"),
        ("cory.tasks.absent.judge", "there is no module 'cory.tasks.absent'"),
        ("cory.tasks.gsm8k.absent", "'absent' is not a function there; .*gsm8k_reward"),
        ("absent.py:judge", "no such file"),
        ("rewards.py", "names a file: add the function"),
        ("n" * 300, "is no name of a function, a file or a model: File name too long"),
        ("n" * 300 + ".py:judge", "File name too long"),
        ("./no-such-model", "there is no directory './no-such-model'"),
    ],
)
def test_a_name_that_leads_nowhere(name: str, message: str) -> None:
    """Prevents a long traceback for a typing error."""
    with pytest.raises(ValueError, match=message):
        load_reward_funcs(name)


def test_what_is_neither_name_nor_function() -> None:
    """Prevents a number or None from failing at the first step."""
    with pytest.raises(ValueError, match="3 in reward_funcs is neither"):
        load_reward_funcs([3])
    with pytest.raises(ValueError, match="1 reward_processing_classes for 2"):
        load_reward_funcs([length, length], [None])


def test_an_error_inside_the_users_module_is_theirs(tmp_path: Path) -> None:
    """Prevents "no module" from hiding which import of the user's file failed."""
    path = tmp_path / "needs.py"
    path.write_text("import no_such_dependency\n")
    with pytest.raises(ValueError, match=r"needs.py' cannot be loaded: .*no_such_dependency"):
        load_reward_funcs(f"{path}:judge")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def judge(:\n", "SyntaxError"),
        ("import sys\nsys.exit(0)\n", "SystemExit: 0"),
        ("raise BaseException('no')\n", "BaseException: no"),
        ("1 / 0\n", "ZeroDivisionError"),
        ("\0", "null bytes"),
        ("judge = 3\n", "'judge' is not a function there"),
        ("def __getattr__(name):\n    raise OSError(name)\n", "OSError: judge"),
        ("", "'judge' is not a function there; callable names are missing"),
    ],
)
def test_a_file_that_cannot_be_imported_is_one_message(
    text: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prevents a traceback, or a run that ends as if it had succeeded."""
    name = f"module_{abs(hash(text))}"
    (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    for specification in (f"{tmp_path / name}.py:judge", f"{name}.judge"):
        with pytest.raises(ValueError, match=message):
            load_reward_funcs(specification)


def test_an_embedded_reward_model_is_found_by_its_name() -> None:
    """Prevents a look at the Hub for a model that comes with the package."""
    (judge,) = load_reward_funcs("pocket-reviews-reward")
    assert judge.__name__ == "pocket-reviews-reward"
    good, bad = judge(prompts=["The film was"] * 2, completions=[" wonderful.", " awful."])
    assert good > bad


def test_classifier_pays_the_positive_logit(tiny_classifier_dir: Path) -> None:
    """Prevents the negative label's logit, dropout, or padding from paying."""
    prompts = ["This film", "A dull plot, wooden acting, and", "I"] * 30
    completions = [" is a wonder.", " a terrible ending.", " left."] * 30
    (judge,) = load_reward_funcs(str(tiny_classifier_dir))
    assert judge.__name__ == tiny_classifier_dir.name
    rewards = judge(prompts=prompts, completions=completions, answer=[0] * 90)
    tokenizer = AutoTokenizer.from_pretrained(tiny_classifier_dir)
    model = AutoModelForSequenceClassification.from_pretrained(tiny_classifier_dir).eval()
    with torch.no_grad():
        expected = [
            model(**tokenizer(prompt + completion, return_tensors="pt")).logits[0, 1].item()
            for prompt, completion in zip(prompts[:3], completions[:3], strict=True)
        ]
    assert rewards == pytest.approx(expected * 30, abs=1e-5)
    model.train()
    assert load_reward_funcs(model, tokenizer)[0](prompts=prompts, completions=completions) == (
        pytest.approx(rewards, abs=1e-6)
    )


def test_classifier_reads_long_texts_and_chats(tiny_classifier_dir: Path) -> None:
    """Prevents an index error beyond the last position, and messages without a template."""
    judge = ClassifierReward(str(tiny_classifier_dir))
    assert judge.max_length == 512
    (reward,) = judge(prompts=["film " * 2000], completions=["good"])
    assert math.isfinite(reward)
    answer = [{"role": "assistant", "content": "good"}]
    chat = judge(prompts=[CHAT], completions=[answer])
    assert chat == pytest.approx(judge(prompts=["Hello\n"], completions=["good"]))


def test_decoder_with_one_label_and_no_pad_token(tiny_gpt2_dir: Path) -> None:
    """Prevents a reward read off a padding token."""
    tokenizer = AutoTokenizer.from_pretrained(tiny_gpt2_dir)
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_pretrained(tiny_gpt2_dir, num_labels=1).eval()
    with torch.no_grad():
        expected = model(**tokenizer("This film is good", return_tensors="pt")).logits.item()
    judge = ClassifierReward(model, tokenizer)
    rewards = judge(prompts=["This film", "I did not like"], completions=[" is good", " it " * 9])
    assert rewards[0] == pytest.approx(expected, abs=1e-5)


def test_a_model_without_a_trained_head_is_refused(tiny_gpt2_dir: Path) -> None:
    """Prevents training on the rewards of a random layer."""
    with pytest.raises(ValueError, match=r"lacks \['score.weight'\]"):
        load_reward_funcs(str(tiny_gpt2_dir))


def test_labels(tiny_classifier_dir: Path) -> None:
    """Prevents a guess among three labels, or the last of two when the first is positive."""
    config = AutoModelForSequenceClassification.from_pretrained(tiny_classifier_dir).config
    assert reward_label(config, "judge") == 1
    config.label2id = {"Pos": 0, "Neg": 1}
    assert reward_label(config, "judge") == 0
    config.num_labels = 3
    with pytest.raises(ValueError, match="'judge' has 3 labels"):
        reward_label(config, "judge")
    config.num_labels = 1
    assert reward_label(config, "judge") == 0


def test_limit_of_input_length(tiny_gpt2_dir: Path) -> None:
    """Prevents an overflow of models whose positions start after the padding index."""
    tokenizer = AutoTokenizer.from_pretrained(tiny_gpt2_dir)
    tokenizer.model_max_length = 10**30
    config = AutoModelForSequenceClassification.from_pretrained(tiny_gpt2_dir).config
    assert max_input_length(tokenizer, config) == 1024
    config.model_type, config.pad_token_id = "roberta", 1
    assert max_input_length(tokenizer, config) == 1022


def test_columns_that_would_hide_what_was_sampled_are_left_out() -> None:
    """Prevents a column "completion" of the data set from standing where answers do."""
    seen: list[set[str]] = []

    def listen(**columns: Any) -> list[float]:
        seen.append(set(columns))
        return [0.0]

    row = {"question": "2+2?", "gold": 4, "completion": "no", "prompt": "no", "log_extra": "no"}
    RewardScorer([listen], prompt_column="question").score([row], ["four"], [[7]])
    assert seen == [{*GIVEN, *ON_REQUEST, "gold"}]
