"""Facts about settings: what each one is today, and that a new one cannot be forgotten."""

from __future__ import annotations

from dataclasses import dataclass, fields

import pytest

from cory.config import SETTINGS, THEMES, CORYConfig
from cory.config.fields import (
    ABOVE_ZERO_TO_ONE,
    AGENTS,
    BELOW_ONE,
    COUNT,
    FRACTION,
    NAME,
    NON_NEGATIVE,
    NOT_EMPTY,
    POSITIVE,
    SECONDS,
    SEED,
    SIGNED,
    TEMPERATURE,
    TOP_K,
    Facts,
    Placeholders,
    facts_of,
    setting,
)

RANGES = {
    None: "any",
    NOT_EMPTY: "not_empty",
    ABOVE_ZERO_TO_ONE: "above_zero",
    AGENTS: "agents",
    BELOW_ONE: "below_one",
    COUNT: "count",
    FRACTION: "fraction",
    NAME: "name",
    NON_NEGATIVE: "non_negative",
    POSITIVE: "positive",
    SECONDS: "seconds",
    SEED: "seed",
    SIGNED: "signed",
    TEMPERATURE: "temperature",
    TOP_K: "top_k",
}

TABLE = """
task                              name          result  -       -    task
dataset_name                      name          result  -       -    task
dataset_config                    name          result  -       -    task
dataset_train_split               name          result  -       -    task
dataset_test_split                name          result  -       -    task
prompt_column                     any           result  -       -    task
reward_funcs                      name          result  -       -    task
reward_weights                    signed        result  -       -    task
reward_model_name_or_path         name          result  -       -    task
query_template                    placeholders  result  -       -    task
observer_template                 placeholders  result  -       -    task
reference_template                placeholders  result  -       -    task
max_completion_length             count         result  -       -    task
min_completion_length             count         result  -       -    task
chat_template_kwargs              any           result  -       -    answers
stop_strings                      not_empty     result  -       -    answers
mask_truncated_completions        any           result  -       arm  answers
model_name_or_path                name          result  -       -    model
dtype                             any           result  -       -    model
attn_implementation               any           result  -       -    model
trust_remote_code                 any           result  -       -    model
use_peft                          any           result  -       -    model
lora_r                            count         result  -       -    model
lora_alpha                        count         result  -       -    model
lora_target_modules               any           result  -       -    model
load_in_4bit                      any           result  -       -    model
num_agents                        agents        result  -       arm  team
role_exchange_period              positive      result  -       arm  team
knowledge_transfer                any           result  -       arm  team
partner_reward_weight             signed        result  -       arm  team
reset_on_exchange                 any           result  -       arm  team
advantage_estimator               any           result  -       arm  algorithm
num_generations                   count         result  -       arm  algorithm
num_ppo_epochs                    count         result  -       -    algorithm
num_mini_batches                  count         result  -       -    algorithm
gamma                             fraction      result  -       -    algorithm
lam                               fraction      result  -       arm  algorithm
cliprange                         positive      result  -       arm  algorithm
cliprange_value                   positive      result  -       arm  algorithm
vf_coef                           non_negative  result  -       arm  algorithm
whiten_advantages                 any           result  -       arm  algorithm
kl_coef                           non_negative  result  -       -    algorithm
kl_estimator                      any           result  -       arm  algorithm
kl_placement                      any           result  -       arm  algorithm
kl_controller                     any           result  -       -    algorithm
kl_target                         positive      result  -       -    algorithm
kl_horizon                        positive      result  -       -    algorithm
target_kl                         positive      result  -       arm  algorithm
normalize_rewards                 any           result  -       -    algorithm
score_clip                        positive      result  -       -    algorithm
elastic_reset_period              positive      result  -       arm  algorithm
elastic_reset_decay               fraction      result  -       arm  algorithm
loss_type                         any           result  -       arm  loss
cliprange_high                    positive      result  -       arm  loss
scale_rewards                     any           result  -       arm  loss
importance_sampling_level         any           result  -       arm  loss
entropy_coef                      non_negative  result  -       arm  loss
use_bias_correction_kl            any           result  -       arm  loss
top_p                             above_zero    result  -       -    sampling
top_k                             top_k         result  -       -    sampling
min_p                             below_one     result  -       -    sampling
output_dir                        name          -       resume  -    run
seed                              seed          result  -       -    run
max_steps                         positive      result  resume  -    run
batch_size                        count         result  -       arm  run
per_device_train_batch_size       positive      result  resume  -    run
per_device_eval_batch_size        positive      result  resume  -    run
temperature                       temperature   result  -       -    run
recompute_logprobs                any           result  -       -    run
learning_rate                     non_negative  result  -       -    run
lr_scheduler_type                 any           result  -       -    run
lr_scheduler_kwargs               any           result  -       -    run
warmup_steps                      non_negative  result  -       -    run
weight_decay                      non_negative  result  -       -    run
adam_beta1                        below_one     result  -       -    run
adam_beta2                        below_one     result  -       -    run
adam_epsilon                      positive      result  -       -    run
max_grad_norm                     non_negative  result  -       -    run
bf16                              any           result  -       -    run
gradient_checkpointing            any           result  -       -    run
use_cpu                           any           result  resume  -    run
logging_steps                     positive      -       resume  -    run
log_samples_steps                 positive      -       resume  -    run
eval_steps                        positive      result  resume  -    run
num_eval_queries                  positive      result  resume  -    run
num_eval_samples                  count         result  resume  -    run
save_steps                        positive      -       resume  -    run
save_total_limit                  positive      -       resume  -    run
metric_for_best_model             any           -       resume  -    run
greater_is_better                 any           -       resume  -    run
resume                            any           -       resume  -    run
report_to                         any           -       resume  -    watching
project                           any           -       resume  -    watching
run_name                          any           -       resume  -    watching
push_to_hub                       any           -       resume  -    watching
hub_model_id                      name          -       resume  -    watching
hub_private_repo                  any           -       resume  -    watching
quiet                             any           -       resume  -    watching
log_level                         any           -       resume  -    watching
vllm_server_base_url              any           result  resume  -    server
vllm_server_timeout               seconds       -       resume  -    server
vllm_adapter_dir                  name          -       resume  -    server
vllm_importance_sampling_clip_max positive      result  -       -    server
shard_weights                     any           -       resume  -    processes
ddp_timeout                       seconds       -       resume  -    processes
weight_average_decay              fraction      result  -       arm  extensions
evaluate_merged                   any           result  resume  arm  extensions
merge_on_exchange                 fraction      result  -       arm  extensions
transfer_back_weight              non_negative  result  -       arm  extensions
transfer_min_lift                 signed        result  -       arm  extensions
partner_samples_weight            non_negative  result  -       arm  extensions
reward_timeout                    seconds       result  resume  -    faults
max_reward_failures               non_negative  result  resume  -    faults
collapse_alarms                   any           -       resume  -    faults
"""
"""By setting: its range; `result` if it affects the result; `resume` if a resumed run may change
it; `arm` if an arm of a comparison may change it; its theme."""


