"""Cost as work grows: time and peak memory against views, questions, context, batch, each beside its roofline's curve.

In: a subject and ceilings. Out: `Curve`s, their rows, and a verdict on each: its slope on double logarithmic axes must
not be steeper than that of its roofline over the same points, or something grows that physics does not ask for. Slopes
are those of least squares through all points. The floor of memory is what an answer must hold: keys and values, image
tokens and pixels; weights are there before and not counted. Drawing is `plots`' work.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from xverse_v.inference.assistant import Request
from xverse_v.inference.kv import RowCache
from xverse_v.inference.passes import decode, prefill
from xverse_v.inference.sampling import SamplingSettings
from xverse_v.model import XverseVForConditionalGeneration
from xverse_v.speed.ceilings import Ceilings
from xverse_v.speed.generate import image_size, noise_image, shared_image_work
from xverse_v.speed.peaks import peak_bytes
from xverse_v.speed.peers import OURS, Ours
from xverse_v.speed.records import Goal, Record, Sample, number, timed
from xverse_v.speed.roofline import Work, decode_work, first_token_work
from xverse_v.speed.subject import Subject
from xverse_v.weights.shapes import ELEMENT_BYTES, ModelShape

SLACK = 0.1
"""How much steeper a curve may measure: a clock's noise on a few points."""
ANSWER = 8
"""Tokens of each answer to many questions."""
BATCH_CONTEXT = 256
TEXT, AROUND = "What is it? ", 32
"""What a long question repeats, and about how many tokens a prompt puts around it."""


@dataclass(frozen=True)
class Sizes:
    """Where the curves are measured. A context is rounded to what a prompt of whole sentences has of tokens."""

    views: tuple[int, ...] = (1, 3, 5, 7, 10)
    questions: tuple[int, ...] = (1, 4, 16, 64)
    context: tuple[int, ...] = (1024, 2048, 4096, 8192)
    batch: tuple[int, ...] = (1, 2, 4, 8, 16, 32)
    repeats: int = 2


@dataclass(frozen=True)
class Point:
    """One size: seconds of each run with the least possible, bytes at the peak (None: unknown) with the least."""

    x: int
    samples: tuple[Sample, ...]
    least_seconds: float
    bound: str
    peak: int | None
    least_bytes: float


@dataclass(frozen=True)
class Curve:
    """What was measured ("first token") against what ("views")."""

    what: str
    against: str
    points: tuple[Point, ...]

    def time(self) -> tuple[list[float], list[float], list[float]]:
        """x, median seconds, least seconds."""
        ys = [median(sample.wall for sample in p.samples) for p in self.points]
        return [p.x for p in self.points], ys, [p.least_seconds for p in self.points]

    def memory(self) -> tuple[list[float], list[float], list[float]]:
        """x, peak bytes, least bytes, where the peak is known."""
        known = [p for p in self.points if p.peak]
        return [p.x for p in known], [float(p.peak or 0) for p in known], [p.least_bytes for p in known]


def slope(xs: Sequence[float], ys: Sequence[float]) -> float:
    """Of least squares through the logarithms: 1 is proportional, 2 quadratic. Needs two different x."""
    logs = [(math.log(x), math.log(y)) for x, y in zip(xs, ys, strict=True)]
    mean_x, mean_y = (sum(values) / len(logs) for values in zip(*logs, strict=True))
    across = sum((x - mean_x) ** 2 for x, _ in logs)
    return sum((x - mean_x) * (y - mean_y) for x, y in logs) / across


