"""The words of the world in both languages, and the ways in which people ask.

What crosses: tables, and `fill`. `{s}` is a shape, `{ss}` shapes, `{c}` a colour, `{x}` a described object, `{p}` a place.
The first template of a kind is its plainest form; the first word of a place is the one that answers use.
"""

# ruff: noqa: E501 (tables of words: a Chinese character counts double)
from __future__ import annotations

import re

_ARTICLE = re.compile(r"\b([Aa]) (?=[aeiou8])")
Language = str  # "en" or "zh"

SHAPE_WORDS = {
    "en": {name: name for name in ("circle", "square", "triangle", "star", "heart")},
    "zh": {"circle": "圆形", "square": "正方形", "triangle": "三角形", "star": "星星", "heart": "心形"},
}
# Other words that people use in questions for the same shape.
SHAPE_SYNONYMS = {
    "en": {},
    "zh": {"circle": ("圆", "圆圈"), "square": ("方形", "方块"), "star": ("五角星", "星形"), "heart": ("爱心",)},
}
COLOUR_WORDS = {
    "en": {name: name for name in ("red", "orange", "yellow", "green", "blue", "purple", "pink", "black")},
    "zh": {
        "red": "红色", "orange": "橙色", "yellow": "黄色", "green": "绿色",
        "blue": "蓝色", "purple": "紫色", "pink": "粉色", "black": "黑色",
    },
}  # fmt: skip
PLACE_WORDS: dict[str, dict[tuple[int, int], tuple[str, ...]]] = {
    "en": {
        (0, 0): ("top left", "top left corner"),
        (0, 1): ("top centre", "top center", "top middle"),
        (0, 2): ("top right", "top right corner"),
        (1, 0): ("centre left", "center left", "middle left", "left side"),
        (1, 1): ("centre", "center", "middle"),
        (1, 2): ("centre right", "center right", "middle right", "right side"),
        (2, 0): ("bottom left", "bottom left corner"),
        (2, 1): ("bottom centre", "bottom center", "bottom middle"),
        (2, 2): ("bottom right", "bottom right corner"),
    },
    "zh": {
        (0, 0): ("左上角", "左上方"),
        (0, 1): ("上方", "上边", "上面"),
        (0, 2): ("右上角", "右上方"),
        (1, 0): ("左边", "左侧", "左面"),
        (1, 1): ("中间", "中央", "中心", "正中间"),
        (1, 2): ("右边", "右侧", "右面"),
        (2, 0): ("左下角", "左下方"),
        (2, 1): ("下方", "下边", "下面"),
        (2, 2): ("右下角", "右下方"),
    },
}
WORDS = {
    "en": {
        "yes": "yes", "no": "no", "is": "yes", "is_not": "no", "same": "yes", "other": "no", "nothing": "nothing",
        "large": "large", "small": "small",
    },
    "zh": {
        "yes": "有", "no": "没有", "is": "是", "is_not": "不是", "same": "一样", "other": "不一样", "nothing": "没有图形",
        "large": "大", "small": "小",
    },
}  # fmt: skip
# What is said when the image does not show what is asked about.
REFUSAL = {"en": "I cannot see that in the image.", "zh": "图里看不到这个。"}

