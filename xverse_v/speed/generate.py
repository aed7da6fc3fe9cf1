"""Answering, timed: the first token, each token after it, and sixteen questions about one image.

In: a network, its shape, the ways to compare (`peers`), ceilings of this machine. Out: `Record`s with their percent of
the ceiling, and the goals with the numbers found. Ways take turns, so that a change of the machine's load meets all of
them. Answers are compared token by token: a way that answers differently raises (float32) or is named (fewer bits).
Nothing is printed here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from xverse_v.errors import error
from xverse_v.inference.assistant import Assistant, Request
from xverse_v.inference.sampling import SamplingSettings
from xverse_v.model.tiling import MAX_TILES, TILE_SIZE, choose_grid
from xverse_v.speed.ceilings import Ceilings
from xverse_v.speed.peers import OURS, RELEASE, Run, Way
from xverse_v.speed.records import Goal, Record, Sample, number, timed
from xverse_v.speed.roofline import Work, decode_work, first_token_work, prefill_work, projector_work, vision_work
from xverse_v.weights.shapes import ModelShape

QUESTIONS = tuple(f"Question {index:02}: what is to be seen in this part of the image?" for index in range(16))
"""All of one length in bytes, so that every repeat does the same work."""
SHORT_ANSWER = 16
"""Tokens an answer of the sixteen; the release's own evaluation allows as many."""


@dataclass(frozen=True)
class Case:
    """What is asked. `dtype` is what the network computes in."""

    shape: ModelShape
    views: int = 7
    new_tokens: int = 32
    repeats: int = 3
    dtype: str = "float32"
    device: str = "cpu"

    def __post_init__(self) -> None:
        """Raises E812, E814."""
        image_size(self.views)
        for flag, given, least in (("--new-tokens", self.new_tokens, 2), ("--repeat", self.repeats, 1)):
            if given < least:
                raise error("E814", flag=flag, given=given, least=least)

    def settings(self, prompt_tokens: int) -> dict[str, object]:
        """For the rows: what their numbers depend on."""
        return {
            "model": self.shape.name,
            "dtype": self.dtype,
            "views": self.views,
            "prompt tokens": prompt_tokens,
            "batch": 1,
        }


@dataclass
class Measured:
    """Rows, and what the answers say: ways whose tokens equal the first way's, and those that differ, with where."""

    records: list[Record] = field(default_factory=list)
    equal: list[str] = field(default_factory=list)
    differ: list[str] = field(default_factory=list)

    def value(self, what: str, who: str) -> float | None:
        """The median of a row."""
        return next((r.value for r in self.records if (r.what, r.who) == (what, who)), None)

    def percent(self, what: str, who: str) -> float | None:
        return next((r.percent for r in self.records if (r.what, r.who) == (what, who)), None)


def image_size(views: int) -> tuple[int, int]:
    """(width, height) of the squarest image that the release cuts into so many views. Raises E812."""
    sides = range(1, MAX_TILES + 1)
    grids = {
        (a, b): choose_grid(a * TILE_SIZE, b * TILE_SIZE, orientation="release").views for a in sides for b in sides
    }
    found = [size for size, count in grids.items() if count == views and (count == 1 or size[0] * size[1] == count - 1)]
    if not found:
        raise error("E812", views=views, known=", ".join(map(str, sorted(set(grids.values())))))
    across, down = min(found, key=lambda size: (abs(size[0] - size[1]), -size[0]))
    return across * TILE_SIZE, down * TILE_SIZE


def noise_image(width: int, height: int, seed: int = 0) -> Image.Image:
    """RGB noise: the hardest case of every codec and no help to any cache."""
    return Image.fromarray(np.random.RandomState(seed).randint(0, 256, (height, width, 3), dtype=np.uint8))


def measure_answers(
    ways: Sequence[Way], case: Case, ceilings: Ceilings, note: Callable[[str], None] = lambda text: None
) -> Measured:
    """Each way answers `case.repeats` questions about one image, ways taking turns.

    Raises E813 when the tokens of an exact way differ from the first way's in float32.
    """
    image, runs = noise_image(*image_size(case.views)), {way.name: list[Run]() for way in ways}
    for repeat in range(case.repeats):
        for way in ways:
            question = QUESTIONS[repeat % len(QUESTIONS)]
            run = way.answer(image, question, case.new_tokens)
            runs[way.name].append(run)
            note(f"{way.name}: first token {number(run.first.wall)} s, then {number(run.each.wall)} s a token")
    found = Measured()
    for way in ways:
        found.records += _rows(way, runs[way.name], case, ceilings)
        _compare(runs[ways[0].name], runs[way.name], way, case.dtype, found)
    return found


