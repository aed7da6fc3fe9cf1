"""The VQA normalisation and the soft accuracy, against recorded results of the original code."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xverse_v.evaluation.scoring.contractions import CONTRACTIONS
from xverse_v.evaluation.scoring.vqa import normalised, soft_accuracy, with_digits, without_punctuation

WORDS = st.text(alphabet="abz01 .,'?", max_size=8)


@pytest.mark.parametrize(
    ("text", "official", "today"),
    [
        ("1,000", "1000", "1000"),
        ("red, 1,000", "red 1000", "red 1000"),
        ("hot-dog", "hot dog", "hot dog"),
        ("u.s.a.", "usa", "usa"),
        ("No.5", "No.5", "No.5"),
        (".5", ".5", ".5"),
        ("3.5", "3.5", "3.5"),
        ("10.5.", "10.5", "10.5."),
        ("$5.", "$5", "$5."),
        ("3.", "3", "3."),
        ("." * 40, "." * 8, "." * 8),
        ("what? -no", "what no", "what no"),
        ("it's: a*b&c%", "it's: a*b&c%", "it's: a*b&c%"),
    ],
)
def test_punctuation(text, official, today):
    assert without_punctuation(text, "official") == official
    assert without_punctuation(text, "vlmevalkit-2024-04") == official
    assert without_punctuation(text, "vlmevalkit") == today


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The Two dogs", "2 dogs"),
        ("none", "0"),
        ("zero ten", "0 10"),
        ("an apple a day", "apple day"),
        ("dont wont", "don't won't"),
        ("somebody'd", "somebodyd"),
        ("let's", "let's"),
        ("she's", "she's"),
        ("'ow'sat", "'ow's'at"),
        ("Im", "im"),
        ("its hell", "its hell"),
    ],
)
def test_digits_articles_and_contractions(text, expected):
    assert with_digits(text) == expected


def test_the_contractions_are_exactly_the_original_120():
    assert len(CONTRACTIONS) == 120
    assert CONTRACTIONS["yall'd've"] == CONTRACTIONS["y'alld've"] == "y'all'd've"
    assert CONTRACTIONS["couldn'tve"] == "couldn't've"
    assert CONTRACTIONS["Id've"] == "I'd've"
    assert CONTRACTIONS["cant"] == "can't"
    assert not CONTRACTIONS.keys() & {"hell", "shell", "well", "ill", "id", "wed", "shed", "were", "its", "lets"}


def test_evalai_splits_possessives_and_drops_commas_first():
    assert normalised("Dog's, bowl?", "evalai") == "dog 's bowl"
    assert normalised("1,000", "evalai") == "1000"


@pytest.mark.parametrize(("agreeing", "expected"), [(0, 0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1), (10, 1)])
@pytest.mark.parametrize("variant", ["official", "vlmevalkit", "vlmevalkit-2024-04", "evalai"])
def test_soft_accuracy_of_ten_annotators(agreeing, expected, variant):
    answers = ["dog"] * agreeing + [f"x{n}" for n in range(10 - agreeing)]
    assert soft_accuracy("dog", answers, variant) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("prediction", "answers", "expected"),
    [
        ("Dog", ["dog"] * 10, 1),
        ("dog.", ["dog"] * 10, 0),
        ("the dog", ["dog"] * 10, 0),
        ("dog.", ["dog"] * 9 + ["cat"], 1),
        ("the dog", ["dog"] * 9 + ["cat"], 1),
        ("2", ["two"] * 5 + ["2"] * 5, 1),
        ("two", ["2"] * 10, 0),
        ("1000", ["1,000"] * 5 + ["1000"] * 5, 1),
    ],
)
def test_the_official_evaluation_normalises_only_where_annotators_disagree(prediction, answers, expected):
    assert soft_accuracy(prediction, answers, "official") == pytest.approx(expected)


def test_vlmevalkit_always_normalises():
    assert soft_accuracy("the dog.", ["dog"] * 10, "vlmevalkit") == 1
    assert soft_accuracy("3.", ["3"] * 10, "vlmevalkit") == 0, "the period beside a digit stays today"
    assert soft_accuracy("3.", ["3"] * 10, "vlmevalkit-2024-04") == 1


def test_a_single_answer_is_refused():
    with pytest.raises(ValueError, match="several annotators"):
        soft_accuracy("dog", ["dog"], "vlmevalkit")


@given(WORDS, st.lists(WORDS, min_size=2, max_size=12), st.randoms())
def test_soft_accuracy_stays_in_range_and_knows_no_order(prediction, answers, random):
    value = soft_accuracy(prediction, answers, "vlmevalkit")
    mixed = list(answers)
    random.shuffle(mixed)
    assert 0 <= value <= 1
    assert soft_accuracy(prediction, mixed, "vlmevalkit") == value


@given(WORDS)
def test_normalising_gives_one_line_without_articles(text):
    words = normalised(text, "vlmevalkit").split(" ")
    assert not {"a", "an", "the", "\n"} & set(words)
