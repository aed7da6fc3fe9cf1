"""Write the troubleshooting pages from the error catalogue: docs/troubleshooting.md and docs/troubleshooting_zh.md.

What crosses: the catalogue in, one page a language out. Every text on the pages comes from the catalogue, so a code
that exists is on them and one that is gone is not; a test compares them. Names of rooms are all that is written here.

    python -m docs.make_troubleshooting [FOLDER]
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

Language = Literal["en", "zh"]
PAGES: dict[Language, str] = {"en": "troubleshooting.md", "zh": "troubleshooting_zh.md"}

#: What a reader calls the part of the product that a catalogue file belongs to. A file without a line here goes by its
#: own name.
ROOMS: dict[str, tuple[str, str]] = {
    "benchmarks": ("Benchmarks and their data", "基准及其数据"),
    "cli": ("Command line and batch", "命令行与批处理"),
    "data": ("Training data", "训练数据"),
    "demo": ("Web demo", "网页演示"),
    "evaluation": ("Evaluation", "评测"),
    "inference": ("Requests, settings, context, memory", "请求、设置、上下文与内存"),
    "judge": ("Judges", "评审模型"),
    "llamacpp": ("llama.cpp", "llama.cpp"),
    "media": ("Images", "图像"),
    "nano": ("The built-in model", "内置模型"),
    "plan": ("Planning memory and time", "内存与时间规划"),
    "quantise": ("Quantisation", "量化"),
    "serving": ("Server", "服务器"),
    "speed": ("Speed", "速度"),
    "training": ("Training", "训练"),
    "vllm": ("vLLM", "vLLM"),
    "weights": ("Weights: convert, load, inspect, verify", "权重：转换、加载、检查与校验"),
}
INTRODUCTIONS: dict[Language, str] = {
    "en": """# Troubleshooting

[中文](troubleshooting_zh.md)

All {count} errors the package can report: the fact, its cause, and what to do. Words in braces stand for the numbers
and names of a real error. `xverse-v explain CODE` says the same in a terminal, `xverse-v explain` lists all of them;
how errors work in general is in [errors.md](errors.md). Search this page for the code you were shown.
""",
    "zh": """# 故障排除

[English](troubleshooting.md)

本页列出本软件会报告的全部 {count} 个错误：事实、原因和处理办法。花括号里的词代表实际报错时的数字和名称。\
在终端里用 `xverse-v --lang zh explain 代码` 可以看到同样的内容，`xverse-v --lang zh explain` 列出全部错误；\
错误的通用约定见 [errors.md](errors.md)（英文）。请用您看到的错误代码在本页中查找。
""",
}
_PLACE = re.compile(r"\{(\w+?)(?:_zh)?(?:[:!][^}]*)?\}")  # {count:,} and {reason_zh} tell a reader {count} and {reason}
_SIGNS = re.compile(r"([\\*_`\[\]])")
LABELS: dict[Language, tuple[str, str, str]] = {
    "en": ("Cause:", "What to do:", "`{name}`, exit code {exit_code}"),
    "zh": ("原因：", "怎么办：", "`{name}`，退出码 {exit_code}"),
}


def entries_by_room() -> dict[str, Mapping[str, Mapping[str, Any]]]:
    """The catalogue's files by name, each with its entries by code, rooms in the order of their lowest code."""
    rooms = {
        path.name.removesuffix(".toml"): dict(sorted(tomllib.loads(path.read_text(encoding="utf-8")).items()))
        for path in files("xverse_v").joinpath("catalogue").iterdir()
        if path.name.endswith(".toml")
    }
    return dict(sorted(rooms.items(), key=lambda room: min(room[1])))


def page(language: Language) -> str:
    """The whole page in one language, Markdown."""
    rooms = entries_by_room()
    pieces = [INTRODUCTIONS[language].format(count=sum(map(len, rooms.values())))]
    for room, entries in rooms.items():
        title = ROOMS.get(room, (room, room))[language == "zh"]
        pieces.append(f"## {title}\n")
        pieces += [_entry(code, entry, language) for code, entry in entries.items()]
    return "\n".join(pieces)


def _entry(code: str, entry: Mapping[str, Any], language: Language) -> str:
    texts = {part: _plain(text) for part, text in entry[language].items()}
    cause, what_to_do, head = LABELS[language]
    head = head.format(name=entry["name"], exit_code=entry.get("exit_code", 1))
    gap = " " if language == "en" else ""
    return (
        f"### {code}\n\n{head}\n\n**{texts['fact']}**\n\n"
        f"{cause}{gap}{texts['cause']}\n\n{what_to_do}{gap}{texts['next']}\n"
    )


def _plain(text: str) -> str:
    """Text that Markdown shows as it is: its signs escaped, its places for facts as bare names."""
    named = _PLACE.sub(r"{\1}", text).replace("{{", "{").replace("}}", "}")
    return _SIGNS.sub(r"\\\1", named.replace("&", "&amp;").replace("<", "&lt;"))


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent
    for language, name in PAGES.items():
        (folder / name).write_text(page(language), encoding="utf-8")


if __name__ == "__main__":
    main()
