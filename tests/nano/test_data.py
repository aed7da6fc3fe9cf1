"""The training data as files: read back through the trainer's own doors, the same bytes every time."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from xverse_v.nano.ask import CAPTION
from xverse_v.nano.charts import Chart
from xverse_v.nano.data import (
    HELD_OUT,
    PAIR_MIX,
    TALK_MIX,
    _small_picture,
    conversation,
    write_conversations,
    write_shard,
)
from xverse_v.nano.detail import Board
from xverse_v.nano.world import split_seed
from xverse_v.training.config import read_config
from xverse_v.training.data.config import SourceConfig
from xverse_v.training.data.sample import text_of
from xverse_v.training.data.sources import open_source

RECIPES = Path(__file__).parents[2] / "recipes" / "nano"
PAIRS, TALKS = 2 * len(PAIR_MIX), len(TALK_MIX)


def in_order(function: Callable[[int], Any], numbers: range, chunk: int) -> Iterator[Any]:
    """What a crew of processes does, in this one."""
    return map(function, numbers)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_shard(folder, 0, PAIRS)
    write_conversations(folder, "conversations.json", range(TALKS), in_order)
    return folder


def is_chinese(text: str) -> bool:
    return bool(re.search("[\u4e00-\u9fff]", text))


def test_pairs_come_back_with_the_question_of_their_language(written: Path, tmp_path: Path) -> None:
    recipe = read_config(RECIPES / "pretrain.yaml").config.data
    assert set(recipe.pair_questions) == set(CAPTION.values())
    path = written / Path(recipe.sources[0].path).name
    source = open_source(SourceConfig(path=path, format="webdataset"), tmp_path, recipe.pair_questions)
    assert len(source) == PAIRS
    languages = []
    for index in range(PAIRS):
        sample = source.sample(index)
        question, answer = (text_of(message) for message in sample.messages)
        assert is_chinese(question) == is_chinese(answer), (question, answer)
        languages.append(is_chinese(answer))
        assert len(sample.images) == 1 and sample.images[0].open().size[0] >= 200
    assert sum(languages) == PAIRS / 2
    # Both languages meet every kind of picture.
    assert len({(languages[n], PAIR_MIX[n // 2 % len(PAIR_MIX)]) for n in range(PAIRS)}) == 2 * len(set(PAIR_MIX))


def test_conversations_come_back_with_their_images(written: Path, tmp_path: Path) -> None:
    source = open_source(SourceConfig(path=written / "conversations.json", format="llava"), tmp_path)
    assert len(source) == TALKS
    for number in range(TALKS):
        sample = source.sample(number)
        images, asked = conversation(number)
        assert len(sample.images) == len(images) == {"pair": 2, "talk": 0}.get(TALK_MIX[number], 1)
        assert len(sample.messages) == 2 * len(asked) >= 6
        for shown, stored in zip(sample.images, images, strict=True):
            assert isinstance(shown.source, str) and (written / shown.source).read_bytes() == stored
        texts = [text_of(message).strip() for message in sample.messages]
        assert texts == [text for qa in asked for text in (qa.question, qa.answer)]
    long = [[qa.kind in ("describe", "caption") for qa in conversation(number)[1]] for number in range(3 * TALKS)]
    assert any(any(row) for row in long) and all(row == sorted(row) for row in long)


def test_the_same_command_writes_the_same_bytes(written: Path, tmp_path: Path) -> None:
    write_shard(tmp_path, 0, PAIRS)
    write_conversations(tmp_path, "conversations.json", range(TALKS), in_order)
    files = sorted(path.relative_to(written) for path in written.rglob("*") if path.is_file())
    assert len(files) > 12
    assert all((tmp_path / name).read_bytes() == (written / name).read_bytes() for name in files)


def test_held_out_conversations_are_others_and_the_recipe_reads_these_files() -> None:
    assert HELD_OUT > 10**9 and conversation(HELD_OUT)[0] != conversation(0)[0]
    recipe = read_config(RECIPES / "finetune.yaml").config
    assert recipe.validation is not None
    names = [Path(s.path).name for s in (*recipe.data.sources, *recipe.validation.data.sources)]
    assert names == ["conversations.json", "held_out.json"]
    assert recipe.data.answer_tokens == recipe.validation.data.answer_tokens == "continued"


@pytest.mark.parametrize("number", [480, 1255, 1308, 1768, 2641, 3010, 3136])
def test_pictures_of_one_view_are_looked_for_inside_their_split(number: int) -> None:
    """Those that take the longest to find."""
    kind = PAIR_MIX[number // 2 % len(PAIR_MIX)]
    picture = _small_picture(kind, split_seed("pretrain", number))
    assert isinstance(picture, Board | Chart)
    assert split_seed("pretrain", 0) <= picture.seed <= split_seed("pretrain", 2**40 - 1)
