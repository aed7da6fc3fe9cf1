"""What is made of a finished run: scores with their conditions, and a bundle that can be verified elsewhere."""

import json
import shutil

import pytest

from tests.evaluation.finished import made
from xverse_v.errors import XverseError
from xverse_v.evaluation.bundle import RunFolder
from xverse_v.evaluation.pick import find_for
from xverse_v.evaluation.scored import read_scored, recorded_judge, score_run
from xverse_v.evaluation.verify import verify


def test_scores_name_their_conditions_and_the_bundle(tmp_path):
    folder = made(tmp_path, said={1: "no idea", 2: "A"}, cells={3: {"image": "!" * 70}})
    scored = read_scored(folder)
    headline = scored.scores[0]
    assert (headline.name, headline.rows, headline.skipped, headline.unmatched) == ("Overall", 9, 1, 1)
    assert headline.value == pytest.approx(100 * 7 / 9)
    assert headline.low < headline.value < headline.high
    assert scored.document["counts"] == {"asked": 10, "answered": 9, "bad": 1, "left_out": 0, "beyond_limit": 0}
    assert scored.document["bundle"] == folder.hash()
    assert {verdict.key: verdict.score for verdict in scored.verdicts}["2"] == 0


def test_scoring_twice_gives_the_same_bytes(tmp_path):
    folder = made(tmp_path)
    before = {path.name: path.read_bytes() for path in folder.path.iterdir() if path.is_file()}
    score_run(folder, find_for(folder.document()), None)
    assert {path.name: path.read_bytes() for path in folder.path.iterdir() if path.is_file()} == before


def test_an_unfinished_run_has_no_scores(tmp_path):
    folder = made(tmp_path)
    (folder.path / "bundle.json").unlink()
    with pytest.raises(XverseError, match="E723"):
        score_run(folder, find_for(folder.document()), None)


def test_a_bundle_holds_on_a_machine_without_data_or_model(tmp_path):
    folder = made(tmp_path, said={1: "no idea"})
    (tmp_path / "cards.tsv").unlink()
    shutil.rmtree(folder.path / "parts")
    moved = RunFolder(shutil.copytree(folder.path, tmp_path / "elsewhere"))
    found = verify(moved, find_for)
    assert found.holds, found.problems
    assert (found.rows, found.scores, found.notes) == (10, 3, [])


@pytest.mark.parametrize(
    ("name", "old", "new", "said"),
    [
        ("predictions.jsonl", '"text":"B"', '"text":"C"', "predictions.jsonl was changed"),
        ("rows.jsonl", '"answers":["B"]', '"answers":["C"]', "rows.jsonl was changed"),
        ("run.json", '"greedy"', '"sampled"', "run.json was changed"),
        ("bundle.json", '"bundle": "', '"bundle": "0', "the bundle hash is not that of its files"),
        ("scores.json", '"value": 100.0', '"value": 100.5', "is 100.5, made again 100.0"),
        ("verdicts.jsonl", '"score":1.0', '"score":0.0', "verdicts differ"),
        ("scores.json", '"unmatched": 0', '"unmatched": 1', '"Overall" is 100.0'),
    ],
)
def test_every_forgery_is_found(tmp_path, name, old, new, said):
    folder = made(tmp_path)
    path = folder.path / name
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    found = verify(folder, find_for)
    assert not found.holds
    assert any(said in problem for problem in found.problems), found.problems


@pytest.mark.parametrize("name", ["predictions.jsonl", "rows.jsonl", "bad_rows.jsonl", "bundle.json", "verdicts.jsonl"])
def test_a_missing_file_is_a_problem_and_not_a_crash(tmp_path, name):
    folder = made(tmp_path)
    (folder.path / name).unlink()
    assert not verify(folder, find_for).holds


def test_scores_made_by_other_code_are_a_note_where_the_numbers_agree(tmp_path):
    folder = made(tmp_path)
    scores = json.loads((folder.path / "scores.json").read_text())
    (folder.path / "scores.json").write_text(json.dumps(scores | {"code": "0123456789ab"}))
    found = verify(folder, find_for)
    assert found.holds
    assert "0123456789ab" in found.notes[0]


class CountingJudge:
    name = "grader"

    def __init__(self):
        self.asked = 0

    def ask(self, prompts, *, temperature=0.0, max_tokens=512, system="", attempt=0):
        self.asked += len(prompts)
        return ["B" for _ in prompts]


def test_a_judges_replies_are_kept_and_read_again(tmp_path):
    folder, judge = made(tmp_path, said={1: "no idea", 4: "hard to say"}), CountingJudge()
    scored = score_run(folder, find_for(folder.document()), judge)
    assert judge.asked == 2
    assert scored.document["judge"] == scored.scores[0].judge == "grader"
    assert scored.scores[0].value == 100
    assert verify(folder, find_for).holds
    assert judge.asked == 2, "verifying asks nobody"
    replayed = recorded_judge(folder)
    with pytest.raises(XverseError, match="E726"):
        replayed.ask(["something new"])
    score_run(folder, find_for(folder.document()), None)
    assert recorded_judge(folder) is None, "replies of a judge do not outlive its score"
