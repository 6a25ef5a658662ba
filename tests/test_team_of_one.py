"""A team of one is plain PPO, bit for bit.

The loop below is written out with torch and transformers alone: no agent, no role, no rollout, no
loss or estimator of the library. It shares with it the tokenizer, the sampler, the seeds and the
forms of activation and head, which have tests of their own. Where float arithmetic depends on the
order of operations, it keeps the library's order.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, GPT2LMHeadModel

from cory.algorithm.seeding import derive_generator
from cory.generation.local import Answers, LocalSampler
from cory.models.layers import use_fast_gelu
from cory.models.logprobs import head_logprobs
from cory.models.policy import LanguageModel
from cory.training.trainer import PPOTrainer
from tests.tiny_runs import queries, settings, share_of_letters

ITERATIONS = 8
BATCH, NEW_TOKENS, EPOCHS, MINI_BATCHES = 8, 6, 2, 2
# So close to 1 and to the old values that both clips act.
GAMMA, LAM, CLIP, VALUE_CLIP, VALUE_WEIGHT, ETA = 0.99, 0.95, 0.05, 0.005, 0.1, 0.05
RATE, TEMPERATURE, MAX_NORM, DECAY, SEED = 1e-3, 0.9, 0.5, 0.01, 3
# Many tokens that end an answer make ragged answers.
END_IDS = range(60)


def load(directory: Path) -> GPT2LMHeadModel:
    """The model with the library's form of GPT-2's activation (see tests/test_layers.py)."""
    model = AutoModelForCausalLM.from_pretrained(directory).eval()
    use_fast_gelu(model)
    return model


class PlainPPO:
    """Single-agent PPO from scratch."""

    def __init__(self, directory: Path) -> None:
        self.model = load(directory)
        self.reference = load(directory).requires_grad_(False)
        self.value_head = nn.Linear(self.model.config.n_embd, 1)
        nn.init.zeros_(self.value_head.weight)
        nn.init.zeros_(self.value_head.bias)
        self.parameters = [*self.model.parameters(), *self.value_head.parameters()]
        self.optimizer = torch.optim.AdamW(self.parameters, lr=RATE, weight_decay=DECAY, fused=True)
        self.texts = list(queries()["prompt"])

    def data(self, step: int) -> list[str]:
        """The next BATCH queries of endless shuffled passes."""
        rows = []
        for position in range(step * BATCH, (step + 1) * BATCH):
            epoch, place = divmod(position, len(self.texts))
            generator = derive_generator(SEED, "data", epoch)
            rows.append(int(torch.randperm(len(self.texts), generator=generator)[place]))
        return [self.texts[row] for row in rows]

    def iterate(self, step: int, tokenizer) -> tuple[list[list[int]], Tensor]:
        """One iteration; returns the sampled token ids and the rewards."""
        texts = self.data(step)
        prompts = [tokenizer(text)["input_ids"] for text in texts]
        pad_id = tokenizer.eos_token_id
        sampler = LocalSampler(frozenset(END_IDS), rows_per_pass=256)
        answers = sampler.generate(
            LanguageModel(self.model),
            prompts,
            NEW_TOKENS,
            TEMPERATURE,
            derive_generator(SEED, "sampling", step, 0),
        )
        completions = tokenizer.batch_decode(answers.token_ids, skip_special_tokens=True)
        rewards = torch.tensor(share_of_letters(texts, completions))
        self.learn(step, prompts, answers, pad_id, rewards)
        return answers.token_ids, rewards

    def learn(
        self,
        step: int,
        prompts: list[list[int]],
        answers: Answers,
        pad_id: int,
        rewards: Tensor,
    ) -> None:
        ids, starts, mask = pad(prompts, answers.token_ids, pad_id)
        columns = [torch.zeros(mask.shape) for _ in range(3)]
        with torch.no_grad():
            rows = longest_first(starts, mask)
            ids_now, starts_now, mask_now = cut(rows, ids, starts, mask)
            length = mask_now.shape[1]
            chosen = response_tokens(ids_now, starts_now, mask_now)[:, None]
            hidden = answers.hidden[rows, :length][mask_now]
            ref_hidden = response_hidden(self.reference, ids_now, starts_now, mask_now)
            for column, flat in zip(
                columns,
                (
                    all_logprobs(self.model, hidden).gather(1, chosen),
                    self.value_head(hidden),
                    all_logprobs(self.reference, ref_hidden).gather(1, chosen),
                ),
                strict=True,
            ):
                column[rows, :length] = rectangle(flat, mask_now)
        old_logprobs, old_values, ref_logprobs = columns
        kl = old_logprobs - ref_logprobs
        advantages, returns = gae(token_rewards(rewards, kl, mask), old_values, mask)
        advantages = whiten(advantages, mask)
        for epoch in range(EPOCHS):
            generator = derive_generator(SEED, "mini-batches", 0, step, epoch)
            for rows in torch.randperm(BATCH, generator=generator).tensor_split(MINI_BATCHES):
                rows = rows[longest_first(starts[rows], mask[rows])]
                length = int(mask[rows].sum(1).max())
                self.optimize(
                    *cut(rows, ids, starts, mask),
                    *(
                        whole[rows][:, :length]
                        for whole in (old_logprobs, old_values, advantages, returns)
                    ),
                )

    def optimize(
        self,
        ids: Tensor,
        starts: Tensor,
        mask: Tensor,
        old_logprobs: Tensor,
        old_values: Tensor,
        advantages: Tensor,
        returns: Tensor,
    ) -> None:
        num_tokens = int(mask.sum())
        hidden = response_hidden(self.model, ids, starts, mask)
        tokens = response_tokens(ids, starts, mask)
        chosen = head_logprobs(
            hidden, self.model.lm_head.weight, tokens, TEMPERATURE, torch.float32
        )
        dense = all_logprobs(self.model, hidden).gather(1, tokens[:, None]).squeeze(1)
        torch.testing.assert_close(chosen, dense)
        logprobs = rectangle(chosen, mask)
        values = rectangle(self.value_head(hidden), mask)

        ratio = torch.where(mask, logprobs - old_logprobs, 0.0).exp()
        worst = torch.maximum(-advantages * ratio, -advantages * ratio.clamp(1 - CLIP, 1 + CLIP))
        policy_loss = worst.sum() / num_tokens
        near = values.clamp(old_values - VALUE_CLIP, old_values + VALUE_CLIP)
        errors = torch.maximum((values - returns).square(), (near - returns).square())
        loss = policy_loss + VALUE_WEIGHT * (0.5 * errors.sum() / num_tokens)

        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters, MAX_NORM)
        self.optimizer.step()


def pad(
    prompts: list[list[int]], answers: list[list[int]], pad_id: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Sequences padded behind their end, where each response starts, and the response mask."""
    sequences = [prompt + answer for prompt, answer in zip(prompts, answers, strict=True)]
    ids = torch.full((len(prompts), max(map(len, sequences))), pad_id)
    mask = torch.zeros(len(prompts), max(map(len, answers)), dtype=torch.bool)
    for row, (sequence, answer) in enumerate(zip(sequences, answers, strict=True)):
        ids[row, : len(sequence)] = torch.tensor(sequence)
        mask[row, : len(answer)] = True
    return ids, torch.tensor(list(map(len, prompts))), mask


