"""Reading: every format to the same samples, places on disk, and rows that must not be trained on."""

import base64
import json
import pickle

import numpy as np
import pytest

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
from tests.training.data.reading import opened, summary
from xverse_v.errors import XverseError
from xverse_v.training.data.config import SourceConfig
from xverse_v.training.data.index import ROW
from xverse_v.training.data.sample import text_of
from xverse_v.training.data.scanner import CHUNK, scan
from xverse_v.training.data.sources import open_source


def conversation(name):
    """The same two-turn conversation about 0.png in each format that can say it."""
    turns = [("user", "What?"), ("assistant", "A thing. 一个东西"), ("user", "Sure?"), ("assistant", "Yes")]
    long = {"user": "human", "assistant": "gpt"}
    with_mark = [(role, ("<image>\n" if place == 0 else "") + text) for place, (role, text) in enumerate(turns)]
    llava = [{"from": long[role], "value": text} for role, text in with_mark]
    plain = [{"role": role, "content": text} for role, text in with_mark]
    part = {"type": "image_url", "image_url": {"url": "0.png"}}
    parts = [{"role": "user", "content": [{"type": "text", "text": "What?"}, part]}]
    parts += [{"role": role, "content": text} for role, text in turns[1:]]
    bare = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What?"}]}, *parts[1:]]
    return {
        "llava string": {"id": "x", "image": "0.png", "conversations": llava},
        "llava list": {"id": "x", "image": ["0.png"], "conversations": llava},
        "sharegpt": {"id": "x", "images": ["0.png"], "conversations": llava},
        "sharegpt messages": {"id": "x", "images": ["0.png"], "messages": plain},
        "openai parts": {"id": "x", "messages": parts},
        "bare parts": {"id": "x", "images": ["0.png"], "messages": bare},
    }[name]


@pytest.mark.parametrize("container", ["array", "lines"])
@pytest.mark.parametrize(
    "name", ["llava string", "llava list", "sharegpt", "sharegpt messages", "openai parts", "bare parts"]
)
def test_every_conversation_format_gives_the_same_sample(name, container, tmp_path):
    write_images(tmp_path, 1)
    write = write_json if container == "array" else write_jsonl
    source = opened(write(tmp_path / "data.txt", [conversation(name)]), tmp_path / "cache")
    sample = source.sample(0)
    assert len(source) == 1
    assert summary(sample) == [
        ("user", 1, "What?"),
        ("assistant", 0, "A thing. 一个东西"),
        ("user", 0, "Sure?"),
        ("assistant", 0, "Yes"),
    ]
    assert (sample.id, sample.line) == ("x", 1)
    assert sample.images[0].open().size == (48, 40)


def test_a_data_url_and_the_system_key_are_read(tmp_path):
    data = base64.b64encode(image_bytes(made_image("wave", 20, 30, 1))).decode()
    part = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}}
    row = {
        "system": "be brief",
        "messages": [{"role": "user", "content": [part]}, {"role": "assistant", "content": "ok"}],
    }
    sample = opened(write_jsonl(tmp_path / "a.jsonl", [row]), tmp_path / "c").sample(0)
    assert summary(sample) == [("system", 0, "be brief"), ("user", 1, ""), ("assistant", 0, "ok")]
    assert sample.images[0].open().size == (20, 30)


def test_pairs_as_lines_take_their_questions_in_turn(tmp_path):
    names = write_images(tmp_path, 3)
    rows = [{"image": name, "caption": f"c{number}"} for number, name in enumerate(names)]
    config = SourceConfig(path=write_jsonl(tmp_path / "p.jsonl", rows))
    source = open_source(config, tmp_path / "cache", questions=("Describe.", "描述"))
    assert [summary(source.sample(i))[0] for i in range(3)] == [("user", 1, q) for q in ("描述", "Describe.", "描述")]
    assert summary(source.sample(2))[1] == ("assistant", 0, "c2")


