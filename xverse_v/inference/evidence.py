"""Which part of an image an answer hangs on: blank one part, score the same answer again, write down the difference.

What crosses: an assistant, the messages of a question and the token ids of its answer in; log-probabilities out, one
for the untouched image, one for each blanked part, one for the image blanked as a whole. No text is generated,
nothing is drawn and no cache is written.

What the numbers are: how much the model's own probability of *this* answer falls when it cannot see *that* place.
What they are not: where the model "looked", whether the answer is right, or a proof that the place is what made it
so. Blanking makes an image the model has never seen the like of, and two places that say the same thing hide each
other's part.

Blank is the mean colour of the image processor, 0 after normalisation.

Letters: V views, T side of a view in pixels, P patches a view, D decoder width, S prompt and answer, R parts, B rows
of a forward, A answer tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from xverse_v.errors import error
from xverse_v.model.tiling import Grid

from .assistant import Assistant
from .engine import Engine
from .memory import is_memory_error
from .prompt import Message, Prompt

Blank = Literal["region", "view"]
#: Cells along each side of an image that has a global view alone, so that there is something to tell apart.
GLOBAL_CELLS = 4
_HEAD_POSITIONS = 64  # answer positions that pass the head at once: a vocabulary is large and an answer may be long
_VIEWS_AT_ONCE = 16


@dataclass(frozen=True)
class PartEvidence:
    """One blanked part of the image, its rectangle in pixels of the image as the tiler sees it.

    row, column: its place in the grid, None for the global view. logprob: of the whole answer, natural log. change:
    that minus the untouched image's; below 0 the answer became less likely.
    """

    row: int | None
    column: int | None
    left: float
    top: float
    right: float
    bottom: float
    logprob: float
    change: float


@dataclass(frozen=True)
class Evidence:
    """What `measure` found. ``image`` counts the prompt's images from 0; ``rows`` x ``columns`` is the grid of parts.

    blank: "region" hid a place in every view that shows it, "view" hid one view and left the others. cells: the parts
    are cells of a global view that was alone, not tiles. logprob: of the answer with the image untouched. blanked: of
    the answer with every view of this image blank. tokens: answer tokens scored, the end token among them if the
    answer has one.
    """

    image: int
    blank: Blank
    rows: int
    columns: int
    cells: bool
    tokens: int
    logprob: float
    blanked: float
    parts: tuple[PartEvidence, ...]

    @property
    def strongest(self) -> PartEvidence:
        """The part whose loss hurts the answer most."""
        return min(self.parts, key=lambda part: part.change)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class _Part:
    """A part to blank: its place, its rectangle as shares of the image, and the views that change, each with T x T
    pixels or None for all blank."""

    row: int | None
    column: int | None
    box: tuple[float, float, float, float]
    views: dict[int, Tensor | None]


def measure(
    assistant: Assistant,
    messages: Sequence[Message],
    token_ids: Sequence[int],
    *,
    image: int = -1,
    blank: Blank = "region",
    max_tiles: int | None = None,
    batch_size: int = 4,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Evidence:
    """Blank each part of one image in turn and score ``token_ids``, the answer to ``messages``, again.

    ``image`` counts the images of all messages, -1 is the last. With ``blank="region"`` the parts are the image's tiles
    and each is hidden in its tile and in its place of the global view; an image without tiles is parted into
    `GLOBAL_CELLS` x `GLOBAL_CELLS` cells of its global view. With "view" the parts are the views themselves.
    ``max_tiles`` must be what the answer was made with. ``batch_size``: rows of one forward; the result does not depend
    on it. ``progress(done, total)`` is called after each forward; an exception from it ends the work.

    Costs a pass of prompt and answer for each part and two more. Raises E660 (no such image), E661 (no answer tokens),
    E662 (no memory for one row), and what `PromptBuilder.build` raises.
    """
    prompt = assistant.prompts.build(messages, max_tiles)
    count = len(prompt.images)
    if not -count <= image < count:
        raise error("E660", image=image, count=count)
    if not token_ids:
        raise error("E661")
    chosen = image % count
    pixels = prompt.images[chosen].pixel_values()
    grid = prompt.images[chosen].grid
    cells = blank == "region" and grid.tiles == 1
    shown = Grid(GLOBAL_CELLS, GLOBAL_CELLS) if cells else grid
    parts = list(_views(pixels, grid) if blank == "view" else _regions(pixels, shown, tiled=not cells))
    whole = _Part(None, None, (0.0, 0.0, 1.0, 1.0), dict.fromkeys(range(len(pixels))))
    scorer = _Scorer(assistant.engine, prompt, tuple(token_ids), chosen, pixels)
    untouched = _Part(None, None, whole.box, {})
    scores = scorer.scores([untouched, whole, *parts], batch_size, progress)
    width, height = prompt.images[chosen].rgb.size
    return Evidence(
        image=chosen,
        blank=blank,
        rows=shown.rows,
        columns=shown.columns,
        cells=cells,
        tokens=len(token_ids),
        logprob=scores[0],
        blanked=scores[1],
        parts=tuple(
            _evidence(part, width, height, score, scores[0]) for part, score in zip(parts, scores[2:], strict=True)
        ),
    )


def _evidence(part: _Part, width: int, height: int, logprob: float, untouched: float) -> PartEvidence:
    left, top, right, bottom = part.box
    corners = (left * width, top * height, right * width, bottom * height)
    return PartEvidence(part.row, part.column, *corners, logprob, logprob - untouched)


def _views(pixels: Tensor, grid: Grid) -> Iterator[_Part]:
    """Each view as a part: float[V, 3, T, T] is only counted."""
    yield _Part(None, None, (0.0, 0.0, 1.0, 1.0), {0: None})
    for index in range(1, len(pixels)):
        row, column = divmod(index - 1, grid.columns)
        yield _Part(row, column, _box(row, column, grid), {index: None})


def _regions(pixels: Tensor, grid: Grid, *, tiled: bool) -> Iterator[_Part]:
    """Each place of the grid as a part, hidden in the global view and, if there are tiles, in its tile."""
    side = pixels.shape[-1]
    for row in range(grid.rows):
        for column in range(grid.columns):
            box = _box(row, column, grid)
            left, top, right, bottom = (round(share * side) for share in box)
            whole = pixels[0].clone()
            whole[:, top:bottom, left:right] = 0.0
            tile: dict[int, Tensor | None] = {1 + row * grid.columns + column: None} if tiled else {}
            yield _Part(row, column, box, {0: whole, **tile})


def _box(row: int, column: int, grid: Grid) -> tuple[float, float, float, float]:
    return column / grid.columns, row / grid.rows, (column + 1) / grid.columns, (row + 1) / grid.rows


class _Scorer:
    """Scores one answer under changed image tokens. Everything that does not change is computed once."""

    def __init__(self, engine: Engine, prompt: Prompt, answer: tuple[int, ...], image: int, pixels: Tensor) -> None:
        self.engine, self.model = engine, engine.model
        device = self.model.device
        self.answer = torch.tensor(answer, device=device)
        # The last answer token predicts nothing that was said.
        ids = torch.tensor([*prompt.token_ids, *answer[:-1]], device=device)
        places = (ids[: len(prompt.token_ids)] == self.model.config.image_token_id).nonzero().squeeze(-1)
        self.patches = prompt.patches_per_view
        views = [picture.grid.views for picture in prompt.images]
        self.first = sum(views[:image])  # the image's first view among all
        self.places = places.view(-1, self.patches)  # int64[all views, P]
        with torch.inference_mode():
            self.embeds = self.model.get_input_embeddings()(ids)  # float[S, D]
            others = [pixels if i == image else item.pixel_values() for i, item in enumerate(prompt.images)]
            features = torch.cat([self._encode(values) for values in others])
            self.embeds[places] = features.flatten(0, 1).to(self.embeds.dtype)
            self.blank = self._encode(torch.zeros_like(pixels[:1]))[0]  # float[P, D]

    def scores(self, parts: Sequence[_Part], batch_size: int, progress: Callable[[int, int], None]) -> list[float]:
        """The answer's log-probability under each part. Rows are halved when memory runs out; E662 at one row."""
        found: list[float] = []
        rows = max(1, batch_size)
        while len(found) < len(parts):
            try:
                found += self._forward(parts[len(found) : len(found) + rows])
            except RuntimeError as reason:
                if not is_memory_error(reason):
                    raise
                freed = self.engine.prefix_cache.clear() + self.engine.feature_cache.clear()
                if rows == 1 and not freed:
                    raise error("E662", tokens=len(self.embeds), device=str(self.model.device)) from reason
                rows = max(1, rows // 2)
                continue
            progress(len(found), len(parts))
        return found

    @torch.inference_mode()
    def _forward(self, parts: Sequence[_Part]) -> list[float]:
        """One pass of B rows: float[B, S, D] to B sums over A log-probabilities."""
        embeds = self.embeds.expand(len(parts), -1, -1).clone()
        changed = [(row, view, values) for row, part in enumerate(parts) for view, values in part.views.items()]
        drawn = [values for _, _, values in changed if values is not None]
        encoded = iter(self._encode(torch.stack(drawn)) if drawn else ())
        for row, view, values in changed:
            features = self.blank if values is None else next(encoded)
            embeds[row, self.places[self.first + view]] = features.to(embeds.dtype)
        hidden = self.model.model(inputs_embeds=embeds, use_cache=False, return_dict=True).last_hidden_state
        sums = torch.zeros(len(parts), dtype=torch.float64, device=hidden.device)
        tail = hidden[:, -len(self.answer) :]
        for start in range(0, len(self.answer), _HEAD_POSITIONS):
            logits = self.model.lm_head(tail[:, start : start + _HEAD_POSITIONS]).float()
            logits[..., self.model.config.image_token_id] = -torch.inf  # as in the model's own forward: never a choice
            wanted = self.answer[start : start + _HEAD_POSITIONS].expand(len(parts), -1)
            sums += torch.log_softmax(logits, -1).gather(-1, wanted[..., None]).double().sum((1, 2))
        return [float(value) for value in sums]

    def _encode(self, pixels: Tensor) -> Tensor:
        """float32[V, 3, T, T] to image tokens float[V, P, D], some views at a time."""
        device = self.model.device
        pieces = [
            self.model.get_image_features(piece.to(device), return_dict=True).pooler_output
            for piece in pixels.split(_VIEWS_AT_ONCE)
        ]
        return torch.cat(pieces)
