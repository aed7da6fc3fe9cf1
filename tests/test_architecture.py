"""The house as its imports draw it: which room may use which, no circles, nothing printed or swallowed."""

import ast
import graphlib
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "xverse_v"
FILES = sorted(path for path in PACKAGE.rglob("*.py"))

# room -> rooms it may import; `errors` is open to all but the model room, which must stand alone.
MAY_USE = {
    "errors": set(),
    "model": set(),
    "media": set(),
    "appending": set(),
    "linears": set(),
    "elementwise": set(),
    "inspector": {"model", "media"},
    "weights": {"model"},
    "quantisation": {"model", "weights", "linears"},
    "inference": {"model", "media", "weights", "quantisation", "linears", "elementwise"},
    "engines": {"inference", "media", "model", "weights", "linears", "elementwise"},
    "training": {"model", "media", "weights"},
    "nano": {"model", "training", "weights", "inference"},
    "batch": {"inference", "media", "appending"},
    "evaluation": {"inference", "media", "model", "appending"},
    "serving": {"inference", "media", "model", "inspector"},
    "speed": {
        "inference",
        "training",
        "nano",
        "weights",
        "model",
        "media",
        "quantisation",
        "serving",
        "linears",
        "engines",
    },
    "_registration": {"model"},
}


def room_of(path: Path) -> str:
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py") if first.endswith(".py") else first


def imported_modules(path: Path) -> set[str]:
    """Absolute names of everything of ours that a file imports, wherever in the file."""
    package = ["xverse_v", *path.relative_to(PACKAGE).parent.parts]
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            stem = ".".join([*base, *([node.module] if node.module else [])])
            found |= {stem, *(f"{stem}.{alias.name}" for alias in node.names)}
    return {name for name in found if name == "xverse_v" or name.startswith("xverse_v.")}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_arrows_point_down(path):
    room = room_of(path)
    if room in ("cli", "__init__", "__main__"):
        return
    used = {name.split(".")[1] for name in imported_modules(path) if "." in name} - {room, "__version__"}
    allowed = MAY_USE[room] | (set() if room == "model" else {"errors"})
    assert used <= allowed, f"{room} may import {sorted(allowed)}, but {path.name} imports {sorted(used - allowed)}"


def test_no_circle_of_imports():
    modules = {".".join(["xverse_v", *path.relative_to(PACKAGE).with_suffix("").parts]): path for path in FILES}
    modules = {name.removesuffix(".__init__"): path for name, path in modules.items()}
    sorter = graphlib.TopologicalSorter()
    for name, path in modules.items():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        lazy = {id(node) for outer in ast.walk(tree) if isinstance(outer, ast.FunctionDef) for node in ast.walk(outer)}
        guarded = {id(node) for outer in ast.walk(tree) if isinstance(outer, ast.If) for node in ast.walk(outer)}
        package = ["xverse_v", *path.relative_to(PACKAGE).parent.parts]
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and id(node) not in lazy | guarded:
                base = package[: len(package) - node.level + 1] if node.level else []
                stem = ".".join([*base, *([node.module] if node.module else [])])
                for target in [f"{stem}.{alias.name}" for alias in node.names] + [stem]:
                    if target in modules and target != name and target != "xverse_v":
                        sorter.add(name, target)
                        break
    sorter.prepare()


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_only_the_command_line_prints_and_nothing_is_swallowed(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
            assert room_of(path) == "cli", f"{path}:{node.lineno} prints"
        if isinstance(node, ast.ExceptHandler):
            catches_all = node.type is None or (
                isinstance(node.type, ast.Name) and node.type.id in ("Exception", "BaseException")
            )
            silent = all(isinstance(statement, ast.Pass | ast.Continue) for statement in node.body)
            assert not (catches_all and silent), f"{path}:{node.lineno} swallows every error"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_files_are_short_and_say_what_they_are_for(path):
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 300
    if text.strip():
        assert ast.get_docstring(ast.parse(text)), "a module's docstring is its contract"
