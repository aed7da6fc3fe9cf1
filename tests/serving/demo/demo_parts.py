"""What the demo's tests share: a talk around the small random model, and uploads as Gradio leaves them."""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path

from PIL import Image

from tests.inference.small_model import small_assistant
from xverse_v.serving.demo.choices import Choices, defaults, read
from xverse_v.serving.demo.desk import Desk
from xverse_v.serving.demo.talk import Talk
from xverse_v.serving.demo.visits import Visit, Visits

HOSTILE = (
    "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\"> "
    "[link](javascript:document.title='owned') ![image](https://evil.example/x.png) $$\\sum$$ "
    "${document.title='owned'} {{7*7}} </textarea></div>"
)


def new_talk(root: Path, **assistant: object) -> Talk:
    return Talk(small_assistant(**assistant), Desk(), Visits(root, "en"))


def choices_of(talk: Talk, **changes: object) -> Choices:
    """The page's first settings with some changed; eight tokens unless said otherwise, and no system text."""
    values = defaults(talk.assistant.settings, 9) | {"max_new_tokens": 8, "system": ""} | changes
    return read(list(values.values()), talk.assistant.settings)


def upload(root: Path, image: Image.Image, name: str = "image.png") -> str:
    """Save an image where Gradio would: root/SHA-256/NAME."""
    folder = root / hashlib.sha256(image.tobytes()).hexdigest()
    folder.mkdir(exist_ok=True)
    image.save(folder / name)
    return str(folder / name)


def ask(talk: Talk, visit: Visit, text: str, *paths: str, **changes: object) -> list[object]:
    """Everything the page was shown while a question was answered."""
    return list(talk.send(visit, text, paths, choices_of(talk, **changes)))


def slow_steps(talk: Talk) -> tuple[threading.Event, threading.Event]:
    """Hold the model's second token back: (it is reached, let it go)."""
    reached, go = threading.Event(), threading.Event()
    step = talk.assistant.engine._step

    def held(*arguments: object) -> object:
        reached.set()
        go.wait(20)
        return step(*arguments)  # type: ignore[arg-type]

    talk.assistant.engine._step = held  # type: ignore[method-assign]
    return reached, go
