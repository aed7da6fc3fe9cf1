"""The small rules: GQA, OCRBench, yes and no, LLaVABench's grades, ScienceQA's letters."""

import pytest

from xverse_v.evaluation.scoring import gqa, llavabench, ocrbench, science_qa, yes_no
from xverse_v.evaluation.scoring.yes_no import Answered

HME = ocrbench.FORMULAS


@pytest.mark.parametrize(
    ("prediction", "label", "substring"),
    [
        ("woman", "man", True),
        ("There is NOT any", "no", True),
        ("another", "no", True),
        ("behind the counter", "on", False),
        ("on the table", "on", True),
        ("Yes", "yes", True),
        ("Yes", "Yes", False),
    ],
)
def test_the_release_looks_for_the_label_anywhere(prediction, label, substring):
    assert gqa.release_substring(prediction, label) is substring


def test_the_exact_rules_differ_in_a_final_period_and_in_the_labels_case():
    assert gqa.exact(" Man ", "man", "vlmevalkit")
    assert not gqa.exact("man.", "man", "vlmevalkit")
    assert gqa.exact("Man..", "man", "official")
    assert gqa.exact("yes", "Yes", "vlmevalkit")
    assert not gqa.exact("yes", "Yes", "official"), "the label is taken as it is"
    assert not gqa.exact("woman", "man", "vlmevalkit")


@pytest.mark.parametrize(
    ("prediction", "golds", "category", "hit"),
    [
        ("The word is HOUSE.", ["house"], "Regular Text Recognition", True),
        ("The word is\nHOUSE", ["is house"], "Regular Text Recognition", True),
        ("total: 4.50", ["$4.50", "4.50"], "Key Information Extraction", True),
        ("x^2+1", ["x ^ 2"], HME, True),
        ("X^2", ["x ^ 2"], HME, False),
        ("x\n^2", ["x ^ 2"], HME, True),
        ("x ^ 2", ["x^2"], "Doc-oriented VQA", False),
    ],
)
def test_ocrbench_points(prediction, golds, category, hit):
    assert ocrbench.point(prediction, golds, category) is hit


def test_ocrbench_has_a_thousand_questions_in_five_groups():
    assert sum(ocrbench.QUESTIONS.values()) == 1000
    assert set(ocrbench.CATEGORIES.values()) == set(ocrbench.QUESTIONS)
    assert len(ocrbench.CATEGORIES) == 10


@pytest.mark.parametrize("text", ["Yes", "Yes!", '"Yes"', "Yes, it is.", "yes"])
def test_yes(text):
    assert yes_no.extract(text, "vlmevalkit") == "Yes"


@pytest.mark.parametrize("text", ["no.", "No, not at all", "no/none", "no,it is", "No"])
def test_no(text):
    assert yes_no.extract(text, "vlmevalkit") == "No"


@pytest.mark.parametrize(
    "text",
    ["yes or no", "Not really", "notice", "1.no", "**Yes**", "yes:", "Y", "It is not.", "是", "", "nan", "Unknown"],
)
def test_neither(text):
    assert yes_no.extract(text, "vlmevalkit") == "Unknown"


def test_hallusion_accuracies_of_two_figures_by_two_questions():
    right = {("1", "0"): True, ("1", "1"): True, ("2", "0"): True, ("2", "1"): False}
    rows = [Answered("chart", "2", figure, question, hit) for (figure, question), hit in right.items()]
    singles, figures, pairs = yes_no.accuracies(rows)
    assert sum(singles) / len(singles) == 0.75
    assert sorted(figures) == [False, True]
    assert sorted(pairs) == [False, True]


def test_subcategories_of_one_name_share_their_groups_whatever_the_category():
    rows = [Answered("chart", "2", "1", "0", True), Answered("chart", "2", "1", "0", False)]
    assert yes_no.accuracies(rows)[1] == [False]


def test_the_yes_no_prompt_keeps_braces_of_the_answer():
    prompt = yes_no.judge_prompt("Is {prediction} there", "{question}")
    assert prompt.endswith("Question: Is {prediction} there?\nAnswer: {question}\nYour output: ")
    assert prompt.startswith("You are an AI assistant who will help me to match an answer with two options of a ques")


@pytest.mark.parametrize(
    ("reply", "strict", "lenient"),
    [
        ("8 7\nbecause", (8, 7), (8, 7)),
        ("8.5 7", (8.5, 7), (8.5, 7)),
        ("8,7", (8, 7), (8, 7)),
        ("8, 7", None, (8, 7)),
        ("Scores: 8 7", None, (8, 7)),
        ("8 7 9", None, None),
        ("good\n8 7", None, None),
        ("nan 7", None, None),
    ],
)
def test_grades_of_a_reply(reply, strict, lenient):
    assert llavabench.grades(reply) == strict
    assert llavabench.lenient_grades(reply) == lenient


def test_the_grading_prompt_is_the_benchmarks_own():
    prompt = llavabench.judge_prompt("a caption", "why?", "gpt says", "model says")
    head = (
        "[Context]\na caption\n\n[Question]\nwhy?\n\n[Assistant 1]\ngpt says\n\n[End of Assistant 1]\n\n"
        "[Assistant 2]\nmodel says\n\n[End of Assistant 2]\n\n[System]\nWe would like to request your feedback on the"
    )
    assert prompt.startswith(head)
    assert "a few sentences describing the image. \nPlease rate the helpfulness" in prompt
    assert prompt.endswith("the order in which the responses were presented does not affect your judgment.\n\n")


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("B", "B"),
        ("B. blue", "B"),
        ("The answer is A.", "A"),
        ("The answer is A. The answer is B.", None),
        ("b", None),
        ("", None),
        ("AB", None),
        ("C", None),
        ("(A)", None),
    ],
)
def test_science_qa_letters(text, letter):
    assert science_qa.read_letter(text, {"A": "red", "B": "blue"}) == letter