def _rows(way: Way, runs: list[Run], case: Case, ceilings: Ceilings) -> list[Record]:
    prompt, rates = runs[0].prompt_tokens, ceilings.rates(case.dtype)
    text = prompt - case.views * case.shape.vision.patches
    settings = case.settings(prompt)
    first = first_token_work(case.shape, case.views, text, dtype=case.dtype)
    steps = case.new_tokens - 1
    step = decode_work(case.shape, prompt + (steps - 1) / 2, dtype=case.dtype)
    phases: dict[str, Work] = {
        "vision": vision_work(case.shape, case.views, case.dtype) + projector_work(case.shape, case.views, case.dtype),
        "prefill": prefill_work(case.shape, prompt, dtype=case.dtype),
    }

    def row(what: str, work: Work, samples: Sequence[Sample], note: str = "") -> Record:
        least = work.on(rates)
        wall, cpu = tuple(s.wall for s in samples), tuple(s.cpu for s in samples)
        return Record(what, way.name, "s", wall, settings, least.seconds, least.bound, cpu, note=note)

    found = [row("first token", first, [run.first for run in runs], way.note)]
    for name, work in phases.items():
        if name in runs[0].phases:
            least = work.on(rates)
            samples = tuple(run.phases[name] for run in runs)
            found.append(Record(f"  of it: {name}", way.name, "s", samples, settings, least.seconds, least.bound))
    found.append(row("a token after it", step, [run.each for run in runs]))
    return found


def _compare(expected: list[Run], runs: list[Run], way: Way, dtype: str, found: Measured) -> None:
    who = way.name
    for question, (wanted, run) in enumerate(zip(expected, runs, strict=True)):
        place = first_difference(wanted.token_ids, run.token_ids)
        if place is None:
            continue
        if dtype == "float32" and way.exact:
            ours, theirs = wanted.token_ids[place - 1 : place], run.token_ids[place - 1 : place]
            raise error("E813", who=who, question=question + 1, position=place, found=theirs, expected=ours)
        found.differ.append(f"{who}: question {question + 1} from token {place} on")
        return
    found.equal.append(who)


def first_difference(expected: Sequence[int], found: Sequence[int]) -> int | None:
    """The first position, counted from 1, where two answers differ; None for equal ones."""
    pairs = enumerate(zip(expected, found, strict=False), start=1)
    place = next((position for position, (a, b) in pairs if a != b), None)
    return place or (None if len(expected) == len(found) else min(len(expected), len(found)) + 1)


def measure_sixteen(
    assistant: Assistant,
    case: Case,
    ceilings: Ceilings,
    single: Mapping[str, float],
    note: Callable[[str], None] = lambda text: None,
) -> list[Record]:
    """Sixteen questions on one image at once, its prefill shared; then the same one after another, to compare answers.

    single: seconds one question with `SHORT_ANSWER` tokens takes each way alone; a row of sixteen times as much stands
    beside. Raises E813 when an answer given together differs from the one given alone, in float32.
    """
    image = noise_image(*image_size(case.views))
    settings = SamplingSettings(temperature=0.0, repetition_penalty=1.0, max_new_tokens=SHORT_ANSWER)
    requests = [Request(question, (image,), settings=settings) for question in QUESTIONS]
    together: list[tuple[int, ...]] = []

    def all_at_once() -> None:
        together[:] = [answer.token_ids for answer in assistant.batch(requests, batch_size=len(requests))]

    samples = []
    for _ in range(max(1, case.repeats - 1)):
        assistant.engine.prefix_cache.clear()
        assistant.engine.feature_cache.clear()
        samples.append(timed(all_at_once, case.device))
        note(f"sixteen questions together: {number(samples[-1].wall)} s")
    alone = [assistant.batch([request], batch_size=1)[0] for request in requests]
    for index, answer in enumerate(alone):
        place = first_difference(answer.token_ids, together[index])
        if place is not None and case.dtype == "float32":
            got, wanted = together[index][place - 1 : place], answer.token_ids[place - 1 : place]
            raise error("E813", who="sixteen together", question=index + 1, position=place, found=got, expected=wanted)
    prompt = alone[0].receipt.prompt_tokens
    least = sixteen_work(case, prompt).on(ceilings.rates(case.dtype))
    wall, cpu = tuple(s.wall for s in samples), tuple(s.cpu for s in samples)
    shown = {**case.settings(prompt), "batch": len(requests)}
    different = len({answer.token_ids for answer in alone})
    words = f"{different} different answers of {SHORT_ANSWER} tokens, all as when asked alone"
    rows = [Record("sixteen questions", OURS, "s", wall, shown, least.seconds, least.bound, cpu, note=words)]
    for who, seconds in single.items():
        words = f"16 x the median of {case.repeats} single ones"
        rows.append(
            Record("sixteen questions, one by one", who, "s", (16 * seconds,), case.settings(prompt), note=words)
        )
    return rows


