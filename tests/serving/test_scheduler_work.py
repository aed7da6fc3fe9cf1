"""Who does what, when: nothing while idle, images beside the engine's thread, a bounded line in fair turns."""

import threading
import time

import pytest
import torch

from tests.inference.small_model import noise, small_assistant
from tests.serving.scheduling import PATIENCE, ask, eventually, result
from xverse_v.serving.scheduler_queue import Line, Pace
from xverse_v.serving.scheduler_ticket import Ticket


def test_an_idle_engine_asks_nothing(started):
    scheduler = started()
    result(scheduler.submit(ask()))
    eventually(lambda: scheduler.stats().running == 0)
    before, spent = scheduler._engine.row_cache, []
    scheduler._engine.row_cache = lambda rows: spent.append(rows) or before(rows)
    time.sleep(0.3)
    assert len(spent) <= 1, "the loop of the engine turns while there is nothing to do"
    assert result(scheduler.submit(ask())).finish_reason == "length"


def test_images_are_opened_and_cut_outside_the_engines_thread(started, monkeypatch):
    from xverse_v.inference import features, prompt

    threads: dict[str, set[str]] = {"open": set(), "cut": set(), "encode": set()}

    def noted(name: str, original):
        def work(*args, **kwargs):
            threads[name].add(threading.current_thread().name)
            return original(*args, **kwargs)

        return work

    monkeypatch.setattr(prompt, "open_image", noted("open", prompt.open_image))
    monkeypatch.setattr(prompt.PreparedImage, "pixel_values", noted("cut", prompt.PreparedImage.pixel_values))
    monkeypatch.setattr(features.ImageTokens, "_encode", noted("encode", features.ImageTokens._encode))
    scheduler = started()
    tickets = [scheduler.submit(ask(images=(noise(60, 60, n),))) for n in range(4)]
    assert {result(ticket).finish_reason for ticket in tickets} == {"length"}
    assert all(used and all("prepare" in name for name in used) for used in threads.values()), threads


def test_prepared_requests_are_bounded_by_the_rows(started, gate):
    """A ready request holds its images decoded, so the line in front is of requests as they came."""
    scheduler = started(rows=2, queue=50)
    tickets = [scheduler.submit(ask()) for _ in range(12)]
    assert gate.reached.wait(PATIENCE)
    eventually(lambda: scheduler.stats().ready == 2)
    stats = scheduler.stats()
    assert (stats.preparing, stats.waiting) == (0, 12 - 2 - stats.running) and stats.running <= 2
    gate.open.set()
    assert {result(ticket).finish_reason for ticket in tickets} == {"length"}


def waiting_ticket(number: int, tenant: str) -> Ticket:
    return Ticket(number, ask(tenant=tenant), True, 60.0, lambda ticket: None)


def test_tenants_take_turns():
    line = Line()
    tickets = [waiting_ticket(n, tenant) for n, tenant in enumerate("aaaabac")]
    for ticket in tickets:
        line.add(ticket)
    assert line.remove(tickets[1]) and not line.remove(tickets[1])
    assert not line.remove(waiting_ticket(9, "nobody"))
    assert len(line) == 6
    assert [line.take().number for _ in range(6)] == [0, 4, 6, 2, 3, 5]
    assert len(line) == 0
    with pytest.raises(KeyError):
        line.take()


def test_the_time_to_come_back_follows_the_pace():
    pace = Pace()
    assert pace.seconds_for(100, 0.0) == 1
    for second in range(10):
        pace.ended(float(second * 2))
    assert pace.seconds_for(8, 20.0) == 16
    assert pace.seconds_for(1000, 20.0) == 60
    assert pace.seconds_for(0, 20.0) == 1


def test_prompts_may_be_made_in_many_threads_at_once():
    """The tokenizer, the template and the tiler are shared; the engine's thread decodes with the first meanwhile."""
    assistant = small_assistant()
    requests = [ask(f"question {n} " * 9, images=(noise(84, 60, n),)) for n in range(4)]
    expected = [assistant.generation(request).job.prompt for request in requests]
    problems: list[object] = []

    def work(seed: int) -> None:
        for turn in range(12):
            n = (seed + turn) % 4
            made = assistant.generation(requests[n]).job.prompt
            if made.token_ids != expected[n].token_ids or made.images[0].key != expected[n].images[0].key:
                problems.append(n)
            if not torch.equal(made.images[0].pixel_values(), expected[n].images[0].pixel_values()):
                problems.append(("pixels", n))
            assistant.engine.tokenizer.decode(list(made.token_ids))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
