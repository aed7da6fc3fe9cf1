"""The run folder at the start of a run: what may be there, what is written first, where a resumed run goes on.

What crosses: a resolved configuration in; the step to go on from out, or an error. A run is only continued with the
settings that decide its numbers; which devices compute it and who is told may change.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping
from typing import Any

from xverse_v.errors import error

from .checkpoint import CHECKPOINTS, complete_steps, read_record
from .config import Resolved, TrainConfig
from .watchdog import HEARTBEATS

log = logging.getLogger(__name__)

SETTINGS_FILE = "run.yaml"

_FREE_DATA = ("workers", "prefetch", "on_bad_image", "packing", "pack_length", "micro_batch", "features")
_FREE = ("run", "distribution", "checkpoints", "logs", "validation", *(f"data.{name}" for name in _FREE_DATA))
"""Settings that a resumed run may change: they decide where and how a step is computed, not which step it is."""


def last_step(config: TrainConfig) -> int:
    """The newest complete checkpoint's step, 0 if there is none. Raises E259 if it belongs to a run with other
    settings, E260."""
    steps = complete_steps(config.run)
    if not steps:
        return 0
    record = read_record(config.run, steps[-1])
    changed = _differences(_flat(record.settings), _flat(config.model_dump(mode="json")))
    if changed:
        raise error("E259", run=config.run, step=steps[-1], count=len(changed), changes="; ".join(changed[:6]))
    return steps[-1]


def check_weights(config: TrainConfig, step: int, found: str) -> None:
    """Raises E270 if a run would go on from other base weights than it began with."""
    expected = read_record(config.run, step).weights_id
    if found != expected:
        raise error("E270", run=config.run, expected=expected, folder=config.model, found=found)


def check_run_folder(resolved: Resolved, first: int, *, resume: bool, leads: bool) -> None:
    """Refuse a folder that holds another run's work (E258); the leading rank writes the settings and clears old
    heartbeats."""
    run = resolved.config.run
    steps = complete_steps(run)
    if steps and not resume:
        raise error("E258", run=run, step=steps[-1])
    if not leads:
        return
    if resume and not first:
        log.info("nothing to resume in %s/%s: starting at step 1", run, CHECKPOINTS)
    run.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(run / HEARTBEATS, ignore_errors=True)
    (run / SETTINGS_FILE).write_text(resolved.as_yaml(), encoding="utf-8")


def _flat(value: Any, name: str = "") -> dict[str, Any]:
    items = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else None
    if not items:
        return {name: value}
    found: dict[str, Any] = {}
    for key, child in items:
        found |= _flat(child, f"{name}.{key}" if name else str(key))
    return found


def _differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    keys = [key for key in {**old, **new} if not any(key == free or key.startswith(f"{free}.") for free in _FREE)]
    absent = "-"
    return [
        f"{key}: {old.get(key, absent)} -> {new.get(key, absent)}"
        for key in keys
        if old.get(key, absent) != new.get(key, absent)
    ]
