"""What the routes ask of whatever computes the answers: the model in this process, or another server.

Types only. A backend takes requests whose shape is checked already and gives OpenAI's documents; it knows no route, no
key and no socket.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from xverse_v.errors import XverseError

from .gate import Facts
from .protocol import ChatRequest, TilesRequest

State = Literal["loading", "ready", "stopping", "failed"]
Document = dict[str, Any]


@dataclass(frozen=True)
class Call:
    """One chat request on its way; ``facts.notes`` takes what its sender should know."""

    request: ChatRequest
    facts: Facts


class Backend(Protocol):
    """Calls before the state is "ready" raise E600; all raise `XverseError` for what goes wrong."""

    @property
    def state(self) -> State: ...

    @property
    def failure(self) -> XverseError | None:
        """Why it cannot answer any more."""

    def start(self) -> None:
        """Begin to load or connect; returns at once."""

    async def complete(self, call: Call) -> Document:
        """The whole ``chat.completion``. Being cancelled ends the work behind it."""

    def stream(self, call: Call) -> AsyncGenerator[Document, None]:
        """``chat.completion.chunk`` documents. Being closed ends the work behind it."""

    async def tiles(self, request: TilesRequest, facts: Facts) -> Document:
        """What the model would see of an image."""

    def model_facts(self) -> Mapping[str, Any]:
        """For /v1/models: what the model is and takes."""

    def gauges(self) -> Mapping[str, float]:
        """For /metrics."""

    async def close(self, seconds: float) -> None:
        """Refuse new calls, give the running ones ``seconds`` to end, then end them with E618 or E146."""
