"""Reading the questions: what a line must be, what is said about one that is not, and in which order rows come back."""

import json
import tracemalloc

import pytest

from xverse_v.batch import BadLine, InputIndex, parse_row
from xverse_v.errors import XverseError


def line(**fields):
    return json.dumps({"id": "a", "image": "a.png", "question": "What?"} | fields).encode()


def without(*names):
    fields = {"id": "a", "image": "a.png", "question": "What?"}
    return json.dumps({n: v for n, v in fields.items() if n not in names}).encode()


def test_a_line_becomes_a_row():
    row = parse_row(line(id=7, system="Be brief.", category="x"), 3)
    assert (row.line, row.id, row.images, row.question, row.system) == (3, 7, ("a.png",), "What?", "Be brief.")
    assert row.unused == ("category",)
    assert parse_row(json.dumps({"id": "b", "images": ["x", "y"], "question": "q"}).encode(), 1).images == ("x", "y")
    assert parse_row(json.dumps({"id": "b", "images": [], "question": "q"}).encode(), 1).images == ()


@pytest.mark.parametrize(
    ("raw", "kind"),
    [
        (b"\xff\xfe", "utf8"),
        (b"{broken", "json"),
        (b"[" * 100_000, "json"),
        (b"[1]", "object"),
        (b'{"id": "\\ud800", "image": "a", "question": "q"}', "surrogate"),
        (without("id"), "id"),
        (line(id=1.5), "id"),
        (line(id=True), "id"),
        (line(id=""), "id"),
        (without("question"), "question"),
        (line(question="  "), "question"),
        (line(question=3), "question"),
        (without("image"), "no_image"),
        (line(images=["b.png"]), "two_images"),
        (line(image=["a.png"]), "image"),
        (json.dumps({"id": 1, "images": "a.png", "question": "q"}).encode(), "images"),
        (json.dumps({"id": 1, "images": [1], "question": "q"}).encode(), "images"),
        (line(system=["x"]), "system"),
        (line(temperature=0.5), "setting"),
    ],
)
def test_an_unusable_line_says_why_in_both_languages(raw, kind):
    with pytest.raises(BadLine) as caught:
        parse_row(raw, 5)
    assert (caught.value.kind, caught.value.line) == (kind, 5)
    assert caught.value.reason("en").isascii()
    assert not caught.value.reason("zh").isascii()


def test_the_scan_counts_lines_problems_and_unused_fields(tmp_path):
    path = tmp_path / "in.jsonl"
    lines = [
        b"\xef\xbb\xbf" + line(id="a"),
        b"",
        line(id="a"),
        b"{",
        line(id="b", answer="x") + b"\r",
        line(id="c", answer="y"),
    ]
    path.write_bytes(b"\n".join(lines))
    index = InputIndex.scan(path)
    assert (len(index), index.lines, index.bad) == (3, 5, 2)
    assert [(p.line, p.kind) for p in index.problems] == [(3, "duplicate"), (4, "json")]
    assert index.problems[0].reason() == "repeats the id of line 1"
    assert index.unused == {"answer": 2}
    assert [row.line for row in index.rows(lambda key: True)] == [1, 5, 6]


def test_text_and_number_ids_are_different_ids(tmp_path):
    path = tmp_path / "in.jsonl"
    path.write_bytes(line(id=1) + b"\n" + line(id="1") + b"\n")
    assert len(InputIndex.scan(path)) == 2


def test_rows_about_one_image_come_together(tmp_path):
    path = tmp_path / "in.jsonl"
    images = ["x", "y", "x", "z", "y", "x"]
    path.write_bytes(b"".join(line(id=n, image=image) + b"\n" for n, image in enumerate(images)))
    rows = list(InputIndex.scan(path).rows(lambda key: True))
    assert [row.id for row in rows] == [0, 2, 5, 1, 4, 3]


def test_only_the_wanted_rows_are_read(tmp_path):
    path = tmp_path / "in.jsonl"
    path.write_bytes(b"".join(line(id=n) + b"\n" for n in range(5)))
    index = InputIndex.scan(path)
    unwanted = {parse_row(line(id=n), 1).key for n in (0, 3)}
    assert [row.id for row in index.rows(lambda key: key not in unwanted)] == [1, 2, 4]


def test_an_input_that_changes_under_the_run_is_noticed(tmp_path):
    path = tmp_path / "in.jsonl"
    path.write_bytes(line(id=1) + b"\n")
    index = InputIndex.scan(path)
    path.write_bytes(line(id=2) + b"\n")
    with pytest.raises(XverseError) as caught:
        list(index.rows(lambda key: True))
    assert caught.value.code == "E820"


@pytest.mark.parametrize("make", [lambda path: None, lambda path: path.mkdir()])
def test_a_missing_input_or_a_folder_is_refused(tmp_path, make):
    path = tmp_path / "in.jsonl"
    make(path)
    with pytest.raises(XverseError) as caught:
        InputIndex.scan(path)
    assert caught.value.code == "E820"


def test_the_index_is_small_however_long_the_lines_are(tmp_path):
    path = tmp_path / "in.jsonl"
    with path.open("wb") as file:
        for n in range(300):
            file.write(line(id=n, question="long " * 20_000) + b"\n")
    tracemalloc.start()
    index = InputIndex.scan(path)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(index) == 300
    assert path.stat().st_size > 30_000_000
    assert held < 300 * 1000
