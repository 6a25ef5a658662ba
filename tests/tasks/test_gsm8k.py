"""GSM8K: which number an answer gives, in the ways real models write, and the published gold."""

from __future__ import annotations

import time
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cory.tasks import for_task, load_task
from cory.tasks.data import find_splits
from cory.tasks.final_number import final_number
from cory.tasks.gsm8k import DEFAULTS, gold_number, gsm8k_reward

LONG = 100_000

MARKERS = {
    # The marker wins over whatever follows it.
    "#### 72\nHope this helps with the 3 questions!": 72,
    "####72": 72,
    "####\n72": 72,
    "#### **72**": 72,
    r"#### \$72": 72,
    "#### 12 apples (and 3 pears)": 12,
    "#### 5 feet 6 inches": 5,
    "#### 3 * 5 = 15": 15,
    "#### <<2+2=4>>4": 4,
    "#### Answer: 72": 72,
    # Text after the first result is a continuation, not a correction.
    "#### 72\n#### 73": 72,
    # Markdown headings are no results.
    "#### Step 1: eggs\n16 - 3 = 13\n#### Step 2: sell\n13 * 2 = 26": 26,
    "#### 1. Eggs\n16 - 3 = 13\n#### 2. Sell\n13 * 2 = 26": 26,
    "#### 1: Eggs\n16 - 3 = 13": 13,
    r"\boxed{72}": 72,
    r"The answer is $\boxed{18}$ for 3 days.": 18,
    r"\boxed{9} and then \boxed{18}. That took 3 steps.": 18,
    r"\boxed{\frac{1}{2}}": Fraction(1, 2),
    r"\boxed{\$1{,}234}": 1234,
    r"\boxed{18 \text{ dollars}} in 2 days": 18,
    r"\boxed{x = 5}": 5,
    r"\boxed{}: 7": 7,
    "The answer is $1,234.50.": Fraction(2469, 2),
    "The answer is therefore about 5 miles per 2 hours": 5,
    "The answer is:\n\n$$18$$\n\nin 7 days": 18,
    "She has 5. The answer is 9 * 2 = 18 dollars in 3 days": 18,
    "Final Answer: The final answer is $7$. I hope it is correct (95%).": 7,
    "The answer to the problem is 5, not 7": 5,
    "The answer is not 5 but 6": 6,
    "The answer is 5. Wait: the answer is 6. I used 2 steps.": 6,
    "Answer: 72": 72,
    "6 * 12 = 72\n\n**Answer:** $72 for 2": 72,
    "3 + 4. Answer (in dollars): 5 of 7": 5,
    "3 + 4. Answer: x = 5": 5,
    "2 * 3 = 6\nA: 6 apples (2 rows of 3)": 6,
    "A: 72": 72,
    # A name, not a label.
    "Person A: 5\nPerson B: 7": 7,
    # "Answer:" may introduce the working.
    "Answer: 16 - 3 - 4 = 9 eggs.\n9 * 2 = $18": 18,
    "Answer:\n1. She sells 16\n2. She earns 32 dollars": 32,
    "It is 1, 2, 3. Answer: 1. She sells 16\n2. She earns 32 dollars": 32,
    "Answer: 18\n\nExplanation: 3 + 4 = 7 eggs": 18,
}
LAST_NUMBERS = {
    "72 dollars": 72,
    "so **72**": 72,
    "72%": 72,
    "She makes $18 per day.": 18,
    "x = 5": 5,
    "It costs $5.": 5,
    "It costs .5": Fraction(1, 2),
    "5.0": 5,
    "18.00": 18,
    # The paper's rule, to the letter.
    "12 apples (and 3 pears)": 3,
    "He needs 12 * $20 = $<<12*20=240>>240.": 240,
    # The annotation holds the result that is missing after it, or was cut off.
    "48/2 = <<48/2=24>> clips": 24,
    "48/2 = <<48/2=24": 24,
    # Separators of thousands: Western, Indian, European where unambiguous, typographic.
    "1,000,000": 1_000_000,
    "1,00,000": 100_000,
    "1.000.000": 1_000_000,
    "1.234,50": Fraction(2469, 2),
    "1\u00a0234": 1234,
    "1 000 000": 1_000_000,
    "2,500,000.50": Fraction(5_000_001, 2),
    # Lists.
    "5, 6, and 7": 7,
    "1,2,3": 3,
    "100,000,and 5": 5,
    # Signs: typographic minus, subtraction, ranges, hyphens.
    "-3": -3,
    "−3": -3,
    "= -5": -5,
    "-$5": -5,
    "$-5": -5,
    "16 -3": 3,
    "10-12": 12,
    "10 – 12": 12,
    "$10-$12": 12,
    "covid-19": 19,
    "twenty-5": 5,
    # Digits that belong to a name or an exponent.
    "72 m2": 72,
    "72 kg of CO2": 72,
    "72 x^2": 72,
    r"72 m^{2}": 72,
    "72 m²": 72,
    # Amounts glued to their currency, and numerals with an ending.
    "Rs500": 500,
    "US$500": 500,
    "the 5th grade": 5,
    # Fractions, mixed numbers, clock times (hours), powers of ten.
    "1/2": Fraction(1, 2),
    "3 1/2": Fraction(7, 2),
    "3½": Fraction(7, 2),
    "at 5:00 PM": 5,
    "1:30": Fraction(3, 2),
    "1.5e3": 1500,
    "1.5 x 10^6": 1_500_000,
    r"1.5 \times 10^{6}": 1_500_000,
    "５７": 57,
    # No number at all, or none that can be read.
    "": None,
    "none": None,
    "10/0": None,
    "72 " + "9" * 5000: None,
    "9" * 5000 + " 72": 72,
}
CONTINUATIONS = {
    "It is 72.\n\nQuestion: Tom has 3 apples.\nAnswer: 3": 72,
    "It is 72.\n\nQ: Tom has 3 apples.\nA: 3": 72,
    "It is 72.\n\nQuestion 2: Tom has 3 apples. #### 3": 72,
    "It is 72. **Question:** Tom has 3 apples. \\boxed{3}": 72,
    "It is 72.\nReference: 3": 72,
    "72<|im_end|>\n<|im_start|>user\n3": 72,
    "72</s> 3": 72,
    # The question repeated before the answer is no next question.
    "Question: Tom has 3 apples and buys 4.\nAnswer: 3 + 4 = 7": 7,
    "<think>The answer is 12</think>It is 5": 5,
}


