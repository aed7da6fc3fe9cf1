"""What a run measures, in one document, and on what it was made, in another.

The first decides which predictions belong together: a run that is started again must describe itself the same. Nothing
in it depends on the machine, the batch size or the number of processes. The second is only recorded.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from xverse_v import __version__
from xverse_v.errors import error

from .contract import SURROUNDINGS, Model
from .digests import digest, file_digest, read_json
from .plan import Task

FORMAT = 1
_COUNTED = ("torch", "transformers", "tokenizers", "pillow")


def describe_run(task: Task, model: Model) -> dict[str, Any]:
    """What was measured. Nothing in it depends on the machine, the batch size or the number of processes."""
    return {
        "format": FORMAT,
        "benchmark": task.benchmark.name,
        "custom": task.custom,
        "profile": task.profile,
        "data": task.data.as_dict(),
        "limit": task.limit,
        "max_new_tokens": task.max_new_tokens,
        "model": {
            "name": model.name,
            "facts": {name: value for name, value in model.facts.items() if name not in SURROUNDINGS},
        },
    }


def settings_digest(document: Mapping[str, Any]) -> str:
    """12 hex digits over run.json without its limit."""
    return digest({name: value for name, value in document.items() if name != "limit"})[:12]


def refuse_other(path: Path, document: dict[str, Any]) -> None:
    """Raises E720 if the run described at `path` is another one, naming what differs."""
    before = read_json(path)
    if settings_digest(before) == settings_digest(document):
        return
    old, new = dict(flat(before)), dict(flat(document))
    names = sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name) and name != "limit")
    shown = "; ".join(f"{name} {old.get(name)!r} there, {new.get(name)!r} now" for name in names)
    raise error("E720", path=path, got=shown or settings_digest(before), expected=settings_digest(document))


def flat(document: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted names and values."""
    for name, value in document.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def machine(processes: int) -> dict[str, Any]:
    """Where a run was made: versions, code, system. Recorded, never part of the hash."""
    return {
        "xverse_v": __version__,
        "code": code_digest(),
        "python": platform.python_version(),
        "system": platform.platform(),
        "versions": {name: version(name) for name in _COUNTED},
        "processes": processes,
        "omp_num_threads": os.environ.get("OMP_NUM_THREADS", ""),
    }


def code_digest() -> str:
    """12 hex digits over the sources of this room: prompts and rules of scoring."""
    room = Path(__file__).parent
    return digest({str(path.relative_to(room)): file_digest(path) for path in sorted(room.rglob("*.py"))})[:12]
