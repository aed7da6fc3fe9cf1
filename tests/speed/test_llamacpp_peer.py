"""llama.cpp as a peer answers what our engine answers, from the same random weights."""

import pytest

from xverse_v.speed.generate import image_size, noise_image
from xverse_v.speed.peers import Ours
from xverse_v.speed.subject import build_subject
from xverse_v.speed.ways import LLAMACPP, build_peer, has_llamacpp


@pytest.mark.llamacpp
def test_llamacpp_gives_the_tokens_of_the_engine():
    assert has_llamacpp()
    subject = build_subject(None, "tiny", "float32", "cpu")
    way = build_peer("llamacpp", subject.network, subject.processor)
    image = noise_image(*image_size(3))
    ours, theirs = (each.answer(image, "What is it?", 6) for each in (Ours(subject.assistant), way))
    assert (way.name, way.exact) == (LLAMACPP, False)
    assert theirs.token_ids == ours.token_ids and theirs.prompt_tokens == ours.prompt_tokens
