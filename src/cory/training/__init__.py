"""One run: the training loop, its data, records, samples, checkpoints and callbacks."""
