"""Ways to break a file of weights or a tokenizer."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

Q_PROJ = "model.layers.1.self_attn.q_proj.weight"
OUR_Q_PROJ = "model.language_model.layers.1.self_attn.q_proj.weight"


class Marker:
    """Unpickling an instance creates a file: what code in a checkpoint could do."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self):
        return (os.mkdir, (self.path,))


def shrink(path: Path, size: int) -> None:
    path.write_bytes(path.read_bytes()[:size])


def one_more_id(tokenizer) -> None:
    tokenizer["model"]["vocab"]["elsewhere"] = 600


def put_nan(name: str) -> Callable[[dict], None]:
    def change(state) -> None:
        state[name] = state[name].clone()
        state[name][3, 5] = float("nan")

    return change
