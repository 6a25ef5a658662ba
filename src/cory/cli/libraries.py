"""What the command line asks of the libraries below it."""

from __future__ import annotations

import os
import warnings


def quieten() -> None:
    """Keep progress bars of loading and mapping off the screen; downloads still show theirs.

    Hidden, too, are warnings that libraries address to each other: a user can do nothing there.
    """
    # Read at import, by tokenizers that are forked with a data loader.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    # peft asks a transformers model by the old name of this property.
    warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
    import datasets
    import transformers

    datasets.disable_progress_bars()
    transformers.utils.logging.disable_progress_bar()
