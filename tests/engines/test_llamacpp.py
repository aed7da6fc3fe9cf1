"""llama.cpp's decoder under our own eyes: the same tokens as torch, reuse, batches, cancelling, refusals.

Needs llama-cpp-python, which is compiled when it is installed; run by `make test-llamacpp`.
"""

import gc
import threading

import pytest
import torch
from PIL import Image
from tokenizers import Tokenizer

from tests.conftest import made_image
from tests.engines.test_gguf_tokenizer import corpus
from xverse_v.engines.gguf.export import export_decoder
from xverse_v.engines.gguf.tokenizer import SAMPLES
from xverse_v.engines.llamacpp import library, loading
from xverse_v.engines.llamacpp.loading import load
from xverse_v.errors import XverseError
from xverse_v.inference.assistant import Request
from xverse_v.inference.evidence import measure
from xverse_v.inference.loading import load as load_torch
from xverse_v.inference.loading import resolve_model
from xverse_v.inference.prompt import Message
from xverse_v.inference.sampling import SamplingSettings
from xverse_v.weights.plan_machine import Memory

pytestmark = pytest.mark.llamacpp

WIDE, TALL, SMALL = (
    made_image(*facts) for facts in (("wave", 700, 300, 1), ("noise", 224, 900, 2), ("wave", 90, 80, 3))
)
BIG = Image.new("RGB", (900, 900), (20, 120, 220))
# (images, question, most tiles): none, one view, many, several images, both languages, 2,900 tokens of context
PROMPTS = [
    ((), "What is it?", None),
    ((SMALL,), "What colour is it?", None),
    ((WIDE,), "图片里有什么？请用中文回答。", None),
    ((TALL, WIDE), "Which image is larger, and what is the difference?", None),
    ((BIG,), "How many squares are there?", 1),
    ((BIG, WIDE, BIG.rotate(5), TALL, WIDE.rotate(7)), "描述每张图片。", None),
]
NEW = 12


@pytest.fixture(scope="module", autouse=True)
def llama():
    """The library. Without it these tests fail: they are only run where they are meant to be."""
    try:
        return library.library()
    except XverseError as problem:
        pytest.fail(f"{problem.text('en')}", pytrace=False)


@pytest.fixture(scope="module")
def decoders(tmp_path_factory):
    """A file of each type, by type."""
    folder = tmp_path_factory.mktemp("gguf")
    files = {kind: folder / f"{kind}.gguf" for kind in ("f32", "f16", "q8_0", "q4_k_m")}
    for kind, path in files.items():
        export_decoder(resolve_model("nano"), path, kind)
    return files


@pytest.fixture(scope="module")
def torch_assistant():
    """float32 computing on weights that are stored in float16, as the f16 file holds them."""
    return load_torch("nano")


@pytest.fixture(scope="module")
def assistant(decoders):
    return load("nano", decoders["f16"], cache_type="F32")


def ask(assistant, prompt, **options):
    images, question, tiles = prompt
    return assistant.ask(*images, question, max_tiles=tiles, max_new_tokens=NEW, logprobs=5, **options)


def compare(ours, theirs, tolerance):
    """Two answers: the same tokens, and log-probabilities of the likelier ones that are near."""
    assert theirs.receipt.prompt_tokens == ours.receipt.prompt_tokens
    assert theirs.token_ids == ours.token_ids
    assert (theirs.text, theirs.finish_reason) == (ours.text, ours.finish_reason)
    for one, other in zip(ours.logprobs, theirs.logprobs, strict=True):
        near = {item.token_id: item.logprob for item in other.top}
        for item in one.top[:3]:
            assert near[item.token_id] == pytest.approx(item.logprob, abs=tolerance)


@pytest.mark.parametrize("prompt", PROMPTS, ids=range(len(PROMPTS)))
def test_greedy_tokens_are_those_of_torch(assistant, torch_assistant, prompt):
    """llama.cpp rounds activations to float16 wherever weights are, hence the tolerance; see the next test."""
    compare(ask(torch_assistant, prompt), ask(assistant, prompt), 0.2)


@pytest.mark.parametrize("prompt", [PROMPTS[2], PROMPTS[5]], ids=["one", "several"])
def test_in_float32_logits_are_those_of_torch(decoders, torch_assistant, prompt):
    exact = load("nano", decoders["f32"], cache_type="F32")
    compare(ask(torch_assistant, prompt), ask(exact, prompt), 2e-4)


def test_one_of_these_prompts_is_long(torch_assistant):
    images, question, tiles = PROMPTS[-1]
    prompt = torch_assistant.prompts.build([Message("user", question, images)], tiles)
    assert len(prompt.token_ids) > 2048


