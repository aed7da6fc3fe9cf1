"""Chat text that a browser shows letter by letter.

Gradio's chat puts messages into the page as (sanitised) HTML even with Markdown off, so tags would vanish and images be
asked for. Here the three characters that make markup become numeric references in a spelling of our own; the browser
draws them as the characters they are, and page.js turns that spelling back where text is copied or edited.
"""

from __future__ import annotations


def shown_text(text: str) -> str:
    """Text without markup in it: ``&``, ``<`` and ``>`` as references."""
    return text.translate({ord(character): f"&#00000{ord(character)};" for character in "&<>"})
