"""Where data files are looked for, and what is said of one that is missing, damaged or of another version."""

import hashlib

import pytest

from tests.evaluation.made import base64_image, write_tsv
from xverse_v.errors import XverseError
from xverse_v.evaluation import benchmarks
from xverse_v.evaluation.data_files import data_root, describe, find_data
from xverse_v.evaluation.pick import find_for, tasks_of


@pytest.fixture(autouse=True)
def no_variable(monkeypatch):
    monkeypatch.delenv("LMUData", raising=False)


def test_the_root_is_the_flag_then_the_variable_then_home(tmp_path, monkeypatch):
    assert data_root().name == "LMUData"
    monkeypatch.setenv("LMUData", str(tmp_path))
    assert data_root() == tmp_path
    (tmp_path / "other").mkdir()
    assert data_root(tmp_path / "other") == tmp_path / "other"


def test_a_root_that_was_named_and_is_missing_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setenv("LMUData", str(tmp_path / "gone"))
    with pytest.raises(XverseError, match="E701") as caught:
        data_root()
    assert "LMUData" in str(caught.value)
    with pytest.raises(XverseError, match="E701"):
        data_root(tmp_path / "also gone")


def test_a_missing_file_says_what_it_is_and_where_it_belongs(tmp_path):
    benchmark = benchmarks.find("MMStar")
    with pytest.raises(XverseError, match="E700") as caught:
        find_data(benchmark, tmp_path)
    for said in ("MMStar.tsv", benchmark.md5, benchmark.source, str(tmp_path / "MMStar.tsv")):
        assert said in str(caught.value)


def test_digests_are_of_the_content(tmp_path):
    path = tmp_path / "a.tsv"
    path.write_bytes(b"content" * 1_000_000)
    found = describe(path)
    assert found.md5 == hashlib.md5(path.read_bytes()).hexdigest()
    assert found.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert found.as_dict()["path"] == "a.tsv", "no folder of this machine in a bundle"


def test_another_version_is_reported_and_with_strict_md5_refused(tmp_path):
    (tmp_path / "MMStar.tsv").write_text("index\timage\tquestion\n")
    (task,) = tasks_of(["MMStar"], "vlmevalkit", root=tmp_path)
    assert task.data.differs
    with pytest.raises(XverseError, match="E702"):
        tasks_of(["MMStar"], "vlmevalkit", root=tmp_path, strict_md5=True)


def test_a_folder_of_data_is_known_by_names_and_contents(tmp_path):
    for folder, names in (("one", "ab"), ("two", "ab"), ("three", "ba")):
        (tmp_path / folder).mkdir()
        for name, text in zip(names, ("[1]", "[2]"), strict=True):
            (tmp_path / folder / f"{name}.json").write_text(text)
    one, two, three = (describe(tmp_path / name).sha256 for name in ("one", "two", "three"))
    assert one == two != three


def test_every_missing_file_is_found_before_the_first_is_read(tmp_path, monkeypatch):
    (tmp_path / "MMStar.tsv").write_text("index\timage\tquestion\n")
    with pytest.raises(XverseError, match=r"AI2D_TEST\.tsv"):
        tasks_of(["MMStar", "AI2D_TEST"], "vlmevalkit", root=tmp_path)


def test_names_paths_and_tsv_files_of_ones_own(tmp_path):
    columns = ["index", "image", "question", "A", "B", "answer"]
    row = {"index": 1, "image": base64_image(), "question": "q", "A": "x", "B": "y", "answer": "A"}
    mine = write_tsv(tmp_path / "mine.tsv", columns, [row])
    plain = write_tsv(tmp_path / "plain.tsv", ["index", "image", "question", "answer"], [row])
    tasks = tasks_of(["mmstar=" + str(mine), "mine", str(plain), f"own={plain}"], "vlmevalkit", root=tmp_path)
    assert [(task.benchmark.name, task.custom) for task in tasks] == [
        ("MMStar", ""),
        ("mine", "choice"),
        ("plain", "answers"),
        ("own", "answers"),
    ]
    assert [task.data.known_md5 for task in tasks] == [""] * 4, "a path of one's own is no published file"
    for task in tasks:
        run = {"benchmark": task.benchmark.name, "custom": task.custom, "data": {"path": task.data.path.name}}
        assert type(find_for(run)) is type(task.benchmark)


def test_an_unknown_name_and_a_file_that_cannot_be_asked(tmp_path):
    with pytest.raises(XverseError, match="E730"):
        tasks_of(["MMStars"], "vlmevalkit", root=tmp_path)
    wrong = write_tsv(tmp_path / "wrong.tsv", ["index", "text"], [{"index": 1}])
    with pytest.raises(XverseError, match="E727") as caught:
        tasks_of([str(wrong)], "vlmevalkit", root=tmp_path)
    assert "question, image or image_path" in str(caught.value)
