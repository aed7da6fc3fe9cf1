"""MMBench and MMBench-CN, v1.0 and v1.1: every question asked once for each rotation of its options.

Rules: VLMEvalKit ``mcq_circular_eval``. The rotated copies are rows of the file, so nothing is rotated here. Traps:
a question has as many passes as options; a limit that cuts a question in half gives numbers that are too high, so they
are named incomplete; the test splits have no answers and are scored by the benchmark's server, which wants every pass.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from xverse_v.errors import error

from ..contract import BadRow, Judge, Prediction, Profile, Prompt, Row, Score, Verdict
from ..scoring.choice import ROTATION, circular_hit
from ..scoring.harness import of_april_2024
from ..scoring.options import infer
from ..tsv import TsvRow
from . import prompts
from .choice import UNREAD_IS_WRONG, Reading, read_with_judge
from .described import HOST, Described
from .reading import choice_row, scorable, table_rows
from .scores import Counted, by_split, conditions

VANILLA = "Overall (vanilla: first pass)"
INCOMPLETE = " (incomplete circular)"
SERVER = "mmbench.opencompass.org.cn"


@dataclass(frozen=True)
class Question:
    """The passes of one question in ascending index order. `base` is the unrotated one."""

    base: Row
    passes: tuple[Row, ...]

    @property
    def complete(self) -> bool:
        return len(self.passes) >= len(self.base.options)


@dataclass(kw_only=True)
class MMBench(Described):
    """One file of MMBench. `hidden`: a test split, whose answers the server keeps unless the file has them."""

    metric: str = "circular accuracy: a question is right if all its passes are"
    citation: str = "Liu et al., MMBench: Is Your Multi-modal Model an All-around Player?, ECCV 2024, arXiv:2307.06281"
    source: str = f"VLMEvalKit's data table: {HOST}/benchmarks/MMBench/"
    hidden: bool = False

    def rows(self, path: Path, profile: Profile, image_root: Path | None) -> Iterator[Row | BadRow]:
        def make(record: TsvRow) -> Row | BadRow:
            row = choice_row(record, hidden=self.hidden)
            return row if isinstance(row, BadRow) else replace(row, group=group_of(row))

        return table_rows(path, make, na=self.na(profile), image_root=image_root)

    def prompt(self, row: Row, profile: Profile) -> Prompt:
        return prompts.images_then(row, prompts.choice_text(row))

    def score(
        self, rows: Iterable[tuple[Row, Prediction]], profile: Profile, judge: Judge | None
    ) -> tuple[list[Verdict], list[Score]]:
        """Circular and vanilla. Raises E732 for a test split without answers."""
        given = list(rows)
        if self.hidden and not any(row.answers for row, _ in given):
            questions, orphans = questions_of([row for row, _ in given], profile)
            cut = len({row.group for row in orphans}) + sum(not question.complete for question in questions)
            raise error("E732", benchmark=self.name, rows=len(given), incomplete=cut, server=SERVER)
        pairs, skipped = scorable(given, self.name)
        answers = {row.key: prediction for row, prediction in pairs}
        questions, orphans = questions_of([row for row, _ in pairs], profile)
        if not questions:
            raise error("E731", benchmark=self.name, hidden=0, refused=skipped, orphans=len(orphans))
        reader = _Reader(answers, profile, judge)
        hits = reader.circular(questions)
        reader.read([question.base for question in questions])
        verdicts = [reader.verdict(row) for row, _ in pairs]
        return verdicts, self._scores(questions, hits, verdicts, skipped + len(orphans), profile, judge)

    def _scores(
        self,
        questions: Sequence[Question],
        hits: Sequence[bool],
        verdicts: Sequence[Verdict],
        skipped: int,
        profile: Profile,
        judge: Judge | None,
    ) -> list[Score]:
        read = {verdict.key: verdict for verdict in verdicts}
        circular, vanilla = [], []
        for question, hit in zip(questions, hits, strict=True):
            unread = sum(not read[row.key].matched for row in question.passes)
            circular.append(Counted.of(question.base, float(hit), unread, len(question.passes)))
            first = read[question.base.key]
            vanilla.append(Counted.of(question.base, first.score, int(not first.matched)))
        facts = conditions(profile, judge, skipped)
        cut = sum(not question.complete for question in questions)
        notes = [f"{len(questions)} questions"] + [f"{cut} of them lack passes"] * bool(cut)
        notes += [] if judge else [UNREAD_IS_WRONG]
        scores = by_split(circular, facts, extra=vanilla, extra_name=VANILLA, note="; ".join(notes))
        if not cut:
            return scores
        return [s if s.name.endswith(VANILLA) else replace(s, name=s.name + INCOMPLETE) for s in scores]


@dataclass
class _Reader:
    """Letters of answers, read as late as the rules allow: a judge is asked only while an answer can still matter."""

    answers: Mapping[str, Prediction]
    profile: Profile
    judge: Judge | None
    found: dict[str, Reading] = field(default_factory=dict)

    def circular(self, questions: Sequence[Question]) -> list[bool]:
        """Whether each question is right. A round asks the judge about the first open pass of every open question."""
        for question in questions:
            for row in question.passes:
                letter = infer(self.answers[row.key].text, row.options, self.profile)
                if letter is not None:
                    self.found[row.key] = Reading(letter, True)
        if self.judge:
            while left := [row for row in map(self._open_pass, questions) if row]:
                self.read(left)
        return [self._hit(question) is True for question in questions]

    def read(self, rows: Sequence[Row]) -> None:
        """Ask the judge, if there is one, about those of `rows` that are still unread."""
        left = [(row, self.answers[row.key]) for row in rows if row.key not in self.found]
        if self.judge and left:
            self.found |= read_with_judge(left, self.profile, self.judge)

    def verdict(self, row: Row) -> Verdict:
        """Of one pass by itself."""
        reading = self.found.get(row.key, Reading("", False))
        return Verdict(row.key, float(reading.letter == row.answers[0]), reading.letter, reading.matched)

    def _hit(self, question: Question) -> bool | None:
        read = [self.found[row.key].letter if row.key in self.found else None for row in question.passes]
        return circular_hit(read, [row.answers[0] for row in question.passes])

    def _open_pass(self, question: Question) -> Row | None:
        if self._hit(question) is not None:
            return None
        return next(row for row in question.passes if row.key not in self.found)


def group_of(row: Row) -> str:
    """The index of the question a pass belongs to: column ``g_index``, else the index modulo a million."""
    if named := row.fields.get("g_index", ""):
        return named.removesuffix(".0")
    return str(int(row.key) % ROTATION) if _is_number(row.key) else row.key


def questions_of(rows: Iterable[Row], profile: Profile) -> tuple[list[Question], list[Row]]:
    """The questions whose unrotated pass is there, and the rows that belong to none.

    The unrotated pass has the index of its group; in April 2024 it was the one with an index below a million.
    """
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row.group or row.key, []).append(row)
    questions: list[Question] = []
    orphans: list[Row] = []
    for group, passes in groups.items():
        passes.sort(key=lambda row: (int(row.key) if _is_number(row.key) else 0, row.key))
        by_size = of_april_2024(profile) and _is_number(passes[0].key)
        bases = [row for row in passes if (int(row.key) < ROTATION if by_size else row.key == group)]
        if bases:
            questions.append(Question(bases[0], tuple(passes)))
        else:
            orphans += passes
    return questions, orphans


def _is_number(key: str) -> bool:
    return key.isascii() and key.isdigit()


def _file(name: str, md5: str, *, hidden: bool = False) -> MMBench:
    return MMBench(name=name, file=f"{name}.tsv", md5=md5, judge="optional", hidden=hidden)


BENCHMARKS = (
    _file("MMBench_DEV_EN", "b6caf1133a01c6bb705cf753bb527ed8"),
    _file("MMBench_TEST_EN", "6939fadb0ce626fefc0bdc9c64efc528", hidden=True),
    _file("MMBench_DEV_CN", "08b8fc3324a5ed74155350f57be69fbd"),
    _file("MMBench_TEST_CN", "7e1239baf0ee4c8b513e19705a0f317e", hidden=True),
    _file("MMBench", "4115aea3383f3dd0083be6a633e0f820"),
    _file("MMBench_CN", "2e053ffc90ea598b1feae13c36dc13ee"),
    _file("MMBench_DEV_EN_V11", "30c05be8f2f347a50be25aa067248184"),
    _file("MMBench_TEST_EN_V11", "8d1a704e791df6f5d9fb3ef782b65365", hidden=True),
    _file("MMBench_DEV_CN_V11", "593f9b5f6bea453d870a798b34ae4f37"),
    _file("MMBench_TEST_CN_V11", "156e6569f9547afb16603eca16e85373", hidden=True),
)
