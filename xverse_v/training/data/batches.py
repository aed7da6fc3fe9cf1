"""The batches of every optimizer step: a pure function of the data settings and the step's number.

What crosses: `DataConfig` and a processor in; for a step k, a rank and a world, `MicroBatch`es out. Samples of step
k are those at positions k * global_batch and following of the order (order.py); rank r of w takes every w-th of
them. So the union over ranks is the same for any world, a checkpoint's place in the data is its step number, and
nothing else is saved. Workers only prepare ahead; 0 or more of them give the same batches. This file refuses to know
the network and the loop.

Ranks may get different numbers of micro-batches, and some may hold no image: the loop evens both out.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from xverse_v.errors import XverseError
from xverse_v.media import DEFAULT_LIMITS, MediaLimits
from xverse_v.model.processing import XverseVProcessor

from .config import DataConfig
from .encode import Encoded, Encoder
from .order import Order
from .packing import MicroBatch, packed, padded
from .sample import Sample
from .sources import open_source
from .store import FeatureStore

__all__ = ["MicroBatch", "Skip", "StepData"]


@dataclass(frozen=True)
class Skip:
    """A sample that was left out because of a bad image, `on_bad_image="skip"`. `step` counts from 0."""

    step: int
    rank: int
    id: str
    place: str
    image: str
    code: str
    reason: str


class StepData:
    """Batches by step. Picklable; opens its files where it is used.

    cache: folder for indexes; None makes a temporary one that is gone with this object, so name one for large data.
    tower: `tower_hash` of the model, needed with `config.features`. skip_log: JSON lines, one for each skipped sample.
    Raises E200, E204 to E209 for the data, E214 and E216 for the store.
    """

    def __init__(
        self,
        config: DataConfig,
        processor: XverseVProcessor,
        *,
        cache: Path | None = None,
        tower: str | None = None,
        skip_log: Path | None = None,
        limits: MediaLimits = DEFAULT_LIMITS,
    ) -> None:
        self.config = config
        self.skipped = 0
        self._skip_log = skip_log
        self._own_cache = tempfile.TemporaryDirectory(prefix="xverse-v-index-") if cache is None else None
        folder = cache or Path(self._own_cache.name)  # type: ignore[union-attr]
        self.sources = [open_source(source, folder, config.pair_questions) for source in config.sources]
        weights = [source.weight for source in config.sources]
        self.order = Order([len(source) for source in self.sources], weights, config.seed, config.shuffle_window)
        store = None
        if config.features is not None:
            store = FeatureStore.open(config.features, processor, tower=tower, max_tiles=config.max_tiles)
        self.encoder = Encoder(
            processor,
            max_length=config.max_length,
            max_tiles=config.max_tiles,
            answer_tokens=config.answer_tokens,
            limits=limits,
            store=store,
        )
        self._ahead: tuple[tuple[int, int, int], Iterator[_Made]] | None = None

    def __getstate__(self) -> dict[str, Any]:
        # The temporary folder belongs to the process that made it.
        return self.__dict__ | {"_ahead": None, "_own_cache": None}

    @property
    def steps_per_pass(self) -> float:
        """Steps of one pass over the mixture; with weights of 1, of an epoch."""
        return self.order.per_pass / self.config.global_batch

    def samples_of_step(self, step: int) -> list[tuple[int, int]]:
        """(source, index) of each sample of a step's global batch, `step` from 0."""
        first = step * self.config.global_batch
        return [self.order.at(position) for position in range(first, first + self.config.global_batch)]

    def sample(self, source: int, index: int) -> Sample:
        """One sample. Raises E203."""
        return self.sources[source].sample(index)

    def micro_batches(self, step: int, rank: int = 0, world: int = 1) -> list[MicroBatch]:
        """This rank's share of a step; empty if the rank has no sample in it.

        Asked for steps in a row, workers prepare the next ones meanwhile; any other step starts afresh there. Raises
        E201 to E203, E213 (unless skipped), E215.
        """
        asked = (step, rank, world)
        if self._ahead is None or self._ahead[0] != asked:
            self._ahead = asked, iter(self._loader(step, rank, world))
        made = next(self._ahead[1])
        self._ahead = (step + 1, rank, world), self._ahead[1]
        if made.failure is not None:
            self._ahead = None
            raise made.failure
        self._log(made.skips)
        return made.batches

    def make(self, step: int, rank: int, world: int) -> tuple[list[MicroBatch], list[Skip]]:
        """`micro_batches` without workers and without the log."""
        encoded: list[Encoded] = []
        skips: list[Skip] = []
        for source, index in self.samples_of_step(step)[rank::world]:
            try:
                encoded.append(self.encoder.encode(self.sample(source, index)))
            except XverseError as problem:
                if problem.code != "E213" or self.config.on_bad_image == "fail":
                    raise
                facts = problem.facts
                skips.append(
                    Skip(step, rank, facts["id"], facts["place"], facts["image"], facts["media"], facts["reason"])
                )
        if self.config.packing:
            return packed(encoded, self.config.row_length), skips
        return padded(encoded, self.config.micro_batch, self.encoder.processor.tokenizer.pad_token_id or 0), skips

    def close(self) -> None:
        """Stops the workers."""
        self._ahead = None

    def _loader(self, step: int, rank: int, world: int) -> DataLoader[_Made]:
        workers = self.config.workers
        return DataLoader(
            _Steps(self, rank, world),
            sampler=_Onward(step),
            batch_size=None,
            num_workers=workers,
            prefetch_factor=self.config.prefetch if workers else None,
            pin_memory=torch.cuda.is_available(),
            # Its own generator: making an iterator draws a number, and must not change the training's random state.
            generator=torch.Generator(),
        )

    def _log(self, skips: list[Skip]) -> None:
        self.skipped += len(skips)
        if skips and self._skip_log is not None:
            self._skip_log.parent.mkdir(parents=True, exist_ok=True)
            with self._skip_log.open("a", encoding="utf-8") as file:
                for skip in skips:
                    file.write(json.dumps(asdict(skip), ensure_ascii=False) + "\n")


@dataclass
class _Made:
    """What a worker sends: a worker's exception would lose its code on the way, so it travels as a value."""

    batches: list[MicroBatch]
    skips: list[Skip]
    failure: XverseError | None = None

    def pin_memory(self) -> _Made:
        return _Made([batch.pin_memory() for batch in self.batches], self.skips, self.failure)


class _Steps(Dataset[_Made]):
    def __init__(self, data: StepData, rank: int, world: int) -> None:
        self._data, self._rank, self._world = data, rank, world

    def __getitem__(self, step: int) -> _Made:
        try:
            return _Made(*self._data.make(step, self._rank, self._world))
        except XverseError as failure:
            return _Made([], [], failure)


class _Onward(Sampler[int]):
    """Step numbers from `first` on, without end."""

    def __init__(self, first: int) -> None:
        self._first = first

    def __iter__(self) -> Iterator[int]:
        step = self._first
        while True:
            yield step
            step += 1
