"""What is asked of nano twice, here and through vLLM, and how the two answers are compared."""

from __future__ import annotations

import base64
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import torch
from PIL import Image
from safetensors import safe_open

from xverse_v.inference.answer import Answer
from xverse_v.inference.assistant import Assistant, Request
from xverse_v.inference.loading import resolve_model
from xverse_v.inference.prompt import Message
from xverse_v.inference.sampling import SamplingSettings
from xverse_v.weights.lora import Lora, Pair, write_adapter
from xverse_v.weights.parts import PartFile, TensorInfo

IMAGES = Path(__file__).parents[2] / "examples" / "images"
SMALL = "small.png"  # made here, of one view; every file has more
LONGEST, ALTERNATIVES, RANK = 24, 3, 8
CLOSE = 1e-4  # nats; two ways to add the same float32 numbers
_START_SECONDS = 900
# One thread, no download, and no attempt to bind threads to cores that others use as well.
ENVIRONMENT = {
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "OMP_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
}


@dataclass(frozen=True)
class Case:
    """One question; images are files of `examples/images` or `SMALL`; `turns` are earlier (question, answer) pairs."""

    name: str
    question: str
    images: tuple[str, ...] = ()
    system: str | None = None
    turns: tuple[tuple[str, str], ...] = ()


CASES = (
    Case("text only", "What colour is the sky?"),
    Case("one view", "What colour is the circle?", (SMALL,)),
    Case("five views", "What colour is the circle?", ("shapes.png",)),
    Case("seven views, tall", "How many objects are there?", ("portrait.png",)),
    Case("seven views, wide", "How many objects are there?", ("landscape.png",)),
    Case("one row of tiles", "What is in the image?", ("panorama.png",)),
    Case("two images", "Is the circle of the first image larger?", ("shapes.png", "portrait.png")),
    Case("Chinese", "图中有几个物体？", ("shapes.png",)),
    Case("typed marks", "Say <|image|> and <|endoftext|> \ufdd01 <|image|>", ("shapes.png",)),
    Case("a system text and an earlier turn", "And the square?", ("shapes.png",), "Be short.", (("Hi", "Hello."),)),
)


def here(assistant: Assistant, case: Case) -> tuple[list[int], Answer]:
    """The prompt's ids and the answer of our own engine."""
    history = tuple(
        Message(role, text)
        for question, answer in case.turns
        for role, text in (("user", question), ("assistant", answer))
    )
    settings = SamplingSettings(max_new_tokens=LONGEST, logprobs=ALTERNATIVES)
    images = tuple(opened(name) for name in case.images)
    request = Request(case.question, images, case.system, history, settings=settings)
    prompt = assistant.generation(request).job.prompt
    return list(prompt.token_ids), assistant.stream_request(request).answer


def opened(name: str) -> Image.Image:
    """The image that both are shown."""
    if name == SMALL:
        return Image.open(IMAGES / "shapes.png").convert("RGB").resize((224, 224))
    return Image.open(IMAGES / name).convert("RGB")


def messages(case: Case) -> list[dict[str, Any]]:
    """The same question in OpenAI's shape."""
    system = [{"role": "system", "content": case.system}] if case.system else []
    turns = [
        {"role": role, "content": text}
        for question, answer in case.turns
        for role, text in (("user", question), ("assistant", answer))
    ]
    images = [{"type": "image_url", "image_url": {"url": data_url(opened(name))}} for name in case.images]
    return [*system, *turns, {"role": "user", "content": [*images, {"type": "text", "text": case.question}]}]


