"""The deeds behind the buttons, on a small random model: no browser, no Gradio."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from tests.inference.small_model import noise, small_assistant
from tests.serving.demo.demo_parts import ask, choices_of, new_talk, slow_steps, upload
from xverse_v.serving.demo.talk import Shown


@pytest.fixture
def talk(tmp_path):
    talk = new_talk(tmp_path)
    yield talk
    talk.desk.close()


@pytest.fixture
def visit(talk):
    return talk.visits.of("me")


def test_asking_gives_what_the_model_gives_alone(talk, visit, tmp_path):
    image = noise(60, 40, 1)
    shown = ask(talk, visit, "What is it?", upload(tmp_path, image))
    alone = small_assistant().ask(image, "What is it?", max_new_tokens=8)
    assert visit.turns[-1].answer.text == alone.text
    assert visit.turns[-1].answer.token_ids == alone.token_ids
    assert shown[0].busy and shown[0].box == {"text": "", "files": []}
    assert shown[-1].panels and not shown[-1].busy
    last = shown[-1].messages
    assert [message["role"] for message in last] == ["user", "assistant"]
    assert last[0]["content"][1]["text"] == "What is it?" and Path(last[0]["content"][0]["path"]).is_file()
    assert "tokens in" in visit.status


def test_the_upload_goes_when_the_question_is_answered(talk, visit, tmp_path):
    path = upload(tmp_path, noise(60, 40, 1))
    talk.attach(visit, [path], 9)
    assert Path(path).exists() and len(visit.inspections) == 1
    ask(talk, visit, "What is it?", path)
    assert not Path(path).exists() and not visit.uploads
    assert talk.attach(visit, [path], 9) == ([], False), "late news of the box is no error"
    assert "E671" not in visit.status
    upload(tmp_path, noise(60, 40, 1))
    assert talk.attach(visit, [path], 9) == ([path], True), "the same image once more is a new upload"


def test_several_images_and_turns_are_one_conversation(talk, visit, tmp_path):
    a, b, c = noise(60, 40, 1), noise(30, 90, 2), noise(28, 28, 3)
    ask(talk, visit, "One?", upload(tmp_path, a), upload(tmp_path, b))
    ask(talk, visit, "Two?", upload(tmp_path, c))
    ask(talk, visit, "Three?")
    chat = small_assistant().chat(max_new_tokens=8)
    for text, images in (("One?", (a, b)), ("Two?", (c,)), ("Three?", ())):
        chat.say(text, images)
    assert [turn.answer.token_ids for turn in visit.turns] == [turn.answer.token_ids for turn in chat.turns]
    assert len(visit.inspections) == 1, "the tiles of the last images stay"


def test_retry_replaces_the_last_answer(talk, visit):
    ask(talk, visit, "One?")
    ask(talk, visit, "Two?", do_sample=True, temperature=2.0)
    first = visit.turns[-1].answer
    list(talk.retry(visit, choices_of(talk, do_sample=True, temperature=2.0)))
    assert len(visit.turns) == 2 and visit.turns[-1].answer.receipt.seed == first.receipt.seed + 1
    list(talk.retry(visit, choices_of(talk)))
    list(talk.retry(visit, choices_of(talk)))
    assert "same answer" in visit.status.lower()


def test_undo_gives_text_and_images_back(talk, visit, tmp_path):
    ask(talk, visit, "One?")
    ask(talk, visit, "Two?", upload(tmp_path, noise(60, 40, 1)))
    before = visit.turns[-1].answer
    shown = talk.undo(visit)
    assert len(visit.turns) == 1 and shown.box["text"] == "Two?" and len(shown.messages) == 2
    ask(talk, visit, shown.box["text"], *shown.box["files"])
    assert visit.turns[-1].answer.token_ids == before.token_ids, "the very same pixels, not the reduced copy's"
    assert visit.turns[-1].images[0].key == before.receipt.images[0].sha256


def test_edit_asks_anew_with_the_old_images(talk, visit, tmp_path):
    image = noise(60, 40, 1)
    ask(talk, visit, "One?", upload(tmp_path, image))
    ask(talk, visit, "Two?")
    list(talk.edit(visit, 0, "Other?", choices_of(talk)))
    assert [turn.text for turn in visit.turns] == ["Other?"]
    alone = small_assistant().ask(image, "Other?", max_new_tokens=8)
    assert visit.turns[0].answer.token_ids == alone.token_ids
    shown = list(talk.edit(visit, 5, "Nothing there", choices_of(talk)))
    assert len(visit.turns) == 1 and len(shown[-1].messages) == 2


def test_clear_forgets_all(talk, visit, tmp_path):
    ask(talk, visit, "One?", upload(tmp_path, noise(60, 40, 1)))
    waiting = upload(tmp_path, noise(50, 50, 2))
    talk.attach(visit, [waiting], 9)
    shown = talk.clear(visit)
    assert shown == Shown([], {"text": "", "files": []}, panels=True)
    assert not visit.turns and not visit.inspections and not [p for p in tmp_path.rglob("*") if p.is_file()]


def test_stop_keeps_what_was_made(talk, visit):
    reached, go = slow_steps(talk)

    def stop():
        reached.wait(20)
        visit.stop()
        go.set()

    stopper = threading.Thread(target=stop)
    stopper.start()
    shown = ask(talk, visit, "One?", max_new_tokens=50)
    stopper.join()
    answer = visit.turns[-1].answer
    assert answer.finish_reason == "cancelled" and 1 <= len(answer.token_ids) <= 3
    assert shown[-1].messages[-1]["content"][-1]["text"] == "(Stopped.)" and not visit.busy


def test_two_visitors_get_what_each_gets_alone(talk, tmp_path):
    images = {key: noise(60, 40, number) for number, key in enumerate("abc")}
    paths = {key: upload(tmp_path, image) for key, image in images.items()}
    threads = [
        threading.Thread(target=ask, args=(talk, talk.visits.of(key), f"Which {key}?", path))
        for key, path in paths.items()
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for key, image in images.items():
        alone = small_assistant().ask(image, f"Which {key}?", max_new_tokens=8)
        assert talk.visits.of(key).turns[-1].answer.token_ids == alone.token_ids


def test_a_visitor_waits_in_line_and_may_give_up(talk, visit):
    reached, go = slow_steps(talk)
    first = threading.Thread(target=ask, args=(talk, visit, "One?"))
    first.start()
    assert reached.wait(20)
    other = talk.visits.of("other")
    stream = talk.send(other, "Two?", [], choices_of(talk))
    seen = [next(stream), next(stream)]
    assert "1 before you" in other.status
    other.stop()
    rest = list(stream)
    assert rest[-1].box == {"text": "Two?", "files": []} and not other.turns and not other.busy
    assert seen[0].busy and "Stopped before" in other.status
    go.set()
    first.join()
    assert visit.turns[-1].answer.finish_reason in ("stop", "length")


def test_a_page_that_closes_ends_its_answer(talk, visit):
    reached, go = slow_steps(talk)
    asking = threading.Thread(target=ask, args=(talk, visit, "One?"), kwargs={"max_new_tokens": 500})
    asking.start()
    assert reached.wait(20)
    talk.visits.end("me")
    go.set()
    asking.join(20)
    assert not asking.is_alive() and visit.turns[-1].answer.finish_reason == "cancelled"


def test_one_question_at_a_time_for_one_visitor(talk, visit):
    reached, go = slow_steps(talk)
    asking = threading.Thread(target=ask, args=(talk, visit, "One?"))
    asking.start()
    assert reached.wait(20)
    assert ask(talk, visit, "Two?") == []
    assert talk.undo(visit) == Shown(busy=True) and talk.clear(visit) == Shown(busy=True)
    go.set()
    asking.join()
    assert [turn.text for turn in visit.turns] == ["One?"]


def test_a_refused_question_is_put_back_with_its_images(talk, visit, tmp_path):
    path = upload(tmp_path, noise(60, 40, 1))
    shown = ask(talk, visit, "One?", path, max_new_tokens=5000)
    assert "E120" in visit.status and not visit.turns and not visit.busy
    assert shown[-1].box == {"text": "One?", "files": [path]} and Path(path).exists()
    ask(talk, visit, "One?", path)
    assert len(visit.turns) == 1


def test_a_fault_of_ours_shows_no_traceback(talk, visit, monkeypatch):
    def broken(*arguments, **more):
        raise RuntimeError("<b>inner</b>")

    monkeypatch.setattr(talk.assistant, "chat", broken)
    ask(talk, visit, "One?")
    assert "E800" in visit.status and "&lt;b&gt;inner" in visit.status and "Traceback" not in visit.status
    assert not visit.busy and not visit.turns


def test_without_a_question_nothing_is_asked(talk, visit, tmp_path):
    shown = ask(talk, visit, "  ", upload(tmp_path, noise(9, 9, 1)))
    assert len(shown) == 1 and "Write a question" in visit.status and not visit.busy


def test_too_many_images_are_refused(talk, visit, tmp_path):
    paths = [upload(tmp_path, noise(28, 28, seed)) for seed in range(9)]
    ask(talk, visit, "All?", *paths)
    assert "E667" in visit.status and not visit.turns


def test_attaching_looks_at_new_images_at_once(talk, visit, tmp_path):
    good = upload(tmp_path, noise(60, 40, 1))
    bad = tmp_path / ("1" * 64) / "b.png"
    bad.parent.mkdir()
    bad.write_bytes(b"\x89PNG\r\n\x1a\n")
    kept, changed = talk.attach(visit, [good, str(bad)], 9)
    assert kept == [good] and changed and "E51" in visit.status
    assert talk.attach(visit, [good], 9) == ([good], False)
    assert visit.inspections[0].report.width == 60


def test_evidence_of_the_last_answer(talk, visit, tmp_path):
    ask(talk, visit, "One?", upload(tmp_path, noise(60, 40, 1)), system="Be brief.")
    shown = list(talk.evidence(visit, 0, "region"))
    assert visit.evidence is not None and visit.evidence.tokens == len(visit.turns[0].answer.token_ids)
    own = sum(token.logprob for token in visit.turns[0].answer.logprobs)
    assert visit.evidence.logprob == pytest.approx(own, abs=1e-3), "scored behind the same system text"
    assert shown[0].busy and shown[-1].panels
    ask(talk, visit, "Two?")
    assert visit.evidence is None, "another answer, other evidence"


def test_evidence_can_be_stopped_and_needs_an_image(talk, visit, tmp_path):
    ask(talk, visit, "Only text?")
    list(talk.evidence(visit, 0, "region"))
    assert "Ask about an image" in visit.status and visit.evidence is None
    ask(talk, visit, "One?", upload(tmp_path, noise(84, 84, 1)))
    steps = talk.evidence(visit, 0, "region")
    next(steps)
    visit.stop()
    list(steps)
    assert visit.evidence is None and not visit.busy
