"""Small, valid data files of all fifteen benchmarks, with the traps of the real ones in them, and tiny images.

`write_all(folder)` fills a folder of data files as a user would have it. Files that must be
refused are made in the tests that want the refusal.
"""

from __future__ import annotations

import base64
import csv
import io
import json
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

COLOURS = {"red": (200, 30, 30), "green": (30, 160, 30), "blue": (30, 30, 200), "white": (250, 250, 250)}
MILLION = 1_000_000


@cache
def encoded_image(colour: str = "red", width: int = 40, height: int = 30, form: str = "PNG") -> bytes:
    """An image file: a block of colour with a dark frame."""
    image = Image.new("RGB", (width, height), COLOURS[colour])
    ImageDraw.Draw(image).rectangle((2, 2, width - 3, height - 3), outline=(20, 20, 20))
    out = io.BytesIO()
    image.save(out, form)
    return out.getvalue()


def base64_image(colour: str = "red", **size: int) -> str:
    return base64.b64encode(encoded_image(colour, **size)).decode()


def write_tsv(path: Path, columns: Iterable[str], rows: Iterable[Mapping[str, object]]) -> Path:
    """A TSV as VLMEvalKit writes it, every cell quoted; a missing cell is empty."""
    columns = list(columns)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter="\t", quoting=csv.QUOTE_ALL, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([[str(row.get(name, "")) for name in columns] for row in rows])
    return path


