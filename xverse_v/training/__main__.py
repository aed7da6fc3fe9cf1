"""The trainer as torchrun starts it: `torchrun --nproc-per-node 8 -m xverse_v.training RECIPE.yaml key=value ...
[--resume]`.

A run of one process is the same run with `xverse-v train`. Exit codes: 0 trained, 1 failed, 2 the request was wrong.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from xverse_v.errors import XverseError


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse, train, and say on stderr what went wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m xverse_v.training", description="Train by a recipe, one process a device."
    )
    parser.add_argument("recipe", type=Path, help="YAML file, see recipes/")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings that replace the recipe's")
    parser.add_argument("--resume", action="store_true", help="go on from the newest complete checkpoint of the run")
    given = parser.parse_intermixed_args(arguments)
    rank = os.environ.get("RANK", "0")
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format=f"[{rank}] %(message)s")
    logging.getLogger("torch").setLevel(logging.WARNING)
    from .config import read_config
    from .train import main as train

    try:
        train(read_config(given.recipe, given.overrides), resume=given.resume)
    except XverseError as problem:
        logging.getLogger(__name__).error("%s", problem)
        return problem.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
