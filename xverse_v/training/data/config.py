"""What to train on: the data section of a recipe.

What crosses: a mapping read from YAML in, frozen and checked settings out. Unknown keys are refused with the nearest
known one. Nothing is opened here.
"""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from xverse_v.errors import error

Format = Literal["auto-by-content", "llava", "sharegpt", "messages", "jsonl-pairs", "webdataset", "parquet"]
AnswerTokens = Literal["separate", "continued"]


class _Strict(BaseModel):
    """Frozen; an unknown key raises E210 and names the nearest known one."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown(cls, values: Any) -> Any:
        for key in values if isinstance(values, dict) else ():
            if key not in cls.model_fields:
                near = difflib.get_close_matches(str(key), cls.model_fields, n=1)
                known = ", ".join(cls.model_fields)
                raise error("E210", key=key, section=cls.__name__, near=near[0] if near else known, known=known)
        return values


class SourceConfig(_Strict):
    """One file, or a folder or glob of tar shards or parquet files."""

    path: Path = Field(description="A JSON or JSONL file; a tar shard or parquet file, a folder or a glob of them.")
    format: Format = Field("auto-by-content", description="auto-by-content looks at the first record, not at the name.")
    image_root: Path | None = Field(
        None, description="Where image paths start and must stay; default: the file's folder."
    )
    weight: float = Field(1.0, ge=0, description="Times a sample of this source is seen in one pass over the mixture.")


class DataConfig(_Strict):
    """The samples of every optimizer step follow from `sources`, `seed`, `shuffle_window` and the global batch
    alone."""

    sources: tuple[SourceConfig, ...] = Field(min_length=1, description="What is mixed.")
    seed: int = Field(0, description="Of the order of samples.")
    global_batch: int = Field(8, ge=1, description="Samples of one optimizer step, over all ranks and micro-batches.")
    micro_batch: int = Field(1, ge=1, description="Samples of a padded micro-batch; a packed one is always one row.")
    max_length: int = Field(
        8192, ge=1, description="Most tokens of a sample after expansion; a longer one is an error."
    )
    packing: bool = Field(True, description="Several samples share a row without seeing each other.")
    pack_length: int | None = Field(None, ge=1, description="Most tokens of a packed row; default: max_length.")
    shuffle_window: int | None = Field(
        None, ge=1, description="Shuffle blocks of this many neighbours, then inside a block; default: everything."
    )
    on_bad_image: Literal["fail", "skip"] = Field("fail", description="skip leaves the sample out and logs it.")
    max_tiles: int | None = Field(None, ge=1, description="Most tiles of an image; default: the model's.")
    pair_questions: tuple[str, ...] = Field(
        ("",), min_length=1, description="Questions put before captions of image-text pairs, taken in turn by sample."
    )
    answer_tokens: AnswerTokens = Field(
        "separate", description="How an answer's first word is encoded after the prompt's last space; see encode.py."
    )
    features: Path | None = Field(
        None, description="A feature store made by `xverse-v data encode`; null runs the vision tower."
    )
    workers: int = Field(0, ge=0, description="Processes that decode ahead; 0 works in the training process.")
    prefetch: int = Field(2, ge=1, description="Steps each worker prepares ahead.")

    @model_validator(mode="after")
    def _check(self) -> DataConfig:
        if self.pack_length is not None and self.pack_length < self.max_length:
            raise error("E211", pack_length=self.pack_length, max_length=self.max_length)
        if not any(source.weight for source in self.sources):
            raise error("E212", count=len(self.sources))
        return self

    @property
    def row_length(self) -> int:
        """Most tokens of a packed row."""
        return self.pack_length or self.max_length
