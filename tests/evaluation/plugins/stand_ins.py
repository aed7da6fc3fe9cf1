"""The shapes of VLMEvalKit and lmms-eval that our plug-ins touch, as modules a test puts into sys.modules.

Written after what their sources ask of a model class; with the real packages the same tests hold.
"""

import types
from dataclasses import dataclass


def module(name, **members):
    made = types.ModuleType(name)
    made.__dict__.update(members)
    return made


class BaseModel:
    """VLMEvalKit's ``vlm/base.py``: checks a message and hands it to `generate_inner`."""

    INTERLEAVE = False
    allowed_types = ("text", "image")

    def generate(self, message, dataset=None):
        assert all(item["type"] in self.allowed_types for item in message)
        return self.generate_inner(message, dataset)

    def set_dump_image(self, function):
        self.dump_image_func = function


def vlmevalkit():
    names = ("vlmeval", "vlmeval.vlm")
    return {
        **{name: module(name) for name in names},
        "vlmeval.vlm.base": module("vlmeval.vlm.base", BaseModel=BaseModel),
        "vlmeval.config": module("vlmeval.config", supported_VLM={"GPT4o": object}),
    }


@dataclass(frozen=True)
class ModelManifest:
    model_id: str
    simple_class_path: str | None = None
    chat_class_path: str | None = None
    aliases: tuple[str, ...] = ()


@dataclass
class TokenCounts:
    input_tokens: int | None = None
    output_tokens: int | None = None
    reasoning_tokens: int | None = None


@dataclass
class GenerationResult:
    text: str
    token_counts: TokenCounts | None = None


@dataclass
class Instance:
    args: tuple


class lmms:
    """lmms-eval's ``api/model.py``."""

    is_simple = True

    def __init__(self):
        self._rank, self._world_size, self.task_dict = 0, 1, {}

    @staticmethod
    def _resolve_system_prompt(value):
        return value

    @property
    def rank(self):
        return self._rank


def lmms_eval():
    names = ("lmms_eval", "lmms_eval.api", "lmms_eval.models")
    return {
        **{name: module(name) for name in names},
        "lmms_eval.api.model": module("lmms_eval.api.model", lmms=lmms),
        "lmms_eval.api.instance": module(
            "lmms_eval.api.instance", GenerationResult=GenerationResult, TokenCounts=TokenCounts
        ),
        "lmms_eval.models.registry_v2": module("lmms_eval.models.registry_v2", ModelManifest=ModelManifest),
    }
