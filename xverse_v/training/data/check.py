"""`data check`: one pass over data that says everything that is wrong with it, before a GPU is paid for.

What crosses: paths and `CheckSettings` in, `CheckReport` out. Rows stream by: memory does not grow with the data.
Broken rows are findings, not exceptions. Rows are parsed by the parser that training uses, images go through the
same door, and lengths are counted by the same encoder, so what passes here trains.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from xverse_v.errors import XverseError
from xverse_v.media import DEFAULT_LIMITS, MediaLimits

from .check_image import ImageCheck, ImageFacts
from .check_text import SPECIAL, text_problems
from .config import Format
from .encode import Encoder
from .findings import Finding, finding_texts
from .formats import RecordFormat, detect, parse
from .leakage import Benchmark
from .repeats import Repeats
from .rows import RawRow, rows_of
from .sample import Sample, text_of
from .sources import files_of, kind_of, record_format

_QUARTER_TURNS = (5, 6, 7, 8)
_TEMPLATE_BYTES = 64  # more than the template adds to a turn, in tokens
_SAID_ONCE = {"D112": "key", "D117": "key", "D704": "member"}


@dataclass(frozen=True)
class CheckSettings:
    """encoder: counts tokens; None leaves lengths unchecked. limit: examples kept of each code."""

    format: Format = "auto-by-content"
    image_root: Path | None = None
    encoder: Encoder | None = None
    benchmark: Benchmark | None = None
    questions: tuple[str, ...] = ("",)
    limits: MediaLimits = DEFAULT_LIMITS
    limit: int = 20


@dataclass
class CheckReport:
    """Counts of everything found and the first `limit` examples of each code."""

    rows: int = 0
    bad_rows: int = 0
    images: int = 0
    images_opened: int = 0
    longest: int = 0  # tokens; 0 if lengths were not counted
    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[Finding]] = field(default_factory=dict)

    def count(self, severity: str) -> int:
        """How many findings are errors, warnings or notes."""
        return sum(n for code, n in self.counts.items() if finding_texts()[code]["severity"] == severity)

    def add(self, finding: Finding, limit: int) -> None:
        self.counts[finding.code] += 1
        kept = self.examples.setdefault(finding.code, [])
        if len(kept) < limit:
            kept.append(finding)

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "rows": self.rows,
            "bad_rows": self.bad_rows,
            "images": self.images,
            "images_opened": self.images_opened,
            "longest_tokens": self.longest or None,
            "errors": self.count("error"),
            "warnings": self.count("warning"),
            "notes": self.count("note"),
            "counts": {finding_texts()[code]["name"]: n for code, n in sorted(self.counts.items())},
            "findings": [finding.as_dict() for code in sorted(self.examples) for finding in self.examples[code]],
        }


@dataclass(frozen=True)
class CheckedRow:
    """A row and what was found in it. `content` names the sample's text and pixels, for finding repetitions."""

    raw: RawRow
    findings: tuple[Finding, ...]
    sample: Sample | None = None
    content: bytes | None = None
    tokens: int = 0

    @property
    def bad(self) -> bool:
        return any(finding.severity == "error" for finding in self.findings)


