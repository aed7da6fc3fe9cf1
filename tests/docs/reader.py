"""A reader with a folder: the files that the pages speak of are there, and commands are typed one after the other.

What crosses: commands with the way each is run -> for each that did not do as expected, what happened in words. The
commands of one folder see each other's results; folders see nothing of each other. What is run, and why not otherwise,
is decided in `decisions.py`.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from tests.conftest import TINY
from tests.docs.commands import Command
from tests.docs.decisions import SERVED, Way
from tests.docs.pages import ROOT, text_of
from tests.evaluation import made
from tests.walkthroughs.runner import copy_project
from xverse_v.cli import INTERRUPTED

SECONDS = 600.0  # for one command, on a machine that does other things too
WEIGHTS = Path("xverse_v/nano/weights")
# Folders of a reader's own weights; each is made where a command names it, for some commands make them themselves.
MODELS = ("FOLDER", "xverse-v-13b")
# A shell's background jobs ignore Ctrl-C, and so does what they start, until uvicorn takes it up and ends in order.
STOPPED = 0 if signal.getsignal(signal.SIGINT) is signal.SIG_IGN else INTERRUPTED
_NO_PROXY = urllib.request.build_opener(urllib.request.ProxyHandler({}))


# ------------------------------------------------------------------------------------------------ what a reader has


def prepare(home: Path) -> Path:
    """Fills `home` with the project, the data that pages speak of, and LMUData. Returns the project."""
    project = copy_project(home / "project")
    _images(project)
    _questions(project)
    made.write_all(home / "LMUData")
    shutil.copytree(TINY, project / "parts")
    _fill_in(project, home)
    _vlmevalkit(project)
    (project / "keys.txt").write_text("a-key-that-is-long-enough\n")
    (project / "keys.txt").chmod(0o600)
    # Once for all of them, or the first to come would each compile the package for themselves.
    subprocess.run([sys.executable, "-m", "compileall", "-q", "xverse_v", "tests/docs"], cwd=project, check=True)
    return project


def _images(project: Path) -> None:
    shapes = Image.open(project / "examples/images/shapes.png").convert("RGB")
    (project / "images").mkdir()
    for name in ("cat.jpg", "before.png", "image.png", "images/cat.jpg"):
        shapes.save(project / name)
    shapes.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(project / "after.png")
    shapes.resize((1600, 1200)).save(project / "photo.jpg")
    bars = Image.open(project / "examples/images/bars.png").convert("RGB")
    shapes.save(project / "report.pdf", save_all=True, append_images=[shapes, bars])


def _questions(project: Path) -> None:
    lines = [line.strip() for line in text_of(ROOT / "docs" / "batch.md").splitlines() if '"question"' in line]
    (project / "questions.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (project / "chat.jsonl").write_text('{"question": "Hello?"}\n{"turns": ["What is red?", "What else?"]}\n')
    rows: list[dict[str, object]] = []
    for number, answer in enumerate(("a cat", "a dog", "a house", "a tree")):
        turns = [{"from": "human", "value": f"<image>\nWhat is in image {number}?"}, {"from": "gpt", "value": answer}]
        rows.append({"id": str(number), "image": "cat.jpg", "conversations": turns})
    (project / "my.json").write_text(json.dumps(rows), encoding="utf-8")
    cell = {"index": 1, "image": made.base64_image(), "question": "What is it?", "A": "a cat", "B": "a dog"}
    made.choices(project / "mine.tsv", [cell | {"answer": "A"}])


def _fill_in(project: Path, home: Path) -> None:
    """The release's YAML files as somebody with the three parts has filled them in; numbers are those of the parts."""
    parts, data = project / "parts", home / "LMUData"
    paths = {
        "/path/to/clip-vit-large-patch14": parts / "clip-vit-tiny-patch14",
        "/path/to/XVERSE-13B-Chat": parts / "XVERSE-tiny-Chat",
        "/path/to/adapter_and_lora.bin": parts / "adapter_and_lora.bin",
        "/path/to/gqa_test.jsonl": data / "GQA" / "testdev_balanced_questions.json",
        "/path/to/gqa/images": data / "GQA" / "images",
        "/path/to/okvqa_test.jsonl": data / "OKVQA",
        "/path/to/okvqa/images": data / "OKVQA" / "val2014",
        "/path/to/questions.jsonl": project / "chat.jsonl",
        "/path/to/results": "results-of-the-release",
        "lora_r: 128": "lora_r: 8",
        "lora_alpha: 256": "lora_alpha: 16",
        "max_new_tokens: 2048": "max_new_tokens: 4",
    }
    for file in [*project.glob("eval_configs/*.yaml"), *project.glob("vxverse/configs/models/*.yaml")]:
        text = file.read_text(encoding="utf-8")
        for old, new in paths.items():
            text = text.replace(old, str(new))
        file.write_text(text, encoding="utf-8")