def data_url(image: Image.Image) -> str:
    file = io.BytesIO()
    image.save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def check_served(url: str, model: str, assistant: Assistant, case: Case) -> None:
    """The server's prompt ids, tokens, log-probabilities and end are ours."""
    prompt, answer = here(assistant, case)
    body = {"model": model, "messages": messages(case), "temperature": 0, "max_tokens": LONGEST, "logprobs": True}
    asked = {"top_logprobs": ALTERNATIVES, "return_token_ids": True}  # the second is vLLM's own
    reply = httpx.post(f"{url}/v1/chat/completions", json=body | asked, timeout=300)
    assert reply.status_code == 200, reply.text
    document = reply.json()
    (choice,) = document["choices"]
    assert document["prompt_token_ids"] == prompt
    assert document["usage"]["prompt_tokens"] == len(prompt)
    assert choice["token_ids"] == list(answer.token_ids)
    # vLLM keeps the space that a first token brings along.
    assert choice["message"]["content"].removeprefix(" ") == answer.text.removeprefix(" ")
    assert choice["finish_reason"] == answer.finish_reason
    assert answer.logprobs
    for theirs, ours in zip(choice["logprobs"]["content"], answer.logprobs, strict=False):
        assert abs(theirs["logprob"] - ours.logprob) < CLOSE
        listed = [entry["logprob"] for entry in theirs["top_logprobs"]]
        assert max(abs(a - b.logprob) for a, b in zip(listed, ours.top, strict=True)) < CLOSE


@contextmanager
def vllm_server(folder: Path, log: Path, *flags: str) -> Iterator[str]:
    """The address of vLLM's OpenAI server on this folder, in float32, until the block ends."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(folder)]
    command += ["--served-model-name", "nano", "--dtype", "float32", "--enforce-eager", "--max-num-seqs", "4"]
    command += ["--host", "127.0.0.1", "--port", str(port), *flags]
    with log.open("w") as output:
        server = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, env=os.environ | ENVIRONMENT, start_new_session=True
        )
    url = f"http://127.0.0.1:{port}"
    try:
        _wait(url, server, log)
        yield url
    finally:
        server.send_signal(signal.SIGTERM)
        try:
            server.wait(60)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait(30)


def _wait(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + _START_SECONDS
    while time.monotonic() < end:
        assert server.poll() is None, log.read_text()[-8000:]
        try:
            if httpx.get(f"{url}/health", timeout=5).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(1)
    raise AssertionError(f"vLLM did not start in {_START_SECONDS} s\n{log.read_text()[-8000:]}")


def nano_as_released(folder: Path) -> Path:
    """nano with the release's way of cutting tiles, as converted weights have it."""
    shutil.copytree(resolve_model("nano"), folder)
    (folder / "manifest.json").unlink()  # it has the hash of the file that changes now
    path = folder / "processor_config.json"
    settings = json.loads(path.read_text())
    settings["image_processor"] |= {"orientation": "release", "apply_exif": False}
    path.write_text(json.dumps(settings))
    return folder


def nano_with_adapter(folder: Path) -> Path:
    """nano with random LoRA on every linear of its decoder, written as `export` writes it."""
    shutil.copytree(resolve_model("nano"), folder)
    (folder / "manifest.json").unlink()
    (folder / "parity.json").unlink()
    generator = torch.Generator().manual_seed(5)
    tensors: dict[str, torch.Tensor] = {}
    pairs = {}
    with safe_open(folder / "model.safetensors", framework="pt") as file:
        for name in file.keys():  # noqa: SIM118 (not a dict)
            if ".language_model.layers." in name and name.endswith("_proj.weight"):
                outputs, inputs = file.get_slice(name).get_shape()
                tensors[f"{name}.A"] = torch.randn(RANK, inputs, generator=generator) * 0.05
                tensors[f"{name}.B"] = torch.randn(outputs, RANK, generator=generator) * 0.05
                pairs[name] = Pair(f"{name}.A", f"{name}.B")
    infos = {name: TensorInfo(tuple(tensor.shape), "float32") for name, tensor in tensors.items()}
    part = PartFile(folder, "safetensors", sum(tensor.nbytes for tensor in tensors.values()), infos)
    write_adapter(folder, Lora(RANK, 2.0 * RANK, "peft", pairs), part, tensors.__getitem__)
    return folder