def longest_first(starts: Tensor, mask: Tensor) -> Tensor:
    return (starts + mask.sum(1)).argsort(descending=True, stable=True)


def cut(rows: Tensor, ids: Tensor, starts: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Some rows, as wide as the longest of them."""
    lengths = mask[rows].sum(1)
    width = int((starts[rows] + lengths).max())
    return ids[rows][:, :width], starts[rows], mask[rows][:, : int(lengths.max())]


def response_tokens(ids: Tensor, starts: Tensor, mask: Tensor) -> Tensor:
    """The tokens of all responses, (N,)."""
    return torch.cat(
        [
            row[start : start + length]
            for row, start, length in zip(ids, starts, mask.sum(1), strict=True)
        ]
    )


def response_hidden(model: GPT2LMHeadModel, ids: Tensor, starts: Tensor, mask: Tensor) -> Tensor:
    """Hidden states one place before each response token, (N, D).

    The last layer's MLP mixes no positions, so the others need not go through it.
    """
    body = model.transformer
    hidden = body.wte(ids[:, :-1]) + body.wpe(torch.arange(ids.shape[1] - 1))
    *layers, last = body.h
    for layer in layers:
        hidden = layer(hidden)
    hidden = hidden + last.attn(last.ln_1(hidden))[0]
    columns = torch.arange(hidden.shape[1])
    ends = starts + mask.sum(1) - 1
    chosen = (columns >= starts[:, None] - 1) & (columns < ends[:, None])
    added = torch.zeros_like(hidden)
    added[chosen] = last.mlp(last.ln_2(hidden)[chosen])
    return body.ln_f(hidden + added)[chosen]


def all_logprobs(model: GPT2LMHeadModel, hidden: Tensor) -> Tensor:
    return (model.lm_head(hidden) / TEMPERATURE).log_softmax(-1)


def rectangle(column: Tensor, mask: Tensor) -> Tensor:
    """One number per response token as (B, T), 0 on padding."""
    return torch.zeros(mask.shape).masked_scatter(mask, column.reshape(-1))


def token_rewards(rewards: Tensor, kl: Tensor, mask: Tensor) -> Tensor:
    paid = -ETA * kl
    for row, length in enumerate(mask.sum(1).tolist()):
        paid[row, length - 1] = rewards[row] - ETA * kl[row, length - 1]
    return paid


def gae(paid: Tensor, values: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    advantages = torch.zeros_like(values)
    for row, length in enumerate(mask.sum(1).tolist()):
        next_value = next_advantage = torch.tensor(0.0)
        for t in reversed(range(length)):
            error = paid[row, t] + GAMMA * next_value - values[row, t]
            next_advantage = error + GAMMA * LAM * next_advantage
            next_value = values[row, t]
            advantages[row, t] = next_advantage
    return advantages, torch.where(mask, advantages + values, 0.0)


def whiten(advantages: Tensor, mask: Tensor) -> Tensor:
    centred = torch.where(mask, advantages - advantages[mask].min(), 0.0)
    centred = torch.where(mask, centred - centred.sum() / mask.sum(), 0.0)
    return centred / ((centred.square().sum() / mask.sum()).sqrt() + 1e-8)


@pytest.fixture
def team(tiny_gpt2_dir: Path, tmp_path: Path) -> PPOTrainer:
    model = AutoModelForCausalLM.from_pretrained(tiny_gpt2_dir)
    model.generation_config.eos_token_id = list(END_IDS)
    args = settings(
        tiny_gpt2_dir,
        tmp_path,
        batch_size=BATCH,
        max_completion_length=NEW_TOKENS,
        num_ppo_epochs=EPOCHS,
        num_mini_batches=MINI_BATCHES,
        gamma=GAMMA,
        lam=LAM,
        cliprange=CLIP,
        cliprange_value=VALUE_CLIP,
        vf_coef=VALUE_WEIGHT,
        kl_coef=ETA,
        learning_rate=RATE,
        temperature=TEMPERATURE,
        max_grad_norm=MAX_NORM,
        weight_decay=DECAY,
        seed=SEED,
    )
    return PPOTrainer(model, share_of_letters, args=args, train_dataset=queries())


def test_a_team_of_one_is_plain_ppo(tiny_gpt2_dir: Path, team: PPOTrainer) -> None:
    """Prevents a single agent from being treated, anywhere, otherwise than PPO treats it."""
    plain = PlainPPO(tiny_gpt2_dir)
    initial = [parameter.detach().clone() for parameter in plain.parameters]
    lengths: set[int] = set()
    clipped = {"clip_fraction": 0.0, "value_clip_fraction": 0.0}
    for step in range(ITERATIONS):
        iteration = team.rollout.run(team.queries(step), step)
        (record,) = iteration.records
        metrics = team.agents[0].update(record, step)
        clipped = {name: share + metrics[name] for name, share in clipped.items()}
        team.scheduler.step()
        answers, rewards = plain.iterate(step, team.tokenizer)
        assert record.generation.response_ids == answers, f"answers of iteration {step}"
        assert torch.equal(record.team_reward, rewards), f"rewards of iteration {step}"
        assert_same_weights(team, plain, step)
        lengths |= set(map(len, answers))
    assert lengths == set(range(1, NEW_TOKENS + 1)), "the answers were not ragged"
    assert all(clipped.values()), f"a clip never acted: {clipped}"
    assert not any(map(torch.equal, initial, plain.parameters)), "a weight was never trained"


def assert_same_weights(team: PPOTrainer, plain: PlainPPO, step: int) -> None:
    ours = team.policies[0].trainable_parameters()
    assert len(ours) == len(plain.parameters)
    for parameter, expected in zip(ours, plain.parameters, strict=True):
        assert torch.equal(parameter, expected), f"weights after iteration {step}"
        moments = team.optimizer.state[parameter]
        for name, moment in plain.optimizer.state[expected].items():
            assert torch.equal(moments[name], moment), f"{name} after iteration {step}"
