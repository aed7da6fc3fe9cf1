"""Running the command inside the test process, and a stand-in for the loaded model."""

import io
import sys
from dataclasses import dataclass

import pytest

from xverse_v.cli import main


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str


@pytest.fixture
def run(capsys, monkeypatch):
    """`run("ask", "a.png", "What?", stdin=b"...")` -> exit code, stdout, stderr. English by default."""
    monkeypatch.setenv("XVERSE_V_LANG", "en")  # set here, so that what --lang sets is taken back too

    def call(*arguments, stdin=b""):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin), encoding="utf-8"))
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        written = capsys.readouterr()
        return Outcome(code, written.out, written.err)

    return call


@pytest.fixture
def image(tmp_path):
    """A small image file."""
    from PIL import Image

    path = tmp_path / "image.png"
    Image.new("RGB", (300, 200), "red").save(path)
    return path
