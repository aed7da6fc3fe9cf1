"""Tests of a copy of the tree, each time in a process that has never imported the package.

Started in the copy as `python tests/mutations/worker.py`. What crosses: one JSON list of pytest's arguments a line on
stdin; one line a request on stdout, [exit status, what pytest wrote]. Only other people's libraries are imported here,
because they take seconds and do not change; every request is a fork of this process, which then reads the package and
its tests from the copy as they lie there at that moment. No compiled files are written or found, so none can be stale.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import tempfile
import traceback
from pathlib import Path

LIBRARIES = (
    "hypothesis", "numpy", "peft", "PIL.Image", "PIL.ImageOps", "pydantic", "pytest", "safetensors.torch", "tokenizers",
    "torch", "transformers.models.clip.modeling_clip", "transformers.models.llama.modeling_llama",
    "transformers.models.auto.processing_auto", "transformers.processing_utils",
    "transformers.image_processing_backends", "transformers.generation.utils",
)  # fmt: skip


def run(arguments: list[str], output: Path) -> int:
    """pytest's exit status for these arguments, from a fork."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    status = 99
    try:
        handle = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(handle, 1)
        os.dup2(handle, 2)
        import pytest

        status = int(pytest.main(arguments))
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def main() -> None:
    here = Path.cwd()
    sys.dont_write_bytecode = True
    sys.path[0] = str(here)
    for name in LIBRARIES:
        importlib.import_module(name)
    import hypothesis
    import torch

    # A busy machine is no failing test: without a deadline only a wrong result counts as noticing.
    hypothesis.settings.register_profile("mutations", deadline=None, suppress_health_check=list(hypothesis.HealthCheck))
    hypothesis.settings.load_profile("mutations")
    torch.set_num_threads(1)
    found = importlib.util.find_spec("xverse_v")
    assert found is not None and found.origin == str(here / "xverse_v/__init__.py"), found
    assert not any(name.partition(".")[0] in ("xverse_v", "tests") for name in sys.modules)
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "output.txt"
        for line in sys.stdin:
            status = run(json.loads(line), output)
            print(json.dumps([status, output.read_text(encoding="utf-8", errors="replace")]), flush=True)


if __name__ == "__main__":
    main()