@pytest.mark.parametrize(("text", "number"), [*MARKERS.items(), *LAST_NUMBERS.items()])
def test_final_number(text: str, number: Fraction | int | None) -> None:
    """Prevents a reward that depends on how an answer is written."""
    assert final_number(text) == number


@pytest.mark.parametrize(("text", "number"), CONTINUATIONS.items())
def test_what_is_not_the_answer_is_not_read(text: str, number: int) -> None:
    """Prevents a reward for the answer to a question that the model asked itself."""
    assert final_number(text) == number


@pytest.mark.parametrize("split", ["train", "test"])
def test_every_gold_solution_is_right(shared_data: Path, split: str) -> None:
    """Prevents a gold number (negative, with separators) that no answer can match."""
    answers = find_splits(str(shared_data / "gsm8k"), "main")[split]()["answer"][:]
    assert gsm8k_reward(completions=answers, answer=answers) == [1.0] * len(answers)
    gold = [int(answer.rpartition("####")[2].replace(",", "")) for answer in answers]
    assert [gold_number(answer) for answer in answers] == gold
    wrong = [f"The answer is {number + 1}." for number in gold[:500]]
    assert gsm8k_reward(completions=wrong, answer=answers[:500]) == [0.0] * 500


def test_reward_takes_chat_messages() -> None:
    """Prevents a chat completion from being read as its Python form."""
    chat = [{"role": "assistant", "content": "It is 72."}]
    assert gsm8k_reward(completions=[chat], answer=["… #### 72"], prompts=["?"]) == [1.0]


def test_reward_refuses_what_it_cannot_judge() -> None:
    """Prevents a reward of 0 for every answer when the gold column is not GSM8K's."""
    with pytest.raises(ValueError, match=r"seventy-two.* holds no number"):
        gsm8k_reward(completions=["72"], answer=["seventy-two"])
    with pytest.raises(ValueError, match="2 completions and 1 answers"):
        gsm8k_reward(completions=["72", "73"], answer=["#### 72"])


@settings(max_examples=300)
@given(st.text(alphabet='0123456789.,-$/:#{}<>=+x*^ \\\nAansweri"Q', max_size=200))
def test_any_text_has_a_number_or_none(text: str) -> None:
    """Prevents a crash in the middle of training on what a model may write."""
    assert isinstance(final_number(text), Fraction | None)


@given(st.decimals(min_value=-(10**9), max_value=10**9, places=3))
def test_any_decimal_is_read_as_it_is_written(decimal: Decimal) -> None:
    """Prevents rounding, and separators or signs that change a value."""
    for style in ("{:,f}", "{:f}", "so it is {:,f} dollars.", "#### ${:f}", "\\boxed{{{:,f}}}"):
        assert final_number(style.format(decimal)) == Fraction(decimal)


@pytest.mark.parametrize(
    "unit",
    [
        *["1,", "11,", ",111", ".111", "9", " ", "\n", "#", "-1", "1/", "1 1/1 ", "1 x 10^", "<<1"],
        *["\\boxed{", "\\frac{1}{", "answer is 1+", "answer: 1+1= ", "answer to ", "A:\n", "Q: "],
        *["1<|a", "#### 1. a ", "</think>", "=1+1", "# "],
    ],
)
def test_time_is_linear_in_hostile_text(unit: str) -> None:
    """Prevents a pattern that backtracks: quadratic time would be minutes here."""
    started = time.process_time()
    final_number("1 " + unit * (LONG // len(unit)) + " 1,11 x")
    assert time.process_time() - started < 5


def test_load_reads_published_files(shared_data: Path) -> None:
    """Prevents queries without their gold answer, and a split that leaks into the other."""
    args = for_task("gsm8k", dataset_name=str(shared_data / "gsm8k"), use_cpu=True)
    task = load_task(args, None)
    assert (len(task.train_dataset), len(task.eval_dataset)) == (7473, 1319)
    assert task.train_dataset.column_names == ["prompt", "answer"]
    assert not set(task.train_dataset["prompt"]) & set(task.eval_dataset["prompt"])
    (row,) = (row for row in task.eval_dataset if row["prompt"].startswith("Janet’s ducks"))
    assert task.reward_funcs[0](
        prompts=[row["prompt"]], completions=["$18"], **{"answer": [row["answer"]]}
    ) == [1.0]


def test_worked_example_is_right_and_not_from_the_data(shared_data: Path) -> None:
    """Prevents a prompt that teaches a wrong sum, or gives a test answer away."""
    example, marker, _ = DEFAULTS["query_template"].partition("Question: {query}")
    assert marker
    assert DEFAULTS["observer_template"].startswith(example)
    question, _, solution = example.removeprefix("Question: ").partition("\nAnswer: ")
    assert final_number(solution) == (4 * 12 - 6) * 2
    for split in find_splits(str(shared_data / "gsm8k"), None).values():
        assert question not in split()["question"]
