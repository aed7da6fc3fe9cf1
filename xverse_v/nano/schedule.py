"""The learning rate of every step of the two stand-ins: cycles of a linear warm-up, a plateau and a linear fall.

Pure numbers; knows nothing of optimisers. A run may be made longer by a cycle: the steps before it keep their rates.
"""

from __future__ import annotations

from collections.abc import Sequence


def learning_rate(step: int, cycles: Sequence[int], *, warmup: int, fall: float, peak: float) -> float:
    """Rate of step `step` (from 0). `cycles`: steps of each; it rises over `warmup` of them, stays at `peak`, and falls
    to a fiftieth over the last share `fall`."""
    for length in cycles:
        if step < length:
            rise = min(1.0, (step + 1) / max(1, warmup))
            return peak * rise * min(1.0, max(0.02, (length - step) / max(1.0, fall * length)))
        step -= length
    raise ValueError(f"step {step} lies behind the last cycle of {list(cycles)}")