def _vlmevalkit(project: Path) -> None:
    """As much of VLMEvalKit as our launcher touches; its `run.py` asks for the model's name and ends."""
    files = {
        "vlmeval/__init__.py": "",
        "vlmeval/vlm/__init__.py": "",
        "vlmeval/vlm/base.py": "class BaseModel:\n    pass\n",
        "vlmeval/config.py": "supported_VLM = {}\n",
        "VLMEvalKit/run.py": "import sys\nfrom vlmeval.config import supported_VLM\n"
        "name = sys.argv[sys.argv.index('--model') + 1]\nprint(supported_VLM[name])\n",
    }
    for name, text in files.items():
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text(text)


# -------------------------------------------------------------------------------------------------- typing commands


def typed(command: Command, way: Way) -> str:
    """What a reader types: the page's words with their own in place."""
    text = command.text
    for old, new in way.swaps:
        text = text.replace(old, new)
    return f"{text} {way.more}".rstrip()


@dataclass(frozen=True)
class Reader:
    """One folder to type in. `server` is the address of a running `xverse-v serve`."""

    folder: Path
    home: Path
    variables: dict[str, str]
    server: str

    def run(self, command: Command, way: Way) -> str | None:
        """None if all went as expected, else what was typed and what came."""
        line = f"{way.first} && {typed(command, way)}" if way.first else typed(command, way)
        for name, value in {"{port}": free_port(), "{server}": self.server, "{home}": str(self.home)}.items():
            line = line.replace(name, value)
        for name in MODELS:
            if name in line and not (self.folder / name).exists():
                shutil.copytree(self.home / "project" / WEIGHTS, self.folder / name, copy_function=os.link)
        log = self.folder.parent / f"{self.folder.name}.log"
        with log.open("w+b") as output:
            process = subprocess.Popen(
                ["bash", "-c", f"set -o pipefail; {'exec ' if way.asked_at else ''}{line}"],
                cwd=self.folder,
                env=self.variables,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                wrong = self._wait(process, way, line)
            finally:
                _kill_group(process)
        said = log.read_text(encoding="utf-8", errors="replace")
        refused = process.returncode == 1 and bool(way.may_say) and way.may_say in said
        if wrong is None and not refused and process.returncode != (STOPPED if way.asked_at else 0):
            wrong = f"exit code {process.returncode}"
        return wrong and f"{command.place}: {wrong}\n$ {line}\n" + "\n".join(said.splitlines()[-25:])

    def _wait(self, process: subprocess.Popen[bytes], way: Way, line: str) -> str | None:
        if not way.asked_at:
            try:
                process.communicate(way.stdin.encode(), timeout=SECONDS)
            except subprocess.TimeoutExpired:
                return f"not done after {SECONDS:.0f} seconds"
            return None
        assert process.stdin is not None
        process.stdin.close()
        port = line.split("port ")[1].split()[0]
        if answers(f"http://127.0.0.1:{port}{way.asked_at}", process):
            os.killpg(process.pid, signal.SIGINT)
            try:
                process.wait(120)
            except subprocess.TimeoutExpired:
                return "it goes on after Ctrl-C"
            return None
        return None if process.poll() else f"no answer at {way.asked_at}"  # what ended with an error is judged by that


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def free_port() -> str:
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        return str(door.getsockname()[1])


def answers(address: str, process: subprocess.Popen[bytes], seconds: float = 300.0) -> bool:
    """Whether a page comes before the process ends and the time is over."""
    until = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < until:
        try:
            with _NO_PROXY.open(address, timeout=10) as page:
                return bool(page.status == 200)
        except (OSError, urllib.error.URLError):
            time.sleep(0.2)
    return False


@contextmanager
def running_server(home: Path, variables: dict[str, str]) -> Iterator[str]:
    """`xverse-v serve` with the built-in model under another name, for commands that ask one. Gives its address."""
    port = free_port()
    with (home / "server.log").open("wb") as log:
        line = ["xverse-v", "serve", "--port", port, "--model-name", SERVED]
        process = subprocess.Popen(line, cwd=home, env=variables, stdout=log, stderr=log, start_new_session=True)
        try:
            assert answers(f"http://127.0.0.1:{port}/health", process), (home / "server.log").read_text()
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            _kill_group(process)


def folder_for(name: str, project: Path) -> Path:
    """A reader's own copy of the project without its code, which every reader shares. Files are linked: no command
    writes into one that is there."""
    left: Callable[..., set[str]] = shutil.ignore_patterns("xverse_v", "tests", "__pycache__")
    folder = project.parent / "readers" / name
    shutil.copytree(project, folder, copy_function=os.link, ignore=left)
    return folder
