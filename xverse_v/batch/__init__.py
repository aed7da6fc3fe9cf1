"""Thousands of questions from a JSONL file into an append-only JSONL file that survives being killed.

`InputIndex` knows where each line lies, `OutputFile` which answers are safe on disk, `run_batch` brings the two
together. What answers a question is a function they are given; the one for our own engine is in `asker`, and nothing
else here knows models.
"""

from .input import BadLine, InputIndex, Row, parse_row
from .output import OutputFile, settings_digest
from .run import BatchReport, Question, run_batch

__all__ = [
    "BadLine",
    "BatchReport",
    "InputIndex",
    "OutputFile",
    "Question",
    "Row",
    "parse_row",
    "run_batch",
    "settings_digest",
]
