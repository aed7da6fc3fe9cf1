"""One card at the real size: decoding in four ways, prefill, vision tower, both training stages, in one go.

In: a size, a device, ceilings. Out: `Section`s for one report. Weights are random and drawn on the device in bfloat16,
so nothing is read and nothing copied. Decoding is an experiment in steps (the engine, a static cache, CUDA graphs,
compiled), each predicted by the roofline, measured, and kept only if it is the fastest; a step that does not run is a
row of the notes with its reason, never a gap. On a CPU the graphs are left out: the way through can be tried with a
tiny size, its numbers mean nothing.

Letters: R rows, V views, S tokens.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import torch
from torch import Tensor
from transformers import StaticCache

from xverse_v.errors import XverseError, error
from xverse_v.inference.kv import RowCache
from xverse_v.inference.passes import decode, prefill
from xverse_v.model import XverseVForConditionalGeneration
from xverse_v.speed import training
from xverse_v.speed.ceilings import Ceilings
from xverse_v.speed.growth import filled_cache
from xverse_v.speed.peers import OURS
from xverse_v.speed.phases import answering
from xverse_v.speed.records import Goal, Record, number, timed
from xverse_v.speed.report import Section, ceilings_table, roofline_table
from xverse_v.speed.roofline import Work, decode_work, prefill_work, projector_work, vision_work
from xverse_v.speed.sizes import build_network, shape_of
from xverse_v.weights.shapes import ELEMENT_BYTES, ModelShape

ENGINE, STATIC, GRAPH, COMPILED = "engine", "static cache", "static cache, CUDA graph", "compiled, CUDA graph"
Step = Callable[[], object]
Make = Callable[[XverseVForConditionalGeneration, "Suite", int], Step]
T = TypeVar("T")


@dataclass(frozen=True)
class Suite:
    """What is measured. steps: of decoding, of which the median counts."""

    size: str = "13b"
    device: str = "cuda"
    dtype: str = "bfloat16"
    rows: tuple[int, ...] = (1, 32)
    context: int = 2048
    steps: int = 40
    prompts: tuple[int, ...] = (2048, 4096)
    views: tuple[int, ...] = (10, 40)
    training_views: tuple[int, ...] = (7, 3, 1)
    compiled: bool = True

    def __post_init__(self) -> None:
        """Raises E810, and E819 where there is no card."""
        shape = shape_of(self.size)
        if torch.device(self.device).type == "cuda" and not torch.cuda.is_available():
            size = number(shape.parameters * ELEMENT_BYTES[self.dtype] / 1e9)
            raise error("E819", size=self.size, gigabytes=size)

    @property
    def shape(self) -> ModelShape:
        return shape_of(self.size)

    @property
    def card(self) -> bool:
        return torch.device(self.device).type == "cuda"


@dataclass
class Notes:
    """Each experiment: predicted, measured, kept or dropped."""

    lines: list[str] = field(
        default_factory=lambda: ["| experiment | predicted | measured | kept |", "|---|---|---|---|"]
    )

    def add(self, name: str, predicted: str, measured: str, kept: str) -> None:
        self.lines.append(f"| {name} | {predicted} | {measured} | {kept} |")


def run_suite(suite: Suite, ceilings: Ceilings, note: Callable[[str], None] = lambda text: None) -> list[Section]:
    """Everything, in sections. A way to decode or a stage that fails is said in its section; the others go on."""
    works = answering(suite.shape, suite.views[0], 64, 128, suite.dtype)
    tables = ("\n".join(ceilings_table(ceilings)), "\n".join(roofline_table(works, ceilings)))
    network = build_network(suite.shape, dtype=suite.dtype, device=suite.device, attention="sdpa")
    sections = [
        Section("What the card allows", words=tables),
        _decoding(network, suite, ceilings, note),
        _prompts(network, suite, ceilings, note),
    ]
    del network
    _forget(suite)
    return [*sections, _training(suite, ceilings, note)]


def _decoding(
    network: XverseVForConditionalGeneration, suite: Suite, ceilings: Ceilings, note: Callable[[str], None]
) -> Section:
    notes, records, goals = Notes(), list[Record](), list[Goal]()
    for rows in suite.rows:
        found: dict[str, Record] = {}
        for name, make in _steps(suite):
            work = decode_work(suite.shape, suite.context + suite.steps / 2, rows=rows, dtype=suite.dtype)
            label = f"decode step, {rows} rows: {name}"
            # Made in the call, so that its cache is gone after it: of a large batch a card has room for one only.
            row = _attempt(lambda: _row(name, suite, make(network, suite, rows), work, ceilings, rows))  # noqa: B023
            _forget(suite)
            if isinstance(row, str):
                notes.add(label, "-", f"did not run: {row}", "dropped")
                continue
            found[name] = row
            note(f"{label}: {number(1000 * row.value)} ms")
        if not found:
            goals.append(Goal(f"decode of {rows} rows: of the ceiling", "measured", "-", None, "nothing ran"))
            continue
        best = min(found, key=lambda name: found[name].value)
        for name, row in found.items():
            predicted = f"at least {number(1000 * (row.floor or 0))} ms"
            kept = "kept" if name == best else "dropped"
            notes.add(f"decode step, {rows} rows: {name}", predicted, f"{number(1000 * row.value)} ms", kept)
        records += found.values()
        if rows == 1:
            share = found[best].percent or 0.0
            name = "decode of 1 row: of the ceiling"
            goals.append(Goal(name, "at least 85 %", f"{share:.0f} % ({best})", share >= 85))
    return Section("Decoding", records, goals, ("\n".join(notes.lines),))


def _row(who: str, suite: Suite, step: Step, work: Work, ceilings: Ceilings, rows: int) -> Record:
    """Median over the steps; the first ones, which compile and capture, are not counted. Raises what `step` raised."""
    for _ in range(3):
        step()
    samples = [timed(step, suite.device) for _ in range(suite.steps - 3)]
    least = work.on(ceilings.rates(suite.dtype))
    settings = {"model": suite.size, "dtype": suite.dtype, "rows": rows, "context": suite.context}
    wall, cpu = tuple(s.wall for s in samples), tuple(s.cpu for s in samples)
    return Record("decode step", f"{OURS}, {who}", "s", wall, settings, least.seconds, least.bound, cpu)


def _steps(suite: Suite) -> list[tuple[str, Make]]:
    ways: list[tuple[str, Make]] = [(ENGINE, engine_step), (STATIC, static_step)]
    if suite.card:
        ways.append((GRAPH, lambda network, suite, rows: captured(static_step(network, suite, rows))))
    if suite.card and suite.compiled:
        ways.append((COMPILED, lambda network, suite, rows: captured(static_step(network, suite, rows, compiled=True))))
    return ways


def engine_step(network: XverseVForConditionalGeneration, suite: Suite, rows: int) -> Step:
    """The engine's own decode step."""
    tokens = torch.ones(rows, dtype=torch.int64, device=network.device)
    cache = filled_cache(network, rows, suite.context, suite.steps)
    return lambda: decode(network, cache, tokens)


