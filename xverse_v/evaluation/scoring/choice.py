"""Multiple choice: what a judge is asked, which passes make a circular question, and how categories are named.

Sources: VLMEvalKit ``dataset/utils/multiple_choice.py`` (``build_prompt``, ``build_prompt_cn``,
``mcq_circular_eval``, ``report_acc``) and ``smp/vlm.py`` (``build_option_str``). Knows no judge: it says which answers
are still open, and the caller asks.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

from .options import REFUSED

SEED = 2680
JUDGE_TRIES = 3
JUDGE_TOKENS = 2048
ROTATION = 1_000_000
"""Pass k of the question `index` stands at `index` + k * ROTATION."""

CATEGORY_NAMES = {
    "coarse_perception": "CP",
    "finegrained_perception (instance-level)": "FP-S",
    "finegrained_perception (cross-instance)": "FP-C",
    "logic_reasoning": "LR",
    "relation_reasoning": "RR",
    "attribute_reasoning": "AR",
}
"""MMBench's l2-category -> its name in reports."""

_ENGLISH = (
    "You are an AI assistant who will help me to match an answer with several options of a single-choice question. "
    "You are provided with a question, several options, and an answer, "
    "and you need to find which option is most similar to the answer. "
    "If the meaning of all options are significantly different from the answer, output Z. "
    "Your should output a single uppercase character in A, B, C, D (if they are valid options), and Z. \n"
    "Example 1: \n"
    "Question: What is the main object in image?\nOptions: A. teddy bear B. rabbit C. cat D. dog\n"
    "Answer: a cute teddy bear\nYour output: A\n"
    "Example 2: \n"
    "Question: What is the main object in image?\nOptions: A. teddy bear B. rabbit C. cat D. dog\n"
    "Answer: Spider\nYour output: Z\n"
    "Example 3: \n"
    "Question: {}?\nOptions: {}\nAnswer: {}\nYour output: "
)
_CHINESE = (
    "你是一个帮助我匹配答案与单选题中多个选项的 AI 助手。"
    "你会被提供：一个问题，多个选项，一个答案。你的任务是找到与答案意义最相近的选项。"
    "如果所有选项的意义都与答案显著不同，则输出 Z。"
    "你应该输出一个单个的大写字母，例如 A, B, C, D（如果它们是有效选项），或 Z。"
    "例 1:"
    "问题: 图中最主要的物体是什么?\n选项: A. 泰迪熊 B. 兔子 C. 猫 D. 狗\n答案: 一只可爱的泰迪熊\n输出: A\n"
    "例 2: \n"
    "问题: 图中最主要的物体是什么?\n选项: A. 泰迪熊 B. 兔子 C. 猫 D. 狗\n答案: 蜘蛛\n输出: Z\n"
    "例 3: \n"
    "问题: {}?\n选项: {}\n答案: {}\n输出: "
)


def judge_prompt(question: str, options: Mapping[str, str], prediction: str) -> str:
    """What a judge is asked about an answer that exact matching could not read; in Chinese for a Chinese question."""
    chinese = any("\u4e00" <= character <= "\u9fff" for character in question)
    listed = "There are several options: \n" + "".join(f"{letter}. {text}\n" for letter, text in options.items())
    return (_CHINESE if chinese else _ENGLISH).format(question, listed, prediction)


def drawn_letter(key: str, options: Mapping[str, str]) -> str:
    """A random option or ``"Z"``, where three replies of a judge were unreadable.

    VLMEvalKit draws unseeded (in April 2024 with seed 2680, from threads in no fixed order); here the draw depends on
    the seed 2680 and the row's key alone.
    """
    return random.Random(f"{SEED}:{key}").choice([*options, REFUSED])


def circular_hit(read: Sequence[str | None], golds: Sequence[str]) -> bool | None:
    """Whether all passes of a question are right: ``False`` once one is read and wrong, ``None`` while any is open.

    `read`: the letter each pass was read as, in ascending index order, ``None`` where nothing was read yet.
    """
    if any(letter is not None and letter != gold for letter, gold in zip(read, golds, strict=True)):
        return False
    return None if None in read else True
