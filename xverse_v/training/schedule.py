"""Learning rates as a pure function of the step: linear warm-up to each rule's own peak, then a cosine to its `min_lr`.

What crosses: step numbers and rules in, rates out. No state: a resumed run needs no more than the number of the step.
"""

from __future__ import annotations

import math

from .config import Optimisation, Rule


def learning_rate(rule: Rule, step: int, settings: Optimisation) -> float:
    """Rate of the update that makes step `step` (1 is the first). The last step of warm-up has the peak, the last of
    all `min_lr`."""
    if step <= settings.warmup_steps:
        return rule.lr * step / settings.warmup_steps
    progress = (step - settings.warmup_steps) / max(1, settings.steps - settings.warmup_steps)
    return rule.min_lr + (rule.lr - rule.min_lr) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
