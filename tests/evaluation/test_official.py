"""Official JSON files, record by record: every shape, told apart by content; damage found and placed."""

import json

import pytest

from xverse_v.errors import XverseError
from xverse_v.evaluation import official
from xverse_v.evaluation.official import read_records

RECORDS = [{"question": f"Wie heißt {n}?", "answers": ["a", {"b": [1, -2.5e3]}]} for n in range(7)]


def write(tmp_path, text):
    path = tmp_path / "data.json"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture(params=[3, 17, 2**20])
def window(request, monkeypatch):
    """Read a few characters at a time too: every token is cut in two somewhere."""
    monkeypatch.setattr(official, "_CHUNK", request.param)


@pytest.mark.parametrize("indent", [None, 2])
def test_a_list(tmp_path, window, indent):
    found = list(read_records(write(tmp_path, json.dumps(RECORDS, indent=indent))))
    assert [record.value for record in found] == RECORDS
    assert [record.place for record in found] == list(range(7))


@pytest.mark.parametrize("indent", [None, 2])
def test_a_dict_of_records(tmp_path, window, indent):
    text = json.dumps({f"2{n}": record for n, record in enumerate(RECORDS)}, indent=indent)
    found = list(read_records(write(tmp_path, text)))
    assert [(record.key, record.value) for record in found] == [(f"2{n}", record) for n, record in enumerate(RECORDS)]


def test_a_member_of_the_top_dict_behind_others(tmp_path, window):
    head = {"info": {"version": 1.1, "questions": "not these"}, "license": None, "year": 2014, "list": [1, [2]]}
    path = write(tmp_path, json.dumps({**head, "questions": RECORDS, "behind": {"data": []}}))
    assert [record.value for record in read_records(path, at="questions")] == RECORDS


def test_json_lines_with_blank_lines_and_a_byte_order_mark(tmp_path):
    text = "\ufeff" + json.dumps(RECORDS[0]) + "\n\n" + json.dumps(RECORDS[1]) + "\n"
    found = list(read_records(write(tmp_path, text)))
    assert [(record.value, record.line, record.place) for record in found] == [(RECORDS[0], 1, 0), (RECORDS[1], 3, 1)]


def test_one_line_is_a_record_unless_all_its_members_are_records(tmp_path):
    assert [r.key for r in read_records(write(tmp_path, '{"a": {"x": 1}, "b": {"x": 2}}\n'))] == ["a", "b"]
    assert [r.value for r in read_records(write(tmp_path, '{"a": {"x": 1}, "image": "n.jpg"}\n'))] == [
        {"a": {"x": 1}, "image": "n.jpg"}
    ]


def test_empty_lists_and_dicts_hold_nothing(tmp_path):
    assert list(read_records(write(tmp_path, "[ ]"))) == list(read_records(write(tmp_path, '{"a": []}'), at="a")) == []


@pytest.mark.parametrize(
    ("text", "at", "code"),
    [
        ('[{"a": 1}, {"a": 2}', "", "E706"),
        ('[{"a": 1} {"a": 2}]', "", "E706"),
        ('[{"a": 1}] tail', "", "E706"),
        ('{"a": {"x": 1}, "b": {"x"', "", "E706"),
        ('{"x": 1}\n{"x": 2\n', "", "E706"),
        ("[1, 2]", "", "E707"),
        ('"text"', "", "E707"),
        ("", "", "E707"),
        ('{"questions": []}', "annotations", "E707"),
        ('[{"questions": []}]', "questions", "E707"),
        ('{"questions": 5}', "questions", "E707"),
    ],
)
def test_damage_and_other_shapes_are_told_apart(tmp_path, text, at, code):
    with pytest.raises(XverseError) as caught:
        list(read_records(write(tmp_path, text), at=at))
    assert caught.value.code == code


def test_records_before_a_damage_come_out_first(tmp_path):
    records = read_records(write(tmp_path, '[{"a": 1}, {"a": 2}, oops]'))
    assert next(records).value == {"a": 1}
    assert next(records).value == {"a": 2}
    with pytest.raises(XverseError, match="E706"):
        next(records)


def test_another_encoding_is_named(tmp_path):
    path = tmp_path / "data.json"
    path.write_bytes('[{"a": "你好"}]'.encode("gbk"))
    with pytest.raises(XverseError, match="E703"):
        list(read_records(path))


def test_memory_holds_a_record_and_not_the_file(tmp_path):
    import tracemalloc

    path = tmp_path / "large.json"
    with path.open("w") as file:
        file.write("{")
        for number in range(200):
            file.write(("," if number else "") + f'"{number}": ' + json.dumps({"text": "x" * 100_000}))
        file.write("}")
    tracemalloc.start()
    assert sum(1 for _ in read_records(path)) == 200
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * 2**20, f"{peak / 2**20:.1f} MiB for a file of 20 MB"
