"""Tar shards and parquet files: random access, every dialect, and what is damaged."""

import json
import os
import pickle
import subprocess
import sys
import tarfile

import pytest

from tests.conftest import made_image
from tests.training.data.builders import image_bytes, pair_members, write_tar
from tests.training.data.reading import opened, summary
from xverse_v.errors import XverseError
from xverse_v.training.data.sample import text_of

# Tar ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_tar_shards_are_random_access_in_every_dialect(format, tmp_path):
    long = "folder-" + "x" * 120 + "/"
    for shard in range(3):
        members = [(long + name if shard == 1 and format != tarfile.USTAR_FORMAT else name, content)
                   for name, content in pair_members(4, first=4 * shard)]  # fmt: skip
        write_tar(tmp_path / f"shard-{shard:03}.tar", members, format)
    source = opened(tmp_path / "shard-{000..002}.tar", tmp_path / "cache")
    assert len(source) == 12
    for index in (11, 0, 5):
        sample = source.sample(index)
        assert text_of(sample.messages[1]) == f"caption {index}"
        assert sample.id.endswith(f"pairs/{index:05}")
        assert (
            sample.images[0].open().tobytes() == made_image("wave", *sample.images[0].open().size, seed=index).tobytes()
        )
    assert [
        opened(tmp_path / pattern, tmp_path / "cache").sample(7) == source.sample(7) for pattern in ("", "*.tar")
    ] == [
        True,
        True,
    ]


def test_a_json_member_is_a_caption_or_a_conversation(tmp_path):
    picture = image_bytes(made_image("wave", 30, 30, 1), "JPEG")
    talk = [{"from": "human", "value": "<image>\nhi"}, {"from": "gpt", "value": "yes"}]
    members = [
        ("a.json", json.dumps({"caption": "from json", "width": 30, "image": "http://elsewhere/x.jpg"}).encode()),
        ("a.jpg", picture),
        ("b.jpg", picture),
        ("b.json", json.dumps({"conversations": talk}).encode()),
        ("c.webp", image_bytes(made_image("wave", 30, 30, 2), "WEBP")),
        ("c.txt", "中文描述\n".encode()),
    ]
    source = opened(write_tar(tmp_path / "s.bin", members), tmp_path / "cache")  # the name says nothing
    assert [summary(source.sample(i))[-1][2] for i in range(3)] == ["from json", "yes", "中文描述"]
    assert [len(source.sample(i).images) for i in range(3)] == [1, 1, 1]


def test_a_tar_cut_short_is_an_error_with_its_place(tmp_path):
    path = write_tar(tmp_path / "s.tar", pair_members(3))
    raw = path.read_bytes()
    path.write_bytes(raw[: raw.index(b"caption 2") - 900])
    with pytest.raises(XverseError) as caught:
        opened(path, tmp_path / "cache")
    assert caught.value.code == "E207"


def test_an_interrupted_index_leaves_nothing_behind(tmp_path):
    path = write_tar(tmp_path / "s.tar", pair_members(3))
    path.write_bytes(path.read_bytes()[:1200])
    with pytest.raises(XverseError):
        opened(path, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


# Parquet --------------------------------------------------------------------------------------------------------------


def parquet_file(path, rows, group=2):
    import pyarrow as arrow
    from pyarrow import parquet

    parquet.write_table(arrow.Table.from_pylist(rows), path, row_group_size=group)
    return path


def test_parquet_pairs_and_question_lists(tmp_path):
    pictures = [image_bytes(made_image("wave", 30 + i, 30, i)) for i in range(5)]
    pairs = [{"image": {"bytes": data, "path": None}, "text": f"t{i}"} for i, data in enumerate(pictures)]
    source = opened(parquet_file(tmp_path / "pairs.bin", pairs), tmp_path / "cache")
    assert [summary(source.sample(i))[1][2] for i in (4, 0, 3)] == ["t4", "t0", "t3"]
    assert source.sample(4).images[0].open().size == (34, 30)
    assert pickle.loads(pickle.dumps(source)).sample(2) == source.sample(2)
    texts = [{"user": "q1", "assistant": "a1", "source": "s"}, {"user": "q2", "assistant": "a2", "source": "s"}]
    lists = [{"images": [{"bytes": pictures[0], "path": None}], "texts": texts}]
    sample = opened(parquet_file(tmp_path / "lists.bin", lists), tmp_path / "cache").sample(0)
    assert summary(sample) == [("user", 1, "q1"), ("assistant", 0, "a1"), ("user", 0, "q2"), ("assistant", 0, "a2")]


def test_without_pyarrow_the_error_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    (tmp_path / "x").write_bytes(b"PAR1" + bytes(20))
    with pytest.raises(XverseError) as caught:
        opened(tmp_path / "x", tmp_path / "cache")
    assert caught.value.code == "E208"
    assert "xverse-v[train]" in caught.value.text("en")


def test_a_damaged_parquet_file_is_an_error(tmp_path):
    (tmp_path / "x").write_bytes(b"PAR1" + bytes(20))
    with pytest.raises(XverseError) as caught:
        opened(tmp_path / "x", tmp_path / "cache")
    assert caught.value.code == "E209"


def test_importing_sources_does_not_need_pyarrow():
    code = "import sys; sys.modules['pyarrow'] = None; import xverse_v.training.data.batches"
    assert subprocess.run([sys.executable, "-c", code], env=os.environ, check=False).returncode == 0
