"""Reading tensors out of weight files, safetensors or pickled, without ever running what a pickle asks for.

What crosses: a path in; names, shapes, dtypes and memory-mapped tensors out. Pickled files are opened with
`weights_only=True` and `mmap=True` and nothing else: a file that needs more is refused, there is no fallback. The
format comes from the first bytes, never from the file's name. This file knows no model and no key names.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import safe_open

from xverse_v.errors import error

from .pickled import load_pickle

Format = Literal["safetensors", "pickle"]

# What a folder's weights may be called, in the order the ecosystem reads them.
_INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
_SINGLE = ("model.safetensors", "pytorch_model.bin")

# The codes of a safetensors header, in torch's words.
DTYPES: Mapping[str, str] = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U8": "uint8",
    "BOOL": "bool",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
}
_EXAMPLES = 3
_HELD_BYTES = 64 * 2**20
_HEADER_LIMIT = 100_000_000  # bytes; the largest header that the safetensors library accepts itself


@dataclass(frozen=True)
class TensorInfo:
    """Shape and torch dtype name of a stored tensor."""

    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class PartFile:
    """One weight file: what it holds, read from its header. `other` names what it holds besides tensors."""

    path: Path
    format: Format
    bytes: int
    tensors: Mapping[str, TensorInfo]
    other: tuple[str, ...] = field(default=())


def weight_files(folder: Path) -> list[Path]:
    """The weight files of a folder, safetensors before pickled, an index before a single file.

    Raises E300 (no such folder), E319 (no weights in it, or an index that names a file that is not there).
    """
    if not folder.is_dir():
        raise error("E300", path=folder)
    for name in _INDEXES:
        index = folder / name
        if index.is_file():
            return _indexed(index)
    for name in _SINGLE:
        if (folder / name).is_file():
            return [folder / name]
    raise error("E319", folder=folder, missing=" / ".join((*_INDEXES, *_SINGLE)))


def _indexed(index: Path) -> list[Path]:
    names = read_json(index).get("weight_map")
    if not isinstance(names, dict) or not all(isinstance(name, str) for name in names.values()):
        raise error("E317", path=index, problem="no weight_map")
    files = []
    for name in sorted(set(names.values())):
        if Path(name).name != name:
            raise error("E317", path=index, problem=f"{name!r} is not a plain file name")
        if not (index.parent / name).is_file():
            raise error("E319", folder=index.parent, missing=name)
        files.append(index.parent / name)
    return files


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object. Raises E300 if there is no such file, E317 if it is not JSON or not an object."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise error("E300", path=path) from None
    except (json.JSONDecodeError, UnicodeDecodeError) as problem:
        raise error("E317", path=path, problem=problem) from None
    if not isinstance(document, dict):
        raise error("E317", path=path, problem=f"a {type(document).__name__}, not an object")
    return document


def file_format(path: Path) -> Format:
    """From the first bytes. Raises E300, E306 (empty or cut), E342 (torch before 1.6), E343 (something else)."""
    if not path.is_file():
        raise error("E300", path=path)
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(64)
    if head.startswith(b"PK\x03\x04"):
        return "pickle"
    if head.startswith(b"version https://git-lfs"):
        raise error("E306", path=path, size=size, problem="it is a Git LFS pointer, not the file it stands for")
    if len(head) < 9:
        raise error("E306", path=path, size=size, problem="it is shorter than any header")
    if head[8:9] == b"{":
        return "safetensors"
    if head[0:1] == b"\x80":
        raise error("E342", path=path)
    raise error("E343", path=path, head=head[:8].hex(" "))


def read_header(path: Path) -> PartFile:
    """Names, shapes and dtypes of one file; tensor data is not touched. Raises E300, E306, E341, E342, E343."""
    if file_format(path) == "safetensors":
        return PartFile(path, "safetensors", path.stat().st_size, safetensors_header(path))
    state, other = load_pickle(path)
    tensors = {name: TensorInfo(tuple(t.shape), str(t.dtype).removeprefix("torch.")) for name, t in state.items()}
    return PartFile(path, "pickle", path.stat().st_size, tensors, other)


def read_part(folder: Path) -> list[PartFile]:
    """Headers of all weight files of a folder. Raises E312 if a name is stored twice, and what `read_header` raises."""
    files = [read_header(path) for path in weight_files(folder)]
    first_seen: dict[str, Path] = {}
    for file in files:
        for name in file.tensors:
            if name in first_seen:
                raise error("E312", name=name, first=first_seen[name].name, second=file.path.name, folder=folder)
            first_seen[name] = file.path
    return files


def safetensors_header(path: Path) -> dict[str, TensorInfo]:
    """A safetensors header, checked against the file's size. Raises E306 (bytes missing), E343 (malformed)."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > _HEADER_LIMIT:
            raise error("E343", path=path, head=f"header of {length} bytes")
        raw = file.read(length)
    if len(raw) < length:
        raise error("E306", path=path, size=size, problem=f"its header alone needs {length + 8} bytes")
    try:
        entries = json.loads(raw)
        entries.pop("__metadata__", None)
        tensors = {
            name: TensorInfo(tuple(entry["shape"]), DTYPES.get(entry["dtype"], entry["dtype"]))
            for name, entry in entries.items()
        }
        end = max((entry["data_offsets"][1] for entry in entries.values()), default=0)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as problem:
        raise error("E343", path=path, head=f"header: {problem}") from None
    if size != 8 + length + end:
        raise error("E306", path=path, size=size, problem=f"its header promises {8 + length + end} bytes")
    return tensors


