"""95 % intervals: Wilson's for shares of right answers, the bootstrap over groups for everything else.

Wilson: E. B. Wilson, "Probable inference", JASA 22 (1927). The bootstrap is the percentile one with a fixed seed, so
the same predictions always give the same interval. Shapes: G groups, K sums a group, R resamples.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from math import sqrt
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]

Z = 1.959963984540054
RESAMPLES = 1000
SEED = 2680
_CHUNK_ROWS = 2_000_000


def wilson(hits: float, total: int) -> tuple[float, float]:
    """The interval of the share `hits` / `total`, as shares 0..1; 0..1 where nothing was counted."""
    if not total:
        return 0.0, 1.0
    share = hits / total
    scale = 1 + Z * Z / total
    middle = (share + Z * Z / (2 * total)) / scale
    half = Z * sqrt(share * (1 - share) / total + Z * Z / (4 * total * total)) / scale
    return max(0.0, min(middle - half, share)), min(1.0, max(middle + half, share))


def bootstrap(sums: npt.ArrayLike, statistic: Callable[[Floats], Floats]) -> tuple[float, float]:
    """The interval of a statistic of column sums when whole groups are drawn again with replacement.

    `sums`: float[G, K], what each group adds to K totals. `statistic`: float[R, K] of totals -> float[R].
    """
    import numpy as np

    table = np.asarray(sums, dtype=np.float64)
    groups = len(table)
    if not groups:
        raise ValueError("an interval needs at least one group")
    random = np.random.default_rng(SEED)
    chunk = max(1, min(RESAMPLES, _CHUNK_ROWS // groups))
    drawn = []
    for start in range(0, RESAMPLES, chunk):
        rows = min(chunk, RESAMPLES - start)
        picked = random.integers(0, groups, size=(rows, groups))
        drawn.append(statistic(table[picked].sum(axis=1)))
    values = np.concatenate(drawn)
    low, high = np.quantile(values[np.isfinite(values)], [0.025, 0.975])
    return float(low), float(high)


def of_ratio(groups: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """The interval of sum(a) / sum(b) over groups (a, b), drawn as a whole.

    Where the draws all agree (one group, or everything right), the bootstrap has nothing to say and Wilson's interval
    of that share over the number of groups stands in.
    """
    low, high = bootstrap(groups, lambda drawn: drawn[:, 0] / drawn[:, 1])
    if low == high:
        share = min(1.0, max(0.0, sum(top for top, _ in groups) / sum(bottom for _, bottom in groups)))
        return wilson(share * len(groups), len(groups))
    return low, high


def of_mean(values: Sequence[float], groups: Iterable[Hashable] | None = None) -> tuple[float, float]:
    """The interval of a mean of values 0..1: Wilson's for plain right and wrong, the bootstrap otherwise.

    `groups` names the group of each value (the questions of one image); groups are then drawn as a whole, because
    their values are not independent.
    """
    if groups is None:
        if all(value in (0, 1) for value in values):
            return wilson(sum(values), len(values))
        groups = range(len(values))
    totals: dict[Hashable, tuple[float, float]] = {}
    for value, group in zip(values, groups, strict=True):
        so_far, count = totals.get(group, (0.0, 0.0))
        totals[group] = (so_far + value, count + 1)
    return of_ratio(list(totals.values()))
