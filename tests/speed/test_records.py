"""Rows and reports: medians, percentages in both directions, conditions in every line, goals beside their numbers."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from xverse_v.speed.ceilings import measure_ceilings
from xverse_v.speed.phases import answering, training
from xverse_v.speed.records import Goal, Record, conditions, goals_table, json_line, number, table
from xverse_v.speed.report import Section, ceilings_table, markdown, roofline_table
from xverse_v.speed.sizes import SIZES

ROW = Record("decode", "xverse-v", "ms", (4.0, 9.0, 5.0), {"views": 7}, floor=2.0, bound="bandwidth", cpu=(3.0, 3.5))


def test_a_row_is_the_median_of_its_samples_and_its_share_of_the_ceiling():
    assert (ROW.value, ROW.n, ROW.percent) == (5.0, 3, pytest.approx(40.0))


def test_of_a_rate_more_is_better():
    assert replace(ROW, unit="GB/s", floor=10.0, higher=True).percent == pytest.approx(50.0)


def test_without_a_ceiling_there_is_no_percentage():
    assert replace(ROW, floor=None).percent is None


def test_a_line_for_scripts_carries_the_conditions():
    line = json_line(ROW, conditions())
    found = json.loads(line)
    assert "\n" not in line
    assert found["percent_of_ceiling"] == pytest.approx(40.0) and found["settings"] == {"views": 7}
    assert {"date", "machine", "threads", "load", "versions", "cores"} <= found["conditions"].keys()
    assert found["conditions"]["versions"]["torch"]


def test_a_table_shows_settings_that_differ_and_no_others():
    rows = [ROW, replace(ROW, settings={"views": 10, "dtype": "float32"}), replace(ROW, settings={"views": 1})]
    head = table(rows)[0]
    assert "views" in head and "dtype" in head
    assert "views" not in table(rows[:1])[0]
    assert all(line.count("|") == head.count("|") for line in table(rows))


def test_a_report_names_every_goal_with_its_number():
    goals = [Goal("fast", "at least 2", "3.1", True), Goal("small", "at most 1", "1.4", False, "a reason")]
    goals.append(Goal("unknown", "any", "-", None, "no such machine"))
    text = markdown("title", conditions(), [Section("part", [ROW], goals, ("words",), "a command")])
    assert "Goals: 1 met, 1 missed, 1 not measured" in text
    for line in goals_table(goals):
        assert line in text
    last = [line for line in text.splitlines() if line.startswith("{")]
    assert [json.loads(line)["what"] for line in last] == ["decode"]


def test_a_busy_machine_is_said_so():
    calm = replace(conditions(), load=0.1, cores=2)
    assert "busy" not in markdown("t", calm, [])
    assert "busy" in markdown("t", replace(calm, load=2.5), [])


def test_numbers_keep_three_digits():
    assert [number(value) for value in (0, 0.012345, 1.2345, 12.345, 1234.5)] == [
        "0",
        "0.0123",
        "1.23",
        "12.3",
        "1,234",
    ]


def test_ceilings_are_the_best_of_their_samples():
    found = measure_ceilings("cpu", ("float32", "bfloat16"), repeats=3, sides=(64,), buffer_bytes=2**18)
    assert set(found.matrix) == {"float32", "bfloat16"}
    for rate in (*found.matrix.values(), *found.reads, found.copy):
        assert len(rate.samples) == 3 and rate.best == max(rate.samples) >= rate.median > 0
    assert found.read.best == max(rate.best for rate in found.reads)
    rates = found.rates("bfloat16")
    assert (rates.flops, rates.bandwidth) == (found.matrix["bfloat16"].best, found.read.best)
    assert found.fastest_dtype() in found.matrix
    assert len(ceilings_table(found)) == 7


def test_the_roofline_lists_every_phase_once_for_each_size():
    found = measure_ceilings("cpu", ("float32",), repeats=1, sides=(64,), buffer_bytes=2**18)
    for shape in SIZES.values():
        works = answering(shape, 7, 64, 128) + training(shape, 7)
        names = [work.name for work in works]
        assert len(set(names)) == len(names) == 10
        assert len(roofline_table(works, found)) == len(works) + 2
        assert all(work.bytes > 0 for work in works)