class RowChecker:
    """Checks rows one by one; knows what was said once already."""

    def __init__(self, settings: CheckSettings) -> None:
        self.settings = settings
        self.images = ImageCheck(settings.limits)
        self._said: set[tuple[str, str]] = set()
        special = settings.encoder.processor.tokenizer.all_special_tokens if settings.encoder else ()
        self._special = tuple(dict.fromkeys((*special, *SPECIAL)))

    def check(self, raw: RawRow, format: RecordFormat | None) -> CheckedRow:
        """Everything that can be said of a row without its neighbours."""
        findings: list[Finding] = []
        origin = raw.origin
        identity = raw.value.get("id") if isinstance(raw.value, dict) else None
        name = str(identity) if identity not in (None, "") else ""

        def report(code: str, **facts: Any) -> None:
            if code in _SAID_ONCE:
                said = code, str(facts[_SAID_ONCE[code]]).rsplit(".", 1)[-1]
                if said in self._said or len(self._said) > 10_000:
                    return
                self._said.add(said)
            findings.append(Finding(code, origin.source, origin.line, name, facts))

        for code, facts in raw.problems:
            report(code, **facts)
        if raw.value is None:
            return CheckedRow(raw, tuple(findings))
        sample = parse(raw.value, format or detect(raw.value) or "llava", origin, report)
        if sample is None:
            return CheckedRow(raw, tuple(findings))
        for message in sample.messages:
            self._check_text(message, sample, report)
        facts_of = [self.images.facts(image) for image in sample.images]
        for image_facts in facts_of:
            for code, facts in image_facts.problems:
                report(code, **facts)
        self._check_leakage(sample, facts_of, report)
        sound = not any(finding.severity == "error" for finding in findings)
        tokens = self._check_length(sample, facts_of, report) if sound else 0
        return CheckedRow(raw, tuple(findings), sample, _content(sample, facts_of), tokens)

    def _check_text(self, message: Mapping[str, Any], sample: Sample, report: Callable[..., None]) -> None:
        turn = next(number for number, other in enumerate(sample.messages, 1) if other is message)
        for code, facts in text_problems(text_of(message), self._special):
            report(code, turn=turn, **facts)

    def _check_leakage(self, sample: Sample, facts: Sequence[ImageFacts], report: Callable[..., None]) -> None:
        if self.settings.benchmark is None:
            return
        questions = [text_of(message) for message in sample.messages if message["role"] == "user"]
        if found := self.settings.benchmark.find([fact.key for fact in facts], questions):
            report(found[0], **found[1])

    def _check_length(self, sample: Sample, facts: Sequence[ImageFacts], report: Callable[..., None]) -> int:
        """Tokens of the sample, or an upper bound that is below the limit; 0 if they are not counted."""
        encoder = self.settings.encoder
        if encoder is None:
            return 0
        tiler = encoder.processor.image_processor
        views = []
        for fact in facts:
            swap = tiler.apply_exif and fact.turn in _QUARTER_TURNS
            width, height = fact.size[::-1] if swap else fact.size
            views.append(tiler.grid(width, height, encoder.max_tiles).views)
        try:
            tokens = encoder.tokens(sample, views)
        except XverseError as problem:
            if problem.code not in ("E201", "E202"):
                raise
            report({"E201": "D502", "E202": "D501"}[problem.code], **problem.facts)
            return int(problem.facts["tokens"])
        return len(tokens.ids)


def _content(sample: Sample, facts: Sequence[ImageFacts]) -> bytes:
    texts = [(message["role"], text_of(message)) for message in sample.messages]
    return json.dumps(texts, ensure_ascii=True).encode() + b"".join(fact.key for fact in facts)


def check(
    paths: Sequence[Path],
    settings: CheckSettings,
    *,
    progress: Callable[[int], None] | None = None,
    visit: Callable[[CheckedRow, RecordFormat | None, RowChecker], None] | None = None,
) -> CheckReport:
    """One pass over all files. progress(rows) is told as rows go by; visit sees every checked row (fix.py).

    Raises E200, E204, E205, E208, E209 if a path is no data at all.
    """
    report, checker = CheckReport(), RowChecker(settings)
    contents, ids = Repeats(), Repeats()
    files = [file for path in paths for file in files_of(path)]
    try:
        for number, (row, format) in enumerate(_checked(files, settings, checker)):
            report.rows += row.raw.counts
            report.bad_rows += row.bad
            report.images += len(row.sample.images) if row.sample else 0
            report.longest = max(report.longest, row.tokens)
            for finding in row.findings:
                report.add(finding, settings.limit)
            place = row.raw.file << 40 | row.raw.origin.line
            if row.content is not None:
                contents.add(row.content, place)
            if row.sample is not None and _has_id(row.raw.value):
                ids.add(row.sample.id.encode("utf-8", "replace"), place)
            if visit is not None:
                visit(row, format, checker)
            if progress is not None and number % 1000 == 0:
                progress(report.rows)
        report.images_opened = checker.images.opened
        _add_repeats(report, "D601", contents, files, settings.limit)
        _add_repeats(report, "D602", ids, files, settings.limit)
    finally:
        contents.close()
        ids.close()
    return report


def _checked(
    files: Sequence[Path], settings: CheckSettings, checker: RowChecker
) -> Iterator[tuple[CheckedRow, RecordFormat | None]]:
    for number, file in enumerate(files):
        kind = kind_of(file)
        assert kind is not None
        format = record_format(file, kind, settings.format)
        for raw in rows_of(file, kind, number, settings.image_root, settings.questions):
            yield checker.check(raw, format), format


def _has_id(value: Any) -> bool:
    return isinstance(value, dict) and value.get("id") not in (None, "")


def _add_repeats(report: CheckReport, code: str, repeats: Repeats, files: Sequence[Path], limit: int) -> None:
    lines = (1 << 40) - 1
    for place, first in repeats.found():
        where = f"{first & lines}" if place >> 40 == first >> 40 else f"{files[first >> 40].name}:{first & lines}"
        report.add(Finding(code, files[place >> 40].name, place & lines, "", {"first": where, "id": "…"}), limit)
