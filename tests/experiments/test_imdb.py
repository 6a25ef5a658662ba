"""experiments/imdb: its script makes models that its comparison trains with."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path

import pytest
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedTokenizerBase,
)

from cory.cli.comparison import read_comparison
from cory.rewards.classifier import reward_label
from cory.training.trainer import CORYTrainer
from experiments.imdb import language_model, pretrain
from experiments.imdb.language_model import LanguageModelText, encode_openings, make_lm_tokenizer
from experiments.imdb.texts import PairSource, load_reviews, without
from scripts.pocket.review_corpus import reviews
from scripts.pocket.training import IGNORED

ARMS = Path(__file__).resolve().parents[2] / "experiments" / "imdb" / "arms.yaml"
OPTIONS = dict.fromkeys(
    ("preset", "arms", "baseline", "seeds", "kl_coefs", "learning_rates"), None
) | {"config": str(ARMS)}
TINY = {
    "max_steps": 1,
    "eval_steps": 1,
    "batch_size": 8,
    "num_eval_queries": 8,
    "use_cpu": True,
}
NUM_REVIEWS = 64
SIZES = (
    "--num_layers 1 --width 32 --num_heads 2 --vocabulary_size 600 --lm_steps 3 --repair_steps 2 "
    "--lm_batch_size 8 --classifier_layers 1 --classifier_width 32 --classifier_steps 40"
).split()


@pytest.fixture(scope="module")
def imdb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made-up reviews under the names and columns of the published files."""
    directory = tmp_path_factory.mktemp("imdb")
    for seed, split in enumerate(("train", "unsupervised", "test")):
        rows = [
            {
                "text": review.text(),
                "label": -1 if split == "unsupervised" else int(review.is_good),
            }
            for review in itertools.islice(reviews(seed), NUM_REVIEWS)
        ]
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (directory / f"{split}.jsonl").write_text(lines)
    return directory


