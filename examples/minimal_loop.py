"""CORY (arXiv 2410.06101) from top to bottom: pioneer, observer, shared reward, PPO, exchange.

    python -m examples.minimal_loop

Two agents learn on pocket-reviews in under a minute. Models, prompts, sampling and padding are the
library's; the algorithm is written out. `CORYTrainer(args=ARGS)` trains the same weights, which a
test verifies bit for bit on one thread. A setting that is not read below must keep its default.
"""

import torch
from torch.optim import Adam

from cory import CORYConfig, estimators, losses
from cory.algorithm.seeding import derive_generator
from cory.generation.local import LocalSampler
from cory.generation.probe import probe_models
from cory.models.batch import Batch, make_batch, to_rows
from cory.models.loading import build_policies, load_model, load_tokenizer
from cory.models.policy import LanguageModel, Policy
from cory.tasks import load_task
from cory.team.prompts import make_encoder
from cory.team.roles import roles_at
from cory.training.data import queries_at

ARGS = CORYConfig(
    task="pocket-reviews",
    model_name_or_path="pocket-reviews-lm",
    observer_template="I can make this sentence {references} more positive: {query}",
    reference_template='"{query}{answer}"',
    max_completion_length=16,
    max_steps=12,  # iterations
    batch_size=128,  # queries per iteration
    role_exchange_period=5,
    num_ppo_epochs=2,
    learning_rate=3e-4,
    kl_coef=0.1,  # η
    kl_estimator="full",  # over the whole vocabulary, as in Eq 2
    recompute_logprobs=True,  # by `score` below, instead of keeping what sampling computed
    use_cpu=True,
)


def train(args: CORYConfig) -> list[Policy]:
    """Run Algorithm 1 and return the agents, each of which can then be used alone."""
    tokenizer = load_tokenizer(args.model_name_or_path)
    policies, reference = build_policies(load_model(args.model_name_or_path, args), args)
    optimizers = [Adam(p.trainable_parameters(), args.learning_rate, fused=True) for p in policies]
    encoder = make_encoder(args, tokenizer, reference.model.generation_config)
    sampler, length = LocalSampler(encoder.end_ids, args.batch_size), args.max_completion_length
    task = load_task(args, tokenizer)
    reward_func, text = task.reward_funcs[0], encoder.encode(task.train_dataset[0]["prompt"], [])
    probe_models(policies, reference, text, None, samples_here=True)  # refuses unfit models
    for step in range(args.max_steps):
        queries = [row["prompt"] for row in queries_at(task.train_dataset, args, step)]
        # Exchange: the order of speaking rotates. Weights and moments stay with their agent.
        speakers = roles_at(step, args.num_agents, args.role_exchange_period)
        prompts, answers, task_rewards, line = [], [], [], []
        for agent in speakers:
            # Eq 3: the pioneer sees the query, the observer also the pioneer's answer to it.
            shown = zip(queries, *answers, strict=True)
            prompts.append([encoder.encode(query, earlier) for query, *earlier in shown])
            generator = derive_generator(args.seed, "sampling", step, agent)
            sampled = sampler.generate(policies[agent], prompts[-1], length, 1.0, generator)
            answers.append(sampled.token_ids)
            # The observer's answer, too, is scored as an answer to the plain query.
            task_rewards.append(torch.tensor(reward_func(queries, encoder.decode(answers[-1]))))
        team_reward = torch.stack(task_rewards).sum(0)  # Eq 4: both are paid for both answers
        for agent, task_reward, *own in zip(speakers, task_rewards, prompts, answers, strict=True):
            policy, batch = policies[agent], make_batch(*own)
            old_logprobs, old_values, kl = score(policy, reference, batch)
            # Eq 2, for the observer Eq 8: −η KL on each token, the team reward on the last one.
            mask = batch.response_mask
            rewards = losses.token_rewards(team_reward, kl, mask, args.kl_coef)
            advantages, returns = estimators.gae(rewards, old_values, mask, args.gamma, args.lam)
            advantages = losses.masked_whiten(advantages, mask)
            old = torch.stack([old_logprobs, old_values, advantages, returns])
            for epoch in range(args.num_ppo_epochs):
                generator = derive_generator(args.seed, "mini-batches", agent, step, epoch)
                shuffled = torch.randperm(len(batch), generator=generator)
                for rows in shuffled.tensor_split(args.num_mini_batches):
                    ppo_step(policy, optimizers[agent], batch.select(rows), old[:, rows], args)
            line.append(f"agent_{agent} reward {task_reward.mean():+.2f} KL {kl.sum(1).mean():.2f}")
        print(f"{step + 1:3}", *line, sep="   ")  # the pioneer first
    return policies


@torch.no_grad()
def score(policy: Policy, reference: LanguageModel, batch: Batch) -> torch.Tensor:
    """Log-probability, value and full KL of each token as it was sampled, (3, B, T)."""
    scores = torch.zeros(3, *batch.response_mask.shape)
    for rows in batch.split(None, policy.tokens_per_pass):
        part = batch.select(rows)
        # Eq 2 and 8: the reference reads the same prompt, an observer's with the answer in it.
        hidden, ref_hidden = policy.response_hidden(part), reference.response_hidden(part)
        logprobs = policy.logits(hidden, 1.0).log_softmax(-1)
        kl = losses.full_kl_of(logprobs, reference.logits(ref_hidden, 1.0).log_softmax(-1))
        sampled = logprobs.gather(1, part.response_tokens[:, None]).squeeze(1)
        for row, flat in zip(scores, (sampled, policy.values(hidden), kl), strict=True):
            row[rows, : part.response_mask.shape[1]] = to_rows(flat, part.response_mask)
    return scores


def ppo_step(policy: Policy, adam: Adam, batch: Batch, old: torch.Tensor, args: CORYConfig) -> None:
    """Take one optimizer step on a mini-batch (Eq 10–13), a few sequences per pass."""
    adam.zero_grad()
    for rows in batch.split(None, policy.tokens_per_pass):
        part, n = batch.select(rows), batch.num_tokens
        mask, hidden = part.response_mask, policy.response_hidden(part)
        old_logprobs, old_values, advantages, returns = old[:, rows, : mask.shape[1]]
        logprobs = to_rows(policy.logprobs(hidden, part.response_tokens, 1.0), mask)
        values = to_rows(policy.values(hidden), mask)
        loss = losses.policy_loss(logprobs, old_logprobs, advantages, mask, args.cliprange, n).loss
        fit = losses.value_loss(values, old_values, returns, mask, args.cliprange_value, n).loss
        (loss + args.vf_coef * fit).backward()
    torch.nn.utils.clip_grad_norm_(policy.trainable_parameters(), args.max_grad_norm)
    adam.step()


if __name__ == "__main__":
    train(ARGS)
