"""TSV data files as VLMEvalKit writes them, read row by row: memory holds one row and the places of all others.

    for row in read_rows(path, na="fixed"):          # TsvRow | BadRow, in file order
        row.key, row.cells["question"], row.cells.get("hint", ""), row.images, row.na_columns

What the reader decides (source: VLMEvalKit `smp/file.py` and `ImageBaseDataset`, which use pandas' defaults):
- Tab separated; quoted cells may hold tabs, line ends and doubled quotes; blank lines do not count; UTF-8, a BOM is
  dropped. Every cell stays text, so `04` is not 4.
- A missing cell is the empty string. `na="vlmevalkit"` also empties every cell whose text is one of `NA_WORDS`, which
  is what pandas did to an option "None"; `na="fixed"` keeps them. `na_columns` names them under both.
- `image`: a text of 1 to 64 characters is the `index` of another row whose image is used, one hop only; `[...]` is a
  list of base64 texts; anything else is one base64 text. It never stands in `cells`.
- Without an `image` column `image_path` names files, absolute or below `image_root`: one, or a list literal.
- With `skip_imageless` (VLMEvalKit's default) a row without image comes out as a `BadRow` with the code `IMAGELESS`,
  which is a rule of the data set and no defect.
- A record with too many or too few cells, an empty or repeated index, a reference that leads nowhere: a `BadRow`.

Raises E703 not UTF-8, E704 a quote that is never closed, E705 the header is not usable, E716 cannot be read.
The file refuses to know benchmarks, and never decodes an image: `image_bytes` gives the encoded file.
"""

from __future__ import annotations

import ast
import base64
import binascii
import csv
import hashlib
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Literal

from xverse_v.errors import error

from .contract import BadRow, ImageRef

NaPolicy = Literal["fixed", "vlmevalkit"]
NA_WORDS = frozenset(
    {"#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>"}
    | {"N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null"}
)
IMAGELESS = "E714"
LONGEST_REFERENCE = 64  # characters; VLMEvalKit takes a longer text for an image
LARGEST_RECORD = 512 * 2**20  # bytes; more is an open quote, not a row


@dataclass(frozen=True)
class TsvRow:
    """One record. `key` is its index; `line` the line of the file, from 1, where it begins."""

    key: str
    line: int
    cells: Mapping[str, str]
    images: tuple[ImageRef, ...]
    na_columns: tuple[str, ...] = ()


@dataclass
class _Places:
    """Where the images of a file are: index -> references for each record that holds one itself, or what is wrong."""

    columns: tuple[str, ...] = ()
    images: dict[str, tuple[ImageRef, ...] | str] = field(default_factory=dict)
    references: set[str] = field(default_factory=set)


def bad_row(key: str, line: int, code: str, /, **facts: object) -> BadRow:
    """A `BadRow` with the English text of `code`: what stands in result files must not depend on who ran it."""
    return BadRow(key, line, code, error(code, **{"key": key, "line": line, **facts}).parts("en")["fact"])


def read_rows(
    path: Path, *, na: NaPolicy = "fixed", image_root: Path | None = None, skip_imageless: bool = True
) -> Iterator[TsvRow | BadRow]:
    """Every record of `path` in order. Reads the file twice: once for the places of its images, once for its rows."""
    places = _scan(path)
    seen: set[str] = set()
    for line, _, cells in _records(path):
        if len(cells) != len(places.columns):
            yield bad_row("", line, "E710", got=len(cells), expected=len(places.columns))
            continue
        record = dict(zip(places.columns, cells, strict=True))
        key = record["index"].strip()
        if not key or _same(key) in seen:
            yield bad_row(key, line, "E712" if key else "E711")
            continue
        seen.add(_same(key))
        image = record.pop("image", "")
        found: tuple[ImageRef, ...] | BadRow
        if "image" in places.columns:
            found = _images_in(image, key, line, places)
        else:
            found = _images_named(record.get("image_path", ""), key, line, image_root)
        if isinstance(found, BadRow):
            yield found
        elif not found and skip_imageless:
            yield bad_row(key, line, IMAGELESS)
        else:
            words = tuple(name for name, text in record.items() if text in NA_WORDS)
            if na == "vlmevalkit":
                record |= dict.fromkeys(words, "")
            yield TsvRow(key, line, record, found, words)


def columns_of(path: Path) -> tuple[str, ...]:
    """The header's names, in order."""
    for _, _, cells in _records(path, header=True):
        return tuple(cells)
    raise error("E705", path=path, problem="the file is empty", problem_zh="文件为空")


def image_bytes(ref: ImageRef) -> bytes:
    """The encoded image file behind a reference. Raises E715 (not base64), E716 (cannot be read)."""
    if ref.data is not None:
        return ref.data
    if ref.path is None:
        raise ValueError("an image reference needs data or a path")
    if ref.offset < 0:
        try:
            return ref.path.read_bytes()
        except OSError as reason:
            raise error("E716", path=ref.path, reason=reason.strerror or str(reason)) from reason
    columns = columns_of(ref.path)
    with ref.path.open("rb") as file:
        file.seek(ref.offset)
        cells = next(iter(_parse(file, ref.path, line=0)))[2]
    text = _listed(cells[columns.index("image")])[ref.place]
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError) as reason:
        raise error("E715", characters=len(text), reason=str(reason)) from reason


