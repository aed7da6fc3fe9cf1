"""Images and questions of a benchmark that stand in the training data."""

import base64

import pytest

from tests.conftest import made_image
from tests.training.data.builders import image_bytes, write_json, write_jsonl
from tests.training.data.seeded import asked, found, settings
from xverse_v.errors import XverseError
from xverse_v.training.data.check import check
from xverse_v.training.data.leakage import read_benchmark


def benchmark_file(folder, kind):
    picture = made_image("wave", 48, 40, 0)  # the pixels of 0.png
    if kind == "tsv":
        data = base64.b64encode(image_bytes(picture, "BMP")).decode()
        (folder / "bench.tsv").write_text(
            f"index\timage\tquestion\tanswer\n7\t{data}\tWhat  is THIS?\tx\n8\t\tWho?\ty\n"
        )
        return folder / "bench.tsv"
    picture.save(folder / "copy.bmp")
    return write_json(
        folder / "bench.json",
        [{"id": 7, "image": "copy.bmp", "question": "What  is THIS?"}, {"id": 8, "question": "Who?"}],
    )


@pytest.mark.parametrize("kind", ["tsv", "json"])
def test_leaked_images_and_questions_are_found(kind, folder, processor):
    rows = [
        asked("<image>\nwhat is this", image="0.png") | {"id": "same"},
        asked("<image>\nSomething else?", image="0.png") | {"id": "image"},
        asked("<image>\nWhat is this?", image="1.png") | {"id": "question of another image"},
        asked("who？", answer="nobody") | {"id": "question"},
    ]
    path = write_jsonl(folder / "leaks.jsonl", rows)
    benchmark = read_benchmark(benchmark_file(folder, kind))
    report = check([path], settings(processor, benchmark=benchmark))
    assert found(report) == {("D604", 1), ("D603", 2), ("D605", 4)}
    assert report.examples["D604"][0].facts["item"] == "7"


def test_a_benchmark_with_nothing_to_compare_is_an_error(tmp_path):
    (tmp_path / "x.tsv").write_text("a\tb\n1\t2\n")
    with pytest.raises(XverseError) as caught:
        read_benchmark(tmp_path / "x.tsv")
    assert caught.value.code == "E217"
