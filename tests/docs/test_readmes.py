"""README.md and README_zh.md say the same: same shape, same commands, images, links and numbers."""

from __future__ import annotations

import re

import pytest

from tests.docs.pages import ROOT, fences, headings, inline_code, links, prose, text_of

ENGLISH = text_of(ROOT / "README.md")
CHINESE = text_of(ROOT / "README_zh.md")


def numbers(text):
    """All figures of the prose, without thousands separators; years and versions too."""
    return sorted(re.findall(r"\d[\d,.]*\d|\d", prose(text).replace(",", "")))


def tables(text):
    """(rows, columns) of each table."""
    blocks = re.findall(r"(?:^\|.*\|\n)+", text, re.MULTILINE)
    return [(block.count("\n"), re.sub(r"`[^`]*`", "", block.split("\n")[0]).count("|") - 1) for block in blocks]


def neutral(target):
    """A link's target without its language."""
    return target.replace("_zh.md", ".md").partition("#")[0] or "#"


def test_the_same_headings():
    assert [level for level, _ in headings(ENGLISH)] == [level for level, _ in headings(CHINESE)]


def test_the_same_code():
    both = [[re.sub(r" +#.*", "", block) for block in fences(text)] for text in (ENGLISH, CHINESE)]  # but for comments
    assert both[0] == both[1]


def test_the_same_images_and_links():
    both = [[(image, neutral(target)) for image, target in links(text)] for text in (ENGLISH, CHINESE)]
    assert both[0] == both[1]


def test_the_same_tables():
    assert tables(ENGLISH) == tables(CHINESE)


def test_the_same_commands_and_names():
    chinese = set(inline_code(CHINESE)) - {"--lang zh"}  # said to readers of Chinese alone
    english = {code.replace("--model FOLDER", "--model 目录") for code in inline_code(ENGLISH)}
    assert english == chinese


def test_each_leads_to_the_other_at_its_top():
    assert "[中文](README_zh.md)" in ENGLISH.split("\n## ")[0]
    assert "[English](README.md)" in CHINESE.split("\n## ")[0]


def test_the_chinese_page_is_chinese():
    letters = re.sub(r"`[^`]*`|\([^)]*\)", "", prose(CHINESE))
    chinese = len(re.findall(r"[\u4e00-\u9fff]", letters))
    assert chinese > 1_500
    assert "，" in letters
    assert not re.search(r"[\u4e00-\u9fff],", letters), "a Western comma behind a Chinese character"


@pytest.mark.parametrize("text", [ENGLISH, CHINESE], ids=["en", "zh"])
def test_every_verb_of_the_command_line_is_in_the_table(text):
    from xverse_v.cli import app

    verbs = {command.callback.__name__.rstrip("_") for command in app.registered_commands}
    verbs |= {group.name for group in app.registered_groups}
    listed = set(re.findall(r"\[`([a-z]+)`\]\(docs/", text))
    assert verbs <= listed, f"not in the table of commands: {sorted(verbs - listed)}"


def test_the_same_numbers():
    # Words for small numbers differ between languages; figures do not.
    assert numbers(ENGLISH) == numbers(CHINESE)
