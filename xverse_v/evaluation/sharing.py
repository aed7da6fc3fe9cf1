"""Several processes, one run: which rows are whose, and how the first one knows that the others are done.

The processes never speak to each other. torchrun's variables (RANK, WORLD_SIZE, LOCAL_RANK) say who is who, every one
deals the same rows the same way, and files do the rest. No torch.distributed, so nothing can hang in it. The file knows
neither models nor scores.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from xverse_v.errors import error

from .contract import ImageRef, Row
from .digests import short_digest


@dataclass(frozen=True)
class Share:
    """Process `rank` of `world`; `local` counts the processes of this machine, which is also the number of its GPU."""

    rank: int = 0
    world: int = 1
    local: int = 0

    @property
    def first(self) -> bool:
        """The process that merges, scores and prints results."""
        return self.rank == 0


def share_of(environment: Mapping[str, str] | None = None) -> Share:
    """This process's place, from torchrun's variables; alone without them. Raises E717 for impossible ones."""
    variables = os.environ if environment is None else environment
    given = {name: variables.get(name, "") for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK")}
    try:
        share = Share(int(given["RANK"] or 0), int(given["WORLD_SIZE"] or 1), int(given["LOCAL_RANK"] or 0))
    except ValueError:
        raise error("E717", **given) from None
    if not 0 <= share.rank < share.world or (share.world > 1 and not given["RANK"]):
        raise error("E717", **given)
    return share


def group_by_image(rows: Iterable[Row]) -> list[list[Row]]:
    """Rows about the same images together, in the order in which the images first appear."""
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        # Rows without images have nothing to share; one group each keeps the shares even.
        name = tuple(image_name(image) for image in row.images) or ("", row.key)
        groups.setdefault(name, []).append(row)
    return list(groups.values())


def deal(groups: Sequence[list[Row]], share: Share) -> list[list[Row]]:
    """This process's groups: each goes to whoever has the fewest rows so far, so the shares are even.

    It depends on the rows alone, not on what is answered already: all processes deal alike, whenever they look.
    """
    loads = [0] * share.world
    mine = []
    for group in groups:
        rank = loads.index(min(loads))
        loads[rank] += len(group)
        if rank == share.rank:
            mine.append(group)
    return mine


def image_name(image: ImageRef) -> str:
    """What tells images apart before they are read."""
    if image.digest:
        return image.digest
    return short_digest(image.data) if image.data is not None else str(image.path)
