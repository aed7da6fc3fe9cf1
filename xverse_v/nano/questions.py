"""Questions about a scene, with their true answers, in English and Chinese.

What crosses: a `Scene` and a seeded `random.Random` -> `QA` (kind, language, question, answer). The answer
follows from the scene alone. A question that the scene does not settle (the colour of "the circle" where there
are two) is never made.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from xverse_v.nano import phrases
from xverse_v.nano.concepts import CELLS, COLOURS, SHAPES
from xverse_v.nano.world import Scene, Thing

KINDS = {
    "colour_of": 14, "shape_of": 9, "count_all": 9, "count_colour": 8, "count_shape": 8, "count_both": 3, "where": 16,
    "what_at": 10, "colour_at": 3, "shape_at": 4, "exists_both": 5, "exists_shape": 4, "exists_colour": 3,
    "is_colour": 3, "describe": 3, "size_of": 5, "larger": 6, "same_colour": 5,
}  # fmt: skip
WRITTEN_KINDS = {
    "digit_at": 12, "digit_only": 12, "digit_count": 5, "digit_where": 8, "digit_exists": 5, "colour_of": 3, "where": 3,
    "count_all": 3, "describe": 2,
}  # fmt: skip


@dataclass(frozen=True)
class QA:
    """One question and its true answer; `kind` is a key of `KINDS`, `language` is "en" or "zh"."""

    kind: str
    language: str
    question: str
    answer: str


def _only(things: tuple[Thing, ...], attribute: str) -> list[Thing]:
    """The things whose value of `attribute` no other thing shares."""
    values = [getattr(thing, attribute) for thing in things]
    return [thing for thing, value in zip(things, values, strict=True) if values.count(value) == 1]


def _shape_word(rng: random.Random, language: str, shape: str) -> str:
    others = phrases.SHAPE_SYNONYMS[language].get(shape, ())
    return rng.choice(others) if others and rng.random() < 0.25 else phrases.SHAPE_WORDS[language][shape]


def thing_words(language: str, thing: Thing) -> str:
    """Colour and shape: "red circle", "红色的圆形"."""
    colour, shape = phrases.COLOUR_WORDS[language][thing.colour], phrases.SHAPE_WORDS[language][thing.shape]
    return f"{colour} {shape}" if language == "en" else f"{colour}的{shape}"


def description(language: str, scene: Scene) -> str:
    """Everything in the scene in reading order."""
    held = {(thing.row, thing.column): thing_words(language, thing) for thing in scene.things}
    written = "handwritten {}" if language == "en" else "手写的{}"
    held |= {(found.row, found.column): written.format(found.digit.value) for found in scene.digits}
    words = [held[cell] for cell in sorted(held)]
    if language == "en":
        words = [phrases.fill("a {x}", x=word) for word in words]
    comma, last = (", ", " and ") if language == "en" else ("、", "和")
    return words[0] if len(words) == 1 else comma.join(words[:-1]) + last + words[-1]


def _described(rng: random.Random, language: str, scene: Scene) -> tuple[Thing, str] | None:
    """A thing and words that mean it alone."""
    thing = rng.choice(scene.things)
    colour = phrases.COLOUR_WORDS[language][thing.colour]
    shape = _shape_word(rng, language, thing.shape)
    ways = []
    if thing in _only(scene.things, "shape"):
        ways += [shape, shape]
    if sum((t.shape, t.colour) == (thing.shape, thing.colour) for t in scene.things) == 1:
        ways += [f"{colour} {shape}" if language == "en" else f"{colour}的{shape}"]
    if thing in _only(scene.things, "colour"):
        ways += [f"{colour} {rng.choice(('one', 'object', 'shape'))}" if language == "en" else f"{colour}的图形"]
    return (thing, rng.choice(ways)) if ways else None


def fill(rng: random.Random, language: str, scene: Scene, kind: str) -> tuple[dict[str, str], str] | None:
    """The values for a template of `kind` and the answer; None where this scene cannot be asked that."""
    things, colours, words = scene.things, phrases.COLOUR_WORDS[language], phrases.WORDS[language]
    shapes = phrases.SHAPE_WORDS[language]
    if kind == "describe":
        return {}, description(language, scene)
    if kind == "count_all":
        return {}, str(len(things))
    if kind.startswith("digit"):
        return _fill_digit(rng, language, scene, kind)
    if not things:
        return None
    if kind in ("size_of", "larger", "same_colour"):
        return _fill_pair(rng, language, scene, kind)
    if kind in ("colour_of", "is_colour"):
        unique = _only(things, "shape")
        if not unique:
            return None
        thing = rng.choice(unique)
        word = _shape_word(rng, language, thing.shape)
        if kind == "colour_of":
            return {"s": word}, colours[thing.colour]
        right = rng.random() < 0.5
        colour = thing.colour if right else rng.choice([c for c in COLOURS if c != thing.colour])
        return {"s": word, "c": colours[colour]}, words["is" if right else "is_not"]
    if kind == "shape_of":
        unique = _only(things, "colour")
        if not unique:
            return None
        thing = rng.choice(unique)
        return {"c": colours[thing.colour]}, shapes[thing.shape]
    if kind == "where":
        described = _described(rng, language, scene)
        if described is None:
            return None
        return {"x": described[1]}, phrases.PLACE_WORDS[language][described[0].row, described[0].column][0]
    if kind in ("what_at", "colour_at", "shape_at"):
        return _fill_place(rng, language, scene, kind)
    return _fill_match(rng, language, scene, kind)


def _fill_pair(rng: random.Random, language: str, scene: Scene, kind: str) -> tuple[dict[str, str], str] | None:
    """The size of a thing, or two things compared."""
    words, unique = phrases.WORDS[language], _only(scene.things, "shape")
    if kind == "size_of":
        if not unique:
            return None
        thing = rng.choice(unique)
        return {"s": _shape_word(rng, language, thing.shape)}, words["large" if thing.large else "small"]
    if len(unique) < 2:
        return None
    one, other = rng.sample(unique, 2)
    if kind == "same_colour":
        values = {"s": _shape_word(rng, language, one.shape), "t": _shape_word(rng, language, other.shape)}
        return values, words["same" if one.colour == other.colour else "other"]
    if one.large == other.large:
        return None
    shapes = phrases.SHAPE_WORDS[language]
    named = [thing_words(language, t) if rng.random() < 0.3 else shapes[t.shape] for t in (one, other)]
    return {"x": named[0], "y": named[1]}, shapes[(one if one.large else other).shape]


def _fill_digit(rng: random.Random, language: str, scene: Scene, kind: str) -> tuple[dict[str, str], str] | None:
    values = [written.digit.value for written in scene.digits]
    if kind == "digit_count":
        return {}, str(len(values))
    if kind == "digit_exists":
        value = rng.choice(values) if values and rng.random() < 0.5 else rng.randrange(10)
        return {"d": str(value)}, phrases.WORDS[language]["yes" if value in values else "no"]
    if kind == "digit_only":
        return ({}, str(values[0])) if len(values) == 1 else None
    if not values:
        return None
    written = rng.choice(scene.digits)
    names = phrases.PLACE_WORDS[language][written.row, written.column]
    if kind == "digit_at":
        return {"p": names[0] if rng.random() < 0.5 else rng.choice(names)}, str(written.digit.value)
    return ({"d": str(written.digit.value)}, names[0]) if values.count(written.digit.value) == 1 else None


def _fill_place(rng: random.Random, language: str, scene: Scene, kind: str) -> tuple[dict[str, str], str]:
    held = {(thing.row, thing.column): thing for thing in scene.things}
    taken = {*held, *((written.row, written.column) for written in scene.digits)}
    cells = [(row, column) for row in range(CELLS) for column in range(CELLS)]
    empty = [cell for cell in cells if cell not in taken]
    cell = rng.choice(empty) if kind == "what_at" and rng.random() < 0.2 else rng.choice(sorted(held))
    names = phrases.PLACE_WORDS[language][cell]
    name = names[0] if rng.random() < 0.5 else rng.choice(names)
    if cell not in held:
        return {"p": name}, phrases.WORDS[language]["nothing"]
    thing = held[cell]
    if kind == "colour_at":
        return {"p": name}, phrases.COLOUR_WORDS[language][thing.colour]
    if kind == "shape_at":
        return {"p": name}, phrases.SHAPE_WORDS[language][thing.shape]
    return {"p": name}, thing_words(language, thing)


def _fill_match(rng: random.Random, language: str, scene: Scene, kind: str) -> tuple[dict[str, str], str]:
    """Counting and yes-or-no questions: a colour, a shape or both, taken from the scene most of the time."""
    thing = rng.choice(scene.things)
    colour, shape = thing.colour, thing.shape
    if rng.random() < (0.5 if kind.startswith("exists") else 0.2):
        colour = rng.choice(COLOURS) if kind != "exists_shape" and rng.random() < 0.7 else colour
        shape = rng.choice(SHAPES) if kind != "exists_colour" else shape
    by_colour, by_shape = kind.endswith(("colour", "both")), kind.endswith(("shape", "both"))
    number = sum((not by_colour or t.colour == colour) and (not by_shape or t.shape == shape) for t in scene.things)
    plural = shape + "s" if language == "en" else _shape_word(rng, language, shape)
    values = {"c": phrases.COLOUR_WORDS[language][colour], "s": _shape_word(rng, language, shape), "ss": plural}
    if kind.startswith("count"):
        return values, str(number)
    return values, phrases.WORDS[language]["yes" if number else "no"]


def make_question(rng: random.Random, scene: Scene, kind: str, language: str, *, plain: bool = False) -> QA | None:
    """One question of `kind`, or None where the scene cannot be asked that. `plain`: first template, no wrapper."""
    filled = fill(rng, language, scene, kind)
    if filled is None:
        return None
    values, answer = filled
    templates = phrases.ASK[language][kind]
    question = phrases.fill(templates[0] if plain else rng.choice(templates), **values)
    if not plain and language == "en" and rng.random() < 0.1:
        question = question[0].lower() + question[1:]
    if not plain and rng.random() < 0.1:
        question = question.rstrip("?？。.")
    if not plain and language == "en" and kind != "describe" and rng.random() < 0.05:
        question = rng.choice(phrases.WRAPPERS).format(q=question)
    return QA(kind, language, question, answer)


def caption(language: str, scene: Scene) -> str:
    """Every cell that holds something, with all that is known about it."""
    places = phrases.PLACE_WORDS[language]
    lines: dict[tuple[int, int], str] = {}
    for thing in scene.things:
        size, words = phrases.WORDS[language]["large" if thing.large else "small"], thing_words(language, thing)
        lines[thing.row, thing.column] = f"{size} {words}" if language == "en" else f"{size}{words}"
    for written in scene.digits:
        lines[written.row, written.column] = (
            f"handwritten {written.digit.value}" if language == "en" else f"手写的{written.digit.value}"
        )
    colon, comma = (": ", "; ") if language == "en" else ("：", "；")
    return comma.join(f"{places[cell][0]}{colon}{lines[cell]}" for cell in sorted(lines))
