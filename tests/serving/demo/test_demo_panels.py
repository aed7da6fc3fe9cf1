"""The panels: what they say is so, and nothing a person or a model wrote is markup."""

from __future__ import annotations

import html
import math
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from tests.inference.small_model import noise, small_assistant
from tests.serving.demo.demo_parts import HOSTILE
from xverse_v.errors import error
from xverse_v.inference.answer import Alternative, TokenLogprob
from xverse_v.inference.evidence import measure
from xverse_v.inference.prompt import Message
from xverse_v.inspector import inspect_tiles
from xverse_v.serving.demo import texts
from xverse_v.serving.demo.confidence import confidence_panel, share
from xverse_v.serving.demo.heat import factor, heat_panel
from xverse_v.serving.demo.markup import shown_text
from xverse_v.serving.demo.receipt import bug_report
from xverse_v.serving.demo.status import error_box, line, remark
from xverse_v.serving.demo.tiles import tile_panel

IMAGE = noise(84, 56, 1)


class Elements(HTMLParser):
    """Tags and attributes of a panel, as a browser would make them."""

    def __init__(self, panel):
        super().__init__()
        self.tags, self.attributes, self.text = [], [], ""
        self.feed(panel)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data):
        self.text += data


def safe(panel):
    found = Elements(panel)
    assert not {"script", "iframe", "a", "form", "textarea", "input"} & set(found.tags)
    assert not [name for name, _ in found.attributes if name.startswith("on")]
    assert all(value.startswith("data:image/") for name, value in found.attributes if name == "src")
    return found


@pytest.fixture(scope="module")
def turn():
    chat = small_assistant().chat(max_new_tokens=6, logprobs=3)
    chat.say("What is it?", (IMAGE,))
    return chat.turns[0]


@pytest.fixture(scope="module")
def evidence(turn):
    return measure(small_assistant(), [Message("user", turn.text, turn.images)], turn.answer.token_ids)


def hostile(turn):
    token = TokenLogprob(7, HOSTILE, -0.1, (Alternative(8, '"><script>x</script>', -0.2),))
    return replace(turn, text=HOSTILE, answer=replace(turn.answer, text=HOSTILE, logprobs=(token,)))


@pytest.mark.parametrize("language", ["en", "zh"])
def test_hostile_text_stays_text(turn, evidence, language):
    bad = hostile(turn)
    panel = safe(confidence_panel(bad.answer, language))
    assert "<script>" in panel.text and panel.tags.count("span") == 1
    shown = safe(heat_panel(evidence, IMAGE, bad.answer.text, language, ready=True))
    assert "<script>" in shown.text
    safe(error_box(error("E800", type="<script>", message=HOSTILE), language))


@pytest.mark.parametrize("language", ["en", "zh"])
def test_every_text_is_there_and_has_its_numbers(language):
    for name, both in texts._TEXTS.items():
        assert len(both) == 2 and all(both), name
        fields = [set(re.findall(r"\{(\w+)", text)) for text in both]
        assert fields[0] == fields[1], f"{name}: {fields}"
    assert texts.text("waiting", language, ahead=3).count("3") == 1


def test_confidence_is_the_sum_of_the_tokens(turn):
    panel = Elements(confidence_panel(turn.answer, "en", frozenset({turn.answer.token_ids[-1]}))).text
    total = sum(token.logprob for token in turn.answer.logprobs)
    assert share(math.exp(total)) in panel
    assert share(math.exp(total / len(turn.answer.logprobs))) in panel
    assert "end" in panel and "sure and wrong" in panel
    assert "Ask something first" in confidence_panel(None, "en")


def test_shares_read_well_at_both_ends():
    assert [share(p) for p in (1.0, 0.99996, 0.5, 0.0123)] == ["99.999 %", "99.996 %", "50 %", "1.23 %"]
    assert share(0.0004) == "1 : 2,500" and share(1e-9) == "1.0e-09" and share(1e-15) == "< 10⁻¹²"


def test_factors_read_well():
    changes = (0.0, -math.log(20), math.log(1.5), -math.log(1e9), -0.01)
    assert [factor(change) for change in changes] == ["=", "÷20", "×1.5", "÷10^9", "="]


def test_the_heat_map_has_a_cell_for_each_part_and_says_what_it_is_not(evidence):
    shown = safe(heat_panel(evidence, IMAGE, "an answer", "en", ready=True))
    cells = [value for name, value in shown.attributes if name == "class" and value == "xv-heat"]
    assert len(cells) == len(evidence.parts)
    assert "does not show" in shown.text and "blanked" in shown.text.lower()
    single = replace(
        evidence, blank="view", rows=1, columns=1, parts=(replace(evidence.parts[0], row=None, column=None),)
    )
    assert "xv-heat" in heat_panel(single, IMAGE, "a", "en", ready=True)
    assert "Press Measure" in heat_panel(None, None, "", "en", ready=True)
    assert "Ask about an image" in heat_panel(None, None, "", "en", ready=False)


def test_the_tile_panel_shows_every_view_with_its_tokens():
    assistant = small_assistant()
    inspection = inspect_tiles(IMAGE, assistant.prompts.processor)
    shown = safe(tile_panel([inspection, inspection], "en"))
    assert shown.tags.count("figure") == 2 * len(inspection.report.views)
    assert "Image 1 of 2" in shown.text and "Grid: release" in shown.text
    assert "The other way (upright) would cut it 2 x 3" in shown.text
    assert "网格：release" in tile_panel([inspection], "zh")


def test_the_receipt_tells_nothing_private_unless_asked(turn):
    secret = replace(turn, text="my secret question", answer=replace(turn.answer, text="my secret answer"))
    plain = bug_report(secret, 1, "my secret system", "en", include=False)
    assert (
        "secret" not in plain and turn.images[0].key not in plain and str(turn.answer.token_ids[0]) + "," not in plain
    )
    for wanted in ("weights      small", "84x56 RGB, grid 3x2, 7 views, 28 tokens", "seed=0", "torch "):
        assert wanted in plain
    full = bug_report(secret, 1, "my secret system", "en", include=True)
    assert full.count("secret") == 3 and turn.images[0].key in full


@pytest.mark.parametrize("text", [HOSTILE, "plain", "&#0000060;", "&amp;#00000", "a < b &&& c", ""])
def test_chat_text_holds_no_markup_and_is_shown_as_it_is(text):
    shown = shown_text(text)
    assert "<" not in shown and ">" not in shown and html.unescape(shown) == text


def test_an_answer_that_is_not_whole_says_so(turn):
    assert "limit of 6 tokens" in remark(replace(turn.answer, finish_reason="length"), "en")
    assert remark(replace(turn.answer, finish_reason="cancelled"), "zh") == "（已停止。）"
    assert "empty" in remark(replace(turn.answer, finish_reason="stop", text=" "), "en")
    assert remark(replace(turn.answer, finish_reason="stop", text="x"), "en") == ""
    assert "xv-busy" in line("answering", "en") and "xv-note" in line("write_question", "en")
