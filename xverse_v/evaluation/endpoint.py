"""One chat completion from an OpenAI-compatible endpoint, with patience: timeouts, backoff, and errors that say why.

What crosses: messages in OpenAI's own shape in, a `Reply` out. Used by the judge and by models that are measured over
HTTP. The key is read from an environment variable when the endpoint is opened; it is held by the client alone, never
logged, stored or repeated in an error. This file knows no benchmark, no image and no cache.
"""

from __future__ import annotations

import email.utils
import logging
import os
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from xverse_v.errors import XverseError, error

if TYPE_CHECKING:
    from openai import OpenAI

log = logging.getLogger(__name__)

KEY_VARIABLE = "OPENAI_API_KEY"
_LOCAL = ("localhost", "127.0.0.1", "::1")
_SHOWN = 300  # characters of a server's own message that an error repeats
_RETRIED = (408, 409, 429)
_NEVER_BETTER = ("insufficient_quota", "billing_hard_limit_reached")  # codes that come with 429 and stay

Message = Mapping[str, Any]


@dataclass(frozen=True)
class EndpointSettings:
    """Where to ask and how patiently.

    ``base_url`` ends where ``/chat/completions`` would be appended. ``key_variable`` names the environment variable
    with the key; None sends no key. ``timeout`` seconds a try; ``attempts`` tries in all; ``longest_wait`` seconds
    between two tries. ``newer_fields`` sends ``max_completion_tokens`` and no temperature, as some models insist.
    """

    base_url: str
    model: str
    key_variable: str | None = KEY_VARIABLE
    timeout: float = 120.0
    attempts: int = 6
    longest_wait: float = 60.0
    newer_fields: bool = False


@dataclass(frozen=True)
class Reply:
    """``text`` may be empty, then ``finish_reason`` says why. Token counts are the server's, 0 where it gives none.

    ``served_model`` is the name the server answered under, often with a date. ``attempts`` counts tries, this one too.
    """

    text: str
    finish_reason: str
    prompt_tokens: int = 0
    completion_tokens: int = 0
    served_model: str = ""
    attempts: int = 1


class Endpoint:
    """An open endpoint. `complete` may be called from several threads at once."""

    def __init__(self, settings: EndpointSettings, *, sleep: Callable[[float], None] = time.sleep) -> None:
        """Raises E760 without the `openai` package, E761 without a key, E766 for a URL that cannot be a base URL."""
        base_url = checked_base_url(settings.base_url)
        try:
            from openai import Omit, OpenAI
        except ImportError as reason:
            raise error("E760", package="openai", extra="eval") from reason
        self.settings = settings
        self._sleep = sleep
        self._key = _key(settings.key_variable, base_url)
        # Retries are ours: the client's own would neither be counted nor follow the same rules for judge and model.
        self._client: OpenAI = OpenAI(
            base_url=base_url,
            api_key=self._key or "none",
            timeout=settings.timeout,
            max_retries=0,
        )
        self._headers: dict[str, Any] = {} if self._key else {"Authorization": Omit()}
        self.base_url = base_url

    def complete(self, messages: Sequence[Message], *, temperature: float = 0.0, max_tokens: int = 512) -> Reply:
        """One answer. Raises E762 (refused for good), E763 (no answer after all tries), E764 (answers unusable)."""
        last = "nothing was tried"
        malformed = False
        for attempt in range(1, self.settings.attempts + 1):
            try:
                completion = self._client.chat.completions.create(
                    **self._body(messages, temperature, max_tokens), extra_headers=self._headers
                )
                return _read(completion, attempt)
            except Exception as problem:
                wait = self._wait(problem, attempt)  # raises what no second try can help
                malformed = isinstance(problem, ValueError)
                last = self._shown(problem)
            if attempt < self.settings.attempts:
                log.info("try %d at %s failed (%s); again in %.1f s", attempt, self.base_url, last, wait)
                self._sleep(wait)
        raise error("E764" if malformed else "E763", url=self.base_url, attempts=self.settings.attempts, problem=last)

    def _body(self, messages: Sequence[Message], temperature: float, max_tokens: int) -> dict[str, Any]:
        body: dict[str, Any] = {"model": self.settings.model, "messages": list(messages)}
        if self.settings.newer_fields:
            return {**body, "max_completion_tokens": max_tokens}
        return {**body, "max_tokens": max_tokens, "temperature": temperature}

    def _wait(self, problem: Exception, attempt: int) -> float:
        """Seconds until the next try. Raises E762 or E763 if there is no point in one, unknown problems as they are."""
        import openai

        usual = min(self.settings.longest_wait, 2.0 ** (attempt - 1)) * random.uniform(0.5, 1.0)
        if isinstance(problem, openai.APIStatusError):
            if not _worth_another_try(problem):
                raise self._refused(problem) from None
            asked = _retry_after(problem.response.headers.get("retry-after"))
            if asked is not None and asked > self.settings.longest_wait:
                text = f"it asks to wait {asked:.0f} s, longer than the {self.settings.longest_wait:.0f} s allowed"
                raise error("E763", url=self.base_url, attempts=attempt, problem=text) from None
            return usual if asked is None else max(asked, 0.0)
        if isinstance(problem, openai.APIConnectionError | openai.APIResponseValidationError | ValueError):
            return usual
        raise problem

    def _refused(self, problem: Any) -> XverseError:
        return error("E762", url=self.base_url, status=problem.status_code, problem=self._shown(problem))

    def _shown(self, problem: Exception) -> str:
        """A server's or library's words, short, on one line and without the key, even if they repeat it."""
        text = " ".join(str(problem).split()) or type(problem).__name__
        if self._key:
            text = text.replace(self._key, "***")
        return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"


