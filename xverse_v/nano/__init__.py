"""The built-in model: the world it was taught on, its recipe and its weights.

What crosses: seeds and folders. `world` draws images and knows their truth, `questions` asks about them, `vocabulary`
makes the tokenizer, `tower`, `words` and `joint` train the three parts, `assemble` writes a model folder in the normal
layout, `evaluate` measures it, `build` runs the whole recipe. Nothing here is imported by the rest of the package; the
shipped weights in `weights/` are an ordinary model folder.
"""
