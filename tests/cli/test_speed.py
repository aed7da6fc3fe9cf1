"""The verb from the outside: tables, JSON lines, the report's file. Sizes are tiny, so no number means anything."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from xverse_v.cli.speed import speed
from xverse_v.errors import XverseError
from xverse_v.speed import ceilings, gpu, loading, sections
from xverse_v.speed.ceilings import Ceilings, Rate
from xverse_v.speed.records import Goal, Record
from xverse_v.speed.report import Section


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    """Ceilings made up: measuring them takes ten seconds and is tested in its own room."""
    monkeypatch.setenv("XVERSE_V_LANG", "en")

    def made_up(device="cpu", dtypes=("float32",), **options):
        rate = Rate("made up", "FLOP/s", (1e9,), "no probe")
        return Ceilings(device, 1, dict.fromkeys(dtypes, rate), (rate,), rate)

    monkeypatch.setattr(ceilings, "measure_ceilings", made_up)


def run(*arguments: str):
    done = CliRunner().invoke(speed, list(arguments), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_roofline_prints_a_table_of_the_13b_without_its_weights():
    shown = run("roofline", "--dtype", "int8")
    assert "| vision tower, 7 views |" in shown and "| finetune: optimizer |" in shown


def test_roofline_for_scripts_is_a_line_a_phase():
    lines = [json.loads(line) for line in run("roofline", "--model", "nano", "--json").splitlines()]
    assert len(lines) == 10 and all(line["bytes"] > 0 and line["ceilings"]["read"]["best"] for line in lines)


def test_generate_prints_rows_and_goals():
    shown = run("generate", "--size", "tiny", "--views", "1", "--new-tokens", "3", "--repeat", "1", "--peer", "release")
    assert "release's way" in shown and "| sixteen questions |" in shown and "at most 0.67" in shown


def test_generate_for_scripts_is_a_line_a_row():
    flags = ("--size", "tiny", "--views", "1", "--new-tokens", "3", "--repeat", "1", "--json")
    rows = [json.loads(line) for line in run("generate", *flags).splitlines()]
    assert {row["what"].strip() for row in rows} >= {"first token", "a token after it", "sixteen questions"}
    assert all(row["conditions"]["machine"] for row in rows)


@pytest.mark.parametrize("verb", ["report", "gpu"])
def test_a_report_is_never_overwritten_and_its_place_is_looked_for_first(tmp_path, monkeypatch, verb):
    monkeypatch.setattr("xverse_v.cli.speed_more.measured_ceilings", None)  # whoever measures fails
    old = tmp_path / "old.md"
    old.write_text("measured long ago", encoding="utf-8")
    for out in (old, old / "below.md"):
        shown = CliRunner().invoke(speed, [verb, "--size", "tiny", "--out", str(out)])
        assert isinstance(shown.exception, XverseError) and shown.exception.code == "E809"
    assert old.read_text(encoding="utf-8") == "measured long ago"


def test_a_report_is_written_with_every_goal(tmp_path, monkeypatch):
    # What starts processes and what runs often is measured in tests/speed; here its answer is enough.
    found = {"load_seconds": 1.0, "read_seconds": 2.0, "weights_bytes": 100, "peak_bytes": 101}
    monkeypatch.setattr(loading, "in_process", lambda folder, how: found)
    row = Record("made up", "xverse-v", "s", (2.0,), {"size": "any"}, 1.0, "bandwidth")
    for name in ("serving", "training", "growth"):
        section = Section(name.title(), [row], [Goal(f"{name} is fast", "at least 1", "2", True)])
        monkeypatch.setattr(sections, f"{name}_section", lambda *given, section=section: section)
    out = tmp_path / "speed" / "today.md"
    flags = ("--size", "tiny", "--small", "tiny", "--views", "1", "--new-tokens", "3", "--repeat", "1")
    shown = run("report", *flags, "--out", str(out))
    text = out.read_text(encoding="utf-8")
    assert str(out) in shown and "serving is fast" in shown
    assert "1.010 x" in text
    parts = (
        "Goals",
        "What the machine allows",
        "Answers",
        "Images to views",
        "Loading",
        "Serving",
        "Training",
        "Growth",
    )
    for part in parts:
        assert f"## {part}" in text
    pictures = [path.name for path in out.parent.glob("*.png")]
    assert pictures and all(f"]({name})" in text for name in pictures)


@pytest.mark.parametrize("verb", ["serve", "train", "growth"])
def test_a_part_prints_its_rows_and_goals(verb, monkeypatch):
    # What it measures is tested in tests/speed.
    row = Record(f"row of {verb}", "xverse-v", "s", (2.0,), {"size": "any"}, 1.0, "bandwidth")
    made = Section(verb, [row], [Goal(f"{verb} is fast", "at least 1", "2", True)])
    taken = []

    def section(*given):
        taken.append(given)
        return made

    name = {"serve": "serving", "train": "training"}.get(verb, verb)
    monkeypatch.setattr(sections, f"{name}_section", section)
    shown = run(verb, *(() if verb == "serve" else ("--size", "tiny")))
    assert f"| row of {verb} |" in shown and f"| {verb} is fast | at least 1 | 2 | yes |" in shown
    assert len(taken) == 1


def test_a_suite_for_a_card_can_be_tried_on_a_cpu(tmp_path, monkeypatch):
    made = [Section("Decoding", [], [Goal("decode of 1 rows", "at least 85 %", "90 %", True)])]
    monkeypatch.setattr(gpu, "run_suite", lambda suite, ceilings, note: made)
    out = tmp_path / "card.md"
    shown = run("gpu", "--size", "tiny", "--device", "cpu", "--dtype", "float32", "--out", str(out))
    assert "decode of 1 rows" in shown and "## Decoding" in out.read_text(encoding="utf-8")
