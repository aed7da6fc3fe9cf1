"""Scenes of coloured shapes and handwritten digits, made from integer seeds, that know the truth about themselves.

What crosses: `make_scene(seed)` -> `Scene`, which draws itself and knows its marks. The same seed gives the same scene
and the same pixels. This file refuses to know about questions, words, models
and views. Places are the nine cells of a 3x3 grid over the image; a cell holds the centre of at most one
object.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, replace

from PIL import Image, ImageDraw

from xverse_v.nano.concepts import CELLS, COLOURS, SHAPES, Mark, cell_meanings, cell_patch
from xverse_v.nano.handwriting import Digit, make_digit, write

# Several RGB values a name, so that the words stand for ranges and not for one value each.
PAINTS: dict[str, tuple[tuple[int, int, int], ...]] = {
    "red": ((255, 0, 0), (220, 20, 60), (214, 39, 40), (200, 30, 30)),
    "orange": ((255, 165, 0), (255, 127, 14), (255, 140, 0)),
    "yellow": ((255, 255, 0), (250, 225, 30), (255, 235, 59)),
    "green": ((0, 128, 0), (0, 200, 0), (44, 160, 44), (0, 255, 0), (46, 204, 64)),
    "blue": ((0, 0, 255), (31, 119, 180), (30, 90, 220), (0, 116, 217)),
    "purple": ((128, 0, 128), (148, 60, 190), (142, 36, 170)),
    "pink": ((255, 105, 180), (255, 182, 198), (240, 98, 146)),
    "black": ((0, 0, 0), (30, 30, 30)),
}
CANVASES = ((224, 224), (448, 448), (672, 448), (448, 672), (640, 480), (1200, 900), (300, 200), (336, 448), (500, 500))
CANVAS_WEIGHTS = (60, 8, 7, 7, 4, 2, 5, 3, 4)

# Seeds of one split never meet another: each split owns a block of 2**40 integers.
SPLITS = {"tower": 0, "words": 1, "pretrain": 2, "finetune": 3, "check": 4, "test": 5, "examples": 6}
TESTING = (SPLITS["test"], SPLITS["examples"])  # splits that write with the held-back samples


def split_seed(split: str, index: int) -> int:
    """The scene seed number `index` of `split`; blocks of different splits are disjoint for 0 <= index < 2**40."""
    if not 0 <= index < 2**40:
        raise ValueError(f"index {index} is outside the block of a split, 0 to 2**40 - 1")
    return SPLITS[split] * 2**40 + index


@dataclass(frozen=True)
class Thing:
    """One object. `row`, `column`: its cell, 0..2. `x`, `y`: its centre, `radius`: half its extent, in pixels."""

    shape: str
    colour: str
    row: int
    column: int
    x: float
    y: float
    radius: float
    paint: tuple[int, int, int]
    large: bool


@dataclass(frozen=True)
class Written:
    """A handwritten digit in a cell, its middle at pixel `x`, `y`."""

    digit: Digit
    row: int
    column: int
    x: float
    y: float


@dataclass(frozen=True)
class Scene:
    """An image before it is drawn. `things` and `digits` are in reading order: top row first, left to right."""

    seed: int
    width: int
    height: int
    background: tuple[int, int, int]
    things: tuple[Thing, ...]
    digits: tuple[Written, ...] = ()

    def marks(self) -> list[Mark]:
        """One mark a cell, in the global view; what is empty says so."""
        held: dict[tuple[int, int], tuple[str, ...]] = {}
        for thing in self.things:
            size = "size large" if thing.large else "size small"
            held[thing.row, thing.column] = ("kind shape", f"shape {thing.shape}", f"colour {thing.colour}", size)
        for written in self.digits:
            held[written.row, written.column] = ("kind digit", f"char1 {written.digit.value}")
        cells = [(row, column) for row in range(CELLS) for column in range(CELLS)]
        return [Mark((*held.get(cell, ("kind nothing",)), *cell_meanings(*cell)), cell_patch(*cell)) for cell in cells]

    def draw(self) -> Image.Image:
        """RGB image of `width` x `height` pixels, edges smoothed."""
        scale = 2 if self.width * self.height <= 448 * 672 else 1
        image = Image.new("RGB", (self.width * scale, self.height * scale), self.background)
        pen = ImageDraw.Draw(image)
        for thing in self.things:
            pen.polygon([(px * scale, py * scale) for px, py in outline(thing)], fill=thing.paint)
        image = image.reduce(scale) if scale > 1 else image
        for written in self.digits:
            write(image, written.digit, written.x, written.y)
        return image


def _clip(value: float) -> int:
    return max(0, min(255, round(value)))


def _background(rng: random.Random) -> tuple[int, int, int]:
    if rng.random() < 0.5:
        return (255, 255, 255)
    base = rng.randint(228, 252)
    return (_clip(base + rng.randint(-6, 6)), _clip(base + rng.randint(-6, 6)), _clip(base + rng.randint(-6, 6)))


def paint(rng: random.Random, colour: str) -> tuple[int, int, int]:
    """An RGB value that goes by this name."""
    red, green, blue = rng.choice(PAINTS[colour])
    return (_clip(red + rng.randint(-8, 8)), _clip(green + rng.randint(-8, 8)), _clip(blue + rng.randint(-8, 8)))


def _fits(x: float, y: float, radius: float, width: int, height: int, others: list[Thing]) -> bool:
    if not (radius + 1 <= x <= width - radius - 1 and radius + 1 <= y <= height - radius - 1):
        return False
    return all(math.hypot(x - other.x, y - other.y) > 1.12 * (radius + other.radius) + 2 for other in others)


def _place(
    rng: random.Random, cell: tuple[int, int], size: tuple[int, int], huge: bool, free: float, others: list[Thing]
) -> tuple[float, float, float, bool]:
    """A centre in the cell, a radius that leaves the object inside the image and clear of the others, and if it is
    large."""
    row, column = cell
    width, height = size
    cell_width, cell_height = width / CELLS, height / CELLS
    base = min(cell_width, cell_height)
    large = huge or rng.random() < 0.5
    for _ in range(60):
        x = (column + 0.5 + rng.uniform(-free, free)) * cell_width
        y = (row + 0.5 + rng.uniform(-free, free)) * cell_height
        wanted = rng.uniform(0.4, 1.3) if huge else rng.uniform(0.37, 0.45) if large else rng.uniform(0.21, 0.27)
        if _fits(x, y, wanted * base, width, height, others):
            return x, y, wanted * base, large
        free *= 0.97
    return (column + 0.5) * cell_width, (row + 0.5) * cell_height, (0.37 if large else 0.22) * base, large


def make_scene(seed: int, canvas: tuple[int, int] | None = None, *, written: bool = False) -> Scene:
    """The scene of `seed`: 1 to 6 objects in different cells. `canvas` (width, height) overrides the seed's own.

    `written`: 1 to 4 handwritten digits, and in half of these scenes shapes beside them. The test split has its own
    samples of handwriting.
    """
    rng = random.Random(seed)
    drawn = rng.choices(CANVASES, CANVAS_WEIGHTS)[0]
    width, height = canvas or drawn
    count = rng.choices(range(1, 7), (20, 20, 20, 16, 12, 12))[0]
    huge = count <= 2 and rng.random() < 0.2 and not written
    free = 0.38 if rng.random() < 0.35 else 0.14
    # Few kinds in some scenes: otherwise two objects of one colour, and counts above one, would be rare.
    colours = rng.sample(COLOURS, 2) if rng.random() < 0.4 else list(COLOURS)
    shapes = rng.sample(SHAPES, 2) if rng.random() < 0.3 else list(SHAPES)
    cells = rng.sample([(row, column) for row in range(CELLS) for column in range(CELLS)], 9)
    background = _background(rng)
    things: list[Thing] = []
    for cell in cells[: count if not written else rng.choice((0, 0, 0, 1, 2, 3))]:
        shape, colour = rng.choice(shapes), rng.choice(colours)
        x, y, radius, large = _place(rng, cell, (width, height), huge, free if not written else 0.1, things)
        things.append(Thing(shape, colour, cell[0], cell[1], x, y, radius, paint(rng, colour), large))
    digits: list[Written] = []
    for row, column in cells[-rng.randint(1, 4) :] if written else []:
        cell_width, cell_height = width / CELLS, height / CELLS
        side = rng.uniform(0.55, 0.85) * min(cell_width, cell_height)
        digit = make_digit(rng, side, testing=seed // 2**40 in TESTING)
        x, y = (column + rng.uniform(0.44, 0.56)) * cell_width, (row + rng.uniform(0.44, 0.56)) * cell_height
        digits.append(Written(digit, row, column, x, y))
    things.sort(key=lambda t: (t.row, t.column))
    digits.sort(key=lambda w: (w.row, w.column))
    return Scene(seed, width, height, background, tuple(things), tuple(digits))


def make_page(seed: int) -> Scene:
    """A page of writing practice: a digit in nearly every cell, wider, narrower and more slanted than in scenes, never
    of the test split. For the tower, which sees 1 to 4 digits in a scene and 1,438 samples in all."""
    rng = random.Random(seed)
    width, height = CANVASES[0]
    base = width / CELLS
    digits = []
    for row, column in [(row, column) for row in range(CELLS) for column in range(CELLS) if rng.random() < 0.9]:
        digit = make_digit(rng, rng.uniform(0.55, 0.85) * base, testing=False)
        digit = replace(digit, slant=rng.uniform(-16, 16), stretch=rng.uniform(0.75, 1.25), lean=rng.uniform(-0.3, 0.3))
        x, y = (column + rng.uniform(0.44, 0.56)) * base, (row + rng.uniform(0.44, 0.56)) * base
        digits.append(Written(digit, row, column, x, y))
    return Scene(seed, width, height, _background(rng), (), tuple(digits))


def outline(thing: Thing) -> list[tuple[float, float]]:
    """The corners of an object's outline in pixels (a fine polygon for the round ones)."""
    x, y, r = thing.x, thing.y, thing.radius
    if thing.shape == "square":
        s = 0.86 * r
        return [(x - s, y - s), (x + s, y - s), (x + s, y + s), (x - s, y + s)]
    if thing.shape == "triangle":
        return [(x, y - 0.9 * r), (x + r, y + 0.8 * r), (x - r, y + 0.8 * r)]
    if thing.shape == "star":
        corners = []
        for i in range(10):
            length = r * (1.0 if i % 2 == 0 else 0.42)
            corners.append((x + length * math.sin(math.pi * i / 5), y - length * math.cos(math.pi * i / 5)))
        return corners
    corners = []
    for i in range(60):
        t = 2 * math.pi * i / 60
        if thing.shape == "circle":
            corners.append((x + 0.92 * r * math.cos(t), y + 0.92 * r * math.sin(t)))
        else:
            wave = 13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)
            corners.append((x + r * math.sin(t) ** 3, y - r * (wave + 2.5) / 16))
    return corners
