"""The peak of memory that one piece of work adds, in this process or on its card.

On a card it is the allocator's own count; in the process it is the kernel's (`/proc`, Linux), whose count of the peak
can be started anew. Where neither is there, nothing is claimed (None). No model, no clock.
"""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Callable

import torch

from xverse_v.speed.loading_probe import forget_peak, memory


def peak_bytes(work: Callable[[], object], device: str = "cpu") -> int | None:
    """Bytes at the peak of `work` above what was held before it; None where the system does not tell."""
    gc.collect()
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        work()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    give_back_freed()
    forget_peak()
    held = memory("VmRSS")
    work()
    return max(0, memory("VmHWM") - held) if held else None


def give_back_freed() -> None:
    """Ask the C library to return what was freed; else it keeps it, and the next peak hides in it. glibc only."""
    if sys.platform != "linux":
        return
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
