"""Made images as the product cuts them, with the meanings of every patch.

What crosses: a `Picture` -> its views (`upright` grid) as RGB images, their source rectangles, and (view, patch) ->
concepts; views -> pixel values. Geometry alone can be had without drawing. This file refuses to know about models.
"""

from __future__ import annotations

import torch
from PIL import Image

from xverse_v.model.image_processing import CLIP_MEAN, CLIP_STD, cut_views, normalise
from xverse_v.model.tiling import TILE_SIZE, Grid, choose_grid, view_boxes
from xverse_v.nano.concepts import Meanings, Picture, Rectangle, placed


def picture_grid(picture: Picture, max_tiles: int = 9) -> Grid:
    """Rows and columns of its tiles."""
    return choose_grid(picture.width, picture.height, orientation="upright", max_tiles=max_tiles)


def picture_boxes(picture: Picture, max_tiles: int = 9) -> list[Rectangle]:
    """Source rectangle of every view, the global view first."""
    boxes = view_boxes(picture.width, picture.height, picture_grid(picture, max_tiles))
    return [(box.left, box.top, box.right, box.bottom) for box in boxes]


def picture_meanings(picture: Picture, max_tiles: int = 9) -> tuple[int, dict[tuple[int, int], Meanings]]:
    """How many views there are, and what the patches that mean something mean."""
    boxes = picture_boxes(picture, max_tiles)
    return len(boxes), placed(picture.marks(), boxes)


def picture_views(picture: Picture, max_tiles: int = 9) -> list[Image.Image]:
    """All views, 224x224 RGB, the global view first."""
    return cut_views(picture.draw(), picture_grid(picture, max_tiles), TILE_SIZE)


def to_pixels(views: list[Image.Image]) -> torch.Tensor:
    """RGB views of 224x224 -> float32[V, 3, 224, 224], in CLIP's normalisation."""
    return torch.from_numpy(normalise(views, CLIP_MEAN, CLIP_STD))
