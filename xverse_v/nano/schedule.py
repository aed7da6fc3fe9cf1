"""The learning rate of every step of the recipe: linear warm-up, a plateau, a linear fall to a fiftieth at the end.

Pure numbers; knows nothing of optimisers.
"""

from __future__ import annotations


def learning_rate(step: int, steps: int, *, warmup: int, decay: int, peak: float) -> float:
    """Rate of step `step` (from 0) of `steps`: rises over `warmup`, stays at `peak`, falls over the last `decay`."""
    rise = min(1.0, (step + 1) / max(1, warmup))
    fall = min(1.0, max(0.02, (steps - step) / max(1, decay)))
    return peak * rise * fall
