"""What is made of a finished run: scores, verification, differences with their reasons, files for other programs."""

import csv
import json
import shutil
from dataclasses import replace

import openpyxl
import pytest

from tests.evaluation.made import base64_image, write_tsv
from tests.evaluation.scripted_model import ScriptedModel
from xverse_v.errors import XverseError
from xverse_v.evaluation.bundle import RunFolder
from xverse_v.evaluation.contract import Prediction, Score, Verdict
from xverse_v.evaluation.diff import difference, pairs
from xverse_v.evaluation.export import escaped, export
from xverse_v.evaluation.pick import find_for, tasks_of
from xverse_v.evaluation.run import ask, finish
from xverse_v.evaluation.scored import read_scored, recorded_judge, score_run
from xverse_v.evaluation.verify import verify

COLUMNS = ["index", "image", "question", "A", "B", "C", "answer", "category"]
LETTERS = "ABCABCABCA"


def made(tmp_path, rows=10, **changes):
    """A run folder, scored; every answer is right but those given as `said`."""
    said = {str(key): text for key, text in changes.pop("said", {}).items()}
    table = [
        {"index": n, "image": base64_image() if n == 0 else "0", "question": f"Question {n}?", "answer": LETTERS[n]}
        | {"A": "one", "B": "two", "C": "three", "category": "odd" if n % 2 else "even"}
        for n in range(rows)
    ]
    for key, cell in changes.pop("cells", {}).items():
        table[key] |= cell
    data = write_tsv(tmp_path / "cards.tsv", COLUMNS, table)
    model = changes.pop("model", None) or ScriptedModel(**changes)
    model.reply = lambda key, prompt: said.get(key, LETTERS[int(key)])
    (task,) = tasks_of([str(data)], "vlmevalkit")
    folder = RunFolder(finish(ask(task, model, tmp_path / "work"), model).folder)
    score_run(folder, task.benchmark, None)
    return folder


def folder_at(tmp_path, name):
    (tmp_path / name).mkdir()
    return tmp_path / name


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


def only(found):
    (row,) = found.changed
    return row


def test_equal_runs_have_no_difference(tmp_path):
    a, b = made(folder_at(tmp_path, "a"), batch=1), made(folder_at(tmp_path, "b"), batch=4)
    found = difference(a, b)
    assert (found.rows, found.changed, found.settings, found.flips) == (10, [], {}, (0, 0))
    assert a.hash() == b.hash()


def test_a_changed_answer_names_the_row_the_flip_and_the_settings(tmp_path):
    a = made(folder_at(tmp_path, "a"), said={4: "A"}, weights_id="one")
    b = made(folder_at(tmp_path, "b"), weights_id="two")
    found = difference(a, b)
    row = only(found)
    assert (row.key, row.reason, row.steps) == ("4", "answer", ("answer", "scoring"))
    assert (row.answer_a, row.answer_b, row.score_a, row.score_b) == ("A", "B", 0, 1)
    assert found.settings == {"model.facts.weights_id": ("one", "two")}
    assert found.flips == (1, 0)
    assert found.scores["Overall"] == (pytest.approx(90), pytest.approx(100))


@pytest.mark.parametrize(
    ("cells", "reason"),
    [({5: {"question": "Another?"}}, "question"), ({5: {"image": base64_image("blue")}}, "image")],
)
def test_a_changed_data_file_is_the_reason_before_the_prompt(tmp_path, cells, reason):
    a, b = made(folder_at(tmp_path, "a")), made(folder_at(tmp_path, "b"), cells=cells)
    found = difference(a, b)
    assert only(found).reason == reason
    assert "data.sha256" in found.settings


class Changing(ScriptedModel):
    """Gives one row facts of its own, or refuses it."""

    def __init__(self, **facts):
        super().__init__()
        self.changed = facts

    def answers(self, prompts):
        for prediction in super().answers(prompts):
            odd = prediction.key == "6"
            yield replace(prediction, facts={**prediction.facts, **self.changed}) if odd else prediction


