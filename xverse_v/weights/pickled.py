"""Pickled weight files: opened as plain tensors or refused, and described without being unpickled.

What crosses: a path in; a state dict of memory-mapped tensors out, or the Python names the file refers to. Files are
opened with `weights_only=True` and `mmap=True` and nothing else: one that needs more is refused, there is no fallback.
"""

from __future__ import annotations

import pickle
import pickletools
import zipfile
from pathlib import Path

import torch

from xverse_v.errors import error

# Everything a pickled state dict of plain tensors refers to. Used to describe a file, not to protect us: torch's own
# restricted unpickler does that.
_HARMLESS = {
    "collections.OrderedDict",
    "torch._utils._rebuild_tensor",
    "torch._utils._rebuild_tensor_v2",
    "torch._utils._rebuild_parameter",
    "torch.Size",
    "torch.device",
}


def load_pickle(path: Path) -> tuple[dict[str, torch.Tensor], tuple[str, ...]]:
    """A flat state dict, or the one under "model". Raises E306 (cut), E341 (more than tensors), E343 (no dict)."""
    foreign = [name for name in pickle_globals(path) if not is_harmless(name)]
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError as problem:
        names = ", ".join(foreign) or str(problem).splitlines()[0]
        raise error("E341", path=path, names=names) from None
    except (RuntimeError, EOFError, OSError, ValueError) as problem:
        reason = str(problem).splitlines()[0]
        raise error("E306", path=path, size=path.stat().st_size, problem=reason) from None
    if not isinstance(loaded, dict):
        raise error("E343", path=path, head=f"a pickled {type(loaded).__name__}")
    other: list[str] = []
    if isinstance(loaded.get("model"), dict):
        other = sorted(str(name) for name in loaded if name != "model")
        loaded = loaded["model"]
    tensors = {str(name): value for name, value in loaded.items() if isinstance(value, torch.Tensor)}
    other += sorted(str(name) for name in loaded if not isinstance(loaded[name], torch.Tensor))
    return {name: tensor.detach() for name, tensor in tensors.items()}, tuple(other)


def pickle_globals(path: Path) -> list[str]:
    """Every Python name a pickled file refers to, listed by reading its opcodes; nothing is unpickled or imported.

    Raises E306 if the archive is cut or holds no pickle.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            pickles = [name for name in archive.namelist() if name.endswith("data.pkl")]
            data = archive.read(pickles[0])
    except (zipfile.BadZipFile, IndexError, KeyError, OSError, EOFError) as problem:
        raise error("E306", path=path, size=path.stat().st_size, problem=f"no readable archive ({problem})") from None
    return _globals_of(data)


def _globals_of(data: bytes) -> list[str]:
    found: dict[str, None] = {}
    texts: list[str] = []  # strings in the order they reach the stack: STACK_GLOBAL takes the last two
    memo: dict[int, str] = {}
    try:
        for opcode, argument, _ in pickletools.genops(data):
            if opcode.name == "GLOBAL" and isinstance(argument, str):
                found[argument.replace(" ", ".")] = None
            elif opcode.name == "STACK_GLOBAL" and len(texts) >= 2:
                found[f"{texts[-2]}.{texts[-1]}"] = None
            elif opcode.name in ("MEMOIZE", "BINPUT", "LONG_BINPUT", "PUT") and texts:
                memo[len(memo) if argument is None else int(argument)] = texts[-1]
            elif opcode.name in ("BINGET", "LONG_BINGET", "GET") and isinstance(argument, int | str):
                texts.append(memo.get(int(argument), ""))
            elif isinstance(argument, str):
                texts.append(argument)
    except (ValueError, EOFError):
        found["(unreadable opcode)"] = None
    return list(found)


def is_harmless(name: str) -> bool:
    """Whether a state dict of plain tensors refers to this name."""
    module, _, attribute = name.rpartition(".")
    storage = module in ("torch", "torch.storage") and attribute.endswith("Storage")
    dtype = module == "torch" and isinstance(getattr(torch, attribute, None), torch.dtype)
    return name in _HARMLESS or storage or dtype
