"""Weights on disk: convert the release's three parts, load strictly, inspect without loading, verify, plan memory.

Import from the modules (`xverse_v.weights.load`, `.convert`, `.inspect`, `.verify`, `.plan`): this file imports none
of them, so that reading a header never costs the import of torch.
"""
