"""The authors' own files in JSON, small and valid, for the benchmarks that are also published in that form."""

from __future__ import annotations

import json
from pathlib import Path

from tests.evaluation.made import write_images, write_json


def mathvista(folder: Path) -> Path:
    """`testmini.json`: a dict by problem id; the second record lacks its query, which is then put together."""
    base = {"unit": None, "precision": None, "choices": None, "image": "images/17.jpg", "metadata": {"task": "t"}}
    first = {"question": "Missing number?", "answer": "8", "question_type": "free_form", "answer_type": "integer"}
    second = {"question": "How wide?", "answer": "1.50", "question_type": "free_form", "answer_type": "float"}
    third = {"question": "Which?", "answer": "wide", "question_type": "multi_choice", "answer_type": "text"}
    value = {
        "17": base | first | {"pid": "17", "query": "Hint: h\nQuestion: Missing number?"},
        "18": base | second | {"pid": "18", "precision": 2.0, "unit": "$"},
        "19": base | third | {"pid": "19", "choices": ["narrow", "wide"]},
    }
    write_images(folder / "images", "17.jpg")
    return write_json(folder / "testmini.json", value)


def hallusion(folder: Path) -> Path:
    """A list; one question without an image."""
    base = {"category": "VS", "subcategory": "chart", "set_id": "2", "sample_note": "gdp", "question_id": "0"}
    base |= {"question": "Is X above Y?", "gt_answer_details": "X is below Y."}
    seen = base | {"visual_input": "1", "figure_id": "1", "gt_answer": "0", "filename": "./VS/chart/2_1.png"}
    unseen = base | {"visual_input": "0", "figure_id": "0", "gt_answer": "1", "filename": None}
    write_images(folder / "VS" / "chart", "2_1.png")
    return write_json(folder / "HallusionBench.json", [seen, unseen])


def ocrbench(folder: Path) -> Path:
    """Golds as a text and as a list; two data sets number their questions alike."""
    first = {"dataset_name": "IIIT5K", "id": 9, "image_path": "a/9.png", "question": "what is written?"}
    second = {"dataset_name": "FUNSD", "id": 9, "image_path": "b/9.png", "question": "what is the name?"}
    first |= {"answers": "HOUSE", "type": "Regular Text Recognition"}
    second |= {"answers": ["Ann", "Ann B."], "type": "Key Information Extraction"}
    write_images(folder, "a/9.png", "b/9.png")
    return write_json(folder / "OCRBench.json", [first, second])


def seedbench(folder: Path) -> Path:
    """The video part is left out."""
    base = {"choice_a": "One", "choice_b": "Two", "choice_c": "None", "choice_d": "Three", "question_type_id": 5}
    image = base | {"question": "How many?", "answer": "C", "question_id": "7", "data_id": "1_1", "data_type": "image"}
    video = image | {"question_id": "8", "data_type": "video"}
    write_images(folder / "SEED-Bench-image", "1_1")
    value = {"question_type": {"Instances Counting": 5}, "questions": [image, video]}
    return write_json(folder / "SEED-Bench.json", value)


def llavabench(folder: Path) -> Path:
    """Three files of JSON lines; a caption that is a list."""

    def lines(name: str, *records: dict[str, object]) -> None:
        (folder / name).write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")

    write_images(folder / "images", "001.jpg")
    lines("questions.jsonl", {"question_id": 0, "image": "001.jpg", "category": "conv", "text": "What is it?"})
    lines("context.jsonl", {"id": 0, "image": "001.jpg", "caption": ["A block.", "It is red."]})
    lines("answers_gpt4.jsonl", {"question_id": 0, "text": "A red block."})
    return folder / "questions.jsonl"


def science_qa(folder: Path) -> Path:
    """Two splits, one text-only question, images in a folder a split."""
    base = {"choices": ["red cup", "blue cup"], "answer": 1, "hint": "Two cups.", "image": "image.png"}
    base |= {"question": "Which is warmest?", "topic": "physics", "lecture": "secret", "split": "test"}
    value = {"4": base, "5": base | {"image": None}, "6": base | {"split": "val"}}
    write_json(folder / "pid_splits.json", {"train": [], "val": ["6"], "test": ["4", "5"]})
    write_images(folder / "images" / "test" / "4", "image.png")
    return write_json(folder / "problems.json", value)


def release_gqa(folder: Path, *, lines: bool = False) -> Path:
    """The release's array of image, question and answer, or the same as JSON lines."""
    records = [{"image": "n9.jpg", "question": "Is the bag red?", "answer": "no"}]
    records.append({"image": "n9.jpg", "question": "Who is it?", "answer": "man"})
    write_images(folder / "images", "n9.jpg")
    if not lines:
        return write_json(folder / "gqa.json", records)
    path = folder / "gqa.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def release_okvqa(folder: Path) -> Path:
    """The release's three files: a plain list to ask, and the prepared pair."""
    questions = [{"image_id": "COCO_val2014_000000000042.jpg", "question": "What sport?", "question_id": 420}]
    annotations = [{"question_id": 420, "image_id": 42, "answers": [{"answer": "race"}] * 10}]
    write_json(folder / "okvqa_test_split.json", questions)
    write_json(folder / "mscoco_val2014_annotations_clean.json", {"annotations": annotations})
    write_json(folder / "OpenEnded_mscoco_val2014_questions_clean.json", {"questions": questions})
    write_images(folder / "val2014", "COCO_val2014_000000000042.jpg")
    return folder


def textvqa(folder: Path) -> Path:
    records = [{"question": "what brand?", "image_id": "00ab", "answers": ["acme"] * 10, "question_id": 34602}]
    write_images(folder / "train_images", "00ab.jpg")
    return write_json(folder / "TextVQA_0.5.1_val.json", {"dataset_version": "0.5.1", "data": records})


def vizwiz(folder: Path, *, hidden: bool = False) -> Path:
    answers = [{"answer": "can of soup", "answer_confidence": "yes"}] * 9
    answers.append({"answer": "soup", "answer_confidence": "maybe"})
    record: dict[str, object] = {"image": "VizWiz_val_00000009.jpg", "question": "What is this?"}
    write_images(folder / "val", "VizWiz_val_00000009.jpg")
    if hidden:
        return write_json(folder / "test.json", [record])
    record |= {"answers": answers, "answer_type": "other", "answerable": 1}
    return write_json(folder / "val.json", [record])
