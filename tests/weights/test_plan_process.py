"""The tracker and the plan against the process's own resident memory, in a process of its own.

malloc is told to give every large block back at once, so that what the process holds is what is alive; the plan's
allocator margin is there for the rest of the world.
"""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.weights.plan_runs import AnswerRun, network, stored_bytes, tracked_bytes
from tests.weights.plan_training_runs import TrainingRun, TrainingStep
from xverse_v.weights.plan import plan_inference
from xverse_v.weights.plan_training import plan_training
from xverse_v.weights.shapes import shape_from_config

# A thin decoder with a wide feed-forward: hundreds of megabytes of activations for few operations.
WIDE = {"width": 64, "feed_forward": 8192, "layers": 2}
RUNS: dict[str, AnswerRun | TrainingRun] = {
    "infer": AnswerRun("infer", ((672, 672),) * 4, new_tokens=2, network=WIDE),
    "pretrain": TrainingRun("pretrain", "pretrain", ((672, 672),), network=WIDE),
    "finetune": TrainingRun("finetune", "finetune", ((672, 672),), checkpointing=True, network=WIDE),
}
EAGER_MALLOC = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "0", "MALLOC_MMAP_MAX_": "1000000"}
CLEAR = Path("/proc/self/clear_refs")


def status(field: str) -> int:
    """VmRSS or VmHWM of this process, in bytes."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1024


def measure(run: AnswerRun | TrainingRun) -> dict[str, int]:
    """Runs in the child. Growth of the process's memory at its peak, and what the plan said it would be."""
    model = network(**run.network)
    shape, before = shape_from_config(model.config, name=run.name), stored_bytes(model)
    small = AnswerRun("warm", ((224, 224),), new_tokens=2, network=run.network)
    if isinstance(run, AnswerRun):
        prompt = run.ask(run.assistant(model))
        plan, assistant = plan_inference(shape, run.options(model, prompt)), run.assistant(model)
        predicted = tracked_bytes(plan) - before
    else:
        small.ask(small.assistant(model))
        step, plan = TrainingStep(run, model), plan_training(shape, run.options(model))
        step.run(1)
        predicted = tracked_bytes(plan) - stored_bytes(model)
    gc.collect()
    CLEAR.write_text("5")  # the kernel forgets the peak so far
    start = status("VmRSS")
    if isinstance(run, AnswerRun):
        run.ask(assistant)
    else:
        step.run(2)
    return {"grown": status("VmHWM") - start, "predicted": predicted}


@pytest.mark.skipif(not CLEAR.exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize(
    "name", ["pretrain", *(pytest.param(name, marks=pytest.mark.slow) for name in ("infer", "finetune"))]
)
def test_resident_memory_grows_as_planned(name: str) -> None:
    child = "import json, sys; from tests.weights import test_plan_process as t; "
    child += "print(json.dumps(t.measure(t.RUNS[sys.argv[1]])))"
    done = subprocess.run(
        [sys.executable, "-c", child, name],
        cwd=Path(__file__).parents[2],
        env={**os.environ, **EAGER_MALLOC, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    print(name, found)
    assert found["predicted"] > 100_000_000, "too small to tell from noise"
    assert abs(found["predicted"] / found["grown"] - 1) <= 0.10, found
