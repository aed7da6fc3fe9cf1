"""MMStar, AI2D, SEEDBench and ScienceQA: options that vanish, shared images, the authors' files, categories."""

import dataclasses
import json

import pytest

from tests.evaluation import made, made_official
from tests.evaluation.reading import bad_rows_of, first, rows_of, scored
from tests.evaluation.stub_judge import StubJudge
from xverse_v.errors import XverseError
from xverse_v.evaluation.benchmarks import find
from xverse_v.evaluation.benchmarks.scores import Counted, by_split, conditions
from xverse_v.evaluation.tsv import IMAGELESS, image_bytes


def test_an_option_called_none_is_kept_or_lost_by_profile_and_logged(tmp_path, caplog):
    path = made.mmstar(tmp_path / "MMStar.tsv")
    assert rows_of("MMStar", path)[1].options["C"] == "None"
    assert "1 row(s) have an option that pandas reads as missing" in caplog.text
    assert "kept" in caplog.text
    caplog.clear()
    lost = rows_of("MMStar", path, "vlmevalkit-2024-04")[1]
    assert list(lost.options) == ["A", "B", "D"]
    assert lost.answers == ("C",), "still asked, and never right"
    assert "left out" in caplog.text
    assert "C. None" not in find("MMStar").prompt(lost, "vlmevalkit-2024-04").parts[-1]
    verdicts, _ = scored("MMStar", [lost], {"1": "C"}, "vlmevalkit-2024-04")
    assert verdicts["1"].score == 0


def test_the_policy_can_be_set_against_the_profile(tmp_path):
    parity = dataclasses.replace(find("SEEDBench_IMG"), na_policy="vlmevalkit")
    rows = list(parity.rows(made.seedbench(tmp_path / "s.tsv"), "vlmevalkit", None))
    assert [list(row.options) for row in rows] == [["A", "B", "D"]] * 2


def test_an_image_shared_by_index(tmp_path):
    first_row, second = rows_of("SEEDBench_IMG", made.seedbench(tmp_path / "s.tsv"))
    assert image_bytes(first_row.images[0]) == image_bytes(second.images[0]) == made.encoded_image("green")


def test_seed_bench_of_the_authors_keeps_only_images(tmp_path):
    (row,) = rows_of("SEEDBench_IMG", made_official.seedbench(tmp_path))
    assert (row.key, row.answers, row.options["C"]) == ("7", ("C",), "None")
    assert row.fields["category"] == "Instances Counting"
    assert row.images[0].path.is_file()


def test_ai2d_keeps_its_columns(tmp_path):
    (row,) = rows_of("AI2D_TEST", made.ai2d(tmp_path / "a.tsv"))
    assert row.fields["image_path"] == "ai2d/images_abc/102.png"
    assert row.fields["abcLabel"] == "True"
    assert image_bytes(row.images[0]) == made.encoded_image("red")


def test_science_qa_leaves_text_questions_out_and_shows_the_hint(tmp_path):
    path = made.science_qa(tmp_path / "s.tsv")
    rows = rows_of("ScienceQA_TEST", path)
    assert [row.key for row in rows] == ["4", "5"]
    assert [bad.code for bad in bad_rows_of("ScienceQA_TEST", path)] == [IMAGELESS]
    assert list(rows[1].options) == ["A", "B", "C", "D", "E"]
    assert find("ScienceQA_TEST").prompt(rows[0], "vlmevalkit").parts[-1].startswith("Hint: Two cups.\nQuestion: ")


def test_science_qa_officially(tmp_path):
    rows = rows_of("ScienceQA_TEST", made.science_qa(tmp_path / "s.tsv"))
    judge = StubJudge("B")
    verdicts, scores = scored("ScienceQA_TEST", rows, {"4": "B. blue cup", "5": "(E)"}, "official", judge)
    assert [verdict.score for verdict in verdicts.values()] == [1, 0]
    assert (first(scores).unmatched, first(scores).matcher, judge.calls) == (1, "exact", 0)


