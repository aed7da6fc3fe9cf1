"""Views that are slow to draw, drawn once: charts, boards of tags and sheets of them, with labels, in one file a kind.

What crosses: `fill(folder)` writes the files of `KINDS` where they are missing; `Pool` reads them. The seeds are
those of the tower's split. Drawing these anew for every step would take as long as learning from them.
"""

from __future__ import annotations

import logging
import os
import random
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from xverse_v.nano.charts import make_chart
from xverse_v.nano.concepts import Picture
from xverse_v.nano.detail import make_board, make_sheet
from xverse_v.nano.labels import LabelledViews, joined, labelled_views
from xverse_v.nano.views import picture_meanings
from xverse_v.nano.world import split_seed

log = logging.getLogger(__name__)
CHARTS, BOARDS, SHEETS = 4000, 2500, 1000
TILES_A_BOARD = 3
CHUNK = 100


def _some_views(picture: Picture, seed: int, tiles: int) -> LabelledViews:
    """The global view and up to `tiles` tiles, those that hold something first."""
    rng = random.Random(seed)
    count, meanings = picture_meanings(picture)
    order = list(range(1, count))
    rng.shuffle(order)
    order.sort(key=lambda view: not any(held == view for held, _ in meanings))
    return labelled_views(picture, [0, *order[:tiles]])


def _charts(start: int) -> LabelledViews:
    seeds = [split_seed("tower", index) for index in range(start, start + CHUNK)]
    # A tile of a chart now and then, so that the tower learns that it means nothing.
    return joined([_some_views(make_chart(seed), seed, int(seed % 8 == 0)) for seed in seeds])


def _boards(start: int) -> LabelledViews:
    seeds = [split_seed("tower", index) for index in range(start, start + CHUNK)]
    return joined([_some_views(make_board(seed), seed, TILES_A_BOARD) for seed in seeds])


def _sheets(start: int) -> LabelledViews:
    seeds = [split_seed("tower", index) for index in range(start, start + CHUNK)]
    return joined([labelled_views(make_sheet(seed), [1, 2, 3, 4]) for seed in seeds])


KINDS: dict[str, tuple[Callable[[int], LabelledViews], int]] = {
    "charts": (_charts, CHARTS),
    "boards": (_boards, BOARDS),
    "sheets": (_sheets, SHEETS),
}


def fill(folder: Path, *, share: float = 1.0, workers: int = 2) -> None:
    """Draws what is missing, `share` of the full number, in `workers` processes."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, (make, count) in KINDS.items():
        path = folder / f"{name}.npz"
        if path.exists():
            continue
        starts = range(0, max(CHUNK, round(count * share)), CHUNK)
        with get_context("spawn").Pool(workers) as crew:
            found = joined(crew.map(make, starts, chunksize=1))
        fields = {name: getattr(found, name) for name in ("views", "cover", "whole")}
        partial = path.with_suffix(".partial.npz")
        np.savez(partial, labels=found.labels.astype(np.int8), **fields)
        os.replace(partial, path)
        log.info("drew %d views of %s", len(found.whole), name)


@dataclass(frozen=True)
class Pool:
    """The views of one kind."""

    found: LabelledViews

    @staticmethod
    def read(folder: Path, name: str) -> Pool:
        """What `fill` wrote."""
        with np.load(folder / f"{name}.npz") as held:
            found = LabelledViews(held["views"], held["labels"].astype(np.int64), held["cover"], held["whole"])
        return Pool(found)

    def take(self, rng: random.Random, count: int) -> LabelledViews:
        """`count` views at random."""
        at = np.array([rng.randrange(len(self.found.whole)) for _ in range(count)])
        held = self.found
        return LabelledViews(held.views[at], held.labels[at], held.cover[at], held.whole[at])
