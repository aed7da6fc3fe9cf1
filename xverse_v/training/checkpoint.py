"""Checkpoints: what trains, its optimizer, and the number of the step, written whole or not at all.

What crosses: parameters, an AdamW optimizer and a record in; `checkpoints/step-00000012/` out, and back again.
Tensors go through PyTorch's distributed checkpoint with its safetensors storage: every rank writes the pieces it
holds, nobody needs the memory of the whole, any number of ranks can read them. The rest is JSON. A folder without
the `.partial` ending is complete: it is renamed last. Dropout and order are functions of seeds and the step, so
there is no other state to keep.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import warnings
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import async_save, save

from xverse_v.errors import error

CHECKPOINTS = "checkpoints"
RECORD = "checkpoint.json"
FORMAT = 1
_NAME = re.compile(r"step-(\d{8})")
_MOMENTS = {"mean": "exp_avg", "square": "exp_avg_sq"}

State = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Record:
    """`checkpoint.json`. `settings` is the configuration of the run; `files` are sizes in bytes by name."""

    format: int
    step: int
    ranks: int
    weights_id: str
    settings: Mapping[str, Any]
    files: Mapping[str, int]


def folder_of(run: Path, step: int) -> Path:
    """Where the checkpoint of a step is."""
    return run / CHECKPOINTS / f"step-{step:08d}"


def complete_steps(run: Path) -> list[int]:
    """Steps whose checkpoint is complete, in order."""
    found = (_NAME.fullmatch(path.name) for path in (run / CHECKPOINTS).glob("step-*"))
    return sorted(int(match[1]) for match in found if match)


def read_record(run: Path, step: int) -> Record:
    """The record of a checkpoint. Raises E260 if it cannot be read or a file has another size than recorded."""
    folder = folder_of(run, step)
    try:
        facts = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        record = Record(**facts)
        sizes = {name: (folder / name).stat().st_size for name in record.files}
    except (OSError, ValueError, TypeError) as problem:
        raise error("E260", folder=folder, problem=problem) from None
    wrong = [
        f"{name}: {sizes[name]} bytes, expected {size}" for name, size in record.files.items() if sizes[name] != size
    ]
    if wrong or record.format != FORMAT:
        raise error("E260", folder=folder, problem="; ".join(wrong) or f"format {record.format}, expected {FORMAT}")
    return record


def state_of(parameters: Mapping[str, nn.Parameter], optimizer: torch.optim.Optimizer) -> State:
    """The tensors of a checkpoint under flat names; they share memory with the run. Missing moments are made, as
    zeros."""
    state: State = {}
    for name, parameter in parameters.items():
        moments = optimizer.state[parameter]
        state[f"weight.{name}"] = parameter.detach()
        for ours, theirs in _MOMENTS.items():
            if theirs not in moments:
                moments[theirs] = torch.zeros_like(parameter, memory_format=torch.preserve_format).detach()
            state[f"{ours}.{name}"] = moments[theirs]
    return state


def restore(run: Path, step: int, parameters: Mapping[str, nn.Parameter], optimizer: torch.optim.Optimizer) -> None:
    """Put a checkpoint into parameters and optimizer, whatever number of ranks wrote it. Raises E260."""
    state = state_of(parameters, optimizer)
    folder = folder_of(run, step)
    try:
        load(state, storage_reader=HuggingFaceStorageReader(str(folder)))
    except Exception as problem:  # DCP wraps whatever a rank met in an exception of its own
        raise error("E260", folder=folder, problem=str(problem).replace("\n", " ")[:300]) from problem
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            where = parameter.device if group.get("fused") else "cpu"
            optimizer.state[parameter]["step"] = torch.tensor(float(step), dtype=torch.float32, device=where)


def read_weights(run: Path, step: int) -> State:
    """Trained weights of a checkpoint by parameter name, whole, float32 on the CPU; in a process without ranks.
    Raises E260."""
    folder = folder_of(run, step)
    reader = HuggingFaceStorageReader(str(folder))
    try:
        sizes = {
            name: facts.size
            for name, facts in reader.read_metadata().state_dict_metadata.items()
            if isinstance(facts, TensorStorageMetadata)
        }
        state = {
            name: torch.empty(size, dtype=torch.float32) for name, size in sizes.items() if name.startswith("weight.")
        }
        with warnings.catch_warnings():
            # It says that there are no ranks, which is what was asked for.
            warnings.filterwarnings("ignore", message="torch.distributed is disabled", category=UserWarning)
            load(state, storage_reader=reader, no_dist=True)
    except Exception as problem:
        raise error("E260", folder=folder, problem=str(problem).replace("\n", " ")[:300]) from problem
    return {name.removeprefix("weight."): tensor for name, tensor in state.items()}


class Saver:
    """Writes the checkpoints of one run, one at a time, in the background if asked. Every rank has one; all call in
    step."""

    def __init__(self, run: Path, *, keep: int, background: bool, weights_id: str, settings: Mapping[str, Any]) -> None:
        self.run = run
        self.keep = keep
        self.background = background
        self.weights_id = weights_id
        self.settings = settings
        self.leads = dist.get_rank() == 0
        # A group of its own: the writing threads must not take turns with the collectives of training.
        self._group = dist.new_group(backend="gloo")
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._pending: Future[None] | None = None
        if self.leads:
            for left in (run / CHECKPOINTS).glob("*.partial"):
                shutil.rmtree(left)

    def save(self, step: int, state: State) -> None:
        """Begin to write a checkpoint; waits for the one before. The state may change as soon as this returns."""
        self.wait()
        partial = folder_of(self.run, step).with_suffix(".partial")
        if self.leads:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
        dist.barrier(group=self._group)
        writer = HuggingFaceStorageWriter(str(partial), save_distributed=True)
        if not self.background:
            save(state, storage_writer=writer, process_group=self._group)
            self._finish(partial, step)
            return
        written = async_save(state, storage_writer=writer, process_group=self._group)
        assert isinstance(written, Future)
        self._pending = self._pool.submit(self._finish_when, written, partial, step)

    def wait(self) -> None:
        """Until the last checkpoint is complete on this rank. Raises what went wrong while writing it."""
        if self._pending is not None:
            self._pending.result()
            self._pending = None

    def finish(self) -> None:
        """Wait until the last checkpoint is complete on every rank."""
        self.wait()
        dist.barrier(group=self._group)

    def stop(self) -> None:
        """End the thread, after the checkpoint it may be writing; on every way out of a run."""
        self._pool.shutdown(wait=True)

    def _finish_when(self, written: Future[Any], partial: Path, step: int) -> None:
        written.result()
        self._finish(partial, step)

    def _finish(self, partial: Path, step: int) -> None:
        """Give a written checkpoint its record and its name, then delete the oldest. DCP returns on rank 0 when all
        have written."""
        if not self.leads:
            return
        files = {path.name: path.stat().st_size for path in sorted(partial.iterdir())}
        record = Record(FORMAT, step, dist.get_world_size(), self.weights_id, self.settings, files)
        with (partial / RECORD).open("w", encoding="utf-8") as file:
            json.dump(asdict(record), file, ensure_ascii=False, indent=2)
            file.flush()
            os.fsync(file.fileno())
        final = folder_of(self.run, step)
        if final.exists():
            shutil.rmtree(final)
        partial.rename(final)
        _sync_folder(final.parent)
        for old in complete_steps(self.run)[: -self.keep]:
            # Renamed first: a half-deleted folder must not look complete.
            gone = folder_of(self.run, old).with_suffix(".partial")
            folder_of(self.run, old).rename(gone)
            shutil.rmtree(gone)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
