"""`data check`: every seeded defect with its own code and line, and not a word about clean data."""

import base64
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.conftest import made_image
from tests.training.data.builders import (
    image_bytes,
    llava_rows,
    pair_members,
    write_images,
    write_json,
    write_jsonl,
    write_tar,
)
from xverse_v.errors import XverseError
from xverse_v.training.data.check import CheckSettings, check
from xverse_v.training.data.encode import Encoder
from xverse_v.training.data.findings import finding_texts
from xverse_v.training.data.fix import fix
from xverse_v.training.data.leakage import read_benchmark
from xverse_v.training.data.repeats import Repeats
from xverse_v.training.data.sources import open_source

LINE = 4  # where the defect is seeded: rows 1 to 6 are clean otherwise


def human(text):
    return {"from": "human", "value": text}


def gpt(text):
    return {"from": "gpt", "value": text}


def talk(*turns, **more):
    return {"id": "bad", "conversations": list(turns), **more}


def asked(question="<image>\nWhat?", answer="A thing.", **more):
    return talk(human(question), gpt(answer), **more)


def with_image(source, **more):
    return asked(image=source, **more)


def raw(text):
    return text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")


def gif(frames):
    pictures = [made_image("wave", 40, 40, seed) for seed in range(frames)]
    return image_bytes(pictures[0], "GIF", save_all=True, append_images=pictures[1:])


def turned():
    exif = Image.Exif()
    exif[0x0112] = 6
    return image_bytes(made_image("wave", 40, 30, 9), "JPEG", exif=exif)


PICTURES = {
    "cut.png": image_bytes(made_image("noise", 64, 64, 1))[:3000],
    "cut.jpg": image_bytes(made_image("noise", 64, 64, 1), "JPEG")[:1500],
    "damaged.png": image_bytes(made_image("noise", 64, 64, 1)).replace(b"IDAT", b"IDAX"),
    "text.jpg": b"<html>404 not found</html>",
    "program.png": b"%PDF-1.7\n" + bytes(100),
    "nothing.jpg": b"",
    "turned.jpg": turned(),
    "grey.png": image_bytes(made_image("wave", 40, 30, 3).convert("L")),
    "alpha.png": image_bytes(made_image("wave", 40, 30, 3).convert("RGBA")),
    "cmyk.jpg": image_bytes(made_image("wave", 40, 30, 3).convert("CMYK"), "JPEG"),
    "moving.gif": gif(3),
    "dot.png": image_bytes(made_image("wave", 5, 5, 3)),
    "strip.png": image_bytes(made_image("wave", 300, 20, 3)),
    "huge.png": image_bytes(Image.new("1", (20_001, 1))),
}

