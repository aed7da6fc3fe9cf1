"""llama.cpp itself, through the low-level half of llama-cpp-python: loaded when asked for, its messages kept.

What crosses: nothing in, the module of C functions out. llama.cpp writes what goes wrong to a log and returns a bare
code, so the last of its complaints are kept here for our errors. This file knows no model.
"""

from __future__ import annotations

import ctypes
import importlib
import logging
from collections import deque
from functools import cache
from typing import Any

from xverse_v.errors import error

_log = logging.getLogger(__name__)
_complaints: deque[str] = deque(maxlen=4)
_WARNING, _ERROR = 3, 4  # levels of ggml's log


@cache
def library() -> Any:
    """`llama_cpp.llama_cpp`, initialised. Raises E830 where it is not installed or cannot be loaded."""
    found = _module("llama_cpp.llama_cpp")
    callback = found.llama_log_callback(_heard)
    found.llama_log_set(callback, ctypes.c_void_p(0))
    found.kept_log_callback = callback  # or it is collected while C still calls it
    found.llama_backend_init()
    return found


@cache
def vision_library() -> Any:
    """`llama_cpp.mtmd_cpp`, llama.cpp's own way with images. Raises E830."""
    main = library()
    found = _module("llama_cpp.mtmd_cpp")
    found.mtmd_log_set(main.kept_log_callback, ctypes.c_void_p(0))
    found.mtmd_helper_log_set(main.kept_log_callback, ctypes.c_void_p(0))
    return found


def complaints() -> str:
    """What llama.cpp said last, and forget it."""
    said = "; ".join(_complaints) or "no reason given"
    _complaints.clear()
    return said[:400]


def _module(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except (ImportError, OSError, RuntimeError, FileNotFoundError) as reason:
        raise error("E830", reason=str(reason).splitlines()[0] if str(reason) else name) from reason


def _heard(level: int, text: bytes, user_data: object) -> None:
    said = text.decode("utf-8", errors="replace").strip()
    if level in (_WARNING, _ERROR) and said:
        _log.debug("%s", said)
    if level == _ERROR and said:
        _complaints.append(said)
