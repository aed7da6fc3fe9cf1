"""The facts about one image on its way into the model: grid, views, source rectangles, token spans, what is lost.

What crosses: an image and a processor in, frozen numbers out, and with `inspect_tiles` the pixels of every view.
Nothing is worked out twice: rectangles and stretches are model/tiling's, token spans are read off the processor's
`input_ids`, and the pixels are read back from its `pixel_values`. It refuses to know the network and any way of
showing the facts.

Letters: V views, T side of a view in pixels, P image tokens of a view.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from PIL import ExifTags, Image

from ..errors import Language
from ..model.image_processing import XverseVImageProcessor
from ..model.processing import XverseVProcessor
from ..model.tiling import Grid, ViewBox, choose_grid, tiles_along, view_boxes
from .notes import Note

_VISIBLE_STRETCH = 1.05  # an aspect error below this is not worth a sentence: it is rounding to whole tiles
_ALPHA_MODES = ("RGBA", "LA", "PA", "La", "RGBa")


@dataclass(frozen=True)
class ViewReport:
    """One view. `left`, `top`, `right`, `bottom`: its source rectangle on the image, in pixels and parts of pixels.

    place: 1 for the first view of the prompt. row, column: None for the global view. stretch_x, stretch_y: view
    pixels per image pixel. aspect_error: 1.0 is true to shape. token_start, token_end: its image tokens are
    input_ids[start:end]. source_pixels: image pixels that share one view pixel. detail_kept: the part of the pixels
    that survives shrinking, 1.0 where nothing was shrunk.
    """

    index: int
    place: int
    row: int | None
    column: int | None
    left: float
    top: float
    right: float
    bottom: float
    stretch_x: float
    stretch_y: float
    aspect_error: float
    token_start: int
    token_end: int
    source_pixels: float
    detail_kept: float

    @property
    def is_global(self) -> bool:
        return self.row is None

    @property
    def role(self) -> str:
        """`global`, or `tile 2,1` for row 2 and column 1, counted from 1."""
        return "global" if self.row is None or self.column is None else f"tile {self.row + 1},{self.column + 1}"


@dataclass(frozen=True)
class TileReport:
    """Everything `xverse-v tiles` says about one image.

    width, height: the image as the tiler sees it, turned if `apply_exif`; stored_width, stored_height: as in the
    file. `mode` and `format` are the file's. image_tokens: V x P. prompt_tokens: the whole prompt with the question,
    if one was given. context: most tokens the model takes, None if unknown; context_share: image_tokens / context.
    pixels_lost: image pixels without a view pixel of their own in the finest views.
    """

    width: int
    height: int
    stored_width: int
    stored_height: int
    mode: str
    format: str | None
    orientation: str
    apply_exif: bool
    rows: int
    columns: int
    max_tiles: int
    tile_size: int
    tokens_per_view: int
    views: tuple[ViewReport, ...]
    image_tokens: int
    prompt_tokens: int
    question: str | None
    context: int | None
    context_share: float | None
    detail_kept: float
    pixels_lost: int
    notes: tuple[Note, ...]

    @property
    def finest(self) -> ViewReport:
        """The first of the views that show most detail: a tile, or the global view when it is alone."""
        return self.views[-1] if len(self.views) == 1 else self.views[1]

    def as_dict(self, language: Language = "en") -> dict[str, Any]:
        """Plain JSON; each view also carries its `role`, each note its words."""
        document = asdict(self)
        document["views"] = [asdict(view) | {"role": view.role} for view in self.views]
        document["notes"] = [asdict(note) | {"text": note.text(language)} for note in self.notes]
        return document


@dataclass(frozen=True)
class Inspection:
    """A report with its pixels. image: RGB as the tiler sees it. views: V images of T x T out of `pixel_values`."""

    report: TileReport
    image: Image.Image
    views: tuple[Image.Image, ...]


def tile_report(
    image: Image.Image,
    processor: XverseVProcessor,
    *,
    question: str | None = None,
    max_tiles: int | None = None,
    context: int | None = None,
) -> TileReport:
    """The facts alone; see `inspect_tiles`."""
    return inspect_tiles(image, processor, question=question, max_tiles=max_tiles, context=context).report


def inspect_tiles(
    image: Image.Image,
    processor: XverseVProcessor,
    *,
    question: str | None = None,
    max_tiles: int | None = None,
    context: int | None = None,
) -> Inspection:
    """Run the processor once on `image` and report what came out; no weights are needed.

    `image` comes from `media.open_image`. `question` follows it in the prompt, as `ask` would write it; without one
    the prompt holds the image alone. `max_tiles` overrides the processor's. `context`: the model's context length.
    Raises `ValueError` if the placeholders are not one run of V x P, a fault of the processor.
    """
    settings, rgb = processor.image_processor, processor.image_processor.to_rgb(image)
    most = settings.max_tiles if max_tiles is None else max_tiles
    grid = settings.grid(*rgb.size, most)
    ids, pixel_values = _model_inputs(image, processor, question, most)
    start = _placeholder_start(ids, processor.image_token_id, grid.views * processor.patches_per_view)
    boxes = view_boxes(*rgb.size, grid, settings.tile_size)
    views = tuple(_view_report(box, start, processor.patches_per_view) for box in boxes)
    kept = views[-1].detail_kept  # all tiles are shrunk alike
    notes = _size_notes(rgb.size, grid, views, settings, most)
    notes += _context_notes(len(ids), context) + _file_notes(image, settings)
    report = TileReport(
        width=rgb.width,
        height=rgb.height,
        stored_width=image.width,
        stored_height=image.height,
        mode=image.mode,
        format=image.format,
        orientation=settings.orientation,
        apply_exif=settings.apply_exif,
        rows=grid.rows,
        columns=grid.columns,
        max_tiles=most,
        tile_size=settings.tile_size,
        tokens_per_view=processor.patches_per_view,
        views=views,
        image_tokens=len(views) * processor.patches_per_view,
        prompt_tokens=len(ids),
        question=question,
        context=context,
        context_share=len(views) * processor.patches_per_view / context if context else None,
        detail_kept=kept,
        pixels_lost=round(rgb.width * rgb.height * (1 - kept)),
        notes=tuple(notes),
    )
    return Inspection(report, rgb, _pixels(pixel_values, settings))


def _model_inputs(
    image: Image.Image, processor: XverseVProcessor, question: str | None, max_tiles: int
) -> tuple[list[int], torch.Tensor]:
    """`input_ids` as a list of S and `pixel_values` float32[V, 3, T, T] of a prompt with this image."""
    content = [{"type": "image"}] + ([{"type": "text", "text": question}] if question is not None else [])
    messages = [{"role": "user", "content": content}]
    prompt = processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    inputs = processor(images=[image], text=prompt, max_tiles=max_tiles, return_tensors="pt")
    return inputs["input_ids"][0].tolist(), inputs["pixel_values"]


def _placeholder_start(ids: list[int], placeholder: int, expected: int) -> int:
    places = [place for place, token in enumerate(ids) if token == placeholder]
    if len(places) != expected or places[-1] - places[0] + 1 != expected:
        raise ValueError(f"the prompt should hold one run of {expected} placeholder tokens, it holds {len(places)}")
    return places[0]


def _view_report(box: ViewBox, start: int, tokens: int) -> ViewReport:
    return ViewReport(
        index=box.index,
        place=box.index + 1,
        row=box.row,
        column=box.column,
        left=box.left,
        top=box.top,
        right=box.right,
        bottom=box.bottom,
        stretch_x=box.scale_x,
        stretch_y=box.scale_y,
        aspect_error=box.aspect_error,
        token_start=start + box.index * tokens,
        token_end=start + (box.index + 1) * tokens,
        source_pixels=1 / (box.scale_x * box.scale_y),
        detail_kept=min(1.0, box.scale_x) * min(1.0, box.scale_y),
    )


def _pixels(pixel_values: torch.Tensor, settings: XverseVImageProcessor) -> tuple[Image.Image, ...]:
    """`pixel_values` float32[V, 3, T, T] back to bytes: the normalisation undone, rounded to the nearest byte."""
    mean = np.asarray(settings.image_mean, dtype=np.float64)
    std = np.asarray(settings.image_std, dtype=np.float64)
    channels_last = pixel_values.numpy().astype(np.float64).transpose(0, 2, 3, 1)
    pixels = np.rint((channels_last * std + mean) * 255).clip(0, 255).astype(np.uint8)
    return tuple(Image.fromarray(view) for view in pixels)


def _size_notes(
    size: tuple[int, int], grid: Grid, views: tuple[ViewReport, ...], settings: XverseVImageProcessor, most: int
) -> list[Note]:
    """What happened to the image's shape and detail."""
    width, height = size
    finest, notes = views[-1], []
    shape = {"width": width, "height": height, "x": finest.stretch_x, "y": finest.stretch_y}
    across, down = (tiles_along(side, settings.tile_size) for side in size)
    other: Grid = choose_grid(width, height, orientation="upright", max_tiles=most, tile_size=settings.tile_size)
    if settings.orientation == "release" and other != grid:
        error = view_boxes(width, height, other, settings.tile_size)[-1].aspect_error
        notes.append(Note("transposed", shape | {"error": finest.aspect_error, "upright_error": error}))
    elif finest.aspect_error >= _VISIBLE_STRETCH:
        notes.append(Note("stretched", shape | {"error": finest.aspect_error}))
    if grid.tiles == 1:
        notes.append(Note("global_only", {"tile_size": settings.tile_size}))
    if across * down > most:
        notes.append(Note("capped", {"across": across, "down": down, "wanted": across * down, "max_tiles": most}))
    if finest.detail_kept < 0.995:
        lost = round(width * height * (1 - finest.detail_kept))
        notes.append(Note("lost", {"lost": lost, "pixels": width * height, "kept": finest.detail_kept}))
    if finest.stretch_x > 1 and finest.stretch_y > 1:
        notes.append(Note("enlarged", {"x": finest.stretch_x, "y": finest.stretch_y}))
    return notes


def _context_notes(prompt_tokens: int, context: int | None) -> list[Note]:
    if context is None or prompt_tokens <= context:
        return []
    return [Note("too_long", {"prompt": prompt_tokens, "context": context})]


def _file_notes(image: Image.Image, settings: XverseVImageProcessor) -> list[Note]:
    """What was done on purpose to a file that is not plain RGB."""
    notes = []
    turn = image.getexif().get(ExifTags.Base.Orientation, 1)
    if turn != 1:
        notes.append(Note("turned" if settings.apply_exif else "turn_ignored", {"exif": turn}))
    if image.info.get("exif_unreadable"):
        notes.append(Note("exif_unreadable", {}))
    if image.info.get("frames", 1) > 1:
        notes.append(Note("first_frame", {"frames": image.info["frames"]}))
    if image.mode in _ALPHA_MODES or "transparency" in image.info:
        red, green, blue = settings.background
        notes.append(Note("transparent", {"mode": image.mode, "background": f"#{red:02x}{green:02x}{blue:02x}"}))
    elif image.mode != "RGB":
        notes.append(Note("converted", {"mode": image.mode}))
    return notes
