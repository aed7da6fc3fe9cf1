"""Small data sets in every format, written from nothing, and the tiny processors they are encoded with."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from tests.conftest import made_image
from xverse_v.model import XverseVImageProcessor, XverseVProcessor
from xverse_v.model.prompt import chat_template, special_strings
from xverse_v.nano.vocabulary import build_tokenizer

SIZES = [(48, 40), (300, 448), (224, 224), (448, 448), (70, 30)]


def image_bytes(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def write_images(folder: Path, count: int = 5) -> list[str]:
    """`count` different images below `folder`; returns their names."""
    folder.mkdir(parents=True, exist_ok=True)
    names = []
    for number in range(count):
        name = f"{number}.png"
        made_image("wave", *SIZES[number % len(SIZES)], seed=number).save(folder / name)
        names.append(name)
    return names


def llava_rows(count: int, images: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Different, clean samples; every third one is text alone, every second one of the others has two turns."""
    rows = []
    for number in range(count):
        turns = [
            ("human", f"What is number {number}?"),
            ("gpt", f"It is thing {number}, " + "very " * (number % 7) + "good."),
        ]
        if number % 2:
            turns += [("human", f"And {number + 1}?"), ("gpt", f"Another {number}.")]
        row: dict[str, Any] = {"id": f"s{number}"}
        if images and number % 3:
            row["image"] = images[number % len(images)]
            turns[0] = ("human", "<image>\n" + turns[0][1])
        row["conversations"] = [{"from": who, "value": text} for who, text in turns]
        rows.append(row)
    return rows


def write_json(path: Path, rows: Sequence[Any], **options: Any) -> Path:
    path.write_text(json.dumps(rows, ensure_ascii=False, **options), encoding="utf-8")
    return path


def write_jsonl(path: Path, rows: Sequence[Any]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def write_tar(path: Path, members: Sequence[tuple[str, bytes]], format: int = tarfile.USTAR_FORMAT) -> Path:
    with tarfile.open(path, "w", format=format) as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def pair_members(count: int, first: int = 0) -> list[tuple[str, bytes]]:
    """Image-text pairs as tar members."""
    members = []
    for number in range(first, first + count):
        image = made_image("wave", *SIZES[number % len(SIZES)], seed=number)
        members.append((f"pairs/{number:05}.png", image_bytes(image)))
        members.append((f"pairs/{number:05}.txt", f"caption {number}".encode()))
    return members


def nano_processor() -> XverseVProcessor:
    """The built-in model's tokenizer, whose prompts end in a lone space."""
    source = build_tokenizer().to_str()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(source),
        bos_token="<|startoftext|>",
        eos_token="<|endoftext|>",
        pad_token="<pad>",
        unk_token="<unk>",
    )
    template = chat_template(special_strings(json.loads(source)), "<|endoftext|>")
    return XverseVProcessor(XverseVImageProcessor(), tokenizer, chat_template=template, patches_per_view=64)
