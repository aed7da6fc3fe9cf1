"""What the vision tower should see: labels for every patch of every view of a scene.

What crosses: a scene and its grid -> integer arrays [V, 64]. A patch is labelled twice: by what covers it
(`cover`), and, in the global view only, by what its cell of the 3x3 grid holds (`cell`, at the nine anchor
patches). Class 0 is "nothing". This file refuses to know about models; it knows the patch layout: 8x8 patches
of 28 pixels a 224-pixel view.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from xverse_v.nano.world import COLOURS, SHAPES, Scene, outline

Rectangle = tuple[float, float, float, float]  # left, top, right, bottom in pixels of the image

SIDE = 8
PATCHES = SIDE * SIDE
# Rows (and columns) of the patches that hold the middles of the three cells: 37, 112 and 187 of 224 pixels.
ANCHORS = (1, 4, 6)
ANCHOR_PATCHES = tuple(row * SIDE + column for row in ANCHORS for column in ANCHORS)
_FINE = 56


@dataclass(frozen=True)
class PatchLabels:
    """Arrays int64[V, 64]: class of shape (0 nothing, 1.. SHAPES) and of colour (0 nothing, 1.. COLOURS)."""

    cover_shape: np.ndarray
    cover_colour: np.ndarray
    cell_shape: np.ndarray
    cell_colour: np.ndarray


def _cover(scene: Scene, left: float, top: float, width: float, height: float) -> np.ndarray:
    """int64[64]: 1 + index of the object that covers most of a patch, 0 where less than a fifth is covered."""
    canvas = Image.new("L", (_FINE, _FINE), 0)
    pen = ImageDraw.Draw(canvas)
    for index, thing in enumerate(scene.things):
        corners = [((x - left) * _FINE / width, (y - top) * _FINE / height) for x, y in outline(thing)]
        pen.polygon(corners, fill=index + 1)
    cells = np.asarray(canvas).reshape(SIDE, 7, SIDE, 7).transpose(0, 2, 1, 3).reshape(PATCHES, 49)
    counts = np.stack([(cells == index).sum(1) for index in range(len(scene.things) + 1)], 1)
    counts[:, 0] = 10
    winner: np.ndarray = counts.argmax(1)
    return winner


def label_views(scene: Scene, boxes: list[Rectangle]) -> PatchLabels:
    """`boxes`: source rectangle of every view, the global view first."""
    shape = np.array([0] + [1 + SHAPES.index(thing.shape) for thing in scene.things])
    colour = np.array([0] + [1 + COLOURS.index(thing.colour) for thing in scene.things])
    cover = np.stack([_cover(scene, left, top, right - left, bottom - top) for left, top, right, bottom in boxes])
    cell = np.zeros((len(boxes), PATCHES), dtype=np.int64)
    for index, thing in enumerate(scene.things):
        cell[0, ANCHORS[thing.row] * SIDE + ANCHORS[thing.column]] = index + 1
    return PatchLabels(shape[cover], colour[cover], shape[cell], colour[cell])
