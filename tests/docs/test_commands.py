"""Every command of docs/*.md has been typed: each is run as the page prints it, or `decisions.py` says why not.

The fast tests decide that nothing is left undecided and that every flag exists; the slow ones run what can be run, each
page in a folder as its reader would have it, two pages at a time.
"""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import typer

from tests.docs.commands import VERB_OF_FLAGS, Command, all_commands, commands_of
from tests.docs.decisions import AS_PRINTED, NOT_RUN, WAYS, Way
from tests.docs.pages import ROOT, inline_code, text_of
from tests.docs.reader import Reader, folder_for, prepare, running_server, typed
from tests.walkthroughs.runner import environment
from xverse_v.cli import app

COMMANDS = all_commands()
TEXTS = {command.text for command in COMMANDS}
# Pages that go on from one another's results, in this order; the longest come first, so that none is waited for.
SERIES = (("train.md", "nano.md", "export.md"), ("speed.md",), ("eval.md", "benchmarks.md"))
AT_ONCE = 2
# Flags that stand alone on a page are tried behind this, one after the other in one process; those of a server in one.
FLAGS_TRIED_ON = {
    "ask.md": 'ask cat.jpg "What is it?"',
    "eval.md": "eval run --work-dir flags --limit 1 --max-new-tokens 4",
}
# Words that stand for something of the reader's own and must not be typed as they are.
PLACEHOLDERS = re.compile(
    r"(?<![\w./-])(?:DIR|FILE|RUN|DATA|MODEL|BENCHMARK|OUT|N|NAMES?|A B|DECODER|FIRST|key=value)(?![\w./])"
    r"|\.\.\.(?! xverse-v)|\[--|/path/to|example\.com/v1"
)


def not_run(command: Command) -> bool:
    return any(
        command.text.startswith(key[:-1]) if key.endswith("*") else command.text == key for key in NOT_RUN
    )  # fmt: skip


def way_of(command: Command) -> Way:
    return WAYS.get(command.text, AS_PRINTED)


def planned(llamacpp: bool = False) -> dict[str, list[tuple[Command, Way]]]:
    """For each page what is typed, in order: a text that several pages have once, flags that stand alone together."""
    seen: set[str] = set()
    plan: dict[str, list[tuple[Command, Way]]] = {}
    order = {page: place for place, page in enumerate(page for series in SERIES for page in series)}
    for command in sorted(COMMANDS, key=lambda command: order.get(command.page, len(order))):
        if not_run(command) or command.text in seen or way_of(command).llamacpp != llamacpp:
            continue
        seen.add(command.text)
        plan.setdefault(command.page, []).append((command, way_of(command)))
    return {page: _flags_together(page, rows) for page, rows in plan.items()}


def _flags_together(page: str, rows: list[tuple[Command, Way]]) -> list[tuple[Command, Way]]:
    alone = [command for command, way in rows if command.flags_alone and not way.asked_at]
    if not alone:
        return rows
    verb = VERB_OF_FLAGS[page]
    flags = [typed(command, way_of(command)).removeprefix(verb) for command in alone]
    if page == "serve.md":
        text, way = f"{verb}{''.join(flags)}", WAYS["xverse-v serve"]
    else:
        lines = [FLAGS_TRIED_ON[page] + each for each in flags]
        text, way = f"python -m tests.docs.many {' + '.join(lines)}", AS_PRINTED
    rest = [row for row in rows if row[0] not in alone]
    return [*rest, (Command(page, alone[0].line, text), way)]


def test_commands_are_found_where_readers_find_them() -> None:
    text = """
Type `xverse-v plan` or `xverse-v plan --json`, `xverse-v serve ...`, `printf a | xverse-v
chat cat.jpg`.

    xverse-v ask cat.jpg "What # is it?"   # it's a comment
    E120 An error

| you want | you type |
|---|---|
| few | `--detail low`, or `A=1 python -c 1 \\| cat -` |

| flag | |
|---|---|
| `--json` | `eval run --data NAMES` |

```sh
A=1 B=... \\
  xverse-v ask b.png
```
```python
python = 1
xverse-v + 1
```
"""
    found = [(command.line, command.text) for command in commands_of(text, "ask.md")]
    assert found == [
        (2, "xverse-v plan --json"),
        (2, "printf a | xverse-v chat cat.jpg"),
        (5, 'xverse-v ask cat.jpg "What # is it?"'),
        (10, "xverse-v ask --detail low"),
        (10, "A=1 python -c 1 | cat -"),
        (14, "xverse-v eval run --data NAMES"),
        (17, "A=1 B=... xverse-v ask b.png"),
    ]


def test_there_are_commands_of_every_verb() -> None:
    verbs = {command.callback.__name__.rstrip("_") for command in app.registered_commands if command.callback}
    verbs |= {group.name for group in app.registered_groups if group.name}
    typed = {match[1] for text in TEXTS if (match := re.search(r"xverse-v ([a-z]+)", text))}
    assert verbs - typed == set()
    assert len(COMMANDS) > 150


