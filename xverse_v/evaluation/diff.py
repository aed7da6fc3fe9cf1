"""Two runs of the same benchmark, row by row: what changed, and at which step it began to.

A row goes through steps: the question in the data, its image, the prompt, the tiles, the tokens, the longest answer
allowed, the answer, how the answer was read and scored. The reason of a changed row is the first step that differs,
because the later ones follow from it. Another limit that changed no answer changed no row. The file reads bundles and
nothing else.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import comb
from typing import Any

from .bundle import ROWS, RunFolder
from .contract import REFUSED, Verdict
from .digests import read_lines
from .run_settings import flat
from .scored import SCORES, Scored, read_scored

_LIMIT = "max_new_tokens"
STEPS = (
    *("only in A", "only in B", "question", "image", "prompt", "refused"),
    *("tiles", "tokens", "limit", "answer", "scoring"),
)


@dataclass(frozen=True)
class ChangedRow:
    """`reason` is the first of `STEPS` that differs, `steps` all of them; scores are None where a row has none."""

    key: str
    reason: str
    steps: tuple[str, ...]
    answer_a: str = ""
    answer_b: str = ""
    score_a: float | None = None
    score_b: float | None = None


@dataclass
class Difference:
    """`settings`: name -> (A, B) where the runs differ; `scores`: name -> (A, B); `flips`: rows (won, lost) by B."""

    benchmark: str
    profile_a: str
    profile_b: str
    rows: int = 0
    settings: dict[str, tuple[Any, Any]] = field(default_factory=dict)
    changed: list[ChangedRow] = field(default_factory=list)
    scores: dict[str, tuple[float, float]] = field(default_factory=dict)
    flips: tuple[int, int] = (0, 0)

    def reasons(self) -> dict[str, int]:
        """How many rows changed at each step first."""
        counts = Counter(row.reason for row in self.changed)
        return {step: counts[step] for step in STEPS if counts[step]}

    def chance(self) -> float:
        """How likely a split of the flips at least this uneven is if neither run is better (exact McNemar test)."""
        won, lost = self.flips
        n = won + lost
        tail = sum(comb(n, k) for k in range(min(won, lost) + 1)) / 2**n
        return min(1.0, 2 * tail)


def pairs(a: list[RunFolder], b: list[RunFolder]) -> Iterator[tuple[RunFolder, RunFolder]]:
    """Runs of the same benchmark in A and B: with the same profile where both have it, else whatever there is once."""
    documents = {id(folder): folder.document() for folder in [*a, *b]}
    for one in a:
        mine = documents[id(one)]
        others = [other for other in b if documents[id(other)]["benchmark"] == mine["benchmark"]]
        alike = [other for other in others if documents[id(other)]["profile"] == mine["profile"]]
        for other in alike or others[:1]:
            yield one, other


def difference(a: RunFolder, b: RunFolder) -> Difference:
    """Compare two finished runs. Raises E716 or E718 for files that are not there or damaged."""
    run_a, run_b = a.document(), b.document()
    found = Difference(run_a["benchmark"], run_a["profile"], run_b["profile"])
    settings_a, settings_b = dict(flat(run_a)), dict(flat(run_b))
    for name in sorted(settings_a.keys() | settings_b.keys()):
        if settings_a.get(name) != settings_b.get(name):
            found.settings[name] = (settings_a.get(name), settings_b.get(name))
    lines_a, lines_b = _by_key(a), _by_key(b)
    scored_a, scored_b = _scored(a), _scored(b)
    verdicts_a, verdicts_b = _verdicts(scored_a), _verdicts(scored_b)
    for key in dict.fromkeys([*lines_a, *lines_b]):
        found.rows += 1
        verdicts = verdicts_a.get(key), verdicts_b.get(key)
        steps = tuple(_steps(lines_a.get(key), lines_b.get(key), *verdicts))
        if steps:
            found.changed.append(_changed(key, steps, lines_a.get(key), lines_b.get(key), *verdicts))
    both = [(verdicts_a[key].score, verdicts_b[key].score) for key in verdicts_a if key in verdicts_b]
    found.flips = sum(two > one for one, two in both), sum(two < one for one, two in both)
    if scored_a and scored_b:
        values_b = {score.name: score.value for score in scored_b.scores}
        found.scores = {s.name: (s.value, values_b[s.name]) for s in scored_a.scores if s.name in values_b}
    return found


def _steps(
    a: Mapping[str, Any] | None, b: Mapping[str, Any] | None, verdict_a: Verdict | None, verdict_b: Verdict | None
) -> Iterator[str]:
    if a is None or b is None:
        yield "only in B" if a is None else "only in A"
        return
    compared = {
        "question": lambda line: line["row"],
        "image": lambda line: line["images"],
        "prompt": lambda line: {name: value for name, value in line["prompt"].items() if name != _LIMIT},
        "refused": lambda line: line["finish_reason"] == REFUSED,
        "tiles": lambda line: _tiles(line["facts"]),
        "tokens": lambda line: line["facts"].get("prompt_token_ids"),
    }
    for step, view in compared.items():
        if view(a) != view(b):
            yield step
    if (a["text"], a["finish_reason"]) != (b["text"], b["finish_reason"]):
        if a["prompt"][_LIMIT] != b["prompt"][_LIMIT]:
            yield "limit"
        yield "answer"
    if verdict_a and verdict_b and verdict_a != verdict_b:
        yield "scoring"


def _tiles(facts: Mapping[str, Any]) -> list[Any]:
    images = facts.get("images") or []
    return [(image.get("rows"), image.get("columns")) for image in images if isinstance(image, dict)]


def _changed(
    key: str,
    steps: tuple[str, ...],
    a: Mapping[str, Any] | None,
    b: Mapping[str, Any] | None,
    verdict_a: Verdict | None,
    verdict_b: Verdict | None,
) -> ChangedRow:
    return ChangedRow(
        key,
        steps[0],
        steps,
        a["text"] if a else "",
        b["text"] if b else "",
        verdict_a.score if verdict_a else None,
        verdict_b.score if verdict_b else None,
    )


def _by_key(folder: RunFolder) -> dict[str, dict[str, Any]]:
    rows = {document["key"]: document for document in read_lines(folder.path / ROWS)}
    return {line["key"]: {**line, "row": rows.get(line["key"])} for line in folder.predictions()}


def _scored(folder: RunFolder) -> Scored | None:
    return read_scored(folder) if (folder.path / SCORES).exists() else None


def _verdicts(scored: Scored | None) -> dict[str, Verdict]:
    return {verdict.key: verdict for verdict in scored.verdicts} if scored else {}
