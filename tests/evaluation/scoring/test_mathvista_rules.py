"""MathVista: what is read without a judge, what is right, and how the authors' rules differ."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xverse_v.evaluation.scoring.mathvista import (
    Question,
    distance,
    is_right,
    judge_prompt,
    official_extraction,
    official_normalised,
    prefetched,
)

EIGHT = Question("q", "8", "integer")
ZERO = Question("q", "0", "integer")
TENTH = Question("q", "1.5", "float", places=1)
LIST = Question("q", "[1, 2]", "list")
CHOICE = Question("q", "wide", "text", ("narrow", "wide"), "B")
SHORT = st.text(alphabet="abc", max_size=6)


def test_prefetch_takes_right_numbers_and_any_letter():
    assert prefetched("8", EIGHT, "vlmevalkit") == "8"
    assert prefetched("8.", EIGHT, "vlmevalkit") is None
    assert prefetched("9", EIGHT, "vlmevalkit") is None, "a wrong number goes to the judge"
    assert prefetched("0", ZERO, "vlmevalkit") is None, "nought is nothing to Python"
    assert prefetched("1.50", TENTH, "vlmevalkit") == "1.50"
    assert prefetched("[1, 2]", LIST, "vlmevalkit") is None
    assert prefetched("A", CHOICE, "vlmevalkit") == "A", "wrong, and read all the same"


def test_right_without_any_rounding():
    assert is_right("8", EIGHT, "vlmevalkit")
    assert is_right("0", ZERO, "vlmevalkit")
    assert is_right("1.50", TENTH, "vlmevalkit")
    assert not is_right("1.52", TENTH, "vlmevalkit")
    assert not any(is_right(text, EIGHT, "vlmevalkit") for text in ("8.", "8.0", "14.", "1,000", ""))
    assert is_right("B", CHOICE, "vlmevalkit")
    assert is_right("it is wide", CHOICE, "vlmevalkit")


def test_a_list_is_never_right_there_and_right_by_the_authors_rule():
    assert not is_right("[1, 2]", LIST, "vlmevalkit")
    assert official_normalised("[1, 2]", LIST) == LIST.gold


def test_the_authors_read_bare_numbers_and_choices():
    assert official_extraction("", EIGHT) == ""
    assert official_extraction("8", EIGHT) == "8"
    assert official_extraction("about 8", EIGHT) is None
    assert official_extraction("1.50", TENTH) == "1.5"
    assert official_extraction("wide", CHOICE) == "wide"
    assert official_extraction("B", CHOICE) is None


@pytest.mark.parametrize(
    ("extraction", "question", "expected"),
    [
        ("8.7", EIGHT, "8"),
        ("many", EIGHT, None),
        ("1.449", TENTH, "1.4"),
        ("1.449", Question("q", "1.45", "float", places=2), "1.45"),
        ("(b)", CHOICE, "wide"),
        ("B", CHOICE, "wide"),
        ("wid", CHOICE, "wide"),
        ("narow", CHOICE, "narrow"),
        ("", CHOICE, "wide"),
        ("inf", EIGHT, None),
    ],
)
def test_the_authors_normalise_and_never_abstain_in_multiple_choice(extraction, question, expected):
    assert official_normalised(extraction, question) == expected


def test_the_nearest_choice_is_the_first_of_equals():
    assert official_normalised("zz", Question("q", "ab", "text", ("ab", "cd"), "A")) == "ab"


@given(SHORT, SHORT, SHORT)
def test_the_edit_distance_is_a_distance(first, second, third):
    assert distance(first, first) == 0
    assert distance(first, second) == distance(second, first)
    assert distance(first, third) <= distance(first, second) + distance(second, third)
    assert abs(len(first) - len(second)) <= distance(first, second) <= max(len(first), len(second))


def test_a_known_distance():
    assert distance("kitten", "sitting") == 3


def test_the_judges_prompt_keeps_its_misspelling_and_its_missing_line_end():
    prompt = judge_prompt(Question("Hint: h\nQuestion: q", "8", "integer"), "It is 8", "vlmevalkit")
    assert prompt.startswith("\nPlease read the following example.\nThen extract the answer from the model response")
    assert prompt.endswith("Extracted answer: B\n\nHint: h\nQuestion: q\nModel respone: It is 8Extracted answer:")
    assert prompt.count("\nHint: ") == 6
    assert "at the end of the prompt.\n\n\nHint: Please answer the question requiring an integer answer" in prompt
    official = judge_prompt(Question("Q", "8", "integer"), "It is 8", "official")
    assert official.endswith("\n\nQ\n\nIt is 8\n\nExtracted answer: ")
