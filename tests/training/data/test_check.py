"""`data check`: every seeded defect with its own code and line, and not a word about clean data."""

import json
import re
from pathlib import Path

import pytest

from tests.conftest import made_image
from tests.training.data.builders import image_bytes, llava_rows, pair_members, write_json, write_jsonl, write_tar
from tests.training.data.seeded import (
    ALSO,
    DEFECTS,
    LINE,
    asked,
    clean_rows,
    found,
    gpt,
    human,
    seeded,
    settings,
    talk,
    with_image,
)
from xverse_v.errors import XverseError
from xverse_v.training.data.check import check
from xverse_v.training.data.encode import Encoder
from xverse_v.training.data.findings import finding_texts
from xverse_v.training.data.repeats import Repeats
from xverse_v.training.data.sources import open_source


@pytest.mark.parametrize("name", DEFECTS)
def test_a_seeded_defect_is_found_with_its_code_and_line(name, folder, processor):
    path = seeded(folder, name, folder / "seeded.jsonl")
    report = check([path], settings(processor))
    code = DEFECTS[name][0]
    assert (code, LINE) in found(report)
    assert {line for _, line in found(report)} == {LINE}
    extra = {other for other, _ in found(report)} - {code}
    assert extra <= ALSO.get(name, set()), extra
    for finding in report.examples[code]:
        assert finding.text("en") != finding.text("zh")
        assert "{" not in finding.text("en").replace(str(finding.facts), "") or code == "D101"


def test_enough_different_defects_are_seeded():
    assert len(DEFECTS) >= 70
    assert len({code for code, _ in DEFECTS.values()}) >= 55


def test_every_code_in_the_sources_has_texts_and_every_text_is_used():
    import xverse_v.training.data as package

    sources = "".join(path.read_text(encoding="utf-8") for path in Path(package.__file__).parent.glob("*.py"))
    assert set(re.findall(r'"(D\d{3})"', sources)) == set(finding_texts())
    assert len({texts["name"] for texts in finding_texts().values()}) == len(finding_texts())


def test_clean_files_raise_no_alarm(folder, processor, tmp_path):
    rows = [
        *clean_rows(folder),
        talk({"from": "system", "value": "Be brief."}, human("你好吗？"), gpt("很好 ☺ é ß naïve Ÿ’s “q” – 100 €"))
        | {"id": "u"},
        {"id": "e", "conversations": [human("Family emoji 👨‍👩‍👧 and می‌خواهم?"), gpt("Yes:\n\n1. a\t2\n2. b")]},
        {"id": "f", "image": ["0.png", "1.png"], "conversations": [human("<image>\n<image>\nCompare."), gpt("Same.")]},
        {"id": "g", "image": "2.png", "conversations": [human("Look:\n<image>"), gpt("Human beings: two.")]},
    ]
    talks = [write_json(folder / "clean.json", rows), write_jsonl(folder / "clean.jsonl", rows)]
    pairs = [{"image": f"{n}.png", "caption": f"caption {n}"} for n in range(4)]
    for path in (*talks, write_jsonl(folder / "pairs.jsonl", pairs), write_tar(tmp_path / "p.tar", pair_members(4))):
        report = check([path], settings(processor))
        assert report.counts == {}, report.as_dict()["findings"]
        assert report.rows == (4 if "p" in path.stem[:1] else 10)
        assert report.longest > 256


def test_what_passes_trains_and_what_is_an_error_does_not(folder, processor, tmp_path):
    """The checker and the trainer agree, defect by defect."""
    from xverse_v.training.data.config import SourceConfig

    encoder = Encoder(processor, max_length=3000)
    for name, (code, _) in DEFECTS.items():
        path = seeded(folder, name, folder / "agree.jsonl")
        severity = finding_texts()[code]["severity"]
        if code == "D108":
            continue  # JSON has forgotten the first of two equal keys when training reads the row
        try:
            source = open_source(SourceConfig(path=path), tmp_path / name)
            for index in range(len(source)):
                encoder.encode(source.sample(index))
            trains = True
        except XverseError as problem:
            assert problem.code in ("E202", "E203", "E213"), (name, problem)
            trains = False
        also = {finding_texts()[other]["severity"] for other in ALSO.get(name, ())}
        assert trains == ("error" not in {severity, *also}), name


