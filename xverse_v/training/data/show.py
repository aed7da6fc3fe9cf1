"""`data show`: one sample as the model sees it.

What crosses: a `Sample` and an `Encoder` in, `ShownSample` out: the tokens in runs of supervised and not supervised,
with placeholders counted, not repeated. How runs are coloured is the command line's.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Any, Literal

from .encode import IGNORED, Encoder
from .sample import Sample

RunKind = Literal["prompt", "image", "supervised"]


@dataclass(frozen=True)
class Run:
    """Neighbouring tokens of one kind. `text` is what they decode to, "" for placeholders."""

    kind: RunKind
    start: int
    tokens: int
    text: str


@dataclass(frozen=True)
class ShownSample:
    """Counts and runs of one sample. views: of each image; images: their names."""

    id: str
    place: str
    images: tuple[str, ...]
    views: tuple[int, ...]
    tokens: int
    image_tokens: int
    supervised: int
    runs: tuple[Run, ...]

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return asdict(self)


def show_sample(sample: Sample, encoder: Encoder) -> ShownSample:
    """Raises E201, E202, E213, E220."""
    views = encoder.views_of([encoder.open(image, sample) for image in sample.images])
    tokens = encoder.tokens(sample, views)
    placeholder = encoder.processor.image_token_id

    def kind(place: int) -> RunKind:
        if tokens.ids[place] == placeholder:
            return "image"
        return "prompt" if tokens.labels[place] == IGNORED else "supervised"

    runs, pieces = [], decoded_pieces(encoder.processor.tokenizer, tokens.ids)
    for name, places in groupby(range(len(tokens.ids)), key=kind):
        held = list(places)
        text = "" if name == "image" else "".join(pieces[place] for place in held)
        runs.append(Run(name, held[0], len(held), text))
    return ShownSample(
        id=sample.id,
        place=sample.place,
        images=tuple(image.name for image in sample.images),
        views=tuple(views),
        tokens=len(tokens.ids),
        image_tokens=tokens.image_tokens,
        supervised=sum(label != IGNORED for label in tokens.labels[1:]),
        runs=tuple(runs),
    )


def decoded_pieces(tokenizer: Any, ids: list[int]) -> list[str]:
    """The text that each token adds. A character of several byte tokens stands at the last of them."""
    pieces, begun, done = [], 0, ""
    for end in range(1, len(ids) + 1):
        text = tokenizer.decode(ids[begun:end], skip_special_tokens=False, clean_up_tokenization_spaces=False)
        if text.endswith("\ufffd") and end < len(ids):
            pieces.append("")
            continue
        pieces.append(text[len(done) :])
        done = text
        # Decoding starts anew now and then, else a long text is decoded once for each of its tokens.
        if end - begun >= 32:
            begun = end - 1
            done = tokenizer.decode(ids[begun:end], skip_special_tokens=False, clean_up_tokenization_spaces=False)
    return pieces