@pytest.mark.parametrize(("name", "key"), [("ScienceQA_TEST", "4"), ("ScienceQA_VAL", "6")])
def test_science_qa_of_the_authors(tmp_path, name, key):
    path = made_official.science_qa(tmp_path)
    (row,) = rows_of(name, path)
    assert (row.key, row.answers, dict(row.options)) == (key, ("B",), {"A": "red cup", "B": "blue cup"})
    assert row.fields["hint"] == "Two cups."
    assert "lecture" not in row.fields
    assert row.images[0].path.is_file() is (name == "ScienceQA_TEST")
    (tmp_path / "pid_splits.json").unlink()
    assert [row.key for row in rows_of(name, path)] == [key], "the member `split` says the same"


def test_a_judge_reads_what_matching_could_not_and_its_own_letter_is_matched_too(tmp_path):
    rows = rows_of("MMStar", made.mmstar(tmp_path / "m.tsv"))
    judge = StubJudge("The answer is A")
    verdicts, scores = scored("MMStar", rows, {"0": "a single block", "1": "C"}, judge=judge)
    assert verdicts["0"].read == "A"
    assert first(scores).value == 100
    assert (judge.asked[0].temperature, judge.asked[0].max_tokens, judge.calls) == (0.0, 2048, 1)


def test_without_a_judge_nothing_is_guessed(tmp_path):
    rows = rows_of("MMStar", made.mmstar(tmp_path / "m.tsv"))
    verdicts, scores = scored("MMStar", rows, {"0": "hm", "1": "C"})
    assert (verdicts["0"].read, verdicts["0"].matched) == ("", False)
    assert (first(scores).value, first(scores).unmatched) == (50, 1)


def test_the_same_key_twice_in_an_official_file_is_a_bad_row(tmp_path):
    path = made_official.seedbench(tmp_path)
    value = json.loads(path.read_text(encoding="utf-8"))
    value["questions"].append(value["questions"][0])
    made.write_json(path, value)
    assert [(bad.line, bad.code) for bad in bad_rows_of("SEEDBench_IMG", path)] == [(3, "E712")]


def counted(*rows):
    return [Counted(value, split=split, l2_category=l2, category=category) for value, split, l2, category in rows]


def test_reports_go_split_by_split_in_a_fixed_order():
    rows = counted((1, "test", "L", "x"), (0, "dev", "L", "y"), (1, "dev", "K", "x"))
    facts = conditions("vlmevalkit", None, 3)
    scores = by_split(rows, facts)
    assert [score.name for score in scores] == [
        *("dev: Overall", "dev: K", "dev: L", "dev: x", "dev: y"),
        *("test: Overall", "test: L", "test: x"),
    ]
    assert scores == by_split(rows[::-1], facts)
    assert scores[0].value == 50
    assert scores[0].skipped == 3
    assert by_split(rows, facts, preferred="test")[0].name == "Overall"


def test_a_category_and_an_l2_category_of_one_name_are_both_kept():
    rows = counted((1, "none", "math", "algebra"), (0, "none", "art", "math"))
    found = {score.name: score.value for score in by_split(rows, conditions("vlmevalkit", None, 0))}
    assert found == {"Overall": 50, "art": 0, "math (l2-category)": 100, "algebra": 100, "math": 0}


def test_a_gap_in_the_letters_is_kept_and_logged(tmp_path, caplog):
    row = {"index": 1, "image": made.base64_image(), "question": "q", "A": "x", "B": "", "C": "y", "answer": "C"}
    (found,) = rows_of("AI2D_TEST", made.choices(tmp_path / "a.tsv", [row]))
    assert list(found.options) == ["A", "C"]
    assert "1 row(s) have a gap in their option letters" in caplog.text


def test_a_folder_in_place_of_a_file_is_refused(tmp_path):
    with pytest.raises(XverseError) as caught:
        rows_of("SEEDBench_IMG", tmp_path)
    assert caught.value.code == "E716"
