"""What vLLM calls in each of its processes to learn our model: the entry point of group `vllm.general_plugins`.

Nothing crosses. vLLM has no code for this model and needs none: its Transformers backend runs our own network with
vLLM's attention, linears and scheduler in it. This file refuses to know vLLM until vLLM calls it, and never imports the
network's vLLM class itself: vLLM does, by its name, where it needs it.
"""

from __future__ import annotations

ARCHITECTURE = "XverseVForConditionalGeneration"  # what `architectures` in a folder's config.json says
MODEL_CLASS = "xverse_v.engines.vllm_model:XverseVForVllm"


def register() -> None:
    """Make transformers' Auto classes and vLLM's registry know our model. May be called any number of times."""
    from vllm import ModelRegistry

    import xverse_v.model  # noqa: F401  importing it registers the Auto classes

    ModelRegistry.register_model(ARCHITECTURE, MODEL_CLASS)
