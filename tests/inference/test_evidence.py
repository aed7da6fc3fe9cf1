"""Evidence: every number is compared with a plain forward over an image that was really blanked."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tests.inference.small_model import noise, small_assistant, small_model
from xverse_v.errors import XverseError
from xverse_v.inference.evidence import GLOBAL_CELLS, measure
from xverse_v.inference.prompt import Message

TILED = noise(84, 56, 1)  # 3 across, 2 down: six tiles of 28 pixels
PLAIN = noise(28, 28, 2)  # a global view alone


@pytest.fixture
def assistant():
    return small_assistant()


def plain_score(assistant, messages, token_ids, change, image=0):
    """The answer's log-probability by one plain forward; ``change`` edits the float32[V, 3, T, T] of one image."""
    prompt = assistant.prompts.build(messages)
    views = [prepared.pixel_values().clone() for prepared in prompt.images]
    change(views[image])
    ids = torch.tensor([[*prompt.token_ids, *token_ids]])
    with torch.inference_mode():
        logits = small_model()(input_ids=ids, pixel_values=torch.cat(views)).logits[0]
    logprobs = torch.log_softmax(logits[len(prompt.token_ids) - 1 : -1].float(), -1)
    return float(logprobs.gather(-1, torch.tensor(token_ids)[:, None]).double().sum())


def answered(assistant, *images, question="What is it?", tokens=6):
    answer = assistant.ask(*images, question, max_new_tokens=tokens, logprobs=1)
    return [Message("user", question, images)], answer


def test_the_untouched_score_is_the_answers_own(assistant):
    messages, answer = answered(assistant, TILED)
    evidence = measure(assistant, messages, answer.token_ids)
    assert evidence.logprob == pytest.approx(sum(token.logprob for token in answer.logprobs), abs=1e-4)
    assert evidence.tokens == len(answer.token_ids)


def test_a_region_is_hidden_in_its_tile_and_in_the_global_view(assistant):
    messages, answer = answered(assistant, TILED)
    evidence = measure(assistant, messages, answer.token_ids)
    grid = assistant.prompts.prepare(TILED).grid
    assert (evidence.rows, evidence.columns, evidence.cells) == (grid.rows, grid.columns, False)
    assert len(evidence.parts) == grid.tiles
    for index, part in enumerate(evidence.parts):

        def hide(views, index=index, part=part):
            views[1 + index] = 0
            top, bottom = round(part.row / grid.rows * 28), round((part.row + 1) / grid.rows * 28)
            left, right = round(part.column / grid.columns * 28), round((part.column + 1) / grid.columns * 28)
            views[0, :, top:bottom, left:right] = 0

        expected = plain_score(assistant, messages, answer.token_ids, hide)
        assert part.logprob == pytest.approx(expected, abs=1e-4)
        assert part.change == pytest.approx(expected - evidence.logprob, abs=2e-4)
    assert len({round(part.change, 4) for part in evidence.parts}) > 1, "all parts alike would compare nothing"


def test_a_view_is_hidden_alone(assistant):
    messages, answer = answered(assistant, TILED)
    evidence = measure(assistant, messages, answer.token_ids, blank="view")
    assert len(evidence.parts) == assistant.prompts.prepare(TILED).grid.views
    assert evidence.parts[0].row is None and evidence.parts[0].right == 84 and evidence.parts[0].bottom == 56
    for index, part in enumerate(evidence.parts):
        expected = plain_score(assistant, messages, answer.token_ids, lambda views, index=index: views[index].zero_())
        assert part.logprob == pytest.approx(expected, abs=1e-4)


def test_the_whole_image_blank(assistant):
    messages, answer = answered(assistant, TILED)
    expected = plain_score(assistant, messages, answer.token_ids, lambda views: views.zero_())
    assert measure(assistant, messages, answer.token_ids).blanked == pytest.approx(expected, abs=1e-4)


def test_an_image_without_tiles_is_parted_into_cells(assistant):
    messages, answer = answered(assistant, PLAIN)
    evidence = measure(assistant, messages, answer.token_ids)
    assert evidence.cells and (evidence.rows, evidence.columns) == (GLOBAL_CELLS, GLOBAL_CELLS)
    assert [(part.row, part.column) for part in evidence.parts][:5] == [(0, 0), (0, 1), (0, 2), (0, 3), (1, 0)]
    assert sum((part.right - part.left) * (part.bottom - part.top) for part in evidence.parts) == 28 * 28

    def hide(views):
        views[0, :, 7:14, 14:21] = 0

    expected = plain_score(assistant, messages, answer.token_ids, hide)
    assert evidence.parts[6].logprob == pytest.approx(expected, abs=1e-4)


