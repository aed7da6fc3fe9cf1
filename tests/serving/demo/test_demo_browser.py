"""The demo as people meet it: a real browser, the built-in model, every button."""

from __future__ import annotations

import time

import pytest
from PIL import Image, ImageDraw

from tests.serving.demo.browser import Visitor, chromium, running_demo
from tests.serving.demo.demo_parts import HOSTILE
from xverse_v import load
from xverse_v.model.prompt import RELEASE_SYSTEM

pytestmark = [pytest.mark.slow, pytest.mark.browser]

_SLOW_STEP = 0.25  # seconds a token, so that a person, or a test, can press Stop


@pytest.fixture(scope="module")
def wide(tmp_path_factory):
    """672 x 448: 2 rows of 3 tiles. What the model says of it is not this file's business."""
    image = Image.new("RGB", (672, 448), "#f4f6f2")
    draw = ImageDraw.Draw(image)
    draw.ellipse((60, 60, 160, 160), fill="#d02020")
    draw.rectangle((300, 240, 400, 340), fill="#1030e0")
    path = tmp_path_factory.mktemp("images") / "wide.png"
    image.save(path)
    return path


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """224 x 224: a global view alone."""
    path = tmp_path_factory.mktemp("images") / "small.png"
    Image.new("RGB", (224, 224), "#208040").save(path)
    return path


@pytest.fixture(scope="module")
def assistant():
    return load("nano")


@pytest.fixture(scope="module")
def running(assistant, tmp_path_factory):
    with running_demo(assistant, tmp_path_factory.mktemp("examples")) as both:
        yield both


@pytest.fixture(scope="module")
def browser():
    with chromium() as browser:
        yield browser


@pytest.fixture
def visitor(browser, running):
    visitor = Visitor(browser, running[0])
    yield visitor
    visitor.close()
    assert visitor.foreign == [], "the page asked somebody else"
    assert visitor.faults == []


@pytest.fixture
def slow_model(assistant, monkeypatch):
    step = assistant.engine._step

    def slowly(*arguments):
        time.sleep(_SLOW_STEP)
        return step(*arguments)

    monkeypatch.setattr(assistant.engine, "_step", slowly)


def test_upload_ask_retry_second_image_undo_clear(visitor, assistant, running, wide, small):
    question = "What colour is the star?"
    answer = visitor.ask(question, [wide])
    alone = assistant.ask(wide, question, system=RELEASE_SYSTEM)
    assert answer == alone.text
    visitor.press("Retry")
    visitor.page.wait_for_function("() => document.querySelector('.xv-status')?.innerText.includes('same answer')")
    assert visitor.answers() == [answer]
    visitor.ask("How many shapes are there?", [small])
    assert visitor.questions() == [question, "How many shapes are there?"]
    assert visitor.page.locator(".xv-chat .message.user img").count() == 2
    visitor.press("Undo")
    visitor.page.wait_for_function("() => document.querySelectorAll('.xv-chat .message.bot').length === 1")
    visitor.page.wait_for_function(
        "text => document.querySelector('.xv-ask textarea').value === text", arg="How many shapes are there?"
    )
    visitor.page.locator("button.xv-clear").click()
    visitor.page.wait_for_selector(".xv-chat .example")
    assert visitor.answers() == [] and not [
        path for path in running[1].folder.rglob("*.png") if "examples" not in str(path)
    ]


def test_an_answer_streams_and_stops(visitor, slow_model, assistant, monkeypatch, wide):
    monkeypatch.setattr(assistant.engine, "stop_ids", frozenset())  # so that it goes on until somebody stops it
    visitor.attach(wide)
    visitor.say("Describe the image.")
    grown = set()
    for _ in range(400):
        grown |= set(visitor.answers())
        if len(grown) > 3:
            break
        time.sleep(0.05)
    assert len(grown) > 3, "the answer should have been seen growing"
    visitor.page.locator(".xv-ask button.stop-button").click()
    visitor.done()
    assert "(Stopped.)" in visitor.answers()
    assert visitor.page.locator(".xv-ask textarea").is_enabled()


