"""Which event of which component calls what: a table, in code."""

from __future__ import annotations

from typing import Any

from .controls import Page
from .wiring import OUTPUTS, Wiring

_DARK = "() => { document.body.classList.toggle('dark'); }"


def connect(page: Page, wiring: Wiring) -> None:
    """Wire the page; must be called inside ``with page.blocks``."""
    outputs = [page[name] for name in OUTPUTS]
    asking = [*page.settings, page["include"]]
    # No preprocessing (see wiring.py), no public names for programs, no limit of Gradio's: the desk keeps the order.
    common: dict[str, Any] = {"preprocess": False, "api_visibility": "private", "show_progress": "hidden"}
    long: dict[str, Any] = common | {"concurrency_limit": None}
    short: dict[str, Any] = common | {"queue": False}

    page["box"].submit(wiring.send, [page["box"], *asking], outputs, **long)
    page["chatbot"].example_select(wiring.example, asking, outputs, **long)
    page["chatbot"].edit(wiring.edit, asking, outputs, **long)
    page["retry"].click(wiring.retry, asking, outputs, **long)
    page["measure"].click(wiring.measure, [page["which_image"], page["blank"], page["include"]], outputs, **long)

    page["box"].stop(wiring.stop, None, None, **short)
    page["undo"].click(wiring.undo, page["include"], outputs, **short)
    page["clear"].click(wiring.clear, page["include"], outputs, **short)
    page["chatbot"].clear(wiring.clear, page["include"], outputs, **short)
    attached = [page["box"], page["max_tiles"], page["include"]]
    page["box"].change(wiring.attach, attached, outputs, trigger_mode="always_last", **short)
    page["camera"].input(wiring.photo, [page["camera"], *attached], [*outputs, page["camera"]], **short)
    page["include"].change(wiring.include, page["include"], page["receipt"], **short)
    renamed = [component for component, _ in page.renamed]
    page["language"].change(wiring.speak, [page["language"], page["include"]], [*renamed, *outputs], **short)
    page["dark"].click(None, None, None, js=_DARK, api_visibility="private")
    sampled = [page[name] for name in ("temperature", "top_p", "top_k", "seed")]
    page["do_sample"].change(wiring.sampling, page["do_sample"], sampled, **short)
    page["reset"].click(wiring.reset, None, page.settings, **short)
    page.blocks.load(wiring.arrive, None, [page["language"], *outputs], **short)
    page.blocks.unload(wiring.leave)
