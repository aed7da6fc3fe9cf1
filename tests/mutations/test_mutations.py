"""A changed constant or comparison must break a test: each change of table.py is made in a copy of the tree, alone."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.mutations.table import MUTATIONS, Mutation

ROOT = Path(__file__).parents[2]
COPIED = ("xverse_v", "tests", "pyproject.toml")
PYTEST = ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:randomly", "--no-header", "--disable-warnings", "--tb=short"]
PASSED, FAILED = 0, 1


class Copy:
    """A copy of the tree and a process that runs its tests."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        ignored = shutil.ignore_patterns("__pycache__", ".hypothesis")
        for name in COPIED:
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, folder / name, ignore=ignored)
            else:
                shutil.copy(ROOT / name, folder / name)
        self._worker = subprocess.Popen(
            [sys.executable, "tests/mutations/worker.py"],
            cwd=folder, env=os.environ | {"OMP_NUM_THREADS": "1"}, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip

    def test(self, *selections: str) -> tuple[int, str]:
        """pytest's exit status and its words."""
        assert self._worker.stdin is not None and self._worker.stdout is not None
        print(json.dumps([*PYTEST, *selections]), file=self._worker.stdin, flush=True)
        status, said = json.loads(self._worker.stdout.readline())
        return status, said

    def close(self) -> None:
        self._worker.communicate()
        assert self._worker.returncode == 0


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Copy]:
    made = Copy(tmp_path_factory.mktemp("mutations"))
    yield made
    made.close()


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_the_table_is_up_to_date(mutation: Mutation) -> None:
    text = (ROOT / mutation.file).read_text(encoding="utf-8")
    assert text.count(mutation.text) == 1
    ast.parse(text.replace(mutation.text, mutation.instead))
    path, _, name = mutation.test.partition("::")
    assert re.search(rf"^def {name}\(", (ROOT / path).read_text(encoding="utf-8"), re.MULTILINE)


def test_the_table_is_long_enough_and_says_nothing_twice() -> None:
    assert len(MUTATIONS) >= 60
    assert len({mutation.name for mutation in MUTATIONS}) == len(MUTATIONS)
    assert all(mutation.text != mutation.instead for mutation in MUTATIONS)


@pytest.mark.slow
def test_the_tests_pass_on_the_tree_as_it_is(copy: Copy) -> None:
    """Else their failing would say nothing."""
    status, said = copy.test(*sorted({mutation.test for mutation in MUTATIONS}))
    assert status == PASSED, said


@pytest.mark.slow
@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_a_mutation_is_noticed(mutation: Mutation, copy: Copy) -> None:
    path = copy.folder / mutation.file
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace(mutation.text, mutation.instead), encoding="utf-8")
    try:
        status, said = copy.test(mutation.test)
    finally:
        path.write_text(text, encoding="utf-8")
    # Neither a tree that cannot be imported nor a test that is not there counts as noticing.
    assert status == FAILED, said
