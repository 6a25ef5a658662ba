"""Language models: loaded, split into policy and reference, and asked for log-probabilities."""
