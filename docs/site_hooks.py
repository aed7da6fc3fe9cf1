"""Hooks of the site: pages and files that live outside docs/, and links that lead to them.

What crosses: the site's list of files, and the Markdown of each page on its way in; out comes the same list with the
files of `PUBLISHED` and `PUBLISHED_FOLDERS` added, and Markdown whose links fit the site. A page is written once, with
links that work where it is read in the repository; this file alone knows where it stands in the site. Nothing is
fetched, and no text is changed but the targets of links.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).parent.parent
#: Files of the repository and their place in the site.
PUBLISHED = {
    "README.md": "index.md",
    "README_zh.md": "index_zh.md",
    "CHANGELOG.md": "changes.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "reporting.md",
    "CITATION.cff": "CITATION.cff",
    "LICENSE": "LICENSE",
    "xverse_v/nano/weights/README.md": "nano-card.md",
    "examples/questions.jsonl": "examples/questions.jsonl",
}
#: Folders of which all files of one kind are taken, at the same place.
PUBLISHED_FOLDERS = ("examples/*.py", "examples/images/*.png", "recipes/*.yaml", "recipes/nano/*.yaml")

_LINK = re.compile(r"(\]\()([^)\s#]+)((?:#[^)\s]*)?(?:\s+\"[^\"]*\")?\))")
_ELSEWHERE = re.compile(r"[a-z][a-z0-9+.-]*:", re.IGNORECASE)


def site_places() -> dict[str, str]:
    """Where each file of the repository that is published stands in the site, by its path in the repository."""
    places = dict(PUBLISHED)
    for pattern in PUBLISHED_FOLDERS:
        places |= {path.relative_to(ROOT).as_posix(): path.relative_to(ROOT).as_posix() for path in ROOT.glob(pattern)}
    return places


def site_link(target: str, source: str) -> str:
    """A link of the page ``source`` (its path in the repository) as it has to read in the site.

    A target that is not published comes back as it is, and the strict build then names it.
    """
    if _ELSEWHERE.match(target):
        return target
    places = site_places()
    path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
    place = places.get(path, path.removeprefix("docs/") if path.startswith("docs/") else None)
    if place is None:
        return target
    here = places.get(source, source.removeprefix("docs/"))
    return posixpath.relpath(place, posixpath.dirname(here) or ".")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Take in what lies outside docs/."""
    from mkdocs.structure.files import File

    for path, place in site_places().items():
        files.append(File.generated(config, place, abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn the links of a page into those of the site."""
    sources = {place: path for path, place in site_places().items()}
    source = sources.get(page.file.src_uri, f"docs/{page.file.src_uri}")
    return _LINK.sub(lambda link: link[1] + site_link(link[2], source) + link[3], markdown)
