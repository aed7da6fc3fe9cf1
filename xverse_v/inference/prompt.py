"""Messages and images to one prompt: token ids with placeholders expanded, images, and the parts it is prefilled in.

What crosses: messages in, a `Prompt` out. Text goes through the processor's chat template and tokenizer and nothing
else; images come through the one media door. The views of an image are cut only when somebody asks for its pixels,
because on a cache hit nobody does. The file knows neither the network nor the cache.

**Parts.** A prompt is always prefilled in the same parts, whatever is cached, so a hit skips work and changes no bit:
- a part ends behind the last placeholder of every user message with images;
- in a prompt with at least two user messages, a part also ends behind the text of each of them, in front of the answer;
- the rest is the last part. It is never cached.
Where the second kind ends is read off the token ids: up to there they do not depend on what follows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from PIL import Image
from torch import Tensor

from xverse_v.errors import error
from xverse_v.media import DEFAULT_LIMITS, ImageSource, MediaLimits, open_image
from xverse_v.model.image_processing import XverseVImageProcessor
from xverse_v.model.processing import XverseVProcessor
from xverse_v.model.tiling import Grid

from .answer import ImageReceipt
from .cache import content_key

Role = Literal["system", "user", "assistant"]
PartKind = Literal["images", "turn", "rest"]


@dataclass(frozen=True, eq=False)
class PreparedImage:
    """An image as the tiler sees it, with a key that names its content and everything that shapes its views."""

    rgb: Image.Image
    mode: str
    grid: Grid
    max_tiles: int
    key: str
    source: ImageSource
    _processor: XverseVImageProcessor = field(repr=False)

    def pixel_values(self) -> Tensor:
        """float32[views, 3, T, T]. Cut anew at each call."""
        inputs = self._processor.preprocess([self.rgb], max_tiles=self.max_tiles, return_tensors="pt")
        pixels: Tensor = inputs["pixel_values"]
        return pixels

    def receipt(self, patches_per_view: int) -> ImageReceipt:
        grid = self.grid
        return ImageReceipt(
            width=self.rgb.width,
            height=self.rgb.height,
            mode=self.mode,
            rows=grid.rows,
            columns=grid.columns,
            views=grid.views,
            tokens=grid.views * patches_per_view,
            sha256=self.key,
        )


ImageInput = ImageSource | PreparedImage


@dataclass(frozen=True)
class Message:
    """One message. Images stand before the text, as in the release; only a user's message has any."""

    role: Role
    text: str
    images: tuple[ImageInput, ...] = ()


@dataclass(frozen=True)
class Part:
    """Tokens ``start`` to ``stop`` of a prompt, prefilled in one pass, and the images whose tokens lie in them."""

    start: int
    stop: int
    kind: PartKind
    images: tuple[PreparedImage, ...]


@dataclass(frozen=True)
class Prompt:
    """``token_ids`` with one placeholder for each image token; ``parts`` cover them without gap; ``images`` in
    order.
    """

    token_ids: tuple[int, ...]
    images: tuple[PreparedImage, ...]
    parts: tuple[Part, ...]
    patches_per_view: int


