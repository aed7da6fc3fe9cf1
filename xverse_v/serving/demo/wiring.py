"""From events of the page to deeds (talk.py), and from what they show back to components.

What crosses: raw values of a browser in, updates out. Gradio's own preprocessing is off for every event: it would fetch
addresses that a browser names and trust files it points at; here values are checked where they are used, and files pass
the media door. What the chat shows is never read back: the conversation is the visit's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, cast

import gradio as gr

from xverse_v.errors import Language, XverseError
from xverse_v.inference.evidence import Blank

from . import choices
from .choices import Choices
from .confidence import confidence_panel
from .controls import Page
from .heat import heat_panel
from .options import Example
from .receipt import bug_report
from .status import error_box
from .talk import Shown, Talk
from .tiles import tile_panel
from .visits import Visit

#: What every deed may change, in this order.
OUTPUTS = ("chatbot", "box", "status", "tiles", "heat", "which_image", "confidence", "receipt")
_PANELS = ("tiles", "heat", "which_image", "confidence", "receipt")


class Wiring:
    """The handlers of one page. A method takes the request and raw values, and gives updates for `OUTPUTS`.

    Methods whose name is in `ASKING` take all settings and the receipt's box last, as ``*values``.
    """

    def __init__(
        self, talk: Talk, page: Page, examples: Sequence[Example], defaults: Mapping[str, Any], *, follow_browser: bool
    ) -> None:
        self.talk, self.page, self.examples, self.defaults = talk, page, examples, defaults
        self.follow_browser = follow_browser
        self.end_ids = talk.assistant.engine.stop_ids

    # Deeds ------------------------------------------------------------------------------------------------------------

    def send(self, request: gr.Request, box: Any, *values: Any) -> Iterator[Any]:
        text, paths = read_box(box)
        yield from self._asking(request, values, lambda visit, chosen: self.talk.send(visit, text, paths, chosen))

    def example(self, request: gr.Request, event: gr.SelectData, *values: Any) -> Iterator[Any]:
        """An example is asked at once."""
        example = self.examples[int(event.index)]

        def deed(visit: Visit, chosen: Choices) -> Iterator[Shown]:
            return self.talk.send(visit, example.questions[visit.language], [str(example.path)], chosen)

        yield from self._asking(request, values, deed)

    def retry(self, request: gr.Request, *values: Any) -> Iterator[Any]:
        yield from self._asking(request, values, self.talk.retry)

    def edit(self, request: gr.Request, event: gr.EditData, *values: Any) -> Iterator[Any]:
        """A question was rewritten in the chat."""
        index, text = event.index, event.value if isinstance(event.value, str) else ""
        message = int(index[0] if isinstance(index, list | tuple) else index)

        def deed(visit: Visit, chosen: Choices) -> Iterator[Shown]:
            return self.talk.edit(visit, message // 2, text, chosen)  # a turn is two messages

        yield from self._asking(request, values, deed)

    def stop(self, request: gr.Request) -> None:
        self._visit(request).stop()

    def undo(self, request: gr.Request, include: Any) -> Any:
        visit = self._visit(request)
        return self._updates(visit, self.talk.undo(visit), include)

    def clear(self, request: gr.Request, include: Any) -> Any:
        visit = self._visit(request)
        return self._updates(visit, self.talk.clear(visit), include)

    def attach(self, request: gr.Request, box: Any, max_tiles: Any, include: Any) -> Any:
        """The box changed: look at new images at once, so that a bad one is refused before a question is written."""
        visit = self._visit(request)
        text, paths = read_box(box)
        if not paths or visit.busy:
            return [gr.skip()] * len(OUTPUTS)
        kept, changed = self.talk.attach(visit, paths, self._tiles(max_tiles))
        if not changed:
            return [gr.skip()] * len(OUTPUTS)
        put_back = {"text": text, "files": kept} if kept != paths else None
        updates = self._updates(visit, Shown(box=put_back, busy=visit.busy, panels=True), include)
        if put_back is None:
            updates[OUTPUTS.index("box")] = gr.skip()  # somebody may be typing in it
        return updates

    def photo(self, request: gr.Request, photo: Any, box: Any, max_tiles: Any, include: Any) -> Any:
        """A webcam photo joins the box."""
        text, paths = read_box(box)
        taken = photo.get("path") if isinstance(photo, dict) else None
        if not isinstance(taken, str):
            return [gr.skip()] * (len(OUTPUTS) + 1)
        visit = self._visit(request)
        kept, _ = self.talk.attach(visit, [*paths, taken], self._tiles(max_tiles))
        shown = Shown(box={"text": text, "files": kept}, panels=True)
        return [*self._updates(visit, shown, include), gr.Image(value=None)]

    def measure(self, request: gr.Request, which: Any, blank: Any, include: Any) -> Iterator[Any]:
        visit = self._visit(request)
        images = sum(len(turn.images) for turn in visit.turns)
        image = which if isinstance(which, int) and 0 <= which < images else images - 1
        kind = cast(Blank, blank if blank in ("region", "view") else "region")
        for shown in self.talk.evidence(visit, image, kind):
            yield self._updates(visit, shown, include)

    def arrive(self, request: gr.Request) -> list[Any]:
        """A page was opened: empty panels, in the language that the browser asks for."""
        visit = self._visit(request)
        if self.follow_browser:
            visit.language = browser_language(str(request.headers.get("accept-language", "")))
        return [visit.language, *self._updates(visit, Shown(panels=True), False)]

    def leave(self, request: gr.Request) -> None:
        """A page was closed or reloaded."""
        self.talk.visits.end(str(request.session_hash))

    def include(self, request: gr.Request, include: Any) -> str:
        return self._receipt(self._visit(request), include)

    def speak(self, request: gr.Request, language: Any, include: Any) -> list[Any]:
        """Everything on the page in another language."""
        visit = self._visit(request)
        visit.language = "zh" if language == "zh" else "en"
        shown = Shown(self.talk.messages(visit, visit.turns) if not visit.busy else None, panels=True, busy=visit.busy)
        renamed = [rename(visit.language) for _, rename in self.page.renamed]
        return [*renamed, *self._updates(visit, shown, include)]

    def sampling(self, do_sample: Any) -> list[Any]:
        """Controls that only a sampled answer reads are greyed out without."""
        on = do_sample is True
        return [
            gr.Slider(interactive=on),
            gr.Slider(interactive=on),
            gr.Slider(interactive=on),
            gr.Number(interactive=on),
        ]

    def reset(self) -> list[Any]:
        return [self.defaults[name] for name in choices.NAMES]

    # Helpers ----------------------------------------------------------------------------------------------------------

    def _visit(self, request: gr.Request) -> Visit:
        try:
            return self.talk.visits.of(str(request.session_hash))
        except XverseError as problem:  # too many: there is no visit whose status line could say so
            raise gr.Error(problem.text()) from problem

    def _tiles(self, max_tiles: Any) -> int:
        most = int(self.defaults["max_tiles"])
        return int(max_tiles) if isinstance(max_tiles, int | float) and 1 <= max_tiles <= most else most

    def _asking(
        self, request: gr.Request, values: Sequence[Any], deed: Callable[[Visit, Choices], Iterator[Shown]]
    ) -> Iterator[Any]:
        """Read the settings, then do the deed and show it step by step. ``values``: the settings, and ``include``."""
        *settings, include = values
        visit = self._visit(request)
        try:
            chosen = choices.read(settings, self.talk.assistant.settings)
        except XverseError as problem:
            visit.status = error_box(problem, visit.language)
            yield self._updates(visit, Shown(), include)
            return
        for shown in deed(visit, chosen):
            yield self._updates(visit, shown, include)

    def _updates(self, visit: Visit, shown: Shown, include: Any) -> list[Any]:
        """Updates in the order of `OUTPUTS`."""
        box: dict[str, Any] = {"submit_btn": not shown.busy, "stop_btn": shown.busy}
        if shown.box is not None:
            box["value"] = shown.box
        updates = [
            gr.skip() if shown.messages is None else shown.messages,
            gr.MultimodalTextbox(**box),
            visit.status,
        ]
        return updates + (self._panels(visit, include) if shown.panels else [gr.skip()] * len(_PANELS))

    def _panels(self, visit: Visit, include: Any) -> list[Any]:
        language: Language = visit.language
        images = [image for turn in visit.turns for image in turn.images]
        turn = visit.turns[-1] if visit.turns else None
        answer = turn.answer if turn else None
        evidence = visit.evidence
        seen = images[evidence.image].rgb if evidence is not None and evidence.image < len(images) else None
        numbers = [(str(number + 1), number) for number in range(len(images))]
        which = gr.Radio(numbers, value=len(images) - 1 if images else None, visible=len(images) > 1)
        return [
            tile_panel(visit.inspections, language),
            heat_panel(evidence, seen, answer.text if answer else "", language, ready=bool(images)),
            gr.skip() if evidence is not None else which,
            confidence_panel(answer, language, self.end_ids),
            self._receipt(visit, include),
        ]

    def _receipt(self, visit: Visit, include: Any) -> str:
        turn = visit.turns[-1] if visit.turns else None
        return bug_report(turn, len(visit.turns), visit.system, visit.language, include=include is True)


def read_box(box: Any) -> tuple[str, list[str]]:
    """Text and paths of the raw value of the box, whatever a browser sent."""
    if not isinstance(box, dict):
        return "", []
    files = [file.get("path") for file in box.get("files") or [] if isinstance(file, dict)]
    text = box.get("text")
    return text if isinstance(text, str) else "", [path for path in files if isinstance(path, str)]


def browser_language(header: str) -> Language:
    """Chinese if an ``Accept-Language`` header names it before English, else English."""
    for tag in header.lower().split(","):
        if tag.strip().startswith(("zh", "en")):
            return "zh" if tag.strip().startswith("zh") else "en"
    return "en"
