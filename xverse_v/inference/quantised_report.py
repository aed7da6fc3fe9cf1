"""What quantised weights change: logits, perplexity and answers, against the float model of the same folder.

What crosses: a folder, a kind of quantisation and questions in, a `QuantisedReport` out. The two models are loaded one
after the other and never held together. What the questions are, and where they come from, is the caller's.

How it is measured. The float model answers every question greedily. The text that follows a question is then fixed: its
true answer where one is given, else that answer; both models read it (one forward each), so logits are compared at the
same positions and perplexity is of the same text. Then the quantised model answers greedily, too.

Letters: A tokens of the text that follows, N vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from xverse_v.media import DEFAULT_LIMITS
from xverse_v.model import XverseVProcessor
from xverse_v.weights.load import load_model, weights_id

from .assistant import Assistant, Request
from .loading import assemble, load_quantised, resolve_model
from .prompt import ImageInput, Message
from .sampling import SamplingSettings

if TYPE_CHECKING:
    from xverse_v.quantisation.quantised import QuantiseReport

LONGEST = 64
"""Most tokens of an answer."""

_NEVER = -1e4  # the logit of a token that cannot follow


@dataclass(frozen=True)
class Asked:
    """One question about some images, and its true answer if there is one. ``history`` are the messages before it."""

    question: str
    images: tuple[ImageInput, ...] = ()
    truth: str | None = None
    history: tuple[Message, ...] = ()


@dataclass(frozen=True)
class Changed:
    """A question that the two models answer differently."""

    question: str
    before: str
    after: str
    truth: str | None


@dataclass(frozen=True)
class QuantisedReport:
    """``relative_error``: norm of the logits' difference over the norm of the float logits around their mean.

    ``worst_error``: the largest difference of one logit. ``top_changed``: positions whose likeliest token differs, of
    ``positions``. ``right_before``, ``right_after``: answers equal to the truth, of ``judged`` that have one.
    """

    folder: str
    weights_id: str
    questions: int
    positions: int
    relative_error: float
    worst_error: float
    top_changed: int
    perplexity_before: float
    perplexity_after: float
    changed: tuple[Changed, ...]
    judged: int
    right_before: int
    right_after: int
    weights: QuantiseReport

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        shown = {name: value for name, value in vars(self).items() if name not in ("changed", "weights")}
        return {**shown, "changed": [asdict(one) for one in self.changed], "weights": self.weights.as_dict()}


def compare(model: str | Path, kind: str, questions: Sequence[Asked], *, batch_size: int = 8) -> QuantisedReport:
    """Both models over all ``questions``, at least one, on the CPU. A kind that is slower here is compared, too.

    Raises what loading raises, E861 and E862.
    """
    folder = resolve_model(model)
    processor, name = XverseVProcessor.from_pretrained(folder), weights_id(folder)
    network = load_model(folder, dtype="float32")
    plain = assemble(network, processor, weights_id=name, limits=DEFAULT_LIMITS)
    before = _answers(plain, questions, batch_size)
    followed = [asked.truth or answer for asked, answer in zip(questions, before, strict=True)]
    wanted = [_logits(plain, asked, text) for asked, text in zip(questions, followed, strict=True)]
    del plain, network  # the quantised model takes its place
    network, report = load_quantised(folder, kind, refuse_slow=False)
    rounded = assemble(network, processor, weights_id=name, quantised=report.label)
    after = _answers(rounded, questions, batch_size)
    found = [_logits(rounded, asked, text) for asked, text in zip(questions, followed, strict=True)]
    judged = [index for index, asked in enumerate(questions) if asked.truth is not None]
    return QuantisedReport(
        folder=str(model),
        weights_id=name,
        questions=len(questions),
        **_numbers(wanted, found),
        changed=tuple(
            Changed(asked.question, one, other, asked.truth)
            for asked, one, other in zip(questions, before, after, strict=True)
            if one != other
        ),
        judged=len(judged),
        right_before=sum(before[index] == questions[index].truth for index in judged),
        right_after=sum(after[index] == questions[index].truth for index in judged),
        weights=report,
    )


def _answers(assistant: Assistant, questions: Sequence[Asked], batch_size: int) -> list[str]:
    settings = SamplingSettings(max_new_tokens=LONGEST)
    requests = [Request(one.question, one.images, history=one.history, settings=settings) for one in questions]
    return [answer.text.strip() for answer in assistant.batch(requests, batch_size=batch_size)]


@torch.inference_mode()
def _logits(assistant: Assistant, asked: Asked, text: str) -> tuple[Tensor, Tensor]:
    """float32[A, N] before each token of ``text`` and the end token, and the tokens, int64[A]."""
    messages = [*asked.history, Message("user", asked.question, asked.images)]
    prompt = assistant.prompts.build(messages)
    tokens = [*_following(assistant, messages, text)[:LONGEST], min(assistant.engine.stop_ids)]
    pixels = [image.pixel_values() for image in prompt.images]
    network = assistant.engine.model
    output = network(
        input_ids=torch.tensor([[*prompt.token_ids, *tokens[:-1]]]),
        pixel_values=torch.cat(pixels) if pixels else None,
        logits_to_keep=len(tokens),
        use_cache=False,
    )
    logits = output.logits[0].float()
    # The placeholder's logit is a constant of ours, not of the weights; no text holds the token.
    logits[:, network.config.image_token_id] = _NEVER
    return logits, torch.tensor(tokens)


def _following(assistant: Assistant, messages: Sequence[Message], text: str) -> list[int]:
    """The tokens of ``text`` behind the prompt, without an end token; alone it might begin with others."""
    tokenizer = assistant.engine.tokenizer
    asked = [{"role": one.role, "content": [{"type": "text", "text": one.text}]} for one in messages]
    before = assistant.prompts.processor.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)
    start, whole = tokenizer(before)["input_ids"], tokenizer(before + text)["input_ids"]
    same = next((at for at, (a, b) in enumerate(zip(start, whole, strict=False)) if a != b), len(start))
    return [token for token in whole[same:] if token not in assistant.engine.stop_ids]


def _numbers(wanted: Sequence[tuple[Tensor, Tensor]], found: Sequence[tuple[Tensor, Tensor]]) -> dict[str, Any]:
    """The fields of the report that are made of logits."""
    error = norm = worst = loss_before = loss_after = 0.0
    positions = top_changed = 0
    for (before, tokens), (after, _) in zip(wanted, found, strict=True):
        difference = after - before
        middle = before.masked_fill(before == _NEVER, 0.0).sum(-1, keepdim=True) / (before.shape[1] - 1)
        error += float(difference.square().sum())
        norm += float((before - middle).masked_fill(before == _NEVER, 0.0).square().sum())
        worst = max(worst, float(difference.abs().max()))
        positions += len(tokens)
        top_changed += int((before.argmax(-1) != after.argmax(-1)).sum())
        loss_before += float(torch.nn.functional.cross_entropy(before, tokens, reduction="sum"))
        loss_after += float(torch.nn.functional.cross_entropy(after, tokens, reduction="sum"))
    return {
        "positions": positions,
        "relative_error": math.sqrt(error / norm),
        "worst_error": worst,
        "top_changed": top_changed,
        "perplexity_before": math.exp(loss_before / positions),
        "perplexity_after": math.exp(loss_after / positions),
    }
