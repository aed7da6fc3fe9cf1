"""The decoder in llama.cpp, images in torch: `loading.load` gives an `Assistant` like any other.

Import from the modules; this file imports none of them, so that nothing optional loads by accident.
"""
