"""Decoding with int8 weights beside float32: the same question behind the same known image, in turns.

In: a subject in float32 on the CPU. Out: two rows, and the goal of their ratio. The int8 network is a second one around
the same tensors, of which only its decoder's linears are replaced, so the float32 one goes on answering. Its floor is
the bandwidth over the bytes it really reads, as the engine that quantised it counts them. Where no int8 kernel is
faster than float32 on this machine the engine refuses it, and the goal says so. Which kernel runs is its
choice, not this file's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from xverse_v.errors import XverseError
from xverse_v.inference.loading import assemble
from xverse_v.quantisation.quantised import QuantiseReport, quantise_decoder
from xverse_v.speed.ceilings import Ceilings
from xverse_v.speed.generate import QUESTIONS, Case, first_difference, image_size, noise_image
from xverse_v.speed.peers import OURS, Ours, Run, with_tensors_of
from xverse_v.speed.records import Goal, Record, number
from xverse_v.speed.roofline import decode_work
from xverse_v.speed.subject import Subject
from xverse_v.weights.plan import check_choice

INT8 = f"{OURS}, int8"
GOAL = "a token after it, int8: times as fast as float32"
REFUSED = "E860"
"""Quantising is refused: no kernel of that width is faster than float32 here."""


@dataclass
class Quantised:
    """Rows, the goal, and what is said about them."""

    records: list[Record] = field(default_factory=list)
    goals: list[Goal] = field(default_factory=list)
    words: list[str] = field(default_factory=list)


def measure_quantised(
    subject: Subject, case: Case, ceilings: Ceilings, note: Callable[[str], None] = lambda text: None
) -> Quantised:
    """Each token after the first, float32 and int8 in turns. Raises E159 for a subject that is
    not in float32, and what quantising raises but E860 (see above)."""
    check_choice("--dtype", subject.dtype, ("float32",))
    network = with_tensors_of(subject.network)
    network.generation_config = subject.network.generation_config
    try:
        report = quantise_decoder(network, "int8")
    except XverseError as refusal:
        if refusal.code != REFUSED:
            raise
        return Quantised([], [Goal(GOAL, "at least 2", "-", None, refusal.parts("en")["fact"])])
    assistant = assemble(
        network, subject.processor, weights_id=f"random-{subject.shape.name}-0", quantised=report.label
    )
    assistant.engine.stop_ids = subject.assistant.engine.stop_ids
    ways = [Ours(subject.assistant, reuse="turns"), Ours(assistant, name=INT8, reuse="turns")]
    image = noise_image(*image_size(case.views))
    runs: dict[str, list[Run]] = {way.name: [] for way in ways}
    for way in ways:
        way.answer(image, QUESTIONS[-1], 2)  # from here on the image is known
    for repeat in range(case.repeats):
        for way in ways:
            run = way.answer(image, QUESTIONS[repeat % len(QUESTIONS)], case.new_tokens)
            runs[way.name].append(run)
            note(f"{way.name}, known image: {number(run.each.wall)} s a token")
    return _rows(runs, report, case, ceilings)


def _rows(runs: dict[str, list[Run]], report: QuantiseReport, case: Case, ceilings: Ceilings) -> Quantised:
    prompt, steps = runs[OURS][0].prompt_tokens, case.new_tokens - 1
    plain = decode_work(case.shape, prompt + (steps - 1) / 2, dtype="float32").bytes
    moved = {OURS: plain, INT8: plain - report.bytes_before + report.bytes_after}
    notes = {OURS: "float32 weights, in turns with int8", INT8: report.text()}
    records = [
        Record(
            "a token, image known",
            who,
            "s",
            tuple(run.each.wall for run in found),
            case.settings(prompt),
            moved[who] / ceilings.read.best,
            "bandwidth",
            tuple(run.each.cpu for run in found),
            note=notes[who],
        )
        for who, found in runs.items()
    ]
    ratio = records[0].value / records[1].value
    goal = Goal(GOAL, "at least 2", number(ratio), ratio >= 2)
    return Quantised(records, [goal], [_compared(runs)])


def _compared(runs: dict[str, list[Run]]) -> str:
    """Whether fewer bits gave other tokens; on random weights they may, `verify --quantised` counts it on real ones."""
    pairs = zip(runs[OURS], runs[INT8], strict=True)
    places = [first_difference(wanted.token_ids, run.token_ids) for wanted, run in pairs]
    equal = sum(place is None for place in places)
    later = "; ".join(f"question {n + 1} from token {place}" for n, place in enumerate(places) if place is not None)
    return f"int8 gave the tokens of float32 to {equal} of {len(places)} questions{f' ({later} on)' if later else ''}."
