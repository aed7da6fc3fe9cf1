"""The whole command, 500 lines, the built-in model, killed twenty times: the file ends as if nothing had happened."""

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image, ImageDraw

REPOSITORY = Path(__file__).parents[2]
ROWS, KILLS = 500, 20

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def questions(tmp_path_factory):
    folder = tmp_path_factory.mktemp("batch")
    for number in range(40):
        image = Image.new("RGB", (224, 224), "white")
        ImageDraw.Draw(image).ellipse([20, 20, 60 + 3 * number, 60 + 3 * number], fill=(6 * number, 90, 160))
        image.save(folder / f"{number}.png")
    asked = ["What colour is the circle?", "How many shapes are there?", "图中有几个图形？", "Where is the circle?"]
    rows = [{"id": n, "image": f"{n % 40}.png", "question": f"{asked[n % 4]} {n // 40}"} for n in range(ROWS)]
    path = folder / "in.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def start(source, target):
    command = [sys.executable, "-m", "xverse_v", "batch", source, target, "--device", "cpu", "--dtype", "float32"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, cwd=REPOSITORY, env=environment, stderr=subprocess.PIPE, text=True)


def size(path):
    return path.stat().st_size if path.exists() else 0


def test_twenty_kills_change_no_row(questions, tmp_path):
    whole, killed = tmp_path / "whole.jsonl", tmp_path / "killed.jsonl"
    process = start(questions, whole)
    _, said = process.communicate()
    assert process.returncode == 0, said

    dice = random.Random(500)
    for kill in range(KILLS):
        target = size(whole) * (kill + dice.random()) / (KILLS + 1)
        process = start(questions, killed)
        while size(killed) <= target and process.poll() is None:
            time.sleep(0.005)
        time.sleep(dice.random() * 0.1)
        assert process.poll() is None, f"it ended before it could be killed: {process.communicate()}"
        process.kill()
        process.communicate()

    process = start(questions, killed)
    _, said = process.communicate()
    assert process.returncode == 0, said
    rows = killed.read_bytes().splitlines()
    assert len(rows) == ROWS
    assert {json.loads(row)["id"] for row in rows} == set(range(ROWS))
    assert set(rows) == set(whole.read_bytes().splitlines())
