"""Makes the Auto classes know our model without importing transformers before anyone asks for it.

Registering needs torch and transformers, two to three seconds on a laptop, which `xverse-v --help` should not cost. So
the model room, which registers itself on import, is imported as soon as transformers' Auto classes are loaded and no
model of transformers is half imported, whoever imports them and whenever; if that is so already, at once.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

_TRANSFORMERS = "transformers."
_AUTO = "transformers.models.auto."
_MODEL_ROOM = "xverse_v.model"


def register_with_transformers() -> None:
    """Import the model room now if it can be, else as soon as it can and the Auto classes are wanted."""
    if _ready():
        import_module(_MODEL_ROOM)
    elif not any(isinstance(finder, _AfterModels) for finder in sys.meta_path):
        sys.meta_path.insert(0, _AfterModels())


def _ready(besides: str = "") -> bool:
    """Whether an Auto module is loaded and no other model of transformers is in the middle of being imported."""
    return any(name.startswith(_AUTO) for name in sys.modules) and not any(
        getattr(getattr(module, "__spec__", None), "_initializing", False)
        for name, module in list(sys.modules.items())
        if name.startswith(_TRANSFORMERS) and name != besides
    )


class _AfterModels(MetaPathFinder):
    """Finds transformers' modules like anybody else, and adds a step after each until that step was taken."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if not name.startswith(_TRANSFORMERS):
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _ThenModelRoom(spec.loader, self)
        return spec


class _ThenModelRoom(Loader):
    def __init__(self, loader: Loader, finder: _AfterModels) -> None:
        self.loader = loader
        self.finder = finder

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        if module.__spec__ is not None:
            module.__spec__.loader = self.loader
        self.loader.exec_module(module)
        if self.finder in sys.meta_path and _ready(besides=module.__name__):
            sys.meta_path.remove(self.finder)
            import_module(_MODEL_ROOM)
