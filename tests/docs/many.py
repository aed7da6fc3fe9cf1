"""`xverse-v` several times in one process, for what would only load the same model again.

    python -m tests.docs.many ask cat.jpg "What?" --max-tiles 4 + ask cat.jpg "What?" --json

A lone `+` stands between two commands; the first that fails gives the exit code. What the machine can do at most is
made up, because measuring it takes ten seconds for each command of `speed`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from itertools import groupby

from xverse_v.cli import main
from xverse_v.speed import ceilings
from xverse_v.speed.ceilings import Ceilings, Rate


def made_up(device: str = "cpu", dtypes: Iterable[str] = ("float32",), **options: object) -> Ceilings:
    rate = Rate("made up", "FLOP/s", (1e9,), "no probe")
    return Ceilings(device, 1, dict.fromkeys(dtypes, rate), (rate,), rate)


def run(arguments: list[str]) -> int:
    ceilings.measure_ceilings = made_up
    for between, words in groupby(arguments, key="+".__eq__):
        line = list(words)
        if not between and (code := main(line)):
            print(f"exit code {code}: xverse-v {' '.join(line)}", file=sys.stderr)
            return code
    return 0


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
