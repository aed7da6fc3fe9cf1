"""Numbers with their nouns, for what verbs print in English."""

from __future__ import annotations


def counted(count: int, noun: str) -> str:
    """The number with its noun, as in 1 row and 2,000 rows."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
