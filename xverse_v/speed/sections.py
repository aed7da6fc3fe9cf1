"""The parts of `xverse-v speed` as sections of a report: measure, then say against which goals.

In: a subject and ceilings. Out: `Section`s. How each number is taken is its own file's; nothing is printed or written
but a model folder that is deleted again (`loading_section`).
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from xverse_v.inference.loading import resolve_model
from xverse_v.speed import generate, growth, images, loading, phases, quantised, serving, training
from xverse_v.speed.ceilings import Ceilings
from xverse_v.speed.peers import Ours, Way
from xverse_v.speed.report import Section, ceilings_table, roofline_table
from xverse_v.speed.sizes import write_folder
from xverse_v.speed.subject import Subject, build_subject
from xverse_v.speed.ways import build_peer
from xverse_v.weights.shapes import PUBLISHED, ModelShape

TEXT_TOKENS = 64


def roofline_section(shape: ModelShape, ceilings: Ceilings, views: int) -> Section:
    """Ceilings, and the least times of this shape and of the 13B."""
    tables = ["\n".join(ceilings_table(ceilings))]
    tables.append(f"Highest matrix rate: {ceilings.fastest_dtype()}.")
    for each in (shape, PUBLISHED["13b"]):
        works = phases.answering(each, views, TEXT_TOKENS, 128) + phases.training(each, views)
        tables += [f"{each.name}, float32, {views} views:", "\n".join(roofline_table(works, ceilings))]
    return Section("What the machine allows", words=tables, command="xverse-v speed roofline")


def generate_section(
    subject: Subject,
    ceilings: Ceilings,
    views: int,
    new_tokens: int,
    repeats: int,
    peers: Sequence[str],
    note: Callable[[str], None],
    *,
    int8: bool = False,
) -> Section:
    """Answers, the engine's first. int8: also decode with int8 weights beside float32. Raises E811 to E814."""
    case = generate.Case(subject.shape, views, new_tokens, repeats, subject.dtype, subject.device)
    ways: list[Way] = [Ours(subject.assistant)]
    ways += [build_peer(name, subject.network, subject.processor) for name in peers]
    found = generate.measure_answers(ways, case, ceilings, note)
    single = generate.single_seconds(found, ways)
    found.records += generate.measure_sixteen(subject.assistant, case, ceilings, single, note)
    extra = quantised.Quantised()
    if int8:
        extra = quantised.measure_quantised(subject, case, ceilings, note)
        found.records += extra.records
    said = f"Tokens equal in every run: {', '.join(found.equal)}."
    if found.differ:
        said += f" Different, as fewer bits may make them: {'; '.join(found.differ)}."
    flags = " ".join(f"--peer {name}" for name in peers)
    command = f"xverse-v speed generate --size {subject.shape.name} --views {views} {flags}".rstrip()
    command += " --int8" if int8 else ""
    goals = generate.goals(found) + extra.goals
    return Section("Answers", found.records, goals, (said, *extra.words), command)


def images_section(repeats: int) -> Section:
    """Raises E815."""
    records = images.measure_images(repeats=repeats)
    return Section("Images to views", records, images.goals(records), (), "xverse-v speed images")


def serving_section(case: serving.ServingCase, ceilings: Ceilings, note: Callable[[str], None]) -> Section:
    """The server under load. Raises E817, E818."""
    found = serving.measure_serving(case, ceilings, note)
    words = (
        f"A process of its own, {case.clients} clients on the same cores. `fresh`: each request has an image of its "
        "own; `shared`: questions about ten known images. Floors are those of the arithmetic alone.",
    )
    command = f"xverse-v speed serve --clients {case.clients} --requests {case.requests}"
    return Section("Serving", found.records, found.goals(), words, command)


def serve_size(
    size: str, clients: int, requests: int, batch: int, ceilings: Ceilings, note: Callable[[str], None]
) -> Section:
    """As `serving_section`, of a size, whose folder is written for it and deleted again."""
    made = build_subject(None, size, "float32", "cpu")
    with tempfile.TemporaryDirectory(prefix="xverse-v-speed-") as place:
        folder = Path(place) / size
        write_folder(made.network, made.processor, folder)
        case = serving.ServingCase(made.shape, str(folder), clients, requests, batch)
        return serving_section(case, ceilings, note)


def training_section(case: training.TrainingCase, ceilings: Ceilings, note: Callable[[str], None]) -> Section:
    """Steps of both stages. On a CPU nothing is wanted of MFU, so there is no goal. Raises E812, E814."""
    records = training.measure_training(case, ceilings, note)
    card = torch.device(case.device).type == "cuda"
    words = (
        f"The trainer's own step with samples of {', '.join(map(str, case.views))} views, LoRA r={training.RANK} in "
        "`finetune`. Percent of the ceiling is MFU: FLOPs of the real tokens, without padding and recomputation, over "
        "time and the measured matrix rate.",
    )
    command = f"xverse-v speed train --size {case.shape.name}"
    return Section("Training", records, training.goals(records) if card else (), words, command)


def growth_section(subject: Subject, ceilings: Ceilings, sizes: growth.Sizes, note: Callable[[str], None]) -> Section:
    """Cost as work grows, and a verdict on each curve."""
    curves = growth.measure_growth(subject, ceilings, sizes, note)
    words = (
        "Slopes are those of least squares on double logarithmic axes: 1 is proportional, 2 quadratic. Memory is the "
        "peak above what was held before, beside what an answer must hold (keys, values, image tokens, pixels).",
    )
    command = f"xverse-v speed growth --size {subject.shape.name}"
    records = growth.records_of(curves, subject)
    return Section("Growth", records, growth.verdicts(curves), words, command, curves)


def loading_section(model: str | None, size: str, dtype: str, repeats: int, subject: Subject | None = None) -> Section:
    """A folder's loading, or that of a size, which is written for it and deleted again. Raises E816."""
    if model is not None:
        return _loading(resolve_model(model), dtype, repeats)
    made = subject or build_subject(None, size, dtype, "cpu")
    with tempfile.TemporaryDirectory(prefix="xverse-v-speed-") as place:
        folder = Path(place) / size
        write_folder(made.network, made.processor, folder)
        return _loading(folder, dtype, repeats)


def _loading(folder: Path, dtype: str, repeats: int) -> Section:
    records = loading.measure_loading(folder, dtype=dtype, repeats=repeats)
    return Section("Loading", records, loading.goals(records), (), "xverse-v speed load")
