"""`data check` and the index of a source hold a bounded piece of a file, however long it is."""

import json
import subprocess
import sys

import pytest

from tests.training.data.seeded import asked

MEASURE = """
import sys
from pathlib import Path
import psutil
from xverse_v.training.data.check import CheckSettings, check
from xverse_v.training.data.config import SourceConfig
from xverse_v.training.data.sources import open_source
small, large = Path(sys.argv[1]), Path(sys.argv[2])
held = lambda rows=0: sizes.append(psutil.Process().memory_info().rss)
check([small], CheckSettings())
sizes = []
held()
report = check([large], CheckSettings(), progress=held)
source = open_source(SourceConfig(path=large), large.parent / "cache")
held()
sample = source.sample(len(source) - 1)
print(report.rows, report.count("error"), len(source), sample.id, (max(sizes) - sizes[0]) // 1000)
"""


def memory_of(tmp_path, rows):
    row = json.dumps(
        asked("How many are there, and what colour do they have? " * 4, answer="Seven, all of them red. " * 8)
    )
    for name, count in (("small.json", 100), ("large.json", rows)):
        with (tmp_path / name).open("w") as file:
            file.write("[")
            for number in range(count):
                text = row.replace("bad", str(number)).replace("Seven", f"{number}")
                file.write((",\n" if number else "") + (text.replace("How", "<image> How") if number == 5 else text))
            file.write("]")
    run = subprocess.run(
        [sys.executable, "-c", MEASURE, tmp_path / "small.json", tmp_path / "large.json"],
        capture_output=True,
        text=True,
        check=True,
    )
    return run.stdout.split(), (tmp_path / "large.json").stat().st_size


def test_memory_does_not_grow_with_the_file(tmp_path):
    (count, bad, samples, last, kilobytes), size = memory_of(tmp_path, 20_000)
    assert (count, bad, samples, last) == ("20000", "1", "20000", "19999")
    assert size > 8_000_000
    assert int(kilobytes) < 12_000  # the parsed rows would take 50 MB


@pytest.mark.slow
def test_memory_does_not_grow_with_a_million_rows(tmp_path):
    (count, bad, samples, last, kilobytes), size = memory_of(tmp_path, 1_000_000)
    assert (count, bad, samples, last) == ("1000000", "1", "1000000", "999999")
    assert size > 400_000_000
    assert int(kilobytes) < 20_000