def sixteen_work(case: Case, prompt: int) -> Work:
    """The least of `measure_sixteen`."""
    text = prompt - case.views * case.shape.vision.patches
    work = shared_image_work(case.shape, case.views, text, len(QUESTIONS), SHORT_ANSWER, case.dtype)
    return work.called("sixteen questions")


def shared_image_work(shape: ModelShape, views: int, text: int, count: int, new_tokens: int, dtype: str) -> Work:
    """`count` questions of `text` tokens about one image: the image once; of each question its own text; the decode
    steps together, the image's keys and values read once a step."""
    image = views * shape.vision.patches
    work = first_token_work(shape, views, text, dtype=dtype)
    if count > 1:
        work += prefill_work(shape, text, cached=image, rows=count - 1, dtype=dtype)
    step = decode_work(shape, image + text + new_tokens / 2, rows=count, dtype=dtype)
    element = 4 if dtype == "float32" else 2
    shared = Work("read once", 0.0, -(count - 1) * shape.decoder.cache_bytes(image, element), dtype)
    return work + (step + shared).times(new_tokens - 1)


def single_seconds(found: Measured, ways: Sequence[Way]) -> dict[str, float]:
    """Seconds one question with `SHORT_ANSWER` tokens takes each way, from the rows of the first token and of each."""
    seconds = {}
    for way in ways:
        first, each = found.value("first token", way.name), found.value("a token after it", way.name)
        if first is not None and each is not None:
            seconds[way.name] = first + (SHORT_ANSWER - 1) * each
    return seconds


def goals(found: Measured) -> list[Goal]:
    """What is wanted of answering, with what was found."""
    first, each = "first token", "a token after it"
    wanted = [
        _ratio_goal(f"{first}: of the release's way", found, first, RELEASE, 0.67, higher=False),
        _share_goal(f"{first}: of the matrix rate", found, first, 92),
        _ratio_goal(f"{each}: times as fast as the release's way", found, each, RELEASE, 1.5, higher=True),
        _share_goal(f"{each}: of the bandwidth", found, each, 65),
    ]
    together = found.value("sixteen questions", OURS)
    for who in (OURS, RELEASE):
        alone = found.value("sixteen questions, one by one", who)
        if together and alone:
            ratio = alone / together
            name = f"sixteen questions on one image: times as fast as {who} one by one"
            wanted.append(Goal(name, "at least 8", number(ratio), ratio >= 8))
    return wanted


def _ratio_goal(name: str, found: Measured, what: str, peer: str, limit: float, *, higher: bool) -> Goal:
    ours, theirs = found.value(what, OURS), found.value(what, peer)
    bound = f"at {'least' if higher else 'most'} {limit}"
    if not ours or not theirs:
        return Goal(name, bound, "-", None, f"{peer} did not run")
    ratio = theirs / ours if higher else ours / theirs
    return Goal(name, bound, number(ratio), ratio >= limit if higher else ratio <= limit)


def _share_goal(name: str, found: Measured, what: str, limit: float) -> Goal:
    percent = found.percent(what, OURS)
    if percent is None:
        return Goal(name, f"at least {limit:.0f} %", "-", None)
    return Goal(name, f"at least {limit:.0f} %", f"{percent:.0f} %", percent >= limit)
