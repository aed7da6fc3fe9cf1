"""Every prompt, literally, under the profiles that differ."""

import pytest

from xverse_v.evaluation.benchmarks import find
from xverse_v.evaluation.contract import ImageRef, Row

IMAGE = ImageRef(data=b"x")
HINTED = Row("1", "q", (IMAGE,), ("A",), {"A": "a", "B": "b", "C": "c"}, fields={"hint": "h"})
PLAIN = Row("1", "What Brand is it?", (IMAGE,), ("acme",))
CHOICE = "Hint: h\nQuestion: q\nOptions:\nA. a\nB. b\nC. c\nPlease select the correct answer from the options above. \n"


def text_of(name, row, profile="vlmevalkit"):
    prompt = find(name).prompt(row, profile)
    assert prompt.parts[:-1] == row.images, "images first, then one text"
    return prompt.parts[-1]


@pytest.mark.parametrize("profile", ["vlmevalkit", "vlmevalkit-2024-04", "release"])
@pytest.mark.parametrize(
    "name", ["MMBench_DEV_EN", "MMBench_TEST_CN", "MMStar", "AI2D_TEST", "SEEDBench_IMG", "ScienceQA_TEST", "MMMU_TEST"]
)
def test_multiple_choice(name, profile):
    assert text_of(name, HINTED, profile) == CHOICE
    assert find(name).prompt(HINTED, profile).max_new_tokens == 512


def test_options_keep_their_letters_where_one_is_missing():
    row = Row("1", "q", (IMAGE,), ("A",), {"A": "a", "C": "c"})
    assert "Options:\nA. a\nC. c\nPlease" in text_of("MMStar", row)


def test_without_options_only_the_question_stands():
    assert text_of("MMMU_DEV_VAL", Row("1", "q", (IMAGE,), ("12",))) == "Question: q\n"


def test_a_placeholder_outside_mmmu_is_text():
    assert "Question: How many? <image 1>\n" in text_of("MMStar", Row("1", "How many? <image 1>", (IMAGE,)))


@pytest.mark.parametrize("name", ["HallusionBench", "OCRBench", "MathVista_MINI", "LLaVABench", "VizWiz"])
@pytest.mark.parametrize("profile", ["vlmevalkit", "vlmevalkit-2024-04"])
def test_plain_questions_get_no_suffix(name, profile):
    assert text_of(name, PLAIN, profile) == "What Brand is it?"


SHORT = "What Brand is it?\nAnswer the question using a single word or phrase."
APRIL = "What Brand is it?\nPlease try to answer the question with short words or phrases if possible\n."
OKVQA = "Answer the question with a single word or a short phrase simply. Question: What Brand is it?"
GQA = "Based on the image, respond to this question with a single word or phrase: What Brand is it?"
VIZWIZ_RELEASE = (
    "[vqa] The question is 'What Brand is it?' Based on the image, answer the question with a single word or phrase. "
    "and reply 'unanswerable' when the provided information is insufficient"
)
VIZWIZ_LLAVA = (
    "What Brand is it?\nWhen the provided information is insufficient, respond with 'Unanswerable'.\n"
    "Answer the question using a single word or phrase."
)


@pytest.mark.parametrize(
    ("name", "profile", "text", "longest"),
    [
        ("TextVQA_VAL", "vlmevalkit", SHORT, 512),
        ("TextVQA_VAL", "vlmevalkit-2024-04", APRIL, 512),
        ("TextVQA_VAL", "official", SHORT, 512),
        ("GQA", "vlmevalkit", SHORT, 512),
        ("GQA_TestDev_Balanced", "official", SHORT, 512),
        ("GQA", "release", GQA, 16),
        ("OKVQA", "release", OKVQA, 16),
        ("OKVQA", "vlmevalkit", OKVQA, 16),
        ("VizWiz", "release", VIZWIZ_RELEASE, 16),
        ("VizWiz", "official", VIZWIZ_LLAVA, 512),
    ],
)
def test_short_answers(name, profile, text, longest):
    assert text_of(name, PLAIN, profile) == text
    assert find(name).prompt(PLAIN, profile).max_new_tokens == longest


def test_a_question_with_braces_is_asked_as_it_is():
    row = Row("1", "What is {question}?", (IMAGE,), ("x",))
    assert text_of("OKVQA", row).endswith("Question: What is {question}?")
    assert text_of("GQA", row, "release").endswith("phrase: What is {question}?")


def test_the_authors_closing_lines():
    letter = "Answer with the option's letter from the given choices directly."
    assert text_of("ScienceQA_TEST", HINTED, "official") == f"Context: h\nq\nA. a\nB. b\nC. c\n{letter}"
    assert text_of("MMMU_DEV_VAL", HINTED, "official") == f"q\nA. a\nB. b\nC. c\n\n{letter}"
    assert text_of("MMMU_DEV_VAL", PLAIN, "official") == SHORT
