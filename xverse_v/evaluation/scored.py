"""From a finished run to its scores: nothing but the run's folder and, where a benchmark has one, a judge.

Writes `scores.json` (every number with its conditions, the counts of rows, and the bundle hash it belongs to),
`verdicts.jsonl` (how each row was scored) and, with a judge, `judge.jsonl` (every reply, so that the score can be made
again without the judge). Scoring twice gives the same bytes. The rules themselves are the benchmark's.

scores.json: {"format", "benchmark", "profile", "model", "bundle", "code", "judge": its name or null,
"counts": {"asked", "answered", "bad", "left_out", "beyond_limit"}, "scores": [a Score, ...]}, the headline first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from xverse_v.errors import error

from .bundle import BUNDLE, RunFolder
from .contract import Benchmark, Judge, Score, Verdict
from .digests import canonical, digest, pretty, read_json, read_lines, write_whole
from .predictions import unwritable
from .run_settings import FORMAT, code_digest

SCORES, VERDICTS, JUDGED = "scores.json", "verdicts.jsonl", "judge.jsonl"


@dataclass(frozen=True)
class Scored:
    """A run's scores as its files hold them."""

    document: dict[str, Any]
    verdicts: list[Verdict]

    @property
    def scores(self) -> list[Score]:
        return [Score(**score) for score in self.document["scores"]]


def score_run(folder: RunFolder, benchmark: Benchmark, judge: Judge | None) -> Scored:
    """Score a finished run and write what came of it. Raises E723 for an unfinished one, E718, E721, the judge's."""
    recorder = RecordingJudge(judge) if judge else None
    scored = compute(folder, benchmark, recorder)
    try:
        write_whole(folder.path / VERDICTS, _lines([asdict(verdict) for verdict in scored.verdicts]))
        if recorder:
            write_whole(folder.path / JUDGED, _lines(recorder.replies()))
        else:
            (folder.path / JUDGED).unlink(missing_ok=True)
        write_whole(folder.path / SCORES, pretty(scored.document))
    except OSError as reason:
        raise unwritable(folder.path, reason) from reason
    return scored


def compute(folder: RunFolder, benchmark: Benchmark, judge: Judge | None) -> Scored:
    """The scores, without writing anything."""
    run = folder.document()
    if not folder.finished:
        raise error("E723", folder=folder.path, missing="some", rows="its", world=1)
    bundle = read_json(folder.path / BUNDLE)
    verdicts, scores = benchmark.score(folder.asked(), run["profile"], judge)
    asked, bad = int(bundle["rows"]), int(bundle["bad_rows"])
    refused = len(folder.refusals())
    document = {
        "format": FORMAT,
        "benchmark": run["benchmark"],
        "profile": run["profile"],
        "model": run["model"]["name"],
        "bundle": bundle["bundle"],
        "code": code_digest(),
        "judge": getattr(judge, "name", None),
        "counts": {
            "asked": asked,
            "answered": asked - refused,
            "bad": bad,
            "left_out": bundle["left_out_rows"],
            "beyond_limit": bundle["beyond_limit"],
        },
        # A benchmark sees the rows that were asked and counts the refused; those never asked are known only here.
        "scores": [asdict(replace(score, skipped=score.skipped + bad - refused)) for score in scores],
    }
    return Scored(document, verdicts)


def read_scored(folder: RunFolder) -> Scored:
    """What scoring wrote. Raises E716 where a run was never scored, E718."""
    verdicts = [Verdict(**document) for document in read_lines(folder.path / VERDICTS)]
    return Scored(read_json(folder.path / SCORES), verdicts)


class RecordingJudge:
    """A judge that keeps every question with its reply."""

    def __init__(self, judge: Judge) -> None:
        self.name = judge.name
        self._judge = judge
        self._kept: dict[str, dict[str, Any]] = {}

    def ask(
        self,
        prompts: Sequence[str],
        *,
        temperature: float = 0.0,
        max_tokens: int = 512,
        system: str = "",
        attempt: int = 0,
    ) -> list[str]:
        replies = self._judge.ask(
            prompts, temperature=temperature, max_tokens=max_tokens, system=system, attempt=attempt
        )
        for prompt, reply in zip(prompts, replies, strict=True):
            question = _question(prompt, temperature, max_tokens, system, attempt)
            self._kept[digest(question)] = {**question, "reply": reply, "judge": self.name}
        return replies

    def replies(self) -> list[dict[str, Any]]:
        """What was asked and replied, in an order that concurrency does not change."""
        return [self._kept[key] for key in sorted(self._kept)]


class ReplayedJudge:
    """A judge's recorded replies. Raises E726 for a question that was never put to it."""

    def __init__(self, folder: RunFolder) -> None:
        lines = list(read_lines(folder.path / JUDGED))
        self.name = str(lines[0]["judge"]) if lines else str(read_json(folder.path / SCORES)["judge"])
        self._folder = folder
        self._replies = {
            digest({name: line[name] for name in line.keys() - {"reply", "judge"}}): line["reply"] for line in lines
        }

    def ask(
        self,
        prompts: Sequence[str],
        *,
        temperature: float = 0.0,
        max_tokens: int = 512,
        system: str = "",
        attempt: int = 0,
    ) -> list[str]:
        keys = [digest(_question(prompt, temperature, max_tokens, system, attempt)) for prompt in prompts]
        if any(key not in self._replies for key in keys):
            raise error("E726", folder=self._folder.path, judge=self.name)
        return [self._replies[key] for key in keys]


def recorded_judge(folder: RunFolder) -> ReplayedJudge | None:
    """The judge of a run's recorded replies, if it was scored with one."""
    return ReplayedJudge(folder) if (folder.path / JUDGED).exists() else None


def _question(prompt: str, temperature: float, max_tokens: int, system: str, attempt: int) -> dict[str, Any]:
    return {
        "prompt": prompt,
        "temperature": temperature,
        "max_tokens": max_tokens,
        "system": system,
        "attempt": attempt,
    }


def _lines(documents: Sequence[Any]) -> str:
    return "".join(canonical(document) + "\n" for document in documents)
