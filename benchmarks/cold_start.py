"""What a first answer costs from a cold start, beside importing torch and transformers alone.

    python benchmarks/cold_start.py [--repeat 5]

Three commands take turns, each in a process of its own; processor seconds are compared, which other work on the
machine disturbs least. `import transformers` by itself loads next to nothing, as its classes come when they are first
named: the fair baseline names the classes that any image-and-text model has to have. Both ratios are printed.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
from pathlib import Path

from xverse_v.inference.answer import versions

ROOT = Path(__file__).parent.parent
CLASSES = """
import torch
from transformers import CLIPVisionModel, GenerationConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from transformers.image_processing_utils import BaseImageProcessor
from transformers.processing_utils import ProcessorMixin
"""
COMMANDS = {
    "import torch, transformers": ["-c", "import torch, transformers"],
    "... and the classes of such a model": ["-c", CLASSES],
    "xverse-v ask": ["-m", "xverse_v", "ask", "examples/images/shapes.png", "What colour is the circle?"],
}


def processor_seconds(arguments: list[str]) -> float:
    """User and system time of one run, all its threads."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *arguments], cwd=ROOT, stdout=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="The cost of a first answer.")
    parser.add_argument("--repeat", type=int, default=5)
    repeat = parser.parse_args().repeat
    os.environ["OMP_NUM_THREADS"] = "1"
    found: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(repeat):
        for name, arguments in COMMANDS.items():
            found[name].append(processor_seconds(arguments))
    print(f"{versions()}; load average {os.getloadavg()[0]:.1f}; {repeat} runs each, in turns, one thread")
    ask = statistics.median(found["xverse-v ask"])
    for name, seconds in found.items():
        middle = statistics.median(seconds)
        print(f"{middle:6.2f} s (least {min(seconds):.2f})  {ask / middle:5.2f}x  {name}")


if __name__ == "__main__":
    main()
