"""Cancelling, closing and interrupting: the work ends within one token and what was made is kept."""

import threading

import pytest

from tests.inference.small_model import QUESTIONS, noise, small_assistant
from xverse_v.inference.assistant import Request
from xverse_v.inference.sampling import SamplingSettings


@pytest.mark.parametrize("made", [1, 2, 5])
def test_cancelling_ends_within_one_token_and_keeps_what_was_made(made):
    whole = small_assistant().ask("What is it?", max_new_tokens=30)
    stream = small_assistant().stream("What is it?", max_new_tokens=30)
    for _ in range(made):
        next(stream)
    stream.cancel()
    rest = list(stream)
    assert [chunk.finish_reason for chunk in rest] == ["cancelled"]
    assert stream.answer.finish_reason == "cancelled"
    assert stream.answer.token_ids == whole.token_ids[:made]
    assert whole.text.startswith(stream.answer.text)


def test_cancelling_before_the_first_token_gives_an_empty_answer():
    stream = small_assistant().stream(noise(60, 60, 0), "What is it?")
    stream.cancel()
    assert (stream.answer.text, stream.answer.token_ids, stream.answer.finish_reason) == ("", (), "cancelled")


def test_cancelling_from_another_thread():
    stream = small_assistant().stream("What is it?", max_new_tokens=900)
    next(stream)
    timer = threading.Timer(0.05, stream.cancel)
    timer.start()
    answer = stream.answer
    timer.join()
    assert answer.finish_reason == "cancelled"
    assert 1 <= len(answer.token_ids) < 900


def test_closing_a_stream_ends_the_work_and_keeps_what_was_made():
    with small_assistant().stream("What is it?", max_new_tokens=900) as stream:
        next(stream)
        next(stream)
    assert len(stream.answer.token_ids) == 2
    assert stream.answer.finish_reason == "cancelled"
    assert list(stream) == []


def test_an_interrupt_inside_a_step_keeps_what_was_made(monkeypatch):
    stream = small_assistant().stream("What is it?", max_new_tokens=30)
    first = [next(stream).token_ids[0] for _ in range(3)]

    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("xverse_v.inference.engine.decode", interrupted)
    with pytest.raises(KeyboardInterrupt):
        next(stream)
    assert list(stream.answer.token_ids) == first
    assert stream.answer.finish_reason == "cancelled"


def test_one_cancelled_row_leaves_the_others_alone():
    assistant = small_assistant()
    settings = SamplingSettings(max_new_tokens=12)
    expected = [assistant.batch([Request(q, settings=settings)])[0].token_ids for q in QUESTIONS[:3]]
    generations = [assistant.generation(Request(q, settings=settings)) for q in QUESTIONS[:3]]
    for generation, _ in assistant.engine.run(generations, 3):
        if generation is generations[1] and len(generation.token_ids) == 4:
            generation.job.cancel.set()
    assert [tuple(g.token_ids) for g in generations] == [expected[0], expected[1][:4], expected[2]]
    assert [g.finish_reason for g in generations] == ["length", "cancelled", "length"]