def test_the_rows_of_a_forward_change_nothing(assistant):
    messages, answer = answered(assistant, TILED)
    one = measure(assistant, messages, answer.token_ids, batch_size=1)
    many = measure(assistant, messages, answer.token_ids, batch_size=64)
    for a, b in zip(one.parts, many.parts, strict=True):
        assert a.logprob == pytest.approx(b.logprob, abs=1e-4)


def test_an_image_of_an_earlier_turn(assistant):
    """Parts belong to the image that was asked for, wherever it stands; the last image is the default."""
    messages = [
        Message("system", "Be brief."),
        Message("user", "First?", (TILED, PLAIN)),
        Message("assistant", "yes"),
        Message("user", "Second?", (noise(56, 28, 3),)),
    ]
    ids = (40, 41, 42)
    for image, pixels in ((0, TILED), (1, PLAIN), (2, None)):
        evidence = measure(assistant, messages, ids, image=image)
        expected = plain_score(assistant, messages, ids, lambda views: views.zero_(), image=image)
        assert evidence.blanked == pytest.approx(expected, abs=1e-4)
        assert evidence.image == image
        if pixels is not None:
            assert evidence.parts[-1].right == pixels.width
    assert measure(assistant, messages, ids).image == 2


def test_an_answer_longer_than_the_head_takes_at_once(assistant):
    messages, _ = answered(assistant, PLAIN)
    ids = tuple(range(20, 170))
    expected = plain_score(assistant, messages, ids, lambda views: None)
    assert measure(assistant, messages, ids).logprob == pytest.approx(expected, rel=1e-5)


def test_nothing_is_cached_and_nothing_is_changed(assistant):
    messages, answer = answered(assistant, TILED)
    before = assistant.cache_stats()
    measure(assistant, messages, answer.token_ids)
    assert assistant.cache_stats() == before
    assert assistant.ask(TILED, "What is it?", max_new_tokens=6).token_ids == answer.token_ids


def test_progress_counts_to_the_end_and_may_stop_the_work(assistant):
    messages, answer = answered(assistant, TILED)
    seen = []
    measure(
        assistant, messages, answer.token_ids, batch_size=3, progress=lambda done, total: seen.append((done, total))
    )
    assert seen == [(3, 8), (6, 8), (8, 8)]

    def stop(done, total):
        raise InterruptedError

    with pytest.raises(InterruptedError):
        measure(assistant, messages, answer.token_ids, progress=stop)


def test_requests_that_cannot_be_measured(assistant):
    messages, answer = answered(assistant, PLAIN)
    with pytest.raises(XverseError, match="E660"):
        measure(assistant, messages, answer.token_ids, image=1)
    with pytest.raises(XverseError, match="E660"):
        measure(assistant, [Message("user", "Only text?")], answer.token_ids)
    with pytest.raises(XverseError, match="E661"):
        measure(assistant, messages, ())


def test_memory_that_runs_out_halves_the_rows_and_then_says_so(assistant, monkeypatch):
    messages, answer = answered(assistant, TILED)
    expected = measure(assistant, messages, answer.token_ids)
    inner, rows = small_model().model.forward, []

    def scarce(limit):
        def forward(**inputs):
            rows.append(len(inputs["inputs_embeds"]))
            if rows[-1] > limit:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return inner(**inputs)

        return forward

    monkeypatch.setattr(small_model().model, "forward", scarce(2))
    evidence = measure(assistant, messages, answer.token_ids, batch_size=8)
    assert rows[:3] == [8, 4, 2] and max(rows[2:]) == 2
    assert evidence.strongest.change == pytest.approx(expected.strongest.change, abs=1e-4)
    monkeypatch.setattr(small_model().model, "forward", scarce(0))
    with pytest.raises(XverseError, match="E662"):
        measure(assistant, messages, answer.token_ids)


def test_as_dict_is_plain(assistant):
    messages, answer = answered(assistant, PLAIN)
    evidence = measure(assistant, messages, answer.token_ids)
    document = evidence.as_dict()
    assert document["parts"][0]["row"] == 0 and document["blank"] == "region"
    assert evidence.strongest == min(evidence.parts, key=lambda part: part.logprob)
    assert replace(evidence, parts=evidence.parts[:1]).strongest == evidence.parts[0]
