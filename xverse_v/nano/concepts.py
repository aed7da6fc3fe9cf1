"""What an image token of the built-in model can mean, and where in the views such meanings lie.

What crosses: `CONCEPTS`, the names that drawing, vision tower and decoder share ("colour red", "char1 7", "cell 0 2");
`Mark`, a place in an image with its meanings; `placed`, which finds the view and the patch of every mark. A view has
8x8 patches of 28 pixels. This file refuses to know how anything is drawn or asked.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from PIL import Image

SHAPES = ("circle", "square", "triangle", "star", "heart")
COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "black")
CELLS = 3
# Ten digits and the 22 letters that are not easily taken for one of them or for each other.
CHARACTERS = tuple("0123456789ABCDEFGHKLMNPRSTUVWXYZ")

SIDE = 8
PATCHES = SIDE * SIDE
# Rows (and columns) of the patches that hold the middles of the three cells: 37, 112 and 187 of 224 pixels.
ANCHORS = (1, 4, 6)
ANCHOR_PATCHES = tuple(row * SIDE + column for row in ANCHORS for column in ANCHORS)

# What the vision tower has to see in a patch: of each group at most one.
SEEN: dict[str, tuple[str, ...]] = {
    "kind": ("nothing", "shape", "digit", "tag", "bar", "slice", "line"),
    "shape": SHAPES,
    "colour": COLOURS,
    "size": ("small", "large"),
    "rank": ("largest", "smallest"),
    "char1": CHARACTERS,
    "char2": CHARACTERS,
    "char3": CHARACTERS,
}
# What follows from the place of a patch alone; "cell none" is every patch that means nothing.
PLACES: dict[str, tuple[str, ...]] = {
    "row": ("0", "1", "2"),
    "column": ("0", "1", "2"),
    "cell": (*(f"{row} {column}" for row in range(CELLS) for column in range(CELLS)), "none"),
}
CONCEPTS = tuple(f"{group} {name}" for group, names in (SEEN | PLACES).items() for name in names)
_INDEX = {name: index for index, name in enumerate(CONCEPTS)}

Rectangle = tuple[float, float, float, float]  # left, top, right, bottom in pixels of the image
Meanings = tuple[int, ...]


def concept(name: str) -> int:
    """Index of a concept in `CONCEPTS`."""
    return _INDEX[name]


NO_CELL: Meanings = (concept("cell none"),)


def cell_patch(row: int, column: int) -> int:
    """The patch of the global view that stands for a cell of the 3x3 grid."""
    return ANCHORS[row] * SIDE + ANCHORS[column]


def cell_meanings(row: int, column: int) -> tuple[str, str, str]:
    """The place concepts of a cell."""
    return f"row {row}", f"column {column}", f"cell {row} {column}"


def text_meanings(text: str) -> tuple[str, ...]:
    """Up to three characters as concepts: "37" -> "char1 3", "char2 7"."""
    return tuple(f"char{index} {character}" for index, character in enumerate(text, start=1))


@dataclass(frozen=True)
class Mark:
    """Concepts at one place: at `patch` of the global view, or, if that is -1, in the tile that holds pixel x, y."""

    meanings: tuple[str, ...]
    patch: int = -1
    x: float = 0.0
    y: float = 0.0


class Picture(Protocol):
    """What every kind of made image offers. Named after the paint, because `Image` is Pillow's."""

    @property
    def width(self) -> int: ...

    @property
    def height(self) -> int: ...

    def draw(self) -> Image.Image:
        """RGB, width x height."""

    def marks(self) -> list[Mark]:
        """Everything in it that can be asked about."""


def global_patch(x: float, y: float, width: int, height: int) -> int:
    """The patch of the global view that pixel x, y of the image falls into."""
    return int(y * SIDE / height) * SIDE + int(x * SIDE / width)


def placed(marks: Iterable[Mark], boxes: Sequence[Rectangle]) -> dict[tuple[int, int], Meanings]:
    """(view, patch) -> concepts. `boxes`: source rectangle of every view, the global view first."""
    found: dict[tuple[int, int], Meanings] = {}
    for mark in marks:
        meanings = tuple(concept(name) for name in mark.meanings)
        if mark.patch >= 0:
            found[0, mark.patch] = meanings
            continue
        for view, (left, top, right, bottom) in enumerate(boxes[1:], start=1):
            if left <= mark.x < right and top <= mark.y < bottom:
                row, column = int((mark.y - top) * SIDE / (bottom - top)), int((mark.x - left) * SIDE / (right - left))
                found[view, row * SIDE + column] = meanings
    return found
