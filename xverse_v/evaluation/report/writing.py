"""`eval report`: scored work folders in, a report out, in as many formats as are asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from xverse_v.errors import error

from .card import Card, read_card
from .plain import as_csv, as_markdown, as_text
from .reading import Measured, read_work_dirs
from .tables import Comparison, compare

Renderer = Callable[[Card, Sequence[Comparison], Sequence[Measured]], str]


def _as_html(card: Card, comparisons: Sequence[Comparison], measured: Sequence[Measured]) -> str:
    from .page import as_html  # matplotlib comes with it

    return as_html(card, comparisons, measured)


FORMATS: dict[str, tuple[str, Renderer]] = {
    "text": ("report.txt", as_text),
    "markdown": ("report.md", as_markdown),
    "csv": ("report.csv", as_csv),
    "html": ("report.html", _as_html),
}


def render_text(work_dirs: Iterable[Path]) -> str:
    """The report for a terminal. Raises as `write_report`."""
    measured = read_work_dirs(work_dirs)
    card = read_card()
    return as_text(card, compare(card, measured), measured)


def write_report(work_dirs: Iterable[Path], out: Path, formats: Sequence[str] = tuple(FORMATS)) -> list[Path]:
    """Write ``report.txt``, ``.md``, ``.csv`` and ``.html`` (those of ``formats``) into ``out``; returns their paths.

    The same folders give the same bytes. Raises E777 for an unknown format before anything is read, E724/E775/E776 for
    folders, E760 if pictures are asked for and matplotlib is not there.
    """
    for name in formats:
        if name not in FORMATS:
            raise error("E777", got=name, known=", ".join(FORMATS))
    measured = read_work_dirs(work_dirs)
    card = read_card()
    comparisons = compare(card, measured)
    texts = {FORMATS[name][0]: FORMATS[name][1](card, comparisons, measured) for name in dict.fromkeys(formats)}
    out.mkdir(parents=True, exist_ok=True)
    written = []
    for file, text in texts.items():
        (out / file).write_text(text, encoding="utf-8", newline="")
        written.append(out / file)
    return written
