"""Which sample stands at which position: a pure function of the seed, the sizes and the weights.

What crosses: a position (0, 1, 2, ... without end) in, (source, index) out, in constant time and memory. Nothing here
depends on ranks, workers, micro-batches or on what was asked before, so a training run's place in its data is one
number.

A source of n samples with weight w fills round(w * n) places of every pass over the mixture, spread evenly over it
(sample j of m stands at time (2j + 1) / 2m). A source's own samples are permuted with a key of (seed, source, epoch),
and no sample is seen a second time before the others of its source were seen once. With weight 1 a pass is an epoch.

The permutation is a Feistel network on the smallest even number of bits that holds n, walked until the value is
below n (Black and Rogaway, 2002: "Ciphers with arbitrary finite domains").
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache

_ROUNDS = 6
_MASK64 = (1 << 64) - 1


def permuted(index: int, size: int, key: tuple[int, ...]) -> int:
    """The place to which a permutation of 0..size-1, named by `key`, sends `index`."""
    if not 0 <= index < size:
        raise IndexError(f"index {index} of {size}")
    if size == 1:
        return 0
    half = ((size - 1).bit_length() + 1) // 2
    mask = (1 << half) - 1
    rounds = _round_keys(key)
    while True:
        left, right = index >> half, index & mask
        for round_key in rounds:
            left, right = right, left ^ (_mixed(right ^ round_key) & mask)
        index = left << half | right
        if index < size:
            return index


@lru_cache(maxsize=256)
def _round_keys(key: tuple[int, ...]) -> tuple[int, ...]:
    digest = hashlib.sha512(repr(key).encode()).digest()
    return tuple(int.from_bytes(digest[8 * i : 8 * i + 8], "little") for i in range(_ROUNDS))


def _mixed(value: int) -> int:
    """SplitMix64's finaliser: every input bit reaches every output bit (Steele, Lea and Flood, 2014)."""
    value = (value ^ value >> 30) * 0xBF58476D1CE4E5B9 & _MASK64
    value = (value ^ value >> 27) * 0x94D049BB133111EB & _MASK64
    return value ^ value >> 31


class Order:
    """The endless order of a mixture. sizes: samples of each source; weights: see above; window: see `_windowed`."""

    def __init__(self, sizes: Sequence[int], weights: Sequence[float], seed: int, window: int | None = None) -> None:
        self.sizes = tuple(sizes)
        self.places = tuple(round(size * weight) for size, weight in zip(sizes, weights, strict=True))
        # A small weight must not round to never.
        self.places = tuple(p or int(s > 0 and w > 0) for p, s, w in zip(self.places, sizes, weights, strict=True))
        self.seed = seed
        self.window = window
        if not self.per_pass:
            raise ValueError("nothing to order: every source is empty or has weight 0")

    @property
    def per_pass(self) -> int:
        """Positions of one pass over the mixture."""
        return sum(self.places)

    def at(self, position: int) -> tuple[int, int]:
        """(source, index in that source) of a position."""
        which_pass, place = divmod(position, self.per_pass)
        source, taken = self._interleaved(place)
        epoch, draw = divmod(which_pass * self.places[source] + taken, self.sizes[source])
        return source, self._windowed(draw, self.sizes[source], (self.seed, source, epoch))

    def _interleaved(self, place: int) -> tuple[int, int]:
        """(source, how many of its samples came before) of a place in a pass: the place-th smallest of all times."""
        total = self.per_pass
        # How many samples of each source have a time of at most place / total: near the answer, and exact.
        taken = [(2 * count * place + total) // (2 * total) for count in self.places]

        def time(source: int, back: int) -> tuple[Fraction, int]:
            return Fraction(2 * (taken[source] - back) + 1, self.places[source]), source

        while sum(taken) > place:
            taken[max((time(s, 1) for s, count in enumerate(taken) if count))[1]] -= 1
        while True:
            source = min(time(s, 0) for s, count in enumerate(self.places) if taken[s] < count)[1]
            if sum(taken) == place:
                return source, taken[source]
            taken[source] += 1

    def _windowed(self, draw: int, size: int, key: tuple[int, ...]) -> int:
        """Without a window any sample may come next. With one, blocks of `window` neighbours are permuted, then the
        samples inside each: reads stay in one stretch of the disk, at the price of a weaker shuffle."""
        if not self.window or self.window >= size:
            return permuted(draw, size, key)
        blocks, rest = divmod(size, self.window)
        if draw >= blocks * self.window:
            return blocks * self.window + permuted(draw - blocks * self.window, rest, (*key, blocks))
        block, inside = divmod(draw, self.window)
        block = permuted(block, blocks, key)
        return block * self.window + permuted(inside, self.window, (*key, block))