def static_step(network: XverseVForConditionalGeneration, suite: Suite, rows: int, *, compiled: bool = False) -> Step:
    """Keys and values in buffers of fixed size and place: every step is the same kernels on the same addresses."""
    room = suite.context + 2 * suite.steps
    cache = StaticCache(config=network.config.text_config, max_cache_len=room)
    # int64[R, 1]: the token a step reads and, at its end, writes; and its place.
    token = torch.ones(rows, 1, dtype=torch.int64, device=network.device)
    place = torch.full((rows, 1), suite.context, device=network.device)

    def forward(token: Tensor, place: Tensor) -> Tensor:
        logits = network(
            input_ids=token, position_ids=place, past_key_values=cache, use_cache=True, logits_to_keep=1
        ).logits
        return logits[:, -1].argmax(-1, keepdim=True)

    with torch.inference_mode():
        start = torch.zeros(rows, suite.context, dtype=torch.int64, device=network.device)
        for first in range(0, suite.context, 512):
            part = start[:, first : first + 512]
            places = torch.arange(first, first + part.shape[1], device=network.device)[None].expand(rows, -1)
            network(input_ids=part, position_ids=places, past_key_values=cache, use_cache=True, logits_to_keep=1)
    run = torch.compile(forward, fullgraph=False, dynamic=False) if compiled else forward

    @torch.inference_mode()
    def step() -> Tensor:
        token.copy_(run(token, place))
        place.add_(1)
        return token

    return step