class PromptBuilder:
    """Makes prompts for one processor. ``limits`` bound every image that enters."""

    def __init__(self, processor: XverseVProcessor, limits: MediaLimits = DEFAULT_LIMITS) -> None:
        self.processor = processor
        self.limits = limits

    def prepare(self, image: ImageInput, max_tiles: int | None = None) -> PreparedImage:
        """Open, turn to RGB and name one image. A prepared one passes as it is. Raises E5xx of the media door, E112."""
        if isinstance(image, PreparedImage):
            return image
        tiler = self.processor.image_processor
        if max_tiles is None:
            max_tiles = tiler.max_tiles
        if isinstance(max_tiles, bool) or not isinstance(max_tiles, int) or not 1 <= max_tiles <= tiler.max_tiles:
            raise error("E112", got=repr(max_tiles), most=tiler.max_tiles)
        opened = open_image(image, limits=self.limits)
        rgb = tiler.to_rgb(opened)
        facts = {
            "mode": opened.mode,
            "size": opened.size,
            "rgb_size": rgb.size,
            "orientation": tiler.orientation,
            "tile_size": tiler.tile_size,
            "max_tiles": max_tiles,
            "apply_exif": tiler.apply_exif,
            "background": list(tiler.background),
            "mean": list(tiler.image_mean),
            "std": list(tiler.image_std),
        }
        key = content_key("image", facts, rgb.tobytes())
        return PreparedImage(rgb, opened.mode, tiler.grid(*rgb.size, max_tiles), max_tiles, key, image, tiler)

    def build(self, messages: Sequence[Message], max_tiles: int | None = None) -> Prompt:
        """The prompt after which the model answers ``messages``, the last of which is a user's."""
        prepared = tuple(self.prepare(image, max_tiles) for message in messages for image in message.images)
        ids = self._encode(messages, add_generation_prompt=True)
        places = [place for place, token in enumerate(ids) if token == self.processor.image_token_id]
        if len(places) != len(prepared):
            raise error("E104", places=len(places), images=len(prepared))
        cuts = self._cuts(messages, ids, places)
        return _expanded(ids, places, cuts, prepared, self.processor.patches_per_view)

    def _encode(self, messages: Sequence[Message], *, add_generation_prompt: bool) -> list[int]:
        """Ids with *one* placeholder an image; the tokenizer's own start token, if it adds one, in front."""
        text = self.processor.apply_chat_template(
            [_as_template_message(message) for message in messages],
            tokenize=False,
            add_generation_prompt=add_generation_prompt,
        )
        ids: list[int] = self.processor.tokenizer(text)["input_ids"]
        return ids

    def _cuts(self, messages: Sequence[Message], ids: list[int], places: list[int]) -> list[tuple[int, PartKind]]:
        """Ends of all parts but the last, in ids before expansion."""
        users = [index for index, message in enumerate(messages) if message.role == "user"]
        cuts: list[tuple[int, PartKind]] = []
        passed = seen = 0
        for index in users:
            ends: list[tuple[int, PartKind]] = []
            seen += len(messages[index].images)
            if messages[index].images:
                ends.append((places[seen - 1] + 1, "images"))
            if len(users) > 1:
                so_far = self._encode(messages[: index + 1], add_generation_prompt=False)
                ends.append((_common_beginning(so_far, ids), "turn"))
            for end, kind in ends:
                if passed < end < len(ids):
                    cuts.append((end, kind))
                    passed = end
        return cuts


def _expanded(
    ids: list[int],
    places: list[int],
    cuts: list[tuple[int, PartKind]],
    images: tuple[PreparedImage, ...],
    patches_per_view: int,
) -> Prompt:
    """Repeat the placeholder at each of ``places`` once for each token of its image, and move the cuts along."""
    token_ids: list[int] = []
    parts: list[Part] = []
    done = used = 0
    for end, kind in [*cuts, (len(ids), "rest")]:
        start, first = len(token_ids), used
        while used < len(places) and places[used] < end:
            tokens = images[used].grid.views * patches_per_view
            token_ids += ids[done : places[used]] + [ids[places[used]]] * tokens
            done = places[used] + 1
            used += 1
        token_ids += ids[done:end]
        done = end
        parts.append(Part(start, len(token_ids), kind, images[first:used]))
    return Prompt(tuple(token_ids), images, tuple(parts), patches_per_view)


def _as_template_message(message: Message) -> dict[str, Any]:
    content: list[dict[str, str]] = [{"type": "image"} for _ in message.images]
    return {"role": message.role, "content": [*content, {"type": "text", "text": message.text}]}


def _common_beginning(one: Sequence[int], other: Sequence[int]) -> int:
    pairs = zip(one, other, strict=False)
    return next((index for index, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))
