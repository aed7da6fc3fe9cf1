"""Large images with small tags: three characters in a coloured frame, readable in the tiles and not in the global view.

What crosses: `make_board(seed)` -> `Board`, which draws itself and knows its marks. The font has eleven pixels
or so where the model sees a tile, whatever the size of the image; the global view shows it at a quarter of the area or
less. Tags keep clear of the borders between tiles, which a model does not see across. This file refuses to know about
questions.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from xverse_v.errors import error
from xverse_v.model.tiling import TILE_SIZE, Grid, choose_grid
from xverse_v.nano.concepts import CHARACTERS, COLOURS, SIDE, Mark, text_meanings
from xverse_v.nano.world import paint

FONTS = (
    "DejaVuSans", "DejaVuSans-Bold", "DejaVuSansMono", "DejaVuSansMono-Bold", "DejaVuSerif", "DejaVuSerif-Bold",
)  # fmt: skip
# Grids of rows and columns and how often they are drawn; at least four tiles, so that the global view cannot be read.
GRIDS = ((2, 2), (2, 3), (3, 2), (1, 4), (2, 4), (4, 2), (3, 3), (1, 6), (5, 1))
GRID_WEIGHTS = (8, 7, 7, 3, 2, 2, 3, 1, 1)
LETTERS = CHARACTERS[10:]
PATCH = TILE_SIZE // SIDE
SCALES = (0.86, 1.14)  # pixels of a small image a pixel of a tile
WORDS = (
    "BAR", "BED", "BEE", "BUS", "CAR", "CAT", "CUP", "DAY", "EAR", "EGG", "EYE", "FAN", "GAS", "GYM", "HAT", "KEY",
    "LAB", "LEG", "MAP", "NET", "NUT", "PEN", "PUB", "RED", "SEA", "SKY", "SUN", "TAX", "TEA", "TEN", "VAN", "WAX",
    "YES", "ZEN", "ART", "BAY", "CAB", "DEN", "ELM", "FUR",
)  # fmt: skip


Line = tuple[float, float, float, float, tuple[int, int, int]]  # left, top, right, bottom in pixels, colour


@dataclass(frozen=True)
class Tag:
    """A white tag with a coloured frame. `x`, `y`: its middle in pixels of the image; `column`, `row`: its tile."""

    text: str
    colour: str
    frame: tuple[int, int, int]
    font: str
    size: float
    x: float
    y: float
    row: int
    column: int


@dataclass(frozen=True)
class Board:
    """An image of tags before it is drawn. `scale`: pixels of the image a pixel of a tile, across and down."""

    seed: int
    width: int
    height: int
    background: tuple[int, int, int]
    scale: tuple[float, float]
    tags: tuple[Tag, ...]
    lines: tuple[Line, ...]

    def marks(self) -> list[Mark]:
        """One mark a tag, in its tile."""
        return [
            Mark(("kind tag", f"colour {tag.colour}", *text_meanings(tag.text)), x=tag.x, y=tag.y) for tag in self.tags
        ]

    def draw(self) -> Image.Image:
        """RGB, width x height."""
        image = Image.new("RGB", (self.width, self.height), self.background)
        pen = ImageDraw.Draw(image)
        for left, top, right, bottom, colour in self.lines:
            pen.line((left, top, right, bottom), fill=colour, width=max(1, round(self.scale[0])))
        for tag in self.tags:
            self._draw_tag(image, pen, tag)
        return image

    def _draw_tag(self, image: Image.Image, pen: ImageDraw.ImageDraw, tag: Tag) -> None:
        across, down = self.scale
        box = (tag.x - 21 * across, tag.y - 12 * down, tag.x + 21 * across, tag.y + 12 * down)
        pen.rectangle(box, fill="white", outline=tag.frame, width=max(1, round(3.2 * min(across, down))))
        # Written once at the size of the height and squeezed across, where the two scales of the image differ.
        font = _font(tag.font, max(4, round(tag.size * down)))
        left, top, right, bottom = font.getbbox(tag.text)
        text = Image.new("L", (max(1, round(right - left)) + 2, max(1, round(bottom - top)) + 2), 0)
        ImageDraw.Draw(text).text((1 - left, 1 - top), tag.text, fill=255, font=font)
        wide = min(24.5 * across, text.width * across / down)
        text = text.resize((max(1, round(wide)), text.height), Image.Resampling.LANCZOS)
        image.paste((10, 10, 10), (round(tag.x - text.width / 2), round(tag.y - text.height / 2)), text)


@lru_cache(maxsize=512)
def _font(name: str, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(_font_folder() / f"{name}.ttf"), size)


@lru_cache(maxsize=1)
def _font_folder() -> Path:
    """The fonts that come with the plotting library. Raises E900."""
    try:
        import matplotlib
    except ImportError as missing:
        raise error("E900", package="matplotlib") from missing
    return Path(matplotlib.get_data_path()) / "fonts" / "ttf"


def make_sheet(seed: int) -> Board:
    """A sheet of reading practice: two by two tiles full of tags, close together in half of the sheets.

    A board shows a handful of tags, and at that rate letters take hours to learn; a sheet shows 36 to 72.
    """
    rng = random.Random(seed)
    across, down = rng.uniform(*SCALES), rng.uniform(*SCALES)
    close = rng.random() < 0.5
    rows, reach = ((1, 2, 3, 4, 5, 6), 2.0) if close else ((1, 3, 5), 7.0)
    tags = []
    for row in range(2):
        for column in range(2):
            first = rng.choice((1, 2))
            for tag_row in rows:
                for tag_column in (first, first + 2, first + 4)[: 3 if first == 1 else 2]:
                    x = (column * TILE_SIZE + (tag_column + 0.5) * PATCH + rng.uniform(-5, 5)) * across
                    y = (row * TILE_SIZE + (tag_row + 0.5) * PATCH + rng.uniform(-reach, reach)) * down
                    colour, font, size = rng.choice(COLOURS), rng.choice(FONTS), rng.uniform(10.5, 12.5)
                    tags.append(Tag(_text(rng), colour, paint(rng, colour), font, size, x, y, row, column))
    width, height = round(2 * TILE_SIZE * across), round(2 * TILE_SIZE * down)
    return Board(seed, width, height, _background(rng), (across, down), tuple(tags), _lines(rng, width, height))


def make_card(seed: int) -> Board:
    """One view with two to six tags at the size that tiles show: many characters for few image tokens."""
    rng = random.Random(seed)
    shade = rng.randint(215, 252)
    spots = [(row, column) for row in (1, 3, 5) for column in ((1, 3, 5) if rng.random() < 0.5 else (2, 4, 6))]
    tags = []
    for colour, (down, across) in zip(rng.sample(COLOURS, 8), rng.sample(spots, rng.randint(2, 6)), strict=False):
        x, y = (across + 0.5) * PATCH + rng.uniform(-5, 5), (down + 0.5) * PATCH + rng.uniform(-7, 7)
        font, size = rng.choice(FONTS), rng.uniform(10.5, 12.5)
        tags.append(Tag(_text(rng), colour, paint(rng, colour), font, size, x, y, 0, 0))
    tags.sort(key=lambda tag: (tag.y, tag.x))
    return Board(seed, TILE_SIZE, TILE_SIZE, (shade, shade, shade), (1.0, 1.0), tuple(tags), ())


def _size(rng: random.Random) -> tuple[int, int, Grid]:
    """A width and height in pixels whose grid is one of ours."""
    rows, columns = rng.choices(GRIDS, GRID_WEIGHTS)[0]
    zoom = rng.choice((1.0, 1.0, 1.0, rng.uniform(1.0, 2.2))) if rows * columns == 9 else 1.0
    while True:
        width = round(columns * TILE_SIZE * rng.uniform(*SCALES) * zoom)
        height = round(rows * TILE_SIZE * rng.uniform(*SCALES) * zoom)
        grid = choose_grid(width, height, orientation="upright")
        if grid == (rows, columns):
            return width, height, grid


def _text(rng: random.Random) -> str:
    """A three-digit number, a word, or three letters."""
    kind = rng.random()
    if kind < 0.6:
        return "".join(rng.choices("0123456789", k=3))
    return rng.choice(WORDS) if kind < 0.8 else "".join(rng.choices(LETTERS, k=3))


def _background(rng: random.Random) -> tuple[int, int, int]:
    shade = rng.randint(215, 252)
    return shade, min(255, shade + rng.randint(-6, 6)), min(255, shade + rng.randint(-6, 6))


def _lines(rng: random.Random, width: int, height: int) -> tuple[Line, ...]:
    """Up to three thin lines behind the tags."""
    return tuple(
        (rng.uniform(0, width), rng.uniform(0, height), rng.uniform(0, width), rng.uniform(0, height), (190, 190, 195))
        for _ in range(rng.choice((0, 0, 1, 3)))
    )


def make_board(seed: int) -> Board:
    """The board of `seed`: one to six tags of different colours."""
    rng = random.Random(seed)
    width, height, grid = _size(rng)
    across, down = width / (grid.columns * TILE_SIZE), height / (grid.rows * TILE_SIZE)
    background = _background(rng)
    count = rng.choices(range(1, 7), (18, 20, 22, 18, 12, 10))[0]
    taken: list[tuple[int, int, float, float]] = []
    tags: list[Tag] = []
    for colour in rng.sample(COLOURS, count):
        for _ in range(40):
            row, column = rng.randrange(grid.rows), rng.randrange(grid.columns)
            x = (rng.randint(1, SIDE - 2) + 0.5) * PATCH + rng.uniform(-5, 5)
            y = (rng.randint(1, SIDE - 2) + 0.5) * PATCH + rng.uniform(-7, 7)
            if all((row, column) != spot[:2] or abs(x - spot[2]) > 50 or abs(y - spot[3]) > 34 for spot in taken):
                break
        else:
            continue
        taken.append((row, column, x, y))
        place = ((column * TILE_SIZE + x) * across, (row * TILE_SIZE + y) * down)
        font, size = rng.choice(FONTS), rng.uniform(10.5, 12.5)
        tags.append(Tag(_text(rng), colour, paint(rng, colour), font, size, *place, row, column))
    lines = _lines(rng, width, height)
    tags.sort(key=lambda tag: (tag.y, tag.x))
    return Board(seed, width, height, background, (across, down), tuple(tags), lines)
