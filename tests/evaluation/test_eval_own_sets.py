"""Benchmarks that are a file of the user's own."""

import pytest

from tests.evaluation.made import base64_image, write_tsv
from xverse_v.evaluation.contract import Prediction, Score, Verdict
from xverse_v.evaluation.pick import tasks_of


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
