"""Requests that come to a serving engine while others are answered, and what becomes of each."""

import random

from tests.inference.small_model import QUESTIONS, SIZES, noise, small_assistant
from xverse_v.inference.assistant import Assistant, Request
from xverse_v.inference.generation import Generation
from xverse_v.inference.sampling import SamplingSettings


def some_requests(count: int) -> list[Request]:
    """Greedy requests of different lengths, with none, one or two images, some of them alike in their beginning."""
    chance, requests = random.Random(5), []
    for _ in range(count):
        images = tuple(noise(*chance.choice(SIZES), chance.randrange(3)) for _ in range(chance.choice((0, 1, 1, 2))))
        settings = SamplingSettings(max_new_tokens=chance.randint(1, 7), logprobs=2)
        requests.append(Request(chance.choice(QUESTIONS), images, settings=settings))
    return requests


def serve(assistant: Assistant, requests: list[Request], gaps: list[int], rows: int) -> dict[int, list]:
    """Outcomes by request. ``gaps``: how often the engine hears that nothing waits before each request comes."""
    return run(assistant, [assistant.generation(request) for request in requests], gaps, rows)


def run(assistant: Assistant, generations: list[Generation], gaps: list[int], rows: int) -> dict[int, list]:
    outcomes: dict[int, list] = {index: [] for index in range(len(generations))}
    numbers = {id(generation): index for index, generation in enumerate(generations)}

    def arriving():
        for generation, gap in zip(generations, gaps, strict=True):
            for _ in range(gap):
                yield None
            yield generation

    for generation, outcome in assistant.engine.serve(arriving(), rows):
        outcomes[numbers[id(generation)]].append(outcome)
    return outcomes


def ids(outcomes: list) -> tuple[int, ...]:
    return tuple(token for chunk in outcomes for token in chunk.token_ids)


def three(assistant: Assistant, tokens: int = 8) -> list[Request]:
    return [Request(q, settings=SamplingSettings(max_new_tokens=tokens)) for q in QUESTIONS[:3]]


def singles(requests: list[Request]) -> list[tuple[int, ...]]:
    return [small_assistant().batch([request])[0].token_ids for request in requests]
