"""Many turns: the prompt they make, what undo and retry do, what is kept when an answer is stopped."""

import json
from itertools import pairwise

import pytest

from tests.inference.small_model import noise, small_assistant, small_processor
from xverse_v.errors import XverseError
from xverse_v.inference.prompt import Message, PromptBuilder


def test_images_in_any_turn():
    chat = small_assistant().chat(max_new_tokens=4)
    chat.say("What is it?", (noise(60, 60, 0),))
    chat.say("a")
    answer = chat.say("and these?", (noise(28, 28, 1), noise(84, 84, 2)))
    assert [image.views for image in answer.receipt.images] == [5, 1, 10]
    assert [len(message.images) for message in chat.messages] == [1, 0, 0, 0, 2, 0]


def test_every_turn_is_answered_as_if_its_whole_history_were_asked_at_once():
    from xverse_v.inference.assistant import Request

    chat = small_assistant().chat(system="Be brief.", max_new_tokens=5)
    for text, images in (("What is it?", (noise(60, 60, 0),)), ("a", ()), ("图片里有什么？", (noise(28, 28, 3),))):
        history = tuple(chat.messages[1:])
        said = chat.say(text, images)
        request = Request(text, images, "Be brief.", history, settings=chat.settings)
        alone = small_assistant().batch([request])[0]
        assert said.token_ids == alone.token_ids


def test_parts_end_at_images_and_at_turns():
    builder = PromptBuilder(small_processor())
    first = [Message("user", "What is it?", (noise(60, 60, 0),))]
    later = [*first, Message("assistant", "red"), Message("user", "Why?")]
    alone = builder.build(first)
    assert [part.kind for part in alone.parts] == ["images", "rest"]
    behind = alone.parts[0].stop
    places = [token == builder.processor.image_token_id for token in alone.token_ids]
    assert places[behind - 1] and not any(places[behind:]), "a part ends behind the last placeholder, not beside it"
    parts = builder.build(later).parts
    assert [part.kind for part in parts] == ["images", "turn", "turn", "rest"]
    assert parts[0].start == 0 and parts[-1].stop == len(builder.build(later).token_ids)
    assert all(a.stop == b.start for a, b in pairwise(parts))
    # What stands up to the end of a turn does not depend on what is said after it.
    longer = builder.build([*later, Message("assistant", "because"), Message("user", "a")])
    for before, after in zip(parts[:3], longer.parts, strict=False):
        assert (before.start, before.stop) == (after.start, after.stop)
    assert longer.token_ids[: parts[2].stop] == builder.build(later).token_ids[: parts[2].stop]


def test_undo_takes_the_last_turn_back():
    chat = small_assistant().chat(max_new_tokens=4)
    first = chat.say("What is it?")
    second = chat.say("a")
    assert chat.undo().answer == second
    assert chat.say("a").token_ids == second.token_ids
    chat.undo()
    chat.undo()
    assert chat.turns == []
    assert chat.say("What is it?").token_ids == first.token_ids


def test_there_may_be_nothing_to_undo():
    for call in (small_assistant().chat().undo, small_assistant().chat().retry):
        with pytest.raises(XverseError) as caught:
            call()
        assert caught.value.code == "E110"


def test_retry_replaces_the_answer_and_moves_the_seed_only_when_sampling():
    chat = small_assistant().chat(max_new_tokens=12, temperature=1.5, seed=3)
    first = chat.say("What is it?", (noise(60, 60, 0),))
    again = chat.retry()
    assert len(chat.turns) == 1
    assert again.receipt.seed == 4
    assert again.token_ids != first.token_ids
    assert chat.retry(seed=3).token_ids == first.token_ids

    greedy = small_assistant().chat(max_new_tokens=12)
    assert greedy.say("a").token_ids == greedy.retry().token_ids
    assert greedy.turns[0].answer.receipt.seed == 0