def described(name: str, facts: Facts, theme: str) -> str:
    """A line of the table."""
    is_template = isinstance(facts.range, Placeholders)
    words = (
        name,
        "placeholders" if is_template else RANGES[facts.range],
        "result" if facts.affects_result else "-",
        "resume" if facts.resume_may_change else "-",
        "arm" if facts.arm_may_change else "-",
        theme,
    )
    return " ".join(words)


def test_every_setting_has_the_facts_of_the_table() -> None:
    """Prevents a fact from changing unseen: an identity, a fairness or a resume that shifts."""
    today = {
        described(field.name, SETTINGS[field.name], theme)
        for theme, part in THEMES.items()
        for field in fields(part)
    }
    assert today == {" ".join(line.split()) for line in TABLE.strip().splitlines()}


def test_every_setting_belongs_to_one_theme() -> None:
    """Prevents an option that no help lists, or one that two themes list."""
    names = [field.name for theme in THEMES.values() for field in fields(theme)]
    assert names == [field.name for field in fields(CORYConfig)] == list(SETTINGS)


def test_a_field_without_facts_has_the_strictest() -> None:
    """Prevents a new setting from being left out of an experiment's identity by mistake."""

    @dataclass
    class Newer:
        plain: int = 3
        declared: int = setting(3)

    for field in fields(Newer):
        facts = facts_of(field)
        assert facts.affects_result
        assert not facts.arm_may_change
        assert not facts.resume_may_change


def test_what_changes_no_result_may_be_changed_on_resume() -> None:
    """Prevents a run that another experiment takes for its own but that cannot be continued."""

    @dataclass
    class Example:
        told: int = setting(3, affects_result=False)

    assert facts_of(fields(Example)[0]).resume_may_change


def test_what_a_run_directory_does_not_decide() -> None:
    """Prevents a stranger's run from running its code, or from needing its dead server."""
    not_read = {name for name, facts in SETTINGS.items() if not facts.read_from_run}
    assert not_read == {"trust_remote_code", "vllm_server_base_url"}


@pytest.mark.parametrize("facts", SETTINGS.values(), ids=SETTINGS)
def test_every_range_says_its_rule(facts: Facts) -> None:
    """Prevents a refusal, or a page of the reference, without words."""
    assert facts.range is None or facts.range.rule.startswith("must ")
