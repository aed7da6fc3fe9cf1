"""A folder that exists is finished, whatever it is called."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.weights.tiny_parts import golden_parts
from xverse_v.errors import XverseError
from xverse_v.weights.load import load_model, weights_id


def test_a_folder_with_something_in_it_is_refused(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine.txt").write_text("mine")
    with pytest.raises(XverseError) as caught:
        golden_parts().convert(tmp_path / "out")
    assert caught.value.code == "E313" and caught.value.exit_code == 2
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]


def test_an_empty_folder_is_filled(tmp_path):
    (tmp_path / "out").mkdir()
    golden_parts().convert(tmp_path / "out")
    assert load_model(tmp_path / "out").dtype == torch.float32


_SLOW = """
import sys, time
from pathlib import Path
from xverse_v.weights import convert as c
real = c.check_parity
def slow(*a, **k):
    print("ready", flush=True)
    time.sleep(60)
    return real(*a, **k)
c.check_parity = slow
c.convert(*(Path(p) for p in sys.argv[1:5]))
"""


def test_a_killed_conversion_leaves_no_folder_of_that_name(tmp_path):
    golden_one = golden_parts()
    out = tmp_path / "out"
    arguments = [str(path) for path in (golden_one.clip, golden_one.llm, golden_one.adapters, out)]
    process = subprocess.Popen(
        [sys.executable, "-c", _SLOW, *arguments], stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]
    )
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert not out.exists()
    left = list(tmp_path.glob(".out.partial-*"))
    assert len(left) == 1 and not (left[0] / "manifest.json").exists()
    report = golden_one.convert(out)
    assert any(str(left[0]) in note for note in report.notes)


def test_a_renamed_folder_loads_and_keeps_its_id(folder, tmp_path):
    before = weights_id(folder)
    renamed = folder.rename(tmp_path / "neither llama nor the other name")
    assert load_model(renamed).dtype == torch.float32
    assert weights_id(renamed) == before
