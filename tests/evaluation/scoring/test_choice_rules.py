"""The judge's prompt in both languages, the drawn letter, and when a circular question is decided."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xverse_v.evaluation.scoring.choice import circular_hit, drawn_letter, judge_prompt

OPTIONS = {"A": "red", "B": "blue"}


def test_the_english_prompt_to_the_last_byte():
    prompt = judge_prompt("What colour", OPTIONS, "it {is} red")
    assert prompt.startswith(
        "You are an AI assistant who will help me to match an answer with several options of a single-choice "
        "question. You are provided with a question, several options, and an answer, and you need to find "
        "which option is most similar to the answer. If the meaning of all options are significantly different "
        "from the answer, output Z. Your should output a single uppercase character in A, B, C, D (if they are "
        "valid options), and Z. \nExample 1: \nQuestion: What is the main object in image?\nOptions: A. teddy "
        "bear B. rabbit C. cat D. dog\nAnswer: a cute teddy bear\nYour output: A\nExample 2: \nQuestion: What "
        "is the main object in image?\nOptions: A. teddy bear B. rabbit C. cat D. dog\nAnswer: Spider\nYour "
        "output: Z\nExample 3: \nQuestion: "
    )
    assert prompt.endswith(
        "Example 3: \nQuestion: What colour?\nOptions: There are several options: \nA. red\nB. blue\n\n"
        "Answer: it {is} red\nYour output: "
    )


def test_a_chinese_question_gets_the_chinese_prompt():
    prompt = judge_prompt("什么颜色", OPTIONS, "红")
    assert prompt.startswith("你是一个帮助我匹配答案与单选题中多个选项的 AI 助手。你会被提供：")
    assert "或 Z。例 1:问题: 图中最主要的物体是什么?\n选项: A. 泰迪熊 B. 兔子 C. 猫 D. 狗\n" in prompt
    assert prompt.endswith(
        "例 3: \n问题: 什么颜色?\n选项: There are several options: \nA. red\nB. blue\n\n答案: 红\n输出: "
    )


@pytest.mark.parametrize(
    ("read", "hit"),
    [
        (["A", "B", "C"], True),
        (["A", "Z", "C"], False),
        (["A", None, "C"], None),
        ([None, "A", None], False),
        ([None, None, None], None),
    ],
)
def test_a_circular_question(read, hit):
    assert circular_hit(read, ["A", "B", "C"]) is hit


def test_a_drawn_letter_stays_what_it_was():
    """Scores of two versions can be compared only if both drew the same letters."""
    assert "".join(drawn_letter(str(key), OPTIONS) for key in range(12)) == "BBBBBZZZZBAA"


@given(st.text(min_size=1))
def test_a_drawn_letter_is_an_option_or_a_refusal_and_always_the_same(key):
    assert drawn_letter(key, OPTIONS) in ("A", "B", "Z")
    assert drawn_letter(key, OPTIONS) == drawn_letter(key, OPTIONS)
