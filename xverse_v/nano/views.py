"""Views of an image in the `upright` orientation, as the recipe needs them.

What crosses: width and height -> grid and source rectangles; an RGB image -> its views, the global view first.
"""

from __future__ import annotations

from PIL import Image

SIDE = 224


def _nearest(length: int) -> int:
    return max(1, (2 * length + SIDE - 1) // (2 * SIDE))


def grid_of(width: int, height: int) -> tuple[int, int]:
    """(rows, columns)."""
    columns, rows = _nearest(width), _nearest(height)
    small, large = min(rows, columns), max(rows, columns)
    if small >= 3 and (small, large) != (3, 3):
        return (3, 3)
    limit = {1: 9, 2: 4, 3: 3}[small]
    return (min(rows, limit), min(columns, limit))


def source_boxes(width: int, height: int, grid: tuple[int, int]) -> list[tuple[float, float, float, float]]:
    """(left, top, right, bottom) of every view on the image, the global view first."""
    rows, columns = grid
    boxes = [(0.0, 0.0, float(width), float(height))]
    if rows * columns > 1:
        w, h = width / columns, height / rows
        boxes += [(c * w, r * h, (c + 1) * w, (r + 1) * h) for r in range(rows) for c in range(columns)]
    return boxes


def views_of(image: Image.Image, grid: tuple[int, int]) -> list[Image.Image]:
    """224x224 RGB views: the whole image, then the tiles row by row."""
    rows, columns = grid
    views = [image.resize((SIDE, SIDE), Image.Resampling.BICUBIC)]
    if rows * columns > 1:
        whole = image.resize((columns * SIDE, rows * SIDE), Image.Resampling.BICUBIC)
        for r in range(rows):
            views += [whole.crop((c * SIDE, r * SIDE, (c + 1) * SIDE, (r + 1) * SIDE)) for c in range(columns)]
    return views
