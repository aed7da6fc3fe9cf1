"""Finished, scored runs of a made benchmark, with the answers a test wants."""

from tests.evaluation.made import base64_image, write_tsv
from tests.evaluation.scripted_model import ScriptedModel
from xverse_v.evaluation.bundle import RunFolder
from xverse_v.evaluation.pick import tasks_of
from xverse_v.evaluation.run import ask, finish
from xverse_v.evaluation.scored import score_run

COLUMNS = ["index", "image", "question", "A", "B", "C", "answer", "category"]
LETTERS = "ABCABCABCA"


def made(tmp_path, rows=10, **changes):
    """A run folder, scored; every answer is right but those given as `said`."""
    longest = changes.pop("longest", None)
    said = {str(key): text for key, text in changes.pop("said", {}).items()}
    table = [
        {"index": n, "image": base64_image() if n == 0 else "0", "question": f"Question {n}?", "answer": LETTERS[n]}
        | {"A": "one", "B": "two", "C": "three", "category": "odd" if n % 2 else "even"}
        for n in range(rows)
    ]
    for key, cell in changes.pop("cells", {}).items():
        table[key] |= cell
    data = write_tsv(tmp_path / "cards.tsv", COLUMNS, table)
    model = changes.pop("model", None) or ScriptedModel(**changes)
    model.reply = lambda key, prompt: said.get(key, LETTERS[int(key)])
    (task,) = tasks_of([str(data)], "vlmevalkit", max_new_tokens=longest)
    folder = RunFolder(finish(ask(task, model, tmp_path / "work"), model).folder)
    score_run(folder, task.benchmark, None)
    return folder


def folder_at(tmp_path, name):
    (tmp_path / name).mkdir()
    return tmp_path / name
