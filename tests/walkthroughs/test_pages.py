"""Every page of docs/walkthroughs is walked as it stands: each command in a fresh copy of the project, each shown line
compared with what was printed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.walkthroughs.runner import ROOT, blocks_of, copy_project, walk

FOLDER = ROOT / "docs" / "walkthroughs"
INDEX = FOLDER / "index.md"
PAGES = sorted(path for path in FOLDER.glob("*.md") if path != INDEX)
CONDITIONS = frozenset({"llamacpp"})


def test_there_are_seven_walks_and_the_index_leads_to_each():
    assert len(PAGES) == 7
    index = INDEX.read_text(encoding="utf-8")
    assert [path.name for path in PAGES if f"]({path.name})" not in index] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_what_is_run_says_what_to_expect(page: Path):
    blocks = blocks_of(page.read_text(encoding="utf-8"))
    assert len(blocks) >= 4
    assert frozenset().union(*(block.conditions for block in blocks)) <= CONDITIONS
    assert sum(block.shown is not None for block in blocks) >= len(blocks) / 2


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_the_page_can_be_walked(page: Path, tmp_path: Path):
    done = walk(page, copy_project(tmp_path / "project"))
    assert done.failure is None, done.failure


@pytest.mark.llamacpp
def test_the_blocks_for_llama_cpp_can_be_walked_too(tmp_path: Path):
    pages = [page for page in PAGES if any(block.conditions for block in blocks_of(page.read_text(encoding="utf-8")))]
    assert [page.name for page in pages] == ["porting.md"]
    done = walk(pages[0], copy_project(tmp_path / "project"), conditions=CONDITIONS)
    assert done.failure is None, done.failure
