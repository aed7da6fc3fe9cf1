"""`batch` on the tiny model: the rows, the summary, what is refused, and that a resumed run equals one in one go."""

import json
import os
from pathlib import Path

import pytest
from PIL import Image

from xverse_v.cli.batch import LISTED, _scan

EXAMPLES = Path(__file__).parents[2] / "examples"
ROWS = 9


@pytest.fixture(scope="module", autouse=True)
def loaded_once(tiny_folder):
    from xverse_v.inference.loading import load

    patch = pytest.MonkeyPatch()
    assistant = load(tiny_folder, device="cpu")
    patch.setattr("xverse_v.inference.loading.load", lambda *arguments, **options: assistant)
    yield assistant
    patch.undo()


@pytest.fixture
def folder(tmp_path):
    """in.jsonl with nine questions about three images."""
    for number in range(3):
        Image.new("RGB", (40 + number, 40), (80 * number, 0, 0)).save(tmp_path / f"{number}.png")
    rows = [{"id": f"q{n}", "image": f"{n % 3}.png", "question": f"Question {n}?"} for n in range(ROWS)]
    write(tmp_path, rows)
    return tmp_path


def write(folder, rows):
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    (folder / "in.jsonl").write_text("".join(line + "\n" for line in lines))


@pytest.fixture
def batch(run, folder):
    """`batch(flags..., out="out.jsonl")`."""

    def call(*flags, out="out.jsonl"):
        return run("batch", folder / "in.jsonl", folder / out, "--max-new-tokens", "4", *flags)

    return call


def rows(folder, out="out.jsonl"):
    return {row["id"]: row for row in map(json.loads, (folder / out).read_text(encoding="utf-8").splitlines())}


def test_each_question_gets_the_answer_it_would_get_alone(batch, folder, loaded_once):
    shown = batch("--batch-size", "4")
    assert shown.code == 0
    found = rows(folder)
    assert len(found) == ROWS
    for n in range(ROWS):
        alone = loaded_once.ask(folder / f"{n % 3}.png", f"Question {n}?", max_new_tokens=4)
        assert found[f"q{n}"]["answer"] == alone.text
        assert found[f"q{n}"]["finish_reason"] == "length"
    assert f"{ROWS} rows, {ROWS} answered now" in shown.err
    assert shown.out == ""


def test_rows_do_not_depend_on_batch_size_or_interruption(batch, folder):
    batch("--batch-size", "1", out="single.jsonl")
    batch("--batch-size", "5", out="parts.jsonl")
    lines = (folder / "parts.jsonl").read_bytes().splitlines(keepends=True)
    (folder / "parts.jsonl").write_bytes(b"".join(lines[:4]) + lines[4][:30])
    resumed = batch("--batch-size", "5", out="parts.jsonl")
    assert "torn last line (30 bytes)" in resumed.err
    assert "5 answered now" in resumed.err
    assert set((folder / "parts.jsonl").read_bytes().splitlines()) == set(
        (folder / "single.jsonl").read_bytes().splitlines()
    )


def test_sampled_rows_do_not_depend_on_the_order_either(batch, folder):
    flags = ("--temperature", "5", "--seed", "1")
    batch(*flags, "--batch-size", "1", out="one.jsonl")
    lines = (folder / "one.jsonl").read_bytes().splitlines(keepends=True)
    (folder / "two.jsonl").write_bytes(b"".join(lines[::2]))
    batch(*flags, "--batch-size", "3", out="two.jsonl")
    assert rows(folder, "one.jsonl") == rows(folder, "two.jsonl")
    batch("--temperature", "5", "--seed", "2", out="three.jsonl")
    answers = [{row["answer"] for row in rows(folder, f"{name}.jsonl").values()} for name in ("one", "three")]
    assert answers[0] != answers[1]


def test_one_question_under_two_ids_is_drawn_twice(batch, folder):
    write(folder, [{"id": n, "image": "0.png", "question": "Same?"} for n in range(4)])
    batch("--temperature", "5")
    found = rows(folder)
    assert len({row["seed"] for row in found.values()}) == 4
    assert len({row["answer"] for row in found.values()}) > 1


def test_settings_are_never_mixed_in_one_file(batch, folder):
    batch()
    before = (folder / "out.jsonl").read_bytes()
    for flags in (["--temperature", "0.5"], ["--max-tiles", "1"], ["--system", "x"], ["--stop", "y"]):
        shown = batch(*flags)
        assert (shown.code, shown.err[:4]) == (2, "E821")
        assert flags[0].strip("-").replace("-", "_") in shown.err
    assert (folder / "out.jsonl").read_bytes() == before


def test_the_settings_are_kept_beside_the_answers(batch, folder, loaded_once):
    batch("--detail", "low")
    kept = json.loads((folder / "out.jsonl.settings.json").read_text())
    assert kept["max_tiles"] == 1
    assert kept["weights_id"] == loaded_once.engine.conditions.weights_id
    assert {"version", "dtype", "orientation", "temperature", "seed", "system"} <= set(kept)


def test_unusable_lines_are_counted_and_named(batch, folder):
    good = {"id": "a", "image": "0.png", "question": "What?"}
    write(folder, [good, good, "{", {"id": "b", "question": "x"}, {"id": "c", "images": [], "question": "Hi?", "x": 1}])
    shown = batch()
    assert (shown.code, shown.err[:4]) == (2, "E823")
    assert "3 of 5 lines" in shown.err
    assert "line 2 repeats the id of line 1" in shown.err
    assert "line 3 is not JSON" in shown.err
    assert not (folder / "out.jsonl").exists()

    shown = batch("--on-bad-line", "skip", "--json")
    told = json.loads(shown.out)
    assert (shown.code, told["rows"], told["answered"], told["unusable_lines"]) == (0, 2, 2, 3)
    assert [each["line"] for each in told["unusable"]] == [2, 3, 4]
    assert "x (1 of 2 lines)" in shown.err
    assert told["unused_fields"] == {"x": 1}


