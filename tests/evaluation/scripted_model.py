"""A model that answers from the prompt alone, out of order and in batches; as a program, a run that tests can kill:

python scripted_model.py DATA.tsv WORK_DIR DELAY [PROCESSES]
"""

from __future__ import annotations

import hashlib
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path

from xverse_v.evaluation.contract import REFUSED, ImageRef, Prediction, Prompt


class ScriptedModel:
    """Takes `batch` prompts at a time and answers them backwards. `taken` keeps (key, images) in order of asking."""

    def __init__(self, *, batch: int = 1, delay: float = 0.0, name: str = "scripted", **facts: object) -> None:
        self.name, self.batch, self.delay = name, batch, delay
        self.facts: Mapping[str, object] = {"kind": "scripted", "decoding": "greedy", "threads": batch, **facts}
        self.taken: list[tuple[str, tuple[ImageRef, ...]]] = []
        self.refuse: Callable[[str], bool] = lambda key: False
        self.reply: Callable[[str, Prompt], str] = said

    def answers(self, prompts: Iterable[tuple[str, Prompt]]) -> Iterator[Prediction]:
        waiting = iter(prompts)
        while taken := list(islice(waiting, self.batch)):
            for key, prompt in reversed(taken):
                time.sleep(self.delay)
                self.taken.append((key, tuple(part for part in prompt.parts if isinstance(part, ImageRef))))
                if self.refuse(key):
                    problem = {"code": "E516", "name": "image_broken", "fact": f"{key} cannot be read."}
                    yield Prediction(key, "", REFUSED, {"error": problem})
                else:
                    yield Prediction(key, self.reply(key, prompt), "stop", {"prompt_token_ids": [1, [7, 256], 2]})


def said(key: str, prompt: Prompt) -> str:
    """A letter that depends on texts and image bytes, with a tail of a length of its own."""
    digest = hashlib.sha256(repr([part.data if isinstance(part, ImageRef) else part for part in prompt.parts]).encode())
    return "ABCD"[digest.digest()[0] % 4] + " because" * (digest.digest()[1] % 200)


def main() -> None:
    from xverse_v.evaluation.pick import tasks_of
    from xverse_v.evaluation.run import ask, finish
    from xverse_v.evaluation.sharing import share_of

    model, share = ScriptedModel(batch=3, delay=float(sys.argv[3])), share_of()
    reports = [ask(task, model, Path(sys.argv[2]), share=share) for task in tasks_of([sys.argv[1]], "vlmevalkit")]
    if share.first:
        for report in reports:
            finish(report, model, share=share)
    print("finished")


if __name__ == "__main__":
    main()
