"""What is measured: a size made on the spot, or a model folder, with the engine around it.

In: the names a user gives. Out: a `Subject`. Loading and building are other files' work; nothing is timed here.
"""

from __future__ import annotations

from dataclasses import dataclass

from xverse_v.inference.assistant import Assistant
from xverse_v.inference.loading import load, resolve_model
from xverse_v.model import XverseVForConditionalGeneration, XverseVProcessor
from xverse_v.speed.sizes import assemble_assistant, build_network, build_processor, shape_of
from xverse_v.weights.plan import check_choice
from xverse_v.weights.shapes import ELEMENT_BYTES, ModelShape, shape_from_config, shape_from_folder


@dataclass(frozen=True)
class Subject:
    """A network, its processor, its engine, its shape."""

    shape: ModelShape
    network: XverseVForConditionalGeneration
    processor: XverseVProcessor
    assistant: Assistant
    dtype: str
    device: str


def shape_named(model: str | None, size: str) -> ModelShape:
    """The shape of a folder or of a size, without weights. Raises E105, E810 and what reading a config raises."""
    return shape_of(size) if model is None else shape_from_folder(resolve_model(model), name=model)


def build_subject(model: str | None, size: str, dtype: str, device: str) -> Subject:
    """Load a folder, or make a size. Raises E159 for a dtype that does not compute, and what either raises.

    End tokens end nothing here: every answer has the length that was asked for.
    """
    check_choice("--dtype", dtype, tuple(ELEMENT_BYTES))
    if model is not None:
        assistant = load(model, device=device, dtype=dtype)
        assistant.engine.stop_ids = frozenset()
        network, processor = assistant.engine.model, XverseVProcessor.from_pretrained(resolve_model(model))
        return Subject(shape_from_config(network.config, name=model), network, processor, assistant, dtype, device)
    shape = shape_of(size)
    network, processor = build_network(shape, dtype=dtype, device=device), build_processor(shape)
    assistant = assemble_assistant(network, processor, shape)
    return Subject(shape, network, processor, assistant, dtype, device)
