"""The scores of run folders, each with what a reader must know before comparing it.

What crosses: work folders in, `Measured` out. Reads run.json and scores.json; computes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xverse_v.errors import error

from ..bundle import BUNDLE, RunFolder
from ..contract import Score
from ..digests import read_json
from ..scored import SCORES


@dataclass(frozen=True)
class Measured:
    """One benchmark of one model under one profile, the headline score first.

    ``incomplete`` says, in words, what keeps the number from being that of the whole published data set; such a number
    is shown but never compared. ``model`` is the name, ``weights`` what sets two models of one name apart.
    """

    model: str
    weights: str
    benchmark: str
    profile: str
    scores: tuple[Score, ...]
    counts: Mapping[str, int]
    judge: str
    incomplete: tuple[str, ...]
    bundle: str
    folder: Path

    @property
    def headline(self) -> Score:
        return self.scores[0]


def read_work_dirs(work_dirs: Iterable[Path]) -> list[Measured]:
    """All scored runs in or below the folders, in the order of their paths. Raises E724 for a folder without runs,
    E775 if none of them is scored, E776 for scores that cannot be read."""
    folders = list(work_dirs)
    found = [_measured(run) for run in RunFolder.below(folders) if (run.path / SCORES).exists()]
    if not found:
        raise error("E775", folder=folders[0])
    return found


def unscored(work_dirs: Iterable[Path]) -> list[Path]:
    """Runs that are there and have no scores yet: a report that leaves them out says so."""
    return [run.path for run in RunFolder.below(list(work_dirs)) if not (run.path / SCORES).exists()]


def _measured(run: RunFolder) -> Measured:
    path = run.path / SCORES
    document, settings = read_json(path), run.document()
    try:
        scores = tuple(Score(**score) for score in document["scores"])
        if not scores:
            raise ValueError("the list is empty")
        facts = settings["model"]["facts"]
        return Measured(
            model=str(document["model"]),
            weights=str(facts.get("weights_id") or facts.get("base_url") or ""),
            benchmark=str(document["benchmark"]),
            profile=str(document["profile"]),
            scores=scores,
            counts={name: int(count) for name, count in document["counts"].items()},
            judge=str(document["judge"] or ""),
            incomplete=(*_unfinished(run, document), *_incomplete(document, settings, scores[0])),
            bundle=str(document["bundle"]),
            folder=run.path,
        )
    except (KeyError, TypeError, ValueError, AttributeError) as reason:
        raise error("E776", path=path, problem=f"{type(reason).__name__} {reason}") from reason


def _unfinished(run: RunFolder, document: Mapping[str, Any]) -> Iterable[str]:
    """A run that was gone on with since it was scored has other answers than its scores."""
    if not run.finished:
        yield "the run is not finished: these scores are of an earlier state"
    elif read_json(run.path / BUNDLE)["bundle"] != document["bundle"]:
        yield "the run was gone on with after it was scored"


def _incomplete(document: Mapping[str, Any], settings: Mapping[str, Any], headline: Score) -> Iterable[str]:
    counts, data = document["counts"], settings["data"]
    if counts["beyond_limit"]:
        yield "limited on purpose: not all rows were asked"
    if headline.skipped:
        yield "some rows could not be asked or answered"
    if data["known_md5"] and data["md5"] != data["known_md5"]:
        yield "the data file is not the published one, its md5 is another"
