"""What the command line asks of the libraries below it."""

from __future__ import annotations

import os


def quieten() -> None:
    """Keep progress bars of loading and mapping off the screen; downloads still show theirs."""
    # Read at import, by tokenizers that are forked with a data loader.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    import datasets
    import transformers

    datasets.disable_progress_bars()
    transformers.utils.logging.disable_progress_bar()
