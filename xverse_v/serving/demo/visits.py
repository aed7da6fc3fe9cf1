"""What is kept for each visitor, where it lies on disk, and how it is forgotten.

What crosses: keys of browser sessions and paths of uploads in, `Visit`s out. Images are opened by the media door alone.
Everything on disk lies in one temporary folder: uploads where Gradio puts them, and a folder with an unguessable name
for each visit with the reduced copies that its chat shows. When a visit ends its folder, its uploads and its turns are
gone; when the demo ends, so is the whole folder. The file knows no model and no page.
"""

from __future__ import annotations

import secrets
import shutil
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from PIL import Image

from xverse_v.errors import Language, XverseError, error
from xverse_v.inference.conversation import Turn, TurnStream
from xverse_v.inference.evidence import Evidence
from xverse_v.inference.prompt import PreparedImage
from xverse_v.inspector import Inspection
from xverse_v.media import DEFAULT_LIMITS, MediaLimits, open_image

MOST_VISITS = 64
MOST_IMAGES = 8  # of one message
_SHOWN_SIDE = 1024
_ORPHAN_SECONDS = 900.0  # an upload that no message took by then belongs to a page that is gone
GRACE_SECONDS = 30.0  # a page may still be fetching the preview of a file that was refused or has been answered


class Visit:
    """One open page. ``turns`` is its conversation; only one thing at a time may be under way (`begin`, `finish`)."""

    def __init__(self, folder: Path, language: Language) -> None:
        self.folder = folder
        self.language = language
        self.turns: list[Turn] = []
        self.system: str | None = None  # of the last turn
        self.opened: dict[str, Image.Image] = {}  # by path: uploads that wait, and the copies that the chat shows
        self.copies: dict[str, str] = {}  # key of a prepared image -> path of its copy
        self.uploads: set[Path] = set()
        self.gone: dict[str, XverseError | None] = {}  # uploads removed: refused, or None once answered
        self.inspections: list[Inspection] = []
        self.evidence: Evidence | None = None
        self.status = ""
        self.cancel = threading.Event()
        self.stream: TurnStream | None = None
        self._busy = threading.Lock()

    @property
    def busy(self) -> bool:
        return self._busy.locked()

    def begin(self) -> bool:
        """Whether something new may start; if so, it has."""
        if not self._busy.acquire(blocking=False):
            return False
        self.cancel = threading.Event()
        return True

    def finish(self) -> None:
        self.stream = None
        self._busy.release()

    def stop(self) -> None:
        """End what is under way, within one token."""
        self.cancel.set()
        stream = self.stream
        if stream is not None:
            stream.cancel()

    def copy(self, image: PreparedImage) -> str:
        """Path of a reduced copy of the image for the chat to show. It carries no metadata of the original."""
        if image.key not in self.copies:
            self.folder.mkdir(exist_ok=True)
            kind = "png" if max(image.rgb.size) <= _SHOWN_SIDE // 2 else "jpg"
            path = self.folder / f"{len(self.copies)}.{kind}"
            small = image.rgb.copy()
            small.info.clear()
            small.thumbnail((_SHOWN_SIDE, _SHOWN_SIDE))
            small.save(path, quality=88) if kind == "jpg" else small.save(path)
            self.copies[image.key] = str(path)
        return self.copies[image.key]

    def forget(self) -> None:
        """The conversation and its images; the visit goes on."""
        self.turns.clear()
        self.opened.clear()
        self.copies.clear()
        self.inspections.clear()
        self.evidence = None
        shutil.rmtree(self.folder, ignore_errors=True)