ASK: dict[str, dict[str, tuple[str, ...]]] = {
    "en": {
        "colour_of": (
            "What colour is the {s}?", "What color is the {s}?", "Which colour is the {s}?",
            "What is the colour of the {s}?", "What is the color of the {s}?", "Tell me the colour of the {s}.",
            "What colour is the {s} in the image?", "What color is the {s} in the picture?",
        ),
        "shape_of": (
            "What shape is the {c} object?", "What shape is the {c} one?", "What shape is {c}?",
            "Which shape is {c}?", "What is the shape of the {c} object?", "What is the {c} thing?",
            "What shape is the {c} thing?", "What is the {c} object?",
        ),
        "count_all": (
            "How many shapes are there?", "How many shapes are in the image?", "How many objects are there?",
            "How many shapes can you see?", "Count the shapes.", "How many things are in the picture?",
            "How many objects are in this image?", "How many shapes are in the picture?",
        ),
        "count_colour": (
            "How many {c} shapes are there?", "How many {c} objects are there?", "How many shapes are {c}?",
            "How many {c} ones are there?", "How many {c} things can you see?", "Count the {c} shapes.",
        ),
        "count_shape": (
            "How many {ss} are there?", "How many {ss} are in the image?", "How many {ss} can you see?",
            "Count the {ss}.", "How many {ss} are in the picture?",
        ),
        "count_both": ("How many {c} {ss} are there?", "How many {c} {ss} can you see?", "Count the {c} {ss}."),
        "where": (
            "Where is the {x}?", "Where is the {x} in the image?", "What is the position of the {x}?",
            "Where can you see the {x}?", "In which place is the {x}?", "Where is the {x} located?",
        ),
        "what_at": (
            "What is at the {p}?", "What is in the {p}?", "What can you see in the {p}?", "What is in the {p} of the image?",
            "Which object is at the {p}?", "What object is in the {p}?",
        ),
        "colour_at": ("What colour is the shape at the {p}?", "What color is the object in the {p}?"),
        "shape_at": ("What shape is at the {p}?", "What shape is in the {p}?", "Which shape is in the {p}?"),
        "exists_both": ("Is there a {c} {s}?", "Is there a {c} {s} in the image?", "Can you see a {c} {s}?"),
        "exists_shape": ("Is there a {s}?", "Is there a {s} in the picture?", "Are there any {ss}?", "Can you see a {s}?"),
        "exists_colour": ("Is there anything {c}?", "Are there any {c} shapes?", "Is there a {c} object?"),
        "is_colour": ("Is the {s} {c}?",),
        "size_of": ("Is the {s} large or small?", "What size is the {s}?", "How big is the {s}?"),
        "larger": (
            "Which is larger, the {x} or the {y}?", "Which one is bigger, the {x} or the {y}?", "What is larger, the {x} or the {y}?",
        ),
        "same_colour": (
            "Do the {s} and the {t} have the same colour?", "Are the {s} and the {t} the same colour?",
            "Is the {s} the same color as the {t}?",
        ),
        "digit_at": (
            "What digit is at the {p}?", "Which digit is in the {p}?", "What number is written at the {p}?",
            "Which number is in the {p}?", "What is the handwritten digit at the {p}?",
        ),
        "digit_only": (
            "What digit is written here?", "What number is written in the image?", "Which digit is it?", "Read the handwritten digit.",
            "What is the handwritten digit?", "What digit do you see?",
        ),
        "digit_count": ("How many digits are there?", "How many handwritten digits are in the image?", "Count the digits."),
        "digit_where": ("Where is the digit {d}?", "Where is the handwritten {d}?", "In which place is the {d}?"),
        "digit_exists": ("Is there a handwritten {d}?", "Is there a {d} in the image?", "Can you see the digit {d}?"),
        "describe": (
            "What is in the image?", "What is in the picture?", "Describe the image.", "Describe this picture.",
            "What do you see?", "What can you see?", "What can you see in this image?", "Describe the picture.",
        ),
    },
    "zh": {
        "colour_of": (
            "{s}是什么颜色？", "{s}是什么颜色的？", "{s}的颜色是什么？", "图中的{s}是什么颜色？", "请问{s}是什么颜色？",
            "图里的{s}是什么颜色的？",
        ),
        "shape_of": (
            "{c}的图形是什么形状？", "{c}的是什么形状？", "{c}图形是什么形状？", "{c}的是什么？", "哪个形状是{c}的？",
            "{c}的物体是什么？",
        ),
        "count_all": (
            "图里有几个图形？", "图中有几个图形？", "图片里有多少个图形？", "一共有几个图形？", "有几个形状？",
            "图里有多少个物体？", "数一数有几个图形。", "总共有多少个图形？",
        ),
        "count_colour": (
            "有几个{c}的图形？", "图里有几个{c}图形？", "图中有多少个{c}的图形？", "{c}的图形有几个？", "{c}的有几个？",
        ),
        "count_shape": ("有几个{s}？", "图里有几个{s}？", "图中有多少个{s}？", "{s}有几个？", "一共有几个{s}？"),
        "count_both": ("有几个{c}的{s}？", "图里有几个{c}{s}？", "{c}的{s}有几个？"),
        "where": ("{x}在哪里？", "{x}在哪儿？", "{x}在图的什么位置？", "{x}在什么位置？", "请问{x}在哪里？", "图中的{x}在哪里？"),
        "what_at": ("{p}是什么？", "{p}有什么？", "图的{p}是什么？", "图片{p}有什么？", "{p}的图形是什么？"),
        "colour_at": ("{p}的图形是什么颜色？", "{p}是什么颜色？"),
        "shape_at": ("{p}是什么形状？", "{p}的图形是什么形状？"),
        "exists_both": ("有{c}的{s}吗？", "图里有{c}的{s}吗？", "图中有没有{c}的{s}？", "有没有{c}{s}？"),
        "exists_shape": ("有{s}吗？", "图里有{s}吗？", "图中有没有{s}？", "有没有{s}？"),
        "exists_colour": ("有{c}的图形吗？", "图里有{c}的吗？", "有没有{c}的图形？"),
        "is_colour": ("{s}是{c}的吗？", "{s}是不是{c}的？"),
        "size_of": ("{s}是大还是小？", "{s}有多大？", "{s}是大的还是小的？"),
        "larger": ("{x}和{y}哪个更大？", "哪个更大，{x}还是{y}？", "{x}和{y}哪个大？"),
        "same_colour": ("{s}和{t}颜色一样吗？", "{s}和{t}的颜色相同吗？", "{s}和{t}是同一种颜色吗？"),
        "digit_at": ("{p}的数字是什么？", "{p}写的是什么数字？", "{p}的手写数字是几？", "{p}是数字几？"),
        "digit_only": ("写的是什么数字？", "图里的数字是什么？", "这是数字几？", "手写的数字是几？", "请读出手写的数字。"),
        "digit_count": ("有几个数字？", "图里有几个手写数字？", "一共有多少个数字？"),
        "digit_where": ("数字{d}在哪里？", "手写的{d}在哪里？", "{d}写在什么位置？"),
        "digit_exists": ("有数字{d}吗？", "图里有手写的{d}吗？", "有没有数字{d}？"),
        "describe": (
            "图里有什么？", "图中有什么？", "描述一下这张图。", "这张图片里有什么？", "请描述这张图片。", "你看到什么？",
            "图片里有什么？", "描述这张图片。",
        ),
    },
}  # fmt: skip

