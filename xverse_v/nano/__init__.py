"""The built-in model: the world it was taught on, its recipe and its weights.

What crosses: seeds and folders. `world`, `detail`, `charts` and `handwriting` draw images and know their truth,
`questions` and the `ask` files ask about them, `tower` and `words` train the two halves, `folder` joins them, `data`
writes what the product's trainer reads, `evaluate` measures, `ablate` compares recipes, `evidence` reports. Nothing
here is imported by the rest of the package; the shipped weights in `weights/` are an ordinary model folder.
"""
