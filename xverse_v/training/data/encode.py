"""A sample to token ids and labels. Supervised are the answers and their end tokens, nothing else.

What crosses: a `Sample` and the processor in, `Encoded` out. The prompt form is the processor's own chat template; the
placeholders are expanded as the processor expands them. Too long a sample is refused with numbers, never cut.

**Where an answer begins.** At generation the prompt ends in `Assistant: ` and is encoded on its own; the answer's
tokens come after it. A full conversation encoded in one piece would join that last space to the first word and so
teach a sequence that generation never meets. So, as in the release's training code, each prompt and each answer is
encoded by a call of its own and the ids are joined: the ids up to every answer of the first turn equal
`processor(prompt)` exactly.
- answer_tokens="separate" (the release): the answer's ids are those of the answer as a text of its own.
- answer_tokens="continued": without the space that a Metaspace tokenizer puts in front of every text, so that the ids
  spell exactly one space between `Assistant:` and the first word. The built-in model was taught this way.
A byte-level tokenizer gives the same ids for both. One difference remains in later turns: there the prompt at
generation holds earlier answers joined to their prompt, training holds them as they were learnt.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from PIL import Image

from xverse_v.errors import XverseError, error
from xverse_v.media import DEFAULT_LIMITS, MediaLimits
from xverse_v.model.processing import XverseVProcessor

from .config import AnswerTokens
from .sample import ImageRef, Sample

if TYPE_CHECKING:
    from .store import FeatureStore

IGNORED = -100  # the label of a token that is not supervised
_METASPACE = "▁"


class Tokens(NamedTuple):
    """ids and labels of one sample, equally long; `image_tokens` of the ids are placeholders."""

    ids: list[int]
    labels: list[int]
    image_tokens: int


@dataclass(frozen=True)
class Encoded:
    """One sample as the model is trained on it.

    input_ids, labels: int64[S]; labels are -100 or the token itself. pixel_values: float32[V, 3, T, T], or None for
    text alone or if a feature store answered; then image_features: [V, P, E] in the store's dtype. views: V of each
    image.
    """

    input_ids: torch.Tensor
    labels: torch.Tensor
    pixel_values: torch.Tensor | None
    image_features: torch.Tensor | None
    views: tuple[int, ...]
    id: str
    place: str

    def __len__(self) -> int:
        return len(self.input_ids)

    @property
    def supervised(self) -> int:
        """How many tokens the loss is taken over: labelled ones; the first token of a row is never predicted."""
        return int((self.labels[1:] != IGNORED).sum())


class Encoder:
    """Encodes samples for one processor. Raises what `DataConfig` promises: E201, E202, E220 and the media door's."""

    def __init__(
        self,
        processor: XverseVProcessor,
        *,
        max_length: int,
        max_tiles: int | None = None,
        answer_tokens: AnswerTokens = "separate",
        limits: MediaLimits = DEFAULT_LIMITS,
        store: FeatureStore | None = None,
    ) -> None:
        self.processor = processor
        self.max_length = max_length
        self.max_tiles = max_tiles
        self.answer_tokens = answer_tokens
        self.limits = limits
        self.store = store

    def encode(self, sample: Sample) -> Encoded:
        """Token ids, labels and pixels (or stored features) of one sample.

        Raises E201 (nothing supervised), E202 (longer than max_length), E213 (a bad image; the media door's error is
        its cause), E215 (an image the store does not hold).
        """
        opened = [self.open(image, sample) for image in sample.images]
        views = self.views_of(opened)
        tokens = self.tokens(sample, views)
        pixels = features = None
        if opened and self.store is not None:
            features = torch.cat([self.store.features(image, sample.place) for image in opened])
        elif opened:
            extra = {} if self.max_tiles is None else {"max_tiles": self.max_tiles}
            pixels = self.processor.image_processor(opened, return_tensors="pt", **extra)["pixel_values"]
        return Encoded(
            input_ids=torch.tensor(tokens.ids),
            labels=torch.tensor(tokens.labels),
            pixel_values=pixels,
            image_features=features,
            views=tuple(views),
            id=sample.id,
            place=sample.place,
        )

    def open(self, image: ImageRef, sample: Sample) -> Image.Image:
        """An image of a sample. Raises E213; the media door's error is its cause."""
        try:
            opened = image.open(self.limits)
        except XverseError as reason:
            facts = {"en": reason.parts("en")["fact"], "zh": reason.parts("zh")["fact"], "code": reason.code}
            raise error(
                "E213", place=sample.place, id=sample.id, image=image.name, media=facts["code"], reason=facts["en"],
                reason_zh=facts["zh"],
            ) from reason  # fmt: skip
        return opened

    def views_of(self, images: Sequence[Image.Image]) -> list[int]:
        """How many views each opened image has; cuts none of them."""
        tiler = self.processor.image_processor
        return [tiler.grid(*_turned_size(image, tiler.apply_exif), self.max_tiles).views for image in images]

    def tokens(self, sample: Sample, views: Sequence[int]) -> Tokens:
        """ids and labels of a sample whose images have these many views. Raises E201, E202, E220."""
        ids: list[int] = []
        labels: list[int] = []
        image_tokens = 0
        left = iter(views)
        for text, supervised in self._pieces(sample):
            piece = self._answer_ids(text) if supervised else self._prompt_ids(text, first=not ids)
            for token in piece:
                count = 1
                if token == self.processor.image_token_id:
                    count = next(left) * self.processor.patches_per_view
                    image_tokens += count
                ids += [token] * count
                labels += [token if supervised else IGNORED] * count
        if len(ids) > self.max_length:
            raise error("E202", place=sample.place, id=sample.id, tokens=len(ids), image_tokens=image_tokens,
                        views=sum(views), limit=self.max_length)  # fmt: skip
        if not any(label != IGNORED for label in labels[1:]):
            raise error("E201", place=sample.place, id=sample.id, tokens=len(ids))
        return Tokens(ids, labels, image_tokens)

    def _pieces(self, sample: Sample) -> Iterator[tuple[str, bool]]:
        """The conversation's text in pieces, each with whether it is an answer. Raises E220 if the template is not one
        whose text grows turn by turn."""
        done = ""
        for index, message in enumerate(sample.messages):
            if message["role"] != "assistant":
                continue
            prompt = self._template(sample.messages[:index], True)
            full = self._template(sample.messages[: index + 1], False)
            if not prompt.startswith(done) or not full.startswith(prompt):
                raise error("E220", turn=index + 1, prompt=prompt[-60:], full=full[-60:])
            yield prompt[len(done) :], False
            yield full[len(prompt) :], True
            done = full

    def _template(self, messages: Sequence[Any], add_generation_prompt: bool) -> str:
        text: str = self.processor.apply_chat_template(
            list(messages), tokenize=False, add_generation_prompt=add_generation_prompt
        )
        return text

    def _prompt_ids(self, text: str, *, first: bool) -> list[int]:
        """The first piece gets what the tokenizer puts in front of a text; later ones stand behind an end token."""
        tokenizer = self.processor.tokenizer
        ids: list[int]
        if first:
            ids = tokenizer(text)["input_ids"]
        else:
            ids = tokenizer(tokenizer.eos_token + text, add_special_tokens=False)["input_ids"][1:]
        return ids

    def _answer_ids(self, text: str) -> list[int]:
        tokenizer = self.processor.tokenizer
        ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
        if self.answer_tokens == "separate":
            return ids
        first = tokenizer.convert_ids_to_tokens(ids[0])
        if not first.startswith(_METASPACE) or text.startswith((" ", _METASPACE)):
            return ids
        return self._without_space(text)

    def _without_space(self, text: str) -> list[int]:
        """Ids of a text whose first word does not begin with the tokenizer's own space."""
        tokenizer = self.processor.tokenizer
        end = tokenizer.eos_token
        backend = tokenizer.backend_tokenizer
        plain = text.removesuffix(end)
        if backend.normalizer is not None:
            plain = backend.normalizer.normalize_str(plain)
        words = [word for word, _ in backend.pre_tokenizer.pre_tokenize_str(plain)]
        words[0] = words[0].removeprefix(_METASPACE)
        ids = [token.id for word in words if word for token in backend.model.tokenize(word)]
        return [*ids, tokenizer.eos_token_id] if text.endswith(end) else ids


def _turned_size(image: Image.Image, apply_exif: bool) -> tuple[int, int]:
    """Width and height as the tiler sees them: a quarter turn swaps them."""
    turn = image.getexif().get(0x0112, 1) if apply_exif else 1
    return (image.height, image.width) if turn in (5, 6, 7, 8) else image.size
