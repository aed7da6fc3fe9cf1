"""The benchmarks by name. Each is one file of this folder; the table below is written out, nothing registers itself."""

from __future__ import annotations

import difflib

from xverse_v.errors import error

from ..contract import Benchmark
from . import (
    ai2d,
    gqa,
    hallusionbench,
    llavabench,
    mathvista,
    mmbench,
    mmmu,
    mmstar,
    ocrbench,
    okvqa,
    science_qa,
    seedbench,
    textvqa,
    vizwiz,
)

TABLE: dict[str, Benchmark] = {
    benchmark.name: benchmark
    for benchmark in (
        *mmbench.BENCHMARKS,
        *mmstar.BENCHMARKS,
        *mmmu.BENCHMARKS,
        *mathvista.BENCHMARKS,
        *hallusionbench.BENCHMARKS,
        *ai2d.BENCHMARKS,
        *ocrbench.BENCHMARKS,
        *seedbench.BENCHMARKS,
        *llavabench.BENCHMARKS,
        *science_qa.BENCHMARKS,
        *okvqa.BENCHMARKS,
        *gqa.BENCHMARKS,
        *vizwiz.BENCHMARKS,
        *textvqa.BENCHMARKS,
    )
}


def names() -> tuple[str, ...]:
    """All names, in the order of the model card's tables."""
    return tuple(TABLE)


def find(name: str) -> Benchmark:
    """The benchmark of that name, whatever the case of its letters. Raises E730 with the nearest names."""
    known = {known.lower(): known for known in TABLE}
    if name.lower() in known:
        return TABLE[known[name.lower()]]
    near = difflib.get_close_matches(name.lower(), known, n=3, cutoff=0.3)
    raise error("E730", name=name, near=", ".join(known[found] for found in near) or ", ".join(TABLE))
