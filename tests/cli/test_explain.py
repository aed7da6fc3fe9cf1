"""`explain` finds an error by any of its names and lists them all."""

import json

import pytest

from xverse_v.errors import catalogue


@pytest.mark.parametrize("asked", ["E827", "e827", "827", "batch_same_file"])
def test_a_code_is_explained(run, asked):
    shown = run("explain", asked)
    assert shown.code == 0
    lines = shown.out.splitlines()
    assert lines[0] == "E827 (batch_same_file)"
    assert len(lines) == 4


def test_no_code_lists_all(run):
    lines = run("explain").out.splitlines()
    assert [line.split()[0] for line in lines] == list(catalogue())


def test_json(run):
    assert json.loads(run("explain", "E827", "--json").out)["exit_code"] == 2
    assert len(json.loads(run("explain", "--json").out)) == len(catalogue())


@pytest.mark.parametrize(
    ("asked", "hint"),
    [("E8277", "did you mean E827?"), ("batch_same_fiel", "did you mean batch_same_file?"), ("???", "known ones.")],
)
def test_an_unknown_code_is_refused_with_the_nearest(run, asked, hint):
    shown = run("explain", asked)
    assert (shown.code, shown.err[:4]) == (2, "E805")
    assert hint in shown.err
