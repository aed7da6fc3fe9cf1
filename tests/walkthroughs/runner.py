"""Walks the pages of docs/walkthroughs as a reader does: block after block, in one shell, in a copy of the project.

What crosses: a Markdown page -> its blocks -> what each printed -> the lines that the page shows and the walk did not.
A fenced `sh` block is run; a `text` block right behind it is what the reader was told to expect; every other fence is
left alone. Words behind `sh` name a condition (`sh llamacpp`): such a block is run only where it is asked for. This
file refuses to know what any page is about.

    python -m tests.walkthroughs.runner docs/walkthroughs/see-it.md        # walk it and show what every block printed
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

ROOT = Path(__file__).parents[2]
DEFAULT_SECONDS = 1800.0  # of a whole page, on a machine that does other things too

_FENCE = re.compile(r"^```(.*)$")
_PORT = re.compile(r"--(?:server_)?port[ =](\d{4,5})\b")
_SHELL_SETUP = """\
set -e
trap 'echo "$LINENO" > {results}/failed' ERR
"""


@dataclass(frozen=True)
class Block:
    """One `sh` block. `line` is the page's line of its first command, `shown` the lines that the page promises, with
    the line at which they begin; None where nothing is promised."""

    line: int
    code: str
    conditions: frozenset[str] = frozenset()
    shown: tuple[str, ...] | None = None
    shown_line: int = 0


@dataclass(frozen=True)
class Walk:
    """What came of a page: for each block that was begun what it printed, and the failure if there was one."""

    outputs: tuple[tuple[Block, str], ...]
    failure: str | None


def blocks_of(text: str) -> list[Block]:
    """The `sh` blocks of a page, each with the `text` block that follows with nothing but empty lines between.

    Raises `ValueError` for a fence that is never closed.
    """
    found: list[Block] = []
    lines = text.splitlines()
    behind_shell = False
    number = 0
    while number < len(lines):
        opened = _FENCE.match(lines[number])
        if not opened:
            behind_shell = behind_shell and not lines[number].strip()
            number += 1
            continue
        end = next((n for n in range(number + 1, len(lines)) if lines[n].rstrip() == "```"), None)
        if end is None:
            raise ValueError(f"line {number + 1}: a fence is opened and never closed")
        words, body = opened[1].split(), tuple(lines[number + 1 : end])
        language = words[0] if words else ""
        if language == "sh":
            found.append(Block(number + 2, "\n".join(body), frozenset(words[1:])))
        elif language == "text" and behind_shell:
            found[-1] = replace(found[-1], shown=body, shown_line=number + 2)
        behind_shell = language == "sh"
        number = end + 1
    return found


def free_ports(blocks: list[Block]) -> list[Block]:
    """The same blocks with every port that a `--port` names replaced, everywhere, by one that is free here."""
    named = sorted({port for block in blocks for port in _PORT.findall(block.code)})
    free = dict(zip(named, _unused_ports(len(named)), strict=True))

    def replaced(text: str) -> str:
        return re.sub(r"\b\d{4,5}\b", lambda match: free.get(match[0], match[0]), text)

    return [
        replace(block, code=replaced(block.code), shown=block.shown and tuple(map(replaced, block.shown)))
        for block in blocks
    ]


def _unused_ports(count: int) -> list[str]:
    doors = [socket.socket() for _ in range(count)]
    try:
        for door in doors:
            door.bind(("127.0.0.1", 0))
        return [str(door.getsockname()[1]) for door in doors]
    finally:
        for door in doors:
            door.close()


def missing_line(shown: tuple[str, ...], output: str) -> int | None:
    """The place of the first shown line that the output does not have behind those before it; None if all are there.

    A line is compared whole, but for the amount of white space. `…` matches anything within a line. Lines of the output
    that are not shown are passed over; `...` alone says so to the reader.
    """
    waiting = iter([_plain(line) for line in output.splitlines()])
    for place, line in enumerate(shown):
        if not line.strip() or line.strip() == "...":
            continue
        pattern = re.compile(".*".join(re.escape(part) for part in _plain(line).split("…")))
        if not any(pattern.fullmatch(real) for real in waiting):
            return place
    return None


def _plain(line: str) -> str:
    return " ".join(line.split())


def copy_project(folder: Path, root: Path = ROOT) -> Path:
    """The project's files as git lists them (what is ignored is left behind), without its history. Returns the copy."""
    command = ["git", "-C", str(root), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, check=True, capture_output=True).stdout.decode()
    for name in filter(None, listed.split("\0")):
        source, target = root / name, folder / name
        if source.is_file():  # one that was deleted and not yet committed is still listed
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)
    return folder