class Visits:
    """All visits, by the key of the browser session. ``root``: the demo's temporary folder. Uploads that are done with
    are removed by the next event that comes after ``grace`` seconds, those of a page that is gone or cleared at once.
    """

    def __init__(
        self, root: Path, language: Language, limits: MediaLimits = DEFAULT_LIMITS, *, grace: float = 0.0
    ) -> None:
        self.root = root.resolve()
        self.kept = {path.resolve() for path in root.rglob("*")}  # files of the demo's own: its examples
        self._language: Language = language
        self._limits = limits
        self._grace = grace
        self._leaving: dict[Path, tuple[Visit, float]] = {}  # folder of an upload -> whose it was, when it is removed
        self._visits: dict[str, Visit] = {}
        self._lock = threading.Lock()

    def of(self, key: str) -> Visit:
        """The visit of this session, new if it has none. Raises E672 when too many are open."""
        with self._lock:
            if key not in self._visits:
                if len(self._visits) >= MOST_VISITS:
                    raise error("E672", count=len(self._visits), most=MOST_VISITS)
                self._visits[key] = Visit(self.root / secrets.token_hex(16), self._language)
            return self._visits[key]

    def __len__(self) -> int:
        return len(self._visits)

    def end(self, key: str) -> None:
        """Stop what the visit does and remove all it left. An unknown key is nobody's."""
        with self._lock:
            visit = self._visits.pop(key, None)
        if visit is not None:
            visit.stop()
            self.forget(visit)
        self._sweep()

    def stop(self) -> None:
        """Stop whatever any visit does."""
        for visit in list(self._visits.values()):
            visit.stop()

    def close(self) -> None:
        """End all visits and remove the folder."""
        for key in list(self._visits):
            self.end(key)
        shutil.rmtree(self.root, ignore_errors=True)

    def attach(self, visit: Visit, paths: Iterable[str]) -> list[XverseError]:
        """Open what was uploaded, once each. An image that is refused gives its error and its file is removed."""
        problems = []
        for path in paths:
            if path in visit.opened:
                continue
            try:
                visit.opened[path] = open_image(path, limits=self._limits, root=self.root)
            except XverseError as problem:
                missing = problem.code in ("E500", "E505")
                if missing and path in visit.gone:  # the box tells of a file once more that we have removed since
                    known = visit.gone[path]
                    problems += [known] if known is not None else []
                    continue
                problems.append(error("E671") if missing else problem)
                visit.gone[path] = problems[-1]
            if self._is_upload(path):
                visit.uploads.add(Path(path))
                self._leaving.pop(Path(path).parent, None)  # the same picture once more
                if path not in visit.opened:
                    self.drop_uploads(visit, {Path(path)})
        return problems

    def forget(self, visit: Visit) -> None:
        """The conversation and all that was uploaded for it, at once."""
        self.drop_uploads(visit, visit.uploads)
        self._remove(lambda whose, due: whose is visit)
        visit.forget()

    def drop_uploads(self, visit: Visit, paths: Iterable[Path]) -> None:
        """Remove files that this visit uploaded, unless another visit uploaded the same: they share one file then."""
        with self._lock:
            others: set[Path] = set()
            for other in self._visits.values():
                others |= other.uploads if other is not visit else set()
        for path in list(paths):
            visit.uploads.discard(path)
            if path not in others and self._is_upload(str(path)):
                self._leaving[path.parent] = visit, time.monotonic() + self._grace
        self._remove(lambda whose, due: due <= time.monotonic())

    def _remove(self, chosen: Callable[[Visit, float], bool]) -> None:
        """Remove those of the uploads on their way out that are chosen by whose they were and when they are due."""
        for folder in [folder for folder, (whose, due) in self._leaving.items() if chosen(whose, due)]:
            del self._leaving[folder]
            shutil.rmtree(folder, ignore_errors=True)

    def _is_upload(self, path: str) -> bool:
        """Whether a path is root/DIGEST/NAME, as Gradio stores what it is sent, and no file of a visit or of ours."""
        place = Path(path).resolve()
        folders = {visit.folder for visit in self._visits.values()}
        return place.parent.parent == self.root and place not in self.kept and place.parent not in folders

    def _sweep(self) -> None:
        """Remove uploads that nobody took: pages closed before their first question."""
        with self._lock:
            held = {path.parent for visit in self._visits.values() for path in visit.uploads}
            held |= {visit.folder for visit in self._visits.values()} | {path.parent for path in self.kept} | self.kept
        before = time.time() - _ORPHAN_SECONDS
        for folder in self.root.iterdir() if self.root.is_dir() else ():
            if folder not in held and folder.stat().st_mtime < before:
                shutil.rmtree(folder, ignore_errors=True)
