"""What can be measured: our own models, any OpenAI-compatible endpoint, any image-text-to-text folder of transformers.

`open_model` turns a spec into a `Model`; importing this package loads none of them.
"""

from .opening import ModelOptions, open_model

__all__ = ["ModelOptions", "open_model"]
