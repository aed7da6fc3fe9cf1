"""A file of questions into a file of answers. Stop it anywhere (Ctrl-C, kill, a power cut) and run it again: it goes on
where it stopped, loses no row and writes none twice.

    python examples/batch_that_resumes.py [QUESTIONS.jsonl [ANSWERS.jsonl]]
"""

import json
import sys
from pathlib import Path

from xverse_v.cli import main

given = [Path(argument) for argument in sys.argv[1:]]
questions = given[0] if given else Path(__file__).parent / "questions.jsonl"
answers = given[1] if len(given) > 1 else Path("answers.jsonl")

code = main(
    ["batch", str(questions), str(answers)]
)  # the same as the command line, one settings file beside the output
if code != 0:
    raise SystemExit(code)

expected = {row["id"]: row["answer"] for row in map(json.loads, questions.read_text(encoding="utf-8").splitlines())}
rows = [json.loads(line) for line in answers.read_text(encoding="utf-8").splitlines()]
right = sum(row["answer"] == expected.get(row["id"]) for row in rows)
print(f"{right} of {len(rows)} answers are the expected ones; they are in {answers}")
