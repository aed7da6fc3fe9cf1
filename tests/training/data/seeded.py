"""Clean rows with one defect among them: the defects, each with the code it must get, and the files they need."""

import json

from PIL import Image

from tests.conftest import made_image
from tests.training.data.builders import image_bytes, llava_rows
from xverse_v.training.data.check import CheckSettings
from xverse_v.training.data.encode import Encoder

LINE = 4  # where the defect is seeded: rows 1 to 6 are clean otherwise


def human(text):
    return {"from": "human", "value": text}


def gpt(text):
    return {"from": "gpt", "value": text}


def talk(*turns, **more):
    return {"id": "bad", "conversations": list(turns), **more}


def asked(question="<image>\nWhat?", answer="A thing.", **more):
    return talk(human(question), gpt(answer), **more)


def with_image(source, **more):
    return asked(image=source, **more)


def raw(text):
    return text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")


def gif(frames):
    pictures = [made_image("wave", 40, 40, seed) for seed in range(frames)]
    return image_bytes(pictures[0], "GIF", save_all=True, append_images=pictures[1:])


def turned():
    exif = Image.Exif()
    exif[0x0112] = 6
    return image_bytes(made_image("wave", 40, 30, 9), "JPEG", exif=exif)


PICTURES = {
    "cut.png": image_bytes(made_image("noise", 64, 64, 1))[:3000],
    "cut.jpg": image_bytes(made_image("noise", 64, 64, 1), "JPEG")[:1500],
    "damaged.png": image_bytes(made_image("noise", 64, 64, 1)).replace(b"IDAT", b"IDAX"),
    "text.jpg": b"<html>404 not found</html>",
    "program.png": b"%PDF-1.7\n" + bytes(100),
    "nothing.jpg": b"",
    "turned.jpg": turned(),
    "grey.png": image_bytes(made_image("wave", 40, 30, 3).convert("L")),
    "alpha.png": image_bytes(made_image("wave", 40, 30, 3).convert("RGBA")),
    "cmyk.jpg": image_bytes(made_image("wave", 40, 30, 3).convert("CMYK"), "JPEG"),
    "moving.gif": gif(3),
    "dot.png": image_bytes(made_image("wave", 5, 5, 3)),
    "strip.png": image_bytes(made_image("wave", 300, 20, 3)),
    "huge.png": image_bytes(Image.new("1", (20_001, 1))),
}


