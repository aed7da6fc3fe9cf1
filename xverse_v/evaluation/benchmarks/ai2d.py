"""AI2D: questions about school diagrams, with the letters of labels masked, or without the mask.

The card's row is the masked set; the other scores higher and is not comparable. Columns ``abcLabel`` and ``image_path``
come with the file; the images stand in it as well.
"""

from __future__ import annotations

from .choice import ChoiceBenchmark
from .described import HOST


def _file(name: str, md5: str) -> ChoiceBenchmark:
    return ChoiceBenchmark(
        name=name,
        file=f"{name}.tsv",
        md5=md5,
        source=f"VLMEvalKit's data table: {HOST}/VLMEval/",
        metric="accuracy over questions",
        citation="Kembhavi et al., A Diagram Is Worth a Dozen Images, ECCV 2016, arXiv:1603.07396",
        judge="optional",
    )


BENCHMARKS = (
    _file("AI2D_TEST", "0f593e0d1c7df9a3d69bf1f947e71975"),
    _file("AI2D_TEST_NO_MASK", "fd8f463634d4fe9fbd23b876e8eea5be"),
)