@contextmanager
def open_tensors(part: PartFile) -> Iterator[Mapping[str, torch.Tensor]]:
    """The tensors of one file, memory-mapped: reading one costs the pages it touches. All are invalid afterwards."""
    if part.format == "pickle":
        state, _ = load_pickle(part.path)
        yield state
        state.clear()
        return
    with safe_open(part.path, framework="pt") as file:
        yield _Lazy(file, part.tensors)


class _Lazy(Mapping[str, torch.Tensor]):
    """A safetensors file as a mapping whose values are read when asked for."""

    def __init__(self, file: Any, names: Mapping[str, TensorInfo]) -> None:
        self._file, self._names = file, names

    def __getitem__(self, name: str) -> torch.Tensor:
        if name not in self._names:
            raise KeyError(name)
        tensor: torch.Tensor = self._file.get_tensor(name)
        return tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


class OpenFiles:
    """Tensors of many files, one file of each `kind` open at a time. A context.

    Pages of a mapped file count as memory until the mapping ends, so a file is opened anew after every 64 MB that were
    read from it: what is held is that much, not the file.
    """

    def __init__(self) -> None:
        self._open: dict[str, tuple[PartFile, ExitStack, Mapping[str, torch.Tensor]]] = {}
        self._last: dict[str, str] = {}
        self._read: dict[str, int] = {}

    def __enter__(self) -> OpenFiles:
        return self

    def __exit__(self, *_: object) -> None:
        for kind in list(self._open):
            self._close(kind)

    def read(self, kind: str, part: PartFile, name: str) -> torch.Tensor:
        """One tensor, memory-mapped; its pages are let go soon after the caller does."""
        if kind in self._open and (self._open[kind][0] is not part or self._read[kind] > _HELD_BYTES):
            self._close(kind)
        if kind not in self._open:
            stack = ExitStack()
            self._open[kind] = (part, stack, stack.enter_context(open_tensors(part)))
            self._read[kind], self._last[kind] = 0, ""
        tensor = self._open[kind][2][name]
        if name != self._last[kind]:  # block after block of one tensor is one reading of it
            self._read[kind] += tensor.numel() * tensor.element_size()
            self._last[kind] = name
        return tensor

    def _close(self, kind: str) -> None:
        self._open.pop(kind)[1].close()


def few(names: list[str]) -> str:
    """At most three names and how many more there are; "-" for none."""
    if not names:
        return "-"
    rest = len(names) - _EXAMPLES
    return ", ".join(names[:_EXAMPLES]) + (f", … (+{rest})" if rest > 0 else "")
