"""Every question, in the order of the index."""

from __future__ import annotations

from scripts.results.columns import Row
from scripts.results.questions import Question


def effect(experiment: str, arm: str, baseline: str, task: str, agent: str = "mean") -> Row:
    """A comparison, with the task in a word."""
    return Row(experiment, arm, task, agent, baseline)


QUESTIONS = (
    Question(
        "ppo",
        "paper-team",
        "Does the paper's team beat PPO?",
        "No: it has less reward at equal iterations, and less still at equal samples.",
        [
            effect("arithmetic", "cory", "ppo", "arithmetic"),
            effect("reviews", "cory", "ppo", "reviews"),
            effect("sparse", "cory", "ppo", "sparse"),
        ],
    ),
    Question(
        "ppo",
        "team",
        "Does the preset `team` beat PPO and the paper's team at equal iterations?",
        "The paper's team: everywhere. PPO: in reward, or on reviews in area alone.",
        [
            effect("arithmetic", "team", "ppo", "arithmetic"),
            effect("reviews", "team", "ppo", "reviews"),
            effect("sparse", "team", "ppo", "sparse"),
        ],
    ),
    Question(
        "ppo",
        "equal-samples",
        "Does `team` beat PPO at equal samples?",
        "No: PPO with twice the batch and averaged weights is level, or a little ahead.",
        [
            effect("arithmetic", "team", "ppo-2x-ema", "arithmetic"),
            effect("reviews", "team", "ppo-2x-ema", "reviews"),
            effect("sparse-lift", "team", "ppo-2x-ema", "sparse"),
        ],
    ),
    Question(
        "ppo",
        "equal-seconds",
        "Does `team` beat PPO at equal seconds?",
        "No: an iteration of a team takes twice as long as one of PPO with as many samples.",
        [
            effect("matrix", "team", "ppo", "arithmetic"),
            effect("matrix", "team", "ppo-2x", "arithmetic"),
            effect("second-look", "team-back-1", "ppo-2x", "second look"),
        ],
        cost="seconds",
    ),
    Question(
        "ppo",
        "twice-the-samples",
        "What do twice the samples and averaged weights buy PPO?",
        "The average: reward on arithmetic, less KL on reviews. The samples: where reward is rare.",
        [
            effect("arithmetic", "ppo-2x-ema", "ppo", "arithmetic"),
            effect("reviews", "ppo-2x-ema", "ppo", "reviews"),
            effect("sparse", "ppo-2x-ema", "ppo", "sparse"),
        ],
    ),
    Question(
        "mechanisms",
        "ideas",
        "Which idea helps on its own?",
        "Averaging over time and the partner's samples on arithmetic; "
        "own reward and transfer back on reviews.",
        [
            effect("arithmetic-ideas", "average-over-time", "cory", "arithmetic"),
            effect("arithmetic-ideas", "partner-samples", "cory", "arithmetic"),
            effect("reviews-ideas", "cory-own-reward", "cory", "reviews"),
            effect("reviews-ideas", "transfer-back", "cory", "reviews"),
        ],
    ),
    Question(
        "mechanisms",
        "ideas-rare",
        "Which idea helps where reward is rare?",
        "**One seed:** own reward and transfer back raise the paper's team most.",
    ),
    Question(
        "mechanisms",
        "exchange",
        "What is exchange for?",
        "Without it the second agent is of no use alone, on a model made to show it.",
        [
            effect("arithmetic", "cory-no-exchange", "cory", "arithmetic"),
            effect("one-habit", "cory-no-exchange", "cory", "one habit"),
        ],
    ),
    Question(
        "mechanisms",
        "transfer-back",
        "How much should be transferred back?",
        "Weight .1, and 1 where observers are right and pioneers hardly ever are.",
        [
            effect("arithmetic", "team-back-1", "team", "arithmetic"),
            effect("second-look", "team-back-1", "team", "second look"),
        ],
    ),
    Question(
        "mechanisms",
        "transfer-ends",
        "Should transfer end when references stop helping?",
        "It changes nothing on arithmetic, and gains .013 where reward is rare.",
        [
            effect("arithmetic", "team-lift-samples", "team", "arithmetic"),
            effect("sparse-lift", "team-lift-samples", "team", "sparse"),
        ],
    ),
    Question(
        "mechanisms",
        "deleted",
        "What was deleted, and why?",
        "Causal credit and a second observer answer: five seeds show no sure gain anywhere.",
        [
            effect("arithmetic-ideas", "causal-credit", "cory", "arithmetic"),
            effect("reviews-ideas", "causal-credit", "cory", "reviews"),
            effect("arithmetic-ideas", "two-observers", "cory", "arithmetic"),
            effect("reviews-ideas", "two-observers", "cory", "reviews"),
        ],
    ),
    Question(
        "mechanisms",
        "reference-value",
        "What is an answer in view worth to a trained team?",
        "Less than nothing beside a wrong answer (**one seed** on two tasks, three on one).",
    ),
    Question(
        "mechanisms",
        "two-policies",
        "Do two policies, averaged at the end, beat one?",
        "They reach a larger area at less KL and less reward; so do two PPOs that never met.",
        [
            effect("apart", "team-apart", "ppo-2x-ema", "reviews", "merged"),
            effect("apart", "pair-apart", "ppo-2x-ema", "reviews", "merged"),
        ],
    ),
    Question(
        "view",
        "second-look",
        "Where is an answer in view worth most?",
        "Where the model knows with an answer in view what it hardly ever finds alone: "
        "a team wins at equal samples. **Task made for the question.**",
        [
            effect("second-look", "team-back-1", "ppo-2x", "second look"),
            effect("second-look", "team-back-1", "ppo-2x-ema", "second look"),
        ],
    ),
    Question(
        "view",
        "smaller-penalty",
        "Does that need the smaller penalty?",
        "At η 0.1 the penalty holds PPO back, so the lead is no win. "
        "**Task made for the question.**",
        [effect("second-look-eta-0.1", "team-back-1", "ppo-2x-ema", "second look, η 0.1")],
    ),
    Question(
        "view",
        "less-rare",
        "And where right answers are less rare?",
        "The lead is shorter, and gone at the end. **Task made for the question.**",
        [
            effect("misled", "team-back-1", "ppo-2x", "misled"),
            effect("misled", "team-back-1", "ppo-2x-ema", "misled"),
        ],
    ),
    Question(
        "view",
        "rare-reward",
        "Does a team help where reward is rare?",
        "It beats PPO at equal iterations, not at equal samples.",
        [
            effect("sparse", "team", "ppo", "sparse"),
            effect("sparse-lift", "team", "ppo-2x-ema", "sparse"),
        ],
    ),
    Question(
        "view",
        "rarer-reward",
        "And where a batch holds no right answer?",
        "A head start, and no more that is sure. **Models made for the question.**",
        [
            effect("rarest", "team-lift-samples", "ppo-2x-ema", "rarest"),
            effect("rarest", "team-lift-samples", "ppo-2x", "rarest"),
        ],
    ),
    Question(
        "other",
        "imdb",
        "Does the paper's IMDB figure come back?",
        "**One seed, negative openings only:** yes, and every arm collapses on one path.",
    ),
    Question(
        "other",
        "gsm8k",
        "Does the path of the paper's GSM8K experiment work?",
        "**One seed:** it runs; a model of this size says nothing about CORY.",
    ),
    Question(
        "other",
        "one-habit",
        "Do the answers depend on the arithmetic model?",
        "The order of the arms is the same; what exchange is worth is not.",
        [
            effect("one-habit", "cory", "ppo-2x-ema", "one habit"),
            effect("one-habit", "team", "ppo-2x-ema", "one habit"),
        ],
    ),
    Question(
        "other",
        "bfloat16",
        "Does bfloat16 learn what float32 does?",
        "Yes at the end of training; it lags a little on the way.",
        [effect("bfloat16", "cory-bf16", "cory", "reviews")],
    ),
    Question(
        "other",
        "collapse",
        "Is a collapse visible?",
        "**Two seeds:** yes; distinct-2 alone misses one of six.",
    ),
    Question(
        "other",
        "matrix",
        "How long does the pocket matrix take?",
        "Ten and a half minutes on two idle cores.",
        [effect("matrix", "team", "ppo", "arithmetic")],
    ),
)