@pytest.mark.parametrize(
    ("facts", "reason"),
    [({"images": [{"rows": 3, "columns": 2}]}, "tiles"), ({"prompt_token_ids": [9]}, "tokens")],
)
def test_tiles_and_tokens_are_reasons_of_their_own(tmp_path, facts, reason):
    a, b = made(folder_at(tmp_path, "a")), made(folder_at(tmp_path, "b"), model=Changing(**facts))
    assert only(difference(a, b)).reason == reason


def test_a_row_that_was_refused_or_is_missing(tmp_path):
    refusing = ScriptedModel()
    refusing.refuse = lambda key: key == "6"
    a, b = made(folder_at(tmp_path, "a")), made(folder_at(tmp_path, "b"), model=refusing)
    assert (only(difference(a, b)).reason, only(difference(b, a)).score_a) == ("refused", None)
    c = made(folder_at(tmp_path, "c"), rows=9)
    assert only(difference(a, c)).reason == "only in A"
    assert only(difference(c, a)).reason == "only in B"


def test_a_changed_rule_of_scoring_is_the_reason_where_all_else_is_equal(tmp_path):
    a, b = made(folder_at(tmp_path, "a")), made(folder_at(tmp_path, "b"))
    verdicts = (b.path / "verdicts.jsonl").read_text().splitlines()
    verdicts[2] = json.dumps({**json.loads(verdicts[2]), "read": "Z", "score": 0.0})
    (b.path / "verdicts.jsonl").write_text("\n".join(verdicts) + "\n")
    assert only(difference(a, b)).reason == "scoring"


def test_runs_meet_by_benchmark_then_profile(tmp_path):
    a, b = made(folder_at(tmp_path, "a")), made(folder_at(tmp_path, "b"))
    assert list(pairs(RunFolder.below([tmp_path / "a"]), RunFolder.below([tmp_path / "b"]))) == [(a, b)]
    with pytest.raises(XverseError, match="E724"):
        RunFolder.below([tmp_path / "nothing"])


def test_the_chance_of_a_split_is_the_exact_test():
    found = difference.__globals__["Difference"]("x", "vlmevalkit", "vlmevalkit")
    for flips, chance in (((0, 0), 1.0), ((5, 5), 1.0), ((0, 5), 2 / 32), ((8, 0), 2 / 256), ((1, 4), 12 / 32)):
        found.flips = flips
        assert found.chance() == pytest.approx(chance)


FORMULAS = {1: "=HYPERLINK(1)", 2: "+cmd|' /C calc'!A0", 4: "@SUM(1)", 5: "-5", 6: "-2+3", 7: "None", 8: "04"}


def test_formulas_are_made_safe_and_numbers_stay():
    assert [escaped(text) for text in ("=1", "+a", "-b", "@c", "\tx", "a=b", "", "-5", "+3.5e2", "-")] == [
        "'=1",
        "'+a",
        "'-b",
        "'@c",
        "'\tx",
        "a=b",
        "",
        "-5",
        "+3.5e2",
        "'-",
    ]


def test_the_tsv_holds_the_rows_and_safe_predictions(tmp_path):
    path = export(made(tmp_path, said=FORMULAS), tmp_path / "out", "tsv")
    assert path.name == "scripted_cards.tsv"
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert list(rows[0]) == ["index", "question", "A", "B", "C", "answer", "category", "prediction"]
    assert [rows[n]["prediction"] for n in FORMULAS] == [
        "'=HYPERLINK(1)",
        "'+cmd|' /C calc'!A0",
        "'@SUM(1)",
        "-5",
        "'-2+3",
        "None",
        "04",
    ]


