"""The commands of a page: what a reader would type, found as the reader finds it. Nothing is run or judged here.

What crosses: a page's Markdown -> its `Command`s, in the order of the page, each once. A command is

- a line of a fenced or an indented block that begins with a program's name or with `VARIABLE=...`, joined where it ends
  with a backslash, without the comment behind it;
- a span of code in the text or in a table that begins so. One that only names a verb (`xverse-v plan`) or ends with
  `...` is a mention. `eval run ...` in a table of verbs stands for `xverse-v eval run ...`;
- flags alone, in a table headed "you type" or in an indented block: they belong to the verb the page is about.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from tests.docs.pages import ROOT, text_of

# Written by a program; walkthroughs and speed reports lie in folders of their own and are run, or dated, there.
NOT_READ = ("troubleshooting*.md", "evidence.md")
# Verbs that are whole commands as they stand.
WHOLE_ALONE = ("xverse-v explain", "xverse-v eval list")
# Pages with flags on their own, and the verb these belong to.
VERB_OF_FLAGS = {"ask.md": "xverse-v ask", "eval.md": "xverse-v eval run", "serve.md": "xverse-v serve"}

_PROGRAMS = "xverse-v|python3?|pip|make|torchrun|vllm|ray|git|docker|accelerate|llama-server|printf|cat|grep"
_COMMAND = re.compile(rf"(?:[A-Z][A-Z_]*=\S* +)*(?:(?:{_PROGRAMS}) +\S|\.venv\S*/bin/\S)")
_MENTION = re.compile(r"(?:xverse-v|vllm)(?: [a-z]+)*")
# Up to a `#` that begins a word outside of quotes, as a shell reads it.
_BEFORE_COMMENT = re.compile(r"""(?:'[^']*'|"[^"]*"|[^'"\s]+|\s+(?!\#))*""")
_SPAN = re.compile(r"`([^`\n]+(?:\n[^`\n]+)?)`")
_SHELL = ("", "sh", "bash")


@dataclass(frozen=True)
class Command:
    """`text` is one line of shell, blanks made single. Flags that stand alone have their verb in front."""

    page: str
    line: int
    text: str
    flags_alone: bool = False

    @property
    def place(self) -> str:
        return f"docs/{self.page}:{self.line}"


def pages() -> list[Path]:
    left_out = {path for pattern in NOT_READ for path in (ROOT / "docs").glob(pattern)}
    return sorted(set((ROOT / "docs").glob("*.md")) - left_out)


def all_commands() -> list[Command]:
    return [command for page in pages() for command in commands_of(text_of(page), page.name)]


def commands_of(text: str, page: str) -> list[Command]:
    """The commands of one page, by line. The same text twice on a page is one command."""
    blocks, prose = _parted(text)
    found = [*_of_blocks(blocks, page), *_of_prose(prose, page)]
    found.sort(key=lambda command: command.line)
    once: dict[str, Command] = {}
    for command in found:
        once.setdefault(command.text, command)
    return list(once.values())


def _parted(text: str) -> tuple[list[tuple[int, str]], list[str]]:
    """Lines of code with their numbers, and all lines, with those of code emptied so that numbers stay."""
    blocks: list[tuple[int, str]] = []
    prose: list[str] = []
    language: str | None = None
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("```"):
            language = line[3:].strip() if language is None else None
            prose.append("")
        elif language is not None:
            prose.append("")
            if language in _SHELL:
                blocks.append((number, line))
        elif line.startswith("    "):
            prose.append("")
            blocks.append((number, line[4:]))
        else:
            prose.append(line)
    return blocks, prose


def _of_blocks(lines: list[tuple[int, str]], page: str) -> list[Command]:
    found = []
    waiting = iter(lines)
    for number, line in waiting:
        while line.endswith("\\"):
            line = line[:-1] + next(waiting)[1]
        read = _BEFORE_COMMENT.match(line)
        line = read[0] if read else line
        if _COMMAND.match(line):
            found.append(Command(page, number, _plain(line)))
        elif line.startswith("--") and page in VERB_OF_FLAGS:
            # What follows is an explanation, set apart by a wide gap.
            found.append(_flags(page, number, re.split(r"\s{2,}", line)[0]))
    return found


def _of_prose(lines: list[str], page: str) -> list[Command]:
    text = "\n".join(lines)
    typed = _lines_of_what_to_type(lines)
    found = []
    for match in _SPAN.finditer(text):
        span = _plain(match[1].replace(r"\|", "|"))
        number = text.count("\n", 0, match.start()) + 1
        if span.startswith("eval "):
            span = f"xverse-v {span}"
        mention = _MENTION.fullmatch(span) and span not in WHOLE_ALONE
        if _COMMAND.match(span) and not mention and not span.endswith(" ..."):
            found.append(Command(page, number, span))
        elif number in typed and span.startswith("--") and page in VERB_OF_FLAGS:
            found.append(_flags(page, number, span))
    return found


def _lines_of_what_to_type(lines: list[str]) -> set[int]:
    inside, found = False, set()
    for number, line in enumerate(lines, 1):
        inside = line.startswith("|") and (inside or "you type" in line)
        if inside:
            found.add(number)
    return found


def _flags(page: str, number: int, flags: str) -> Command:
    return Command(page, number, f"{VERB_OF_FLAGS[page]} {_plain(flags)}", flags_alone=True)


def _plain(text: str) -> str:
    return " ".join(text.split())
