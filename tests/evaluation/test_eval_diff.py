"""Differences of two runs, row by row, each with its reason."""

import json
from dataclasses import replace

import pytest

from tests.evaluation.finished import folder_at, made
from tests.evaluation.made import base64_image
from tests.evaluation.scripted_model import ScriptedModel
from xverse_v.errors import XverseError
from xverse_v.evaluation.bundle import RunFolder
from xverse_v.evaluation.diff import difference, pairs


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


def test_another_limit_changes_a_row_only_where_the_answer_changed(tmp_path):
    a = made(folder_at(tmp_path, "a"), longest=16)
    b = made(folder_at(tmp_path, "b"), longest=32)
    found = difference(a, b)
    assert (found.changed, found.settings) == ([], {"max_new_tokens": (16, 32)})
    c = made(folder_at(tmp_path, "c"), longest=32, said={4: "A"})
    assert only(difference(a, c)).steps == ("limit", "answer", "scoring")


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
