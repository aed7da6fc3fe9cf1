"""Token ids short enough to keep beside every prediction: the run of one image's placeholder tokens becomes one entry.

Pure functions on lists; exact in both directions for ids of any model.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby

_SHORTEST_RUN = 4  # below this a pair is no shorter than the ids themselves


def pack(token_ids: Iterable[int]) -> list[int | list[int]]:
    """``[1, 9, 9, 9, 9, 9, 2]`` -> ``[1, [9, 5], 2]``: an id that stands 4 times or more in a row, with its count."""
    packed: list[int | list[int]] = []
    for token, run in groupby(token_ids):
        count = len(list(run))
        packed += [[token, count]] if count >= _SHORTEST_RUN else [token] * count
    return packed


def unpack(packed: Sequence[int | Sequence[int]]) -> list[int]:
    """The ids again."""
    ids: list[int] = []
    for entry in packed:
        ids += [entry] if isinstance(entry, int) else [entry[0]] * entry[1]
    return ids
