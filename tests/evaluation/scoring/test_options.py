"""The letter an answer means, against the recorded readings of both versions of the original rule."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xverse_v.evaluation.scoring.options import REFUSED, infer, infer_letter, infer_text

OPTIONS = {"A": "red", "B": "blue", "C": "green car", "D": "Red apple"}
TODAY, APRIL = "vlmevalkit", "vlmevalkit-2024-04"

# prediction, today's reading, April 2024's reading
RECORDED = [
    ("A", "A", "A"),
    ("B.", "B", "B"),
    ("(C)", "C", "C"),
    ("**D**", "D", "D"),
    ("The answer is D", "D", "D"),
    ("Answer: B", "B", "B"),
    ("B because the blue one is much larger than anything else", None, "B"),
    ("I think it is B since there are a lot of things here", None, "B"),
    ("D\n\nExplanation: the apple is red and round and shiny", None, "D"),
    ("It is a blue thing", "B", "B"),
    ("Red apple", None, None),
    ("it is green car", "C", "C"),
    ("C、green car", "C", "C"),
    ("", None, None),
    ("A or B", None, None),
    ("b", None, None),
    ("Z", "Z", "Z"),
    ("Cannot determine the answer", "Z", "Z"),
    ("A man is holding B", None, None),
    ("A blue sky over the sea", "B", "A"),
    ("A red apple", "A", "A"),
    ('{"answer":"C"}', None, None),
    ("Answer：C", None, None),
    ("答案是B", None, None),
    ("选C", None, None),
    ("blue " * 20, None, "B"),
    ("Failed to obtain answer via API.", None, None),
]


@pytest.mark.parametrize(("prediction", "today", "april"), RECORDED)
def test_recorded_readings(prediction, today, april):
    assert infer(prediction, OPTIONS, TODAY) == today
    assert infer(prediction, OPTIONS, APRIL) == april


def test_answer_is_takes_the_next_letter_before_any_text_is_matched():
    assert infer("The answer is clearly red", OPTIONS, TODAY) == "C"
    assert infer("The answer is clearly red", OPTIONS, APRIL) == "A"
    assert infer("The answer is a dog", OPTIONS, TODAY) == "A"
    assert infer("The answer is a dog", OPTIONS, APRIL) is None
    assert infer("answer is blue", OPTIONS, TODAY) == "B"
    assert infer("the answer is every one", OPTIONS | {"E": "x"}, TODAY) is None, "letters beyond D never match"
    assert infer("the answer is (d) of all these many words", {"A": "x", "B": "y"}, TODAY) is None, "D is no option"


def test_the_release_follows_april_and_the_authors_profile_follows_today():
    answer = "B because the blue one is much larger than anything else"
    assert infer(answer, OPTIONS, "release") == "B"
    assert infer(answer, OPTIONS, "official") is None


def test_the_first_place_of_a_letter_counts():
    assert infer_letter("B or so I think it is B", OPTIONS, TODAY) is None
    assert infer_letter("one two three B five six seven", OPTIONS, TODAY) == "B", "fourth from the end"
    assert infer_letter("one two three B five six seven eight", OPTIONS, TODAY) is None


def test_the_verbose_branch_is_off_unless_asked_for():
    assert infer("I would say A", OPTIONS, TODAY) == "A"
    assert infer_letter("I would say A", OPTIONS, TODAY, verbose=True) is None
    assert infer_letter("A", OPTIONS, TODAY, verbose=True) == "A"


def test_refusals_come_before_letters():
    assert infer("Sorry, I can't help with images of people yet. A", OPTIONS, TODAY) == REFUSED
    assert infer("Failed to obtain answer via API. A", OPTIONS, TODAY) is None


def test_a_text_is_looked_for_up_to_twice_the_length_of_all_options():
    short = {"A": "red", "B": "blue"}
    assert infer_text("it has a blue one."[:14], short, TODAY) == "B"
    assert infer_text("it has a blue one."[:15], short, TODAY) is None
    assert infer_text("it has a blue one."[:15], short, APRIL) == "B"


def test_an_empty_option_matches_every_text():
    assert infer_text("anything", {"A": "", "B": "blue"}, APRIL) == "A"
    assert infer_text("blue", {"A": "", "B": "blue"}, APRIL) is None


@given(st.text(), st.sampled_from([TODAY, APRIL, "official", "release"]))
def test_a_reading_is_an_option_a_refusal_or_nothing(answer, profile):
    assert infer(answer, OPTIONS, profile) in {*OPTIONS, REFUSED, None}


@given(
    st.sampled_from(list(OPTIONS)),
    st.text(alphabet=".()[],:;!*#{} ", max_size=5),
    st.text(alphabet=".()[],:;!*#{} ", max_size=5),
    st.sampled_from([TODAY, APRIL]),
)
def test_a_bare_letter_is_read_through_separators(letter, before, after, profile):
    assert infer(before + letter + after, OPTIONS, profile) == letter
