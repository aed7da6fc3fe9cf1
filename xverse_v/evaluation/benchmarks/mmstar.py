"""MMStar: 1,500 questions that need their image.

Traps: ``<image 1>`` in a question is text and stays; two rows have an option "None", which VLMEvalKit's reader loses;
the authors' parquet file has the options inside the question and is another format.
"""

from __future__ import annotations

from .choice import ChoiceBenchmark
from .described import HOST

BENCHMARKS = (
    ChoiceBenchmark(
        name="MMStar",
        file="MMStar.tsv",
        md5="e1ecd2140806c1b1bbf54b43372efb9e",
        source=f"VLMEvalKit's data table: {HOST}/VLMEval/",
        metric="accuracy over questions",
        citation="Chen et al., Are We on the Right Way for Evaluating Large Vision-Language Models?, NeurIPS 2024, "
        "arXiv:2403.20330",
        judge="optional",
    ),
)
