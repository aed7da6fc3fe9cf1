"""What the chat's buttons do: attach, send, retry, edit, undo, clear, and measuring evidence.

What crosses: a `Visit` and what a visitor typed or chose in; `Shown` out, what the page is to show now, several times
while an answer is made. The model is used through the desk alone. A failure never leaves a button pressed or a text
lost: it is shown with its code, and the conversation stays as it was. The file knows nothing of Gradio.
"""

from __future__ import annotations

import copy
import logging
import threading
import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image

from xverse_v.errors import XverseError, error
from xverse_v.inference.assistant import Assistant
from xverse_v.inference.conversation import Turn
from xverse_v.inference.evidence import Blank, Evidence
from xverse_v.inference.prompt import PreparedImage
from xverse_v.inspector import Inspection, inspect_tiles
from xverse_v.model.processing import XverseVProcessor

from .choices import Choices
from .desk import Desk, Waiting
from .markup import shown_text
from .status import done_line, error_box, line, remark
from .visits import MOST_IMAGES, Visit, Visits
from .work import Asked, Step, Stopped, answer, measure_evidence

log = logging.getLogger(__name__)

_BETWEEN_DRAWINGS = 0.05  # seconds; a fast model would otherwise send more updates than a browser can draw

Box = dict[str, Any]


@dataclass(frozen=True)
class Shown:
    """What the page shows next; None leaves a thing as it is. ``panels``: draw the panels again from the visit."""

    messages: list[dict[str, Any]] | None = None
    box: Box | None = None
    busy: bool = False
    panels: bool = False


