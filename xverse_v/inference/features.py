"""Image tokens of prepared images: made ahead by another thread, kept from before, or made now by the vision tower.

What crosses: `PreparedImage`s and the generation they belong to in, float[V, P, D] of each out. The books of the
receipt (cutting, vision, cached images) are kept here; the decoder and its KV cache are not known.

Shapes: V views, P patches a view, D decoder width, T side of a tile.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from xverse_v.model import XverseVForConditionalGeneration

from .cache import FeatureCache, content_key
from .generation import Generation, Phase
from .memory import is_memory_error
from .prompt import PreparedImage


class ImageTokens:
    """The vision half of one loaded model with its cache. `ahead` may run in several threads beside the engine's."""

    def __init__(self, model: XverseVForConditionalGeneration, cache: FeatureCache, salt: str) -> None:
        self._model = model
        self._cache = cache
        self._salt = salt

    def take(self, image: PreparedImage, generation: Generation) -> tuple[Tensor, bool]:
        """float[V, P, D] of one image, and whether it passed the vision tower now."""
        kept = generation.job.reuse != "off"
        found = generation.ahead_features.pop(image.key, None)
        if found is None and kept:
            found = self._cache.get(self._key(image, generation))
            generation.cached_features += found is not None
        if found is not None:
            return found, False
        pixels = generation.ahead_pixels.pop(image.key, None)
        if pixels is None:
            pixels = self._cut(image, generation)
        features = self._encode(pixels, generation)
        if kept:
            self._cache.put(self._key(image, generation), features)
        return features, True

    def ahead(self, images: Sequence[PreparedImage], generation: Generation) -> None:
        """Do for these images what can be done before their turn, while the engine decodes other requests.

        Views are cut here. The vision tower runs here only on the CPU, where a core may be free: an accelerator would
        only be taken away from the engine. Out of memory is left for the engine to meet, which can make room.
        """
        for image in images:
            if generation.cancelled():
                return
            if generation.job.reuse != "off":
                found = self._cache.get(self._key(image, generation))
                if found is not None:
                    generation.cached_features += image.key not in generation.ahead_features
                    generation.ahead_features[image.key] = found
                    continue
            pixels = self._cut(image, generation)
            generation.ahead_pixels[image.key] = pixels
            if self._model.device.type != "cpu":
                continue
            try:
                features, _ = self.take(image, generation)
            except RuntimeError as reason:
                if not is_memory_error(reason):
                    raise
                continue
            generation.ahead_features[image.key] = features

    def _key(self, image: PreparedImage, generation: Generation) -> str:
        return content_key("features", {"model": self._salt, "tenant": generation.job.tenant, "image": image.key})

    def _cut(self, image: PreparedImage, generation: Generation) -> Tensor:
        with timed(generation, "images", self._model.device):
            return image.pixel_values()

    @torch.inference_mode()
    def _encode(self, pixel_values: Tensor, generation: Generation) -> Tensor:
        """float32[V, 3, T, T] of one image -> image tokens float[V, P, D]."""
        with timed(generation, "vision", self._model.device):
            pixels = pixel_values.to(self._model.device)
            features: Tensor = self._model.get_image_features(pixels, return_dict=True).pooler_output  # type: ignore[union-attr]
            return features


@contextmanager
def timed(generation: Generation, phase: Phase, device: torch.device) -> Iterator[None]:
    """Add what the block takes to a phase of the receipt, waiting for the device so that each phase gets its own."""
    began = time.perf_counter()
    yield
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    generation.spent(phase, (time.perf_counter() - began) * 1000)
