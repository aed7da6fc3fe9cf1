"""What runs in the desk's thread: making one turn, and measuring evidence. The only code here that drives the model.

What crosses: an assistant, a visit (its `cancel` and its `stream`, to be stopped from outside) and what was asked in;
chunks, then a turn, or steps, then evidence told. It changes neither the visit's turns nor the page.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from xverse_v.inference.answer import Chunk
from xverse_v.inference.assistant import Assistant
from xverse_v.inference.conversation import Turn
from xverse_v.inference.evidence import Blank, Evidence, measure
from xverse_v.inference.prompt import Message, PreparedImage

from .choices import Choices
from .desk import Work
from .visits import Visit


@dataclass(frozen=True)
class Asked:
    """A question to become turn number ``place`` of a visit. ``again``: another answer to the turn standing there."""

    place: int
    text: str
    images: tuple[PreparedImage, ...]
    choices: Choices
    again: bool = False


@dataclass(frozen=True)
class Step:
    """Evidence under way: parts scored, of all."""

    done: int
    total: int


class Stopped(Exception):
    """A measurement was ended by its visitor."""


def answer(assistant: Assistant, visit: Visit, asked: Asked) -> Work[Chunk | Turn]:
    """Work that tells the chunks of one turn and then the turn."""

    def work(tell: Callable[[Chunk | Turn], None]) -> None:
        choices = asked.choices
        conversation = assistant.chat(system=choices.system, max_tiles=choices.max_tiles, **choices.options)
        conversation.turns = visit.turns[: asked.place + asked.again]
        stream = conversation.stream_retry() if asked.again else conversation.stream(asked.text, asked.images)
        with stream:
            visit.stream = stream
            if visit.cancel.is_set():  # just now, when there was no stream yet to tell
                stream.cancel()
            for chunk in stream:
                tell(chunk)
                if visit.cancel.is_set():  # the whole demo is closing
                    stream.cancel()
        tell(conversation.turns[-1])

    return work


def measure_evidence(
    assistant: Assistant, visit: Visit, turns: Sequence[Turn], image: int, blank: Blank
) -> Work[Step | Evidence]:
    """Work that measures what the answer of the last turn hangs on in image number ``image`` of all turns."""

    def work(tell: Callable[[Step | Evidence], None]) -> None:
        def progress(done: int, total: int) -> None:
            if visit.cancel.is_set():
                raise Stopped
            tell(Step(done, total))

        prompt, ids = messages(visit.system, turns), turns[-1].answer.token_ids
        tell(measure(assistant, prompt, ids, image=image, blank=blank, progress=progress))

    return work


def messages(system: str | None, turns: Sequence[Turn]) -> list[Message]:
    """The prompt of the last turn."""
    before = [] if system is None else [Message("system", system)]
    for turn in turns[:-1]:
        before += [Message("user", turn.text, turn.images), Message("assistant", turn.answer.text)]
    return [*before, Message("user", turns[-1].text, turns[-1].images)]
