"""From the names a user types to benchmarks with their data: ours by name, a path of one's own, NAME=PATH for both.

    MMBench_DEV_EN           ours, its file in the data root
    GQA=testdev.json         ours, its data at a path (an official file, or a folder of them)
    mine, mine.tsv           a TSV of one's own: in the data root, or at a path

The file knows no rules of any benchmark; `find_for` is how a run folder gets its benchmark back for scoring.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from . import benchmarks
from .contract import Benchmark, Profile
from .custom import Kind, custom_benchmark, kind_of
from .data_files import data_root, describe, find_data
from .plan import Task


def tasks_of(
    names: Iterable[str],
    profile: Profile,
    *,
    root: Path | None = None,
    strict_md5: bool = False,
    image_root: Path | None = None,
    limit: int | None = None,
    max_new_tokens: int | None = None,
) -> list[Task]:
    """One task a name. Every data file is looked for before the first is read. Raises E700 to E702, E727, E730."""
    found = []
    for name in names:
        benchmark, path, kind = _pick(name, root)
        found.append((benchmark, path or data_root(root) / benchmark.file, path is None, kind))
    tasks = []
    for benchmark, path, in_root, kind in found:
        if in_root:
            data = find_data(benchmark, root, strict_md5=strict_md5)
        else:
            known = benchmark.md5 if path.name == benchmark.file else ""
            data = describe(path, benchmark.name, known, strict_md5=strict_md5)
        tasks.append(Task(benchmark, data, profile, image_root, limit, max_new_tokens, kind))
    return tasks


def _pick(name: str, root: Path | None) -> tuple[Benchmark, Path | None, Kind | Literal[""]]:
    """Benchmark, its data's path where that was given, and the kind of a custom one."""
    known, _, given = name.partition("=")
    if known.lower() in {ours.lower() for ours in benchmarks.names()}:
        return benchmarks.find(known), Path(given).expanduser() if given else None, ""
    path = Path(given or known).expanduser()
    if path.suffix != ".tsv" or not path.is_file():
        path = data_root(root) / f"{known}.tsv"
    if not path.is_file():
        return benchmarks.find(known), None, ""  # raises, with the name that was meant
    kind = kind_of(path)
    return custom_benchmark(known if given else path.stem, kind, path.name), path, kind


def find_for(run: Mapping[str, Any]) -> Benchmark:
    """The benchmark that a run.json names. Raises E730 for one that this version does not have."""
    if kind := run.get("custom"):
        return custom_benchmark(run["benchmark"], "choice" if kind == "choice" else "answers", run["data"]["path"])
    return benchmarks.find(run["benchmark"])
