"""The two halves after a few steps, and the model folder that joins them: enough for all that comes after."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from xverse_v.nano.folder import write_start
from xverse_v.nano.tower import train_tower
from xverse_v.nano.words import train_words

TOWER: dict[str, Any] = {"cycles": (4, 2), "scored": 1, "warmup": 1, "fall": 0.3}
WORDS: dict[str, Any] = {"cycles": (4,), "scored": 16, "warmup": 1, "fall": 0.3}


@pytest.fixture(scope="session")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`tower` and `words`, trained without a stop."""
    folder = tmp_path_factory.mktemp("parts")
    train_tower(folder / "tower", every=99, **TOWER)
    train_words(folder / "words", every=99, **WORDS)
    return folder


@pytest.fixture(scope="session")
def start(parts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that stage 1 starts from."""
    folder = tmp_path_factory.mktemp("models") / "start"
    write_start(parts / "tower", parts / "words", folder, seed=3)
    return folder
