"""torchrun for real: two processes, one dies, the run is restarted, goes on by itself and ends as if nothing had
been."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.training import ranks
from tests.training.comparing import assert_same
from tests.training.conftest import lines, settings

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_a_dead_rank_is_replaced_and_the_run_goes_on(small_folder: Path, samples: Path, tmp_path: Path) -> None:
    run, recipe = tmp_path / "run", tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(settings(small_folder, samples, run)), encoding="utf-8")
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        "--max-restarts",
        "1",
    ]
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": path}
    worker = str(Path(__file__).with_name("falling_worker.py"))
    done = subprocess.run(
        [*command, worker, str(recipe)], env=environment, timeout=400, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert [line["attempt"] for line in lines(run, "start")] == [0, 1]
    assert [line["after_step"] for line in lines(run, "start")] == [0, 3]
    assert ranks.train(settings(small_folder, samples, tmp_path / "whole")) == [0]
    assert_same(run, tmp_path / "whole", 6)