def test_a_stopped_answer_stays_in_the_conversation():
    chat = small_assistant().chat(max_new_tokens=30)
    with chat.stream("What is it?") as stream:
        for _ in range(3):
            next(stream)
    assert len(chat.turns) == 1
    stopped = chat.turns[0].answer
    assert (stopped.finish_reason, len(stopped.token_ids)) == ("cancelled", 3)
    assert chat.messages[1].text == stopped.text
    assert chat.say("a").finish_reason == "length"
    assert len(chat.turns) == 2


def test_an_interrupt_while_computing_keeps_the_turn(monkeypatch):
    chat = small_assistant().chat(max_new_tokens=30)
    stream = chat.stream("What is it?")
    next(stream)

    def interrupted(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("xverse_v.inference.engine.decode", interrupted)
        with pytest.raises(KeyboardInterrupt):
            list(stream)
    assert [turn.answer.finish_reason for turn in chat.turns] == ["cancelled"]
    assert chat.say("a").finish_reason == "length"


def test_a_turn_joins_once_however_its_answer_is_read():
    chat = small_assistant().chat(max_new_tokens=4)
    stream = chat.stream("What is it?")
    text = "".join(chunk.text for chunk in stream)
    assert stream.answer.text == text == stream.answer.text
    stream.close()
    assert len(chat.turns) == 1


def test_a_turn_that_is_refused_changes_nothing():
    chat = small_assistant().chat(max_new_tokens=4)
    chat.say("a")
    for text, images, code in (("word " * 1100, (), "E120"), ("a", ("missing.png",), "E500")):
        with pytest.raises(XverseError) as caught:
            chat.say(text, images)
        assert caught.value.code == code
    assert len(chat.turns) == 1


def test_a_retry_that_fails_keeps_the_old_answer(monkeypatch):
    chat = small_assistant().chat(max_new_tokens=4)
    old = chat.say("What is it?")
    with pytest.raises(XverseError):
        chat.retry(max_new_tokens=2000)
    assert [turn.answer for turn in chat.turns] == [old]

    def broken(*args):
        raise RuntimeError("shapes differ")

    with monkeypatch.context() as patch:
        patch.setattr("xverse_v.inference.engine.decode", broken)
        stream = chat.stream_retry()
        next(stream)
        with pytest.raises(RuntimeError):
            next(stream)
    assert [turn.answer for turn in chat.turns] == [old]
    assert chat.retry().token_ids == old.token_ids
    assert len(chat.turns) == 1


def test_reset_forgets_turns_and_keeps_the_system_text():
    chat = small_assistant().chat(system="Be brief.", max_new_tokens=4)
    first = chat.say("a")
    chat.reset()
    assert [message.role for message in chat.messages] == ["system"]
    assert chat.say("a").token_ids == first.token_ids


def test_an_image_that_changes_on_disk_stays_as_it_was_said(tmp_path):
    path = tmp_path / "image.png"
    noise(60, 60, 0).save(path)
    chat = small_assistant().chat(max_new_tokens=4)
    chat.say("What is it?", (path,))
    noise(60, 60, 1).save(path)
    receipts = chat.say("a").receipt.images, chat.turns[0].answer.receipt.images
    assert receipts[0] == receipts[1]


def test_saved_conversations_are_json_with_everything_in_it(tmp_path):
    path = tmp_path / "image.png"
    noise(60, 60, 0).save(path)
    chat = small_assistant().chat(system="Be brief.", max_new_tokens=4)
    chat.say("图片里有什么？", (path,))
    chat.say("a", (noise(28, 28, 0),))
    saved = chat.save(tmp_path / "chat.json")
    document = json.loads(saved.read_text(encoding="utf-8"))
    assert (document["format"], document["system"]) == (1, "Be brief.")
    assert [turn["text"] for turn in document["turns"]] == ["图片里有什么？", "a"]
    assert document["turns"][0]["images"][0]["path"] == str(path)
    embedded = document["turns"][1]["images"][0]["url"]
    again = small_assistant().chat(max_new_tokens=4).say("a", (embedded,))
    assert again.receipt.images[0].sha256 == chat.turns[1].images[0].key
    assert document["turns"][0]["answer"]["receipt"]["weights_id"] == "small"
    assert [entry.name for entry in tmp_path.iterdir() if "partial" in entry.name] == []
