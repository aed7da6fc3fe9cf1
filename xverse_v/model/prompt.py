"""The one prompt form, as a chat template, and the two marks that keep a user's text plain text.

A user may type `<|endoftext|>` or `<|image|>`. The template breaks such strings with a mark that no text carries (a
Unicode noncharacter), the tokenizer splits at its true special tokens first, and its normaliser then takes the mark
away, so the typed characters are encoded as the characters they are. Both halves stand here: `chat_template` writes
the mark, `native_tokenizer` teaches a tokenizer to remove it.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

IMAGE_TOKEN = "<|image|>"
RELEASE_SYSTEM = "你是元象开发的具有图文问答能力的XChat，一旦给定你一张图片，你可以依据图片的内容，详细地回答我的问题。"

_NONCHARACTER = "\ufdd0"
_BREAK = _NONCHARACTER + "1"  # stands inside a special string that a user typed
_LITERAL = _NONCHARACTER + "0"  # stands for the noncharacter itself

_TEMPLATE = """\
{%- macro plain(text) -%}{{ text | replace('\\ufdd0', '\\ufdd00')@REPLACEMENTS@ }}{%- endmacro -%}
{%- macro texts(content) -%}
{%- if content is string -%}{{ plain(content) }}
{%- else -%}{{ plain(content | selectattr('type', 'equalto', 'text') | map(attribute='text') | join('\\n')) }}
{%- endif -%}
{%- endmacro -%}
{%- for message in messages -%}
{%- if message['role'] == 'system' -%}
{%- if not loop.first -%}{{ raise_exception('a system message comes first') }}{%- endif -%}
{{ texts(message['content']) + '\\n' }}
{%- elif message['role'] == 'user' -%}
{{ 'Human: ' }}
{%- if message['content'] is not string -%}
{%- for part in message['content'] -%}
{%- if part['type'] in ('image', 'image_url') -%}{{ '@IMAGE@\\n' }}
{%- elif part['type'] != 'text' -%}{{ raise_exception('content type ' + part['type'] + ' is neither text nor image') }}
{%- endif -%}
{%- endfor -%}
{%- endif -%}
{{ texts(message['content']) + '\\n' }}
{%- elif message['role'] == 'assistant' -%}
{{ 'Assistant: ' + texts(message['content']) + '@END@' }}
{%- else -%}{{ raise_exception('role ' + message['role'] + ' is not system, user or assistant') }}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ 'Assistant: ' }}{%- endif -%}
"""


def chat_template(special_tokens: Sequence[str], end_token: str) -> str:
    """The Jinja template for a tokenizer with these special strings, the placeholder among them.

    Without a system message it gives the release's evaluation prompt, with one its demo prompt. A message's images come
    before its text, each as the placeholder and a newline. An answer always ends with `end_token`, also an empty one.
    """
    replacements = "".join(f" | replace('{token}', '{token[:1]}\\ufdd01{token[1:]}')" for token in special_tokens)
    return _TEMPLATE.replace("@REPLACEMENTS@", replacements).replace("@IMAGE@", IMAGE_TOKEN).replace("@END@", end_token)


def native_tokenizer(tokenizer: dict[str, Any]) -> dict[str, Any]:
    """A `tokenizer.json` with the placeholder token added as its last id and the marks removed before encoding.

    Everything else stays as it is, so text that a user types gets the ids the original tokenizer gives it.
    Raises `ValueError` if the tokenizer already knows the placeholder.
    """
    native = deepcopy(tokenizer)
    known = [token["content"] for token in native["added_tokens"]]
    if IMAGE_TOKEN in known or IMAGE_TOKEN in native["model"]["vocab"]:
        raise ValueError(f"the tokenizer already has {IMAGE_TOKEN}; give the one of the text model")
    native["added_tokens"].append(
        {
            "id": tokenizer_size(tokenizer),
            "content": IMAGE_TOKEN,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": True,
        }
    )
    steps: list[dict[str, Any]] = [
        {"type": "Replace", "pattern": {"String": _BREAK}, "content": ""},
        {"type": "Replace", "pattern": {"String": _LITERAL}, "content": _NONCHARACTER},
    ]
    if native.get("normalizer"):
        steps.append(native["normalizer"])
    native["normalizer"] = {"type": "Sequence", "normalizers": steps}
    return native


def tokenizer_size(tokenizer: dict[str, Any]) -> int:
    """One more than the largest id of a `tokenizer.json`."""
    return 1 + max(*tokenizer["model"]["vocab"].values(), *(token["id"] for token in tokenizer["added_tokens"]))


def special_strings(tokenizer: dict[str, Any]) -> list[str]:
    """The strings a `tokenizer.json` never lets a user's text contain: all its added tokens."""
    return [token["content"] for token in tokenizer["added_tokens"]]
