"""A run: same bytes for any batch, number of processes and kills; bad rows are counted; nothing is mixed or lost."""

import json
import os
import random
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from tests.evaluation.made import base64_image, write_tsv
from tests.evaluation.scripted_model import ScriptedModel
from xverse_v.errors import XverseError
from xverse_v.evaluation.bundle import RunFolder
from xverse_v.evaluation.contract import Row
from xverse_v.evaluation.pick import tasks_of
from xverse_v.evaluation.plan import make_plan
from xverse_v.evaluation.predictions import MERGED, PARTS, Part
from xverse_v.evaluation.run import ask, finish
from xverse_v.evaluation.sharing import Share, deal, group_by_image, share_of

PROGRAM = Path(__file__).with_name("scripted_model.py")
COLUMNS = ["index", "image", "question", "A", "B", "C", "D", "answer"]
QUESTIONS, IMAGES = 120, 17


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Questions about seventeen images, dealt like cards, one of them broken; one repeated index, one row without."""
    path = tmp_path_factory.mktemp("data") / "cards.tsv"
    rows = []
    for number in range(QUESTIONS):
        place = number % IMAGES
        image = base64_image(width=20 + place) if number < IMAGES else str(place)
        rows.append({"index": number, "image": image, "question": f"Question {number}?", "answer": "ABCD"[number % 4]})
        rows[-1] |= {"A": "one", "B": "two", "C": "three", "D": "four"}
    rows[5]["image"] = "!" * 100
    rows += [{**rows[0], "index": 3}, {**rows[0], "index": 900, "image": ""}]
    return write_tsv(path, COLUMNS, rows)


def task(data, **options):
    return tasks_of([str(data)], "vlmevalkit", **options)[0]


def run(data, work, model=None, **options):
    model = model or ScriptedModel()
    return finish(ask(task(data, **options), model, work), model)


def files(folder):
    """Everything the bundle hash covers, and the hash."""
    names = ("run.json", "rows.jsonl", "bad_rows.jsonl", MERGED)
    return {name: (folder / name).read_bytes() for name in names} | {"hash": RunFolder(folder).hash()}


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    return files(run(data, tmp_path_factory.mktemp("whole")).folder)


@pytest.mark.parametrize("batch", [2, 7, 1000])
def test_any_batch_size_gives_the_same_bytes(data, whole, tmp_path, batch):
    assert files(run(data, tmp_path, ScriptedModel(batch=batch)).folder) == whole


def test_every_row_is_answered_or_named(data, tmp_path):
    report = run(data, tmp_path)
    broken = {str(number) for number in range(QUESTIONS) if number % IMAGES == 5}
    assert {row.key for row in report.refusals} == broken
    assert {row.code for row in report.refusals} == {"E715"}
    assert [(row.key, row.code) for row in report.plan.bad] == [("3", "E712")]
    assert [row.key for row in report.plan.left_out] == ["900"]
    assert report.answered == QUESTIONS - len(broken) == report.rows - len(report.refusals)
    lines = [json.loads(line) for line in (report.folder / MERGED).read_text().splitlines()]
    assert [line["key"] for line in lines] == [str(number) for number in range(QUESTIONS)], "the file's own order"


def test_rows_about_an_image_are_asked_together_and_share_the_object(data, tmp_path):
    model = ScriptedModel()
    run(data, tmp_path, model)
    seen = [images[0] for _, images in model.taken]
    changes = sum(one is not other for one, other in pairwise(seen))
    assert changes == IMAGES - 2, "one image is broken, the others are read once each"


def test_a_second_start_asks_only_what_was_refused_and_changes_nothing(data, whole, tmp_path):
    run(data, tmp_path)
    again = ScriptedModel()
    report = run(data, tmp_path, again)
    assert again.taken == []
    assert report.answered_before == QUESTIONS - 7
    assert files(report.folder) == whole


def test_a_refused_row_is_answered_once_the_model_can(data, tmp_path):
    model = ScriptedModel()
    model.refuse = lambda key: key in ("7", "8")
    assert {"7", "8"} < {row.key for row in run(data, tmp_path, model).refusals}
    report = run(data, tmp_path)
    assert not {"7", "8"} & {row.key for row in report.refusals}
    assert report.answered == 2


def test_a_limit_keeps_its_answers_when_it_is_lifted(data, whole, tmp_path):
    report = run(data, tmp_path, limit=30)
    assert (report.rows, report.plan.beyond) == (30, QUESTIONS - 30)
    model = ScriptedModel()
    assert files(run(data, tmp_path, model).folder) == whole
    assert len(model.taken) == QUESTIONS - 30 - (7 - 2) + 0


def test_a_limit_counts_questions_and_not_their_passes(data, monkeypatch):
    wanted = task(data, limit=2)
    passes = [Row(f"{turn}{name}", "q", group=name) for turn in range(3) for name in "abc"]
    monkeypatch.setattr(type(wanted.benchmark), "rows", lambda *_: iter(passes))
    assert [row.key for row in make_plan(wanted).rows] == ["0a", "0b", "1a", "1b", "2a", "2b"]


def test_other_settings_are_refused_and_named(data, tmp_path):
    run(data, tmp_path)
    with pytest.raises(XverseError, match="E720") as caught:
        run(data, tmp_path, ScriptedModel(decoding="beam"))
    assert "model.facts.decoding 'greedy' there, 'beam' now" in str(caught.value)
    with pytest.raises(XverseError, match="E720"):
        run(data, tmp_path, max_new_tokens=5)


def test_other_surroundings_are_not(data, whole, tmp_path):
    run(data, tmp_path, limit=20)
    assert files(run(data, tmp_path, ScriptedModel(device="cuda:3", versions={"torch": "9"})).folder) == whole


def test_a_changed_data_file_is_another_run(data, tmp_path):
    copy = tmp_path / "cards.tsv"
    shutil.copy(data, copy)
    run(copy, tmp_path / "work")
    copy.write_bytes(copy.read_bytes().replace(b"Question 1?", b"Question l?"))
    with pytest.raises(XverseError, match="E720") as caught:
        run(copy, tmp_path / "work")
    assert "data.sha256" in str(caught.value)


def test_a_changed_prompt_is_found_before_anything_is_asked(data, tmp_path, monkeypatch):
    run(data, tmp_path, limit=20)
    wanted = task(data)
    old = wanted.benchmark.prompt
    monkeypatch.setattr(
        type(wanted.benchmark), "prompt", lambda _, row, profile: replace(old(row, profile), system="x")
    )
    model = ScriptedModel()
    with pytest.raises(XverseError, match="E722"):
        run(data, tmp_path, model)
    assert model.taken == []


def test_one_writer_a_part_and_damage_inside_is_refused(data, tmp_path):
    report = run(data, tmp_path, limit=20)
    settings = RunFolder(report.folder).settings_digest()
    with Part(report.folder, Share(), settings), pytest.raises(XverseError, match="E719"):
        run(data, tmp_path, limit=20)
    part = report.folder / PARTS / "0-of-1.jsonl"
    part.write_bytes(part.read_bytes().replace(b'"key"', b'"kex"', 1))
    with pytest.raises(XverseError, match="E718"):
        run(data, tmp_path, limit=20)


@pytest.mark.parametrize("cut", [1, 40, 70_000])
def test_a_torn_last_line_is_asked_again(data, whole, tmp_path, cut):
    part = run(data, tmp_path).folder / PARTS / "0-of-1.jsonl"
    with part.open("ab") as file:
        file.write(b'{"key": "999", "text": "' + b"x" * cut)
    report = run(data, tmp_path)
    assert report.torn_bytes == cut + 24
    assert files(report.folder) == whole


@pytest.mark.parametrize("world", [2, 3])
def test_processes_share_the_rows_and_end_in_the_same_bytes(data, whole, tmp_path, world):
    reports, models = [], []
    for rank in reversed(range(world)):
        models.append(ScriptedModel(batch=1 + rank))
        reports.append(ask(task(data), models[-1], tmp_path, share=Share(rank, world)))
    asked = [key for model in models for key, _ in model.taken]
    assert len(asked) == len(set(asked)) == QUESTIONS - 7
    assert max(len(m.taken) for m in models) - min(len(m.taken) for m in models) <= 14, "about two images apart"
    assert files(finish(reports[-1], models[-1], share=Share(0, world)).folder) == whole


def test_a_run_begun_by_one_process_is_gone_on_with_by_two(data, whole, tmp_path):
    run(data, tmp_path, limit=50)
    model = ScriptedModel()
    for rank in (1, 0):
        report = ask(task(data), model, tmp_path, share=Share(rank, 2))
    assert files(finish(report, model, share=Share(0, 2)).folder) == whole


def test_the_first_process_says_when_another_never_did_its_part(data, tmp_path, monkeypatch):
    monkeypatch.setattr("xverse_v.evaluation.run._PATIENCE", 0.0)
    monkeypatch.setattr("xverse_v.evaluation.run._GLANCE", 0.01)
    model = ScriptedModel()
    report = ask(task(data), model, tmp_path, share=Share(0, 2))
    with pytest.raises(XverseError, match="E723"):
        finish(report, model, share=Share(0, 2))


def test_shares_are_even_whole_and_keep_images_together():
    rows = [Row(str(n), "q", group=str(n)) for n in range(50)]
    groups = [rows[:20], rows[20:21], rows[21:30], rows[30:50]]
    for world in (1, 2, 3, 7):
        dealt = [deal(groups, Share(rank, world)) for rank in range(world)]
        assert sorted(row.key for share in dealt for group in share for row in group) == sorted(r.key for r in rows)
        assert all(group in groups for share in dealt for group in share)
    assert [len(group) for group in group_by_image(rows)] == [1] * 50


def test_torchruns_variables_name_the_process():
    assert share_of({}) == Share(0, 1, 0)
    assert share_of({"RANK": "3", "WORLD_SIZE": "8", "LOCAL_RANK": "1"}) == Share(3, 8, 1)
    for wrong in ({"RANK": "8", "WORLD_SIZE": "8"}, {"RANK": "x"}, {"WORLD_SIZE": "2"}):
        with pytest.raises(XverseError, match="E717"):
            share_of(wrong)


def start(data, work, delay, **variables):
    code = "import runpy, sys; sys.argv.pop(0); runpy.run_path(sys.argv[0], run_name='__main__')"
    command = [sys.executable, "-c", code, str(PROGRAM), str(data), str(work), str(delay)]
    environment = {**os.environ, **variables}
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=PROGRAM.parents[2], env=environment)


def size(part):
    return part.stat().st_size if part.exists() else 0


def kill_again_and_again(data, work, kills, seed):
    """Each time a little further on, at a random moment; half of the times with a torn end, as a power cut leaves."""
    dice = random.Random(seed)
    part = work / "scripted" / "cards" / "vlmevalkit" / PARTS / "0-of-1.jsonl"
    for _ in range(kills):
        before = size(part)
        process = start(data, work, 0.004)
        while size(part) <= before and process.poll() is None:
            time.sleep(0.001)
        time.sleep(dice.random() * 0.01)
        assert process.poll() is None, "it finished before it could be killed; the test would prove nothing"
        process.kill()
        process.communicate()
        if dice.random() < 0.5:
            with part.open("r+b") as file:
                file.truncate(size(part) - dice.randrange(1, 30))
    assert start(data, work, 0).communicate()[0] == "finished\n"


def test_killed_runs_end_in_the_same_bytes(data, whole, tmp_path):
    kill_again_and_again(data, tmp_path, 3, seed=4)
    assert files(tmp_path / "scripted" / "cards" / "vlmevalkit") == whole


@pytest.mark.slow
def test_twenty_random_kills_end_in_the_same_bytes(data, whole, tmp_path):
    kill_again_and_again(data, tmp_path, 20, seed=20)
    assert files(tmp_path / "scripted" / "cards" / "vlmevalkit") == whole


def test_two_processes_at_once_as_torchrun_starts_them(data, whole, tmp_path):
    processes = [start(data, tmp_path, 0.001, RANK=str(rank), WORLD_SIZE="2", LOCAL_RANK=str(rank)) for rank in (0, 1)]
    assert [process.communicate()[0] for process in processes] == ["finished\n"] * 2
    assert files(tmp_path / "scripted" / "cards" / "vlmevalkit") == whole
