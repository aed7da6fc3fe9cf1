"""The parts of the page: every component, where it stands, and what it is called in two languages.

What crosses: defaults and examples in, a `Page` of Gradio components out. No event is wired here (wiring.py) and
nothing is computed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

import gradio as gr

from xverse_v.errors import Language

from .choices import NAMES
from .options import Example
from .texts import text

LANGUAGES: list[tuple[str, str]] = [("English", "en"), ("中文", "zh")]
FILE_TYPES = ["image"]


@dataclass
class Page:
    """The components, and for each of them how it is renamed when the language changes."""

    blocks: gr.Blocks
    parts: dict[str, Any] = field(default_factory=dict)
    renamed: list[tuple[Any, Callable[[Language], Any]]] = field(default_factory=list)

    def __getitem__(self, name: str) -> Any:
        return self.parts[name]

    def add(self, name: str, component: Any, rename: Callable[[Language], Any] | None = None) -> Any:
        """Keep a component under a name; ``rename`` gives its update in a language."""
        self.parts[name] = component
        if rename is not None:
            self.renamed.append((component, rename))
        return component

    @property
    def settings(self) -> list[Any]:
        """The controls of the settings tab, in the order of `choices.NAMES`."""
        return [self.parts[name] for name in NAMES]


def lay_out(
    blocks: gr.Blocks,
    model_line: str,
    defaults: Mapping[str, Any],
    most_tiles: int,
    context: int,
    examples: Sequence[Example],
    language: Language,
) -> Page:
    """The whole page; must be called inside ``with blocks``."""
    page = Page(blocks)
    with gr.Row(elem_classes="xv-top"):
        page.add("title", gr.HTML(_title(model_line, language)), lambda lang: gr.HTML(_title(model_line, lang)))
        page.add(
            "language",
            gr.Radio(
                LANGUAGES, value=language, show_label=False, container=False, elem_classes="xv-language", min_width=150
            ),
        )
        page.add(
            "dark",
            gr.Button(text("dark", language), size="sm", elem_classes="xv-dark", min_width=90, scale=0),
            lambda lang: gr.Button(text("dark", lang)),
        )
    with gr.Row(elem_classes="xv-columns"):
        with gr.Column(scale=6, min_width=320):
            _chat(page, examples, language)
        with gr.Column(scale=5, min_width=320, elem_classes="xv-side"), gr.Tabs():
            _panels(page, language)
            _settings(page, defaults, most_tiles, context, language)
    return page


def _title(model_line: str, language: Language) -> str:
    return (
        f'<div class="xv-title"><h1>XVERSE-V</h1><p>{escape(text("subtitle", language))}</p>'
        f'<p class="xv-model">{escape(model_line)}</p></div>'
    )


def cards(examples: Sequence[Example], language: Language) -> list[Any]:
    """The examples as the empty chat shows them."""
    return [
        {
            "icon": str(example.path),
            "display_text": example.questions[language],
            "text": example.questions[language],
        }
        for example in examples
    ]


def _chat(page: Page, examples: Sequence[Example], language: Language) -> None:
    chatbot = gr.Chatbot(
        show_label=False,
        container=True,
        height="min(62vh, 620px)",
        render_markdown=False,  # what people and the model write is text, never markup
        sanitize_html=True,
        latex_delimiters=[],
        allow_tags=False,
        editable="user",
        buttons=["copy"],
        feedback_options=None,
        group_consecutive_messages=False,  # Gradio's editor fails on a bubble that holds an image beside its text
        allow_file_downloads=False,
        layout="bubble",
        placeholder=text("hello", language),
        examples=cards(examples, language),
        elem_classes="xv-chat",
    )
    page.add(
        "chatbot", chatbot, lambda lang: gr.Chatbot(placeholder=text("hello", lang), examples=cards(examples, lang))
    )
    page.add("status", gr.HTML("", elem_classes="xv-status-place"))
    page.add(
        "box",
        gr.MultimodalTextbox(
            show_label=False,
            container=False,
            placeholder=text("box", language),
            file_count="multiple",
            file_types=FILE_TYPES,
            sources=["upload"],
            max_plain_text_length=100_000,
            lines=1,
            max_lines=8,
            elem_classes="xv-ask",
            autofocus=False,
        ),
        lambda lang: gr.MultimodalTextbox(placeholder=text("box", lang)),
    )
    with gr.Row(elem_classes="xv-buttons"):
        for name in ("retry", "undo", "clear"):
            _button(page, name, language, size="sm", min_width=80, elem_classes=f"xv-{name}")
    with gr.Accordion(text("webcam", language), open=False) as webcam:
        page.add("webcam", webcam, lambda lang: gr.Accordion(label=text("webcam", lang)))
        camera = gr.Image(
            label=text("camera", language), sources=["webcam"], type="filepath", height=280, buttons=[], format="png"
        )
        page.add("camera", camera, lambda lang: gr.Image(label=text("camera", lang)))


def _button(page: Page, name: str, language: Language, **look: Any) -> None:
    """A button called by the text of its own name."""
    page.add(name, gr.Button(text(name, language), **look), lambda lang: gr.Button(text(name, lang)))


def _panels(page: Page, language: Language) -> None:
    def tab(name: str) -> Any:
        return page.add(
            f"tab_{name}", gr.Tab(text(f"tab_{name}", language)), lambda lang: gr.Tab(text(f"tab_{name}", lang))
        )

    with tab("tiles"):
        page.add("tiles", gr.HTML(""))
    with tab("evidence"):
        with gr.Row(elem_classes="xv-evidence-row"):
            page.add(
                "blank",
                gr.Radio(_blanks(language), value="region", label=text("blank", language), min_width=220),
                lambda lang: gr.Radio(_blanks(lang), label=text("blank", lang)),
            )
            page.add(
                "which_image",
                gr.Radio([], label=text("which_image", language), visible=False, min_width=120),
                lambda lang: gr.Radio(label=text("which_image", lang)),
            )
        _button(page, "measure", language, variant="primary", size="sm", elem_classes="xv-measure")
        page.add("heat", gr.HTML(""))
    with tab("confidence"):
        page.add("confidence", gr.HTML(""))
    with tab("receipt"):
        page.add(
            "include",
            gr.Checkbox(False, label=text("include", language), info=text("include_note", language)),
            lambda lang: gr.Checkbox(label=text("include", lang), info=text("include_note", lang)),
        )
        receipt = gr.Textbox(
            label=text("receipt", language), lines=16, max_lines=40, interactive=False, buttons=["copy"],
            elem_classes="xv-receipt",
        )  # fmt: skip
        page.add("receipt", receipt, lambda lang: gr.Textbox(label=text("receipt", lang)))


def _blanks(language: Language) -> list[tuple[str, str]]:
    return [(text(f"blank_{kind}", language), kind) for kind in ("region", "view")]


def _settings(page: Page, defaults: Mapping[str, Any], most_tiles: int, context: int, language: Language) -> None:
    longest = min(context - 1, max(2048, defaults["max_new_tokens"]))
    sampling = bool(defaults["do_sample"])

    def slider(name: str, low: float, high: float, step: float, *, waits: bool = False) -> None:
        control = gr.Slider(
            low, high, value=defaults[name], step=step, label=text(name, language), interactive=sampling or not waits
        )
        page.add(name, control, lambda lang: gr.Slider(label=text(name, lang)))

    page.add("tab_settings", gr.Tab(text("tab_settings", language)), lambda lang: gr.Tab(text("tab_settings", lang)))
    with page["tab_settings"]:
        page.add(
            "system",
            gr.Textbox(
                defaults["system"],
                lines=2,
                max_lines=6,
                label=text("system", language),
                info=text("system_note", language),
            ),
            lambda lang: gr.Textbox(label=text("system", lang), info=text("system_note", lang)),
        )
        page.add(
            "do_sample",
            gr.Checkbox(sampling, label=text("do_sample", language)),
            lambda lang: gr.Checkbox(label=text("do_sample", lang)),
        )
        slider("temperature", 0.05, 2.0, 0.05, waits=True)
        slider("top_p", 0.05, 1.0, 0.05, waits=True)
        slider("top_k", 0, 100, 1, waits=True)
        slider("repetition_penalty", 1.0, 2.0, 0.01)
        slider("max_new_tokens", 1, longest, 1)
        slider("max_tiles", 1, most_tiles, 1)
        seed = gr.Number(defaults["seed"], precision=0, minimum=0, label=text("seed", language), interactive=sampling)
        page.add("seed", seed, lambda lang: gr.Number(label=text("seed", lang)))
        _button(page, "reset", language, size="sm")
