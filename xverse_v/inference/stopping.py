"""From token ids to text while they arrive: an exact streaming detokeniser, and stop strings that never show.

What crosses: ids in, text out. `TextStream` promises two things: the pieces it gives join to exactly what decoding
all ids at once gives (cut before a stop string), and no piece is ever taken back. So it keeps text that could still
change: bytes of an unfinished character, and the beginning of what may become a stop string. It knows no model and no
logits. End *tokens* are the engine's business; no string is an end of its own here (an answer may well contain
``Assistant:``).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

_BYTE_PIECE = re.compile(r"<0x[0-9A-Fa-f]{2}>\Z")
_REPLACEMENT = "\ufffd"


class Detokeniser:
    """Ids one by one to text. Special tokens give no text.

    Byte-fallback tokenizers turn a whole run of byte pieces into replacement characters if any of it is not UTF-8, so
    a run is held until another kind of token ends it. Byte-level ones are held while the text ends in a replacement
    character.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        self._silent = silent_ids(tokenizer)
        self._context: list[int] = []  # the last token whose text is out: decoders look one token back at most
        self._held: list[int] = []

    def push(self, token_id: int) -> str:
        """The text that became certain with this token; often one word, sometimes nothing."""
        if token_id in self._silent:
            return ""
        self._held.append(token_id)
        piece = self._tokenizer.convert_ids_to_tokens(token_id)
        if piece is not None and _BYTE_PIECE.match(piece):
            return ""
        text = self._new_text()
        if text.endswith(_REPLACEMENT):
            return ""
        self._context, self._held = [token_id], []
        return text

    def flush(self) -> str:
        """What was still held: no token follows."""
        text = self._new_text() if self._held else ""
        self._context, self._held = self._held[-1:] or self._context, []
        return text

    def _new_text(self) -> str:
        before = self._decode(self._context) if self._context else ""
        return self._decode(self._context + self._held)[len(before) :]

    def _decode(self, ids: list[int]) -> str:
        return decode_text(self._tokenizer, ids)


class StopMatcher:
    """Text pieces in, text that is certainly no part of a stop string out. How the text is cut into pieces changes
    nothing.

    Of several stop strings the one whose last character comes first wins; the text before it is given, the rest
    dropped.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._pending = ""
        self.stopped = False

    def push(self, text: str) -> str:
        if self.stopped:
            return ""
        self._pending += text
        found = [(start + len(stop), start) for stop in self._stops if (start := self._pending.find(stop)) >= 0]
        if found:
            self.stopped = True
            out, self._pending = self._pending[: min(found)[1]], ""
            return out
        keep = max((_overlap(self._pending, stop) for stop in self._stops), default=0)
        cut = len(self._pending) - keep
        out, self._pending = self._pending[:cut], self._pending[cut:]
        return out

    def flush(self) -> str:
        """The beginning of a stop string that never came."""
        out, self._pending = self._pending, ""
        return out


class TextStream:
    """Detokeniser and stop strings together, for one answer."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, stops: Sequence[str]) -> None:
        self._detokeniser = Detokeniser(tokenizer)
        self._matcher = StopMatcher(stops)

    def push(self, token_id: int) -> str:
        """New certain text. Look at `stopped` afterwards."""
        return self._matcher.push(self._detokeniser.push(token_id))

    def flush(self) -> str:
        """The last text, when the answer ended for another reason. A stop string completed by it still cuts."""
        return self._matcher.push(self._detokeniser.flush()) + self._matcher.flush()

    @property
    def stopped(self) -> bool:
        return self._matcher.stopped


def silent_ids(tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """Special tokens, which give no text."""
    added = tokenizer.added_tokens_decoder.items()
    return frozenset(tokenizer.all_special_ids) | {token_id for token_id, token in added if token.special}


def decode_text(tokenizer: PreTrainedTokenizerBase, token_ids: Sequence[int]) -> str:
    """The text of ``token_ids`` as they stand: special tokens left out, spaces not tidied."""
    return tokenizer.decode(list(token_ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of ``text`` that is a beginning, but not the whole, of ``stop``."""
    return next((n for n in range(min(len(text), len(stop) - 1), 0, -1) if text.endswith(stop[:n])), 0)
