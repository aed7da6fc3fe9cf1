"""Makes the Auto classes know our model without importing transformers before anyone asks for it.

Registering needs torch and transformers, two to three seconds on a laptop, which `xverse-v --help` should not cost.
So the model room (which registers itself on import) is imported right after transformers' Auto classes are, whoever
imports them and whenever; if they already are, at once.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

_AUTO = "transformers.models.auto"
_MODEL = "xverse_v.model"


def register_with_transformers() -> None:
    """Import the model room now if transformers' Auto classes are loaded, else as soon as they are."""
    if _AUTO in sys.modules:
        import_module(_MODEL)
    elif not any(isinstance(finder, _AfterAuto) for finder in sys.meta_path):
        sys.meta_path.insert(0, _AfterAuto())


class _AfterAuto(MetaPathFinder):
    """Finds `transformers.models.auto` like anybody else and adds one step after it has been executed."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name != _AUTO:
            return None
        sys.meta_path.remove(self)
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _ThenModel(spec.loader)
        return spec


class _ThenModel(Loader):
    def __init__(self, loader: Loader) -> None:
        self.loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__.loader = self.loader  # type: ignore[union-attr]
        self.loader.exec_module(module)
        import_module(_MODEL)
