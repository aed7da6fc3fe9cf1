"""A page of a PDF becomes an image; what is no page, or no PDF, says so by its code."""

from __future__ import annotations

import base64
import importlib.util
from pathlib import Path

import numpy as np
import pytest
from media_files import encoded, noise
from media_host import Host

from xverse_v.errors import XverseError
from xverse_v.media import MediaLimits, RemotePolicy
from xverse_v.media.pdf import open_pdf_page

COLOURS = {1: (255, 0, 0), 2: (0, 255, 0), 3: (0, 0, 255)}


def pdf(pages: int = 3, box: str = "0 0 144 72", trailer: str = "", behind: bytes = b"") -> bytes:
    """Page n has a square of its colour in the upper left corner, one inch high and wide; the rest is left empty."""
    kids = " ".join(f"{3 + 2 * number} 0 R" for number in range(pages))
    bodies = [b"<</Type/Catalog/Pages 2 0 R>>", f"<</Type/Pages/Count {pages}/Kids[{kids}]>>".encode()]
    for number in range(pages):
        drawing = "{} {} {} rg 0 0 72 72 re f".format(*(value // 255 for value in COLOURS[number % 3 + 1])).encode()
        page = f"<</Type/Page/Parent 2 0 R/MediaBox[{box}]/Contents {4 + 2 * number} 0 R>>"
        bodies += [page.encode(), b"<</Length %d>>stream\n%s\nendstream" % (len(drawing), drawing)]
    file, places = b"%PDF-1.4\n", []
    for number, body in enumerate(bodies, 1):
        places.append(len(file))
        file += b"%d 0 obj%s endobj\n" % (number, body)
    table = "".join(f"{place:010} 00000 n \n" for place in places)
    end = f"xref\n0 {len(places) + 1}\n0000000000 65535 f \n{table}"
    end += f"trailer<</Size {len(places) + 1}/Root 1 0 R{trailer}>>\n"
    return file + end.encode() + b"startxref\n%d\n%%%%EOF" % len(file) + behind


LOCKED = f"/ID[<{'00' * 16}><{'00' * 16}>]/Encrypt<</Filter/Standard/V 1/R 2/P -4/O<{'11' * 32}>/U<{'22' * 32}>>>"


@pytest.mark.parametrize("page", [1, 2, 3])
def test_a_page_is_drawn_on_white(page: int, tmp_path: Path) -> None:
    path = tmp_path / "a.pdf"
    path.write_bytes(pdf())
    image = open_pdf_page(path, page, dpi=100)
    assert (image.size, image.mode, image.format) == ((200, 100), "RGB", "PDF")
    assert image.info == {"page": page, "pages": 3, "dpi": (100, 100)}
    pixels = np.asarray(image)
    assert (pixels[2:-2, 2:98] == COLOURS[page]).all() and (pixels[:, 102:] == 255).all()


def test_every_source_of_the_door_is_one_of_pages(tmp_path: Path, host: Host, policy: RemotePolicy) -> None:
    (tmp_path / "a.pdf").write_bytes(pdf(1))
    host.pages["/a.pdf"] = lambda visit: visit.answer(pdf(1))
    url = "data:application/pdf;base64," + base64.b64encode(pdf(1)).decode()
    drawn = [open_pdf_page(pdf(1)), open_pdf_page(url), open_pdf_page("a.pdf", root=tmp_path)]
    drawn.append(open_pdf_page("https://images.example.com/a.pdf", remote=policy, paths=False))
    assert {image.tobytes() for image in drawn} == {drawn[0].tobytes()}
    assert drawn[0].size == (300, 150)


REFUSED: dict[str, tuple[bytes | str, dict[str, object], str, str]] = {
    "page 0": (pdf(), {"page": 0}, "E544", "from 1 to 3"),
    "page 4": (pdf(), {"page": 4}, "E544", "no page 4; it has 3"),
    "a password": (pdf(trailer=LOCKED), {}, "E545", "password"),
    "nothing": (b"", {}, "E510", "0 bytes"),
    "an image": (encoded(noise(4, 4), "PNG"), {}, "E546", "89 50 4e"),
    "only a beginning": (b"%PDF-1.7\n", {}, "E546", "9 bytes"),
    "garbage": (b"%PDF-1.4\n" + bytes(range(256)) * 50, {}, "E546", "PDF"),
    "too many bytes": (pdf(behind=b" " * 100_000), {"limits": MediaLimits(max_bytes=100_000)}, "E511", "100,000"),
    "a resolution too fine": (pdf(), {"dpi": 20_000}, "E548", "1 to 4472 dots"),
    "no resolution": (pdf(), {"dpi": 0}, "E548", "0x0"),
    "a resolution that is no number": (pdf(), {"dpi": float("nan")}, "E548", "nan"),
    "a page of 200 inches": (pdf(box="0 0 14400 14400"), {}, "E548", "30000x30000"),
    "a strip of 2,000 inches": (pdf(box="0 0 144000 72"), {}, "E548", "300000x150"),
    "an image in a data URL": ("data:image/png;base64,AAAA", {}, "E523", "image/png"),
    "a file, where none is opened": ("a.pdf", {"paths": False}, "E509", "a.pdf"),
    "too slow": (pdf(), {"seconds": 0.001}, "E547", "0.001 s"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_drawn_is_refused_with_its_code(name: str, watchdog: None) -> None:
    source, options, code, word = REFUSED[name]
    with pytest.raises(XverseError) as refused:
        open_pdf_page(source, **options)  # type: ignore[arg-type]
    assert refused.value.code == code
    assert word in refused.value.text("en")


def test_a_process_that_dies_is_a_broken_pdf(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    crash = tmp_path / "crash.py"
    crash.write_text("import os, sys\nsys.stdin.buffer.read()\nos.abort()\n")
    monkeypatch.setattr("xverse_v.media.pdf._WORKER", crash)
    with pytest.raises(XverseError) as refused:
        open_pdf_page(pdf())
    assert refused.value.code == "E546" and "-6" in refused.value.text("en")


def test_without_the_extra_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xverse_v.media.pdf.find_spec", lambda name: None)
    with pytest.raises(XverseError, match=r"xverse-v\[pdf\]") as refused:
        open_pdf_page(pdf())
    assert refused.value.code == "E549"


def test_the_extra_is_there_for_these_tests() -> None:
    assert importlib.util.find_spec("pypdfium2"), 'pip install "xverse-v[test]"'
