"""The watchdog: a thread that notices when a run stands still and says which rank, where, and on which samples.

What crosses: the loop's position (step, phase, samples) in; heartbeat files in the run folder; a report out when
nothing has moved for too long. Each rank keeps its own file, so the report names the one that holds the others up,
even when the network does not answer. This file knows no tensors and no collectives.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from xverse_v.errors import XverseError, error

log = logging.getLogger(__name__)

HEARTBEATS = "heartbeats"
"""Folder of the heartbeats inside a run."""

Samples = Sequence[str] | Callable[[], Sequence[str]]

WAITING = ("count", "reduce", "update", "checkpoint")
"""Phases in which a rank may only be waiting for others; the one to name is in another."""


@dataclass(frozen=True)
class Beat:
    """Where a rank is. `seconds` is how long it has been there, by its own clock."""

    rank: int
    step: int
    phase: str
    samples: tuple[str, ...]
    seconds: float


def culprit(beats: Sequence[Beat]) -> Beat:
    """The rank that holds the others up: least advanced, and rather one that computes or reads than one that waits."""
    return min(beats, key=lambda beat: (beat.step, beat.phase in WAITING, -beat.seconds))


def read_beats(folder: Path) -> list[Beat]:
    """The heartbeats of all ranks; a file being replaced at this moment is left out."""
    beats = []
    for path in sorted(folder.glob("rank-*.json")):
        try:
            facts = json.loads(path.read_text(encoding="utf-8"))
            beats.append(Beat(**{**facts, "samples": tuple(facts["samples"])}))
        except (OSError, ValueError):
            continue
    return beats


def leave(problem: XverseError) -> None:
    """End the process at once: its main thread is inside a call that does not return. torchrun restarts the run."""
    log.critical("%s", problem)
    logging.shutdown()
    os._exit(problem.exit_code)


class Watchdog:
    """Use as a context around the loop; call `at` whenever the phase changes. `on_stall` is called once, in the
    thread."""

    def __init__(
        self, folder: Path, rank: int, seconds: float, *, on_stall: Callable[[XverseError], None] = leave
    ) -> None:
        self.folder = folder
        self.rank = rank
        self.seconds = seconds
        self.on_stall = on_stall
        self._place: tuple[int, str, Samples] = (0, "start", ())
        self._since = time.monotonic()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def at(self, step: int, phase: str, samples: Samples = ()) -> None:
        """This rank is now in `phase` of `step`, working on `samples`; a function that names them is called only for
        a heartbeat."""
        self._place = (step, phase, samples)
        self._since = time.monotonic()

    def __enter__(self) -> Watchdog:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._write()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._path.unlink(missing_ok=True)

    @property
    def _path(self) -> Path:
        return self.folder / f"rank-{self.rank:05d}.json"

    def _write(self) -> Beat:
        step, phase, samples = self._place
        named = tuple(samples() if callable(samples) else samples)
        beat = Beat(self.rank, step, phase, named, round(time.monotonic() - self._since, 3))
        partial = self._path.with_suffix(".partial")
        partial.write_text(json.dumps(asdict(beat), ensure_ascii=False), encoding="utf-8")
        partial.replace(self._path)
        return beat

    def _watch(self) -> None:
        while not self._stop.wait(min(5.0, self.seconds / 4)):
            own = self._write()
            if own.seconds >= self.seconds:
                self.on_stall(self._report(own))
                return

    def _report(self, own: Beat) -> XverseError:
        beats = read_beats(self.folder) or [own]
        late = culprit(beats)
        others = "; ".join(f"rank {b.rank}: step {b.step}, {b.phase}, {b.seconds:.0f} s" for b in beats)
        return error(
            "E268",
            rank=late.rank,
            step=late.step,
            phase=late.phase,
            samples=", ".join(late.samples) or "-",
            seconds=f"{late.seconds:.0f}",
            limit=f"{self.seconds:g}",
            ranks=others,
            seen_by=own.rank,
        )
