"""A page of a PDF as an image (extra `pdf`).

What crosses: any source the door takes and a page number in, one RGB image out. The page is drawn by another process
(pdf_worker.py), which is stopped when it takes too long. Text, links, forms' scripts and attachments are not read.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from PIL import Image

from ..errors import XverseError, error
from .door import read_source
from .formats import recognise
from .limits import DEFAULT_LIMITS, MediaLimits, check_size, shown
from .remote import RemotePolicy

DEFAULT_DPI = 150.0  # A4 becomes 1240 x 1754 pixels: more than nine tiles can show, so small print is not lost earlier
SECONDS = 20.0  # for one page

_WORKER = Path(__file__).with_name("pdf_worker.py")
_POINTS_AN_INCH = 72


def open_pdf_page(
    source: str | Path | bytes,
    page: int = 1,
    *,
    dpi: float = DEFAULT_DPI,
    limits: MediaLimits = DEFAULT_LIMITS,
    root: Path | None = None,
    remote: RemotePolicy | None = None,
    paths: bool = True,
    seconds: float = SECONDS,
) -> Image.Image:
    """Draw page `page` (the first is 1) of a PDF on white, at `dpi` dots per inch.

    `source`, `limits`, `root`, `remote` and `paths` as for `open_image`; a data URL's type is `application/pdf`. The
    image must keep within the pixel limits at this dpi.

    Returns an RGB image; `.format` is "PDF", `.info` holds `page`, `pages` and `dpi`. Raises what `read_source` does,
    and E510, E511 (nothing, too much), E544 (no such page), E545 (encrypted), E546 (broken, or no PDF), E547 (takes too
    long), E548 (too large at this dpi), E549 (the extra is missing).
    """
    data, name = read_source(source, limits=limits, root=root, remote=remote, paths=paths, media_type="application/pdf")
    _refuse_unless_pdf(data, name, limits)
    if find_spec("pypdfium2") is None:
        raise error("E549", name=name)
    if not math.isfinite(dpi) or dpi <= 0:
        raise error("E548", name=name, page=page, dpi=dpi, width=0, height=0, most=1200)
    facts, pixels = _draw(data, name, page, dpi, limits, seconds)
    if "problem" in facts:
        raise _problem(facts, name, len(data), page, dpi, limits)
    size = (facts["width"], facts["height"])
    check_size(*size, name, limits)
    image = Image.frombytes("RGB", size, pixels)
    image.format = "PDF"
    image.info |= {"page": page, "pages": facts["pages"], "dpi": (dpi, dpi)}
    return image


def _refuse_unless_pdf(data: bytes, name: str, limits: MediaLimits) -> None:
    if not data:
        raise error("E510", name=name)
    if len(data) > limits.max_bytes:
        raise error("E511", name=name, bytes=len(data), limit=limits.max_bytes)
    if recognise(data) != "PDF":
        raise error("E546", name=name, bytes=len(data), reason=f"it starts with {data[:8].hex(' ')}")


def _draw(
    data: bytes, name: str, page: int, dpi: float, limits: MediaLimits, seconds: float
) -> tuple[Mapping[str, Any], bytes]:
    """The worker's facts and pixels. Raises E547 if it takes too long and E546 if it ends without an answer."""
    # -P keeps the folder of the worker, whose files have common names, off the path of its imports.
    command = [sys.executable, "-P", str(_WORKER), str(page), repr(float(dpi))]
    command += [str(limits.max_side), str(limits.max_pixels)]
    try:
        done = subprocess.run(command, input=data, capture_output=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired as reason:
        raise error("E547", name=name, page=page, seconds=seconds) from reason
    line, _, pixels = done.stdout.partition(b"\n")
    if done.returncode or not line:
        last = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise error("E546", name=name, bytes=len(data), reason=shown(last or f"exit code {done.returncode}"))
    return json.loads(line), pixels


def _problem(facts: Mapping[str, Any], name: str, size: int, page: int, dpi: float, limits: MediaLimits) -> XverseError:
    if facts["problem"] == "page":
        return error("E544", name=name, page=page, pages=facts["pages"])
    if facts["problem"] == "encrypted":
        return error("E545", name=name)
    if facts["problem"] == "size":
        wide, high = facts["points"]
        most = min(limits.max_side / max(wide, high), math.sqrt(limits.max_pixels / (wide * high))) * _POINTS_AN_INCH
        width, height = facts["width"], facts["height"]
        return error("E548", name=name, page=page, dpi=dpi, width=width, height=height, most=math.floor(most))
    return error("E546", name=name, bytes=size, reason=shown(facts["reason"]))
