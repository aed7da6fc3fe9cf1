"""A benchmark to look for in training data: its images by their pixels, its questions by their words.

What crosses: a TSV (columns `question`, and `image` in base64 or `image_path`), a JSON list or JSON lines in; a
`Benchmark` that says what of a sample it holds out. Kept in memory: 16 bytes an image and the questions, so tens of
megabytes for the largest benchmarks in use.
"""

from __future__ import annotations

import base64
import binascii
import csv
import hashlib
import sys
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from xverse_v.errors import XverseError, error
from xverse_v.media import open_image

from .check_image import pixel_key
from .formats import Origin, detect, parse
from .sample import text_of
from .scanner import container_of, scan

_IMAGE_COLUMNS, _PATH_COLUMNS = ("image",), ("image_path", "image", "img", "path")
_QUESTION_COLUMNS, _ID_COLUMNS = ("question", "prompt", "query"), ("index", "id", "question_id", "questionId")


@dataclass
class Benchmark:
    """`images`: pixel key -> (item, question hashes of that image). `questions`: hash -> item, of rows without an image
    that can be read. `unreadable`: rows whose image could not be opened."""

    name: str
    rows: int = 0
    unreadable: int = 0
    images: dict[bytes, tuple[str, set[bytes]]] = field(default_factory=dict)
    questions: dict[bytes, str] = field(default_factory=dict)

    def find(self, image_keys: Sequence[bytes], questions: Sequence[str]) -> tuple[str, dict[str, Any]] | None:
        """The worst of D604 (image and question), D603 (image), D605 (question of a row without an image), or None."""
        asked = {question_key(question) for question in questions}
        held = [self.images[key] for key in image_keys if key in self.images]
        for item, known in held:
            if asked & known:
                return "D604", {"benchmark": self.name, "item": item}
        if held:
            return "D603", {"benchmark": self.name, "item": held[0][0]}
        for key in asked & self.questions.keys():
            return "D605", {"benchmark": self.name, "item": self.questions[key]}
        return None


def question_key(question: str) -> bytes:
    """8 bytes of the words alone: case, spaces, punctuation and full-width forms do not count."""
    words = "".join(c for c in unicodedata.normalize("NFKC", question).casefold() if c.isalnum())
    return hashlib.blake2b(words.encode("utf-8", "replace"), digest_size=8).digest()


def read_benchmark(path: Path, image_root: Path | None = None) -> Benchmark:
    """Reads a benchmark. Raises E200 if it is not there and E217 if nothing in it can be compared."""
    if not path.is_file():
        raise error("E200", path=path)
    benchmark = Benchmark(path.name)
    root = image_root or path.parent
    for number, (item, images, questions) in enumerate(_items(path, root), 1):
        benchmark.rows = number
        keys = [key for image in images if (key := _key(image, root))]
        hashes = {question_key(question) for question in questions if question}
        for key in keys:
            benchmark.images.setdefault(key, (item, set()))[1].update(hashes)
        if not keys:
            benchmark.unreadable += bool(images)
            benchmark.questions.update(dict.fromkeys(hashes, item))
    if not benchmark.images and not benchmark.questions:
        facts = {"reason": f"{benchmark.rows} rows, none with an image or a question"}
        raise error("E217", path=path, reason_zh=f"{benchmark.rows} 行，均无图像或问题", **facts)
    return benchmark


def _key(image: str | bytes, root: Path) -> bytes | None:
    try:
        return pixel_key(open_image(image, root=root))
    except XverseError:
        return None


_Item = tuple[str, list[str | bytes], list[str]]


def _items(path: Path, root: Path) -> Iterator[_Item]:
    container = container_of(path)
    if container is None:
        yield from _tsv_items(path)
        return
    for row in scan(path, container, strict=False):
        format = detect(row.value)
        if format in ("llava", "sharegpt", "messages"):
            sample = parse(row.value, format, Origin(path.name, row.line, root), lambda code, **facts: None)
            if sample:
                asked = [text_of(message) for message in sample.messages if message["role"] == "user"]
                yield sample.id, [image.source for image in sample.images], asked
        elif isinstance(row.value, dict):
            yield _plain_item(row.value, row.line)


def _tsv_items(path: Path) -> Iterator[_Item]:
    csv.field_size_limit(min(sys.maxsize, 1 << 30))  # an image in base64 is one field
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        reader = csv.DictReader(file, delimiter="\t")
        for number, row in enumerate(reader, 1):
            yield _plain_item(row, number)


def _plain_item(row: Mapping[str, Any], number: int) -> _Item:
    item = next((str(row[name]) for name in _ID_COLUMNS if row.get(name) not in (None, "")), str(number))
    questions = [str(row[name]) for name in _QUESTION_COLUMNS if row.get(name)]
    for name in _IMAGE_COLUMNS:
        if data := _from_base64(row.get(name)):
            return item, [data], questions
    path = next((row[name] for name in _PATH_COLUMNS if isinstance(row.get(name), str) and row[name]), None)
    return item, [path] if path else [], questions


def _from_base64(text: Any) -> bytes | None:
    if not isinstance(text, str) or len(text) < 64:  # shorter than the smallest image; VLMEvalKit puts an index there
        return None
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
