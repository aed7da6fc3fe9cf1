"""The watchdog alone: who is named, and when it speaks. No test measures time; they wait for what must come."""

from __future__ import annotations

import json
import threading
from pathlib import Path

from xverse_v.errors import XverseError
from xverse_v.training.watchdog import Beat, Watchdog, culprit, read_beats


def beat(rank: int, step: int, phase: str, seconds: float = 1.0) -> Beat:
    return Beat(rank, step, phase, ("s1",), seconds)


def test_the_least_advanced_rank_is_named() -> None:
    assert culprit([beat(0, 5, "forward"), beat(1, 4, "update"), beat(2, 5, "data")]).rank == 1


def test_a_rank_that_works_is_named_before_one_that_waits() -> None:
    assert culprit([beat(0, 5, "count", 90), beat(1, 5, "data", 80)]).rank == 1
    assert culprit([beat(0, 5, "reduce", 90), beat(1, 5, "count", 80), beat(2, 5, "backward", 70)]).rank == 2


def test_of_equals_the_one_that_has_been_there_longest_is_named() -> None:
    assert culprit([beat(0, 5, "forward", 10), beat(1, 5, "forward", 30)]).rank == 1


def test_a_stall_is_reported_once_with_rank_step_phase_and_samples(tmp_path: Path) -> None:
    (tmp_path / "rank-00001.json").write_text(json.dumps(vars(beat(1, 6, "data", 44.0)) | {"samples": ["bad.png"]}))
    reported, seen = threading.Event(), []

    def on_stall(problem: XverseError) -> None:
        seen.append(problem)
        reported.set()

    with Watchdog(tmp_path, 0, 0.2, on_stall=on_stall) as watch:
        watch.at(6, "count")
        assert reported.wait(30)
    assert len(seen) == 1
    facts = seen[0].facts
    assert seen[0].code == "E268"
    assert (facts["rank"], facts["step"], facts["phase"], facts["samples"], facts["seen_by"]) == (
        1,
        6,
        "data",
        "bad.png",
        0,
    )
    assert "rank 0: step 6, count" in facts["ranks"]


def test_progress_keeps_it_quiet_and_its_file_goes_with_it(tmp_path: Path) -> None:
    stalls: list[XverseError] = []
    pause = threading.Event()
    with Watchdog(tmp_path, 3, 60.0, on_stall=stalls.append) as watch:
        watch.at(1, "forward", ["a", "b"])
        pause.wait(0.1)
        assert [found.rank for found in read_beats(tmp_path)] == [3]
    assert not stalls
    assert not list(tmp_path.iterdir())


def test_a_half_written_heartbeat_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "rank-00000.json").write_text('{"rank": 0')
    assert read_beats(tmp_path) == []
