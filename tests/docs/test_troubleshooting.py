"""The troubleshooting pages are what the catalogue says, in both languages."""

from __future__ import annotations

import re

import pytest

from docs.make_troubleshooting import PAGES, ROOMS, page
from tests.docs.pages import ROOT, text_of
from xverse_v.errors import catalogue


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_page_is_current(language):
    written = text_of(ROOT / "docs" / PAGES[language])
    assert written == page(language), "the catalogue has changed; run: python -m docs.make_troubleshooting"


@pytest.mark.parametrize("language", ["en", "zh"])
def test_every_code_has_its_heading_once(language):
    codes = re.findall(r"^### (E\d{3})$", page(language), re.MULTILINE)
    assert sorted(codes) == list(catalogue())


def test_the_rooms_are_named_in_both_languages():
    from importlib.resources import files

    rooms = {path.name.removesuffix(".toml") for path in files("xverse_v").joinpath("catalogue").iterdir()}
    assert rooms - {"__pycache__"} <= set(ROOMS), "name the room in docs/make_troubleshooting.py"


def test_signs_and_places_for_facts_read_as_they_are(monkeypatch):
    entry = {"fact": "{bytes:,} of *.{host_zh} <x>", "cause": "a `b` _c_", "next": "[d] {{e}}"}
    monkeypatch.setattr(
        "docs.make_troubleshooting.entries_by_room",
        lambda: {"cli": {"E999": {"name": "made_up", "en": entry, "zh": entry}}},
    )
    told = page("en")
    assert r"**{bytes} of \*.{host} &lt;x>**" in told
    assert r"a \`b\` \_c\_" in told
    assert r"\[d\] {e}" in told
