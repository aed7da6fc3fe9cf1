"""A run that is killed again and again ends with the same rows as one that was left alone."""

import json
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("killable.py")
# The repository's root comes first on the path, as it does for the tests, whether or not the package is installed.
RUN = "import runpy, sys; sys.argv.pop(0); runpy.run_path(sys.argv[0], run_name='__main__')"
ROWS = 500
KILLS = 20


@pytest.fixture(scope="module")
def questions(tmp_path_factory):
    path = tmp_path_factory.mktemp("kill") / "in.jsonl"
    rows = [{"id": f"q{n}", "image": str(1 + n % 37), "question": f"question {n}"} for n in range(ROWS)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def start(questions, out, delay):
    command = [sys.executable, "-c", RUN, PROGRAM, questions, out, str(delay)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=PROGRAM.parents[2])


def written(out):
    return out.stat().st_size if out.exists() else 0


def test_twenty_kills_lose_and_double_nothing(questions, tmp_path):
    whole, killed = tmp_path / "whole.jsonl", tmp_path / "killed.jsonl"
    finished, _ = start(questions, whole, 0).communicate()
    assert finished == "finished\n"
    end = written(whole)

    dice = random.Random(20)
    kills, grown = 0, set()
    while kills < KILLS:
        # Let it get past a random point of the file, then kill it at a random moment of the row it is in.
        target = end * (kills + dice.random()) / (KILLS + 1)
        process = start(questions, killed, 0.001)
        while written(killed) < target and process.poll() is None:
            time.sleep(0.001)
        time.sleep(dice.random() * 0.005)
        assert process.poll() is None, "it finished before it could be killed; the test would prove nothing"
        process.kill()
        process.communicate()
        kills += 1
        grown.add(written(killed))
        if dice.random() < 0.5 and written(killed):
            # What a power cut leaves: the last row half on the disk.
            with killed.open("r+b") as file:
                file.truncate(written(killed) - dice.randrange(1, 20))
    assert len(grown) > KILLS // 2, "the kills have to fall on different places"

    finished, _ = start(questions, killed, 0).communicate()
    assert finished == "finished\n"
    rows = killed.read_bytes().splitlines(keepends=True)
    assert len(rows) == ROWS
    assert {json.loads(row)["id"] for row in rows} == {f"q{n}" for n in range(ROWS)}
    assert set(rows) == set(whole.read_bytes().splitlines(keepends=True))


def test_a_second_run_on_the_same_output_is_refused_and_one_after_a_kill_is_not(questions, tmp_path):
    out = tmp_path / "out.jsonl"
    first = start(questions, out, 0.05)
    while not written(out) and first.poll() is None:
        time.sleep(0.01)
    second = start(questions, out, 0)
    _, said = second.communicate()
    first.kill()
    first.communicate()
    assert second.returncode != 0
    assert "E822" in said
    third, _ = start(questions, out, 0).communicate()
    assert third == "finished\n"
