"""Model folders as GGUF files: names and shapes, tokenizer, metadata, writing.

Import from the modules; this file imports none of them, so that nothing optional loads by accident.
"""
