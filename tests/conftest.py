"""What every test shares: one thread, no network, checked annotations, tiny models, real data."""

from __future__ import annotations

import atexit
import gc
import os
import random
import shutil
import tempfile
from pathlib import Path

# Libraries read these when they are imported, and so do the commands that tests start. A cache of
# its own keeps a worker from seeing, or leaving, anything in the user's.
CACHE_DIRECTORY = tempfile.mkdtemp(prefix="cory-tests-")
atexit.register(shutil.rmtree, CACHE_DIRECTORY, ignore_errors=True)
os.environ.update(
    HF_HOME=CACHE_DIRECTORY,
    HF_HUB_OFFLINE="1",
    MPLBACKEND="Agg",
    OMP_NUM_THREADS="1",
    TOKENIZERS_PARALLELISM="false",
)

import numpy as np
import pytest
import torch
from hypothesis import settings

from tests import annotations

# The models' own libraries are imported by the workers alone, which takes four seconds.
annotations.check_annotations("cory")
# The same examples on every machine, and no deadline that a busy one would miss.
settings.register_profile("cory", deadline=None, derandomize=True)
settings.load_profile("cory")

ROOT = Path(__file__).resolve().parents[1]
SHARED_DATA = ROOT.parent / "shared" / "data"


def pytest_collection_finish() -> None:
    """Leave the libraries out of each garbage collection, which takes a third of a second else."""
    gc.freeze()


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip tests marked `gpu` where there is none."""
    if item.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """Start each test from the same random state, whatever ran before it on this worker."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    annotations.calls.clear()


@pytest.fixture(scope="session")
def tiny_gpt2_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GPT-2 without pad token."""
    from tests.tiny_models import save_tiny_gpt2

    return save_tiny_gpt2(tmp_path_factory.mktemp("models") / "tiny-gpt2")


@pytest.fixture(scope="session")
def tiny_llama_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama whose tokenizer adds BOS, pads with EOS and has a chat template."""
    from tests.tiny_models import save_tiny_llama

    return save_tiny_llama(tmp_path_factory.mktemp("models") / "tiny-llama")


@pytest.fixture(scope="session")
def tiny_classifier_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A DistilBERT that labels texts NEGATIVE or POSITIVE."""
    from tests.tiny_models import save_tiny_classifier

    return save_tiny_classifier(tmp_path_factory.mktemp("models") / "tiny-classifier")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The directory of real data: `imdb/*.parquet` and `gsm8k/*.jsonl`, as published."""
    named = os.environ.get("CORY_TEST_DATA")
    if named is not None:
        assert Path(named).is_dir(), f"CORY_TEST_DATA={named!r} must be a directory, or unset"
        return Path(named)
    if not SHARED_DATA.is_dir():
        pytest.skip("no real data: set CORY_TEST_DATA, or put shared/data beside the checkout")
    return SHARED_DATA


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory that looks like the checkout, and keeps what is run out of it."""
    for name in ("examples",):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path
