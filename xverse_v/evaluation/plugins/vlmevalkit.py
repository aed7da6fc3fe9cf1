"""Our models inside VLMEvalKit: its model class, its registration, and a launcher, since it knows no plug-ins.

    python -m xverse_v.evaluation.plugins.vlmevalkit --weights FOLDER run.py --data MMStar --model XVERSE-V

What crosses: VLMEvalKit's messages (a list of {type, value} with image files) in, the answer's text out. VLMEvalKit is
imported only when the class is asked for; importing this module needs nothing of it. Prompts are VLMEvalKit's own, as
for its class of the released model: texts joined by line breaks, the first image, greedy, 512 new tokens.
"""

from __future__ import annotations

import argparse
import runpy
import sys
from collections.abc import Mapping, Sequence
from functools import cache, partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from xverse_v.errors import error

from ..contract import REFUSED, ImageRef, Prompt

if TYPE_CHECKING:
    from ..models.ours import XverseModel

NAME = "XVERSE-V"


@cache
def model_class() -> type[Any]:
    """VLMEvalKit's base class filled in. Raises E779 if VLMEvalKit is not installed here."""
    base = _module("vlmeval.vlm.base").BaseModel

    class XverseV(base):  # type: ignore[misc, valid-type]
        """A model folder, or "nano", as VLMEvalKit drives its models: one row at a time."""

        INSTALL_REQ = False
        INTERLEAVE = False

        def __init__(
            self,
            model_path: str = "nano",
            *,
            device: str | None = None,
            dtype: str = "auto",
            max_new_tokens: int = 512,
            images: Literal["first", "all"] = "first",
        ) -> None:
            """Loads at once, because VLMEvalKit builds a model only when rows are left to ask."""
            self.max_new_tokens = max_new_tokens
            self.model = _open(model_path, device, dtype, images)

        def use_custom_prompt(self, dataset: str | None) -> bool:
            """Every prompt is the data set's own."""
            return False

        def generate_inner(self, message: Sequence[Mapping[str, str]], dataset: str | None = None) -> str:
            """The answer to one message. Raises `RuntimeError`, which VLMEvalKit's SKIP_ERR knows how to record."""
            prompt = Prompt(tuple(_part(item) for item in message), max_new_tokens=self.max_new_tokens)
            (prediction,) = self.model.answers([("row", prompt)])
            if prediction.finish_reason == REFUSED:
                problem: Any = prediction.facts["error"]
                raise RuntimeError(f"{problem['code']} {problem['fact']}")
            return prediction.text

    return XverseV


def register(name: str = NAME, **options: Any) -> None:
    """Put the class under ``name`` into VLMEvalKit's list of models; ``options`` are those of the class.

    Must happen before run.py reads the list. Raises E779 without VLMEvalKit, E774 for a name that is taken.
    """
    known = _module("vlmeval.config").supported_VLM
    if name in known:
        raise error("E774", name="--name", got=name, expected="a name VLMEvalKit does not use yet")
    made: Any = model_class()
    known[name] = partial(made, **options)


def main(arguments: Sequence[str] | None = None) -> None:
    """Register a model, then run VLMEvalKit's own script with what follows it, as if it had been called directly."""
    parser = argparse.ArgumentParser(prog="python -m xverse_v.evaluation.plugins.vlmevalkit", description=main.__doc__)
    parser.add_argument("--weights", default="nano", metavar="nano|FOLDER", help="what to measure")
    parser.add_argument("--name", default=NAME, help="its name in VLMEvalKit, given again as run.py's --model")
    parser.add_argument("--device", metavar="cpu|cuda|mps")
    parser.add_argument("--dtype", default="auto", metavar="float32|bfloat16|float16")
    parser.add_argument("--max-new-tokens", type=int, default=512, metavar="N")
    parser.add_argument("script", type=Path, metavar="run.py", help="VLMEvalKit's run.py")
    parser.add_argument("rest", nargs=argparse.REMAINDER, metavar="...", help="run.py's own arguments")
    given = parser.parse_args(arguments)
    if not given.script.is_file():
        parser.error(f"there is no script {given.script}")
    register(
        given.name,
        model_path=given.weights,
        device=given.device,
        dtype=given.dtype,
        max_new_tokens=given.max_new_tokens,
    )
    before = sys.argv
    sys.argv = [str(given.script), *given.rest]
    try:
        runpy.run_path(str(given.script), run_name="__main__")
    finally:
        sys.argv = before


def __getattr__(name: str) -> Any:
    """``from xverse_v.evaluation.plugins.vlmevalkit import XverseV``."""
    if name == "XverseV":
        return model_class()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _open(model_path: str, device: str | None, dtype: str, images: Literal["first", "all"]) -> XverseModel:
    from xverse_v.inference.loading import load

    from ..models.images import ImageRule
    from ..models.ours import XverseModel

    return XverseModel(load(model_path, device=device, dtype=dtype), NAME, ImageRule(), images=images, batch_size=1)


def _part(item: Mapping[str, str]) -> str | ImageRef:
    """Raises E774 for anything but text and images, which VLMEvalKit's own check lets through to no model of images."""
    if item["type"] == "text":
        return item["value"]
    if item["type"] == "image":
        return ImageRef(path=Path(item["value"]))
    raise error("E774", name="message type", got=item["type"], expected="text, image")


def _module(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError as reason:
        raise error("E779", harness="VLMEvalKit", problem=reason) from reason


if __name__ == "__main__":
    main()
