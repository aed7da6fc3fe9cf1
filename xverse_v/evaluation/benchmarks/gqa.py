"""GQA: one word about a scene, under three rules side by side.

Read from the authors' ``testdev_balanced_questions.json`` (a dict by question id), from the release's JSON array or
lines of ``{image, question, answer}``, and from VLMEvalKit's TSV. The release counts an answer as right if the label
stands anywhere in it, so its number is higher by construction; it leads under profile ``release`` alone. The authors'
further measures need files that their last release lacks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from ..contract import BadRow, Judge, Prediction, Profile, Prompt, Row, Score, Verdict
from ..official import Record, read_records
from ..scoring import gqa as rules
from ..tsv import TsvRow, bad_row
from . import prompts
from .described import HOST, Described, folder_of, is_json
from .reading import lacking, named_image, place_of, record_rows, row_of, scorable, table_rows
from .scores import conditions

EXACT = "Exact match (VLMEvalKit)"
OFFICIAL = "Exact match (official)"
SUBSTRING = "Substring (release)"
_RELEASE_PROMPT = "Based on the image, respond to this question with a single word or phrase: {question}"
_RULES: dict[str, Callable[[str, str], bool]] = {
    EXACT: lambda text, label: rules.exact(text, label, "vlmevalkit"),
    OFFICIAL: lambda text, label: rules.exact(text, label, "official"),
    SUBSTRING: rules.release_substring,
}


@dataclass(kw_only=True)
class Gqa(Described):
    """A file of GQA, in any of its shapes."""

    metric: str = "accuracy: exact match, and the release's substring rule beside it"
    citation: str = "Hudson and Manning, GQA, CVPR 2019, arXiv:1902.09506"

    def rows(self, path: Path, profile: Profile, image_root: Path | None) -> Iterator[Row | BadRow]:
        if is_json(path):
            images = folder_of(path, image_root, "images")
            return record_rows(read_records(path), lambda record: _official_row(record, images))
        needs = ("question", "answer")
        return table_rows(path, _table_row, na=self.na(profile), image_root=image_root, needs=needs)

    def prompt(self, row: Row, profile: Profile) -> Prompt:
        if profile == "release":
            text = _RELEASE_PROMPT.replace("{question}", row.question)
            return prompts.images_then(row, text, prompts.RELEASE_LONGEST_ANSWER)
        return prompts.images_then(row, row.question + prompts.SHORT_ANSWER)

    def score(
        self, rows: Iterable[tuple[Row, Prediction]], profile: Profile, judge: Judge | None
    ) -> tuple[list[Verdict], list[Score]]:
        """All three rules, the profile's own first; verdicts follow that one."""
        pairs, skipped = scorable(rows, self.name)
        facts = conditions(profile, None, skipped)
        first = {"official": OFFICIAL, "release": SUBSTRING}.get(profile, EXACT)
        hits = {
            name: [float(rule(prediction.text, row.answers[0])) for row, prediction in pairs]
            for name, rule in _RULES.items()
        }
        verdicts = [
            Verdict(row.key, hit, prediction.text[:80])
            for (row, prediction), hit in zip(pairs, hits[first], strict=True)
        ]
        scores = [facts.mean(first, hits.pop(first))]
        scores += [replace(facts.mean(name, values), note="for comparison") for name, values in hits.items()]
        return verdicts, scores


def _table_row(record: TsvRow) -> Row | BadRow:
    row = row_of(record, answers=(record.cells["answer"],))
    return row if row.answers[0] else bad_row(row.key, record.line, "E735", line=record.line, key=row.key)


def _official_row(record: Record, images: Path) -> Row | BadRow:
    """A record of the authors' dict, or of the release's list, whose rows are named by their place."""
    value = record.value
    named = value.get("image") or (f"{value['imageId']}.jpg" if value.get("imageId") else None)
    if problem := lacking(record, "question", "answer", *([] if named else ["image"])):
        return problem
    key = record.key or str(value.get("question_id", value.get("questionId", record.place)))
    answer = str(value["answer"])
    if not answer.strip():
        return bad_row(key, place_of(record), "E735", line=place_of(record), key=key)
    return Row(key, str(value["question"]), named_image(images / str(named)), (answer,))


BENCHMARKS = (
    Gqa(
        name="GQA",
        file="GQA/testdev_balanced_questions.json",
        source="the authors' questions and images (cs.stanford.edu/people/dorarad/gqa)",
    ),
    Gqa(
        name="GQA_TestDev_Balanced",
        file="GQA_TestDev_Balanced.tsv",
        md5="99b62f22e224d9b2f32dcbe41359d1c9",
        source=f"VLMEvalKit's data table: {HOST}/VLMEval/",
    ),
)
