"""A small world of coloured shapes, drawn from integer seeds, that knows the truth about every image it draws.

What crosses: `make_scene(seed)` -> `Scene` (plain data) and `draw(scene)` -> RGB PIL image of the scene's size.
The same seed gives the same scene and the same pixels. This file refuses to know about questions, words, models
and views. Places are the nine cells of a 3x3 grid over the image; a cell holds the centre of at most one
object.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

from PIL import Image, ImageDraw

SHAPES = ("circle", "square", "triangle", "star", "heart")
COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "black")
CELLS = 3

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
SPLITS = {"tower": 0, "words": 1, "joint": 2, "check": 3, "test": 4, "examples": 5}


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


@dataclass(frozen=True)
class Scene:
    """An image before it is drawn. `things` are in reading order: top row first, left to right."""

    seed: int
    width: int
    height: int
    background: tuple[int, int, int]
    things: tuple[Thing, ...]


def _clip(value: float) -> int:
    return max(0, min(255, round(value)))


def _background(rng: random.Random) -> tuple[int, int, int]:
    if rng.random() < 0.5:
        return (255, 255, 255)
    base = rng.randint(228, 252)
    return (_clip(base + rng.randint(-6, 6)), _clip(base + rng.randint(-6, 6)), _clip(base + rng.randint(-6, 6)))


def _paint(rng: random.Random, colour: str) -> tuple[int, int, int]:
    red, green, blue = rng.choice(PAINTS[colour])
    return (_clip(red + rng.randint(-8, 8)), _clip(green + rng.randint(-8, 8)), _clip(blue + rng.randint(-8, 8)))


def _fits(x: float, y: float, radius: float, width: int, height: int, others: list[Thing]) -> bool:
    if not (radius + 1 <= x <= width - radius - 1 and radius + 1 <= y <= height - radius - 1):
        return False
    return all(math.hypot(x - other.x, y - other.y) > 1.12 * (radius + other.radius) + 2 for other in others)


def _place(
    rng: random.Random, cell: tuple[int, int], size: tuple[int, int], large: bool, free: float, others: list[Thing]
) -> tuple[float, float, float]:
    """A centre in the cell and a radius that leave the object inside the image and clear of the others."""
    row, column = cell
    width, height = size
    cell_width, cell_height = width / CELLS, height / CELLS
    base = min(cell_width, cell_height)
    for attempt in range(60):
        x = (column + 0.5 + rng.uniform(-free, free)) * cell_width
        y = (row + 0.5 + rng.uniform(-free, free)) * cell_height
        wanted = rng.uniform(0.45, 1.3) if large else rng.choice((rng.uniform(0.25, 0.31), rng.uniform(0.36, 0.45)))
        radius = wanted * base * (1 - 0.012 * attempt)
        if _fits(x, y, radius, width, height, others):
            return x, y, radius
    return (column + 0.5) * cell_width, (row + 0.5) * cell_height, 0.22 * base


def make_scene(seed: int, canvas: tuple[int, int] | None = None) -> Scene:
    """The scene of `seed`: 1 to 6 objects in different cells. `canvas` (width, height) overrides the seed's own."""
    rng = random.Random(seed)
    drawn = rng.choices(CANVASES, CANVAS_WEIGHTS)[0]
    width, height = canvas or drawn
    count = rng.choices(range(1, 7), (20, 20, 20, 16, 12, 12))[0]
    large = count <= 2 and rng.random() < 0.3
    free = 0.38 if rng.random() < 0.35 else 0.14
    # Few kinds in some scenes: otherwise two objects of one colour, and counts above one, would be rare.
    colours = rng.sample(COLOURS, 2) if rng.random() < 0.4 else list(COLOURS)
    shapes = rng.sample(SHAPES, 2) if rng.random() < 0.3 else list(SHAPES)
    cells = rng.sample([(row, column) for row in range(CELLS) for column in range(CELLS)], count)
    background = _background(rng)
    things: list[Thing] = []
    for cell in cells:
        shape, colour = rng.choice(shapes), rng.choice(colours)
        x, y, radius = _place(rng, cell, (width, height), large, free, things)
        things.append(Thing(shape, colour, cell[0], cell[1], x, y, radius, _paint(rng, colour)))
    return Scene(seed, width, height, background, tuple(sorted(things, key=lambda t: (t.row, t.column))))


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


def draw(scene: Scene) -> Image.Image:
    """RGB image of `scene.width` x `scene.height` pixels, edges smoothed."""
    scale = 2 if scene.width * scene.height <= 448 * 672 else 1
    image = Image.new("RGB", (scene.width * scale, scene.height * scale), scene.background)
    pen = ImageDraw.Draw(image)
    for thing in scene.things:
        pen.polygon([(px * scale, py * scale) for px, py in outline(thing)], fill=thing.paint)
    return image.reduce(scale) if scale > 1 else image
