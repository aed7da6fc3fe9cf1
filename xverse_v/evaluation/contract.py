"""What every file of this room speaks in: rows, prompts, predictions, scores, and what a benchmark is.

Plain frozen data and three protocols: `Benchmark`, `Model` and `Judge`. Nothing here reads a file, runs a model or
knows a particular benchmark.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

Profile = Literal["vlmevalkit", "vlmevalkit-2024-04", "official", "release"]
PROFILES: tuple[Profile, ...] = ("vlmevalkit", "vlmevalkit-2024-04", "official", "release")
Matcher = Literal["exact", "judge"]


@dataclass(frozen=True)
class ImageRef:
    """An image of a row, not opened yet: `data` holds an encoded file, or `path` names one below the image root.

    With an `offset`, `path` is a TSV and the image is base64 text in the record that begins at that byte, number
    `place` of a list; so rows weigh nothing, however large their images. Only the room's core meets this form: a run
    reads every image (tsv.py `image_bytes`) before it hands a prompt to a model, which sees `data` alone.
    `digest` names the content where it is known without reading it again; rows are grouped by it.
    """

    data: bytes | None = None
    path: Path | None = None
    offset: int = -1
    place: int = 0
    digest: str = ""


@dataclass(frozen=True)
class Row:
    """One question of a benchmark. `key` is unique within its file; `fields` are all other columns as text.

    `answers`: the reference answers, none for a hidden test split. `options`: letter -> text, in order, for multiple
    choice. `group`: rows of one group share a score (the passes of a circular run, the pair of a HallusionBench item).
    """

    key: str
    question: str
    images: tuple[ImageRef, ...] = ()
    answers: tuple[str, ...] = ()
    options: Mapping[str, str] = field(default_factory=dict)
    group: str = ""
    fields: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class BadRow:
    """A row that cannot be asked, and why: an error code, its text, and the line or record number in the file."""

    key: str
    line: int
    code: str
    reason: str


@dataclass(frozen=True)
class Prompt:
    """What a model is asked: text and images in order, the system text, and the longest answer in tokens."""

    parts: tuple[str | ImageRef, ...]
    system: str = ""
    max_new_tokens: int = 512


# The finish reason of a prompt that could not be answered.
REFUSED = "error"


@dataclass(frozen=True)
class Prediction:
    """A model's answer to the row `key`. `facts`: what the model side reports (tiles, prompt token ids ...).

    Facts are JSON values and depend on the prompt and the model's settings alone: no times, no counters, nothing about
    the batch. Known names, each left out where a model cannot tell: `prompt_token_ids` (runs packed as [id, count]),
    `token_ids` (of the answer), `images` (a receipt each, with rows and columns of the tile grid).

    A prompt that could not be answered (an image that cannot be decoded, a prompt too long) is one with the finish
    reason `REFUSED`, no text, and `facts["error"]` with `code` and `fact`. It is counted and listed, never scored. What
    the next try may mend (a server that is down) is raised instead; the run goes on when it is started again.
    """

    key: str
    text: str
    finish_reason: str = "stop"
    facts: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Verdict:
    """How one row was scored: `score` 0..1 (or the benchmark's own points), and what the scorer read in the answer.

    `matched` is False where no rule found an answer in the prediction and the benchmark's fallback decided.
    """

    key: str
    score: float
    read: str = ""
    matched: bool = True


@dataclass(frozen=True)
class Score:
    """One number of a report, 0..100 unless `unit` says otherwise, with a 95 % interval and all its conditions."""

    name: str
    value: float
    low: float
    high: float
    rows: int
    skipped: int
    unmatched: int
    profile: Profile
    matcher: Matcher
    judge: str = ""
    unit: str = "%"
    note: str = ""


# Facts of a model that change no answer (in float32), so that another machine may go on with its run. All others do.
SURROUNDINGS = frozenset({"versions", "threads", "device", "concurrency", "folder"})


class Model(Protocol):
    """What answers the prompts of a run.

    `facts` are JSON values: a hash of the weights (or the endpoint and its model's name), dtype, decoding, tile limit,
    versions, threads. Predictions are keyed by all of them but those named in `SURROUNDINGS`, which are only recorded:
    a run that is started again with other facts is refused. So a batch size stands in them only where it may change an
    answer.
    """

    name: str  # as the report shows it

    @property
    def facts(self) -> Mapping[str, object]: ...

    def answers(self, prompts: Iterable[tuple[str, Prompt]]) -> Iterator[Prediction]:
        """A prediction for each (key, prompt), in any order, each as soon as it is there.

        Prompts are taken from the iterable only when there is room for them, so those at work alone are in memory.
        Prompts about one image come one after another and hold the same `ImageRef` object: prefill it once.
        """
        ...


class Judge(Protocol):
    """A model that grades. Raises an error of this room when it cannot answer; never returns a made-up text."""

    name: str

    def ask(
        self,
        prompts: Sequence[str],
        *,
        temperature: float = 0.0,
        max_tokens: int = 512,
        system: str = "",
        attempt: int = 0,
    ) -> list[str]:
        """The reply to each prompt, in order. `attempt` numbers repeated questions about one answer, whose replies
        would else be the same one."""
        ...


class Benchmark(Protocol):
    """One data set with its prompts and its rules; each is one file of `benchmarks/`.

    `rows` yields `Row` and `BadRow` in file order, streaming; `prompt` is pure; `score` takes every row asked with its
    prediction and returns verdicts a row and the scores, the headline first.
    """

    name: str  # as users type it: "MMBench_DEV_EN", "GQA"
    file: str  # "MMBench_DEV_EN.tsv", or the official file's name
    md5: str  # of the known file, "" where none is published
    source: str  # where the file usually comes from, in words
    metric: str
    citation: str
    judge: Literal["none", "optional", "required"]

    def rows(self, path: Path, profile: Profile, image_root: Path | None) -> Iterator[Row | BadRow]: ...

    def prompt(self, row: Row, profile: Profile) -> Prompt: ...

    def score(
        self, rows: Iterable[tuple[Row, Prediction]], profile: Profile, judge: Judge | None
    ) -> tuple[list[Verdict], list[Score]]: ...
