"""`xverse-v tiles`: table, JSON, sheet and page from a folder without weights; refusals with their code."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from tests.conftest import made_image, tiny_config
from xverse_v.cli.tiles import tiles
from xverse_v.errors import LANGUAGE_VARIABLE, XverseError
from xverse_v.inspector import contact_sheet, inspect_tiles, tile_page
from xverse_v.media import open_image
from xverse_v.model import XverseVProcessor

app = typer.Typer()
app.command()(tiles)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, processor: XverseVProcessor) -> Path:
    """A model folder with everything but weights."""
    place = tmp_path_factory.mktemp("model")
    tiny_config().save_pretrained(place)
    processor.save_pretrained(place)
    return place


@pytest.fixture
def image(tmp_path: Path) -> Path:
    place = tmp_path / "a.png"
    made_image("wave", 672, 448, 0).save(place)
    return place


@pytest.fixture(autouse=True)
def english(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(LANGUAGE_VARIABLE, "en")


def run(*arguments: object, stdin: bytes | None = None) -> str:
    """What the command prints on stdout; its own errors are raised."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], input=stdin, catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


def test_the_table_names_every_view(folder: Path, image: Path) -> None:
    lines = run(image, "--model", folder).splitlines()
    table = {line.split()[0]: line for line in lines if line.strip() and line.split()[0].isdigit()}
    assert list(table) == [str(index) for index in range(7)]
    assert "336,149-672,299" in table["4"] and "1026-1281" in table["4"] and "2.25" in table["4"]
    text = " ".join(" ".join(lines).split())
    assert "3 x 2 rows x columns, release" in text and "--grid upright shows the other way" in text
    assert all(len(line) < 80 for line in table.values())


def test_json_is_the_report(folder: Path, image: Path, processor: XverseVProcessor) -> None:
    document = json.loads(run(image, "--model", folder, "--json", "--question", "What?"))
    context = tiny_config().text_config.max_position_embeddings
    report = inspect_tiles(open_image(image), processor, question="What?", context=context).report
    assert document == {"image": str(image), "model": str(folder), **json.loads(json.dumps(report.as_dict()))}


def test_upright_and_fewer_tiles(folder: Path, image: Path) -> None:
    upright = json.loads(run(image, "--model", folder, "--json", "--grid", "upright"))
    assert (upright["rows"], upright["columns"], upright["notes"]) == (2, 3, [])
    assert upright["apply_exif"] and upright["orientation"] == "upright"
    one = json.loads(run(image, "--model", folder, "--json", "--max-tiles", 1))
    assert len(one["views"]) == 1


def test_sheet_and_page_are_written(folder: Path, image: Path, tmp_path: Path, processor: XverseVProcessor) -> None:
    png, html = tmp_path / "sheet.png", tmp_path / "page.html"
    run(image, "--model", folder, "--png", png, "--html", html)
    context = tiny_config().text_config.max_position_embeddings
    inspection = inspect_tiles(open_image(image), processor, context=context)
    with Image.open(png) as sheet:
        assert sheet.format == "PNG" and sheet.tobytes() == contact_sheet(inspection).tobytes()
    assert html.read_text(encoding="utf-8") == tile_page(inspection, name=str(image))


def test_standard_input_and_chinese(folder: Path, image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(LANGUAGE_VARIABLE, "zh")
    assert "图块 3,2" in run("-", "--model", folder, stdin=image.read_bytes())


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["missing.png"], "E500"),
        (["https://example.com/a.png"], "E506"),
        (["{image}", "--max-tiles", "10"], "E112"),
        (["{image}", "--max-tiles", "0"], "E112"),
        (["{image}", "--png", "{image}"], "E541"),
        (["{image}", "--html", "{image}"], "E541"),
        (["{image}", "--png", "{image}/no/folder.png"], "E540"),
        (["{image}", "--html", "/no/such/folder/page.html"], "E540"),
    ],
)
def test_refusals(folder: Path, image: Path, arguments: list[str], code: str) -> None:
    before = image.read_bytes()
    with pytest.raises(XverseError) as refused:
        run(*[argument.format(image=image) for argument in arguments], "--model", folder)
    assert refused.value.code == code
    assert image.read_bytes() == before


def test_folders_that_are_no_model(folder: Path, image: Path, tmp_path: Path) -> None:
    other, half = tmp_path / "other", tmp_path / "half"
    other.mkdir()
    (other / "config.json").write_text('{"model_type": "bert"}')
    half.mkdir()
    (half / "config.json").write_bytes((folder / "config.json").read_bytes())
    for place, code in ((tmp_path / "none", "E105"), (other, "E311"), (half, "E319")):
        with pytest.raises(XverseError) as refused:
            run(image, "--model", place)
        assert refused.value.code == code


def test_an_empty_pipe_is_no_image(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"")))
    with pytest.raises(XverseError) as refused:
        run("-", "--model", folder, stdin=b"")
    assert refused.value.code == "E803"
