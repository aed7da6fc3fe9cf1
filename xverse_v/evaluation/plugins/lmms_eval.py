"""What lmms-eval finds through its entry point `lmms_eval.models`: one manifest, and nothing heavy.

lmms-eval loads every plug-in when it starts, and one that fails hides those behind it; so this module imports neither
torch nor our engine. The class itself is in lmms_eval_model.py, which lmms-eval imports when the model is chosen.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from xverse_v.errors import error

MODEL_ID = "xverse_v"
CLASS_PATH = "xverse_v.evaluation.plugins.lmms_eval_model.XverseV"


def manifest() -> Any:
    """lmms-eval's `ModelManifest` of the chat kind. Raises E779 outside lmms-eval."""
    try:
        registry = import_module("lmms_eval.models.registry_v2")
    except ImportError as reason:
        raise error("E779", harness="lmms-eval", problem=reason) from reason
    return registry.ModelManifest(model_id=MODEL_ID, chat_class_path=CLASS_PATH)
