"""The judge's memory: one JSON line a reply, under a key of everything that decides it.

What crosses: questions and replies. The file only grows; a last line that a kill cut in two is taken off when it is
opened again, a line in the middle that is none of ours is an error. It holds prompts and replies, never a key.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from xverse_v.errors import error

from .endpoint import Reply

log = logging.getLogger(__name__)

_FORMAT = 1


@dataclass(frozen=True)
class JudgeQuestion:
    """All that decides a reply. ``attempt`` sets repeated questions apart."""

    model: str
    base_url: str
    prompt: str
    system: str
    temperature: float
    max_tokens: int
    attempt: int

    @property
    def key(self) -> str:
        """SHA-256 hex of the fields as JSON."""
        packed = json.dumps({"format": _FORMAT, **asdict(self)}, sort_keys=True, ensure_ascii=True)
        return hashlib.sha256(packed.encode()).hexdigest()


class JudgeCache:
    """Replies by question. ``path`` None keeps them in memory only."""

    def __init__(self, path: Path | None) -> None:
        """Raises E767 for a file that is not such a cache."""
        self._path = path
        self._replies: dict[str, Reply] = {}
        if path is not None and path.exists():
            self._load(path)

    def get(self, question: JudgeQuestion) -> Reply | None:
        return self._replies.get(question.key)

    def put(self, question: JudgeQuestion, reply: Reply) -> None:
        """Keep a reply, on disk before this returns. The text is kept stripped, as it is given out."""
        reply = Reply(
            reply.text.strip(),
            reply.finish_reason,
            reply.prompt_tokens,
            reply.completion_tokens,
            reply.served_model,
        )
        self._replies[question.key] = reply
        if self._path is None:
            return
        answered = {name: value for name, value in asdict(reply).items() if name != "attempts"}
        line = json.dumps({"key": question.key, **asdict(question), **answered}, ensure_ascii=False) + "\n"
        self._path.parent.mkdir(parents=True, exist_ok=True)
        # One write to a file opened for appending: processes that share a cache do not tear each other's lines.
        handle = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            os.write(handle, line.encode())
            os.fsync(handle)
        finally:
            os.close(handle)

    def _load(self, path: Path) -> None:
        data = path.read_bytes()
        whole = data.rfind(b"\n") + 1
        if whole < len(data):
            log.warning("%s: the last line was cut short by an interruption and is taken off", path)
            os.truncate(path, whole)
        for number, line in enumerate(data[:whole].splitlines(), start=1):
            try:
                entry = json.loads(line)
                reply = Reply(
                    text=entry["text"],
                    finish_reason=entry["finish_reason"],
                    prompt_tokens=entry["prompt_tokens"],
                    completion_tokens=entry["completion_tokens"],
                    served_model=entry["served_model"],
                )
                self._replies[entry["key"]] = reply
            except (ValueError, KeyError, TypeError) as reason:
                raise error("E767", path=path, line=number) from reason
