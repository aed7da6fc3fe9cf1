"""Processes, devices and sharding: PyTorch's FSDP2 on a DeviceMesh, from one process to many nodes by one path.

What crosses: `Distribution` settings and the environment of torchrun in; a `World` and a sharded network out.
Collectives of plain numbers and words for the loop are here too. This file knows no stage, no data and no optimizer.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed import HashStore, PrefixStore, Store, TCPStore  # type: ignore[attr-defined]
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import CPUOffloadPolicy, FSDPModule, MixedPrecisionPolicy, OffloadPolicy, fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.utils import get_total_norm
from torch.utils.checkpoint import checkpoint

from xverse_v.errors import error

from .config import Distribution

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class World:
    """This process among all: its number, their count, the device, the format of the computation, and the mesh."""

    rank: int
    size: int
    device: torch.device
    dtype: torch.dtype
    mesh: DeviceMesh
    attempt: int
    """How often torchrun has restarted the run."""

    @property
    def leads(self) -> bool:
        """Whether this process writes logs."""
        return self.rank == 0

    def sums(self, *values: float) -> list[float]:
        """Each value summed over all ranks, in float64."""
        total = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(total, group=dist.group.WORLD)
        return total.tolist()

    def largest(self, value: float) -> float:
        """The largest value of any rank."""
        found = torch.tensor(value, dtype=torch.float64)
        dist.all_reduce(found, op=dist.ReduceOp.MAX)
        return found.item()

    def gather(self, value: Any) -> list[Any]:
        """Every rank's value, in the order of ranks; for what is rare, as it is slow."""
        found: list[Any] = [None] * self.size
        dist.all_gather_object(found, value)
        return found


def start(settings: Distribution) -> World:
    """Join the run that torchrun started, or be a run of one process. Raises E267 if the devices do not divide as
    asked."""
    environment = os.environ
    rank, size = int(environment.get("RANK", 0)), int(environment.get("WORLD_SIZE", 1))
    attempt = int(environment.get("TORCHELASTIC_RESTART_COUNT", 0))
    cuda = settings.device == "cuda" or (settings.device == "auto" and torch.cuda.is_available())
    if cuda and not torch.cuda.is_available():
        raise error("E252", path="distribution", key="device", got="'cuda'", problem="this machine has no CUDA device")
    device = torch.device("cuda", int(environment.get("LOCAL_RANK", 0))) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(device)
    if not dist.is_initialized():
        # Numbers for the log travel by gloo and gradients by the device's own back end.
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if cuda else "gloo",
            store=_store(rank, size, attempt),
            rank=rank,
            world_size=size,
            timeout=timedelta(seconds=settings.timeout_seconds),
        )
    named = settings.dtype if settings.dtype != "auto" else "bfloat16" if cuda else "float32"
    return World(rank, size, device, DTYPES[named], _mesh(settings, device, size), attempt)


def _store(rank: int, size: int, attempt: int) -> Store:
    """The store of this attempt. Under torchrun the agent's store outlives a restart: without a prefix of its own a
    new process reads the address of a dead one and waits for it."""
    environment = os.environ
    if "MASTER_ADDR" not in environment or "RANK" not in environment:
        return HashStore()
    agent = environment.get("TORCHELASTIC_USE_AGENT_STORE", "False") == "True"
    master = not agent and rank == 0
    store = TCPStore(environment["MASTER_ADDR"], int(environment["MASTER_PORT"]), world_size=size, is_master=master)
    return PrefixStore(f"attempt{attempt}", store)


def _mesh(settings: Distribution, device: torch.device, size: int) -> DeviceMesh:
    """One dimension to shard over, or groups that shard inside and replicate between."""
    if settings.shard != "hybrid":
        return init_device_mesh(device.type, (size,), mesh_dim_names=("shard",))
    inside = settings.shard_size or int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    if size % inside:
        raise error("E267", size=size, shard_size=inside)
    return init_device_mesh(device.type, (size // inside, inside), mesh_dim_names=("replicate", "shard"))


def stop() -> None:
    """Leave the run."""
    if dist.is_initialized():
        dist.destroy_process_group()


def shard(root: nn.Module, blocks: Sequence[nn.Module], settings: Distribution, world: World) -> None:
    """Apply FSDP2 to `blocks` and then to `root`, which holds them; with activation checkpointing and compile if asked.

    shard=replicate leaves frozen parameters whole on the device; otherwise they are sharded too, in the format they
    are stored in.
    """
    ignored = {p for p in root.parameters() if not p.requires_grad} if settings.shard == "replicate" else set()
    for parameter in ignored:
        parameter.data = parameter.data.to(world.device)
    low = world.dtype if world.dtype != torch.float32 else None
    offload: OffloadPolicy = (
        CPUOffloadPolicy() if settings.cpu_offload and world.device.type == "cuda" else OffloadPolicy()
    )
    wrap = partial(
        fully_shard,
        mesh=world.mesh,
        mp_policy=MixedPrecisionPolicy(param_dtype=low, reduce_dtype=torch.float32 if low else None),
        offload_policy=offload,
        ignored_params=ignored or None,
    )
    whole = settings.shard == "replicate"
    for block in blocks:
        if settings.activation_checkpointing:
            # Inside FSDP's hooks, so that recomputation finds the weights already gathered. Dropout restores itself.
            block.forward = partial(checkpoint, block.forward, use_reentrant=False, preserve_rng_state=False)
        if settings.compile:
            block.compile()
        if any(parameter not in ignored for parameter in block.parameters()):
            # What trains beside a whole decoder is small: gathered once a step, it stays until the last backward pass.
            wrap(block, reshard_after_forward=not whole)
    wrap(root, reshard_after_forward=False)
    for module in root.modules():
        for name, buffer in module.named_buffers(recurse=False):
            module._buffers[name] = buffer.to(world.device)


def synchronise(root: nn.Module, settings: Distribution, *, last: bool) -> None:
    """Before a backward pass: whether its gradients are summed over ranks now or kept until the last micro-batch of
    the step.

    With everything sharded they are always summed: whole gradients of every weight would not fit.
    """
    if settings.shard == "replicate" and isinstance(root, FSDPModule):
        root.set_requires_gradient_sync(last)
        root.set_reshard_after_backward(last)


def gradient_norm(parameters: Iterable[nn.Parameter]) -> float:
    """Norm of the whole gradient, over all ranks."""
    norm = get_total_norm([parameter.grad for parameter in parameters if parameter.grad is not None])
    return float(norm.full_tensor() if isinstance(norm, DTensor) else norm)