def checked_base_url(url: str) -> str:
    """The URL without a trailing slash or ``/chat/completions``, which some tools write into it. Raises E766."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        parts, host = None, None
    if parts is None or parts.scheme not in ("http", "https") or not host or parts.query or parts.fragment:
        raise error("E766", url=url.split("?")[0][:200])
    if parts.username is not None or parts.password is not None:
        raise error("E766", url=f"{parts.scheme}://***@{host}")
    return url.rstrip("/").removesuffix("/chat/completions").rstrip("/")


def _key(variable: str | None, base_url: str) -> str:
    """The key, "" for none. A server on this machine may go without one; any other is asked with a key or not at all,
    unless the caller said so."""
    if variable is None:
        return ""
    key = os.environ.get(variable, "").strip()
    if not key and urlsplit(base_url).hostname not in _LOCAL:
        raise error("E761", variable=variable, url=base_url)
    return key


def _worth_another_try(problem: Any) -> bool:
    if problem.code in _NEVER_BETTER:
        return False
    return problem.status_code in _RETRIED or problem.status_code >= 500


def _retry_after(value: str | None) -> float | None:
    """Seconds from a Retry-After header, which is a number or an HTTP date; None if there is none one can read."""
    if value is None:
        return None
    try:
        return float(value)
    except ValueError:
        pass
    try:
        return email.utils.parsedate_to_datetime(value).timestamp() - time.time()
    except (ValueError, TypeError):
        return None


def _read(completion: Any, attempt: int) -> Reply:
    """Raises `ValueError` for anything but a chat completion with one answer."""
    choices = getattr(completion, "choices", None)
    if not choices or getattr(choices[0], "message", None) is None:
        raise ValueError(f"status 200, but no chat completion: {str(completion)[:80]!r}")
    text, usage = choices[0].message.content, completion.usage
    if text is not None and not isinstance(text, str):
        raise ValueError(f"the answer is {type(text).__name__}, not text")
    return Reply(
        text=text or "",
        finish_reason=str(choices[0].finish_reason or "stop"),
        prompt_tokens=int(getattr(usage, "prompt_tokens", 0) or 0),
        completion_tokens=int(getattr(usage, "completion_tokens", 0) or 0),
        served_model=str(completion.model or ""),
        attempts=attempt,
    )
