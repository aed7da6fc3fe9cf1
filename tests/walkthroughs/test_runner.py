"""The runner itself: what it reads, what it lets pass and what it does not. A walk that cannot fail shows nothing."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest

from tests.walkthroughs.runner import Walk, blocks_of, copy_project, free_ports, missing_line, walk


def page(*parts: str) -> str:
    return "\n".join(["# A page", "", *parts]) + "\n"


def fence(kind: str, *lines: str) -> str:
    return "\n".join([f"```{kind}", *lines, "```", ""])


@pytest.fixture
def walked(tmp_path: Path):
    """Walks a page of these parts in an empty folder."""
    project = tmp_path / "project"
    project.mkdir()

    def run(*parts: str, **options) -> Walk:
        path = tmp_path / "some.md"
        path.write_text(page(*parts), encoding="utf-8")
        return walk(path, project, **{"seconds": 60.0} | options)

    return run


def test_blocks_know_their_line_their_conditions_and_what_is_shown():
    text = page(
        fence("sh", "one", "two"),
        fence("text", "seen"),
        fence("console", "$ never"),
        fence("sh extra", "three"),
        "Words.",
        fence("text", "not about it"),
    )
    first, second = blocks_of(text)
    assert (first.code, first.shown, first.conditions) == ("one\ntwo", ("seen",), frozenset())
    assert text.splitlines()[first.line - 1] == "one"
    assert text.splitlines()[first.shown_line - 1] == "seen"
    assert (second.code, second.shown, second.conditions) == ("three", None, {"extra"})


def test_a_fence_that_is_never_closed_is_refused():
    with pytest.raises(ValueError, match=r"line 3: .*never closed"):
        blocks_of("# A page\n\n```sh\necho 1\n")


@pytest.mark.parametrize(
    ("shown", "output", "missing"),
    [
        (["a", "b"], "a\nb\n", None),
        (["a", "...", "c"], "a\nb\nc\n", None),
        (["a", "c"], "a\nb\nc\n", None),
        (["b", "a"], "a\nb\n", 1),
        (["a", "a"], "a\n", 1),
        (["step … of 6"], "step 3 of 6", None),
        (["step … of 6"], "step 3 of 60", 0),
        (["step 3"], "step 3 of 6", 0),
        (["loss (x) *"], "loss (x) *", None),
        (["a  b", ""], "  a b", None),
        (["a"], "", 0),
    ],
)
def test_shown_lines_have_to_come_whole_and_in_order(shown, output, missing):
    assert missing_line(tuple(shown), output) == missing


def test_one_shell_runs_all_blocks_in_order(walked):
    done = walked(
        fence("sh", "NAME=earlier", "cd /"), fence("sh", 'echo "$NAME at $PWD"'), fence("text", "earlier at /")
    )
    assert done.failure is None
    assert [output for _, output in done.outputs] == ["", "earlier at /\n"]


def test_a_wrong_shown_line_fails_with_page_and_line(walked):
    done = walked(fence("sh", "echo one; echo two >&2"), fence("text", "one", "three"))
    assert done.failure is not None
    assert done.failure.startswith("some.md:9: not printed: 'three'")
    assert "two" in done.failure


def test_a_failing_command_fails_with_page_and_line_and_ends_the_walk(walked):
    done = walked(fence("sh", "echo first", "false", "echo after"), fence("text", "first"), fence("sh", "echo never"))
    assert done.failure is not None
    assert done.failure.startswith("some.md:5: exit code 1")
    assert [output for _, output in done.outputs] == ["first\n"]


def test_a_mistake_before_a_failing_command_is_the_one_that_is_named(walked):
    done = walked(fence("sh", "echo one"), fence("text", "two"), fence("sh", "false"))
    assert done.failure is not None and done.failure.startswith("some.md:8: not printed: 'two'")


def test_other_fences_and_unmet_conditions_are_not_run(walked):
    parts = [fence("console", "touch console"), fence("python", "touch python"), fence("sh extra", "echo extra")]
    assert walked(*parts, fence("sh", "ls")).outputs[0][1] == ""
    done = walked(*parts, conditions=frozenset({"extra"}))
    assert [output for _, output in done.outputs] == ["extra\n"]


def test_what_a_page_leaves_running_is_ended_and_said(walked):
    done = walked(fence("sh", "sleep 300 &", "echo $!"))
    assert done.failure is not None and "left a process running" in done.failure
    number, until, state = done.outputs[0][1].strip(), time.monotonic() + 30, "R"
    while state not in ("", "Z") and time.monotonic() < until:  # it was killed, and dies when the system gets to it
        state = subprocess.run(["ps", "-o", "stat=", "-p", number], capture_output=True, text=True).stdout.strip()
    assert state in ("", "Z")


def test_a_walk_that_takes_too_long_is_ended(walked):
    done = walked(fence("sh", "sleep 300"), seconds=0.5)
    assert done.failure is not None and "not done after" in done.failure


def test_ports_are_replaced_by_free_ones_wherever_they_stand():
    served, asked = blocks_of(
        page(fence("sh", "serve --port 8123"), fence("sh", "curl :8123/v1 1234"), fence("text", "8123"))
    )
    served, asked = free_ports([served, asked])
    port = served.code.removeprefix("serve --port ")
    assert port != "8123" and 1024 < int(port) < 65536
    assert asked.code == f"curl :{port}/v1 1234" and asked.shown == (port,)


def test_a_walk_leads_nowhere_outside_this_machine(walked):
    done = walked(
        fence("sh", "curl --silent --max-time 20 http://example.com/ || echo refused"), fence("text", "refused")
    )
    assert done.failure is None


def test_the_copy_has_what_git_lists_and_nothing_else(tmp_path):
    root = tmp_path / "root"
    (root / "sub").mkdir(parents=True)
    for name in ("kept", "sub/new", "ignored", "gone"):
        (root / name).write_text(name)
    (root / ".gitignore").write_text("ignored\n")
    for command in (["init", "--quiet"], ["add", "kept", "gone"]):
        subprocess.run(["git", "-C", str(root), *command], check=True)
    (root / "gone").unlink()
    copy = copy_project(tmp_path / "copy", root)
    names = sorted(path.relative_to(copy).as_posix() for path in copy.rglob("*") if path.is_file())
    assert names == [".gitignore", "kept", "sub/new"]