def test_receipts_tell_what_computed(assistant):
    receipt = ask(assistant, PROMPTS[1]).receipt
    assert receipt.dtype == "f16 (llama.cpp)"
    assert (receipt.device, receipt.attention, receipt.batch_size) == ("cpu", "llama.cpp", 1)
    assert receipt.weights_id == load_torch("nano").engine.conditions.weights_id


def test_a_second_question_reuses_the_image_and_changes_nothing(decoders):
    fresh = load("nano", decoders["f16"])
    first = fresh.ask(WIDE, "What is in the image?", max_new_tokens=NEW)
    second = fresh.ask(WIDE, "图片里有什么？", max_new_tokens=NEW, logprobs=2)
    alone = fresh.ask(WIDE, "图片里有什么？", max_new_tokens=NEW, logprobs=2, reuse="off")
    assert (first.receipt.cached_tokens, alone.receipt.cached_tokens) == (0, 0)
    assert second.receipt.cached_tokens > 64
    assert second.receipt.cached_features == 0  # its tokens were not even looked for
    assert second.token_ids == alone.token_ids
    for one, other in zip(second.logprobs, alone.logprobs, strict=True):  # other cells, so other last bits
        assert one.logprob == pytest.approx(other.logprob, abs=0.05)


def test_a_conversation_goes_on_from_its_own_turns(decoders, torch_assistant):
    answers = []
    for one in (load("nano", decoders["f32"], cache_type="F32"), torch_assistant):
        talk = one.chat(max_new_tokens=NEW)
        answers.append([talk.say(question, tuple(images)).token_ids for question, *images in CONVERSATION])
    assert answers[0] == answers[1]


CONVERSATION = [("What is it?", SMALL), ("And why?",), ("图里有几个？", WIDE), ("Thank you.",)]


def test_a_batch_equals_single_runs(decoders):
    several = load("nano", decoders["f16"], rows=3)
    requests = [
        Request(question, images, max_tiles=tiles, settings=SamplingSettings(max_new_tokens=new))
        for (images, question, tiles), new in zip(PROMPTS[:5] * 2, (3, 12, 1, 7, 5, 9, 2, 4, 11, 6), strict=True)
    ]
    single = [several.batch([request], batch_size=1)[0] for request in requests]
    together = several.batch(requests, batch_size=3)
    assert [answer.token_ids for answer in together] == [answer.token_ids for answer in single]
    assert {answer.receipt.batch_size for answer in together} == {3}


def test_more_rows_than_were_reserved_wait_their_turn(assistant):
    answers = assistant.batch([Request("What is it?", settings=SamplingSettings(max_new_tokens=3))] * 4, batch_size=4)
    assert {answer.receipt.batch_size for answer in answers} == {1}
    assert len({answer.token_ids for answer in answers}) == 1


def test_beginnings_give_way_when_the_cells_run_out(decoders):
    """Eight images of which three fit: every one is answered, and none is answered from another's cells."""
    tight = load("nano", decoders["f16"], context=700)
    images = [made_image("noise", 500, 220, seed) for seed in range(8)]
    first = [tight.ask(image, "What is it?", max_new_tokens=4).token_ids for image in images]
    again = [tight.ask(image, "What is it?", max_new_tokens=4, reuse="off").token_ids for image in images]
    assert first == again
    assert tight.cache_stats()["prefix"].entries < len(images)


def test_sequences_come_back(decoders):
    fresh = load("nano", decoders["f16"], context=700)
    native = fresh.engine.native
    free = len(native._free)
    for seed in range(150):  # more than there are sequences
        fresh.ask("a" * (seed % 7 + 1), max_new_tokens=1)
    fresh.engine.prefix_cache.clear()
    gc.collect()
    native._sweep()
    assert len(native._free) == free


def test_streams_can_be_cancelled(assistant):
    with assistant.stream(WIDE, "Describe the image.", max_new_tokens=50, stop=()) as stream:
        next(stream)
        threading.Thread(target=stream.cancel).start()
        answer = stream.answer
    assert answer.finish_reason in ("cancelled", "stop")
    assert len(answer.token_ids) < 50
    assert ask(assistant, PROMPTS[1]).token_ids  # and the next one is answered


