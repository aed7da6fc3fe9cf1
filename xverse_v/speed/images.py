"""Images to views, timed: ours beside the release's way, and bit-equal to it in the same run.

The release's way is that of its published code: one bicubic resize of Pillow for the grid and one for the global view,
each tile a tensor of its own, scaled and normalised pixel by pixel in float32, then stacked. In: sizes in pixels. Out:
`Record`s. No model, no network.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib.metadata import version

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from xverse_v.errors import error
from xverse_v.model.image_processing import CLIP_MEAN, CLIP_STD, XverseVImageProcessor
from xverse_v.model.tiling import TILE_SIZE, choose_grid
from xverse_v.speed.generate import noise_image
from xverse_v.speed.peers import OURS, RELEASE
from xverse_v.speed.records import Goal, Record, Sample, number, timed

SIZES = ((672, 448), (1600, 1200), (4032, 3024))
"""Six tiles exactly; a screen; a telephone's photograph."""
CLOCK_NOISE = 1.02
"""No slower, as far as a clock can tell: on a large image both ways are the same resize, and medians differ by less."""


@cache
def _processor() -> XverseVImageProcessor:
    return XverseVImageProcessor(orientation="release", apply_exif=False)


def our_views(image: Image.Image) -> Tensor:
    """float32[V, 3, T, T], by the package's processor with the release's settings."""
    pixels: Tensor = _processor().preprocess([image], return_tensors="pt")["pixel_values"]
    return pixels


def release_views(image: Image.Image) -> Tensor:
    """The same as the released code computes it."""
    grid = choose_grid(*image.size, orientation="release")
    parts = [_normalised(image.resize((TILE_SIZE, TILE_SIZE), Image.Resampling.BICUBIC))]
    if grid.tiles > 1:
        whole = image.resize((grid.columns * TILE_SIZE, grid.rows * TILE_SIZE), Image.Resampling.BICUBIC)
        for row in range(grid.rows):
            for column in range(grid.columns):
                left, top = column * TILE_SIZE, row * TILE_SIZE
                parts.append(_normalised(whole.crop((left, top, left + TILE_SIZE, top + TILE_SIZE))))
    return torch.stack(parts)


def _normalised(view: Image.Image) -> Tensor:
    """float32[3, T, T]: to channels first, to [0, 1], minus mean, divided by deviation."""
    pixels = torch.from_numpy(np.array(view)).permute(2, 0, 1).contiguous().float().div(255)
    mean, deviation = torch.tensor(CLIP_MEAN)[:, None, None], torch.tensor(CLIP_STD)[:, None, None]
    return pixels.sub_(mean).div_(deviation)


def measure_images(sizes: Sequence[tuple[int, int]] = SIZES, repeats: int = 15) -> list[Record]:
    """Two rows a size. Raises E815 when the views are not the same to the last bit."""
    records = []
    for width, height in sizes:
        image = noise_image(width, height)
        check_equal(our_views(image), release_views(image), width, height)
        ours: list[Sample] = []
        theirs: list[Sample] = []
        for _ in range(repeats):  # in turns, so that a change of the machine's load meets both
            ours.append(timed(lambda: our_views(image)))  # noqa: B023 (called at once)
            theirs.append(timed(lambda: release_views(image)))  # noqa: B023
        views = choose_grid(width, height, orientation="release").views
        settings = {"size": f"{width}x{height}", "views": views}
        for who, samples in ((OURS, ours), (RELEASE, theirs)):
            wall, cpu = tuple(1000 * s.wall for s in samples), tuple(1000 * s.cpu for s in samples)
            records.append(Record("image to views", who, "ms", wall, settings, cpu=cpu, note="bit-equal"))
    return records


def check_equal(ours: Tensor, theirs: Tensor, width: int, height: int) -> None:
    """Raises E815 unless every number is the same."""
    if ours.shape == theirs.shape and torch.equal(ours, theirs):
        return
    same_shape = ours.shape == theirs.shape
    apart = (ours - theirs).abs() if same_shape else torch.full((1,), float("inf"))
    raise error(
        "E815",
        width=width,
        height=height,
        count=int((apart > 0).sum()),
        total=ours.numel(),
        most=float(apart.max()),
        version=version("pillow"),
    )


def goals(records: Sequence[Record]) -> list[Goal]:
    """No size slower than the release's way."""
    found = []
    for ours, theirs in zip(records[::2], records[1::2], strict=True):
        ratio = ours.value / theirs.value
        name = f"image of {ours.settings['size']} to views: of the release's way"
        found.append(
            Goal(name, f"at most {CLOCK_NOISE}, bit-equal", f"{number(ratio)}, bit-equal", ratio <= CLOCK_NOISE)
        )
    return found
