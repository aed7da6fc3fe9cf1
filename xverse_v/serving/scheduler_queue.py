"""Who is next: tickets that wait, a line for each tenant, and how long the whole line takes.

What crosses: tickets in, the next one out; seconds until the line has moved. No threads, no locks and no clock of its
own: the scheduler guards it and tells the time.
"""

from __future__ import annotations

import math
from collections import OrderedDict, deque

from .scheduler_ticket import Ticket

_REMEMBERED = 64
_LONGEST_RETRY = 60


class Line:
    """First come, first served within a tenant; tenants take turns, so nobody waits for all of another's requests."""

    def __init__(self) -> None:
        self._tenants: OrderedDict[str, deque[Ticket]] = OrderedDict()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, ticket: Ticket) -> None:
        self._tenants.setdefault(ticket.tenant, deque()).append(ticket)
        self._count += 1

    def take(self) -> Ticket:
        """The next ticket; its tenant goes to the end. ``KeyError`` if nobody waits."""
        tenant, waiting = self._tenants.popitem(last=False)
        ticket = waiting.popleft()
        self._count -= 1
        if waiting:
            self._tenants[tenant] = waiting
        return ticket

    def remove(self, ticket: Ticket) -> bool:
        """A ticket that ended while it waited. False if it is not in line."""
        waiting = self._tenants.get(ticket.tenant, ())
        if ticket not in waiting:
            return False
        assert isinstance(waiting, deque)
        waiting.remove(ticket)
        self._count -= 1
        if not waiting:
            del self._tenants[ticket.tenant]
        return True


class Pace:
    """How fast requests end, from the last few of them."""

    def __init__(self) -> None:
        self._ends: deque[float] = deque(maxlen=_REMEMBERED)

    def ended(self, now: float) -> None:
        self._ends.append(now)

    def seconds_for(self, requests: int, now: float) -> int:
        """Whole seconds in which about so many end, from 1 to 60; 1 if nothing is known yet."""
        if len(self._ends) < 2:
            return 1
        each = (now - self._ends[0]) / len(self._ends)
        return max(1, min(_LONGEST_RETRY, math.ceil(requests * each)))