# name -> (code, the row that stands at LINE: a record, or the line's own text)
DEFECTS = {
    "bad json": ("D101", '{"id": "bad", "conversations": [}'),
    "single quotes": ("D101", "{'id': 'bad'}"),
    "not utf-8": ("D102", json.dumps(asked("Caf? now")).encode().replace(b"Caf?", b"Caf\xe9")),
    "gbk": ("D102", json.dumps(asked("XX")).encode().replace(b"XX", "中文".encode("gbk"))),
    "blank line": ("D104", "   "),
    "repeated key": ("D108", json.dumps(talk(human("q"), gpt("a"))).replace('{"id"', '{"id": "b", "id"', 1)),
    "a list": ("D110", ["id", "bad"]),
    "null": ("D110", "null"),
    "misspelt image": ("D111", asked("What?", imgae="0.png")),
    "misspelt conversations": ("D111", {"id": "bad", "conversation": [human("q"), gpt("a")]}),
    "unknown key": ("D112", asked("What?", colour_space="RGB")),
    "no turns key": ("D113", {"id": "bad", "prompt": "q", "answer": "a"}),
    "turns are text": ("D114", talk() | {"conversations": "Human: q"}),
    "no turns": ("D115", talk()),
    "a turn is text": ("D116", talk("q", gpt("a"))),
    "unknown turn key": ("D117", talk(human("q") | {"colour": 1}, gpt("a"))),
    "no role": ("D201", talk({"value": "q"}, gpt("a"))),
    "unknown role": ("D202", talk(human("q"), {"from": "bot", "value": "a"})),
    "no text": ("D203", talk({"from": "human"}, gpt("a"))),
    "text is null": ("D204", talk(human(None), gpt("a"))),
    "text is a number": ("D204", talk(human("q"), gpt(7))),
    "empty question": ("D205", talk(human(" \n"), gpt("a"))),
    "empty answer": ("D206", asked(answer="", image="0.png")),
    "empty system": ("D207", talk({"from": "system", "value": ""}, human("q"), gpt("a"))),
    "answer ends in a space": ("D208", asked(answer="A thing. ", image="0.png")),
    "video part": (
        "D209",
        talk({"from": "human", "content": [{"type": "video"}, {"type": "text", "text": "q"}]}, gpt("a")),
    ),
    "late system": ("D210", talk(human("q"), {"from": "system", "value": "s"}, gpt("a"))),
    "two questions": ("D211", talk(human("q"), human("q2"), gpt("a"))),
    "answer first": ("D211", talk(gpt("a"), human("q"), gpt("b"))),
    "no answer": ("D212", talk(human("q"))),
    "unanswered last": ("D212", talk(human("q"), gpt("a"), human("q2"))),
    "images is a string": ("D301", asked(images="0.png")),
    "image is a number": ("D302", with_image([3])),
    "image is nothing": ("D303", with_image("")),
    "image twice": ("D304", asked("<image><image>\nWhat?", image=["0.png", "0.png"])),
    "more marks than images": ("D308", asked("<image>\n<image>\nWhat?", image=["0.png"])),
    "fewer marks than images": ("D308", asked("<image>\nWhat?", image=["0.png", "1.png"])),
    "no mark": ("D309", asked("What?", image="0.png")),
    "no image": ("D310", asked("<image>\nWhat?")),
    "mark in an answer": ("D311", asked(answer="see <image> here", image="0.png")),
    "image in an answer": (
        "D312",
        talk(
            human("q"),
            {"from": "gpt", "content": [{"type": "image", "image": "0.png"}, {"type": "text", "text": "a"}]},
        ),
    ),
    "typed mark": ("D313", asked("<image>\nWhat does <image> mean?", image="0.png")),
    "mark inside": ("D314", asked("What is in <image> here?", image="0.png")),
    "missing file": ("D320", with_image("no/such.png")),
    "backslashes": ("D321", with_image("sub\\0.png")),
    "escape": ("D322", with_image("../../etc/passwd.png")),
    "absolute outside": ("D322", with_image("/usr/bin/env")),
    "address": ("D324", with_image("https://example.org/a.png")),
    "file address": ("D324", with_image("file:///etc/passwd")),
    "bad data url": ("D325", with_image("data:image/png;base64,####")),
    "empty file": ("D326", with_image("nothing.jpg")),
    "cut png": ("D327", with_image("cut.png")),
    "cut jpeg": ("D327", with_image("cut.jpg")),
    "damaged": ("D328", with_image("damaged.png")),
    "a web page": ("D329", with_image("text.jpg")),
    "a pdf": ("D329", with_image("program.png")),
    "too large": ("D330", with_image("huge.png")),
    "a folder": ("D331", with_image("sub")),
    "turned": ("D340", with_image("turned.jpg")),
    "grey": ("D341", with_image("grey.png")),
    "transparent": ("D341", with_image("alpha.png")),
    "cmyk": ("D341", with_image("cmyk.jpg")),
    "animated": ("D342", with_image("moving.gif")),
    "tiny": ("D343", with_image("dot.png")),
    "strip": ("D344", with_image("strip.png")),
    "control character": ("D401", asked("What\x07?")),
    "lost text": ("D402", asked("What\ufffd?", image="0.png")),
    "utf-8 as latin": ("D403", asked("Un cafÃ© noir ?", image="0.png")),
    "chinese as latin": ("D403", asked("ä¸­æ–‡ ?", image="0.png")),
    "gbk loss": ("D403", asked("锟斤拷 ?", image="0.png")),
    "half a pair": ("D404", raw(json.dumps(asked("What \ud83d?")))),
    "typed end": ("D405", asked("<image>\nWhat is <|endoftext|>?", image="0.png")),
    "glued turn": ("D406", asked(answer="A thing.\nHuman: and?", image="0.png")),
    "zero width": ("D407", asked("<image>\nWhat\u200b?", image="0.png")),
    "too long": ("D501", asked("<image>\n" + "word " * 3000, image="0.png")),
    "same sample": ("D601", None),
    "same id": ("D602", asked("What else?") | {"id": "s1"}),
}  # fmt: skip
# These say a second thing too, which follows from the first.
ALSO = {
    "misspelt conversations": {"D113"}, "no turns key": {"D112"}, "same sample": {"D602"}, "image is nothing": {"D310"},
    "image is a number": {"D310"}, "animated": {"D341"}, "chinese as latin": {"D309", "D407"}, "lost text": {"D309"},
    "utf-8 as latin": {"D309"}, "gbk loss": {"D309"},
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("check")
    write_images(folder)
    write_images(folder / "sub", 1)
    for name, content in PICTURES.items():
        (folder / name).write_bytes(content)
    return folder


def clean_rows(folder):
    return llava_rows(6, [f"{number}.png" for number in range(5)])


def seeded(folder, name, path):
    """A file of six clean rows with the defect at LINE."""
    rows = [json.dumps(row, ensure_ascii=False) for row in clean_rows(folder)]
    bad = rows[1] if DEFECTS[name][1] is None else DEFECTS[name][1]
    rows[LINE - 1] = bad if isinstance(bad, str | bytes) else json.dumps(bad, ensure_ascii=False)
    path.write_bytes(b"\n".join(raw(row) for row in rows) + b"\n")
    return path


def settings(processor, **changes):
    return CheckSettings(**{"encoder": Encoder(processor, max_length=3000), **changes})


def found(report):
    return {(finding.code, finding.line) for kept in report.examples.values() for finding in kept}


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


# Leakage --------------------------------------------------------------------------------------------------------------


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


# Fix ------------------------------------------------------------------------------------------------------------------

MENDED = {
    "blank line", "misspelt image", "misspelt conversations", "answer ends in a space", "unanswered last",
    "images is a string", "no mark", "mark inside", "backslashes",
}  # fmt: skip


@pytest.mark.parametrize("name", [name for name in DEFECTS if finding_texts()[DEFECTS[name][0]]["severity"] != "note"])
def test_a_fixed_copy_is_clean_and_every_change_is_listed(name, folder, processor, tmp_path):
    path = seeded(folder, name, folder / "tofix.jsonl")
    report = fix(path, tmp_path / "out.jsonl", settings(processor, image_root=folder))
    again = check([tmp_path / "out.jsonl"], settings(processor, image_root=folder))
    assert again.count("error") == 0
    before = [json.dumps(row, ensure_ascii=False) for row in clean_rows(folder)]
    after = (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()
    assert [row for number, row in enumerate(before, 1) if number != LINE] == [row for row in after if row in before]
    changes = [json.loads(line) for line in (tmp_path / "out.jsonl.changes.jsonl").read_text().splitlines()]
    assert {change["line"] for change in changes} <= {LINE}
    removed = [change for change in changes if change["action"] == "removed"]
    assert len(after) == report.kept == again.rows == 6 - bool(removed) - (name == "blank line")
    if name in MENDED:
        assert changes
        assert not removed
    errors = {finding_texts()[code]["severity"] for code in {DEFECTS[name][0], *ALSO.get(name, ())}}
    assert bool(changes) >= ("error" in errors)


def test_what_a_mend_makes(folder, processor, tmp_path):
    rows = [
        asked("What is in <image> here?", image="0.png") | {"id": "a"},
        asked("What?", image=["0.png", "1.png"]) | {"id": "b"},
        talk(human("q"), gpt("a\u200b \n"), human("last?")) | {"id": "c"},
        asked("plain", image="") | {"id": "d"},
        with_image(str(folder / "2.png")) | {"id": "e"},
        asked("Wh\x00at\ud83d?") | {"id": "f"},
    ]
    (folder / "mend.json").write_text(json.dumps(rows))
    fix(folder / "mend.json", tmp_path / "out.json", settings(processor, image_root=folder))
    made = json.loads((tmp_path / "out.json").read_text())
    assert [row["conversations"][0]["value"] for row in made] == [
        "<image>\nWhat is in here?", "<image>\n<image>\nWhat?", "q", "plain", "<image>\nWhat?", "What?",
    ]  # fmt: skip
    assert made[2]["conversations"][1:] == [gpt("a")]
    assert "image" not in made[3]
    assert made[4]["image"] == "2.png"


def test_fix_keeps_the_first_of_equal_rows_and_the_container(folder, processor, tmp_path):
    rows = [asked("q", answer="a") | {"id": str(n)} for n in (1, 2, 3)]
    report = fix(write_json(folder / "equal.json", rows, indent=1), tmp_path / "o.json", settings(processor))
    assert [row["id"] for row in json.loads((tmp_path / "o.json").read_text())] == ["1"]
    assert report.removed == {"D601": 2}


def test_fix_never_overwrites_and_refuses_tars(folder, processor, tmp_path):
    path = write_jsonl(folder / "a.jsonl", llava_rows(2))
    (tmp_path / "there").touch()
    for source, out, code in ((path, "there", "E219"), (write_tar(tmp_path / "x", pair_members(1)), "new", "E218")):
        with pytest.raises(XverseError) as caught:
            fix(source, tmp_path / out, settings(processor))
        assert caught.value.code == code
    assert not (tmp_path / "new").exists()


def test_a_fix_that_fails_leaves_nothing(folder, processor, tmp_path, monkeypatch):
    path = write_jsonl(folder / "a.jsonl", llava_rows(2))
    monkeypatch.setattr(
        "xverse_v.training.data.fix._write_copy", lambda *a: (_ for _ in ()).throw(OSError("disk full"))
    )
    with pytest.raises(OSError, match="disk full"):
        fix(path, tmp_path / "out", settings(processor))
    assert list(tmp_path.iterdir()) == []


# Memory ---------------------------------------------------------------------------------------------------------------

MEASURE = """
import sys
from pathlib import Path
import psutil
from xverse_v.training.data.check import CheckSettings, check
from xverse_v.training.data.config import SourceConfig
from xverse_v.training.data.sources import open_source
small, large = Path(sys.argv[1]), Path(sys.argv[2])
held = lambda rows=0: sizes.append(psutil.Process().memory_info().rss)
check([small], CheckSettings())
sizes = []
held()
report = check([large], CheckSettings(), progress=held)
source = open_source(SourceConfig(path=large), large.parent / "cache")
held()
sample = source.sample(len(source) - 1)
print(report.rows, report.count("error"), len(source), sample.id, (max(sizes) - sizes[0]) // 1000)
"""


def memory_of(tmp_path, rows):
    row = json.dumps(
        asked("How many are there, and what colour do they have? " * 4, answer="Seven, all of them red. " * 8)
    )
    for name, count in (("small.json", 100), ("large.json", rows)):
        with (tmp_path / name).open("w") as file:
            file.write("[")
            for number in range(count):
                text = row.replace("bad", str(number)).replace("Seven", f"{number}")
                file.write((",\n" if number else "") + (text.replace("How", "<image> How") if number == 5 else text))
            file.write("]")
    run = subprocess.run(
        [sys.executable, "-c", MEASURE, tmp_path / "small.json", tmp_path / "large.json"],
        capture_output=True,
        text=True,
        check=True,
    )
    return run.stdout.split(), (tmp_path / "large.json").stat().st_size


def test_memory_does_not_grow_with_the_file(tmp_path):
    (count, bad, samples, last, kilobytes), size = memory_of(tmp_path, 20_000)
    assert (count, bad, samples, last) == ("20000", "1", "20000", "19999")
    assert size > 8_000_000
    assert int(kilobytes) < 12_000  # the parsed rows would take 50 MB


@pytest.mark.slow
def test_memory_does_not_grow_with_a_million_rows(tmp_path):
    (count, bad, samples, last, kilobytes), size = memory_of(tmp_path, 1_000_000)
    assert (count, bad, samples, last) == ("1000000", "1", "1000000", "999999")
    assert size > 400_000_000
    assert int(kilobytes) < 20_000
