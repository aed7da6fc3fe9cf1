"""Answers that must be JSON: which tokens may come next. The one file that knows llguidance (extra ``serve``).

What crosses: a JSON schema in, a `Constraint` out, whose `Matcher` is asked for a mask before every token and told the
token after it. The engine knows no grammar; this file knows no logits and no batch.

An answer that ends by itself is complete JSON and valid against its schema: the end token is only allowed then. One
that ends by its length is not. A schema that cannot be kept to the letter is refused, not kept in part.
"""

from __future__ import annotations

import importlib
import json
import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from xverse_v.errors import error

from .stopping import silent_ids

MAX_SCHEMA_CHARACTERS = 100_000
_KEPT_GRAMMARS = 32
# A model that has nothing to say may fill its whole answer with white space, so each gap is bounded.
_GAP = r"[ ]?|\n[ ]{0,16}"
# Given as overrides, because a schema may carry options of its own ("x-guidance"), lenient ones among them.
_OPTIONS = {
    "whitespace_flexible": True,
    "whitespace_pattern": _GAP,
    "lenient": False,
    "coerce_one_of": False,
    "item_separator": ",",
    "key_separator": ":",
}
_NEEDED = bytes(range(0x20, 0x7F))  # with these every JSON text can be spelt; other characters have escapes


class Matcher:
    """How far one answer has come. Used by one thread at a time."""

    def __init__(self, native: Any, spoken: Tensor, ends: Tensor) -> None:
        self._native = native
        self._spoken, self._ends = spoken, ends

    def mask(self) -> Tensor:
        """bool[N] on the CPU: the tokens that may come next, at least one. Raises E143."""
        if self._native.is_stopped() and not self._native.is_error():
            return self._ends
        packed = self._native.compute_bitmask()
        bits = np.unpackbits(np.frombuffer(packed, np.uint8), count=len(self._spoken), bitorder="little")
        allowed = torch.from_numpy(bits.view(np.bool_)) & self._spoken
        if self._native.is_error() or not allowed.any():
            raise self._problem()
        return allowed

    def accept(self, token: int) -> None:
        """The token that was chosen, an end token aside. Raises E143 if it was not allowed."""
        if not self._native.consume_token(token):
            raise self._problem()

    def _problem(self) -> Exception:
        return error("E143", reason=_first_line(self._native.get_error() or self._native.stop_reason()))


class Constraint:
    """A grammar made ready for one tokenizer. Any number of answers may `start` from it."""

    def __init__(self, native: Any, spoken: Tensor, ends: Tensor) -> None:
        self._native = native
        self._spoken, self._ends = spoken, ends

    def start(self) -> Matcher:
        return Matcher(self._native.deep_copy(), self._spoken, self._ends)


class JsonConstraints:
    """Makes constraints for one tokenizer, keeping the last ones. Safe for several threads.

    ``size`` is the width of the logits, ``end_ids`` the tokens that end an answer. Nothing is built before the first
    schema comes.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, size: int, end_ids: Callable[[], Collection[int]]) -> None:
        self._tokenizer = tokenizer
        self._size = size
        self._end_ids = end_ids
        self._lock = threading.Lock()
        self._native: Any = None
        self._spoken = self._ends = torch.zeros(size, dtype=torch.bool)
        self._kept: OrderedDict[str, Constraint] = OrderedDict()

    def for_schema(self, schema: Mapping[str, Any]) -> Constraint:
        """Raises E140 (the schema cannot be kept), E141 (llguidance is missing), E142 (the tokenizer cannot spell)."""
        try:
            text = json.dumps(schema, ensure_ascii=True)
        except (TypeError, ValueError, RecursionError) as reason:
            raise error("E140", reason=_first_line(str(reason))) from reason
        if len(text) > MAX_SCHEMA_CHARACTERS:
            raise error("E140", reason=f"{len(text)} characters, at most {MAX_SCHEMA_CHARACTERS}")
        with self._lock:
            native = self._spelling()
            if (kept := self._kept.get(text)) is not None:
                self._kept.move_to_end(text)
                return kept
        made = Constraint(_grammar(native, text), self._spoken, self._ends)
        with self._lock:
            self._kept[text] = made
            while len(self._kept) > _KEPT_GRAMMARS:
                self._kept.popitem(last=False)
        return made

    def _spelling(self) -> Any:
        """llguidance's view of the tokenizer, made once: about a second for 100,000 tokens."""
        if self._native is not None:
            return self._native
        _library("llguidance")
        ends, size = sorted(self._end_ids()), self._size
        try:
            native = _library("llguidance.hf").from_tokenizer(self._tokenizer, n_vocab=size, eos_token=ends)
        except ValueError as reason:
            raise error("E142", reason=_first_line(str(reason)), reason_zh=_first_line(str(reason))) from reason
        silent = silent_ids(self._tokenizer)
        plain = [i for i in range(size) if i not in silent and not native.is_special_token(i)]
        spelt = {native.decode_bytes([i]) for i in plain}
        missing = [chr(byte) for byte in _NEEDED if bytes([byte]) not in spelt]
        if missing:
            names, count, needed = " ".join(missing), len(missing), len(_NEEDED)
            said = f"{count} of the {needed} printable ASCII characters have no token: {names}"
            said_zh = f"{needed} 个可打印 ASCII 字符中有 {count} 个没有 token：{names}"
            raise error("E142", reason=said, reason_zh=said_zh)
        self._ends = torch.zeros(size, dtype=torch.bool).index_fill(0, torch.tensor(ends), True)
        # Special tokens may look like text to the library, but they give none.
        self._spoken = self._ends.index_fill(0, torch.tensor(plain), True)
        self._native = native
        return native


def _grammar(native: Any, schema: str) -> Any:
    """The compiled grammar of a schema, as a matcher at its beginning. Raises E140."""
    llguidance = _library("llguidance")
    try:
        grammar = llguidance.LLMatcher.grammar_from_json_schema(schema, overrides=_OPTIONS)
        # Errors must not repeat a whole schema into a log.
        limits = llguidance.LLParserLimits(verbose_errors=False)
        matcher = llguidance.LLMatcher(native, grammar, log_level=0, limits=limits)
    except ValueError as reason:
        raise error("E140", reason=_first_line(str(reason))) from reason
    if matcher.is_error():
        raise error("E140", reason=_first_line(matcher.get_error()))
    return matcher


def _library(name: str) -> Any:
    """Imported when it is needed, because it is an extra. Raises E141."""
    try:
        return importlib.import_module(name)
    except ImportError as reason:
        raise error("E141", reason=reason) from reason


def _first_line(text: str) -> str:
    return next((line.strip() for line in text.splitlines() if line.strip()), "no reason given")[:300]