def measure_growth(
    subject: Subject, ceilings: Ceilings, sizes: Sizes, note: Callable[[str], None] = lambda text: None
) -> list[Curve]:
    """All curves, smallest size first. Raises E812, and what the engine raises for a prompt beyond its context."""
    curves = []
    for what, against, points in (
        ("first token", "views", _views(subject, sizes)),
        ("all answers", "questions", _questions(subject, sizes)),
        ("first token", "context", _context(subject, sizes)),
        ("a token after it", "context", _context_steps(subject, sizes)),
        ("decode step", "batch", _batch(subject, sizes)),
    ):
        found = []
        for x, work, held, samples, peak in points:
            least = work.on(ceilings.rates(subject.dtype))
            found.append(Point(x, tuple(samples), least.seconds, least.bound, peak, held))
            note(f"{what}, {x:,} {against}: {number(median(s.wall for s in samples))} s")
        curves.append(Curve(what, against, tuple(found)))
    return curves


Measured = tuple[int, Work, float, list[Sample], int | None]


def _views(subject: Subject, sizes: Sizes) -> Iterator[Measured]:
    way = Ours(subject.assistant)
    for views in sizes.views:
        image = noise_image(*image_size(views))
        peak = peak_bytes(lambda: way.answer(image, "What is it?", 2), subject.device)  # noqa: B023 (called at once)
        runs = [way.answer(image, "What is it?", 2) for _ in range(sizes.repeats)]
        prompt = runs[0].prompt_tokens
        text = prompt - views * subject.shape.vision.patches
        work = first_token_work(subject.shape, views, text, dtype=subject.dtype)
        yield views, work, held_bytes(subject.shape, views, prompt, subject.dtype), [run.first for run in runs], peak


def _questions(subject: Subject, sizes: Sizes) -> Iterator[Measured]:
    shape, image, assistant = subject.shape, noise_image(*image_size(3)), subject.assistant
    settings = SamplingSettings(temperature=0.0, repetition_penalty=1.0, max_new_tokens=ANSWER)
    for count in sizes.questions:
        requests = [Request(f"Question {index:03}: what is it?", (image,), settings=settings) for index in range(count)]
        prompts: list[int] = []

        def ask() -> None:
            assistant.engine.prefix_cache.clear()
            assistant.engine.feature_cache.clear()
            answers = assistant.batch(requests, batch_size=len(requests))  # noqa: B023
            prompts[:] = [answer.receipt.prompt_tokens for answer in answers]  # noqa: B023

        peak = peak_bytes(ask, subject.device)
        samples = [timed(ask, subject.device) for _ in range(sizes.repeats)]
        text = prompts[0] - 3 * shape.vision.patches
        work = shared_image_work(shape, 3, text, count, ANSWER, subject.dtype)
        more = (count - 1) * shape.decoder.cache_bytes(text + ANSWER, ELEMENT_BYTES[subject.dtype])
        yield count, work, held_bytes(shape, 3, prompts[0], subject.dtype) + more, samples, peak


def _context(subject: Subject, sizes: Sizes) -> Iterator[Measured]:
    way, shape = Ours(subject.assistant), subject.shape
    for tokens in sizes.context:
        question = prompt_of(tokens, subject.processor.tokenizer)
        peak = peak_bytes(lambda: way.answer_to((question,), 2), subject.device)  # noqa: B023
        runs = [way.answer_to((question,), 2) for _ in range(sizes.repeats)]
        prompt = runs[0].prompt_tokens
        work = first_token_work(shape, 0, prompt, dtype=subject.dtype)
        yield prompt, work, held_bytes(shape, 0, prompt, subject.dtype), [run.first for run in runs], peak


def _context_steps(subject: Subject, sizes: Sizes) -> Iterator[Measured]:
    """One row whose cache holds so many tokens; what they are does not matter, so it is filled, not computed."""
    for tokens in sizes.context:
        yield tokens, *_steps(subject, sizes, rows=1, context=tokens)


def _batch(subject: Subject, sizes: Sizes) -> Iterator[Measured]:
    for rows in sizes.batch:
        yield rows, *_steps(subject, sizes, rows=rows, context=BATCH_CONTEXT)