def write_json(path: Path, value: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")
    return path


def write_images(folder: Path, *names: str) -> None:
    for place, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        colour = list(COLOURS)[place % len(COLOURS)]
        (folder / name).write_bytes(encoded_image(colour, form="JPEG" if name.endswith("jpg") else "PNG"))


def rotations(index: int, options: list[str], right: int, **cells: object) -> list[dict[str, object]]:
    """All passes of a circular question: options move on by one letter a pass; copies name the first row's image."""
    rows = []
    for turn in range(len(options)):
        turned = options[turn:] + options[:turn]
        letters = dict(zip("ABCD", turned, strict=False))
        answer = "ABCD"[(right - turn) % len(options)]
        row = {"index": index + turn * MILLION, **letters, "answer": answer, **cells}
        rows.append(row if turn == 0 else row | {"image": str(index)})
    return rows


MMBENCH_COLUMNS = ["index", "question", "hint", *"ABCD", "answer", "category", "image", "source", "l2-category"]
MMBENCH_COLUMNS += ["comment", "split"]


def mmbench(path: Path, *, chinese: bool = False, hidden: bool = False) -> Path:
    """Questions of four, three and two options; the third one's passes stand out of order."""
    split, l2 = ("test" if hidden else "dev"), "finegrained_perception (instance-level)"
    words = ["红", "绿", "蓝", "白"] if chinese else ["red", "green", "blue", "white"]
    question = "物体是什么颜色？" if chinese else "What colour is the block?"
    four = rotations(241, words, 0, question=question, image=base64_image("red"), split=split)
    three = rotations(7, words[:3], 2, question=question, image=base64_image("blue"), split=split, hint="look, a\ttab")
    two = rotations(99, words[:2], 1, question=question, image=base64_image("green"), split=split)
    for row in four + two:
        row |= {"category": "attribute_recognition", "l2-category": l2}
    for row in three:
        row |= {"category": "image_scene", "l2-category": "coarse_perception"}
    columns = [name for name in MMBENCH_COLUMNS if not (hidden and name == "answer")]
    return write_tsv(path, columns, [*four, two[1], *three, two[0]])


def choices(path: Path, rows: list[dict[str, object]], *more: str) -> Path:
    letters = sorted({name for row in rows for name in row if len(name) == 1})
    return write_tsv(path, ["index", "image", "question", *letters, "answer", *more], rows)


def mmstar(path: Path) -> Path:
    """An ``<image 1>`` that stays text, and an option "None" that is the answer."""
    places = {"category": "math", "l2-category": "object counting"}
    first = {"index": 0, "image": base64_image(), "question": "How many blocks are there? <image 1>", **places}
    second = {"index": 1, "image": "0", "question": "Which fruit is shown?", **places, "category": "logical reasoning"}
    first |= {"A": "one", "B": "two", "C": "three", "D": "four", "answer": "A"}
    second |= {"A": "apple", "B": "pear", "C": "None", "D": "fig", "answer": "C"}
    return choices(path, [first, second], "category", "l2-category")


def mmmu(path: Path) -> Path:
    """Two images in another order than their numbers, a placeholder in an option, open questions, the dev split."""
    pair = repr([base64_image("red"), base64_image("blue")])
    names = repr(["a_1.png", "a_2.png"])
    art = {"category": "Art", "l2-category": "Art & Design", "split": "validation"}
    rows: list[dict[str, object]] = [
        {"index": 1, "question": "x <image 2> y <image 1> z", "A": "Gothic", "B": "Baroque", "answer": "B"} | art,
        {"index": 2, "question": "Which is red?", "A": "<image 1>", "B": "none of them", "answer": "A"} | art,
        {"index": 3, "question": "How many?", "answer": "12"} | art,
        {"index": 4, "question": "Which ratio?", "answer": "['24/7', '3.429']"} | art | {"split": "dev"},
    ]
    for row in rows:
        row |= {"id": f"validation_Art_{row['index']}"}
        several = row["index"] == 1
        row |= {"image": pair if several else base64_image(), "image_path": names if several else "b.png"}
    columns = ["index", "id", "question", "A", "B", "answer", "category", "l2-category", "split", "image", "image_path"]
    return write_tsv(path, columns, rows)


def mathvista(path: Path) -> Path:
    """Every type of answer, 0 among them."""
    base = {"image": base64_image(), "task": "math word problem", "skills": "['arithmetic', 'algebra']"}
    rows: list[dict[str, object]] = [
        {"index": 1, "question": "Hint: int\nQuestion: How many?", "answer": "8", "answer_type": "integer"},
        {"index": 2, "question": "Hint: int\nQuestion: How many?", "answer": "0", "answer_type": "integer"},
        {"index": 3, "question": "Q", "answer": "1.5", "answer_type": "float", "precision": "1.0"},
        {"index": 4, "question": "Q", "answer": "[1, 2]", "answer_type": "list"},
        {"index": 5, "question": "Q", "answer": "wide", "answer_type": "text", "question_type": "multi_choice"},
    ]
    rows[4] |= {"choices": "['narrow', 'wide']", "answer_option": "B"}
    rows = [{"question_type": "free_form"} | row | base for row in rows]
    columns = "index question image answer answer_option choices question_type answer_type precision task skills"
    return write_tsv(path, columns.split(), rows)


def hallusion(path: Path) -> Path:
    """Two figures by two questions, and a row without image, which VLMEvalKit never asks."""
    rows: list[dict[str, object]] = []
    for figure in "12":
        for question in "01":
            index = f"VS_chart_1_2_{figure}_{question}"
            rows.append(
                {"index": index, "question": f"Is block {question} red?", "answer": ["No", "Yes"][figure == "1"]}
            )
            rows[-1]["image"] = base64_image("red" if figure == "1" else "blue")
    rows.append({"index": "VS_chart_0_2_0_0", "question": "Is it red?", "answer": "No"})
    rows = [row | {"category": "VS", "l2-category": "chart"} for row in rows]
    return write_tsv(path, ["index", "question", "image", "answer", "category", "l2-category"], rows)


def ai2d(path: Path) -> Path:
    """Nested image paths and the label column, as the conversion writes them."""
    row = {"index": 10203, "image": base64_image(), "question": "What does letter C show?", "answer": "C"}
    row |= {"A": "leaf", "B": "stem", "C": "root", "D": "seed"}
    row |= {"category": "partsOfA", "abcLabel": "True", "image_path": "ai2d/images_abc/102.png"}
    return choices(path, [row], "category", "abcLabel", "image_path")


def ocrbench(path: Path) -> Path:
    """A formula, several golds, and three groups."""
    formula = "Handwritten Mathematical Expression Recognition"
    rows: list[dict[str, object]] = [
        {"index": 0, "question": "what is written in the image?", "answer": "['HOUSE']"},
        {"index": 1, "question": "write out the formula", "answer": "['x ^ 2']", "category": formula},
        {"index": 2, "question": "what is the total?", "answer": "['4.50', '$4.50']"},
    ]
    rows[0]["category"], rows[2]["category"] = "Regular Text Recognition", "Key Information Extraction"
    rows = [row | {"image": base64_image("white")} for row in rows]
    return write_tsv(path, ["index", "image", "question", "answer", "category"], rows)


def seedbench(path: Path) -> Path:
    """An option "None" beside a right one, and an image shared by index."""
    first = {"index": 60001, "image": base64_image("green"), "question": "How many towels are hung?", "answer": "A"}
    first |= {"A": "One", "B": "Two", "C": "None", "D": "Three", "category": "Instances Counting"}
    second = first | {"index": 60002, "image": "60001", "question": "What is it?", "category": "Scene Understanding"}
    return choices(path, [first, second], "category")


def llavabench(path: Path) -> Path:
    base = {"image": base64_image(), "caption": "A red block\nin a frame.", "gpt4_ans": "It is a red block."}
    rows: list[dict[str, object]] = [
        {"index": 0, "question": "What is shown?", "category": "conv"} | base,
        {"index": 1, "question": "Describe the image.", "category": "detail"} | base,
        {"index": 2, "question": "Why is it framed?", "category": "complex"} | base,
    ]
    return write_tsv(path, ["index", "question", "image", "caption", "gpt4_ans", "category"], rows)


def science_qa(path: Path) -> Path:
    """Options of different number, and a row without image."""
    rows: list[dict[str, object]] = [
        {"index": 4, "question": "Which is warmest?", "hint": "Two cups.", "A": "red cup", "B": "blue cup"},
        {"index": 5, "question": "Which state is it?", "A": "gas", "B": "liquid", "C": "solid", "D": "x", "E": "y"},
        {"index": 6, "question": "Text only?", "A": "yes", "B": "no", "answer": "A"},
    ]
    for row, answer in zip(rows[:2], "BE", strict=True):
        row |= {"answer": answer, "image": base64_image(), "category": "Heat"}
    columns = ["index", "question", "hint", "A", "B", "C", "D", "E", "answer", "image", "category"]
    return write_tsv(path, columns, rows)


def okvqa(folder: Path) -> Path:
    """The official pair, without the heading members; answers in equal pairs; images below."""
    folder.mkdir(parents=True, exist_ok=True)
    questions = [{"image_id": 42, "question": f"What sport is {n}?", "question_id": 420 + n} for n in range(2)]
    annotations = [
        {"image_id": 42, "question_id": 420 + n, "answers": [{"answer": a, "raw_answer": f"{a}ing"} for a in answers]}
        for n, answers in enumerate((["race"] * 8 + ["run"] * 2, ["dog"] * 10))
    ]
    write_json(folder / "OpenEnded_mscoco_val2014_questions.json", {"questions": questions})
    write_json(folder / "mscoco_val2014_annotations.json", {"annotations": annotations})
    write_images(folder / "val2014", "COCO_val2014_000000000042.jpg")
    return folder


def gqa(folder: Path) -> Path:
    """The authors' dict by question id, several questions an image."""
    value = {
        "201": {"question": "Is the block red?", "answer": "yes", "imageId": "n9", "isBalanced": True},
        "202": {"question": "Who is there?", "answer": "man", "imageId": "n9", "isBalanced": True},
        "203": {"question": "Is it wet?", "answer": "no", "imageId": "n10", "isBalanced": True},
    }
    write_images(folder / "images", "n9.jpg", "n10.jpg")
    return write_json(folder / "testdev_balanced_questions.json", value)


def annotated(path: Path, column: str) -> Path:
    """Ten answers a row as a list literal, in the column `answer` (TextVQA) or `answers` (VizWiz)."""
    golds = (["acme"] * 9 + ["the acme"], ["unanswerable"] * 6 + ["two"] * 4, ["None"] * 10)
    rows: list[dict[str, object]] = [
        {"index": place, "image": base64_image(), "question": "what brand is it?", column: repr(list(answers))}
        for place, answers in enumerate(golds)
    ]
    return write_tsv(path, ["index", "image", "question", column], rows)


def write_all(folder: Path) -> dict[str, Path]:
    """All fifteen benchmarks of the model card (and the hidden test split of one): name -> data file."""
    folder.mkdir(parents=True, exist_ok=True)

    def tsv(name: str) -> Path:
        return folder / f"{name}.tsv"

    return {
        "MMBench_DEV_EN": mmbench(tsv("MMBench_DEV_EN")),
        "MMBench_DEV_CN": mmbench(tsv("MMBench_DEV_CN"), chinese=True),
        "MMBench_TEST_EN": mmbench(tsv("MMBench_TEST_EN"), hidden=True),
        "MMStar": mmstar(tsv("MMStar")),
        "MMMU_DEV_VAL": mmmu(tsv("MMMU_DEV_VAL")),
        "MathVista_MINI": mathvista(tsv("MathVista_MINI")),
        "HallusionBench": hallusion(tsv("HallusionBench")),
        "AI2D_TEST": ai2d(tsv("AI2D_TEST")),
        "OCRBench": ocrbench(tsv("OCRBench")),
        "SEEDBench_IMG": seedbench(tsv("SEEDBench_IMG")),
        "LLaVABench": llavabench(tsv("LLaVABench")),
        "ScienceQA_TEST": science_qa(tsv("ScienceQA_TEST")),
        "OKVQA": okvqa(folder / "OKVQA"),
        "GQA": gqa(folder / "GQA"),
        "VizWiz": annotated(tsv("VizWiz"), "answers"),
        "TextVQA_VAL": annotated(tsv("TextVQA_VAL"), "answer"),
    }