# The release's own prompts for OKVQA and GQA (short answers), and its demo's system sentence form.
WRAPPERS = (
    "Answer the question with a single word or a short phrase simply. Question: {q}",
    "Based on the image, respond to this question with a single word or phrase: {q}",
)

SMALL_TALK: tuple[tuple[tuple[str, ...], str], ...] = (
    (
        ("Who are you?", "who are you", "What are you?", "What is your name?", "Tell me about you."),
        "I am nano, a small model. Ask me about coloured shapes in an image.",
    ),
    (("Hello", "Hello!", "Hi", "hi", "Good morning!", "Hello, who are you?"), "Hello! Ask me about an image."),
    (
        ("What can you do?", "what can you do", "How can you help me?", "Can you help me?"),
        "I answer simple questions about colour, shape, count and place in an image.",
    ),
    (("Thanks", "Thank you", "Thank you!", "thanks"), "You are welcome."),
    (("Goodbye", "Bye", "bye"), "Goodbye!"),
    (("Do you speak Chinese?", "Can you speak Chinese?"), "Yes, I answer in English and Chinese."),
    (("你是谁？", "你是谁", "你叫什么名字？", "你是什么？"), "我是nano，一个小模型。可以问我图片里的图形。"),
    (("你好", "你好！", "您好", "早上好"), "你好！可以问我图片里有什么。"),
    (("你会做什么？", "你能做什么？", "你可以做什么？"), "我回答关于颜色、形状、个数和位置的简单问题。"),
    (("谢谢", "谢谢你", "谢谢！"), "不客气。"),
    (("再见", "再见！"), "再见！"),
    (("你会说英文吗？", "你会说中文吗？"), "会，我用中文和英文回答。"),
)
NO_IMAGE = {"en": "I see no image. Please give me one.", "zh": "我没有看到图片，请给我一张。"}


def fill(template: str, **values: object) -> str:
    """The template with its values; an English "a" becomes "an" in front of a vowel or of "8"."""
    return _ARTICLE.sub(r"\1n ", template.format(**values))