def test_every_decision_is_about_a_command_that_is_there() -> None:
    assert [text for text in WAYS if text not in TEXTS] == []
    assert [text for text, way in WAYS.items() for old, _ in way.swaps if old not in text] == []
    unused = [
        key
        for key in NOT_RUN
        if not any(text.startswith(key[:-1]) if key.endswith("*") else text == key for text in TEXTS)
    ]
    assert unused == []
    assert [command.text for command in COMMANDS if not_run(command) and command.text in WAYS] == []


def test_it_is_decided_what_to_type() -> None:
    open_ones = {
        command.place: found[0]
        for command in COMMANDS
        if not not_run(command) and (found := PLACEHOLDERS.search(typed(command, way_of(command))))
    }
    assert open_ones == {}, "these words stand for something; say in decisions.py for what"
    # What does not end by itself, or takes hours, is never run just as it is printed.
    endless = [
        command.place
        for command in COMMANDS
        if re.search(r"xverse-v (serve|demo|train|speed (?!roofline))|torchrun|benchmarks/", command.text)
        and not (command.flags_alone or "--help" in command.text or command.text in WAYS or not_run(command))
    ]
    assert endless == [], "say in decisions.py how these end"


def test_the_command_line_knows_every_verb_and_flag() -> None:
    root: Any = typer.main.get_command(app)  # Typer's own click, or the package: both have what is used here
    for command in COMMANDS:
        text = command.text if not_run(command) else typed(command, way_of(command))
        match = re.search(r"(?:^|[ /])(?:xverse-v|-m xverse_v|-m tests.docs.many) ([^|+]*)", text)
        if match and "pip" not in text:
            verb, words = root, shlex.split(match[1])
            while below := getattr(verb, "commands", None):
                if words[0].startswith("--"):
                    break
                # `export RUN` is short for `export run RUN`.
                name = words.pop(0) if words[0] in below or verb.name != "export" else "run"
                assert name in below, f"{command.place}: no verb {name}"
                verb = below[name]
            try:
                verb.make_parser(verb.context_class(verb)).parse_args(words)
            except Exception as problem:
                pytest.fail(f"{command.place}: {problem}")


def test_the_extras_that_pages_install_exist() -> None:
    extras = tomllib.loads(text_of(ROOT / "pyproject.toml"))["project"]["optional-dependencies"]
    pages = [text_of(path) for path in [*ROOT.glob("docs/*.md"), ROOT / "README.md"]]
    named = {name for page in pages for code in inline_code(page) for name in re.findall(r"xverse-v\[(\w+)\]", code)}
    named |= {name for text in TEXTS for name in re.findall(r"xverse-v\[(\w+)\]", text)}
    assert named and named <= set(extras)


# --------------------------------------------------------------------------------------------------------- typing it

PLAN = planned()
_IN_SERIES = {page for series in SERIES for page in series}


@pytest.fixture(scope="module")
def done(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, list[str]]]:
    """What went wrong on each page that is asked for. All are run here, so that two may run at a time."""
    params = [getattr(item, "callspec", None) for item in request.session.items]
    wanted = {spec.params["page"] for spec in params if spec and "page" in spec.params}
    series = [each for each in [*SERIES, *((page,) for page in PLAN if page not in _IN_SERIES)] if wanted & set(each)]
    home = tmp_path_factory.mktemp("home")
    project = prepare(home)
    variables = environment(project) | {"OMP_NUM_THREADS": "1"}  # two commands run at a time
    wrong: dict[str, list[str]] = {page: [] for page in PLAN}

    def read(pages: tuple[str, ...], server: str) -> None:
        reader = Reader(folder_for(pages[0], project), home, variables, server)
        for page in pages:
            for command, way in PLAN.get(page, []):
                failure = reader.run(command, way)
                wrong[page] += [failure] if failure else []

    with running_server(home, variables) as server, ThreadPoolExecutor(AT_ONCE) as pool:
        for each in [pool.submit(read, pages, server) for pages in series]:
            each.result()
    yield wrong


@pytest.mark.slow
@pytest.mark.parametrize("page", PLAN)
def test_the_commands_of_the_page_run(page: str, done: dict[str, list[str]]) -> None:
    assert not done[page], "\n\n".join(done[page])


@pytest.mark.llamacpp
def test_the_commands_that_need_llama_cpp_run(tmp_path: Path) -> None:
    project = prepare(tmp_path)
    reader = Reader(folder_for("llamacpp", project), tmp_path, environment(project), "")
    rows = [row for rows in planned(llamacpp=True).values() for row in rows]
    assert len(rows) >= 5
    failures = [failure for command, way in rows if (failure := reader.run(command, way))]
    assert not failures, "\n\n".join(failures)
