"""How much memory there is: sizes as people write them, and what this machine has free right now.

In: a string like `24GB`, or a device. Out: bytes with a sentence saying where they come from. It reads `/proc`, the
process's control group and CUDA; it allocates nothing and knows no model.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from xverse_v.errors import error

UNITS = {"": 1, "b": 1}
UNITS |= {f"{prefix}b": 1000**power for power, prefix in enumerate("kmgt", start=1)}
UNITS |= {f"{prefix}ib": 1024**power for power, prefix in enumerate("kmgt", start=1)}
UNITS |= {prefix: 1000**power for power, prefix in enumerate("kmgt", start=1)}

MEMINFO = Path("/proc/meminfo")
CGROUPS = (
    (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")),
    (
        Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
        Path("/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ),
)


@dataclass(frozen=True)
class Memory:
    """Bytes of one device and where the number comes from."""

    bytes: int
    source: str


def parse_bytes(given: str) -> int:
    """`24GB` is 24 x 10^9, `24GiB` 24 x 2^30, a bare number bytes. Raises E154 for anything else or nothing."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-zA-Z]*)\s*", given)
    unit = UNITS.get(match[2].lower()) if match else None
    size = int(float(match[1]) * unit) if match and unit else 0
    if size < 1:
        raise error("E154", given=given)
    return size


def free_memory(kind: str) -> Memory:
    """What a run could still take here. Raises E160 where the system does not say."""
    if kind == "cuda":
        return _cuda()
    available = _available(MEMINFO)
    if available is None:
        pages = {name: os.sysconf(name) for name in ("SC_PHYS_PAGES", "SC_PAGE_SIZE") if name in os.sysconf_names}
        if len(pages) < 2:
            raise error("E160", device=kind)
        return Memory(pages["SC_PHYS_PAGES"] * pages["SC_PAGE_SIZE"], "all memory of this machine, free or not")
    group = _group_room()
    if group is not None and group < available:
        return Memory(group, "free in this process's control group (container)")
    return Memory(available, "free on this machine now")


def _cuda() -> Memory:
    import torch

    if not torch.cuda.is_available():
        raise error("E160", device="cuda")
    free, _ = min(torch.cuda.mem_get_info(index) for index in range(torch.cuda.device_count()))
    return Memory(free, f"free now on the fullest of {torch.cuda.device_count()} GPUs")


def _available(path: Path) -> int | None:
    """MemAvailable of the kernel, in bytes."""
    try:
        found = re.search(r"^MemAvailable:\s+(\d+) kB", path.read_text(encoding="ascii"), re.MULTILINE)
    except OSError:
        return None
    return int(found[1]) * 1024 if found else None


def _group_room() -> int | None:
    """Bytes left in the control group, None without a limit."""
    for limit, used in CGROUPS:
        try:
            return max(0, int(limit.read_text()) - int(used.read_text()))
        except (OSError, ValueError):
            continue
    return None
