"""`data check --fix`: a clean copy, every change listed, and nothing overwritten."""

import json

import pytest

from tests.training.data.builders import llava_rows, pair_members, write_json, write_jsonl, write_tar
from tests.training.data.seeded import (
    ALSO,
    DEFECTS,
    LINE,
    asked,
    clean_rows,
    gpt,
    human,
    seeded,
    settings,
    talk,
    with_image,
)
from xverse_v.errors import XverseError
from xverse_v.training.data.check import check
from xverse_v.training.data.findings import finding_texts
from xverse_v.training.data.fix import fix

MENDED = {
    "blank line", "misspelt image", "misspelt conversations", "answer ends in a space", "unanswered last",
    "images is a string", "no mark", "mark inside", "backslashes",
}  # fmt: skip


@pytest.mark.parametrize("name", [name for name in DEFECTS if finding_texts()[DEFECTS[name][0]]["severity"] != "note"])
def test_a_fixed_copy_is_clean_and_every_change_is_listed(name, folder, processor, tmp_path):
    path = seeded(folder, name, folder / "tofix.jsonl")
    report = fix(path, tmp_path / "out.jsonl", settings(processor, image_root=folder))
    again = check([tmp_path / "out.jsonl"], settings(processor, image_root=folder))
    assert again.count("error") == 0
    before = [json.dumps(row, ensure_ascii=False) for row in clean_rows(folder)]
    after = (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()
    assert [row for number, row in enumerate(before, 1) if number != LINE] == [row for row in after if row in before]
    changes = [json.loads(line) for line in (tmp_path / "out.jsonl.changes.jsonl").read_text().splitlines()]
    assert {change["line"] for change in changes} <= {LINE}
    removed = [change for change in changes if change["action"] == "removed"]
    assert len(after) == report.kept == again.rows == 6 - bool(removed) - (name == "blank line")
    if name in MENDED:
        assert changes
        assert not removed
    errors = {finding_texts()[code]["severity"] for code in {DEFECTS[name][0], *ALSO.get(name, ())}}
    assert bool(changes) >= ("error" in errors)


def test_what_a_mend_makes(folder, processor, tmp_path):
    rows = [
        asked("What is in <image> here?", image="0.png") | {"id": "a"},
        asked("What?", image=["0.png", "1.png"]) | {"id": "b"},
        talk(human("q"), gpt("a\u200b \n"), human("last?")) | {"id": "c"},
        asked("plain", image="") | {"id": "d"},
        with_image(str(folder / "2.png")) | {"id": "e"},
        asked("Wh\x00at\ud83d?") | {"id": "f"},
    ]
    (folder / "mend.json").write_text(json.dumps(rows))
    fix(folder / "mend.json", tmp_path / "out.json", settings(processor, image_root=folder))
    made = json.loads((tmp_path / "out.json").read_text())
    assert [row["conversations"][0]["value"] for row in made] == [
        "<image>\nWhat is in here?", "<image>\n<image>\nWhat?", "q", "plain", "<image>\nWhat?", "What?",
    ]  # fmt: skip
    assert made[2]["conversations"][1:] == [gpt("a")]
    assert "image" not in made[3]
    assert made[4]["image"] == "2.png"


def test_fix_keeps_the_first_of_equal_rows_and_the_container(folder, processor, tmp_path):
    rows = [asked("q", answer="a") | {"id": str(n)} for n in (1, 2, 3)]
    report = fix(write_json(folder / "equal.json", rows, indent=1), tmp_path / "o.json", settings(processor))
    assert [row["id"] for row in json.loads((tmp_path / "o.json").read_text())] == ["1"]
    assert report.removed == {"D601": 2}


def test_fix_never_overwrites_and_refuses_tars(folder, processor, tmp_path):
    path = write_jsonl(folder / "a.jsonl", llava_rows(2))
    (tmp_path / "there").touch()
    for source, out, code in ((path, "there", "E219"), (write_tar(tmp_path / "x", pair_members(1)), "new", "E218")):
        with pytest.raises(XverseError) as caught:
            fix(source, tmp_path / out, settings(processor))
        assert caught.value.code == code
    assert not (tmp_path / "new").exists()


def test_a_fix_that_fails_leaves_nothing(folder, processor, tmp_path, monkeypatch):
    path = write_jsonl(folder / "a.jsonl", llava_rows(2))
    monkeypatch.setattr(
        "xverse_v.training.data.fix._write_copy", lambda *a: (_ for _ in ()).throw(OSError("disk full"))
    )
    with pytest.raises(OSError, match="disk full"):
        fix(path, tmp_path / "out", settings(processor))
    assert list(tmp_path.iterdir()) == []
