"""The two halves after a few steps, and the model folder that joins them: enough for all that comes after."""

from __future__ import annotations

from multiprocessing.pool import ThreadPool
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from xverse_v.nano import pool
from xverse_v.nano.folder import write_start
from xverse_v.nano.tower import train_tower
from xverse_v.nano.words import train_words

TOWER: dict[str, Any] = {"cycles": (4, 2), "scored": 1, "warmup": 1, "fall": 0.3}
WORDS: dict[str, Any] = {"cycles": (4,), "scored": 16, "warmup": 1, "fall": 0.3}


@pytest.fixture(scope="session")
def pools(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The drawn views, four pictures a kind instead of thousands, drawn in this process."""
    folder = tmp_path_factory.mktemp("pools")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pool, "CHUNK", 4)
        patch.setattr(pool, "get_context", lambda kind: SimpleNamespace(Pool=ThreadPool))
        pool.fill(folder, share=1e-9, workers=1)
    return folder


@pytest.fixture(scope="session")
def parts(pools: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`tower` and `words`, trained without a stop."""
    folder = tmp_path_factory.mktemp("parts")
    train_tower(folder / "tower", pools, every=99, **TOWER)
    train_words(folder / "words", every=99, **WORDS)
    return folder


@pytest.fixture(scope="session")
def start(parts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that stage 1 starts from."""
    folder = tmp_path_factory.mktemp("models") / "start"
    write_start(parts / "tower", parts / "words", folder, seed=3)
    return folder
