"""A running demo and a real Chromium in front of it, for the browser tests and for docs/make_screenshots.py.

Needs Playwright's Python package and a Chromium (the variable CHROMIUM, else the one on the path); without them it
fails.
"""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

from xverse_v.cli.demo import examples
from xverse_v.inference.assistant import Assistant
from xverse_v.serving.demo.app import Demo, build, new_server, open_port
from xverse_v.serving.demo.options import DemoOptions

ARGUMENTS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
)
PATIENCE = 120_000  # milliseconds; test machines are shared


@contextmanager
def running_demo(assistant: Assistant, folder: Path) -> Iterator[tuple[str, Demo]]:
    """The demo on a free port, in a thread: its address and itself."""
    demo = build(assistant, DemoOptions(examples=examples(folder)))
    listening = open_port("127.0.0.1", 0)
    server = new_server(demo)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}", demo
    finally:
        server.should_exit = True
        thread.join()
        listening.close()
        demo.close()


@contextmanager
def chromium() -> Iterator[Browser]:
    path = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(ARGUMENTS))
        yield browser
        browser.close()


class Visitor:
    """One open page and what a person does with it. Notes faults of the page and requests that leave this server."""

    def __init__(self, browser: Browser, address: str, **context: Any) -> None:
        self.address = address
        self.faults: list[str] = []
        self.foreign: list[str] = []
        self.context = browser.new_context(**{"viewport": {"width": 1360, "height": 900}, "locale": "en-US"} | context)
        self.page: Page = self.context.new_page()
        self.page.set_default_timeout(PATIENCE)
        self.page.on("pageerror", lambda fault: self.faults.append(str(fault)))
        self.page.on("console", self._console)
        self.page.on("request", self._request)
        self.page.goto(address)
        self.page.wait_for_selector(".xv-panel")

    def _console(self, message: Any) -> None:
        if message.type == "error":
            self.faults.append(message.text)

    def _request(self, request: Any) -> None:
        if not request.url.startswith((self.address, "data:", "blob:")):
            self.foreign.append(request.url)

    def attach(self, *paths: Path | str) -> None:
        """Upload through the paper clip, and wait for the tiles."""
        self.page.locator(".xv-ask input[type=file]").first.set_input_files([str(path) for path in paths])
        self.page.wait_for_function(
            "count => document.querySelectorAll('.xv-ask button img, .xv-ask .thumbnail-item').length >= count",
            arg=len(paths),
        )
        self.page.wait_for_selector(".xv-views", state="attached")

    def say(self, text: str) -> None:
        """Write and send; does not wait for the answer."""
        box = self.page.locator(".xv-ask textarea").first
        box.fill(text)
        box.press("Enter")

    def ask(self, text: str, images: Sequence[Path | str] = ()) -> str:
        """Write, send, and wait for the answer."""
        if images:
            self.attach(*images)
        before = self.answers()
        self.say(text)
        self.page.wait_for_function(
            "before => document.querySelectorAll('.xv-chat .message.bot').length > before", arg=len(before)
        )
        self.done()
        return self.answers()[-1]

    def done(self) -> None:
        """Wait until nothing is under way."""
        self.page.wait_for_function(
            "() => !document.querySelector('.xv-busy') && !!document.querySelector('.xv-ask button.submit-button')"
        )

    def busy(self) -> None:
        self.page.wait_for_selector(".xv-busy")

    def answers(self) -> list[str]:
        return [text.strip() for text in self.page.locator(".xv-chat .message.bot").all_inner_texts()]

    def questions(self) -> list[str]:
        shown = [text.strip() for text in self.page.locator(".xv-chat .message.user").all_inner_texts()]
        return [text for text in shown if text]

    def press(self, name: str) -> None:
        self.page.locator(f"button:text-is('{name}')").first.click()

    def tab(self, name: str) -> None:
        self.page.get_by_role("tab", name=name, exact=True).click()

    def status(self) -> str:
        return self.page.locator(".xv-status-place").first.inner_text()

    def close(self) -> None:
        self.context.close()
