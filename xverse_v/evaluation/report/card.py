"""The released card's two tables as data, read from card.toml. Knows no measurement of ours."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

SUBJECT = "XVERSE-V-13B"


@dataclass(frozen=True)
class CardRow:
    """One benchmark: a value for each of the table's models, of at most ``top``.

    ``measured`` are our names of data sets that stand here; ``open`` is what the card leaves unsaid about the number.
    """

    name: str
    values: tuple[float, ...]
    measured: tuple[str, ...]
    top: float
    open: str

    def shown(self, value: float) -> str:
        """One decimal, points of a thousand without."""
        return f"{value:.0f}" if self.top > 100 else f"{value:.1f}"


@dataclass(frozen=True)
class CardTable:
    """``profiles``: the rules of ours that come nearest to how the card's own numbers were made."""

    id: str
    title: str
    models: tuple[str, ...]
    profiles: tuple[str, ...]
    rows: tuple[CardRow, ...]


@dataclass(frozen=True)
class Card:
    """``closed`` models' weights are not published. ``origin`` says where the other models' numbers came from."""

    source: str
    origin: str
    closed: tuple[str, ...]
    tables: tuple[CardTable, ...]


@cache
def read_card() -> Card:
    """The card, checked: a row with a value too many or too few is a mistake of ours and raises `ValueError`."""
    text = files(__package__).joinpath("card.toml").read_text(encoding="utf-8")
    document = tomllib.loads(text)
    tables = tuple(_table(table) for table in document["table"])
    if document["subject"] != SUBJECT or any(table.models[0] != SUBJECT for table in tables):
        raise ValueError(f"every table of the card begins with {SUBJECT}")
    return Card(document["source"], document["origin"]["en"], tuple(document["closed"]), tables)


def _table(document: dict[str, Any]) -> CardTable:
    models = tuple(document["models"])
    rows = []
    for row in document["row"]:
        if len(row["values"]) != len(models):
            raise ValueError(f"{row['name']}: {len(row['values'])} values for {len(models)} models")
        values = tuple(float(value) for value in row["values"])
        rows.append(
            CardRow(row["name"], values, tuple(row["measured"]), float(row.get("top", 100)), row.get("open", ""))
        )
    return CardTable(document["id"], document["title"]["en"], models, tuple(document["profiles"]), tuple(rows))
