"""The feature store: what the frozen vision tower makes of every image, computed once and read from disk.

What crosses: images in, the tower's patch vectors [V, P, E] before the projector out. An image is found by its pixels:
by the SHA-256 of its RGB bytes and size, so neither names nor places matter and equal images are kept once. A store
belongs to one tower (hash of its weights), one way of cutting views and one number format, and is refused for any
other.

On disk: `store.json` (what it belongs to; `complete` only when it is), `features-00000.bin` and on (views one after
another), `images.log` (48 bytes an image, in the order encoded) and, when complete, `images.index` (the same, sorted by
key). Features are flushed before the log line that names them, so a killed run goes on where it stopped.
float32 gives the same loss as running the tower, to the bit where the tower's result does not depend on how many views
run at once; float16 and bfloat16 round each feature once (2**-11 and 2**-8 of its size at most).
"""

from __future__ import annotations

import hashlib
import json
import os
from bisect import bisect_left
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image

from xverse_v.errors import error
from xverse_v.model.processing import XverseVProcessor

StoreType = Literal["float32", "float16", "bfloat16"]

FORMAT = 1
VIEWS_A_SHARD = 8192  # 4.3 GB of the released tower's features in float16
HEADER, LOG, INDEX = "store.json", "images.log", "images.index"
ENTRY = np.dtype([("key", "V32"), ("first", "<u8"), ("views", "<u8")])
# numpy has no bfloat16: its bits travel as int16.
_STORED: dict[str, np.dtype[Any]] = {
    "float32": np.dtype("<f4"),
    "float16": np.dtype("<f2"),
    "bfloat16": np.dtype("<i2"),
}
TYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def tower_hash(model: Any) -> str:
    """16 hex digits over the vision tower's configuration and weights. Call it before the model is sharded."""
    tower = model.model.vision_tower
    digest = hashlib.sha256()
    settings = {k: v for k, v in tower.config.to_dict().items() if isinstance(v, int | float | str) and k[0] != "_"}
    for name in ("transformers_version", "dtype", "torch_dtype"):
        settings.pop(name, None)
    digest.update(json.dumps(settings, sort_keys=True).encode())
    for name, tensor in sorted(tower.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def image_key(rgb: Image.Image) -> bytes:
    """32 bytes that name an RGB image's pixels."""
    return hashlib.sha256(f"{rgb.width}x{rgb.height} ".encode() + rgb.tobytes()).digest()


def belongs_to(processor: XverseVProcessor, tower: str | None, max_tiles: int | None) -> dict[str, Any]:
    """Everything that decides which features an image has."""
    tiler = processor.image_processor
    return {
        "tower": tower,
        "tile_size": tiler.tile_size,
        "max_tiles": max_tiles or tiler.max_tiles,
        "orientation": tiler.orientation,
        "apply_exif": bool(tiler.apply_exif),
        "background": list(tiler.background),
        "image_mean": list(tiler.image_mean),
        "image_std": list(tiler.image_std),
        "patches_per_view": processor.patches_per_view,
    }


class FeatureStore:
    """A complete store, read-only. Memory-mapped: nothing is read before it is asked for. Picklable."""

    def __init__(self, folder: Path, processor: XverseVProcessor, header: dict[str, Any]) -> None:
        self.folder, self.header = folder, header
        self._processor = processor
        self._maps: dict[int, np.ndarray] = {}
        self._index: np.ndarray | None = None

    @classmethod
    def open(
        cls, folder: Path, processor: XverseVProcessor, *, tower: str | None, max_tiles: int | None = None
    ) -> FeatureStore:
        """Raises E216 if the folder is no complete store, E214 if it belongs to another tower or other views."""
        header = read_header(folder)
        if not header.get("complete"):
            raise error("E216", folder=folder, reason="it is not complete", reason_zh="尚未写完")
        check_belongs(folder, header, belongs_to(processor, tower, max_tiles))
        return cls(folder, processor, header)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_maps": {}, "_index": None}

    def __len__(self) -> int:
        """Images."""
        return int(self.header["images"])

    def features(self, image: Image.Image, place: str = "") -> torch.Tensor:
        """[V, P, E] in the store's number format. Raises E215 if this image was not encoded."""
        key = image_key(self._processor.image_processor.to_rgb(image))
        index = self._entries()
        at = bisect_left(_Keys(index), key)
        if at == len(index) or bytes(index[at]["key"]) != key:
            raise error(
                "E215", folder=self.folder, place=place, width=image.width, height=image.height, key=key.hex()[:16]
            )
        first, views = int(index[at]["first"]), int(index[at]["views"])
        stored = self._shard(first // self.header["views_a_shard"])
        start = first % self.header["views_a_shard"]
        return as_tensor(np.array(stored[start : start + views]), self.header["dtype"])

    def _entries(self) -> np.ndarray:
        if self._index is None:
            self._index = np.memmap(self.folder / INDEX, ENTRY, mode="r")
        return self._index

    def _shard(self, number: int) -> np.ndarray:
        if number not in self._maps:
            path, kind = shard_path(self.folder, number), _STORED[str(self.header["dtype"])]
            try:
                flat: np.ndarray = np.memmap(path, kind, mode="r")
                self._maps[number] = flat.reshape(-1, self.header["patches_per_view"], self.header["width"])
            except (OSError, ValueError) as why:
                reason = f"{path.name}: {why}"
                raise error("E216", folder=self.folder, reason=reason, reason_zh=reason) from why
        return self._maps[number]


class _Keys:
    def __init__(self, index: np.ndarray) -> None:
        self._index = index

    def __len__(self) -> int:
        return len(self._index)

    def __getitem__(self, at: int) -> bytes:
        return bytes(self._index[at]["key"])


def shard_path(folder: Path, number: int) -> Path:
    return folder / f"features-{number:05}.bin"


def as_stored(features: torch.Tensor, dtype: str) -> np.ndarray:
    """Contiguous array of the file's number format."""
    rounded = features.detach().cpu().to(TYPES[dtype]).contiguous()
    return (rounded.view(torch.int16) if dtype == "bfloat16" else rounded).numpy()


def as_tensor(stored: np.ndarray, dtype: str) -> torch.Tensor:
    tensor = torch.from_numpy(stored)
    return tensor.view(torch.bfloat16) if dtype == "bfloat16" else tensor


def read_header(folder: Path) -> dict[str, Any]:
    """`store.json`. Raises E216."""
    try:
        header = json.loads((folder / HEADER).read_text(encoding="utf-8"))
    except (OSError, ValueError) as reason:
        raise error("E216", folder=folder, reason=f"{HEADER}: {reason}", reason_zh=f"{HEADER}：{reason}") from reason
    if header.get("format") != FORMAT:
        raise error(
            "E216", folder=folder, reason=f"format {header.get('format')}", reason_zh=f"格式 {header.get('format')}"
        )
    return dict(header)


def check_belongs(folder: Path, header: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Raises E214 naming the first setting that differs."""
    for name, value in wanted.items():
        if header.get(name) != value:
            raise error("E214", folder=folder, setting=name, found=header.get(name), wanted=value)


def write_header(folder: Path, header: dict[str, Any]) -> None:
    beside = folder / (HEADER + ".part")
    beside.write_text(json.dumps(header, indent=1) + "\n", encoding="utf-8")
    os.replace(beside, folder / HEADER)


def read_log(folder: Path) -> Iterator[tuple[bytes, int, int]]:
    """(key, first view, views) of every image whose features are on disk; a line cut short by a kill is dropped."""
    path = folder / LOG
    if not path.is_file():
        return
    data = np.fromfile(path, ENTRY, count=path.stat().st_size // ENTRY.itemsize)
    for entry in data:
        yield bytes(entry["key"]), int(entry["first"]), int(entry["views"])
