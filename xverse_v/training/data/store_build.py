"""Making a feature store: every image of some sources through the vision tower, once.

What crosses: sources, a model and a folder in, a complete store out. The space it will take is computed first. A build
that was killed goes on where it stopped; equal images are encoded once. store.py reads what is written here.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from xverse_v.errors import XverseError, error

from .encode import Encoder
from .sample import ImageRef, Sample
from .sources import Source
from .store import (
    ENTRY,
    FORMAT,
    HEADER,
    INDEX,
    LOG,
    TYPES,
    VIEWS_A_SHARD,
    StoreType,
    as_stored,
    belongs_to,
    check_belongs,
    image_key,
    read_header,
    read_log,
    shard_path,
    tower_hash,
    write_header,
)

_LOOKED_AT = 256  # images that the estimate opens
_FLUSH_EVERY = 32  # images between two flushes to disk


@dataclass(frozen=True)
class StorePlan:
    """The space a store takes. `images` counts every mention; images that appear twice are stored once, so both byte
    counts are upper bounds. `exact`: every image was looked at, else the views of the first and every n-th one were."""

    images: int
    views: int
    bytes: int
    most_bytes: int
    free_bytes: int
    exact: bool


def plan_store(sources: Sequence[Source], encoder: Encoder, width: int, dtype: StoreType, folder: Path) -> StorePlan:
    """What `build_store` will need. width: of the vision tower. Reads every row, opens at most 256 images."""
    images, looked, views = 0, 0, 0
    total = sum(len(source) for source in sources)
    stride = max(1, total // _LOOKED_AT)
    for number, sample in enumerate(_samples(sources)):
        images += len(sample.images)
        if number % stride:
            continue
        for image in sample.images:
            try:
                views += encoder.views_of([image.open(encoder.limits)])[0]
                looked += 1
            except XverseError:
                continue  # build_store says which image is bad; an estimate need not
    per_view = encoder.processor.patches_per_view * width * TYPES[dtype].itemsize
    tiles = encoder.max_tiles or encoder.processor.image_processor.max_tiles
    most = images * (tiles + 1 if tiles > 1 else 1)
    expected = round(images * views / looked) if looked else most
    exact = looked == images
    existing = next(parent for parent in (folder, *folder.resolve().parents) if parent.exists())
    return StorePlan(images, expected, expected * per_view, most * per_view, shutil.disk_usage(existing).free, exact)


def build_store(
    sources: Sequence[Source],
    encoder: Encoder,
    model: Any,
    folder: Path,
    *,
    dtype: StoreType = "float16",
    on_bad_image: str = "fail",
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Writes the store and returns its header; one that is complete already is extended by images it lacks.

    progress(samples done, samples) is told after every sample. Raises E213 for a bad image unless on_bad_image="skip"
    (the header counts them), E214 if the folder holds a store that belongs to something else.
    """
    width = int(model.config.vision_config.hidden_size)
    wanted = belongs_to(encoder.processor, tower_hash(model), encoder.max_tiles)
    wanted |= {"format": FORMAT, "dtype": dtype, "width": width, "views_a_shard": VIEWS_A_SHARD}
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / HEADER).exists():
        check_belongs(folder, read_header(folder), wanted)
    write_header(folder, wanted | {"complete": False})
    writer = _Writer(folder, wanted)
    total, bad = sum(len(source) for source in sources), 0
    for number, sample in enumerate(_samples(sources), 1):
        for image in sample.images:
            try:
                _encode(image, sample, encoder, model, writer)
            except XverseError as problem:
                if problem.code != "E213" or on_bad_image == "fail":
                    writer.close()
                    raise
                bad += 1
        if progress is not None:
            progress(number, total)
    header = wanted | {"complete": True, "images": len(writer.known), "views": writer.views, "bad_images": bad}
    writer.close()
    _write_index(folder)
    write_header(folder, header)
    return header


def _samples(sources: Sequence[Source]) -> Iterator[Sample]:
    for source in sources:
        for index in range(len(source)):
            yield source.sample(index)


def _encode(ref: ImageRef, sample: Sample, encoder: Encoder, model: Any, writer: _Writer) -> None:
    image = encoder.open(ref, sample)
    rgb: Image.Image = encoder.processor.image_processor.to_rgb(image)
    key = image_key(rgb)
    if key in writer.known:
        return
    extra = {} if encoder.max_tiles is None else {"max_tiles": encoder.max_tiles}
    pixels = encoder.processor.image_processor(image, return_tensors="pt", **extra)["pixel_values"]
    tower = model.model.vision_tower
    with torch.no_grad():
        features = tower(pixels.to(tower.device, tower.dtype)).last_hidden_state[:, 1:]
    writer.write(key, as_stored(features, writer.header["dtype"]))


class _Writer:
    """Appends to shards and log. `known` holds 32 bytes an image while building: 1 GB for ten million images."""

    def __init__(self, folder: Path, header: dict[str, Any]) -> None:
        self.folder, self.header = folder, header
        self.known: set[bytes] = set()
        self.views, self._next, self._unflushed = 0, 0, 0
        for key, first, views in read_log(folder):
            self.known.add(key)
            self.views += views
            self._next = max(self._next, first + views)
        log = folder / LOG
        if log.exists():
            os.truncate(log, len(self.known) * ENTRY.itemsize)
        self._log = log.open("ab")
        self._shard: Any = None
        self._number = -1
        self._lines = bytearray()

    def write(self, key: bytes, features: np.ndarray) -> None:
        per_shard = self.header["views_a_shard"]
        if self._next % per_shard + len(features) > per_shard:
            self._next += per_shard - self._next % per_shard  # an image never lies in two shards
        self._open(self._next // per_shard)
        self._shard.seek(self._next % per_shard * features[0].nbytes)
        self._shard.write(features.tobytes())
        self._lines += np.array([(key, self._next, len(features))], ENTRY).tobytes()
        self.known.add(key)
        self.views += len(features)
        self._next += len(features)
        self._unflushed += 1
        if self._unflushed >= _FLUSH_EVERY:
            self.flush()

    def flush(self) -> None:
        """Features first, then the lines that name them."""
        if self._shard is not None:
            self._shard.flush()
            os.fsync(self._shard.fileno())
        self._log.write(self._lines)
        self._log.flush()
        os.fsync(self._log.fileno())
        self._lines.clear()
        self._unflushed = 0

    def close(self) -> None:
        self.flush()
        self._log.close()
        if self._shard is not None:
            self._shard.close()

    def _open(self, number: int) -> None:
        if number == self._number:
            return
        if self._shard is not None:
            self.flush()
            self._shard.close()
        path = shard_path(self.folder, number)
        path.touch()
        self._shard, self._number = path.open("r+b"), number


def _write_index(folder: Path) -> None:
    """The log's lines sorted by key, written beside and renamed. Raises E222 if there is no image at all."""
    entries = sorted(read_log(folder))
    if not entries:
        raise error("E222", folder=folder)
    beside = folder / (INDEX + ".part")
    np.array(entries, ENTRY).tofile(beside)
    os.replace(beside, folder / INDEX)
