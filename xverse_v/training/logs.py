"""Telling how a run goes: a JSON line for programs, a line of words for people, TensorBoard and W&B for those who ask.

What crosses: numbers of finished steps in; `log.jsonl`, log messages and events out. Only the leading rank writes.
Also here: the floating-point work of a step and the peak of known devices, which make MFU. This file changes nothing
in a run.
"""

from __future__ import annotations

import json
import logging
import resource
import sys
import time
from collections.abc import Iterable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from xverse_v.errors import error
from xverse_v.model import XverseVForConditionalGeneration

from .config import Logs

log = logging.getLogger(__name__)

LOG_FILE = "log.jsonl"

PEAK_TFLOPS = {
    "H200": 989.0,
    "H100": 989.0,
    "A100": 312.0,
    "A800": 312.0,
    "H800": 989.0,
    "L40S": 362.0,
    "RTX 4090": 165.0,
}
"""Dense bfloat16 by part of the device's name, from the makers' data sheets; RTX 4090 with float32 accumulation."""


class Journal:
    """The run's log. On ranks that do not lead it does nothing."""

    def __init__(self, folder: Path, settings: Logs, *, leads: bool, name: str) -> None:
        self.leads = leads
        self._file = None
        self._tensorboard: Any = None
        self._wandb: Any = None
        if not leads:
            return
        folder.mkdir(parents=True, exist_ok=True)
        self._file = (folder / LOG_FILE).open("a", encoding="utf-8")
        if settings.tensorboard:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError:
                raise error("E263", package="tensorboard", key="logs.tensorboard") from None
            self._tensorboard = SummaryWriter(str(folder / "tensorboard"))
        if settings.wandb is not None:
            try:
                wandb = import_module("wandb")
            except ImportError:
                raise error("E263", package="wandb", key="logs.wandb") from None
            self._wandb = wandb.init(project=settings.wandb, name=name, dir=str(folder), resume="allow")

    def event(self, kind: str, **facts: Any) -> None:
        """A JSON line that is not about a step's numbers. Lines are only added: after a resume a step may appear
        twice."""
        if self._file is not None:
            self._file.write(
                json.dumps({"event": kind, "time": round(time.time(), 3), **facts}, ensure_ascii=False) + "\n"
            )
            self._file.flush()

    def step(self, step: int, numbers: Mapping[str, float | None]) -> None:
        """The numbers of a step, to everyone who asked."""
        known = {name: number for name, number in numbers.items() if number is not None}
        self.event("step", step=step, **known)
        for name, number in known.items():
            if self._tensorboard is not None:
                self._tensorboard.add_scalar(name, number, step)
        if self._wandb is not None:
            self._wandb.log(known, step=step)

    def close(self) -> None:
        """Flush and close everything."""
        for sink in (self._file, self._tensorboard):
            if sink is not None:
                sink.close()
        if self._wandb is not None:
            self._wandb.finish()


class Meter:
    """Counts between two lines of the log."""

    def __init__(self, work: Work, devices: int, peak: float | None) -> None:
        self.work = work
        self.devices = devices
        self.peak = peak
        self._reset()

    def _reset(self) -> None:
        self._start = time.perf_counter()
        self._steps = self._tokens = self._views = 0
        self._supervised = self._waited = 0.0

    def add(self, tokens: float, supervised: float, views: float, waited: float) -> None:
        """One step: all its tokens, supervised ones and views over all ranks, and seconds this rank waited for data."""
        self._steps += 1
        self._tokens += int(tokens)
        self._views += int(views)
        self._supervised += supervised
        self._waited += waited

    def numbers(self, remaining: int) -> dict[str, float | None]:
        """Rates since the last call, then start again. `remaining` steps give the time to go."""
        seconds = max(time.perf_counter() - self._start, 1e-9)
        flops = self.work.flops(self._tokens, self._supervised, self._views) / seconds / self.devices
        found: dict[str, float | None] = {
            "seconds_per_step": seconds / max(1, self._steps),
            "tokens_per_second": self._tokens / seconds,
            "data_wait": self._waited / seconds,
            "tflops_per_device": flops / 1e12,
            "mfu": flops / 1e12 / self.peak if self.peak else None,
            "peak_memory_gb": peak_memory_bytes() / 1e9,
            "eta_seconds": remaining * seconds / max(1, self._steps),
        }
        self._reset()
        return found


class Work:
    """Floating-point operations that training needs, recomputation not counted.

    A linear costs 2 for its forward pass, 2 for the gradient of its input and 2 for that of its weight if that
    trains, each times its parameters and its tokens. Attention's own products are left out, as is usual; they are a
    few per cent at these lengths.
    """

    def __init__(self, model: XverseVForConditionalGeneration) -> None:
        core = model.model
        self.per_token = _linear_work(core.language_model.layers.named_parameters())
        self.per_supervised = _linear_work(model.lm_head.named_parameters())
        patches = model.config.patches_per_view
        tower = sum(p.numel() for p in core.vision_tower.encoder.parameters() if p.ndim == 2)
        factor = 6 if any(p.requires_grad for p in core.vision_tower.parameters()) else 2
        self.per_view = patches * (factor * tower + _linear_work(core.multi_modal_projector.named_parameters()))

    def flops(self, tokens: float, supervised: float, views: float) -> float:
        """For this many tokens, supervised tokens and views."""
        return tokens * self.per_token + supervised * self.per_supervised + views * self.per_view


def _linear_work(parameters: Iterable[tuple[str, torch.nn.Parameter]]) -> float:
    return float(sum((6 if p.requires_grad else 4) * p.numel() for _, p in parameters if p.ndim == 2))


def peak_tflops(settings: Logs, device: torch.device) -> float | None:
    """The peak that MFU is measured against: as set, else by the device's name, else unknown."""
    if settings.peak_tflops is not None or device.type != "cuda":
        return settings.peak_tflops
    name = torch.cuda.get_device_name(device)
    return next((peak for part, peak in PEAK_TFLOPS.items() if part in name), None)


def peak_memory_bytes() -> float:
    """Most memory so far: of tensors on the CUDA device, else of this process."""
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        return float(torch.cuda.max_memory_allocated())
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return float(most if sys.platform == "darwin" else most * 1024)


def in_words(
    step: int, steps: int, facts: Mapping[str, float], rates: Mapping[str, float], numbers: Mapping[str, float | None]
) -> str:
    """A line for a person. `facts` are the step's loss and counts, `numbers` what the meter found."""
    skipped = f", {facts['skipped']:.0f} samples skipped" if facts["skipped"] else ""
    mfu = "" if numbers["mfu"] is None else f", MFU {100 * numbers['mfu']:.1f} %"
    learning = ", ".join(f"{name} {rate:.3g}" for name, rate in rates.items())
    minutes, seconds = divmod(int(numbers["eta_seconds"] or 0), 60)
    hours, minutes = divmod(minutes, 60)
    return (
        f"step {step}/{steps}: loss {facts['loss']:.4f}, rate {learning}, "
        f"{numbers['tokens_per_second']:,.0f} tokens/s{mfu}, data wait {100 * (numbers['data_wait'] or 0):.0f} %, "
        f"peak {numbers['peak_memory_gb']:.1f} GB, {hours}:{minutes:02}:{seconds:02} to go{skipped}"
    )
