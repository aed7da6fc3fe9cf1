"""What the door refuses before it has seen a byte: names, links, devices, URLs, text and objects."""

from __future__ import annotations

import base64
import io
import os
import socket
from pathlib import Path

import pytest
from media_files import data_url, encoded, noise
from PIL import Image

from xverse_v.errors import XverseError
from xverse_v.media import open_image

PNG = encoded(noise(40, 30), "PNG")
SVG = b'<svg xmlns="http://www.w3.org/2000/svg"></svg>'

REFUSED_STRINGS: dict[str, tuple[str, str]] = {
    "http": ("http://example.com/a.png", "E506"),
    "https, upper case": ("HTTPS://example.com/a.png", "E506"),
    "file with a host": ("file:///etc/passwd", "E507"),
    "file without slashes": ("file:/etc/passwd", "E507"),
    "ftp": ("ftp://example.com/a.png", "E508"),
    "s3": ("s3://bucket/a.png", "E508"),
    "NUL in the name": ("a\0.png", "E504"),
    "empty name": ("", "E504"),
    "bare base64": (base64.b64encode(bytes(4000)).decode(), "E504"),
    "missing file": ("no-such-image.png", "E500"),
    "below a file": (f"{__file__}/a.png", "E500"),
    "folder": (os.path.dirname(__file__), "E501"),
    "device": (os.devnull, "E502"),
    "endless device": ("/dev/zero", "E502"),
    "half a letter": ("a\ud800.png", "E504"),
    "javascript": ("javascript:alert(1)", "E500"),
    "data URL without base64": ("data:image/png,abc", "E522"),
    "data URL without a comma": ("data:image/png;base64" + "A" * 3000, "E522"),
    "data URL of a page": ("data:text/html;base64,PGh0bWw+", "E523"),
    "data URL without a type": ("data:;base64,iVBORw0K", "E523"),
    "data URL, letters outside base64": ("data:image/png;base64,%%%%", "E524"),
    "data URL, cut": (data_url(PNG)[:-1], "E524"),
    "data URL of nothing": ("data:image/png;base64,", "E510"),
    "data URL of an SVG": (data_url(SVG, "image/svg+xml"), "E520"),
    "data URL of 50 MB": ("data:image/png;base64," + "A" * 50_000_000, "E511"),
}


@pytest.mark.parametrize("name", REFUSED_STRINGS)
def test_hostile_strings_are_refused_with_their_code(name: str, watchdog: None) -> None:
    source, code = REFUSED_STRINGS[name]
    with pytest.raises(XverseError) as refused:
        open_image(source)
    assert refused.value.code == code
    assert len(refused.value.text("en")) < 1_000


NO_PATHS: dict[str, tuple[str | Path, str]] = {
    "relative": ("a.png", "E509"),
    "absolute": ("/etc/passwd", "E509"),
    "upwards": ("../../../../etc/passwd", "E509"),
    "upwards, encoded": ("%2e%2e/etc/passwd", "E509"),
    "a Path": (Path(__file__), "E509"),
    "of Windows": ("C:\\Windows\\win.ini", "E509"),
    "a network share": ("\\\\host\\share\\a.png", "E509"),
    "home": ("~/.ssh/id_rsa", "E509"),
    "a device": ("/dev/zero", "E509"),
    "this process": ("/proc/self/environ", "E509"),
    "empty": ("", "E509"),
    "NUL": ("a\0.png", "E509"),
    "bare base64": ("iVBORw0KGgo=", "E509"),
    "javascript": ("javascript:alert(1)", "E509"),
    "file URL": ("file:///etc/passwd", "E507"),
    "file URL, short": ("FILE:/etc/passwd", "E507"),
    "gopher": ("gopher://127.0.0.1:6379/_FLUSHALL", "E508"),
    "https": ("https://example.com/a.png", "E506"),
    "https without slashes": ("https:example.com/a.png", "E506"),
}


@pytest.mark.parametrize("name", NO_PATHS)
def test_a_server_opens_no_files_whatever_they_are_called(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    source, code = NO_PATHS[name]

    def opened(*_: object) -> int:
        raise AssertionError("a file was opened")

    with monkeypatch.context() as patched:
        patched.setattr(os, "open", opened)
        patched.setattr(Path, "resolve", opened)
        with pytest.raises(XverseError) as refused:
            open_image(source, paths=False)
    assert refused.value.code == code


def test_pipes_sockets_and_link_loops_are_refused_without_waiting(tmp_path: Path, watchdog: None) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "to-pipe.png").symlink_to("pipe.png")
    (tmp_path / "loop.png").symlink_to("loop.png")
    with socket.socket(socket.AF_UNIX) as server:
        place = os.getcwd()
        os.chdir(tmp_path)  # a socket's address is short
        try:
            server.bind("socket.png")
        finally:
            os.chdir(place)
        for name, code in [("pipe.png", "E502"), ("to-pipe.png", "E502"), ("socket.png", "E502"), ("loop.png", "E503")]:
            with pytest.raises(XverseError) as refused:
                open_image(tmp_path / name)
            assert refused.value.code == code, name


def test_an_unreadable_file_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(PNG)

    def denied(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", denied)
    with pytest.raises(XverseError, match="Permission denied") as refused:
        open_image(path)
    assert refused.value.code == "E503"


def test_root_confines_paths_and_their_links(tmp_path: Path) -> None:
    root = tmp_path / "images"
    (root / "deep").mkdir(parents=True)
    (root / "deep" / "a.png").write_bytes(PNG)
    (root / "inside.png").symlink_to(root / "deep" / "a.png")
    sibling = tmp_path / "images_secret"  # a prefix test on strings would let it in
    sibling.mkdir()
    (sibling / "b.png").write_bytes(PNG)
    (root / "escape.png").symlink_to(sibling / "b.png")
    (root / "escape").symlink_to(sibling)

    for inside in ("deep/a.png", "inside.png", "deep/../inside.png", root / "deep" / "a.png"):
        assert open_image(inside, root=root).size == (40, 30)
    for outside in ("escape.png", "escape/b.png", "../images_secret/b.png", str(sibling / "b.png"), "/etc/hostname"):
        with pytest.raises(XverseError) as refused:
            open_image(outside, root=root)
        assert refused.value.code == "E505", outside
    assert open_image(root / "escape.png").size == (40, 30)  # without a root the user's own links are followed
    assert open_image(PNG, root=root).size == (40, 30)


@pytest.mark.parametrize(
    ("source", "code"),
    [
        (None, "E525"),
        (7, "E525"),
        (["a.png"], "E525"),
        (Image.new("RGB", (0, 5)), "E515"),
        (Image.new("F", (5, 5)), "E518"),
    ],
)
def test_objects_that_are_no_image_are_refused(source: object, code: str) -> None:
    with pytest.raises(XverseError) as refused:
        open_image(source)  # type: ignore[arg-type]
    assert refused.value.code == code


def test_pil_images_meet_the_size_limits_and_must_load() -> None:
    with pytest.raises(XverseError) as too_long:
        open_image(Image.new("L", (20_001, 1)))
    assert too_long.value.code == "E513"
    with pytest.raises(XverseError) as broken:
        open_image(Image.open(io.BytesIO(PNG[:-200])))
    assert broken.value.code == "E519"


def test_control_characters_of_a_name_do_not_reach_the_terminal() -> None:
    with pytest.raises(XverseError) as refused:
        open_image("evil\x1b[31m\r\n.png")
    assert "\x1b" not in refused.value.text("en") and "\\x1b[31m\\r\\n.png" in refused.value.text("en")
