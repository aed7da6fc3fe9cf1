"""The answers on disk: mended after a crash, refused when they belong to other settings or were tampered with."""

import json

import pytest

from xverse_v.batch import OutputFile, settings_digest
from xverse_v.batch.output import row_key
from xverse_v.errors import XverseError

SETTINGS = {"weights_id": "0123456789ab", "temperature": 0.0, "max_tiles": 9}


def write(path, *rows, settings=SETTINGS):
    with OutputFile(path, settings) as output:
        output.append(rows)


def code_of(path, settings=SETTINGS):
    with pytest.raises(XverseError) as caught, OutputFile(path, settings):
        pass
    return caught.value


def test_rows_come_back_as_done(tmp_path):
    path = tmp_path / "out.jsonl"
    write(path, {"id": "a", "answer": "红", "input": "f1"}, {"id": 2, "error": {"code": "E500"}, "input": "f2"})
    with OutputFile(path, SETTINGS) as output:
        assert output.done == {row_key("a"): "f1", row_key(2): "f2"}
        assert output.skipped == [(2, "E500")]
        assert output.torn_bytes == 0
    assert "红" in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("cut", [1, 2, 10])
def test_a_torn_last_line_is_cut_off_and_counted(tmp_path, cut):
    path = tmp_path / "out.jsonl"
    write(path, {"id": "a", "input": "f"}, {"id": "b", "input": "f"})
    first, second = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(first + second[:-cut])
    with OutputFile(path, SETTINGS) as output:
        assert output.torn_bytes == len(second) - cut
        assert set(output.done) == {row_key("a")}
        output.append([{"id": "b", "input": "f"}])
    assert path.read_bytes() == first + second


def test_a_file_with_nothing_but_a_torn_line_becomes_empty(tmp_path):
    path = tmp_path / "out.jsonl"
    path.write_bytes(b'{"id": "a", "ans')
    with OutputFile(path, SETTINGS) as output:
        assert (output.torn_bytes, output.done) == (16, {})
    assert path.read_bytes() == b""


@pytest.mark.parametrize(
    "damage",
    [b"not json\n", b"[1]\n", b'{"id": "z"}\n', b"\n", b"\xff\n", b'{"id": "a", "input": "f", "settings": "x"}\n' * 2],
)
def test_damage_that_no_crash_leaves_is_refused_with_its_line(tmp_path, damage):
    path = tmp_path / "out.jsonl"
    write(path, {"id": "x", "input": "f"})
    before = path.read_bytes() + damage
    path.write_bytes(before)
    problem = code_of(path)
    assert problem.code == "E824"
    assert problem.facts["line"] in (2, 3)
    assert path.read_bytes() == before


def test_other_settings_are_refused_and_named(tmp_path):
    path = tmp_path / "out.jsonl"
    write(path, {"id": "a", "input": "f"})
    problem = code_of(path, SETTINGS | {"temperature": 0.7, "max_tiles": 4})
    assert problem.code == "E821"
    assert "temperature 0.0 there, 0.7 now" in problem.text("en")
    assert "max_tiles 9 there, 4 now" in problem.text("en")
    assert "weights_id" not in problem.text("en")


def test_other_settings_are_refused_without_the_readable_copy(tmp_path):
    path = tmp_path / "out.jsonl"
    write(path, {"id": "a", "input": "f"})
    (tmp_path / "out.jsonl.settings.json").unlink()
    assert code_of(path, SETTINGS | {"temperature": 0.7}).code == "E821"


def test_an_empty_output_may_change_its_settings(tmp_path):
    path = tmp_path / "out.jsonl"
    write(path)
    write(path, {"id": "a", "input": "f"}, settings=SETTINGS | {"temperature": 0.7})
    kept = json.loads((tmp_path / "out.jsonl.settings.json").read_text())
    assert kept["temperature"] == 0.7
    assert json.loads(path.read_text())["settings"] == settings_digest(kept)


def test_the_digest_does_not_depend_on_order():
    assert settings_digest({"a": 1, "b": 2}) == settings_digest({"b": 2, "a": 1}) != settings_digest({"a": 1, "b": 3})


def test_two_writers_are_refused(tmp_path):
    path = tmp_path / "out.jsonl"
    with OutputFile(path, SETTINGS):
        assert code_of(path).code == "E822"
    with OutputFile(path, SETTINGS):
        pass


def test_a_folder_or_a_missing_folder_cannot_be_written(tmp_path):
    assert code_of(tmp_path).code == "E828"
    assert code_of(tmp_path / "missing" / "out.jsonl").code == "E828"


def test_a_full_disk_says_so_and_leaves_a_file_that_can_go_on(tmp_path, monkeypatch):
    path = tmp_path / "out.jsonl"
    write(path, {"id": "a", "input": "f"})
    import os

    real = os.write
    room = [30]

    def full(handle, data):
        if not room[0]:
            raise OSError(28, "No space left on device")
        taken = real(handle, data[: room[0]])
        room[0] -= taken
        return taken

    monkeypatch.setattr("xverse_v.batch.output.os.write", full)
    with pytest.raises(XverseError) as caught:
        write(path, {"id": "b", "input": "f"})
    assert caught.value.code == "E828"
    assert "No space left" in caught.value.text("en")
    monkeypatch.undo()
    with OutputFile(path, SETTINGS) as output:
        assert (output.torn_bytes, set(output.done)) == (30, {row_key("a")})
