"""Who sits in which row of the cache while the engine works.

What crosses: generations and prompts on their way in and out, by the engine alone. This file moves nobody.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from .generation import Generation
from .kv import RowCache
from .prefilling import Prefilling


@dataclass
class Seats:
    """Who sits where: ``active`` in the first rows of ``cache``, right behind them those that are ``ready`` but for the
    short end of their prompt, and ``joining`` in a row behind these. Nobody is ready during a decode step.
    """

    cache: RowCache
    active: list[Generation] = field(default_factory=list)
    ready: list[Prefilling] = field(default_factory=list)
    joining: Prefilling | None = None

    @property
    def seated(self) -> int:
        return len(self.active) + len(self.ready)

    def suits(self, another: int) -> bool:
        """Whether a pass over all that are ready, with one of ``another`` tokens beside them, is not mostly filling."""
        rests = [another] + [len(prefilling.rest) for prefilling in self.ready]
        return self.tokens_together(another) <= 2 * sum(rests)

    def tokens_together(self, another: int = 0) -> int:
        """Tokens of the pass over all that are ready, filling included; with one of ``another`` tokens beside them."""
        rests = [len(prefilling.rest) for prefilling in self.ready] + [another] * (another > 0)
        return len(rests) * max(rests, default=0)