def test_the_xlsx_holds_every_text_unchanged_and_none_as_a_formula(tmp_path):
    path = export(made(tmp_path, said=FORMULAS), tmp_path / "out", "xlsx")
    sheet = openpyxl.load_workbook(path).active
    cells = {row[0].value: row[-1] for row in sheet.iter_rows(min_row=2)}
    assert {key: cells[str(key)].value for key in FORMULAS} == FORMULAS
    assert {cell.data_type for cell in cells.values()} == {"s"}


def test_a_text_too_long_for_xlsx_is_refused_and_whole_elsewhere(tmp_path):
    folder = made(tmp_path, said={3: "x" * 40_000})
    with pytest.raises(XverseError, match="E728") as caught:
        export(folder, tmp_path / "out", "xlsx")
    assert "row 3" in str(caught.value)
    assert "40000" in str(caught.value)
    assert "x" * 40_000 in export(folder, tmp_path / "out", "tsv").read_text()


def test_llavas_lines(tmp_path):
    path = export(made(tmp_path), tmp_path / "out", "llava")
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert lines[3]["question_id"] == 3
    assert (lines[3]["prompt"], lines[3]["text"], lines[3]["model_id"]) == ("Question 3?", "A", "scripted")
    assert len({line["answer_id"] for line in lines}) == 10


def test_predictions_come_back_as_they_were(tmp_path):
    odd = {1: "None", 2: "04", 3: "3", 4: "x" * 40_000, 5: "two\nlines\tand \u2028 more", 6: "", 7: "\ud83d\ude00"}
    folder = made(tmp_path, said=odd)
    texts = {row.key: prediction.text for row, prediction in folder.answered()}
    assert {key: texts[str(key)] for key in odd} == odd


def custom_scores(tmp_path, answers, said):
    rows = [
        {"index": n, "image": base64_image(), "question": "q", "answer": answer} for n, answer in enumerate(answers)
    ]
    data = write_tsv(tmp_path / "own.tsv", ["index", "image", "question", "answer"], rows)
    (task,) = tasks_of([str(data)], "vlmevalkit")
    asked = [row for row in task.benchmark.rows(data, "vlmevalkit", None)]
    pairs = [(row, Prediction(row.key, text)) for row, text in zip(asked, said, strict=True)]
    return task.benchmark.score(pairs, "vlmevalkit", None)


def test_a_set_of_ones_own_counts_equal_answers(tmp_path):
    verdicts, scores = custom_scores(tmp_path, ["Red", "two", "", "['a', 'b']"], [" red ", "2", "x", "B"])
    assert [verdict.score for verdict in verdicts] == [1, 0, 1]
    assert [(score.name, score.rows, score.skipped) for score in scores] == [("Exact match", 3, 1)]
    assert isinstance(scores[0], Score)
    assert isinstance(verdicts[0], Verdict)


def test_soft_accuracy_leads_where_every_row_has_several_answers(tmp_path):
    ten = repr(["dog"] * 2 + ["cat"] * 8)
    verdicts, scores = custom_scores(tmp_path, [ten, ten], ["dog", "a cat."])
    assert [score.name for score in scores] == ["Soft accuracy", "Exact match"]
    assert [verdict.score for verdict in verdicts] == [pytest.approx(0.6), 1]


def test_a_column_category_gives_a_score_each(tmp_path):
    columns = ["index", "image", "question", "answer", "category"]
    rows = [
        {"index": n, "image": base64_image(), "question": "q", "answer": "a", "category": "xy"[n % 2]}
        for n in (0, 1, 2)
    ]
    data = write_tsv(tmp_path / "own.tsv", columns, rows)
    (task,) = tasks_of([str(data)], "vlmevalkit")
    pairs = [
        (row, Prediction(row.key, "a" if row.key == "1" else "b"))
        for row in task.benchmark.rows(data, "vlmevalkit", None)
    ]
    found = {score.name: (score.value, score.rows) for score in task.benchmark.score(pairs, "vlmevalkit", None)[1]}
    assert found == {"Exact match": (pytest.approx(100 / 3), 3), "x": (0, 2), "y": (100, 1)}
