"""Many turns with one model: say, stream, retry, undo, reset, save.

What crosses: texts and images in, answers out, a JSON file on request. A conversation is nothing but its messages;
what was computed for earlier turns is found again by content in the engine's cache, so undo and retry need no
bookkeeping. Images are opened once, when they are said: a file that changes later does not change what was talked
about.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Unpack

from xverse_v.errors import error

from .answer import Answer, Chunk, Reuse
from .assistant import AnswerStream, Assistant, Detail, Request, tile_limit
from .prompt import ImageInput, Message, PreparedImage
from .sampling import SamplingOptions, SamplingSettings, with_options

FORMAT = 1


@dataclass(frozen=True)
class Turn:
    """A question with its images and the answer to it, which may have been cut short by the user."""

    text: str
    images: tuple[PreparedImage, ...]
    answer: Answer


class TurnStream(Iterator[Chunk]):
    """Chunks of one turn's answer. The turn joins the conversation when the answer ends, is cancelled or is closed.

    It takes the place ``place`` among the turns, so a retry replaces the old one only now. If computing fails, the
    conversation stays as it was.
    """

    def __init__(
        self,
        conversation: Conversation,
        place: int,
        text: str,
        images: tuple[PreparedImage, ...],
        stream: AnswerStream,
    ) -> None:
        self._conversation, self._place = conversation, place
        self._text, self._images = text, images
        self._stream = stream
        self._turn: Turn | None = None

    def __next__(self) -> Chunk:
        try:
            return next(self._stream)
        except (StopIteration, KeyboardInterrupt):
            self._finish()
            raise

    @property
    def answer(self) -> Answer:
        for _ in self:
            pass
        return self._finish().answer

    def cancel(self) -> None:
        """End within one token; callable from another thread or a signal handler."""
        self._stream.cancel()

    def close(self) -> None:
        """Stop here and keep what was made."""
        self._stream.close()
        self._finish()

    def __enter__(self) -> TurnStream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None or issubclass(kind, KeyboardInterrupt):
            self.close()

    def _finish(self) -> Turn:
        if self._turn is None:
            self._stream.close()
            self._turn = Turn(self._text, self._images, self._stream.answer)
            self._conversation.turns[self._place :] = [self._turn]
        return self._turn


class Conversation:
    """Made by `Assistant.chat`. ``turns`` is the whole state."""

    def __init__(
        self,
        assistant: Assistant,
        system: str | None,
        max_tiles: int | None,
        detail: Detail,
        settings: SamplingSettings,
        reuse: Reuse,
        fixed_length: bool,
    ) -> None:
        self.system = system
        self.settings = settings
        self.turns: list[Turn] = []
        self._assistant = assistant
        self._max_tiles = tile_limit(detail, max_tiles)
        self._reuse = reuse
        self._fixed_length = fixed_length

    def say(self, text: str, images: tuple[ImageInput, ...] = (), **options: Unpack[SamplingOptions]) -> Answer:
        """Say something, with new images or none, and wait for the answer. Raises E120 when the context is full."""
        return self.stream(text, images, **options).answer

    def stream(self, text: str, images: tuple[ImageInput, ...] = (), **options: Unpack[SamplingOptions]) -> TurnStream:
        """As `say`, chunk by chunk."""
        prepared = tuple(self._assistant.prompts.prepare(image, self._max_tiles) for image in images)
        return self._stream(len(self.turns), text, prepared, with_options(self.settings, options), options)

    def retry(self, **options: Unpack[SamplingOptions]) -> Answer:
        """Answer the last turn again, in place of the old answer. See `stream_retry`."""
        return self.stream_retry(**options).answer

    def stream_retry(self, **options: Unpack[SamplingOptions]) -> TurnStream:
        """As `retry`, chunk by chunk. When sampling, the seed is the old answer's plus one, unless one is given.

        Greedy decoding gives the same answer again. Raises E110 if there is no turn.
        """
        if not self.turns:
            raise error("E110")
        last = self.turns[-1]
        settings = with_options(self.settings, options)
        if not settings.greedy and "seed" not in options:
            settings = replace(settings, seed=last.answer.receipt.seed + 1)
        return self._stream(len(self.turns) - 1, last.text, last.images, settings, options)

    def undo(self) -> Turn:
        """Take the last turn back and return it. Raises E110 if there is none."""
        if not self.turns:
            raise error("E110")
        return self.turns.pop()

    def reset(self) -> None:
        """Forget all turns; system text and settings stay."""
        self.turns.clear()

    @property
    def messages(self) -> list[Message]:
        """System text, questions and answers in the order they were said."""
        first = [] if self.system is None else [Message("system", self.system)]
        return first + list(self._history(self.turns))

    def save(self, path: str | Path) -> Path:
        """Write the conversation as JSON: texts, images, finish reasons and receipts. The file is whole or not there.

        An image that came from a file is named by its path and the key of its content; any other is kept in the file
        itself, as a PNG data URL.
        """
        document = {
            "format": FORMAT,
            "system": self.system,
            "turns": [
                {
                    "text": turn.text,
                    "images": [_image_as_dict(image) for image in turn.images],
                    "answer": turn.answer.as_dict(),
                }
                for turn in self.turns
            ],
        }
        target = Path(path)
        beside = target.with_name(target.name + ".partial")
        beside.write_text(json.dumps(document, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
        return beside.replace(target)

    def _history(self, turns: Sequence[Turn]) -> Iterator[Message]:
        for turn in turns:
            yield Message("user", turn.text, turn.images)
            yield Message("assistant", turn.answer.text)

    def _stream(
        self,
        place: int,
        text: str,
        images: tuple[PreparedImage, ...],
        settings: SamplingSettings,
        options: SamplingOptions,
    ) -> TurnStream:
        request = Request(
            question=text,
            images=images,
            system=self.system,
            history=tuple(self._history(self.turns[:place])),
            max_tiles=self._max_tiles,
            settings=settings,
            reuse=self._reuse,
        )
        fixed = self._fixed_length or "max_new_tokens" in options
        return TurnStream(self, place, text, images, self._assistant.stream_request(request, fixed_length=fixed))


def _image_as_dict(image: PreparedImage) -> dict[str, Any]:
    facts: dict[str, Any] = {"sha256": image.key, "width": image.rgb.width, "height": image.rgb.height}
    if isinstance(image.source, Path) or (isinstance(image.source, str) and not image.source.startswith("data:")):
        return {"path": str(image.source), **facts}
    packed = io.BytesIO()
    image.rgb.save(packed, format="PNG")
    return {"url": "data:image/png;base64," + base64.b64encode(packed.getvalue()).decode(), **facts}
