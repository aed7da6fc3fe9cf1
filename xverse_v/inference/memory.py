"""When memory runs out: how that is recognised, and the error with the numbers that filled it.

What crosses: torch's exception and the generations at work in, E130 out. It frees nothing; the engine decides what
gives way.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from xverse_v.errors import XverseError, error

from .generation import Generation

_OUT_OF_HOST_MEMORY = ("can't allocate memory", "not enough memory")


def is_memory_error(reason: RuntimeError) -> bool:
    """Whether torch says that memory of a device or of the host ran out."""
    return isinstance(reason, torch.OutOfMemoryError) or any(text in str(reason) for text in _OUT_OF_HOST_MEMORY)


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