# name -> (code, the row that stands at LINE: a record, or the line's own text)
DEFECTS = {
    "bad json": ("D101", '{"id": "bad", "conversations": [}'),
    "single quotes": ("D101", "{'id': 'bad'}"),
    "not utf-8": ("D102", json.dumps(asked("Caf? now")).encode().replace(b"Caf?", b"Caf\xe9")),
    "gbk": ("D102", json.dumps(asked("XX")).encode().replace(b"XX", "中文".encode("gbk"))),
    "blank line": ("D104", "   "),
    "repeated key": ("D108", json.dumps(talk(human("q"), gpt("a"))).replace('{"id"', '{"id": "b", "id"', 1)),
    "a list": ("D110", ["id", "bad"]),
    "null": ("D110", "null"),
    "misspelt image": ("D111", asked("What?", imgae="0.png")),
    "misspelt conversations": ("D111", {"id": "bad", "conversation": [human("q"), gpt("a")]}),
    "unknown key": ("D112", asked("What?", colour_space="RGB")),
    "no turns key": ("D113", {"id": "bad", "prompt": "q", "answer": "a"}),
    "turns are text": ("D114", talk() | {"conversations": "Human: q"}),
    "no turns": ("D115", talk()),
    "a turn is text": ("D116", talk("q", gpt("a"))),
    "unknown turn key": ("D117", talk(human("q") | {"colour": 1}, gpt("a"))),
    "no role": ("D201", talk({"value": "q"}, gpt("a"))),
    "unknown role": ("D202", talk(human("q"), {"from": "bot", "value": "a"})),
    "no text": ("D203", talk({"from": "human"}, gpt("a"))),
    "text is null": ("D204", talk(human(None), gpt("a"))),
    "text is a number": ("D204", talk(human("q"), gpt(7))),
    "empty question": ("D205", talk(human(" \n"), gpt("a"))),
    "empty answer": ("D206", asked(answer="", image="0.png")),
    "empty system": ("D207", talk({"from": "system", "value": ""}, human("q"), gpt("a"))),
    "answer ends in a space": ("D208", asked(answer="A thing. ", image="0.png")),
    "video part": (
        "D209",
        talk({"from": "human", "content": [{"type": "video"}, {"type": "text", "text": "q"}]}, gpt("a")),
    ),
    "late system": ("D210", talk(human("q"), {"from": "system", "value": "s"}, gpt("a"))),
    "two questions": ("D211", talk(human("q"), human("q2"), gpt("a"))),
    "answer first": ("D211", talk(gpt("a"), human("q"), gpt("b"))),
    "no answer": ("D212", talk(human("q"))),
    "unanswered last": ("D212", talk(human("q"), gpt("a"), human("q2"))),
    "images is a string": ("D301", asked(images="0.png")),
    "image is a number": ("D302", with_image([3])),
    "image is nothing": ("D303", with_image("")),
    "image twice": ("D304", asked("<image><image>\nWhat?", image=["0.png", "0.png"])),
    "more marks than images": ("D308", asked("<image>\n<image>\nWhat?", image=["0.png"])),
    "fewer marks than images": ("D308", asked("<image>\nWhat?", image=["0.png", "1.png"])),
    "no mark": ("D309", asked("What?", image="0.png")),
    "no image": ("D310", asked("<image>\nWhat?")),
    "mark in an answer": ("D311", asked(answer="see <image> here", image="0.png")),
    "image in an answer": (
        "D312",
        talk(
            human("q"),
            {"from": "gpt", "content": [{"type": "image", "image": "0.png"}, {"type": "text", "text": "a"}]},
        ),
    ),
    "typed mark": ("D313", asked("<image>\nWhat does <image> mean?", image="0.png")),
    "mark inside": ("D314", asked("What is in <image> here?", image="0.png")),
    "missing file": ("D320", with_image("no/such.png")),
    "backslashes": ("D321", with_image("sub\\0.png")),
    "escape": ("D322", with_image("../../etc/passwd.png")),
    "absolute outside": ("D322", with_image("/usr/bin/env")),
    "address": ("D324", with_image("https://example.org/a.png")),
    "file address": ("D324", with_image("file:///etc/passwd")),
    "bad data url": ("D325", with_image("data:image/png;base64,####")),
    "empty file": ("D326", with_image("nothing.jpg")),
    "cut png": ("D327", with_image("cut.png")),
    "cut jpeg": ("D327", with_image("cut.jpg")),
    "damaged": ("D328", with_image("damaged.png")),
    "a web page": ("D329", with_image("text.jpg")),
    "a pdf": ("D329", with_image("program.png")),
    "too large": ("D330", with_image("huge.png")),
    "a folder": ("D331", with_image("sub")),
    "turned": ("D340", with_image("turned.jpg")),
    "grey": ("D341", with_image("grey.png")),
    "transparent": ("D341", with_image("alpha.png")),
    "cmyk": ("D341", with_image("cmyk.jpg")),
    "animated": ("D342", with_image("moving.gif")),
    "tiny": ("D343", with_image("dot.png")),
    "strip": ("D344", with_image("strip.png")),
    "control character": ("D401", asked("What\x07?")),
    "lost text": ("D402", asked("What\ufffd?", image="0.png")),
    "utf-8 as latin": ("D403", asked("Un cafÃ© noir ?", image="0.png")),
    "chinese as latin": ("D403", asked("ä¸­æ–‡ ?", image="0.png")),
    "gbk loss": ("D403", asked("锟斤拷 ?", image="0.png")),
    "half a pair": ("D404", raw(json.dumps(asked("What \ud83d?")))),
    "typed end": ("D405", asked("<image>\nWhat is <|endoftext|>?", image="0.png")),
    "glued turn": ("D406", asked(answer="A thing.\nHuman: and?", image="0.png")),
    "zero width": ("D407", asked("<image>\nWhat\u200b?", image="0.png")),
    "too long": ("D501", asked("<image>\n" + "word " * 3000, image="0.png")),
    "same sample": ("D601", None),
    "same id": ("D602", asked("What else?") | {"id": "s1"}),
}  # fmt: skip


# These say a second thing too, which follows from the first.
ALSO = {
    "misspelt conversations": {"D113"}, "no turns key": {"D112"}, "same sample": {"D602"}, "image is nothing": {"D310"},
    "image is a number": {"D310"}, "animated": {"D341"}, "chinese as latin": {"D309", "D407"}, "lost text": {"D309"},
    "utf-8 as latin": {"D309"}, "gbk loss": {"D309"},
}  # fmt: skip


def clean_rows(folder):
    return llava_rows(6, [f"{number}.png" for number in range(5)])


def seeded(folder, name, path):
    """A file of six clean rows with the defect at LINE."""
    rows = [json.dumps(row, ensure_ascii=False) for row in clean_rows(folder)]
    bad = rows[1] if DEFECTS[name][1] is None else DEFECTS[name][1]
    rows[LINE - 1] = bad if isinstance(bad, str | bytes) else json.dumps(bad, ensure_ascii=False)
    path.write_bytes(b"\n".join(raw(row) for row in rows) + b"\n")
    return path


def settings(processor, **changes):
    return CheckSettings(**{"encoder": Encoder(processor, max_length=3000), **changes})


def found(report):
    return {(finding.code, finding.line) for kept in report.examples.values() for finding in kept}
