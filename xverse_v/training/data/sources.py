"""Random access to samples on disk: JSON arrays, JSON lines and tar shards; parquet.py has the fourth kind.

What crosses: a `SourceConfig` in, an object with `len` and `sample(i)` out. Memory does not grow with the number of
samples: places are in a memory-mapped index (index.py) and a sample is read when it is asked for. What a file is
follows from its content. A row that cannot be read raises; what a sample means for a model is not known here.
"""

from __future__ import annotations

import glob
import itertools
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

from xverse_v.errors import error

from .config import Format, SourceConfig
from .findings import refuse, refusing
from .formats import Origin, RecordFormat, detect, parse
from .index import open_index
from .sample import Sample
from .scanner import BOM, Container, container_of, decode_row, scan
from .tar import BLOCK, TarDamaged, is_tar, read_members, samples
from .tar_record import tar_record

Kind = Literal["array", "lines", "webdataset", "parquet"]

_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
_PARQUET = b"PAR1"


class Source(Protocol):
    """Random access to the samples of one entry of `DataConfig.sources`."""

    name: str

    def __len__(self) -> int: ...

    def sample(self, index: int) -> Sample:
        """Sample 0 <= index < len. Raises E203 if its row cannot be trained on."""
        ...


def open_source(config: SourceConfig, cache: Path, questions: Sequence[str] = ("",)) -> Source:
    """The samples of one entry; `cache` is the folder for indexes. Raises E200, E204 to E209."""
    files = files_of(config.path)
    kind = kind_of(files[0])
    format = record_format(files[0], kind, config.format)
    root = config.image_root or files[0].parent
    source: Source
    if kind == "parquet":
        from .parquet import ParquetSource

        source = ParquetSource(files, format, root, tuple(questions))
    elif kind == "webdataset":
        source = TarSource(files, format, root, cache, tuple(questions))
    else:
        assert kind is not None
        source = JsonSource(files[0], kind, format, root, cache, tuple(questions))
    if not len(source):
        raise error("E206", path=config.path)
    return source


def files_of(path: Path) -> list[Path]:
    """The file itself, the files of a folder, or those of a pattern ("shard-{000..117}.tar", "*.tar"), sorted."""
    text = str(path)
    if path.is_dir():
        found = sorted(p for p in path.iterdir() if p.is_file() and not p.name.startswith("."))
        found = [p for p in found if kind_of(p, strict=False) in ("webdataset", "parquet")]
    elif path.is_file():
        found = [path]
    else:
        found = [Path(p) for one in _expand(text) for p in (sorted(glob.glob(one)) if glob.has_magic(one) else [one])]
        if missing := [p for p in found if not p.is_file()]:
            raise error("E200", path=missing[0])
    if not found:
        raise error("E200", path=path)
    return found


def _expand(text: str) -> list[str]:
    """ "a{08..10}" -> a08, a09, a10; the number of digits stays."""
    pieces = _RANGE.split(text)
    choices = [[piece] for piece in pieces[:1]]
    for first, last, rest in zip(pieces[1::3], pieces[2::3], pieces[3::3], strict=True):
        choices += [[f"{n:0{len(first)}d}" for n in range(int(first), int(last) + 1)], [rest]]
    return ["".join(chosen) for chosen in itertools.product(*choices)]


def kind_of(path: Path, *, strict: bool = True) -> Kind | None:
    """What a file is, from its first bytes. Raises E204 if it is none of the known kinds (`strict`)."""
    with path.open("rb") as file:
        head = file.read(BLOCK)
    if head[:4] == _PARQUET:
        return "parquet"
    if is_tar(head):
        return "webdataset"
    container = container_of(path)
    if container is None and strict:
        raise error("E204", path=path, head=head.removeprefix(BOM)[:20].decode("utf-8", "replace"))
    return container


