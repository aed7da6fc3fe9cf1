from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.weights.tiny_parts import Parts, copied_parts, golden_parts


@pytest.fixture
def parts(tmp_path: Path) -> Parts:
    """Three parts that the test may change."""
    return copied_parts(tmp_path)


@pytest.fixture(scope="session")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The recordings' parts, merged, float32. Shared: read only."""
    out = tmp_path_factory.mktemp("converted") / "model"
    golden_parts().convert(out)
    return out


@pytest.fixture(scope="session")
def unmerged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with LoRA kept as a peft adapter. Shared: read only."""
    out = tmp_path_factory.mktemp("unmerged") / "model"
    golden_parts().convert(out, keep_lora=True)
    return out


@pytest.fixture
def folder(converted: Path, tmp_path: Path) -> Path:
    """A copy of `converted` that the test may break."""
    return Path(shutil.copytree(converted, tmp_path / "model"))


@pytest.fixture
def copy_of(tmp_path: Path) -> Callable[[Path], Path]:
    return lambda source: Path(shutil.copytree(source, tmp_path / "copy"))
