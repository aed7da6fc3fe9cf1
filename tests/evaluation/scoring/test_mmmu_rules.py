"""MMMU as its authors read answers, and VLMEvalKit's way of making open questions a choice."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xverse_v.evaluation.scoring.mmmu import as_choice, drawn_letter, open_is_right, read_letter
from xverse_v.evaluation.scoring.options import infer

OPTIONS = {"A": "red apple", "B": "blue sky", "C": "green car"}


@pytest.mark.parametrize(
    ("response", "letter"),
    [
        ("The answer is (B), not (A).", "A"),
        ("Because A is bigger, B", "B"),
        ("A man holds C thing", "C"),
        ("B", "B"),
        ("'B.'", "B"),
        ("it is B. Sure", "B"),
        ("HA it was", "A"),
        ("surely this must be the blue sky", "B"),
        ("the blue sky", None),
        ("must be the blue sky", None),
        ("it must be the blue sky", "B"),
        ("a red apple, no, rather the blue sky", "B"),
        ("", None),
    ],
)
def test_letters(response, letter):
    assert read_letter(response, OPTIONS) == letter


@given(st.text(max_size=40))
def test_a_letter_is_an_option_or_nothing(response):
    assert read_letter(response, OPTIONS) in {*OPTIONS, None}


@pytest.mark.parametrize(
    ("response", "golds", "right"),
    [
        ("The answer is 12.", ["12"], True),
        ("12", ["12.0"], True),
        ("So the total = 1,200", ["1200"], True),
        ("it is 3.4291", ["24/7", "3.429"], True),
        ("3.411", ["3.409"], True),
        ("3.44", ["3.41"], False),
        ("it is 24/7", ["24/7", "3.429"], True),
        ("1e3 volts", ["1000"], True),
        ("The colour is red", ["Red"], True),
        ("blue", ["red"], False),
        ("axes", ["x"], False),
        ("is y x z", ["x"], True),
        ("first is 4\nthen is 5", ["4"], True),
        ("", ["12"], False),
    ],
)
def test_open_answers(response, golds, right):
    assert open_is_right(response, golds) is right


def test_an_open_question_becomes_a_choice_of_two():
    assert as_choice("12", {}) == ("A", {"A": "12", "B": "Other Answers"})
    assert as_choice("B", {"A": "x", "B": "y"}) == ("B", {"A": "x", "B": "y"})
    lost = as_choice("C", {"B": "y", "C": "z"})
    assert lost == ("C", {"A": "C", "B": "Other Answers", "C": "z"}), "an option A that was lost counts as open"


def test_a_bare_article_is_a_hit_there_and_a_miss_by_the_authors_rule():
    gold, options = as_choice("dog", {})
    assert infer("A cat", options, "vlmevalkit") == gold
    assert not open_is_right("A cat", ["dog"])


def test_a_drawn_letter_depends_on_the_key_alone():
    assert drawn_letter("7", OPTIONS) == drawn_letter("7", OPTIONS)
    assert {drawn_letter(str(key), OPTIONS) for key in range(50)} == set(OPTIONS)