def record_format(path: Path, kind: Kind | None, wanted: Format) -> RecordFormat | None:
    """The format of the records: as named, else as the first record shows; None for tars and parquet, where each
    sample shows its own. Raises E205 if the container is another than the named format's, E204 if nothing fits."""
    if kind in ("webdataset", "parquet"):
        if wanted not in ("auto-by-content", kind):
            raise error("E205", path=path, wanted=wanted, found=kind)
        return None
    if wanted in ("webdataset", "parquet"):
        raise error("E205", path=path, wanted=wanted, found="JSON")
    if wanted != "auto-by-content":
        return wanted  # type: ignore[return-value]
    assert kind in ("array", "lines")
    for row in itertools.islice(scan(path, kind, strict=False), 100):  # a few broken rows may stand first
        if found := detect(row.value):
            return found
    raise error("E204", path=path, head=_first_text(path))


def _first_text(path: Path) -> str:
    with path.open("rb") as file:
        return " ".join(file.read(60).decode("utf-8", "replace").split())


class _Files:
    """Open files by number, opened when first read and never sent to another process."""

    def __init__(self, paths: Sequence[Path], keep: int = 64) -> None:
        self.paths = tuple(paths)
        self._keep = keep
        self._open: dict[int, int] = {}

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_open": {}}

    def __del__(self) -> None:
        for handle in getattr(self, "_open", {}).values():
            os.close(handle)

    def read(self, number: int, offset: int, size: int) -> bytes:
        handle = self._open.get(number)
        if handle is None:
            if len(self._open) >= self._keep:
                os.close(self._open.pop(next(iter(self._open))))
            handle = self._open[number] = os.open(self.paths[number], os.O_RDONLY)
        # pread has no position of its own, so workers that inherited the handle do not disturb each other.
        return os.pread(handle, size, offset)


class JsonSource:
    """Rows of a JSON array or of JSON lines."""

    def __init__(
        self,
        path: Path,
        container: Container,
        format: RecordFormat | None,
        root: Path,
        cache: Path,
        questions: tuple[str, ...] = ("",),
    ) -> None:
        self.name = path.name
        self._files = _Files([path])
        self._format, self._root, self._questions = format, root, questions
        self._rows = open_index(cache, f"json-{container}", [path], lambda: _json_places(path, container))

    def __len__(self) -> int:
        return len(self._rows)

    def sample(self, index: int) -> Sample:
        row = self._rows[index]
        origin = Origin(self.name, int(row["extra"]), self._root, questions=self._questions)
        value, _ = decode_row(self._files.read(0, int(row["offset"]), int(row["size"])))
        format = self._format or detect(value) or "llava"
        sample = parse(value, format, origin, refusing(origin))
        assert sample is not None  # an error was raised instead
        return sample


def _json_places(path: Path, container: Container) -> Iterator[tuple[int, int, int]]:
    for row in scan(path, container, strict=False):
        if row.problem == "D104":
            continue  # a blank line is not a row
        if row.problem:
            refuse(Origin(path.name, row.line), row.problem, row.facts)
        yield row.offset, row.size, row.line


class TarSource:
    """Samples of tar shards."""

    def __init__(
        self,
        shards: Sequence[Path],
        format: RecordFormat | None,
        root: Path,
        cache: Path,
        questions: tuple[str, ...] = ("",),
    ) -> None:
        self.name = shards[0].name if len(shards) == 1 else f"{shards[0].parent.name}/{len(shards)} shards"
        self._files = _Files(shards)
        self._format, self._root, self._questions = format, root, questions
        self._rows = open_index(cache, "tar", shards, lambda: _tar_places(shards))

    def __len__(self) -> int:
        return len(self._rows)

    def sample(self, index: int) -> Sample:
        row = self._rows[index]
        shard = int(row["extra"])
        span = self._files.read(shard, int(row["offset"]), int(row["size"]) * BLOCK)
        members = read_members(span)
        name = self._files.paths[shard].name
        origin = Origin(self.name, index + 1, None, f"{name}:{members[0][0].key}", self._questions)
        report = refusing(origin)
        record = tar_record(members, report)
        assert record is not None
        sample = parse(record, self._format or detect(record) or "jsonl-pairs", origin, report)
        assert sample is not None
        return sample


def _tar_places(shards: Sequence[Path]) -> Iterator[tuple[int, int, int]]:
    for number, shard in enumerate(shards):
        try:
            with shard.open("rb") as file:
                for group in samples(file):
                    yield group[0].start, (group[-1].end - group[0].start) // BLOCK, number
        except TarDamaged as damage:
            raise error("E207", path=shard, offset=damage.offset, reason=str(damage)) from damage
