"""What a server is asked when it is measured: made images and questions, the same in every run. It knows no server."""

from __future__ import annotations

import base64
import io
import random
from dataclasses import dataclass
from typing import Any

from PIL import Image, ImageDraw

QUESTIONS = ("What colour is the circle?", "How many shapes are there?", "What is it?", "图中有几个图形？")
COLOURS = ("red", "green", "blue", "yellow", "purple", "orange")
ANSWER = 32
"""Most tokens of an answer in `fresh` and `shared`."""
LONG = {
    "type": "json_schema",
    "json_schema": {
        "name": "long",
        "schema": {"type": "array", "items": {"enum": ["red", "blue", 1, 2]}, "minItems": 20, "maxItems": 20},
    },
}


@dataclass(frozen=True)
class Workload:
    """Bodies of `chat/completions`. `fresh`: each request has an image of its own. `shared`: questions about few
    images. `long`: as `shared`, with answers held to a form of about 60 tokens."""

    name: str
    bodies: tuple[dict[str, Any], ...]


def made_image(number: int) -> str:
    """A data URL of a drawing that no other number gives."""
    dice = random.Random(number)
    image = Image.new("RGB", (224, 224), (240, 240, 255 - number % 16))
    draw = ImageDraw.Draw(image)
    x, y, size = dice.randrange(100), dice.randrange(100), dice.randrange(40, 110)
    draw.ellipse([x, y, x + size, y + size], fill=dice.choice(COLOURS))
    draw.rectangle([0, 0, number % 200, 2], fill=(number % 251, number // 251 % 251, 9))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def body(model: str, image: int, question: str, **more: Any) -> dict[str, Any]:
    """One request: a single view, greedy, streamed, its tokens counted at the end."""
    content = [
        {"type": "image_url", "image_url": {"url": made_image(image), "detail": "low"}},
        {"type": "text", "text": question},
    ]
    return {
        "model": model,
        "messages": [{"role": "user", "content": content}],
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": 0,
        **more,
    }


def workloads(model: str, count: int) -> list[Workload]:
    """`count` requests each; the ones of `fresh` never repeat an image."""
    fresh = [body(model, 1000 + n, QUESTIONS[n % 4], max_tokens=ANSWER) for n in range(count)]
    shared = [body(model, n % 10, f"{QUESTIONS[n % 4]} {n // 40}", max_tokens=ANSWER) for n in range(count)]
    long = [
        body(model, n % 10, f"{QUESTIONS[n % 4]} {n // 40}", max_tokens=200, response_format=LONG) for n in range(count)
    ]
    return [Workload("fresh", tuple(fresh)), Workload("shared", tuple(shared)), Workload("long", tuple(long))]
