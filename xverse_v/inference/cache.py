"""What was computed once and may serve again: prefilled prompt beginnings, and image tokens. Bounded by bytes, LRU.

What crosses: keys and finished tensors in, the same tensors out, never written to by anyone. A key is a SHA-256 of
content (pixels, sizes, tiler settings, token ids, weights, dtype, device), never of a path or an object, so an
overwritten file is a new image and two images that share bytes but not shape are two. The file knows no model and
computes no tensor.

A prompt is prefilled in parts that end at fixed places (see prompt.py). Each part is one entry whose key contains the
key of the part before, so a conversation of n turns holds its image once, not n times.
"""

from __future__ import annotations

import hashlib
import json
import struct
import threading
from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from torch import Tensor

from .window import Segment

GIB = 2**30
DEFAULT_PREFIX_BYTES = GIB
DEFAULT_FEATURE_BYTES = GIB // 4


class _Sized(Protocol):
    @property
    def nbytes(self) -> int: ...


T = TypeVar("T", bound=_Sized)


@dataclass(frozen=True)
class CacheStats:
    """Counters since the start. ``refused``: entries larger than the whole cache, or than what may be evicted for
    them.
    """

    entries: int
    bytes: int
    max_bytes: int
    hits: int
    misses: int
    evictions: int
    refused: int


class _ByteBounded(Generic[T]):
    """A dictionary that holds at most ``max_bytes`` and forgets what was not used for the longest time."""

    def __init__(self, max_bytes: int) -> None:
        if max_bytes < 0:
            raise ValueError(f"a cache holds at least 0 bytes, got {max_bytes}")
        self.max_bytes = max_bytes
        self.bytes = 0
        self.hits = self.misses = self.evictions = self.refused = 0
        self.entries: OrderedDict[str, T] = OrderedDict()
        self.lock = threading.RLock()

    def put(self, key: str, value: T, keep: Collection[str] = ()) -> bool:
        """Store unless it cannot fit without evicting an entry of ``keep``. A known key keeps its first value."""
        with self.lock:
            if key in self.entries:
                self.entries.move_to_end(key)
                return True
            free = self.max_bytes - sum(self.entries[name].nbytes for name in keep)
            if self.max_bytes == 0 or value.nbytes > free:
                self.refused += self.max_bytes > 0
                return False
            for oldest in [name for name in self.entries if name not in keep]:
                if self.bytes + value.nbytes <= self.max_bytes:
                    break
                self.bytes -= self.entries.pop(oldest).nbytes
                self.evictions += 1
            self.entries[key] = value
            self.bytes += value.nbytes
            return True

    def clear(self) -> int:
        """Forget everything. Returns the bytes set free."""
        with self.lock:
            freed, self.bytes = self.bytes, 0
            self.entries.clear()
            return freed

    def stats(self) -> CacheStats:
        with self.lock:
            return CacheStats(
                len(self.entries), self.bytes, self.max_bytes, self.hits, self.misses, self.evictions, self.refused
            )


class PrefixCache:
    """Prefilled beginnings of prompts, as chains of `Segment`s. ``max_bytes`` 0 turns it off."""

    def __init__(self, max_bytes: int = DEFAULT_PREFIX_BYTES) -> None:
        self._store: _ByteBounded[Segment] = _ByteBounded(max_bytes)

    @property
    def enabled(self) -> bool:
        return self._store.max_bytes > 0

    def find(self, chain: Sequence[str]) -> list[Segment]:
        """The segments of the longest known beginning of ``chain`` (keys from `chain_keys`); empty if none is known."""
        store = self._store
        with store.lock:
            found: list[Segment] = []
            for key in chain:
                if key not in store.entries:
                    break
                found.append(store.entries[key])
            # Youngest first, so that a beginning is always younger than what hangs on it and is evicted after it.
            for key in reversed(chain[: len(found)]):
                store.entries.move_to_end(key)
            if chain:
                store.hits += bool(found)
                store.misses += not found
            return found

    def known(self, chain: Sequence[str]) -> int:
        """How many segments `find` would give now. Counts as no use of them."""
        with self._store.lock:
            return next((i for i, key in enumerate(chain) if key not in self._store.entries), len(chain))

    def put(self, chain: Sequence[str], segment: Segment) -> bool:
        """Store the last part of ``chain``. False if it does not fit, or the parts before it are gone already."""
        store, before = self._store, chain[:-1]
        with store.lock:
            if not all(key in store.entries for key in before):
                return False
            stored = store.put(chain[-1], segment, keep=before)
            for key in reversed(before):
                store.entries.move_to_end(key)
            return stored

    def clear(self) -> int:
        return self._store.clear()

    def stats(self) -> CacheStats:
        return self._store.stats()


class FeatureCache:
    """Image tokens float[V, P, D] by image key, for when the same image comes in another prompt."""

    def __init__(self, max_bytes: int = DEFAULT_FEATURE_BYTES) -> None:
        self._store: _ByteBounded[Tensor] = _ByteBounded(max_bytes)

    def get(self, key: str) -> Tensor | None:
        store = self._store
        with store.lock:
            features = store.entries.get(key)
            if features is None:
                store.misses += 1
                return None
            store.hits += 1
            store.entries.move_to_end(key)
            return features

    def put(self, key: str, features: Tensor) -> bool:
        # A copy unless the tensor owns its storage whole: a view would keep more bytes alive than it accounts for.
        if features.untyped_storage().nbytes() != features.nbytes:
            features = features.clone()
        return self._store.put(key, features)

    def clear(self) -> int:
        return self._store.clear()

    def stats(self) -> CacheStats:
        return self._store.stats()


def content_key(kind: str, facts: Mapping[str, object], *contents: bytes) -> str:
    """SHA-256 hex of a kind, JSON facts and byte strings, each with its length, so no two inputs share one reading."""
    digest = hashlib.sha256()
    head = json.dumps({"kind": kind, **facts}, sort_keys=True, ensure_ascii=True).encode()
    for part in (head, *contents):
        digest.update(struct.pack("<Q", len(part)))
        digest.update(part)
    return digest.hexdigest()


def chain_keys(salt: str, parts: Sequence[tuple[Sequence[int], Sequence[str]]]) -> list[str]:
    """One key for each part of a prompt, given as (token ids, keys of the images in it); each contains the one before.

    ``salt`` names everything else the result depends on: weights, dtype, device, attention.
    """
    keys: list[str] = []
    before = salt
    for token_ids, images in parts:
        packed = struct.pack(f"<{len(token_ids)}q", *token_ids)
        before = content_key("prefix", {"before": before, "images": list(images)}, packed)
        keys.append(before)
    return keys
