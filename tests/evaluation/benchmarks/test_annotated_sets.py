"""OKVQA, VizWiz and TextVQA: ten annotators a question, in every shape of file."""

import json

import pytest

from tests.evaluation import made, made_official
from tests.evaluation.reading import bad_rows_of, first, rows_of, scored
from xverse_v.errors import XverseError


def test_okvqa_scores_as_the_official_evaluation(tmp_path):
    rows = rows_of("OKVQA", made.okvqa(tmp_path / "OKVQA"))
    assert [row.key for row in rows] == ["420", "421"]
    assert rows[0].answers.count("race") == 8
    assert rows[0].images[0].path.name == "COCO_val2014_000000000042.jpg"
    assert rows[0].images[0].path.is_file()
    for profile in ("release", "vlmevalkit", "official"):
        verdicts, scores = scored("OKVQA", rows, {"420": "the run", "421": "dog."}, profile)
        assert verdicts["420"].score == pytest.approx(0.6), "a pair of annotators is worth 0.6"
        assert verdicts["421"].score == 0, "all agree, so nothing is normalised"
        assert first(scores).value == pytest.approx(30)
    verdicts, _ = scored("OKVQA", rows, {"420": "racing", "421": "Dog"}, "release")
    assert verdicts["420"].score == 0, "raw answers do not count"
    assert verdicts["421"].score == 1


def test_okvqa_from_the_releases_three_files_or_from_one_named_file(tmp_path):
    folder = made_official.release_okvqa(tmp_path)
    (row,) = rows_of("OKVQA", folder)
    assert row.images[0].path.is_file()
    assert rows_of("OKVQA", folder / "okvqa_test_split.json") == [row]
    assert rows_of("OKVQA", folder / "OpenEnded_mscoco_val2014_questions_clean.json") == [row]
    record = json.loads((folder / "okvqa_test_split.json").read_text(encoding="utf-8"))[0]
    (folder / "okvqa_test.jsonl").write_text(json.dumps(record) + "\n", encoding="utf-8")
    assert rows_of("OKVQA", folder / "okvqa_test.jsonl") == [row]


def test_okvqa_names_what_is_missing(tmp_path, caplog):
    folder = made.okvqa(tmp_path / "OKVQA")
    made.write_json(folder / "mscoco_val2014_annotations.json", {"annotations": [{"question_id": 9, "answers": []}]})
    assert {(bad.key, bad.code) for bad in bad_rows_of("OKVQA", folder)} == {("420", "E743"), ("421", "E743")}
    assert "1 annotated question(s)" in caplog.text
    (folder / "mscoco_val2014_annotations.json").unlink()
    with pytest.raises(XverseError, match="mscoco_val2014_annotations") as caught:
        rows_of("OKVQA", folder)
    assert caught.value.code == "E742"


@pytest.mark.parametrize(("name", "column"), [("VizWiz", "answers"), ("TextVQA_VAL", "answer")])
def test_a_table_with_lists_of_ten(tmp_path, name, column):
    rows = rows_of(name, made.annotated(tmp_path / "t.tsv", column))
    assert [len(row.answers) for row in rows] == [10, 10, 10]
    verdicts, scores = scored(name, rows, {"0": "Acme.", "1": "2", "2": "None"})
    assert [verdict.score for verdict in verdicts.values()] == [1, 1, 1]
    assert verdicts["2"].read == "0", "none is a number word, on both sides"
    assert first(scores).value == 100
    assert first(scores).name == "Overall"


def test_a_period_beside_a_digit_is_what_the_versions_differ_in(tmp_path):
    row = {"index": 1, "image": made.base64_image(), "question": "q", "answer": repr(["3"] * 10)}
    path = made.write_tsv(tmp_path / "t.tsv", list(row), [row])
    found = {}
    for profile in ("vlmevalkit", "vlmevalkit-2024-04", "official", "release"):
        _, scores = scored("TextVQA_VAL", rows_of("TextVQA_VAL", path, profile), {"1": "3."}, profile)
        found[profile] = first(scores).value
    assert found == {"vlmevalkit": 0, "vlmevalkit-2024-04": 100, "official": 100, "release": 100}


def test_too_few_answers_are_bad_rows(tmp_path):
    base = {"image": made.base64_image(), "question": "q"}
    rows = [base | {"index": 1, "answer": "dog"}, base | {"index": 2, "answer": repr(["dog"] * 9)}]
    rows.append(base | {"index": 3, "answer": ""})
    path = made.write_tsv(tmp_path / "t.tsv", ["index", "image", "question", "answer"], rows)
    assert [(bad.key, bad.code) for bad in bad_rows_of("TextVQA_VAL", path)] == [("1", "E737"), ("3", "E735")]
    official = [(bad.key, bad.code) for bad in bad_rows_of("TextVQA_VAL", path, "official")]
    assert official == [("1", "E737"), ("2", "E737"), ("3", "E735")], "that scorer wants ten exactly"


def test_textvqa_of_the_authors(tmp_path):
    (row,) = rows_of("TextVQA_VAL", made_official.textvqa(tmp_path))
    assert (row.key, row.answers) == ("34602", ("acme",) * 10)
    assert row.images[0].path.is_file()


def test_vizwiz_of_the_authors(tmp_path):
    (row,) = rows_of("VizWiz", made_official.vizwiz(tmp_path))
    assert row.key == "VizWiz_val_00000009.jpg"
    assert row.answers == ("can of soup",) * 9 + ("soup",)
    assert row.fields["answerable"] == "1"
    assert row.images[0].path.is_file()
    (hidden,) = rows_of("VizWiz", made_official.vizwiz(tmp_path, hidden=True))
    assert hidden.answers == ()
    with pytest.raises(XverseError, match="1 without a reference answer") as caught:
        scored("VizWiz", [hidden], lambda row: "soup")
    assert caught.value.code == "E731"
