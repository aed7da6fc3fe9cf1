"""Loading a folder against its disk: seconds beside the time a plain read of the same files takes, and peak memory.

In: a model folder. Out: `Record`s. Cold means that the system was asked to forget the files first; loading is timed
until every page of every weight has been there once, because a mapped file is otherwise "loaded" before anything is
read. The floor of a cold run is the plain read of this disk, of a warm one the plain read from the page cache; both
measured in the same minute. Each run, plain reads too, is a process of its own (`loading_probe`) that starts to read
equally long after the files were forgotten: a virtual machine gives memory it does not use back to its host within
seconds, and pages that it has to ask for again come three times as slowly. Nothing is written.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

from xverse_v.errors import error
from xverse_v.speed.peers import OURS
from xverse_v.speed.records import Goal, Record, number
from xverse_v.weights.parts import weight_files

BLOCK = 2**23
PLAIN = "plain"


def measure_loading(folder: Path, *, dtype: str = "auto", repeats: int = 3) -> list[Record]:
    """Rows for cold and warm loading and for the peak of memory. Raises E816 when the loading process fails."""
    files = weight_files(folder)
    size = sum(path.stat().st_size for path in files)
    settings = {"folder": folder.name, "GB": number(size / 1e9), "dtype": dtype}
    records, found = [], {}
    for state in ("cold", "warm"):
        cold = state == "cold"
        reading, runs = [], []
        for turn in range(2 * repeats):  # in turns, each as often first: disks may slow down with use
            if cold:
                forget(files)
            if turn % 4 in (0, 3):
                reading.append(in_process(folder, PLAIN)["read_seconds"])
            else:
                runs.append(in_process(folder, dtype))
        found[state] = runs
        shown, floor = {**settings, "page cache": state}, median(reading)
        plain = Record("plain read of the files", "the disk", "s", tuple(reading), shown)
        walls = tuple(run["read_seconds"] for run in runs)
        bound = f"{size / floor / 1e9:.2f} GB/s, plain read"
        loaded = Record("loading, every page read", OURS, "s", walls, shown, floor, bound)
        ready = tuple(run["load_seconds"] for run in runs)
        records += [plain, loaded, Record("loading, ready to ask", OURS, "s", ready, shown, note="pages not read yet")]
    every = [run for runs in found.values() for run in runs]
    shares = tuple(run["peak_bytes"] / run["weights_bytes"] for run in every)
    note = f"weights in memory {number(every[0]['weights_bytes'] / 1e9)} GB"
    return [*records, Record("peak memory", OURS, "x weights", shares, settings, 1.0, "the weights", note=note)]


def in_process(folder: Path, how: str) -> dict[str, Any]:
    """One run of `loading_probe`: a dtype to load in, or `PLAIN`. Raises E816."""
    command = [sys.executable, "-m", "xverse_v.speed.loading_probe", str(folder), how]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise error("E816", what="loading", status=done.returncode, problem=failure_line(done.stderr), folder=folder)
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def failure_line(said: str) -> str:
    """Of what a process said before it failed, the line with one of our codes, or else the last one."""
    lines = said.strip().splitlines() or ["-"]
    return next((line for line in reversed(lines) if re.search(r"\bE\d{3}\b", line)), lines[-1])


def read_seconds(files: list[Path]) -> float:
    """A plain read of all files from start to end, in blocks of 8 MiB."""
    buffer, began = bytearray(BLOCK), time.perf_counter()
    for path in files:
        with path.open("rb", buffering=0) as file:
            while file.readinto(buffer):
                pass
    return time.perf_counter() - began


def forget(files: list[Path]) -> None:
    """Ask the system to drop the files from its page cache; where it cannot be asked, nothing happens."""
    if not hasattr(os, "posix_fadvise"):
        return
    for path in files:
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def goals(records: list[Record]) -> list[Goal]:
    """Memory, and the disk's own speed."""
    peak = next(r for r in records if r.what == "peak memory")
    most = max(peak.samples)
    wanted = [Goal("loading: peak memory", "at most 1.05 x the weights", f"{most:.3f} x", most <= 1.05)]
    cold = [r for r in records if r.what == "loading, every page read" and r.settings["page cache"] == "cold"]
    for record in cold:
        share = record.percent or 0.0
        wanted.append(Goal("loading: of the disk's speed, cold", "at least 90 %", f"{share:.0f} %", share >= 90))
    return wanted
