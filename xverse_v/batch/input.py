"""The questions: one JSON object a line, read twice, never held in memory together.

The first reading checks every line and keeps about 150 bytes of it: where it starts, its identity and its group. The
second fetches single rows. A line that cannot be used is a `BadLine` with its number and its reason in both languages.
The file refuses to know images (their names are only compared), models and settings.
"""

from __future__ import annotations

import hashlib
import json
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from xverse_v.errors import XverseError, error

FIELDS = ("id", "image", "images", "question", "system")
# Settings hold for a whole output file; in a line they would be ignored in silence, so they are refused.
SETTINGS = frozenset(
    {"model", "dtype", "device", "temperature", "top_p", "top_k", "repetition_penalty", "seed", "stop"}
)
SETTINGS |= {"logprobs", "max_new_tokens", "max_tiles", "detail"}
KEPT_PROBLEMS = 1000  # bad lines listed by number; beyond it they are only counted

_REASONS = {
    "utf8": ("is not UTF-8", "不是 UTF-8 编码"),
    "json": ("is not JSON ({detail})", "不是 JSON（{detail}）"),
    "object": ("is JSON but not an object", "是 JSON，但不是对象"),
    "surrogate": ("holds half of a surrogate pair, which is not text", "含有不成对的代理字符，不是合法文本"),
    "id": ('has no "id" that is text or a whole number', '缺少 "id"，或它不是文本或整数'),
    "duplicate": ("repeats the id of line {detail}", "与第 {detail} 行的 id 重复"),
    "question": ('has no "question", or it is empty', '缺少 "question"，或它为空'),
    "no_image": (
        'has neither "image" nor "images"; "images": [] asks without one',
        '既无 "image" 也无 "images"；不带图像请写 "images": []',
    ),
    "two_images": ('has both "image" and "images"', '同时有 "image" 和 "images"'),
    "image": ('has an "image" that is not text', '的 "image" 不是文本'),
    "images": ('has "images" that is not a list of texts', '的 "images" 不是由文本组成的列表'),
    "system": ('has a "system" that is not text', '的 "system" 不是文本'),
    "setting": ("carries settings ({detail}); give them on the command line", "带有设置（{detail}），请写在命令行上"),
}


class BadLine(ValueError):
    """A line that cannot be asked. `kind` is a stable name, `reason("en"|"zh")` a sentence without its subject."""

    def __init__(self, line: int, kind: str, detail: object = "") -> None:
        super().__init__(line, kind, detail)
        self.line, self.kind, self.detail = line, kind, detail

    def reason(self, language: str = "en") -> str:
        return _REASONS[self.kind][language == "zh"].format(detail=self.detail)

    def as_dict(self) -> dict[str, object]:
        return {"line": self.line, "kind": self.kind, "reason": self.reason()}


@dataclass(frozen=True)
class Row:
    """One question as it stands in the file. `line` counts from 1; `images` are names; who opens them resolves them."""

    line: int
    id: str | int
    images: tuple[str, ...]
    question: str
    system: str | None
    unused: tuple[str, ...] = ()

    @property
    def key(self) -> bytes:
        """16 bytes that stand for the id; 1 and "1" differ."""
        return _digest(self.id)[:16]

    @property
    def fingerprint(self) -> str:
        """12 hex digits over everything that is asked, so that a changed line is not taken for an answered one."""
        return _digest([self.images, self.question, self.system]).hex()[:12]

    @property
    def group(self) -> bytes:
        """16 bytes that rows about the same images, under the same system text, have in common."""
        return _digest([self.images, self.system])[:16]


def _digest(value: object) -> bytes:
    return hashlib.sha256(json.dumps(value, ensure_ascii=False).encode()).digest()


