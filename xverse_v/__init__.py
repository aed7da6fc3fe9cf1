"""XVERSE-V: ask an image a question.

    from xverse_v import load
    model = load("nano")
    print(model.ask("image.png", "What colour is the circle?").text)

Importing this package costs nothing: torch and transformers are loaded when a name below is used. The model is known to
transformers' Auto classes as soon as both packages are imported, in either order.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from . import _registration

__version__ = "0.1.0"

if TYPE_CHECKING:
    from .errors import XverseError
    from .inference.answer import Answer
    from .inference.assistant import Assistant
    from .inference.conversation import Conversation
    from .inference.loading import load
    from .inference.sampling import SamplingSettings
    from .model import (
        XverseVConfig,
        XverseVForConditionalGeneration,
        XverseVImageProcessor,
        XverseVModel,
        XverseVProcessor,
    )

_HOMES = {
    "XverseError": "errors",
    "load": "inference.loading",
    "Assistant": "inference.assistant",
    "Conversation": "inference.conversation",
    "Answer": "inference.answer",
    "SamplingSettings": "inference.sampling",
    "XverseVConfig": "model",
    "XverseVForConditionalGeneration": "model",
    "XverseVImageProcessor": "model",
    "XverseVModel": "model",
    "XverseVProcessor": "model",
}

__all__ = [
    "Answer",
    "Assistant",
    "Conversation",
    "SamplingSettings",
    "XverseError",
    "XverseVConfig",
    "XverseVForConditionalGeneration",
    "XverseVImageProcessor",
    "XverseVModel",
    "XverseVProcessor",
    "__version__",
    "load",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)


_registration.register_with_transformers()
