"""When memory runs out: how that is recognised, what is tried, and the error with the numbers that filled it.

What crosses: a piece of work and a way to make room in, its result out; torch's exception and the generations at work
in, E130 out. What gives way is the caller's choice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

from xverse_v.errors import XverseError, error

from .generation import Generation

T = TypeVar("T")

_OUT_OF_HOST_MEMORY = ("can't allocate memory", "not enough memory")


def is_memory_error(reason: BaseException) -> bool:
    """Whether torch says that memory of a device or of the host ran out."""
    if isinstance(reason, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(reason, RuntimeError) and any(text in str(reason) for text in _OUT_OF_HOST_MEMORY)


def attempt(work: Callable[[], T], make_room: Callable[[], int], device: torch.device) -> T:
    """Do ``work``; if memory runs out and ``make_room`` frees any bytes, once more. It may be done twice, so it must
    write the same places. Raises what ``work`` raises.
    """
    try:
        return work()
    except (RuntimeError, MemoryError) as reason:
        if not is_memory_error(reason) or not make_room():
            raise
    # Outside the handler, because a live traceback would keep the failed step's tensors.
    if device.type == "cuda":
        torch.cuda.empty_cache()
    return work()


def memory_error(
    active: Sequence[Generation], phase: str, device: torch.device, kv_bytes_per_token: int
) -> XverseError:
    """E130 for the rows at work in ``phase``, with their tokens and the KV cache these take."""
    tokens = sum(len(g.job.prompt.token_ids) + len(g.token_ids) for g in active)
    images = [(image.grid.views, g.job.prompt.patches_per_view) for g in active for image in g.job.prompt.images]
    return error(
        "E130",
        phase=phase,
        device=str(device),
        rows=len(active),
        tokens=tokens,
        kv_mib=round(tokens * kv_bytes_per_token / 2**20),
        image_tokens=sum(views * patches for views, patches in images),
    )
