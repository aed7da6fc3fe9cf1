"""What `xverse-v --version` tells, without importing what it tells about."""

from __future__ import annotations

import hashlib
import json
import platform
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files

from xverse_v import __version__

LIBRARIES = ("torch", "transformers")


def versions() -> dict[str, str]:
    """Name to version of everything that decides what is computed, and the weights id of the built-in model."""
    found = {name: _installed(name) for name in LIBRARIES}
    return {"xverse-v": __version__, "python": platform.python_version(), **found, "nano": nano_weights_id()}


def _installed(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "not installed"


def nano_weights_id() -> str:
    """The same 12 digits as `xverse_v.weights.load.weights_id`, which needs torch; a test holds the two together."""
    manifest = files("xverse_v") / "nano" / "weights" / "manifest.json"
    if not manifest.is_file():
        return "not installed"
    listed = json.loads(manifest.read_text(encoding="utf-8"))["files"]
    lines = "\n".join(f"{name} {listed[name]['sha256']}" for name in sorted(listed) if name != "parity.json")
    return hashlib.sha256(lines.encode()).hexdigest()[:12]
