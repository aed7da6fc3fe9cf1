"""Which grid of tiles an image gets, and where every view lies on it.

Pure integers in, pure integers out; nothing here opens an image. Two orientations of one rule: `release` reproduces the
released code, which takes the number of *rows from the width* and of columns from the height, so that every image
that is not square is squeezed one way and stretched the other; `upright` takes rows from the height. See
docs/numerics.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isqrt
from typing import Literal, NamedTuple, get_args

Orientation = Literal["release", "upright"]
ORIENTATIONS: tuple[Orientation, ...] = get_args(Orientation)

TILE_SIZE = 224
MAX_TILES = 9


class Grid(NamedTuple):
    """How many tiles the resized image is cut into; it is resized to (columns * tile) wide and (rows * tile) tall."""

    rows: int
    columns: int

    @property
    def tiles(self) -> int:
        return self.rows * self.columns

    @property
    def views(self) -> int:
        """Rows of `pixel_values`: the global view and the tiles; a 1x1 grid sends the global view alone."""
        return 1 if self.tiles == 1 else self.tiles + 1


@dataclass(frozen=True)
class ViewBox:
    """One view and its source rectangle on the original image, in pixels (edges may fall between pixels)."""

    index: int
    row: int | None
    column: int | None
    left: float
    top: float
    right: float
    bottom: float
    scale_x: float
    scale_y: float

    @property
    def is_global(self) -> bool:
        return self.row is None

    @property
    def aspect_error(self) -> float:
        """How many times an upright square of the image is wider than tall in the view, or the inverse; 1.0 is true."""
        return max(self.scale_x / self.scale_y, self.scale_y / self.scale_x)


def tiles_along(length: int, tile_size: int = TILE_SIZE) -> int:
    """`length / tile_size` rounded to the nearest integer, exactly half rounding down, at least 1 (release
    behaviour)."""
    return max(1, (2 * length + tile_size - 1) // (2 * tile_size))


def choose_grid(
    width: int,
    height: int,
    *,
    orientation: Orientation,
    max_tiles: int = MAX_TILES,
    tile_size: int = TILE_SIZE,
) -> Grid:
    """The grid for an image of `width` x `height` pixels.

    Both sides are counted in tiles; a grid of at most `max_tiles` is taken as it is. Otherwise the shorter side keeps
    at most `isqrt(max_tiles)` tiles and the longer one what is left. At the release's nine tiles this is its own
    table: one side 1 caps the other at 9, one side 2 at 4, anything else becomes 3x3.

    Raises `ValueError` for sizes below one pixel, an unknown orientation or `max_tiles` below 1.
    """
    if width < 1 or height < 1:
        raise ValueError(f"an image is at least 1x1 pixels, got {width}x{height}")
    if max_tiles < 1:
        raise ValueError(f"max_tiles is at least 1, got {max_tiles}")
    if orientation not in ORIENTATIONS:
        raise ValueError(f"orientation is one of {', '.join(ORIENTATIONS)}, got {orientation!r}")
    across, down = tiles_along(width, tile_size), tiles_along(height, tile_size)
    if across * down > max_tiles:
        across, down = _shrink(across, down, max_tiles)
    return Grid(across, down) if orientation == "release" else Grid(down, across)


def _shrink(across: int, down: int, max_tiles: int) -> tuple[int, int]:
    short = min(across, down, isqrt(max_tiles))
    if across == down:
        return short, short
    long = min(max(across, down), max_tiles // short)
    return (long, short) if across > down else (short, long)


def view_boxes(width: int, height: int, grid: Grid, tile_size: int = TILE_SIZE) -> list[ViewBox]:
    """Where every view of a `width` x `height` image comes from, global view first, then tiles row by row."""
    boxes = [ViewBox(0, None, None, 0.0, 0.0, float(width), float(height), tile_size / width, tile_size / height)]
    if grid.tiles == 1:
        return boxes
    scale_x, scale_y = grid.columns * tile_size / width, grid.rows * tile_size / height
    for row in range(grid.rows):
        for column in range(grid.columns):
            boxes.append(
                ViewBox(
                    index=len(boxes),
                    row=row,
                    column=column,
                    left=width * column / grid.columns,
                    top=height * row / grid.rows,
                    right=width * (column + 1) / grid.columns,
                    bottom=height * (row + 1) / grid.rows,
                    scale_x=scale_x,
                    scale_y=scale_y,
                )
            )
    return boxes
