"""Samples in parquet files: image-text pairs, conversations, or The Cauldron's question lists.

What crosses: paths in, random access to samples out; pyarrow is imported when the first file is opened (an extra:
`xverse-v[train]`). Row groups are the unit of reading and the last ones read are kept, so set `shuffle_window` to about
a row group's size: a full shuffle would read a whole group for each sample.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xverse_v.errors import error

from .findings import refusing
from .formats import Origin, RecordFormat, detect, parse
from .sample import Sample

_KEPT_GROUPS = 2
_CHECKED_AT_ONCE = 64  # rows that `rows` holds at a time


def pyarrow_parquet() -> Any:
    """The module `pyarrow.parquet`. Raises E208 if pyarrow is not installed."""
    try:
        import pyarrow.parquet as module  # type: ignore[import-not-found, unused-ignore]
    except ImportError as reason:
        raise error("E208") from reason
    return module


class ParquetSource:
    """Rows of parquet files. Row 0 of the first file is sample 0."""

    def __init__(
        self, files: Sequence[Path], format: RecordFormat | None, root: Path, questions: tuple[str, ...] = ("",)
    ) -> None:
        self.name = files[0].name if len(files) == 1 else f"{files[0].parent.name}/{len(files)} files"
        self._paths, self._format, self._root, self._questions = tuple(files), format, root, questions
        counts, owners = [], []
        for number, path in enumerate(files):
            meta = _open(path).metadata
            for group in range(meta.num_row_groups):
                counts.append(meta.row_group(group).num_rows)
                owners.append((number, group))
        self._ends = np.cumsum(np.asarray(counts, dtype=np.int64))
        self._owners = np.asarray(owners, dtype=np.int32).reshape(-1, 2)
        self._kept: OrderedDict[int, Any] = OrderedDict()
        self._open: dict[int, Any] = {}

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_kept": OrderedDict(), "_open": {}}

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def sample(self, index: int) -> Sample:
        group = int(np.searchsorted(self._ends, index, side="right"))
        table = self._group(group)
        start = int(self._ends[group]) - table.num_rows
        record = as_record(table.slice(index - start, 1).to_pylist()[0])
        origin = Origin(self.name, index + 1, self._root, questions=self._questions)
        sample = parse(record, self._format or detect(record) or "jsonl-pairs", origin, refusing(origin))
        assert sample is not None
        return sample

    def _group(self, group: int) -> Any:
        if group not in self._kept:
            number, inside = (int(value) for value in self._owners[group])
            if number not in self._open:
                self._open[number] = _open(self._paths[number])
            self._kept[group] = self._open[number].read_row_group(inside)
            while len(self._kept) > _KEPT_GROUPS:
                self._kept.popitem(last=False)
        self._kept.move_to_end(group)
        return self._kept[group]


def rows(path: Path) -> Iterator[dict[str, Any]]:
    """All rows of a file as records, a few in memory at a time."""
    for batch in _open(path).iter_batches(batch_size=_CHECKED_AT_ONCE):
        for row in batch.to_pylist():
            yield as_record(row)


def as_record(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row as formats.py knows records: empty columns left out, The Cauldron's `texts` as messages."""
    record = {key: value for key, value in row.items() if value is not None}
    texts = record.get("texts")
    if isinstance(texts, list) and texts and isinstance(texts[0], dict) and "user" in texts[0]:
        del record["texts"]
        images = record.get("images") or []
        first: list[dict[str, str]] = [{"type": "image"} for _ in images]
        record["messages"] = []
        for turn in texts:
            question = [*first, {"type": "text", "text": turn.get("user")}]
            record["messages"] += [{"role": "user", "content": question}]
            record["messages"] += [{"role": "assistant", "content": turn.get("assistant")}]
            first = []
    return record


def _open(path: Path) -> Any:
    module = pyarrow_parquet()
    try:
        return module.ParquetFile(path)
    except Exception as reason:  # pyarrow raises several kinds for a damaged file; each means the same to the user
        raise error("E209", path=path, reason=str(reason).splitlines()[0]) from reason