@pytest.fixture(scope="module")
def models(imdb: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the script leaves after a few steps."""
    directory = tmp_path_factory.mktemp("models")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(language_model, "NUM_HELD_OUT_EXAMPLES", 8)
        pretrain.main(["--imdb", str(imdb), "--output_dir", str(directory), *SIZES])
    return directory


def text_of(imdb: Path) -> tuple[LanguageModelText, PreTrainedTokenizerBase]:
    """The text to learn from, every second opening positive, and its tokenizer."""
    texts = load_reviews(str(imdb), "train", None).texts
    tokenizer = make_lm_tokenizer(texts, 600)
    openings = encode_openings(texts, tokenizer)
    scores = [row if row % 2 else -float(row) for row in range(len(openings))]
    return LanguageModelText(openings, scores, tokenizer, seed=0), tokenizer


def test_the_script_writes_models_that_load_in_plain_transformers(models: Path) -> None:
    """Prevents models that only the script can read, and a reward of the wrong sign."""
    model = AutoModelForCausalLM.from_pretrained(models / "language-model")
    tokenizer = AutoTokenizer.from_pretrained(models / "language-model")
    classifier = AutoModelForSequenceClassification.from_pretrained(models / "classifier")
    assert model.config.vocab_size == len(tokenizer)
    assert classifier.config.id2label[reward_label(classifier.config, "classifier")] == "POSITIVE"
    assert classifier.config.problem_type == "single_label_classification"
    measures = json.loads((models / "measures.json").read_text())["measures"]
    assert measures["lm_perplexity"] > 1
    assert 0 <= measures["classifier_accuracy"] <= 1
    assert all(math.isfinite(value) for value in measures.values())


def test_the_arms_are_the_papers_schedule_and_train_on_the_models(
    imdb: Path, models: Path, tmp_path: Path
) -> None:
    """Prevents a comparison that strays from the paper's sizes, or fails after the pretraining."""
    plan = read_comparison({}, OPTIONS)
    assert plan.warnings() == []
    base = plan.base_config
    assert (base.batch_size, base.max_steps, base.num_ppo_epochs) == (256, 100, 4)
    assert (base.min_completion_length, base.max_completion_length) == (4, 15)
    assert list(plan.arms) == ["ppo", "ppo-2x", "cory", "team"]

    local = {
        "dataset_name": str(imdb),
        "model_name_or_path": str(models / "language-model"),
        "reward_model_name_or_path": str(models / "classifier"),
    }
    tiny = read_comparison({**TINY, **local}, {**OPTIONS, "seeds": "0"})
    team = next(run for run in tiny.runs(tmp_path) if run.arm == "team")
    metrics = CORYTrainer(args=team.args).train()
    assert math.isfinite(metrics["agent_1/task_reward"])


def test_reviews_of_the_test_split_are_not_learned(imdb: Path) -> None:
    """Prevents judging a model on texts that it knows by heart."""
    held_out = load_reviews(str(imdb), "test", None)
    learned = load_reviews(str(imdb), "train", 40)
    assert len(without(learned, held_out).texts) == len(learned.texts) == 40
    learned.texts[7] = held_out.texts[3]
    left = without(learned, held_out)
    assert len(left.texts) == len(left.labels) == 39
    assert held_out.texts[3] not in left.texts


def test_pairs_begin_alike_and_go_from_the_worse_to_the_better() -> None:
    """Prevents teaching the observer to make things worse, or another query than is quoted."""
    openings = [[1, 2, 3, 9], [1, 2, 4, 8], [5, 6, 7], [1, 2, 3, 7]]
    scores = [0.5, -1.0, 3.0, 2.0]
    pairs = PairSource(openings, scores, seed=0)
    for pair in (pairs.draw() for _ in range(50)):
        assert scores[pair.worse] < scores[pair.better]
        cut = pair.num_query_tokens
        assert cut >= 2
        assert openings[pair.worse][:cut] == openings[pair.better][:cut]
    with pytest.raises(ValueError, match="--pair_share 0"):
        PairSource([[1, 2], [3, 4]], [0.0, 1.0], seed=0).draw()


@pytest.mark.parametrize("kind", ["pair_example", "repair_example"])
def test_a_better_answer_is_asked_for_as_the_observer_meets_it(imdb: Path, kind: str) -> None:
    """Prevents a model that learns another prompt than it is given, or learns to say the prompt."""
    source, tokenizer = text_of(imdb)
    ids, labels = getattr(source, kind)()
    prompt = tokenizer.decode([i for i, label in zip(ids, labels, strict=True) if label == IGNORED])
    quoted, _, query = prompt.partition(" more positive: ")
    assert quoted.startswith(f'I can make this sentence "{query}')
    assert quoted.endswith('"')
    assert [label for label in labels if label != IGNORED] == ids[labels.count(IGNORED) :]


def test_a_classifier_that_cannot_tell_is_refused(imdb: Path) -> None:
    """Prevents an IndexError after minutes of training, with a classifier that learned nothing."""
    texts = load_reviews(str(imdb), "train", None).texts
    tokenizer = make_lm_tokenizer(texts, 600)
    with pytest.raises(ValueError, match=r"finds 64 of 64 openings positive.*--classifier_steps"):
        LanguageModelText(encode_openings(texts, tokenizer), [1.0] * 64, tokenizer, seed=0)


def test_a_repair_quotes_most_of_its_answer(imdb: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents references that tell nothing, which a model learns to ignore."""
    source, tokenizer = text_of(imdb)
    monkeypatch.setattr(language_model, "SLIP_RATE", 0.0)
    ids, labels = source.repair_example()
    answer = tokenizer.decode([label for label in labels if label != IGNORED])
    prompt = tokenizer.decode(ids[: labels.count(IGNORED)])
    assert f'{answer}" more positive: ' in prompt
    monkeypatch.setattr(language_model, "SLIP_RATE", 1.0)
    ids, labels = source.repair_example()
    answer = tokenizer.decode([label for label in labels if label != IGNORED])
    assert f'{answer}" more positive: ' not in tokenizer.decode(ids)


def test_examples_come_in_the_shares_asked_for(imdb: Path) -> None:
    """Prevents a share that does nothing."""
    source, _ = text_of(imdb)
    for pair_share, repair_share, expected in [(0.0, 0.0, 0), (0.5, 0.5, 20), (0.0, 1.0, 20)]:
        examples = itertools.islice(source.examples(pair_share, repair_share), 20)
        assert sum(IGNORED in labels for _, labels in examples) == expected


def test_a_missing_split_is_named(tmp_path: Path) -> None:
    """Prevents a KeyError for whoever has only a part of the files."""
    (tmp_path / "train.jsonl").write_text('{"text": "Fine.", "label": 1}\n')
    with pytest.raises(ValueError, match="no split 'unsupervised', only train"):
        load_reviews(str(tmp_path), "unsupervised", None)
