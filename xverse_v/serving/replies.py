"""What a client gets back: OpenAI's completion and chunk documents, made from answers.

What crosses: our `Answer`s and `Chunk`s in, plain dictionaries for JSON out. No HTTP, no engine. The documents are
OpenAI's field by field; ``usage.prompt_tokens_details.image_tokens`` is ours.
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from xverse_v.inference.answer import Answer, Chunk, TokenLogprob

_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_SPACE = "\u2581"  # how a SentencePiece vocabulary spells a space


def completion_id() -> str:
    return f"chatcmpl-{secrets.token_hex(14)}"


@dataclass(frozen=True)
class Envelope:
    """What all documents of one answer share. ``fingerprint`` names the weights, dtype and device; ``end_ids`` are the
    tokens that end an answer and are no part of it. ``top``: how many alternatives the client asked for.
    ``with_usage``: the stream ends with a chunk of token counts, and every other one says that it has none.
    """

    model: str
    fingerprint: str
    end_ids: frozenset[int]
    top: int
    with_usage: bool = False
    id: str = field(default_factory=completion_id)
    created: int = field(default_factory=lambda: int(time.time()))

    def completion(self, answer: Answer) -> dict[str, Any]:
        """The whole answer as one document."""
        choice = {
            "index": 0,
            "message": {"role": "assistant", "content": answer.text, "refusal": None},
            "logprobs": self._logprobs(answer.logprobs),
            "finish_reason": answer.finish_reason,
        }
        return {**self._head("chat.completion"), "choices": [choice], "usage": usage(answer)}

    def first_chunk(self) -> dict[str, Any]:
        """The chunk that says who speaks."""
        return self._chunk({"role": "assistant", "content": "", "refusal": None}, None, None)

    def chunk(self, chunk: Chunk) -> dict[str, Any] | None:
        """A piece of text; None where a token made none yet and there is nothing else to tell."""
        if not chunk.text and not chunk.logprobs:
            return None
        return self._chunk({"content": chunk.text}, self._logprobs(chunk.logprobs), None)

    def last_chunk(self, finish_reason: str) -> dict[str, Any]:
        return self._chunk({}, None, finish_reason)

    def usage_chunk(self, answer: Answer) -> dict[str, Any]:
        return {**self._head("chat.completion.chunk"), "choices": [], "usage": usage(answer)}

    def _chunk(
        self, delta: dict[str, Any], logprobs: dict[str, Any] | None, finish_reason: str | None
    ) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "logprobs": logprobs, "finish_reason": finish_reason}
        without = {"usage": None} if self.with_usage else {}
        return {**self._head("chat.completion.chunk"), "choices": [choice], **without}

    def _head(self, kind: str) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": self.fingerprint,
        }

    def _logprobs(self, tokens: Sequence[TokenLogprob]) -> dict[str, Any] | None:
        """OpenAI's form, without the end token, which is no part of the text."""
        if not tokens:
            return None
        content = []
        for token in tokens:
            if token.token_id not in self.end_ids:
                top = [_token(other.text, other.logprob) for other in token.top[: self.top]]
                content.append({**_token(token.text, token.logprob), "top_logprobs": top})
        return {"content": content, "refusal": None}


def usage(answer: Answer) -> dict[str, Any]:
    """Token counts. ``cached_tokens`` of the prompt were not computed again; ``image_tokens`` of it are images'."""
    receipt = answer.receipt
    return {
        "prompt_tokens": receipt.prompt_tokens,
        "completion_tokens": receipt.completion_tokens,
        "total_tokens": receipt.prompt_tokens + receipt.completion_tokens,
        "prompt_tokens_details": {
            "cached_tokens": receipt.cached_tokens,
            "image_tokens": sum(image.tokens for image in receipt.images),
        },
    }


def _token(piece: str, logprob: float) -> dict[str, Any]:
    """A vocabulary piece as text with its bytes. A byte that is no character by itself is spelt ``bytes:\\xe5``, as
    OpenAI spells it."""
    byte = _BYTE.fullmatch(piece)
    if byte is not None:
        value = int(byte[1], 16)
        return {"token": f"bytes:\\x{value:02x}", "logprob": logprob, "bytes": [value]}
    text = piece.replace(_SPACE, " ")
    # A model may rule a token out; JSON has no infinity, and OpenAI writes such a probability so.
    return {"token": text, "logprob": max(logprob, -9999.0), "bytes": list(text.encode())}
