"""Every script of examples/ runs as it stands, with the built-in model, and says what it promises to say."""

from __future__ import annotations

import json
import re
import runpy
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
MOST_LINES = 40


@pytest.fixture
def run(monkeypatch, capsys):
    """Runs a script in this process, as ``python examples/NAME.py ARGUMENTS`` would, and gives what it printed."""

    def running(name, *arguments):
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
        return capsys.readouterr().out.splitlines()

    return running


def test_every_script_is_run_here_and_short():
    source = Path(__file__).read_text(encoding="utf-8")
    scripts = sorted(EXAMPLES.glob("*.py"))
    assert len(scripts) >= 6
    for script in scripts:
        text = script.read_text(encoding="utf-8")
        assert f'run("{script.stem}"' in source, f"no test runs {script.name}"
        assert len(text.splitlines()) < MOST_LINES, script.name
        assert text.startswith('"""'), f"{script.name} does not say what it shows"


def test_ask(run):
    answer, tokens, image = run("ask_an_image")
    assert answer
    assert re.fullmatch(r"\d+ tokens in, \d+ out, ended by stop", tokens)
    assert image == "448x448: 5 view(s), 320 image tokens"


def test_stream(run):
    answer, end = run("stream_an_answer")
    assert answer
    # It stops an answer of more than sixty characters, and a shorter one ends by itself.
    assert end == ("ended by: cancelled" if len(answer) > 60 else "ended by: stop")


def test_several_questions_share_the_image(run):
    lines = run("several_questions")
    cached = [int(re.search(r"\((\d+) of \d+ tokens were cached\)", line)[1]) for line in lines[:3]]
    assert cached[0] == 0
    assert cached[1] == cached[2] >= 64
    assert len(lines) == 5


def test_a_batch_goes_on_where_it_stopped(run, tmp_path):
    rows = (EXAMPLES / "questions.jsonl").read_text(encoding="utf-8").splitlines()[:6]
    folder = tmp_path / "questions"
    (folder / "images").mkdir(parents=True)  # copied, because a link that leads out of the folder is refused
    for name in {json.loads(row)["image"] for row in rows}:
        (folder / name).write_bytes((EXAMPLES / name).read_bytes())
    questions, answers = folder / "some.jsonl", tmp_path / "answers.jsonl"
    questions.write_text("\n".join(rows[:2]) + "\n", encoding="utf-8")
    assert run("batch_that_resumes", questions, answers)[-1].split(" answers")[0].endswith("of 2")
    before = answers.read_bytes()
    questions.write_text("\n".join(rows) + "\n", encoding="utf-8")
    assert run("batch_that_resumes", questions, answers)[-1].split(" answers")[0].endswith("of 6")
    assert answers.read_bytes().startswith(before)


def test_the_openai_client(run):
    first, second = run("openai_client")
    assert first.endswith("(0 tokens were cached)")
    assert int(re.search(r"\((\d+) tokens were cached\)", second)[1]) >= 64


def test_what_an_answer_hangs_on(run, tmp_path):
    sheet = tmp_path / "sheet.png"
    question, parts = run("what_the_answer_hangs_on", sheet)
    assert question.startswith("What text is on the orange tag?  ")
    assert len(re.findall(r"÷[\d,.]+", parts)) == 4  # the panorama's grid is 1x4
    assert sheet.read_bytes().startswith(b"\x89PNG")


def test_transformers_alone(run):
    from xverse_v import load

    (answer,) = run("with_transformers")
    assert answer == load("nano").ask(EXAMPLES / "images" / "shapes.png", "What colour is the circle?").text
