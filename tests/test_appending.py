"""One writer, whole lines: what a crash leaves is cut off, whatever its length, and nothing else is touched."""

import os
import subprocess
import sys

import pytest

from xverse_v.appending import AppendedFile, NotRegular, is_written

HOLD = "import sys, xverse_v.appending as a; a.AppendedFile(__import__('pathlib').Path(sys.argv[1])).open(); "
LINES = b"".join(b"%d:" % n + b"x" * size + b"\n" for n, size in enumerate((0, 5, 70_000, 3)))


@pytest.fixture
def opened(tmp_path):
    file = AppendedFile(tmp_path / "a.jsonl")
    file.open()
    yield file
    file.close()


@pytest.mark.parametrize("cut", [0, 1, 4, 5, 6, 7, 1000, 65_536, 65_541, 70_008, len(LINES) - 1, len(LINES)])
def test_a_file_cut_at_any_byte_keeps_its_whole_lines(opened, cut):
    left = LINES[: len(LINES) - cut]
    whole = left[: left.rfind(b"\n") + 1]
    opened.path.write_bytes(left)
    assert b"".join(raw for _, raw in opened.lines()) == whole
    assert opened.path.read_bytes() == left, "reading changes nothing"
    assert opened.mend() == len(left) - len(whole)
    assert opened.path.read_bytes() == whole
    assert opened.mend() == 0
    opened.append(b"next\n")
    assert opened.path.read_bytes() == whole + b"next\n"


def test_lines_are_numbered_from_one(opened):
    opened.append(b"a\nb\n")
    opened.append(b"c\n")
    assert list(opened.lines()) == [(1, b"a\n"), (2, b"b\n"), (3, b"c\n")]


def test_a_second_writer_is_refused_until_the_first_lets_go(opened):
    other = AppendedFile(opened.path)
    with pytest.raises(BlockingIOError):
        other.open()
    assert is_written(opened.path)
    opened.close()
    assert not is_written(opened.path)
    other.open()
    other.close()


def test_the_lock_of_another_process_dies_with_it(tmp_path):
    path = tmp_path / "a.jsonl"
    program = HOLD + "print('held', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", program, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout.readline() == b"held\n"
        assert is_written(path)
        with pytest.raises(BlockingIOError):
            AppendedFile(path).open()
        holder.kill()
    assert not is_written(path)


def test_nobody_writes_a_file_that_is_not_there(tmp_path):
    assert not is_written(tmp_path / "none")


def test_a_pipe_and_a_folder_are_no_place_for_lines(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(NotRegular):
        AppendedFile(tmp_path / "pipe").open()
    with pytest.raises(IsADirectoryError):
        AppendedFile(tmp_path).open()


def test_a_write_that_takes_a_few_bytes_at_a_time_is_whole(opened, monkeypatch):
    real = os.write
    monkeypatch.setattr("xverse_v.appending.os.write", lambda handle, data: real(handle, data[:3]))
    opened.append(LINES[:100])
    assert opened.path.read_bytes() == LINES[:100]


@pytest.mark.parametrize(("seconds", "synced_at_once"), [(0.0, 3), (3600.0, 0)])
def test_lines_are_on_the_disk_when_they_must_be_and_all_of_them_at_the_end(
    tmp_path, monkeypatch, seconds, synced_at_once
):
    synced = []
    monkeypatch.setattr("xverse_v.appending.os.fsync", lambda handle: synced.append(os.fstat(handle).st_size))
    file = AppendedFile(tmp_path / "a.jsonl", seconds)
    file.open()
    for line in (b"a\n", b"b\n", b"c\n"):
        file.append(line)
    assert len(synced) == synced_at_once
    assert file.path.read_bytes() == b"a\nb\nc\n", "written, whoever dies now"
    file.close()
    assert synced[-1] == 6
    file.close()
