"""Scores with all their conditions: means with intervals, and the rows of a report by split and category.

Source of the order and the names: VLMEvalKit ``dataset/utils/multiple_choice.py::report_acc`` (there fractions, here
percent). Splits are sorted, because the source's order is that of a set.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, replace

from ..contract import Judge, Matcher, Profile, Row, Score
from ..scoring import intervals
from ..scoring.choice import CATEGORY_NAMES


@dataclass(frozen=True)
class Conditions:
    """What holds for every number of one scoring."""

    profile: Profile
    matcher: Matcher
    judge: str = ""
    skipped: int = 0

    def mean(
        self,
        name: str,
        values: Sequence[float],
        *,
        rows: int | None = None,
        unmatched: int = 0,
        groups: Iterable[Hashable] | None = None,
        note: str = "",
    ) -> Score:
        """The mean of values 0..1 as percent. `groups`: values that are drawn together, see `intervals.of_mean`."""
        low, high = intervals.of_mean(values, groups)
        value = sum(values) / len(values)
        # A sum in another order may differ from the drawn one in its last bit.
        return self.score(
            name,
            100 * value,
            (100 * min(low, value), 100 * max(high, value)),
            rows=len(values) if rows is None else rows,
            unmatched=unmatched,
            note=note,
        )

    def score(
        self,
        name: str,
        value: float,
        interval: tuple[float, float],
        *,
        rows: int,
        unmatched: int = 0,
        unit: str = "%",
        note: str = "",
    ) -> Score:
        """A number that is no plain mean, with an interval of its own."""
        return Score(
            name, value, *interval, rows, self.skipped, unmatched, self.profile, self.matcher, self.judge, unit, note
        )


def conditions(profile: Profile, judge: Judge | None, skipped: int) -> Conditions:
    return Conditions(profile, "judge" if judge else "exact", judge.name if judge else "", skipped)


@dataclass(frozen=True)
class Counted:
    """One value of a mean, and where it counts: a row, or the `rows` passes of a circular question."""

    value: float
    unmatched: int = 0
    rows: int = 1
    split: str = "none"
    l2_category: str = ""
    category: str = ""

    @classmethod
    def of(cls, row: Row, value: float, unmatched: int, rows: int = 1) -> Counted:
        fields = row.fields
        places = fields.get("split", "") or "none", fields.get("l2-category", ""), fields.get("category", "")
        return cls(value, unmatched, rows, *places)


def by_split(
    counted: Sequence[Counted],
    facts: Conditions,
    *,
    preferred: str = "",
    extra: Sequence[Counted] = (),
    extra_name: str = "",
    note: str = "",
) -> list[Score]:
    """Overall, l2-categories and categories of each split, the preferred or first split leading with plain names.

    `extra` are the same rows counted in another way, shown under `extra_name` behind each Overall.
    """
    splits = sorted({item.split for item in counted}, key=lambda split: (split != preferred, split))
    scores = []
    for place, split in enumerate(splits):
        mine = [item for item in counted if item.split == split]
        part = [_mean("Overall", mine, facts, note)]
        if other := [item for item in extra if item.split == split]:
            part.append(_mean(extra_name, other, facts, ""))
        part += _categories(mine, facts)
        plain = len(splits) == 1 or (place == 0 and split == preferred)
        scores += part if plain else [replace(score, name=f"{split}: {score.name}") for score in part]
    return scores


def _categories(counted: Sequence[Counted], facts: Conditions) -> list[Score]:
    l2_names = sorted({item.l2_category for item in counted} - {""})
    names = sorted({item.category for item in counted} - {""})
    found = []
    for name in l2_names:
        shown = CATEGORY_NAMES.get(name, name)
        # The source lets the category of the same name overwrite this one; both are kept, under two names.
        shown = f"{shown} (l2-category)" if name in names else shown
        found.append(_mean(shown, [item for item in counted if item.l2_category == name], facts, ""))
    for name in names:
        shown = CATEGORY_NAMES.get(name, name)
        found.append(_mean(shown, [item for item in counted if item.category == name], facts, ""))
    return found


def _mean(name: str, counted: Sequence[Counted], facts: Conditions, note: str) -> Score:
    values = [item.value for item in counted]
    rows, unmatched = sum(item.rows for item in counted), sum(item.unmatched for item in counted)
    return facts.mean(name, values, rows=rows, unmatched=unmatched, note=note)
