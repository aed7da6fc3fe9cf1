"""A real terminal: the answer appears piece by piece, Ctrl-C stops it, the chat goes on."""

import fcntl
import json
import os
import pty
import select
import shutil
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
PATIENCE = 120.0  # seconds; only a hang is that slow


def _take_terminal():
    """In the new process: this is its terminal, and Ctrl-C is heard, also where the suite runs in the background."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    signal.signal(signal.SIGINT, signal.default_int_handler)


class Terminal:
    """A command with a terminal of its own."""

    def __init__(self, *arguments):
        self.leader, follower = pty.openpty()
        environment = os.environ | {"XVERSE_V_LANG": "en", "TERM": "dumb", "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "xverse_v", *map(str, arguments)],
            stdin=follower,
            stdout=follower,
            stderr=follower,
            cwd=REPOSITORY,
            env=environment,
            start_new_session=True,
            preexec_fn=_take_terminal,
        )
        os.close(follower)
        self.seen = ""

    def type(self, text):
        os.write(self.leader, text.encode())

    def wait_for(self, text, times=1):
        """Read until `text` was seen so many times, or fail with what was."""
        end = time.monotonic() + PATIENCE
        while self.seen.count(text) < times:
            ready, _, _ = select.select([self.leader], [], [], max(0, end - time.monotonic()))
            assert ready, f"waited for {text!r}, saw {self.seen!r}"
            try:
                self.seen += os.read(self.leader, 65536).decode(errors="replace")
            except OSError:  # the other side is closed
                break
        assert self.seen.count(text) >= times, self.seen

    def press_until(self, key, text):
        """Press a key until `text` is seen. Python's `input` does not notice a Ctrl-C in the instant before it listens
        until the next key; nobody's hands are that fast, but a test's are."""
        end = time.monotonic() + PATIENCE
        while text not in self.seen:
            assert time.monotonic() < end, f"pressed for {text!r}, saw {self.seen!r}"
            self.type(key)
            ready, _, _ = select.select([self.leader], [], [], 1.0)
            if ready:
                self.seen += os.read(self.leader, 65536).decode(errors="replace")

    def finish(self):
        code = self.process.wait(PATIENCE)
        os.close(self.leader)
        return code


@pytest.fixture
def terminal():
    started = []

    def start(*arguments):
        started.append(Terminal(*arguments))
        return started[-1]

    yield start
    for each in started:
        each.process.kill()
        each.process.wait()


@pytest.fixture
def endless_folder(tiny_folder, tmp_path):
    """The tiny model with an end token that it never writes (the placeholder's), so that an answer is there to stop."""
    folder = tmp_path / "endless"
    shutil.copytree(tiny_folder, folder)
    config = json.loads((folder / "generation_config.json").read_text(encoding="utf-8"))
    config["eos_token_id"] = json.loads((folder / "config.json").read_text(encoding="utf-8"))["image_token_id"]
    (folder / "generation_config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


def test_ctrl_c_stops_an_answer_and_keeps_the_chat(terminal, endless_folder):
    chat = terminal("chat", "--model", endless_folder, "--device", "cpu", "--max-new-tokens", "7000")
    chat.wait_for("> ")
    chat.type("Tell me everything\n")
    chat.wait_for("Tell me everything")
    before = len(chat.seen)
    while len(chat.seen) < before + 40:  # it is streaming
        chat.wait_for("", 0)
        chat.seen += os.read(chat.leader, 65536).decode(errors="replace")
    chat.type("\x03")
    chat.wait_for("(stopped)")
    chat.wait_for("> ", times=2)
    chat.press_until("\x03", "/quit or Ctrl-D leaves")
    chat.type("/undo\n")
    chat.wait_for("Taken back: Tell me everything")
    chat.type("/quit\n")
    assert chat.finish() == 0


def test_ctrl_c_stops_ask_with_130(terminal, endless_folder):
    ask = terminal(
        "ask", "Tell me everything", "--model", endless_folder, "--device", "cpu", "--max-new-tokens", "7000"
    )
    ask.wait_for("endless ...")  # what is said while it loads
    while len(ask.seen.partition("endless ...")[2]) < 60:  # it is streaming
        ask.seen += os.read(ask.leader, 65536).decode(errors="replace")
    ask.type("\x03")
    ask.wait_for("(stopped)")
    assert ask.finish() == 130