def captured(step: Step) -> Step:
    """The step's kernels recorded once and played again without Python. Warm on a side stream first, as CUDA asks."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


def _prompts(
    network: XverseVForConditionalGeneration, suite: Suite, ceilings: Ceilings, note: Callable[[str], None]
) -> Section:
    """Prefill of text and the vision tower with projector, each at two sizes."""
    shape, records = suite.shape, list[Record]()
    layers = network.config.text_config.num_hidden_layers
    side = shape.vision.image_size

    def run(what: str, size: int, key: str, work: Work, call: Step) -> None:
        samples = [timed(call, suite.device) for _ in range(6)][1:]
        least = work.on(ceilings.rates(suite.dtype))
        settings = {"model": suite.size, "dtype": suite.dtype, key: size}
        wall, cpu = tuple(s.wall for s in samples), tuple(s.cpu for s in samples)
        records.append(Record(what, OURS, "s", wall, settings, least.seconds, least.bound, cpu))
        note(f"{what}, {size:,} {key}: {number(1000 * records[-1].value)} ms")

    for tokens in suite.prompts:
        ids = torch.ones(tokens, dtype=torch.int64, device=network.device)
        work = prefill_work(shape, tokens, dtype=suite.dtype)
        run("prefill", tokens, "tokens", work, lambda: prefill(network, RowCache(layers, 1), 0, ids))  # noqa: B023
    for views in suite.views:
        pixels = torch.zeros(views, 3, side, side, dtype=network.dtype, device=network.device)
        work = vision_work(shape, views, suite.dtype) + projector_work(shape, views, suite.dtype)
        run("vision tower", views, "views", work, torch.inference_mode()(lambda: network.get_image_features(pixels)))  # noqa: B023
    goals = [_best("prefill", records, 60), _best("vision tower", records, 50)]
    return Section("Prefill and vision tower", records, goals)


def _training(suite: Suite, ceilings: Ceilings, note: Callable[[str], None]) -> Section:
    """Both stages, with and without recomputation; without it a card may be too small, which is then said."""
    records: list[Record] = []
    words = []
    for checkpointing in (False, True):
        case = training.TrainingCase(
            suite.shape,
            suite.training_views,
            packing=(True,),
            checkpointing=(checkpointing,),
            repeats=3,
            dtype=suite.dtype,
            device=suite.device,
        )
        found = _attempt(lambda: training.measure_training(case, ceilings, note))  # noqa: B023
        _forget(suite)
        if isinstance(found, str):
            words.append(f"Recomputation {'on' if checkpointing else 'off'} did not run: {found}.")
        else:
            records += found
    goals = training.goals(records) or [Goal("training: MFU", "at least 50 %", "-", None, "no stage ran")]
    return Section("Training", records, goals, words)


def _best(what: str, records: Sequence[Record], least: float) -> Goal:
    share = max(record.percent or 0.0 for record in records if record.what == what)
    return Goal(f"{what}: of the matrix rate", f"at least {least:.0f} %", f"{share:.0f} %", share >= least)


def _attempt(work: Callable[[], T]) -> T | str:
    """The result, or why there is none: a kernel that is missing or memory that ends is an outcome of an experiment."""
    try:
        return work()
    except (RuntimeError, NotImplementedError, ImportError, XverseError) as problem:  # out of memory is a RuntimeError
        return (str(problem).strip().splitlines() or [type(problem).__name__])[0][:200]


def _forget(suite: Suite) -> None:
    """Free what an experiment held before the next one needs it."""
    gc.collect()
    if suite.card:
        torch.cuda.empty_cache()
