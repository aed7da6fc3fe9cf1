"""llama.cpp's own quantiser: one GGUF file in, a smaller one out, under its name only when it is complete."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path

from xverse_v.engines.gguf.files import FileReport, describe, partial_file
from xverse_v.errors import error

from .library import complaints, library

_FILE_TYPES = {"q4_k_m": "LLAMA_FTYPE_MOSTLY_Q4_K_M"}
_BUFFER_BYTES = 2**30  # of rows held at once; its own default is 8 GiB


def quantise(
    source: Path, out: Path, kind: str, threads: int, progress: Callable[[str], None] = lambda step: None
) -> FileReport:
    """Write ``source``, a 16-bit file, as ``kind``. Rows that a block of the type does not fill get a larger type.

    Raises E830 (no llama.cpp) and E846.
    """
    llama = library()
    settings = llama.llama_model_quantize_default_params()
    settings.ftype = getattr(llama, _FILE_TYPES[kind])
    settings.nthread = threads
    settings.max_buf_size = _BUFFER_BYTES
    progress(f"quantising to {kind}")
    with partial_file(out) as partial:
        complaints()
        status = llama.llama_model_quantize(bytes(source), bytes(partial), ctypes.byref(settings))
        if status:
            raise error("E846", path=source, kind=kind, status=status, reason=complaints())
    return describe(out)