def _scan(path: Path) -> _Places:
    """One pass: which records hold images themselves. Refuses a header that cannot be used."""
    places = _Places(columns_of(path))
    repeated = sorted({name for name in places.columns if places.columns.count(name) > 1})
    if repeated:
        raise error("E705", path=path, problem=f"repeated: {', '.join(repeated)}", problem_zh="列名重复")
    if "index" not in places.columns:
        shown = ", ".join(places.columns)[:200]
        raise error("E705", path=path, problem=f"no column index among: {shown}", problem_zh=f"缺少 index 列：{shown}")
    if "image" not in places.columns:
        return places
    at_index, at_image = places.columns.index("index"), places.columns.index("image")
    for _, offset, cells in _records(path):
        if len(cells) != len(places.columns):
            continue
        key, image = _same(cells[at_index]), cells[at_image]
        if len(image) > LONGEST_REFERENCE:
            places.images.setdefault(key, _references(image, path, offset))
        elif image:
            places.references.add(key)
    return places


def _same(index: str) -> str:
    """`007` and `7` are one index to a reader that takes numbers for numbers."""
    text = index.strip()
    return str(int(text)) if text.isascii() and text.isdigit() else text


def _images_in(image: str, key: str, line: int, places: _Places) -> tuple[ImageRef, ...] | BadRow:
    if not image or image in NA_WORDS:
        return ()
    at = _same(key if len(image) > LONGEST_REFERENCE else image)
    found = places.images.get(at)
    if found is None:
        chained = at in places.references
        found = f'index "{image}" is itself a reference' if chained else f'there is no image at index "{image}"'
    return found if isinstance(found, tuple) else bad_row(key, line, "E713", problem=found)


def _references(image: str, path: Path, offset: int) -> tuple[ImageRef, ...] | str:
    digest = hashlib.blake2b(image.encode(), digest_size=16).hexdigest()
    try:
        count = len(_listed(image))
    except (ValueError, SyntaxError, MemoryError, RecursionError) as reason:
        return f"a list that cannot be read: {reason}"[:200]
    return tuple(ImageRef(None, path, offset, place, f"{digest}.{place}") for place in range(count))


def _images_named(names: str, key: str, line: int, root: Path | None) -> tuple[ImageRef, ...] | BadRow:
    if not names:
        return ()
    try:
        listed = _listed(names)
    except (ValueError, SyntaxError) as reason:
        return bad_row(key, line, "E713", problem=f"a list that cannot be read: {reason}"[:200])
    paths = [(root / name if root else Path(name)).expanduser() for name in listed]
    return tuple(ImageRef(path=path, digest=str(path)) for path in paths)


def _listed(text: str) -> list[str]:
    """A cell that may hold a list literal; never evaluated as code."""
    if text.startswith("[") and text.endswith("]"):
        value = ast.literal_eval(text)
        if not isinstance(value, list):
            raise ValueError("not a list")
        return [str(part) for part in value]
    return [text]


def _records(path: Path, *, header: bool = False) -> Iterator[tuple[int, int, list[str]]]:
    """(line, byte offset, cells) of each record behind the header, or of the header too."""
    try:
        file = path.open("rb")
    except OSError as reason:
        raise error("E716", path=path, reason=reason.strerror or str(reason)) from reason
    with file:
        records = _parse(file, path, line=1)
        if not header:
            next(records, None)
        yield from records


def _parse(file: BinaryIO, path: Path, *, line: int) -> Iterator[tuple[int, int, list[str]]]:
    """Records from where `file` stands. csv takes exactly the lines a record needs, so its place is known."""
    csv.field_size_limit(sys.maxsize)  # 131,072 by default, which no image fits in
    lines = _Lines(file, path, line)
    reader = csv.reader(lines, delimiter="\t")
    while True:
        lines.begin()
        first, offset = lines.line, lines.offset
        try:
            cells = next(reader, None)
        except csv.Error as reason:
            raise error(
                "E705", path=path, problem=f"line {first}: {reason}", problem_zh=f"第 {first} 行：{reason}"
            ) from None
        if cells is None:
            return
        if lines.wanted_more:
            raise error("E704", path=path, line=first)
        if cells:
            yield first, offset, cells


class _Lines:
    """The lines of a file as csv wants them, and where the next one begins."""

    def __init__(self, file: BinaryIO, path: Path, line: int) -> None:
        self.path, self.line, self.offset = path, line, file.tell()
        self.wanted_more = False
        self._file = file
        self._halves: list[bytes] = []
        self._taken = 0

    def begin(self) -> None:
        self._taken = 0

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        raw = self._halves.pop() if self._halves else self._file.readline(LARGEST_RECORD + 1)
        if not raw:
            self.wanted_more = self._taken > 0
            raise StopIteration
        at = raw.find(b"\r")
        if 0 <= at < len(raw) - 1 and raw[at + 1 : at + 2] != b"\n":  # a lone CR ends a line as well
            self._halves.append(raw[at + 1 :])
            raw = raw[: at + 1]
        self._taken += len(raw)
        if self._taken > LARGEST_RECORD:
            raise error("E704", path=self.path, line=self.line)
        try:
            text = raw.decode("utf-8-sig" if self.offset == 0 else "utf-8")
        except UnicodeDecodeError as reason:
            raise error("E703", path=self.path, line=self.line, byte=self.offset + reason.start) from reason
        self.line += 1
        self.offset += len(raw)
        return text