def test_sampling_is_our_own(assistant, torch_assistant):
    drawn = [ask(assistant, PROMPTS[3], temperature=1.5, seed=seed).token_ids for seed in (1, 1, 2, 3)]
    assert drawn[0] == drawn[1]
    assert len(set(drawn)) > 1
    whole = ask(assistant, PROMPTS[0]).text
    assert len(whole) > 4
    cut = ask(assistant, PROMPTS[0], stop=whole[2:4])
    assert (cut.text, cut.finish_reason) == (whole[: whole.index(whole[2:4])], "stop")
    penalised = ask(assistant, PROMPTS[0], repetition_penalty=1.8)
    assert penalised.token_ids == ask(torch_assistant, PROMPTS[0], repetition_penalty=1.8).token_ids


@pytest.mark.parametrize("kind", ["q8_0", "q4_k_m"])
def test_quantised_files_answer_nearly_alike(decoders, torch_assistant, kind):
    quantised = load("nano", decoders[kind])
    assert quantised.engine.conditions.dtype.endswith("(llama.cpp)")
    for prompt in PROMPTS[:3]:
        ours, theirs = ask(torch_assistant, prompt), ask(quantised, prompt)
        first, other = ours.logprobs[0], {item.token_id: item.logprob for item in theirs.logprobs[0].top}
        assert other[first.token_id] == pytest.approx(first.logprob, abs=0.1 if kind == "q8_0" else 1.5)


def test_a_smaller_type_makes_a_smaller_file(decoders):
    sizes = [decoders[kind].stat().st_size for kind in ("f16", "q8_0", "q4_k_m")]
    assert sizes[0] > 1.7 * sizes[1]
    assert sizes[1] > 1.2 * sizes[2]
    assert list(decoders["f16"].parent.glob(".*")) == []


def test_llama_cpp_gives_texts_our_ids(llama, decoders):
    """Not our rule in Python but the library itself, on the vocabulary in the file."""
    settings = llama.llama_model_default_params()
    settings.vocab_only = True
    model = llama.llama_model_load_from_file(bytes(decoders["f16"]), settings)
    vocabulary = llama.llama_model_get_vocab(model)
    native = Tokenizer.from_file(str(resolve_model("nano") / "tokenizer.json"))
    room = (llama.llama_token * 4096)()
    for text in corpus()[:: 1 + len(corpus()) // 1500] + list(SAMPLES):
        raw = text.encode()
        count = llama.llama_tokenize(vocabulary, raw, len(raw), room, len(room), False, False)
        assert list(room[:count]) == native.encode(text, add_special_tokens=False).ids, text
    llama.llama_model_free(model)


def refused(code, work):
    with pytest.raises(XverseError) as caught:
        work()
    assert caught.value.code == code
    return caught.value


def test_what_does_not_fit_is_refused_before_any_work(assistant, decoders):
    problem = refused("E120", lambda: assistant.ask("What is it?", max_new_tokens=4096))
    assert problem.facts["limit"] == 4096
    refused("E848", lambda: load("nano", decoders["f16"], context=5000))
    refused("E848", lambda: load("nano", decoders["f16"], context=10))
    refused("E101", lambda: load("nano", decoders["f16"], rows=65))


def test_more_memory_than_is_free_is_refused(decoders, monkeypatch):
    monkeypatch.setattr(loading, "free_memory", lambda kind: Memory(2**20, "free in this test"))
    problem = refused("E840", lambda: load("nano", decoders["f16"], context=2048, rows=2))
    assert problem.facts["mib"] == 16  # 4,096 bytes a token


def test_evidence_is_refused_not_made_up(assistant):
    answer = ask(assistant, PROMPTS[1])
    messages = [Message("user", PROMPTS[1][1], PROMPTS[1][0])]
    refused("E844", lambda: measure(assistant, messages, answer.token_ids))


def test_the_decoder_must_belong_to_the_folder(tiny_folder, decoders, tmp_path):
    export_decoder(tiny_folder, tmp_path / "tiny.gguf")
    refused("E839", lambda: load("nano", tmp_path / "tiny.gguf"))
    refused("E839", lambda: load("nano", tmp_path / "none.gguf"))
    refused("E837", lambda: load(tiny_folder))


def test_a_broken_file_is_named_by_llama_cpp(decoders, tmp_path):
    whole = decoders["f16"].read_bytes()
    (tmp_path / "cut.gguf").write_bytes(whole[: len(whole) // 2])
    refused("E839", lambda: load("nano", tmp_path / "cut.gguf"))


def test_nothing_is_left_in_torch_of_the_decoder(assistant):
    names = [name for name, _ in assistant.engine.model.named_parameters()]
    assert names
    assert all("vision_tower" in name or "multi_modal_projector" in name for name in names)
    assert all(parameter.dtype == torch.float32 for parameter in assistant.engine.model.parameters())