@pytest.mark.parametrize("language", ["en", "zh"])
def test_fields_of_every_line_are_named_once_and_calmly(language, tmp_path, monkeypatch, capsys):
    """Our own questions carry answers to compare with, as a user's file may: no numbers, nothing that sounds wrong."""
    monkeypatch.setenv("XVERSE_V_LANG", language)
    _scan(EXAMPLES / "questions.jsonl", tmp_path / "out.jsonl", "fail")
    (said,) = capsys.readouterr().err.splitlines()
    words = {
        "en": "Fields not used here (the id joins them to the answers)",
        "zh": "此处不用的字段（可凭 id 与回答对应）",
    }
    assert said.replace("：", ": ") == f"{words[language]}: answer, language, kind"


def test_a_field_of_some_lines_is_counted_and_said_first(batch, folder):
    """It may be a slip of the pen, like "sytem"; and a name is shown as text, whatever it does to a terminal."""
    slip = {"sytem\n\x1b": 1}
    plain = [{"id": n, "images": [], "question": "Hi?"} for n in (0, 1)]
    many = {f"extra_{n:02}": n for n in range(LISTED)}
    write(folder, [plain[0] | many, plain[1] | many | slip])
    shown = batch("--json")
    (line,) = [line for line in shown.err.splitlines() if "not used here" in line]
    assert "answers): sytem \ufffd (1 of 2 lines), extra_00, " in line
    assert line.endswith(", extra_18, and 1 more; --json lists them")
    assert json.loads(shown.out)["unused_fields"] == dict.fromkeys(many, 2) | slip


def test_a_bad_image_stops_the_run_or_is_written_down(batch, folder):
    (folder / "1.png").write_bytes(b"not an image")
    shown = batch("--json")
    assert shown.code == 1
    assert json.loads(shown.out)["error"]["code"] == "E825"
    assert "E521" in shown.err
    shown = batch("--on-bad-image", "skip", "--json")
    told = json.loads(shown.out)
    assert shown.code == 0
    assert sorted(each["id"] for each in told["skipped"]) == ["q1", "q4", "q7"]
    assert told["answered"] + told["answered_before"] == 6
    assert rows(folder)["q4"]["error"]["code"] == "E521"
    assert "skipped 'q1': E521" in shown.err


def test_a_question_too_long_for_the_model_is_a_row_that_fails(batch, folder):
    write(folder, [{"id": n, "image": "0.png", "question": "word " * (9000 if n == 1 else 1)} for n in range(3)])
    told = json.loads(batch("--on-bad-image", "skip", "--json").out)
    assert told["skipped"] == [{"id": 1, "code": "E120"}]
    assert told["answered"] == 2


def test_images_stay_below_their_root(batch, folder, run):
    outside = folder / "outside.png"
    Image.new("RGB", (5, 5)).save(outside)
    (folder / "root").mkdir()
    (folder / "root" / "link.png").symlink_to(outside)
    for name in ("../outside.png", str(outside), "link.png"):
        write(folder, [{"id": 1, "image": name, "question": "What?"}])
        shown = batch("--image-root", folder / "root")
        assert (shown.code, "E505" in shown.err) == (1, True)
    write(folder, [{"id": 1, "image": "outside.png", "question": "What?"}])
    assert batch("--image-root", folder).code == 0
    assert batch("--image-root", folder / "nowhere").err[:4] == "E829"


def test_a_line_may_bring_its_own_system_text(batch, folder, loaded_once):
    write(
        folder, [{"id": n, "image": "0.png", "question": "What?", **({"system": "Own."} if n else {})} for n in (0, 1)]
    )
    batch("--system", "Common.")
    for n, system in enumerate(("Common.", "Own.")):
        alone = loaded_once.ask(folder / "0.png", "What?", system=system, max_new_tokens=4)
        assert rows(folder)[n]["answer"] == alone.text
        assert rows(folder)[n]["prompt_tokens"] == alone.receipt.prompt_tokens


def test_wrong_paths_are_refused_before_anything_is_loaded(batch, folder, run, monkeypatch):
    monkeypatch.setattr("xverse_v.cli.batch.load_with", lambda *arguments: pytest.fail("loaded"))
    assert run("batch", folder / "nothing.jsonl", folder / "out.jsonl").err[:4] == "E820"
    assert batch(out="in.jsonl").err[:4] == "E827"
    os.link(folder / "in.jsonl", folder / "same.jsonl")
    assert batch(out="same.jsonl").err[:4] == "E827"


def test_images_of_one_group_share_their_prefill(batch, folder, loaded_once):
    before = loaded_once.cache_stats()["prefix"]
    for number in range(3):
        Image.new("RGB", (60 + number, 40), (0, 80 * number, 9)).save(folder / f"{number}.png")
    batch("--batch-size", "1")
    after = loaded_once.cache_stats()["prefix"]
    assert after.misses - before.misses == 3
    assert after.hits - before.hits == ROWS - 3


def test_ctrl_c_keeps_what_was_answered(batch, folder, monkeypatch):
    from xverse_v.batch.asker import Asker

    real = Asker.answer

    def interrupted(self, questions):
        for count, outcome in enumerate(real(self, questions)):
            if count == 3:
                raise KeyboardInterrupt
            yield outcome

    monkeypatch.setattr(Asker, "answer", interrupted)
    shown = batch()
    assert shown.code == 130
    assert "goes on from here" in shown.err
    assert len(rows(folder)) == 3