def parse_row(raw: bytes, line: int) -> Row:
    """Check one line. Raises `BadLine`."""
    try:
        text = raw.decode("utf-8-sig" if line == 1 else "utf-8")
        fields = json.loads(text)
    except UnicodeDecodeError:
        raise BadLine(line, "utf8") from None
    except (json.JSONDecodeError, RecursionError) as problem:
        raise BadLine(line, "json", getattr(problem, "msg", "nested too deeply")) from None
    if not isinstance(fields, dict):
        raise BadLine(line, "object")
    try:
        json.dumps(fields, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise BadLine(line, "surrogate") from None
    return _checked(fields, line)


def _checked(fields: Mapping[str, Any], line: int) -> Row:
    identity, question, system = fields.get("id"), fields.get("question"), fields.get("system")
    if not isinstance(identity, str | int) or isinstance(identity, bool) or identity == "":
        raise BadLine(line, "id")
    if not isinstance(question, str) or not question.strip():
        raise BadLine(line, "question")
    if system is not None and not isinstance(system, str):
        raise BadLine(line, "system")
    if settings := sorted(SETTINGS & fields.keys()):
        raise BadLine(line, "setting", ", ".join(settings))
    unused = tuple(name for name in fields if name not in FIELDS)
    return Row(line, identity, _images(fields, line), question, system, unused)


def _images(fields: Mapping[str, Any], line: int) -> tuple[str, ...]:
    if "image" in fields and "images" in fields:
        raise BadLine(line, "two_images")
    if "image" in fields:
        if not isinstance(fields["image"], str):
            raise BadLine(line, "image")
        return (fields["image"],)
    if "images" not in fields:
        raise BadLine(line, "no_image")
    images = fields["images"]
    if not isinstance(images, list) or not all(isinstance(image, str) for image in images):
        raise BadLine(line, "images")
    return tuple(images)


@dataclass
class InputIndex:
    """Where every usable line of `path` starts, which it is, and which lines are not usable.

    lines: lines that are not blank. bad: how many of them are not usable; `problems` lists the first 1000.
    unused: names of fields that mean nothing here, with the number of lines that carry them.
    """

    path: Path
    lines: int = 0
    bad: int = 0
    problems: list[BadLine] = field(default_factory=list)
    unused: Counter[str] = field(default_factory=Counter)
    _offsets: array[int] = field(default_factory=lambda: array("Q"))
    _numbers: array[int] = field(default_factory=lambda: array("Q"))
    _groups: array[int] = field(default_factory=lambda: array("Q"))
    _keys: dict[bytes, int] = field(default_factory=dict)
    _fingerprints: bytearray = field(default_factory=bytearray)

    def __len__(self) -> int:
        """Usable rows."""
        return len(self._offsets)

    @classmethod
    def scan(cls, path: Path) -> InputIndex:
        """Read and check the whole file once. Raises E820 when it cannot be read twice."""
        if path.exists() and not path.is_file():
            raise error("E820", path=path, reason="it is not a regular file", reason_zh="它不是普通文件")
        index = cls(path)
        groups: dict[bytes, int] = {}
        try:
            with path.open("rb") as file:
                offset = 0
                for number, raw in enumerate(file, start=1):
                    if raw.strip(b" \t\r\n\xef\xbb\xbf"):
                        index._add(raw, number, offset, groups)
                    offset += len(raw)
        except OSError as reason:
            said = reason.strerror or str(reason)
            raise error("E820", path=path, reason=said, reason_zh=said) from reason
        return index

    def _add(self, raw: bytes, number: int, offset: int, groups: dict[bytes, int]) -> None:
        self.lines += 1
        try:
            row = parse_row(raw, number)
            if row.key in self._keys:
                raise BadLine(number, "duplicate", self._numbers[self._keys[row.key]])
        except BadLine as problem:
            self.bad += 1
            if len(self.problems) < KEPT_PROBLEMS:
                self.problems.append(problem)
            return
        self.unused.update(row.unused)
        self._keys[row.key] = len(self._offsets)
        self._offsets.append(offset)
        self._numbers.append(number)
        self._groups.append(groups.setdefault(row.group, len(groups)))
        self._fingerprints += bytes.fromhex(row.fingerprint)

    def fingerprint(self, key: bytes) -> str | None:
        """What the row with this key asks, or None when the file has no such row."""
        place = self._keys.get(key)
        return None if place is None else self._fingerprints[6 * place : 6 * place + 6].hex()

    def rows(self, wanted: Callable[[bytes], bool]) -> Iterator[Row]:
        """The rows whose key is `wanted`, those about the same image next to each other, else in the order of the file.

        Raises E820 when the file was changed since the scan.
        """
        keys = list(self._keys)
        places = sorted((p for p, key in enumerate(keys) if wanted(key)), key=self._groups.__getitem__)
        with self.path.open("rb") as file:
            for place in places:
                file.seek(self._offsets[place])
                try:
                    row = parse_row(file.readline(), self._numbers[place])
                except BadLine:
                    row = None
                if row is None or row.key != keys[place] or row.fingerprint != self.fingerprint(row.key):
                    raise self._changed(self._numbers[place])
                yield row

    def _changed(self, line: int) -> XverseError:
        reason, reason_zh = f"line {line} changed during the run", f"第 {line} 行在运行期间被改动"
        return error("E820", path=self.path, reason=reason, reason_zh=reason_zh)