@pytest.mark.parametrize("indent", [None, 2])
def test_an_array_is_read_in_pieces_with_exact_places(indent, tmp_path):
    rows = llava_rows(300)
    rows[7]["conversations"][1]["value"] = "很长 " * (CHUNK // 4)  # longer than a piece, and not ASCII
    path = write_json(tmp_path / "a.json", rows, indent=indent)
    found = list(scan(path, "array"))
    assert [row.value for row in found] == rows
    raw = path.read_bytes()
    assert all(json.loads(raw[row.offset : row.offset + row.size]) == row.value for row in found)
    assert all(raw[: row.offset].count(b"\n") + 1 == row.line for row in found)
    source = opened(path, tmp_path / "cache")
    assert source.sample(299).id == "s299"
    assert text_of(source.sample(7).messages[1]) == rows[7]["conversations"][1]["value"]


@pytest.mark.parametrize("size", [1, 3, 7, 64])
def test_pieces_of_any_size_give_the_same_rows(size, tmp_path, monkeypatch):
    rows = [*llava_rows(3), {"n": [1, -2.5e3, None, True, '\\"é𝄞']}]
    path = write_json(tmp_path / "a.json", rows, indent=1)
    monkeypatch.setattr("xverse_v.training.data.scanner.CHUNK", size)
    assert [(row.value, row.problem) for row in scan(path, "array")] == [(row, None) for row in rows]


def test_a_broken_row_of_an_array_costs_itself_alone(tmp_path):
    rows = [json.dumps(row) for row in llava_rows(5)]
    rows[2] = rows[2].replace('"from"', "from", 1)
    path = tmp_path / "a.json"
    path.write_text("[\n" + ",\n".join(rows) + "\n]")
    found = list(scan(path, "array"))
    assert [(row.line, row.problem) for row in found] == [(2, None), (3, None), (4, "D101"), (5, None), (6, None)]
    with pytest.raises(XverseError) as caught:
        opened(path, tmp_path / "cache")
    assert (caught.value.code, caught.value.facts["finding"]) == ("E203", "D101")
    assert "a.json:4" in caught.value.text("en")


def test_the_index_is_on_disk_made_once_and_renewed_when_the_file_changes(tmp_path, monkeypatch):
    path = write_jsonl(tmp_path / "a.jsonl", llava_rows(50))
    cache = tmp_path / "cache"
    opened(path, cache)
    (index,) = cache.iterdir()
    assert index.stat().st_size == 50 * ROW.itemsize
    assert ROW.itemsize == 16
    with monkeypatch.context() as blocked:
        blocked.setattr("xverse_v.training.data.sources.scan", lambda *a, **k: iter(()))
        # The format is still read from the first record, so it is named here.
        assert len(opened(path, cache, format="llava")) == 50
    write_jsonl(path, llava_rows(51))
    assert len(opened(path, cache)) == 51
    source = opened(path, cache)
    assert isinstance(source._rows, np.memmap)


def test_a_source_goes_to_another_process(tmp_path):
    source = opened(write_jsonl(tmp_path / "a.jsonl", llava_rows(5)), tmp_path / "cache")
    expected = source.sample(3)
    assert pickle.loads(pickle.dumps(source)).sample(3) == expected


@pytest.mark.parametrize(
    ("content", "code"),
    [("", "E204"), ("hello", "E204"), ('{"foo": 1}\n', "E204"), ("[]", "E204"), ("[1, 2]", "E204")],
)
def test_what_is_no_data_is_refused(content, code, tmp_path):
    (tmp_path / "x").write_text(content)
    with pytest.raises(XverseError) as caught:
        opened(tmp_path / "x", tmp_path / "cache")
    assert caught.value.code == code


def test_a_missing_file_shard_or_wrong_format_is_refused(tmp_path):
    write_tar(tmp_path / "s-0.tar", pair_members(1))
    for path, settings, code in (
        ("nothing", {}, "E200"),
        ("s-{0..1}.tar", {}, "E200"),
        ("*.nothing", {}, "E200"),
        ("s-0.tar", {"format": "llava"}, "E205"),
    ):
        with pytest.raises(XverseError) as caught:
            opened(tmp_path / path, tmp_path / "cache", **settings)
        assert caught.value.code == code
    with pytest.raises(XverseError) as caught:
        opened(write_json(tmp_path / "j", llava_rows(1)), tmp_path / "cache", format="webdataset")
    assert caught.value.code == "E205"


def test_a_bad_row_is_refused_when_it_is_asked_for(tmp_path):
    rows = llava_rows(3)
    rows[1]["conversations"][0]["value"] = "<image>\nwhere?"
    source = opened(write_jsonl(tmp_path / "a.jsonl", rows), tmp_path / "cache")
    assert source.sample(2).id == "s2"
    with pytest.raises(XverseError) as caught:
        source.sample(1)
    assert (caught.value.code, caught.value.facts["finding"]) == ("E203", "D310")
    assert "a.jsonl:2" in caught.value.text("en")