class Talk:
    """The demo's deeds, for all visits."""

    def __init__(self, assistant: Assistant, desk: Desk, visits: Visits) -> None:
        self.assistant, self.desk, self.visits = assistant, desk, visits
        # Tiles are inspected while the model may be answering somebody else, so with a processor of their own.
        self._processor: XverseVProcessor = copy.deepcopy(assistant.prompts.processor)
        self._inspecting = threading.Lock()

    def attach(self, visit: Visit, paths: Sequence[str], max_tiles: int) -> tuple[list[str], bool]:
        """Look at what lies in the box now. Returns the paths that may stay, and whether anything is new."""
        before = set(visit.opened)
        problems = self.visits.attach(visit, paths)
        kept = [path for path in paths if path in visit.opened]
        new = bool(set(kept) - before)
        if problems or new:
            visit.status = "".join(error_box(problem, visit.language) for problem in problems)
        if new:
            visit.inspections = [self.inspect(visit.opened[path], max_tiles) for path in kept[:MOST_IMAGES]]
        return kept, new or bool(problems)

    def send(self, visit: Visit, text: str, paths: Sequence[str], choices: Choices) -> Iterator[Shown]:
        """Ask. Text and images go back into the box if that fails."""
        if not text.strip():
            visit.status = line("write_question", visit.language)
            yield Shown()
        elif visit.begin():
            box = {"text": text, "files": list(paths)}
            try:
                asked = Asked(len(visit.turns), text, self._prepared(visit, paths, choices), choices)
            except Exception as problem:
                visit.finish()
                yield self._failed(visit, problem, box)
                return
            yield from self._answer(visit, asked, box)

    def retry(self, visit: Visit, choices: Choices) -> Iterator[Shown]:
        """Answer the last question again; when sampling, with the next seed."""
        if visit.turns and visit.begin():
            last = visit.turns[-1]
            yield from self._answer(visit, Asked(len(visit.turns) - 1, last.text, last.images, choices, again=True))

    def edit(self, visit: Visit, place: int, text: str, choices: Choices) -> Iterator[Shown]:
        """Ask question number ``place`` (from 0) anew with another text and its old images; what followed goes."""
        if 0 <= place < len(visit.turns) and text.strip() and visit.begin():
            yield from self._answer(visit, Asked(place, text, visit.turns[place].images, choices))
        else:
            yield Shown(messages=self.messages(visit, visit.turns), busy=visit.busy)

    def undo(self, visit: Visit) -> Shown:
        """Take the last turn back into the box."""
        if visit.busy or not visit.turns:
            return Shown(busy=visit.busy)
        turn = visit.turns.pop()
        visit.evidence, visit.status = None, ""
        files = [visit.copy(image) for image in turn.images]
        return Shown(self.messages(visit, visit.turns), {"text": turn.text, "files": files}, panels=True)

    def clear(self, visit: Visit) -> Shown:
        """Forget the conversation and its images."""
        if visit.busy:
            return Shown(busy=True)
        self.visits.forget(visit)
        visit.status = ""
        return Shown([], {"text": "", "files": []}, panels=True)

    def evidence(self, visit: Visit, image: int, blank: Blank) -> Iterator[Shown]:
        """Measure what the last answer hangs on in one of the conversation's images (counted from 0)."""
        turns = list(visit.turns)
        if not any(turn.images for turn in turns):
            visit.status = line("evidence_empty", visit.language)
            yield Shown()
            return
        if not visit.begin():
            return
        try:
            yield Shown(busy=True)
            work = measure_evidence(self.assistant, visit, turns, image, blank)
            for news in self.desk.take(work, visit.cancel):
                if isinstance(news, Evidence):
                    visit.evidence, visit.status = news, ""
                elif isinstance(news, Step):
                    visit.status = line("measuring", visit.language, done=news.done, total=news.total)
                elif news.ahead:
                    visit.status = line("waiting", visit.language, ahead=news.ahead)
                yield Shown(busy=True)
        except Stopped:
            visit.status = line("stopped_measuring", visit.language)
        except Exception as problem:
            visit.status = error_box(_known(problem), visit.language)
        finally:
            visit.finish()
        yield Shown(panels=True)

    def messages(self, visit: Visit, turns: Sequence[Turn], asked: Asked | None = None, said: str = "") -> list[Any]:
        """The conversation as the chat shows it; ``asked`` is a question under way with its answer so far."""
        shown: list[dict[str, Any]] = []
        for turn in turns:
            shown += _pair(visit, turn.text, turn.images, [turn.answer.text, remark(turn.answer, visit.language)])
        return shown + (_pair(visit, asked.text, asked.images, [said]) if asked else [])

    def inspect(self, image: Image.Image, max_tiles: int) -> Inspection:
        """The tiles of an image from the door, as the model would see them."""
        with self._inspecting:
            context = self.assistant.engine.max_context
            return inspect_tiles(image, self._processor, max_tiles=max_tiles, context=context)

    def _prepared(self, visit: Visit, paths: Sequence[str], choices: Choices) -> tuple[PreparedImage, ...]:
        """The box's images, opened and named, each with a copy for the chat."""
        if len(paths) > MOST_IMAGES:
            raise error("E667", count=len(paths), most=MOST_IMAGES)
        for problem in self.visits.attach(visit, paths):
            raise problem
        images = []
        for path in paths:
            image = self.assistant.prompts.prepare(visit.opened[path], choices.max_tiles)
            visit.opened[visit.copy(image)] = visit.opened[path]
            images.append(image)
        if paths:
            visit.inspections = [self.inspect(visit.opened[path], choices.max_tiles) for path in paths]
        return tuple(images)

    def _answer(self, visit: Visit, asked: Asked, box: Box | None = None) -> Iterator[Shown]:
        """Make a turn and show it growing. `begin` was called; this calls `finish`."""
        try:
            visit.status = line("reading", visit.language)
            empty = {"text": "", "files": []} if box else None
            yield Shown(self.messages(visit, visit.turns[: asked.place], asked), empty, busy=True)
            turn = yield from self._follow(visit, asked)
            if turn is None:  # stopped before its turn came: nothing was answered, nothing is lost
                visit.status = line("stopped_waiting", visit.language)
                yield Shown(self.messages(visit, visit.turns), box)
                return
            same = asked.again and turn.answer.text == visit.turns[asked.place].answer.text
            visit.status = done_line(turn.answer, visit.language, same=same)
            visit.turns[asked.place :] = [turn]
            visit.system, visit.evidence = asked.choices.system, None
            self._let_go(visit)
            yield Shown(self.messages(visit, visit.turns), panels=True)
        except Exception as problem:
            yield self._failed(visit, problem, box)
        finally:
            visit.finish()

    def _follow(self, visit: Visit, asked: Asked) -> Generator[Shown, None, Turn | None]:
        """Show what comes from the desk; returns the turn, or None if it was cancelled in the line."""
        turn, said, drawn = None, "", 0.0
        for news in self.desk.take(answer(self.assistant, visit, asked), visit.cancel):
            if isinstance(news, Turn):
                turn = news
            elif isinstance(news, Waiting):
                visit.status = line("waiting" if news.ahead else "reading", visit.language, ahead=news.ahead)
                yield Shown(busy=True)
            else:
                said += news.text
                visit.status = line("answering", visit.language)
                if time.monotonic() - drawn >= _BETWEEN_DRAWINGS:
                    drawn = time.monotonic()
                    yield Shown(self.messages(visit, visit.turns[: asked.place], asked, said), busy=True)
        return turn

    def _let_go(self, visit: Visit) -> None:
        """An answered question's uploads are not needed any more: the door's image and the chat's copy are."""
        for path in list(visit.uploads):
            visit.opened.pop(str(path), None)
            visit.gone[str(path)] = None
        self.visits.drop_uploads(visit, list(visit.uploads))

    def _failed(self, visit: Visit, problem: Exception, box: Box | None) -> Shown:
        visit.status = error_box(_known(problem), visit.language)
        return Shown(self.messages(visit, visit.turns), box, panels=True)


def _pair(visit: Visit, text: str, images: Sequence[PreparedImage], answer: list[str]) -> list[dict[str, Any]]:
    """Two messages of the chat; the second is missing while nothing was said."""
    files = [{"path": visit.copy(image)} for image in images]
    said = [_text(piece) for piece in answer if piece]
    user = {"role": "user", "content": [*files, _text(text)]}
    return [user, {"role": "assistant", "content": said}] if said else [user]


def _text(text: str) -> dict[str, str]:
    return {"type": "text", "text": shown_text(text)}  # a plain string would lose its indentation


def _known(problem: Exception) -> XverseError:
    """Ours as it is; anything else is a mistake of ours, logged with its traceback and shown without it."""
    if isinstance(problem, XverseError):
        return problem
    log.error("the demo failed", exc_info=problem)
    return error("E800", type=type(problem).__name__, message=str(problem) or "-")