def environment(project: Path) -> dict[str, str]:
    """What a walk sees: this interpreter's commands first, the copy's package before an installed one, no network."""
    kept = {name: os.environ[name] for name in ("LANG", "LC_ALL", "OMP_NUM_THREADS", "TMPDIR") if name in os.environ}
    nobody = "http://127.0.0.1:9"  # where nothing listens: who tries to leave this machine fails at once
    return kept | {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
        "HOME": str(project.parent),
        "PYTHONPATH": str(project),
        "PYTHONUNBUFFERED": "1",
        "COLUMNS": "120",
        "XVERSE_V_LANG": "en",
        "http_proxy": nobody,
        "https_proxy": nobody,
        "no_proxy": "127.0.0.1,localhost",
        "HF_HUB_OFFLINE": "1",
    }


def walk(
    page: Path,
    project: Path,
    *,
    conditions: frozenset[str] = frozenset(),
    seconds: float = DEFAULT_SECONDS,
) -> Walk:
    """Run a page's blocks in `project`, in order and in one shell, and compare what they print with what is shown.

    The first failure ends the walk: a command that fails, a time that runs out, a shown line that was not printed, a
    process that the page started and never ended. Its text names page and line.
    """
    blocks = [
        block for block in free_ports(blocks_of(page.read_text(encoding="utf-8"))) if block.conditions <= conditions
    ]
    with tempfile.TemporaryDirectory(prefix="walk-") as name:
        results = Path(name)
        code = _run(blocks, project, results, seconds)
        outputs = tuple(
            (block, (results / f"{place}.out").read_text(encoding="utf-8", errors="replace"))
            for place, block in enumerate(blocks)
            if (results / f"{place}.out").exists()
        )
        failed = results / "failed"
        line = failed.read_text().strip() if failed.exists() else ""
    return Walk(outputs, _failure(page, outputs, code, line))


def _run(blocks: list[Block], project: Path, results: Path, seconds: float) -> int | str:
    """The shell's exit code, or in words what else went wrong."""
    script = [_SHELL_SETUP.format(results=shlex.quote(str(results)))]
    for place, block in enumerate(blocks):
        # Empty lines in front make the shell count as the page does.
        (results / f"{place}.sh").write_text("\n" * (block.line - 1) + block.code + "\n", encoding="utf-8")
        script.append(f"exec > {shlex.quote(str(results / f'{place}.out'))} 2>&1\n")
        script.append(f". {shlex.quote(str(results / f'{place}.sh'))}\n")
    (results / "walk.sh").write_text("".join(script), encoding="utf-8")
    process = subprocess.Popen(
        ["bash", str(results / "walk.sh")],
        cwd=project,
        env=environment(project),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        code: int | str = process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        code = f"not done after {seconds:.0f} seconds"
    finally:
        left = _end_group(process.pid)
        process.wait()
    return "it left a process running" if code == 0 and left else code


def _end_group(group: int) -> bool:
    """Ends what a page started and left behind. Returns whether there was anything."""
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def _failure(page: Path, outputs: tuple[tuple[Block, str], ...], code: int | str, line: str) -> str | None:
    for block, output in outputs:
        if block is outputs[-1][0] and code != 0:
            break  # its output is whatever came before it failed
        place = missing_line(block.shown or (), output)
        if place is not None:
            assert block.shown is not None
            return f"{page.name}:{block.shown_line + place}: not printed: {block.shown[place]!r}\n{_tail(output)}"
    if code == 0:
        return None
    where = line or (outputs[-1][0].line if outputs else 1)
    said = code if isinstance(code, str) else f"exit code {code}"
    return f"{page.name}:{where}: {said}\n{_tail(outputs[-1][1] if outputs else '')}"


def _tail(output: str, lines: int = 60) -> str:
    return "printed was:\n" + "\n".join(output.splitlines()[-lines:])


def main(arguments: list[str]) -> int:
    """Walk pages in fresh copies and show everything that was printed."""
    conditions = frozenset(name.removeprefix("--") for name in arguments if name.startswith("--"))
    worst = 0
    for name in (name for name in arguments if not name.startswith("--")):
        with tempfile.TemporaryDirectory(prefix="project-") as folder:
            done = walk(Path(name), copy_project(Path(folder) / "project"), conditions=conditions)
        for block, output in done.outputs:
            print(f"\n===== {name}:{block.line}\n{block.code}\n-----\n{output}", end="")
        print(f"\n===== {name}: {done.failure or 'walked'}")
        worst |= done.failure is not None
    return int(worst)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
