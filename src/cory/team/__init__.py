"""The method: roles and prompts, the rollout of a team, the update of an agent, its evaluation."""
