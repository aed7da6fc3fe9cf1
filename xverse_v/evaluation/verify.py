"""Does a bundle hold what it says? Its files against their hashes, its scores made again from its predictions.

Needs nothing but the folder: no data file, no model, no judge (recorded replies are read again), no network. What
differs is a problem in words; another version of the scoring code is a note, because the numbers are compared anyway.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from xverse_v.errors import XverseError

from .bundle import BUNDLE, HASHED, RunFolder
from .contract import Benchmark
from .digests import canonical, file_digest, read_json
from .scored import SCORES, compute, read_scored, recorded_judge

_TOLERATED = 1e-9  # between two machines' sums of the same verdicts


@dataclass
class Verified:
    """What was found. `scores` counts the numbers that were made again and agree."""

    folder: RunFolder
    bundle: str = ""
    rows: int = 0
    scores: int = 0
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        return not self.problems


def verify(folder: RunFolder, find: Callable[[dict[str, Any]], Benchmark]) -> Verified:
    """Check one bundle. `find` gives the benchmark that run.json names. What is wrong is never raised."""
    found = Verified(folder)
    try:
        if not folder.finished:
            found.problems.append("the run is not finished: there is no bundle.json")
            return found
        _check_files(folder, found)
        if (folder.path / SCORES).exists():
            _check_scores(folder, find(folder.document()), found)
        else:
            found.notes.append("the run was never scored; only its files were checked")
    except XverseError as problem:
        found.problems.append(f"{problem.code} {problem.parts('en')['fact']}")
    return found


def _check_files(folder: RunFolder, found: Verified) -> None:
    document = read_json(folder.path / BUNDLE)
    found.bundle, found.rows = str(document.get("bundle", "")), int(document.get("rows", 0))
    for name in HASHED:
        path = folder.path / name
        if not path.exists():
            found.problems.append(f"{name} is missing")
        elif file_digest(path) != document.get("files", {}).get(name):
            found.problems.append(f"{name} was changed")
    if not found.problems and folder.hash() != found.bundle:
        found.problems.append("the bundle hash is not that of its files")


def _check_scores(folder: RunFolder, benchmark: Benchmark, found: Verified) -> None:
    before = read_scored(folder)
    if before.document["bundle"] != found.bundle:
        found.problems.append("the scores belong to another bundle")
    now = compute(folder, benchmark, recorded_judge(folder))
    if before.document["code"] != now.document["code"]:
        found.notes.append(f"scored by other code ({before.document['code']}, here {now.document['code']})")
    if before.document["counts"] != now.document["counts"]:
        found.problems.append("the counts of rows differ")
    changed = sum(one != other for one, other in zip(before.verdicts, now.verdicts, strict=False))
    changed += abs(len(before.verdicts) - len(now.verdicts))
    if changed:
        found.problems.append(f"{changed} of {len(now.verdicts)} verdicts differ")
    old = {(place, score.name): score for place, score in enumerate(before.scores)}
    new = {(place, score.name): score for place, score in enumerate(now.scores)}
    for place in sorted(old.keys() | new.keys()):
        if place not in old or place not in new:
            found.problems.append(f'the score "{place[1]}" is {"not made any more" if place in old else "missing"}')
        elif not _same(asdict(old[place]), asdict(new[place])):
            found.problems.append(f'"{place[1]}" is {old[place].value!r}, made again {new[place].value!r}')
        else:
            found.scores += 1


def _same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    numbers = ("value", "low", "high")
    close = all(abs(one[name] - other[name]) <= _TOLERATED * max(1.0, abs(one[name])) for name in numbers)
    rest = [{name: value for name, value in score.items() if name not in numbers} for score in (one, other)]
    return close and canonical(rest[0]) == canonical(rest[1])
