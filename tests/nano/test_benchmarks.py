"""Benchmark files: the same questions and pixels behind another door, and the same scores through it."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image

from xverse_v.evaluation.contract import ImageRef, Row
from xverse_v.evaluation.custom import custom_benchmark, kind_of
from xverse_v.evaluation.models.opening import ModelOptions, open_model
from xverse_v.evaluation.tsv import image_bytes
from xverse_v.inference.loading import load
from xverse_v.nano.benchmarks import FILED, file_name, records, write_benchmark
from xverse_v.nano.evaluate import answers
from xverse_v.nano.items import ROWS, items

COUNT = 7


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("benchmarks")
    for row in FILED:
        write_benchmark(folder / file_name(row), row, COUNT)
    return folder


def rows_of(path: Path) -> list[Row]:
    found = list(custom_benchmark(path.stem, kind_of(path)).rows(path, "vlmevalkit", None))
    rows = [row for row in found if isinstance(row, Row)]
    assert rows == found
    return rows


def opened(ref: ImageRef) -> Image.Image:
    return Image.open(io.BytesIO(image_bytes(ref)))


@pytest.mark.parametrize("row", FILED)
def test_every_question_comes_back_with_its_pixels(folder: Path, row: str) -> None:
    path = folder / file_name(row)
    assert kind_of(path) == "answers"
    asked, found = list(items(row, COUNT)), rows_of(path)
    assert [(one.question, one.answers) for one in found] == [(i.qa.question, (i.qa.answer,)) for i in asked]
    assert [one.fields["category"] for one in found] == [item.qa.kind for item in asked]
    assert [one.fields["language"] for one in found] == [item.qa.language for item in asked]
    for one, item in zip(found, asked, strict=True):
        assert [opened(ref).tobytes() for ref in one.images] == [image.tobytes() for image in item.images]


def test_an_image_is_stored_once(folder: Path) -> None:
    for row in FILED:
        lines = (folder / file_name(row)).read_text(encoding="utf-8").splitlines()[1:]
        pictures = len({id(item.images) for item in list(items(row, COUNT))})
        assert len(lines) == COUNT and sum(len(line) > 2000 for line in lines) == pictures < COUNT


def test_the_same_command_writes_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    write_benchmark(tmp_path / "again.tsv", "charts", COUNT)
    assert (tmp_path / "again.tsv").read_bytes() == (folder / file_name("charts")).read_bytes()
    assert list(tmp_path.iterdir()) == [tmp_path / "again.tsv"]


def test_turns_have_no_place_in_a_table() -> None:
    assert set(FILED) == set(ROWS) - {"follow-up"}
    with pytest.raises(ValueError, match="earlier turns"):
        list(records(items("follow-up", 1)))


@pytest.mark.parametrize("row", ["scenes", "two images"])
def test_the_score_through_this_door_is_the_models_own(folder: Path, row: str) -> None:
    asked = list(items(row, COUNT))
    said = answers(load("nano", dtype="float32", device="cpu"), asked)
    path = folder / file_name(row)
    benchmark = custom_benchmark(path.stem, "answers")
    model = open_model("nano", ModelOptions(device="cpu", dtype="float32", images="all"))
    rows = {one.key: one for one in rows_of(path)}
    prompts = []
    for one in rows.values():
        prompt = benchmark.prompt(one, "vlmevalkit")
        parts = tuple(ImageRef(data=image_bytes(p)) if isinstance(p, ImageRef) else p for p in prompt.parts)
        prompts.append((one.key, type(prompt)(parts, prompt.system, 128)))
    given = {prediction.key: prediction for prediction in model.answers(prompts)}
    assert [given[key].text.strip() for key in rows] == said
    verdicts, scores = benchmark.score([(rows[key], given[key]) for key in rows], "vlmevalkit", None)
    # Whatever the case: the only way in which this door is kinder.
    right = [text.lower() == item.qa.answer.lower() for text, item in zip(said, asked, strict=True)]
    assert [verdict.score == 1 for verdict in verdicts] == right
    assert scores[0].value == pytest.approx(100 * sum(right) / COUNT) and scores[0].name == "Exact match"
