"""Comparisons with a name, as a YAML file would hold them; options change them."""

from __future__ import annotations

from typing import Any

PRESETS: dict[str, dict[str, Any]] = {
    "pocket": {
        "title": "The main arms at pocket scale",
        "task": "pocket-arithmetic",
        "arms": ["ppo", "ppo-2x", "cory", "cory-no-exchange", "team"],
        "base": {"num_eval_queries": 512},
    },
    "pocket-robustness": {
        "title": "Who collapses at which learning rate, without a KL penalty",
        "task": "pocket-reviews",
        "arms": ["ppo", "cory"],
        "kl_coefs": [0.0],
        "learning_rates": [3e-4, 1e-3, 3e-3],
    },
    "paper-imdb": {
        "title": "The paper's experiment on IMDB, every arm under the same settings",
        "task": "imdb",
        "arms": [
            "ppo",
            "ppo-2x",
            "cory",
            "cory-no-exchange",
            "cory-no-transfer",
            "reinforce",
            "elastic-reset",
        ],
    },
    "paper-gsm8k": {
        "title": "The paper's experiment on GSM8K, every arm at both learning rates",
        "task": "gsm8k",
        "arms": {
            "ppo": None,
            "ppo-2x": None,
            "cory": None,
            "elastic-reset": {"num_agents": 1, "elastic_reset_period": 40},
        },
        "learning_rates": [1e-5, 1e-4],
    },
}
"""All have the default seeds. The last two have the paper's tasks, schedules and number of seeds.
PPO and CORY run at the same rates, where the paper's PPO has a tenth of CORY's. Its sweep:
`--kl_coefs 1e-5,1e-4,1e-3,1e-2`."""
