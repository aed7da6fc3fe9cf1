"""What a visit keeps, and that nothing of it stays behind."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from tests.inference.small_model import noise, small_assistant
from tests.serving.demo.demo_parts import upload
from xverse_v.errors import XverseError
from xverse_v.serving.demo import visits as module
from xverse_v.serving.demo.visits import Visits


@pytest.fixture
def visits(tmp_path):
    (tmp_path / "examples").mkdir()
    noise(20, 20, 9).save(tmp_path / "examples" / "one.png")
    return Visits(tmp_path, "en")


def files(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def test_the_end_of_a_visit_removes_its_uploads_and_copies(visits, tmp_path):
    visit = visits.of("a")
    path = upload(tmp_path, noise(40, 30, 1))
    assert visits.attach(visit, [path]) == []
    copy = visit.copy(small_assistant().prompts.prepare(visit.opened[path]))
    assert Path(copy).is_file() and len(files(tmp_path)) == 3
    visits.end("a")
    assert files(tmp_path) == ["examples/one.png"]
    assert not Path(copy).parent.exists() and not Path(path).parent.exists()


def test_two_visits_with_the_same_image_share_one_upload(visits, tmp_path):
    path = upload(tmp_path, noise(40, 30, 1))
    first, second = visits.of("a"), visits.of("b")
    visits.attach(first, [path])
    visits.attach(second, [path])
    visits.end("a")
    assert Path(path).exists()
    visits.end("b")
    assert not Path(path).exists()


def test_an_upload_that_is_no_image_is_refused_and_removed(visits, tmp_path):
    folder = tmp_path / ("0" * 64)
    folder.mkdir()
    (folder / "a.png").write_text("<svg onload=alert(1)>")
    visit = visits.of("a")
    problems = visits.attach(visit, [str(folder / "a.png")])
    assert len(problems) == 1 and problems[0].code.startswith("E52")
    assert not folder.exists() and not visit.opened
    again = visits.attach(visit, [str(folder / "a.png")])
    assert again == problems, "told twice by the box, it is the same refusal and not a missing file"


def test_a_file_that_is_done_with_outlives_the_preview_of_its_page_but_not_the_page(tmp_path, monkeypatch):
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    visits = Visits(tmp_path, "en", grace=30.0)
    first, second = visits.of("a"), visits.of("b")
    paths = [upload(tmp_path, noise(40, 30, number)) for number in range(3)]
    visits.attach(first, paths[:2])
    visits.attach(second, paths[2:])
    visits.drop_uploads(first, [Path(paths[0])])
    assert Path(paths[0]).exists() and not any(path == Path(paths[0]) for path in first.uploads)
    now = 129.0
    visits.drop_uploads(first, [Path(paths[1])])
    assert Path(paths[0]).exists()
    now = 131.0
    visits.drop_uploads(second, [Path(paths[2])])
    assert [Path(path).exists() for path in paths] == [False, True, True]
    first.opened.clear()  # the question is answered
    visits.attach(first, [upload(tmp_path, noise(40, 30, 1))])  # the same picture once more
    visits.drop_uploads(second, [])
    now = 200.0
    visits.drop_uploads(first, [])
    assert [Path(path).exists() for path in paths] == [False, True, False]
    visits.end("a")
    assert not Path(paths[1]).exists()


def test_only_files_of_the_demos_folder_are_opened(visits, tmp_path):
    outside = tmp_path.parent / "outside.png"
    noise(10, 10, 1).save(outside)
    link = tmp_path / "link.png"
    os.symlink(outside, link)
    visit = visits.of("a")
    for path in (str(outside), str(link), f"{tmp_path}/../outside.png", "http://127.0.0.1/a.png", "file:///etc/passwd"):
        problems = visits.attach(visit, [path])
        assert len(problems) == 1, path
    assert not visit.opened and outside.exists()
    missing = visits.attach(visit, [str(tmp_path / "x" / "gone.png")])
    assert missing[0].code == "E671"


def test_an_example_is_never_removed(visits, tmp_path):
    visit = visits.of("a")
    assert visits.attach(visit, [str(tmp_path / "examples" / "one.png")]) == []
    visits.drop_uploads(visit, [tmp_path / "examples" / "one.png"])
    visits.end("a")
    assert files(tmp_path) == ["examples/one.png"]


def test_uploads_of_pages_that_never_asked_are_swept(visits, tmp_path):
    orphan, fresh = upload(tmp_path, noise(9, 9, 1)), upload(tmp_path, noise(9, 9, 2))
    old = time.time() - 3600
    os.utime(Path(orphan).parent, (old, old))
    os.utime(tmp_path / "examples", (old, old))
    visits.of("a")
    visits.end("a")
    assert not Path(orphan).exists() and Path(fresh).exists() and (tmp_path / "examples" / "one.png").exists()


def test_copies_carry_nothing_but_pixels(visits, tmp_path):
    image = noise(2000, 700, 1)
    image.info["comment"] = b"secret place"
    visit = visits.of("a")
    copy = Path(visit.copy(small_assistant().prompts.prepare(image)))
    assert copy.suffix == ".jpg" and b"secret" not in copy.read_bytes()
    assert len(copy.parent.name) == 32, "its name must not be guessable"


def test_forgetting_keeps_the_visit(visits, tmp_path):
    visit = visits.of("a")
    visit.copy(small_assistant().prompts.prepare(noise(30, 30, 1)))
    visit.forget()
    assert visits.of("a") is visit and files(tmp_path) == ["examples/one.png"]
    assert Path(visit.copy(small_assistant().prompts.prepare(noise(30, 30, 1)))).is_file()


def test_visits_have_an_end(visits, monkeypatch, tmp_path):
    monkeypatch.setattr(module, "MOST_VISITS", 2)
    visits.of("a"), visits.of("b")
    with pytest.raises(XverseError, match="E672"):
        visits.of("c")
    visits.end("a")
    visits.of("c")
    visits.close()
    assert len(visits) == 0 and not tmp_path.exists()
