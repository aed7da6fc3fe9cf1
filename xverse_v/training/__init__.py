"""Training: both stages of the recipe on PyTorch's own distributed engine.

What crosses: a recipe and data in, a run folder out, and from that a model folder like any other. `train` is the
loop; `data` is what it learns from; `export` is the way back. Nothing here knows how the model answers.
"""
