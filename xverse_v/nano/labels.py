"""What the vision tower should see: labels for every patch of every view.

What crosses: a picture -> some of its views with int64 labels [V, groups, 64], one class a group of `SEEN`, class 0 for
"none of it"; for scenes also what covers a patch (`cover`), which teaches colours and shapes sooner. This file refuses
to know about models.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from xverse_v.nano.concepts import COLOURS, CONCEPTS, PATCHES, SEEN, SHAPES, SIDE, Meanings, Picture, Rectangle
from xverse_v.nano.views import picture_boxes, picture_meanings, picture_views
from xverse_v.nano.world import Scene, outline

GROUPS = tuple(SEEN)
# concept -> (group, class)
_CLASS = {
    CONCEPTS.index(f"{group} {name}"): (at, place)
    for at, (group, names) in enumerate(SEEN.items())
    for place, name in enumerate(names, start=1)
}
_FINE = 56
UNKNOWN = -100


@dataclass(frozen=True)
class LabelledViews:
    """`views` uint8[V, 224, 224, 3]; `labels` int64[V, groups, 64]; `cover` int64[V, 2, 64]: shape and colour that
    cover a patch, 0 nothing, -100 unknown; `whole` bool[V]: is it a global view."""

    views: np.ndarray
    labels: np.ndarray
    cover: np.ndarray
    whole: np.ndarray


def patch_labels(meanings: dict[tuple[int, int], Meanings], views: int) -> np.ndarray:
    """int64[V, groups, 64] from (view, patch) -> concepts."""
    labels = np.zeros((views, len(GROUPS), PATCHES), dtype=np.int64)
    for (view, patch), names in meanings.items():
        for name in names:
            if name in _CLASS:
                group, place = _CLASS[name]
                labels[view, group, patch] = place
    return labels


def _cover(scene: Scene, box: Rectangle) -> np.ndarray:
    """int64[2, 64]: shape and colour of the object that covers most of a patch, 0 where less than a fifth is
    covered."""
    left, top, right, bottom = box
    canvas = Image.new("L", (_FINE, _FINE), 0)
    pen = ImageDraw.Draw(canvas)
    for index, thing in enumerate(scene.things):
        corners = [((x - left) * _FINE / (right - left), (y - top) * _FINE / (bottom - top)) for x, y in outline(thing)]
        pen.polygon(corners, fill=index + 1)
    cells = np.asarray(canvas).reshape(SIDE, 7, SIDE, 7).transpose(0, 2, 1, 3).reshape(PATCHES, 49)
    counts = np.stack([(cells == index).sum(1) for index in range(len(scene.things) + 1)], 1)
    counts[:, 0] = 10
    winner = counts.argmax(1)
    shape = np.array([0] + [1 + SHAPES.index(thing.shape) for thing in scene.things])
    colour = np.array([0] + [1 + COLOURS.index(thing.colour) for thing in scene.things])
    return np.stack([shape[winner], colour[winner]])


def labelled_views(picture: Picture, keep: list[int] | None = None) -> LabelledViews:
    """The views numbered `keep`, all by default."""
    count, meanings = picture_meanings(picture)
    keep = list(range(count)) if keep is None else keep
    boxes = picture_boxes(picture)
    drawn = picture_views(picture)
    cover = np.full((len(keep), 2, PATCHES), UNKNOWN, dtype=np.int64)
    if isinstance(picture, Scene):
        cover = np.stack([_cover(picture, boxes[view]) for view in keep])
    views = np.stack([np.asarray(drawn[view]) for view in keep])
    return LabelledViews(views, patch_labels(meanings, count)[keep], cover, np.array([view == 0 for view in keep]))


def joined(parts: list[LabelledViews]) -> LabelledViews:
    """Several as one."""
    names = ("views", "labels", "cover", "whole")
    return LabelledViews(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))