def test_editing_an_earlier_question(visitor, assistant, wide):
    visitor.ask("What colour is the star?", [wide])
    visitor.ask("How many shapes are there?")
    row = visitor.page.locator(".xv-chat .message-row:has-text('star') + .message-buttons-right")
    row.get_by_title("Edit").click()
    visitor.page.locator(".xv-chat textarea").fill("What colour is the heart?")
    visitor.page.locator(".xv-chat").get_by_title("Submit").click()
    visitor.page.wait_for_function("() => document.querySelectorAll('.xv-chat .message.bot').length === 1")
    visitor.done()
    assert visitor.questions() == ["What colour is the heart?"]
    assert visitor.answers() == [assistant.ask(wide, "What colour is the heart?", system=RELEASE_SYSTEM).text]


def test_panels(visitor, wide):
    visitor.ask("What colour is the star?", [wide])
    page = visitor.page
    assert page.locator(".xv-views figure").count() == 7 and page.locator(".xv-box").count() == 6
    visitor.tab("Evidence")
    visitor.press("Measure")
    page.wait_for_selector(".xv-heat")
    assert page.locator(".xv-heat").count() == 6 and "does not show" in page.locator(".xv-panel:visible").inner_text()
    page.get_by_label("One view alone").check()
    visitor.press("Measure")
    page.wait_for_function("() => document.body.innerText.includes('other views still show')")
    visitor.tab("Confidence")
    assert page.locator(".xv-token").count() >= 1
    visitor.tab("Receipt")
    receipt = page.locator(".xv-receipt textarea")
    assert "672x448" in receipt.input_value() and "star" not in receipt.input_value()
    page.get_by_label("Include question").check()
    page.wait_for_function("() => document.querySelector('.xv-receipt textarea').value.includes('star')")


def test_settings_reach_the_model(visitor, small):
    visitor.tab("Settings")
    page = visitor.page
    page.get_by_label("Sample (otherwise").check()
    page.get_by_label("System text").fill("")
    visitor.ask("What colour is the heart?", [small])
    visitor.tab("Receipt")
    receipt = page.locator(".xv-receipt textarea").input_value()
    assert "temperature=1," in receipt.replace("1.0,", "1,") and "top_p=0.8" in receipt and "top_k=30" in receipt


def test_chinese(browser, running, small):
    visitor = Visitor(browser, running[0], locale="zh-CN")
    visitor.page.get_by_role("tab", name="图块").wait_for()
    visitor.ask("图里有几个图形？", [small])
    assert "个 token" in visitor.status()
    visitor.page.get_by_text("English", exact=True).click()
    visitor.page.get_by_role("tab", name="Evidence").wait_for()
    assert visitor.page.locator(".xv-ask textarea").get_attribute("placeholder").startswith("Ask about")
    visitor.page.get_by_text("中文", exact=True).click()
    visitor.page.get_by_role("tab", name="证据").wait_for()
    assert visitor.faults == [] and visitor.foreign == []
    visitor.close()


def test_what_people_and_the_model_write_is_text(visitor, assistant, monkeypatch):
    title = visitor.page.title()
    visitor.ask(HOSTILE)
    assert visitor.questions()[-1].startswith("<script>")
    monkeypatch.setattr("xverse_v.inference.stopping.TextStream.push", lambda self, token_id: HOSTILE)
    answer = visitor.ask("Say it.")
    for tab in ("Confidence", "Receipt", "Evidence"):
        visitor.tab(tab)
    visitor.page.wait_for_timeout(500)
    assert answer.startswith("<script>") and "$$" in answer and "${" in answer
    assert visitor.page.title() == title != "owned"
    assert visitor.page.locator(".xv-chat script, .xv-chat a, .xv-chat .katex, .xv-chat .message img").count() == 0


