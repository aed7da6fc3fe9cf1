"""nano through a real vLLM against our own engine: prompts, tokens and log-probabilities. Run by `make test-vllm`.

Needs an environment of its own with vLLM in it, and minutes: each server takes one or two to start.
"""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest

from tests.engines.vllm_cases import (
    CASES,
    CLOSE,
    ENVIRONMENT,
    LONGEST,
    RANK,
    check_served,
    here,
    messages,
    nano_as_released,
    nano_with_adapter,
    opened,
    vllm_server,
)
from xverse_v import load
from xverse_v.inference.loading import resolve_model

pytestmark = pytest.mark.vllm

each_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


@pytest.fixture(scope="module")
def nano():
    return load("nano", dtype="float32")


@pytest.fixture(scope="module", params=["1", "2"], ids=["one process", "two processes"])
def server(request, tmp_path_factory):
    """nano, whole and with its heads and feed-forward split over two processes."""
    log = tmp_path_factory.mktemp("vllm") / "server.log"
    with vllm_server(Path(resolve_model("nano")), log, "--tensor-parallel-size", request.param) as url:
        yield url


@each_case
def test_a_server_answers_as_we_do(server, nano, case):
    check_served(server, "nano", nano, case)


def test_a_stream_is_the_answer(server, nano):
    case = CASES[1]
    body = {"model": "nano", "temperature": 0, "max_tokens": LONGEST, "stream": True, "messages": messages(case)}
    text = ""
    with httpx.stream("POST", f"{server}/v1/chat/completions", json=body, timeout=300) as reply:
        for line in reply.iter_lines():
            if line.startswith("data: {"):
                text += json.loads(line[6:])["choices"][0]["delta"].get("content") or ""
    assert text.removeprefix(" ") == here(nano, case)[1].text.removeprefix(" ")


def test_the_placeholder_is_never_generated(server, nano):
    """However much a request asks for it."""
    placeholder = nano.prompts.processor.image_token_id
    body = {"model": "nano", "prompt": "Human: Hi\nAssistant: ", "max_tokens": 2, "temperature": 0}
    asked = {"logit_bias": {str(placeholder): 100}, "return_token_ids": True}
    reply = httpx.post(f"{server}/v1/completions", json=body | asked, timeout=300)
    assert reply.status_code == 200, reply.text
    ids = reply.json()["choices"][0]["token_ids"]
    assert ids and placeholder not in ids


@pytest.fixture(scope="module")
def tuned_folder(tmp_path_factory):
    return nano_with_adapter(tmp_path_factory.mktemp("tuned") / "folder")


@pytest.fixture(scope="module")
def tuned(tuned_folder):
    return load(tuned_folder, dtype="float32")


@pytest.fixture(scope="module")
def lora_server(tuned, tuned_folder, tmp_path_factory):
    """The weights as "nano", and with the adapter as "tuned"."""
    flags = ["--enable-lora", "--max-lora-rank", str(RANK), "--lora-modules", f"tuned={tuned_folder / 'adapter'}"]
    with vllm_server(tuned_folder, tmp_path_factory.mktemp("vllm") / "server.log", *flags) as url:
        yield url


@each_case
@pytest.mark.parametrize("model", ["nano", "tuned"])
def test_an_adapter_is_applied_for_those_who_name_it(lora_server, tuned, nano, model, case):
    check_served(lora_server, model, {"nano": nano, "tuned": tuned}[model], case)


@each_case
def test_the_adapter_changes_what_comes(tuned, nano, case):
    """Else the test above could not tell an adapter that is left out."""
    with_it, without = (here(model, case)[1].logprobs[0].top for model in (tuned, nano))
    assert max(abs(a.logprob - b.logprob) for a, b in zip(with_it, without, strict=True)) > 100 * CLOSE


def test_a_folder_with_an_adapter_is_refused_without_adapters(tuned_folder, tmp_path):
    log = tmp_path / "server.log"
    with pytest.raises(AssertionError), vllm_server(tuned_folder, log):
        pass
    assert "E850" in log.read_text()


def test_the_release_s_grid_and_the_python_class(tmp_path, monkeypatch):
    """`LLM.generate` in this process, on a folder that cuts tiles as the release does.

    The last test of this file, since from then on this process is vLLM's: it changes classes of transformers that
    our engine needs to load.
    """
    for name, value in (ENVIRONMENT | {"VLLM_ENABLE_V1_MULTIPROCESSING": "0"}).items():
        monkeypatch.setenv(name, value)
    from vllm import LLM, SamplingParams

    folder = nano_as_released(tmp_path / "nano")
    assistant = load(folder, dtype="float32")
    # Before vLLM is built, for the same reason.
    ours = {case.name: here(assistant, case) for case in CASES}
    engine = LLM(str(folder), dtype="float32", enforce_eager=True, max_num_seqs=4)
    asked = [case for case in CASES if not case.system]
    prompts = []
    for case in asked:
        content = [{"type": "image"}] * len(case.images) + [{"type": "text", "text": case.question}]
        text = assistant.prompts.processor.apply_chat_template(
            [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
        )
        images = [opened(name) for name in case.images]
        prompts.append({"prompt": text} | ({"multi_modal_data": {"image": images}} if images else {}))
    outputs = engine.generate(prompts, SamplingParams(temperature=0, max_tokens=LONGEST))
    for case, output in zip(asked, outputs, strict=True):
        prompt, answer = ours[case.name]
        assert output.prompt_token_ids == prompt, case.name
        assert list(output.outputs[0].token_ids) == list(answer.token_ids), case.name