@pytest.mark.parametrize("container", ["array", "lines"])
def test_what_stands_around_rows_is_found(container, folder, processor, tmp_path):
    rows = llava_rows(3)
    text = json.dumps(rows, indent=0) if container == "array" else "".join(json.dumps(row) + "\n" for row in rows)
    lines = text.count("\n") + 1
    cases = {"D103": ("\ufeff" + text, 1)}
    if container == "array":
        cases |= {"D105": (text.rstrip()[:-1], lines), "D106": (text + "\n[1]", lines + 1)}
    for code, (content, line) in cases.items():
        (tmp_path / "x").write_text(content, encoding="utf-8")
        report = check([tmp_path / "x"], settings(processor))
        assert found(report) == {(code, line)}
        assert report.rows == 3


def test_a_row_without_end_is_one_finding(tmp_path, processor, monkeypatch):
    monkeypatch.setattr("xverse_v.training.data.scanner.MAX_ROW", 5000)
    rows = [json.dumps(row) for row in llava_rows(3)]
    (tmp_path / "x").write_text("\n".join([rows[0], '{"id": "' + "x" * 200_000 + '"}', rows[2]]))
    report = check([tmp_path / "x"], settings(processor))
    assert found(report) == {("D107", 2)}
    assert report.rows == 3


def test_tar_defects(tmp_path, processor):
    picture = image_bytes(made_image("wave", 40, 30, 1))
    members = [
        *pair_members(2),
        ("c.png", picture),  # 3: no text
        ("d.txt", b"text alone"),  # 4: no image
        ("e.png", picture[:-60]), ("e.txt", b"cut"),  # 5
        ("f.png", picture), ("f.txt", b"caf\xe9"),  # 6
        ("g.png", picture), ("g.json", b"{bad"),  # 7
        ("h.png", picture), ("h.jpg", image_bytes(made_image("wave", 40, 30, 2), "JPEG")), ("h.txt", b"two"),  # 8
        ("i.png", picture), ("i.txt", b"third"), ("i.mp3", b"x"),  # 9
        ("j.png", picture), ("j.txt", b" \n"),  # 10
    ]  # fmt: skip
    path = write_tar(tmp_path / "x.tar", members)
    expected = {("D701", 3), ("D121", 4), ("D327", 5), ("D102", 6), ("D101", 7), ("D703", 8), ("D704", 9), ("D206", 10)}
    assert found(check([path], settings(processor))) == expected
    content = path.read_bytes()
    path.write_bytes(content[: content.index(b"caption 1") + 4])
    assert ("D702", 2) in found(check([path], settings(processor)))


def test_parquet_rows_are_checked(tmp_path, processor):
    import pyarrow as arrow
    from pyarrow import parquet

    picture = image_bytes(made_image("wave", 40, 30, 1))
    rows = [
        {"image": {"bytes": data}, "text": text} for data, text in ((picture, "a"), (picture[:200], "b"), (picture, ""))
    ]
    parquet.write_table(arrow.Table.from_pylist(rows), tmp_path / "x")
    assert found(check([tmp_path / "x"], settings(processor))) == {("D327", 2), ("D206", 3)}


def test_absolute_paths_inside_the_root_work_and_are_said(folder, processor):
    row = with_image(str(folder / "0.png")) | {"id": "abs"}
    path = write_jsonl(folder / "absolute.jsonl", [row])
    assert found(check([path], settings(processor))) == {("D323", 1)}
    assert found(check([path], settings(processor, image_root=folder / "sub"))) == {("D322", 1)}


def test_length_is_counted_with_the_numbers_training_would_say(folder, processor):
    rows = [with_image("3.png") | {"id": "a"}]  # 448 x 448: five views
    path = write_jsonl(folder / "long.jsonl", rows)
    report = check([path], settings(processor, encoder=Encoder(processor, max_length=1000)))
    (finding,) = report.examples["D501"]
    assert (finding.facts["image_tokens"], finding.facts["views"], finding.facts["limit"]) == (1280, 5, 1000)
    assert finding.facts["tokens"] == report.longest > 1280
    assert check([path], settings(processor, encoder=None)).counts == {}


def test_limits_bound_what_is_kept_not_what_is_counted(folder, processor):
    path = write_jsonl(folder / "many.jsonl", [asked("<image>\nq") | {"id": str(n)} for n in range(9)])
    report = check([path], settings(processor, limit=2))
    assert report.counts["D310"] == 9
    assert [finding.line for finding in report.examples["D310"]] == [1, 2]
    assert report.bad_rows == 9
    assert report.counts["D601"] == 8


def test_repeats_are_found_across_buckets_and_spills(monkeypatch):
    monkeypatch.setattr("xverse_v.training.data.repeats._HELD", 16)
    repeats = Repeats()
    for number in range(300):
        repeats.add(str(number % 100).encode(), number)
    assert sorted(repeats.found()) == [(number, number % 100) for number in range(100, 300)]
    repeats.close()
