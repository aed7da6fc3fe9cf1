"""HallusionBench: yes-or-no questions in sets, where a figure and a question count only if they are right throughout.

Read from VLMEvalKit's TSV, whose index names set, figure and question in its 4th to 6th piece, or from the authors'
``HallusionBench.json``. Questions without an image (178 of 1,129) are left out, as in VLMEvalKit; the authors' own
protocol (graded by GPT-4, those questions included) gives other numbers and is not offered, so profile ``official``
follows VLMEvalKit here. The headline is the mean of the three accuracies, as leaderboards print it.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..contract import BadRow, Judge, Prediction, Profile, Prompt, Row, Score, Verdict
from ..official import Record, read_records
from ..scoring import intervals, yes_no
from ..scoring.harness import of_april_2024
from ..scoring.vqa import Variant
from ..tsv import TsvRow, bad_row
from . import prompts
from .described import HOST, Described, folder_of, is_json
from .judging import ask_until_read
from .reading import imageless, lacking, named_image, place_of, record_rows, row_of, scorable, table_rows, texts
from .scores import Conditions, conditions

_TEMPERATURES = (0.0, 0.5, 1.0, 1.5, 2.0)
_PIECES = 6
_JUDGE_TOKENS = 2048


@dataclass(kw_only=True)
class HallusionBench(Described):
    """The questions with an image."""

    def rows(self, path: Path, profile: Profile, image_root: Path | None) -> Iterator[Row | BadRow]:
        if is_json(path):
            images = folder_of(path, image_root)
            return record_rows(read_records(path), lambda record: _official_row(record, images))
        needs = ("question", "answer", "category", "l2-category")
        return table_rows(path, _table_row, na=self.na(profile), image_root=image_root, needs=needs)

    def prompt(self, row: Row, profile: Profile) -> Prompt:
        return prompts.images_then(row, row.question)

    def score(
        self, rows: Iterable[tuple[Row, Prediction]], profile: Profile, judge: Judge | None
    ) -> tuple[list[Verdict], list[Score]]:
        pairs, skipped = scorable(rows, self.name)
        variant: Variant = "vlmevalkit-2024-04" if of_april_2024(profile) else "vlmevalkit"
        read = {row.key: yes_no.extract(prediction.text, variant) for row, prediction in pairs}
        if judge:
            read |= _judged(pairs, read, variant, judge)
        verdicts = [
            Verdict(row.key, float(read[row.key] == row.answers[0]), read[row.key], read[row.key] != yes_no.UNKNOWN)
            for row, _ in pairs
        ]
        facts = conditions(profile, judge, skipped)
        table = [(row, verdict) for (row, _), verdict in zip(pairs, verdicts, strict=True)]
        scores = _three("", table, facts)
        for column in ("category", "l2-category"):
            for value in sorted({row.fields.get(column, "") for row, _ in table} - {""}):
                part = [entry for entry in table if entry[0].fields.get(column, "") == value]
                scores += _three(f"{value}: ", part, facts)
        return verdicts, scores


def _judged(
    pairs: Sequence[tuple[Row, Prediction]], read: dict[str, str], variant: Variant, judge: Judge
) -> dict[str, str]:
    asked = {
        row.key: yes_no.judge_prompt(row.question, prediction.text)
        for row, prediction in pairs
        if read[row.key] == yes_no.UNKNOWN
    }

    def reading(_key: str, reply: str) -> str | None:
        found = yes_no.extract(reply, variant)
        return None if found == yes_no.UNKNOWN else found

    return ask_until_read(judge, asked, reading, _TEMPERATURES, max_tokens=_JUDGE_TOKENS)


def _three(prefix: str, table: Sequence[tuple[Row, Verdict]], facts: Conditions) -> list[Score]:
    """Mean of the three, aAcc, fAcc, qAcc. All intervals draw whole sets, for both groupings lie within a set."""
    sets: dict[Hashable, list[yes_no.Answered]] = {}
    for row, verdict in table:
        answered = _answered(row, right=verdict.score == 1)
        sets.setdefault((answered.subcategory, answered.set_id), []).append(answered)
    sums = []
    for members in sets.values():
        parts = yes_no.accuracies(members)
        sums.append([count for part in parts for count in (sum(part), len(part))])
    totals = [sum(column) for column in zip(*sums, strict=True)]
    shares = [100 * totals[0] / totals[1], 100 * totals[2] / totals[3], 100 * totals[4] / totals[5]]
    unread = sum(not verdict.matched for _, verdict in table)
    scores = []
    for place, name in enumerate(("aAcc", "fAcc", "qAcc")):
        low, high = intervals.of_ratio([(row[2 * place], row[2 * place + 1]) for row in sums])
        note = ("", f"{totals[3]} figures", f"{totals[5]} questions over figures")[place]
        interval = (100 * low, 100 * high)
        scores.append(facts.score(prefix + name, shares[place], interval, rows=len(table), unmatched=unread, note=note))
    low, high = intervals.bootstrap(sums, lambda drawn: (drawn[:, 0::2] / drawn[:, 1::2]).mean(axis=1))
    if low == high:  # too few sets to draw from: the widest of the parts' own intervals is the honest one
        low, high = min(score.low for score in scores) / 100, max(score.high for score in scores) / 100
    mean = facts.score(
        f"{prefix}Overall",
        sum(shares) / 3,
        (100 * low, 100 * high),
        rows=len(table),
        unmatched=unread,
        note="mean of aAcc, fAcc and qAcc",
    )
    return [mean, *scores]


def _answered(row: Row, *, right: bool) -> yes_no.Answered:
    set_id, figure_id, question_id = row.key.split("_")[3:_PIECES]
    return yes_no.Answered(row.fields.get("l2-category", ""), set_id, figure_id, question_id, right)


def _table_row(record: TsvRow) -> Row | BadRow:
    return _checked(row_of(record, answers=(record.cells["answer"],)), record.line)


def _official_row(record: Record, images: Path) -> Row | BadRow:
    value = record.value
    names = ("category", "subcategory", "visual_input", "set_id", "figure_id", "question_id")
    if problem := lacking(record, "question", "gt_answer", *names):
        return problem
    # An underscore inside a piece would move the ones behind it.
    key = "_".join(str(value[name]).replace("_", "-") for name in names)
    if str(value["visual_input"]) == "0" or not value.get("filename"):
        return imageless(key, record)
    fields = texts(value, "category", "gt_answer_details", "sample_note") | {"l2-category": str(value["subcategory"])}
    answer = "Yes" if str(value["gt_answer"]) == "1" else "No"
    image = named_image(images / str(value["filename"]))
    return _checked(Row(key, str(value["question"]), image, (answer,), fields=fields), place_of(record))


def _checked(row: Row, line: int) -> Row | BadRow:
    pieces = row.key.split("_")
    if len(pieces) < _PIECES:
        return bad_row(row.key, line, "E739", line=line, key=row.key, got=len(pieces), expected=_PIECES)
    if not row.answers[0]:
        return bad_row(row.key, line, "E735", line=line, key=row.key)
    if row.answers[0] not in ("Yes", "No"):
        return bad_row(row.key, line, "E736", line=line, key=row.key, answer=row.answers[0][:40], letters="Yes, No")
    return replace(row, group="_".join((row.fields.get("l2-category", ""), pieces[3])))


BENCHMARKS = (
    HallusionBench(
        name="HallusionBench",
        file="HallusionBench.tsv",
        md5="0c23ac0dc9ef46832d7a24504f2a0c7c",
        source=f"VLMEvalKit's data table: {HOST}/VLMEval/; the authors' HallusionBench.json works as well",
        metric="mean of accuracy over questions, figures and question pairs",
        citation="Guan et al., HallusionBench, CVPR 2024, arXiv:2310.14566",
        judge="optional",
    ),
)
