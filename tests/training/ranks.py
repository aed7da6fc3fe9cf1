"""Training in processes of their own: one a rank, forked from a server that has imported everything, so each starts
at once."""

from __future__ import annotations

import multiprocessing
import os
import socket
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import yaml

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(
    ["xverse_v.training.train", "transformers.models.llama.modeling_llama", "tests.training.ranks"]
)
SECONDS = 120


def _rank(recipe: str, rank: int, size: int, port: int, resume: bool, patch: Any) -> None:
    import torch

    said = os.open(Path(recipe).with_name(f"stderr-{rank}.txt"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(said, 2)
    torch.set_num_threads(1)
    if size > 1:
        os.environ.update(
            RANK=str(rank), WORLD_SIZE=str(size), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), LOCAL_RANK=str(rank)
        )
    from xverse_v.training.__main__ import main

    if patch is not None:
        patch(rank)
    os._exit(main([recipe, *(["--resume"] if resume else [])]))


def begin(document: dict[str, Any], ranks: int = 1, *, resume: bool = False, patch: Any = None) -> list[BaseProcess]:
    """Start a run's processes. `patch(rank)`, a function of a module, is called in each before it trains."""
    folder = Path(document["run"])
    folder.mkdir(parents=True, exist_ok=True)
    recipe = folder / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(document), encoding="utf-8")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    started = []
    for rank in range(ranks):
        process = PROCESSES.Process(target=_rank, args=(str(recipe), rank, ranks, port, resume, patch))
        process.start()
        started.append(process)
    return started


def wait(processes: list[BaseProcess]) -> list[int | None]:
    """Exit codes; what does not end in time is killed and counts as None."""
    codes: list[int | None] = []
    for process in processes:
        process.join(SECONDS)
        codes.append(process.exitcode)
        if process.exitcode is None:
            process.kill()
            process.join()
    return codes


def train(document: dict[str, Any], ranks: int = 1, *, resume: bool = False, patch: Any = None) -> list[int | None]:
    """A whole run."""
    return wait(begin(document, ranks, resume=resume, patch=patch))


def said(run: Path) -> str:
    """What the ranks of a run wrote to stderr."""
    return "".join(path.read_text(encoding="utf-8") for path in sorted(run.glob("stderr-*.txt")))
