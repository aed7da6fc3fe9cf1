"""What comes back from the engine: answers, streamed pieces, and the receipt that states their conditions.

Plain frozen data. Nothing here computes or reads anything but library versions; `as_dict` gives what JSON can hold.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from importlib.metadata import version
from typing import Any, Literal

from xverse_v import __version__

from .sampling import SamplingSettings

FinishReason = Literal["stop", "length", "cancelled"]
Reuse = Literal["off", "images", "turns"]


UNQUANTISED = "none"


@dataclass(frozen=True)
class Alternative:
    """A token that could stand at a position, and its natural-log probability."""

    token_id: int
    text: str
    logprob: float


@dataclass(frozen=True)
class TokenLogprob:
    """The chosen token of one position with the likeliest ones, from the raw logits (before penalty and
    temperature).
    """

    token_id: int
    text: str
    logprob: float
    top: tuple[Alternative, ...]


@dataclass(frozen=True)
class ImageReceipt:
    """One image as the model saw it. ``width`` and ``height`` in pixels (after EXIF turning where that is on)."""

    width: int
    height: int
    mode: str
    rows: int
    columns: int
    views: int
    tokens: int
    sha256: str


@dataclass(frozen=True)
class Milliseconds:
    """Wall-clock milliseconds a phase: decode images and cut views, vision tower and projector, prefill, decode.

    In a batch, ``decode`` is the time from this row's first token to its last, and ``prefill`` holds the whole of a
    pass that several rows shared; neighbours share that time.
    """

    images: float = 0.0
    vision: float = 0.0
    prefill: float = 0.0
    decode: float = 0.0


@dataclass(frozen=True)
class Conditions:
    """What was the same for every answer of one loaded model. ``threads`` are torch's own, which move the last bits.

    ``quantised``: the kernels the decoder's linears run on where they are not float ("int8-dynamic"), else "none".
    """

    weights_id: str
    dtype: str
    device: str
    attention: str
    orientation: str
    threads: int
    quantised: str = UNQUANTISED


@dataclass(frozen=True)
class Receipt:
    """All that is needed to get the same answer again, and what it cost.

    ``cached_tokens`` of the ``prompt_tokens`` were not prefilled but taken from the prefix cache; ``cached_features``
    of the images did not pass the vision tower. ``batch_size`` is the most rows that could share a decode step;
    in ``shared_passes`` of them, first pass included, the kernel was not ``attention`` but the one that reads what
    several rows begin with once (`shared`).
    """

    images: tuple[ImageReceipt, ...]
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    cached_features: int
    milliseconds: Milliseconds
    seed: int
    settings: SamplingSettings
    reuse: Reuse
    batch_size: int
    weights_id: str
    dtype: str
    device: str
    attention: str
    orientation: str
    profile: str
    threads: int
    versions: Mapping[str, str]
    quantised: str = UNQUANTISED
    shared_passes: int = 0

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Answer:
    """A finished answer. ``token_ids`` are all generated ids, with the end token or the tokens of a stop string if any.

    ``finish_reason``: "stop" (end token or stop string), "length" (``max_new_tokens`` reached), "cancelled".
    """

    text: str
    token_ids: tuple[int, ...]
    finish_reason: FinishReason
    logprobs: tuple[TokenLogprob, ...]
    receipt: Receipt

    def __str__(self) -> str:
        return self.text

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Chunk:
    """A piece of an answer while it is made. ``text`` may be empty; the texts of all chunks join to the answer's text.

    ``token_ids`` are the ids made since the chunk before; ``finish_reason`` is set on the last chunk only.
    """

    text: str
    token_ids: tuple[int, ...] = ()
    finish_reason: FinishReason | None = None
    logprobs: tuple[TokenLogprob, ...] = field(default=())

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@cache
def versions() -> Mapping[str, str]:
    """Versions of what computes: this package, torch, transformers, tokenizers, pillow, python."""
    libraries = {name: version(name) for name in ("torch", "transformers", "tokenizers", "pillow")}
    return {"xverse-v": __version__, **libraries, "python": platform.python_version()}
