"""One decoder in llama.cpp: vectors in, logits out, and whose keys and values lie in its memory.

What crosses: rows of float32 vectors with their sequence and place in, logits out; sequences are numbers from
`new_sequence`. All sequences share one memory of cells, so that a beginning that several have in common lies there
once and costs nothing to take over. This file knows no tokens, no images and no requests.

Shapes: S tokens, D decoder width, N vocabulary.
"""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from xverse_v.errors import error

from .library import complaints, library

Floats = npt.NDArray[np.float32]

SEQUENCES = 256  # rows and kept beginnings together; llama.cpp's own limit
MAX_ROWS = 64  # so that most sequences are left for beginnings, also while a row's successor is there already
PASS_TOKENS = 512


@dataclass(frozen=True)
class Append:
    """Vectors float32[S, D] for the places ``start`` to ``start`` + S of a sequence."""

    sequence: int
    start: int
    vectors: Floats


class Context:
    """A loaded GGUF decoder with ``cells`` places for tokens. Used by one thread at a time."""

    def __init__(self, path: Path, cells: int, threads: int, cache_type: str = "F16") -> None:
        """``cache_type``: of keys and values, "F16" or "F32". Raises E830, E839 (not loaded), E840 (no memory)."""
        llama = self._llama = library()
        complaints()
        self._model = llama.llama_model_load_from_file(bytes(path), llama.llama_model_default_params())
        if not self._model:
            raise error("E839", path=path, problem=complaints())
        vocabulary = llama.llama_model_get_vocab(self._model)
        self.width = int(llama.llama_model_n_embd(self._model))
        self.vocabulary = int(llama.llama_vocab_n_tokens(vocabulary))
        settings = llama.llama_context_default_params()
        settings.n_ctx = cells
        settings.n_batch = settings.n_ubatch = PASS_TOKENS
        settings.n_seq_max = SEQUENCES
        settings.n_threads = settings.n_threads_batch = threads
        settings.kv_unified = True
        settings.no_perf = True
        settings.type_k = settings.type_v = getattr(llama, f"GGML_TYPE_{cache_type}")
        if cache_type == "F32":  # the flash kernel would round keys and values to float16 all the same
            settings.flash_attn_type = llama.LLAMA_FLASH_ATTN_TYPE_DISABLED
        self._context = llama.llama_init_from_model(self._model, settings)
        if not self._context:
            llama.llama_model_free(self._model)
            raise MemoryError(complaints())
        self._memory = llama.llama_get_memory(self._context)
        self._batch = llama.llama_batch_init(PASS_TOKENS, self.width, 1)
        self.cells = int(llama.llama_n_ctx(self._context))
        self._free = list(range(SEQUENCES))
        # Whoever drops a sequence may be any thread, at any moment; what it held is forgotten at the next call here.
        self._dropped: deque[int] = deque()
        self.close = weakref.finalize(self, _free_all, llama, self._batch, self._context, self._model)

    def new_sequence(self) -> int:
        """An empty sequence. Raises MemoryError if all are taken."""
        self._sweep()
        if not self._free:
            raise MemoryError(f"all {SEQUENCES} sequences of llama.cpp are in use")
        return self._free.pop()

    def drop_sequence(self, sequence: int) -> None:
        """Give one back. May be called from any thread."""
        self._dropped.append(sequence)

    def forget(self, sequence: int, start: int = 0) -> None:
        """Everything of a sequence from ``start`` on."""
        self._llama.llama_memory_seq_rm(self._memory, sequence, start, -1)

    def share(self, source: int, target: int, start: int, stop: int) -> None:
        """The places ``start`` to ``stop`` of one sequence belong to another as well. Nothing is copied."""
        self._llama.llama_memory_seq_cp(self._memory, source, target, start, stop)

    def append(self, parts: Sequence[Append]) -> Floats:
        """One pass over the vectors of several sequences -> the logits behind the last of each, float32[parts, N].

        Raises MemoryError when no cells are left and E841 for any other failure; nothing is kept of what was given.
        """
        self._sweep()
        places = [(number, row) for number, part in enumerate(parts) for row in range(len(part.vectors))]
        logits = np.empty((len(parts), self.vocabulary), np.float32)
        try:
            for first in range(0, len(places), PASS_TOKENS):
                self._pass(parts, places[first : first + PASS_TOKENS], logits)
        except BaseException:
            for part in parts:
                self.forget(part.sequence, part.start)
            raise
        return logits

    def _pass(self, parts: Sequence[Append], places: Sequence[tuple[int, int]], logits: Floats) -> None:
        """At most `PASS_TOKENS` vectors; writes the rows of ``logits`` whose last vector is among them."""
        batch, llama = self._batch, self._llama
        vectors = np.ctypeslib.as_array(batch.embd, (PASS_TOKENS, self.width))
        wanted = []
        for index, (number, row) in enumerate(places):
            part = parts[number]
            vectors[index] = part.vectors[row]
            batch.pos[index] = part.start + row
            batch.n_seq_id[index] = 1
            batch.seq_id[index][0] = part.sequence
            last = row == len(part.vectors) - 1
            batch.logits[index] = last
            if last:
                wanted.append((index, number))
        batch.n_tokens = len(places)
        complaints()
        status = llama.llama_decode(self._context, batch)
        if status == 1:
            raise MemoryError(f"no free cells among the {self.cells} of llama.cpp's context")
        if status:
            tokens = sum(part.start + len(part.vectors) for part in parts)
            raise error("E841", status=status, tokens=tokens, reason=complaints())
        for index, number in wanted:
            found = llama.llama_get_logits_ith(self._context, index)
            logits[number] = np.ctypeslib.as_array(found, (self.vocabulary,))

    def _sweep(self) -> None:
        while self._dropped:
            sequence = self._dropped.popleft()
            self.forget(sequence)
            self._free.append(sequence)


def _free_all(llama: Any, batch: Any, context: Any, model: Any) -> None:
    llama.llama_batch_free(batch)
    llama.llama_free(context)
    llama.llama_model_free(model)
