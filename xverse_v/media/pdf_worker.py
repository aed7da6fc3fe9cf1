"""A process of its own that draws one page of a PDF: the file on standard input, the pixels on standard output.

PDFium is a large program in C++ that reads hostile files; here it can crash, fill its memory or never end without
taking anybody along, and its lack of thread safety does not matter. Arguments: page, dpi, most pixels a side, most
pixels. Output: one line of JSON, then the rows as RGB bytes if it names a width. Run as a file; imports nothing of the
package.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any

_MOST_MEMORY = 4_000_000_000  # bytes of address space; the largest image let in takes 160 MB
_PASSWORD_NEEDED = 4  # FPDF_ERR_PASSWORD, and the one below FPDF_ERR_SECURITY
_SECURITY_UNKNOWN = 5
_POINTS_AN_INCH = 72


def main(page: int, dpi: float, most_side: int, most_pixels: int) -> None:
    """Draw the page, or say what is in the way: encrypted, broken, no such page, too large."""
    _limit_memory()
    import pypdfium2

    try:
        document = pypdfium2.PdfDocument(sys.stdin.buffer.read())
        pages = len(document)
        if not 1 <= page <= pages:
            _answer({"problem": "page", "pages": pages})
            return
        sheet = document[page - 1]
        points = sheet.get_size()
        width, height = (max(1, round(side * dpi / _POINTS_AN_INCH)) for side in points)
        if max(width, height) > most_side or width * height > most_pixels:
            _answer({"problem": "size", "width": width, "height": height, "points": points, "pages": pages})
            return
        image = sheet.render(scale=dpi / _POINTS_AN_INCH, rev_byteorder=True).to_pil().convert("RGB")
    except pypdfium2.PdfiumError as reason:
        locked = getattr(reason, "err_code", None) in (_PASSWORD_NEEDED, _SECURITY_UNKNOWN)
        _answer({"problem": "encrypted" if locked else "broken", "reason": str(reason)})
        return
    _answer({"width": image.width, "height": image.height, "pages": pages}, image.tobytes())


def _limit_memory() -> None:
    try:
        import resource
    except ImportError:  # Windows has no such limit; the caller's deadline still holds
        return
    resource.setrlimit(resource.RLIMIT_AS, (_MOST_MEMORY, _MOST_MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _answer(facts: Mapping[str, Any], pixels: bytes = b"") -> None:
    sys.stdout.buffer.write(json.dumps(facts).encode() + b"\n" + pixels)
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