def _steps(subject: Subject, sizes: Sizes, *, rows: int, context: int) -> tuple[Work, float, list[Sample], int | None]:
    """The engine's decode step for `rows` whose cache holds `context` tokens each."""
    network, shape, count = subject.network, subject.shape, 8 * sizes.repeats
    tokens = torch.ones(rows, dtype=torch.int64, device=network.device)
    caches: list[RowCache] = []

    def fill() -> None:
        caches[:] = [filled_cache(network, rows, context, count + 1)]
        decode(network, caches[0], tokens)

    peak = peak_bytes(fill, subject.device)
    samples = [timed(lambda: decode(network, caches[0], tokens), subject.device) for _ in range(count)]
    work = decode_work(shape, context + 1 + (count - 1) / 2, rows=rows, dtype=subject.dtype)
    held = rows * shape.decoder.cache_bytes(context + count + 1, ELEMENT_BYTES[subject.dtype])
    return work, float(held), samples, peak


@torch.inference_mode()
def filled_cache(network: XverseVForConditionalGeneration, rows: int, context: int, more: int) -> RowCache:
    """A cache of `rows` rows with `context` tokens each and room for `more`. A short prompt is computed and its
    columns are repeated behind it: a step's cost does not depend on what is in them."""
    start = min(context, 64)
    cache = RowCache(network.config.text_config.num_hidden_layers, rows)
    cache.expect(context + more)
    prefill(network, cache, 0, torch.ones(start, dtype=torch.int64, device=network.device))
    for layer in cache.layers:
        layer.reserve(rows, context + more)
        for states in (layer.keys, layer.values):
            begun = states[0, :, :start].clone()
            states[:rows, :, :context] = begun.repeat(1, -(-context // start), 1)[:, :context]
    # Announced, and written here instead of by a pass.
    for row, new in enumerate([context - start, *[context] * (rows - 1)]):
        cache.open_rows(row, [new], network.device)
        cache.close()
    return cache


def prompt_of(tokens: int, tokenizer: PreTrainedTokenizerBase) -> str:
    """A question of about so many tokens, with room for the words of the prompt around it."""
    each = len(tokenizer(16 * TEXT, add_special_tokens=False).input_ids) / 16
    return TEXT * max(1, round((tokens - AROUND) / each))


def held_bytes(shape: ModelShape, views: int, tokens: int, dtype: str) -> float:
    """What an answer must hold at once: keys and values of all tokens, the image tokens, the pixels in float32."""
    element, vision = ELEMENT_BYTES[dtype], shape.vision
    states = shape.decoder.cache_bytes(tokens, element)
    image_tokens = views * vision.patches * shape.decoder.width * element
    return float(states + image_tokens + 4 * views * vision.channels * vision.image_size**2)


def records_of(curves: Sequence[Curve], subject: Subject) -> list[Record]:
    """A row for each point's time, and one for its memory where that is known."""
    rows = []
    for curve in curves:
        for p in curve.points:
            settings: dict[str, Any] = {"model": subject.shape.name, "dtype": subject.dtype, curve.against: p.x}
            wall, cpu = tuple(s.wall for s in p.samples), tuple(s.cpu for s in p.samples)
            rows.append(Record(curve.what, OURS, "s", wall, settings, p.least_seconds, p.bound, cpu))
            if p.peak:
                share = p.least_bytes / 1e9
                rows.append(Record(f"{curve.what}, memory", OURS, "GB", (p.peak / 1e9,), settings, share, "must hold"))
    return rows


def verdicts(curves: Sequence[Curve]) -> list[Goal]:
    """No curve steeper than its roofline."""
    found = []
    for curve in curves:
        for kind, (xs, ys, least) in (("time", curve.time()), ("memory", curve.memory())):
            name = f"{curve.what} against {curve.against}, {kind}: slope"
            if len(set(xs)) < 2:
                found.append(Goal(name, "not steeper than the roofline", "-", None, "fewer than two sizes measured"))
                continue
            ours, physics = slope(xs, ys), slope(xs, least)
            wanted = f"at most {physics:.2f} + {SLACK}"
            found.append(Goal(name, wanted, f"{ours:.2f}", ours <= physics + SLACK))
    return found
