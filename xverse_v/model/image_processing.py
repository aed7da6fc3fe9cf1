"""From a PIL image to normalised views: colour mode, orientation, resize, cut, normalise.

What crosses: PIL images (or uint8 arrays) in, `pixel_values` float32[V, 3, T, T] and the views of each image out, T
being the tile size. The resize is Pillow's own bicubic, so pixels equal the release's bit for bit on RGB input. This
file does not open files or addresses and knows no text.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from PIL import Image, ImageOps
from transformers.image_processing_backends import PilBackend
from transformers.image_processing_utils import BatchFeature
from transformers.processing_utils import ImagesKwargs

from .tiling import MAX_TILES, TILE_SIZE, Grid, Orientation, choose_grid

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)

_SIXTEEN_BIT = ("I", "I;16", "I;16L", "I;16B", "I;16N")


class XverseVImagesKwargs(ImagesKwargs, total=False):  # type: ignore[call-arg]
    """Settings of `XverseVImageProcessor`, each also an argument of one call.

    tile_size (`int`): side of a view in pixels. max_tiles (`int`): most tiles of one image; 1 leaves the global view
    alone. orientation (`str`): `release` or `upright`, see tiling.py. apply_exif (`bool`): turn the image as its EXIF
    tag says. background (`tuple[int, int, int]`): the colour behind transparent pixels.
    """

    tile_size: int
    max_tiles: int
    orientation: str
    apply_exif: bool
    background: tuple[int, int, int] | list[int]


class XverseVImageProcessor(PilBackend):
    """Images to views. `orientation="release"` with `apply_exif=False` is what the released weights were measured
    with."""

    valid_kwargs = XverseVImagesKwargs
    model_input_names: ClassVar[list[str]] = ["pixel_values", "num_views"]

    tile_size = TILE_SIZE
    max_tiles = MAX_TILES
    orientation: Orientation = "upright"
    apply_exif = True
    background = (255, 255, 255)
    image_mean = CLIP_MEAN
    image_std = CLIP_STD
    resample = Image.Resampling.BICUBIC
    do_rescale = True
    do_normalize = True

    def grid(self, width: int, height: int, max_tiles: int | None = None) -> Grid:
        """The grid of an image of this size, after EXIF turning."""
        return choose_grid(
            width,
            height,
            orientation=self.orientation,
            max_tiles=self.max_tiles if max_tiles is None else max_tiles,
            tile_size=self.tile_size,
        )

    def to_rgb(self, image: Image.Image) -> Image.Image:
        """The image as the tiler sees it: turned if `apply_exif`, transparent pixels over `background`, 8-bit RGB."""
        return to_rgb(image, apply_exif=self.apply_exif, background=tuple(self.background))

    def views(self, image: Image.Image, max_tiles: int | None = None) -> list[Image.Image]:
        """RGB images of T x T pixels: the global view, then the tiles row by row."""
        rgb = self.to_rgb(image)
        return cut_views(rgb, self.grid(rgb.width, rgb.height, max_tiles), self.tile_size)

    def process_image(self, image: Image.Image | np.ndarray | torch.Tensor, **kwargs: object) -> Image.Image:
        """One raw input as PIL; arrays must be uint8, H x W x 3 or 3 x H x W."""
        return image if isinstance(image, Image.Image) else _array_to_image(np.asarray(image))

    def _preprocess(
        self,
        images: Sequence[Image.Image],
        *,
        tile_size: int,
        max_tiles: int,
        orientation: Orientation,
        apply_exif: bool,
        background: Sequence[int],
        image_mean: Sequence[float],
        image_std: Sequence[float],
        return_tensors: str | None = None,
        **unused: object,  # settings of the base class that this pipeline has no step for
    ) -> BatchFeature:
        stacks, num_views = [], []
        for image in images:
            rgb = to_rgb(image, apply_exif=apply_exif, background=tuple(background))
            grid = choose_grid(*rgb.size, orientation=orientation, max_tiles=max_tiles, tile_size=tile_size)
            views = cut_views(rgb, grid, tile_size)
            stacks.append(normalise(views, tuple(image_mean), tuple(image_std)))
            num_views.append(len(views))
        data = {
            "pixel_values": stacks[0] if len(stacks) == 1 else np.concatenate(stacks),
            "num_views": np.asarray(num_views),
        }
        return BatchFeature(data=data, tensor_type=return_tensors)

    def get_number_of_image_patches(self, height: int, width: int, images_kwargs: dict[str, Any] | None = None) -> int:
        """Views of an image of this size; the name is the one serving engines call."""
        settings = images_kwargs or {}
        return choose_grid(
            width,
            height,
            orientation=settings.get("orientation") or self.orientation,
            max_tiles=settings.get("max_tiles") or self.max_tiles,
            tile_size=settings.get("tile_size") or self.tile_size,
        ).views


def to_rgb(image: Image.Image, *, apply_exif: bool, background: tuple[int, ...]) -> Image.Image:
    """8-bit RGB of any mode Pillow can open. Raises `ValueError` for floating-point pixels, whose range is unknown."""
    if apply_exif:
        image = ImageOps.exif_transpose(image)
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode in _SIXTEEN_BIT:
        # 65535 / 255 = 257: the full range is kept, where Pillow's own conversion would clip at 255.
        return Image.fromarray((np.asarray(image).clip(0, 65535) / 257 + 0.5).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        raise ValueError("image mode F (floating point) has no fixed range; save it as an 8- or 16-bit image first")
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        canvas = Image.new("RGBA", rgba.size, (*background, 255))
        return Image.alpha_composite(canvas, rgba).convert("RGB")
    return image.convert("RGB")


def cut_views(rgb: Image.Image, grid: Grid, tile_size: int) -> list[Image.Image]:
    """The global view and, unless the grid is 1x1, the tiles row by row, each T x T."""
    whole = (tile_size, tile_size)
    views = [_resize(rgb, whole)]
    if grid.tiles > 1:
        resized = _resize(rgb, (grid.columns * tile_size, grid.rows * tile_size))
        for row in range(grid.rows):
            for column in range(grid.columns):
                left, top = column * tile_size, row * tile_size
                views.append(resized.crop((left, top, left + tile_size, top + tile_size)))
    return views


def _resize(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Pillow's bicubic, across and then down, in two calls.

    Pillow up to 12 works in this order inside one call, and the release's pixels were made with it; Pillow 13 chooses
    the cheaper order, which rounds differently (up to 19 levels of 255 on 448x672 noise cut as 2 rows x 3 columns).
    """
    bicubic = Image.Resampling.BICUBIC
    return image.resize((size[0], image.height), bicubic).resize(size, bicubic)


def normalise(views: Sequence[Image.Image], mean: Sequence[float], std: Sequence[float]) -> np.ndarray:
    """float32[V, 3, T, T]: each byte b of channel c becomes (b / 255 - mean[c]) / std[c], every step in float32.

    In place and a view at a time, so that the numbers stay in the processor's cache between the steps.
    """
    by_channel = [np.asarray(values, dtype=np.float32)[:, None, None] for values in (mean, std)]
    normalised = np.empty((len(views), 3, views[0].height, views[0].width), dtype=np.float32)
    for view, out in zip(views, normalised, strict=True):
        np.copyto(out, np.asarray(view).transpose(2, 0, 1))
        out /= np.float32(255)
        out -= by_channel[0]
        out /= by_channel[1]
    return normalised


def _array_to_image(array: np.ndarray) -> Image.Image:
    if array.dtype != np.uint8:
        raise ValueError(f"an image array is uint8, got {array.dtype}; pass a PIL image or scale it to 0..255 yourself")
    if array.ndim == 3 and array.shape[0] in (1, 3, 4) and array.shape[2] not in (1, 3, 4):
        array = array.transpose(1, 2, 0)
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    return Image.fromarray(array)
