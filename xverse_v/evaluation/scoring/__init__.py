"""How answers become numbers: pure functions of text, each with its source. Nothing here reads a file or asks a model.

The rules are cited by short names: VLMEvalKit is open-compass/VLMEvalKit as of August 2026, VLMEvalKit 2024-04 the same
repository at the end of April 2024, when the released model was measured.
"""
