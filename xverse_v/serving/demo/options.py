"""How the demo is served, and who may use it: plain data, and the file of names and passwords. Needs no extra."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from xverse_v.errors import Language, XverseError, error

DEFAULT_PORT = 20029  # the release's
SHORTEST_PASSWORD = 8
_NEEDED = ("gradio", "fastapi", "uvicorn")


@dataclass(frozen=True)
class Example:
    """An image file and a question about it in each language, to start from."""

    path: Path
    questions: Mapping[Language, str]


@dataclass(frozen=True)
class DemoOptions:
    """``language`` None follows each visitor's browser. ``passwords``: name -> password; none asks for none.

    model_name: what the page calls the model, beside what its receipt says of it.
    """

    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    language: Language | None = None
    passwords: Mapping[str, str] = field(default_factory=dict, repr=False)
    examples: Sequence[Example] = ()
    model_name: str = "nano"


def check_extra() -> None:
    """Raises E663 unless everything the page is made with is installed."""
    for module in _NEEDED:
        if find_spec(module) is None:
            raise error("E663", module=module)


def read_passwords(path: Path) -> dict[str, str]:
    """``name:password`` lines of a file; empty lines and ``#`` comments are skipped. Raises E665."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        mode = path.stat().st_mode
    except (OSError, UnicodeDecodeError) as reason:
        raise _bad_file(path, f"it cannot be read ({reason})", f"无法读取（{reason}）") from reason
    if os.name == "posix" and mode & (stat.S_IRGRP | stat.S_IROTH):
        raise _bad_file(
            path,
            "other users of this machine can read it; chmod 600 keeps it to yourself",
            "本机其他用户可以读取它；可用 chmod 600 仅供自己读取",
        )
    found: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        if line.strip() and not line.lstrip().startswith("#"):
            name, colon, password = line.strip().partition(":")
            if not name or not colon or len(password) < SHORTEST_PASSWORD:
                raise _bad_file(path, f"line {number} is no name:password", f"第 {number} 行不是“用户名:密码”")
            found[name] = password
    if not found:
        raise _bad_file(path, "it holds 0 names", "其中有 0 个用户名")
    return found


def _bad_file(path: Path, problem: str, problem_zh: str) -> XverseError:
    return error("E665", path=path, problem=problem, problem_zh=problem_zh, shortest=SHORTEST_PASSWORD)
