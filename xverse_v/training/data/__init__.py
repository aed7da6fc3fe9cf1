"""The data room: files of training data in, the batches of every optimizer step out; checking and showing data.

Import from the modules: `config` (settings), `batches` (steps), `check`, `fix`, `show`, `store` and `store_build`.
"""