def test_copying_and_editing_give_what_was_written(visitor):
    written = "Is 1 < 2 & 3 > 2? &lt; &#0000060;"
    visitor.ask(written)
    assert visitor.questions() == [written]
    visitor.context.grant_permissions(["clipboard-read", "clipboard-write"])
    row = visitor.page.locator(".xv-chat .message-row.user-row + .message-buttons-right")
    row.get_by_title("Copy message").click()
    visitor.page.wait_for_timeout(300)
    assert visitor.page.evaluate("() => navigator.clipboard.readText()") == written
    row.get_by_title("Edit").click()
    box = visitor.page.locator(".xv-chat textarea")
    assert box.input_value() == written
    box.fill(written + "!")
    visitor.page.locator(".xv-chat").get_by_title("Submit").click()
    # Until the server answers, Gradio shows the edited text in its own way.
    visitor.page.wait_for_function(
        "text => document.querySelector('.xv-chat .message.user').innerText.trim() === text", arg=written + "!"
    )
    visitor.done()


def test_dark_and_light(browser, running):
    visitor = Visitor(browser, running[0], color_scheme="dark")
    colour = "() => getComputedStyle(document.querySelector('.xv-title h1')).color"
    dark = visitor.page.evaluate(colour)
    visitor.press("Light / dark")
    assert visitor.page.evaluate(colour) != dark
    visitor.close()


def test_a_phone(browser, running, small):
    visitor = Visitor(browser, running[0], viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    visitor.ask("What colour is the heart?", [small])
    width = visitor.page.evaluate("() => document.documentElement.scrollWidth")
    assert width <= 390, "nothing should stick out sideways"
    assert visitor.page.locator(".xv-ask textarea").is_visible()
    assert visitor.foreign == [] and visitor.faults == []
    visitor.close()


def test_paste_and_examples_and_webcam(visitor):
    page = visitor.page
    page.locator(".xv-chat .example").first.click()
    page.wait_for_selector(".xv-chat .message.bot")
    visitor.done()
    page.locator(".xv-ask textarea").focus()
    page.evaluate(
        """async () => {
        const canvas = document.createElement('canvas'); canvas.width = canvas.height = 300;
        canvas.getContext('2d').fillRect(20, 20, 90, 90);
        const blob = await new Promise(done => canvas.toBlob(done, 'image/png'));
        const data = new DataTransfer(); data.items.add(new File([blob], 'pasted.png', {type: 'image/png'}));
        document.querySelector('.xv-ask textarea').dispatchEvent(
            new ClipboardEvent('paste', {clipboardData: data, bubbles: true, cancelable: true}));
        }"""
    )
    page.wait_for_function("() => document.body.innerText.includes('300 x 300')")
    page.get_by_text("Webcam", exact=True).first.click()
    page.get_by_text("Click to Access Webcam").click()
    page.get_by_role("button", name="capture photo").click()
    page.wait_for_function("() => document.body.innerText.includes('Image 2 of 2')")


def test_a_bad_file_is_refused_with_its_code(visitor, tmp_path):
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"\x89PNG\r\n\x1a\n" + b"0" * 100)
    visitor.page.locator(".xv-ask input[type=file]").first.set_input_files(str(bad))
    visitor.page.wait_for_selector(".xv-error")
    assert "E51" in visitor.status()


def test_two_people_at_once_and_files_gone_afterwards(browser, running, slow_model, tmp_path):
    address, demo = running
    before = set(demo.folder.rglob("*"))
    paths = []
    for number, colour in enumerate(("red", "blue")):
        Image.new("RGB", (400, 300), colour).save(tmp_path / f"{number}.png")
        paths.append(tmp_path / f"{number}.png")
    one, two = Visitor(browser, address), Visitor(browser, address)
    one.attach(paths[0])
    two.attach(paths[1])
    one.say("Describe the image.")
    one.busy()
    two.say("Describe the image.")
    two.page.wait_for_function("() => document.body.innerText.includes('before you')")
    one.done()
    two.done()
    assert len(one.answers()) >= 1 and len(two.answers()) >= 1
    copies = [path for path in demo.folder.rglob("*") if path.is_file() and path not in before]
    assert len(copies) == 4, "two uploads that have been answered, and the chat's own copies"
    one.close()
    two.close()
    until = time.monotonic() + 60
    while time.monotonic() < until and any(path.exists() for path in copies):
        time.sleep(0.2)
    assert not any(path.exists() for path in copies)
