"""Every link of every page leads somewhere, every test that a page names is there, and the site lists every page."""

from __future__ import annotations

import re

import pytest
import yaml

from docs.site_hooks import site_link, site_places
from tests.docs.pages import PAGES, ROOT, anchors, inline_code, links, text_of

NAMES = [pytest.param(path, id=path.relative_to(ROOT).as_posix()) for path in PAGES]
ALL_TESTS = {path: text_of(path) for path in (ROOT / "tests").rglob("*.py")}
TEST_NAMES = set(re.findall(r"def (test_\w+)", "\n".join(ALL_TESTS.values())))


def test_there_are_pages():
    assert len(PAGES) > 25


@pytest.mark.parametrize("page", NAMES)
def test_links_lead_somewhere(page):
    for _, target in links(text_of(page)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), f"{target} is not there"
        assert there.is_relative_to(ROOT), f"{target} leaves the repository"
        if anchor:
            assert anchor in anchors(text_of(there)), f"{target}: no such heading"


@pytest.mark.parametrize("page", NAMES)
def test_what_a_page_names_as_proof_exists(page):
    for code in inline_code(text_of(page)):
        if re.fullmatch(r"test_\w+", code):
            assert code in TEST_NAMES, f"there is no test {code}"
        elif re.fullmatch(r"tests/[\w/.]+", code):
            assert (ROOT / code).exists(), f"there is no {code}"


@pytest.mark.parametrize("page", NAMES)
def test_links_of_the_site_lead_to_pages_of_the_site(page):
    source = page.relative_to(ROOT).as_posix()
    places = site_places()
    if not source.startswith("docs/") and source not in places:
        return  # not part of the site
    published = set(places.values()) | {
        path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*") if path.suffix != ".py"
    }
    here = places.get(source, source.removeprefix("docs/"))
    for _, target in links(text_of(page)):
        path = target.partition("#")[0]
        if path and not re.match(r"[a-z]+:", path):
            found = (ROOT / "docs" / here).parent.joinpath(site_link(path, source)).resolve()
            place = found.relative_to(ROOT / "docs").as_posix()
            assert place in published, f"{target} is not part of the site"


class _Loader(yaml.SafeLoader):
    """Reads mkdocs.yml without making the one Python object it names."""


_Loader.add_multi_constructor("tag:yaml.org,2002:python/", lambda loader, suffix, node: None)


def test_the_site_lists_every_page_once():
    def listed(item):
        if isinstance(item, str):
            return [item]
        return [page for each in (item.values() if isinstance(item, dict) else item) for page in listed(each)]

    configuration = yaml.load(text_of(ROOT / "mkdocs.yml"), Loader=_Loader)
    names = listed(configuration["nav"])
    pages = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    pages |= {place for place in site_places().values() if place.endswith(".md")}
    assert sorted(names) == sorted(pages), "mkdocs.yml's nav has to list each page of docs/ once"


@pytest.mark.parametrize(
    ("target", "source", "expected"),
    [
        ("docs/ask.md", "README.md", "ask.md"),
        ("README_zh.md", "README.md", "index_zh.md"),
        ("../SECURITY.md", "docs/security.md", "reporting.md"),
        ("../plan.md", "docs/speed/index.md", "../plan.md"),
        ("../xverse_v/nano/weights/README.md", "docs/nano.md", "nano-card.md"),
        ("examples/images/bars.png", "README.md", "examples/images/bars.png"),
        ("https://example.com/a.md", "README.md", "https://example.com/a.md"),
        ("setup.py", "README.md", "setup.py"),
    ],
)
def test_links_are_turned_for_the_site(target, source, expected):
    assert site_link(target, source) == expected
