"""`data show` and the command line of the data verbs."""

import json

import pytest
from PIL import Image
from typer.testing import CliRunner

from tests.training.data.builders import llava_rows, nano_processor, write_images, write_json, write_jsonl
from xverse_v.cli.data import data
from xverse_v.errors import XverseError
from xverse_v.training.data.config import SourceConfig
from xverse_v.training.data.encode import Encoder
from xverse_v.training.data.show import decoded_pieces, show_sample
from xverse_v.training.data.sources import open_source


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    folder = tmp_path_factory.mktemp("show")
    return write_json(folder / "talk.json", llava_rows(5, write_images(folder)))


def run(*arguments):
    result = CliRunner().invoke(data, [str(argument) for argument in arguments])
    if isinstance(result.exception, XverseError):
        raise result.exception
    return result


def test_runs_cover_the_sample_and_say_what_is_learnt(path, processor, tmp_path):
    encoder = Encoder(processor, max_length=4096)
    sample = open_source(SourceConfig(path=path), tmp_path).sample(1)
    shown = show_sample(sample, encoder)
    encoded = encoder.encode(sample)
    assert [run.kind for run in shown.runs] == ["prompt", "image", "prompt", "supervised", "prompt", "supervised"]
    assert sum(run.tokens for run in shown.runs) == shown.tokens == len(encoded)
    assert shown.supervised == encoded.supervised
    assert shown.image_tokens == shown.runs[1].tokens == sum(shown.views) * 256
    assert shown.runs[0].text == "Human: "
    assert shown.runs[2].text.lstrip().startswith("What is number 1?\nAssistant:")
    assert shown.runs[3].text.strip() == "It is thing 1, very good.<|endoftext|>"


@pytest.mark.parametrize("text", ["a cat", "中文 𝄞 ☺ é", "word " * 100, "tail 中", "\n\n x"])
def test_pieces_join_to_the_whole_text(text, processor):
    for tokenizer in (processor.tokenizer, nano_processor().tokenizer):
        ids = tokenizer("Human: " + text)["input_ids"]
        assert "".join(decoded_pieces(tokenizer, ids)) == tokenizer.decode(ids)


def test_the_verb_show(path, tiny_folder):
    shown = json.loads(run("show", path, 2, "--model", tiny_folder, "--json").stdout)
    assert (shown["id"], shown["images"], shown["views"]) == ("s2", ["2.png"], [1])
    text = run("show", path, 2, "--model", tiny_folder).stdout
    assert "<|image|> x 256" in text
    assert "⟦" in text
    assert f"{shown['tokens']} tokens: 256 of images, {shown['supervised']} supervised" in text
    for number in (-1, 5):
        with pytest.raises(XverseError) as caught:
            run("show", path, "--model", tiny_folder, "--", number)
        assert caught.value.code == "E221"


def test_the_verb_check(path, tiny_folder, tmp_path):
    clean = run("check", path, "--model", tiny_folder)
    assert (clean.exit_code, "0 errors" in clean.stdout) == (0, True)
    rows = llava_rows(3)
    rows[1]["conversations"][1]["value"] = "\x1b[31mred\x1b[0m "
    rows[2]["conversations"] = []
    bad = write_jsonl(tmp_path / "bad.jsonl", rows)
    result = run("check", bad)
    assert result.exit_code == 1
    assert "bad.jsonl:3" in result.stdout
    assert "D115 no_turns" in result.stdout
    assert "\x1b[31m" not in result.stdout
    report = json.loads(run("check", bad, "--json").stdout)
    assert (report["rows"], report["errors"], report["counts"]["no_turns"]) == (3, 1, 1)
    assert run("check", bad, "--fix", tmp_path / "good.jsonl").exit_code == 1
    assert run("check", tmp_path / "good.jsonl").exit_code == 0
    assert (tmp_path / "good.jsonl.changes.jsonl").read_text().count("\n") == 3


def test_the_verb_check_against_a_benchmark(path, tmp_path):
    Image.open(path.parent / "1.png").save(tmp_path / "x.bmp")
    bench = write_json(tmp_path / "bench.json", [{"id": "b1", "image": "x.bmp", "question": "What is number 1?"}])
    report = json.loads(run("check", path, "--against", bench, "--json").stdout)
    assert report["counts"]["leaked_sample"] == 1
    with pytest.raises(XverseError):
        run("check", path, "--against", tmp_path / "none.tsv")


def test_the_verb_encode_says_the_space_and_makes_a_store(path, tiny_folder, tmp_path):
    result = run(
        "encode", path, "--model", tiny_folder, "--out", tmp_path / "store", "--max-tiles", 1, "--dtype", "float32"
    )
    assert result.exit_code == 0
    assert "3 images, about 3 views: 196.6 kB (exactly counted)" in result.stderr
    assert "3 images, 3 views, 0 bad images" in result.stdout
    header = json.loads(run("encode", path, "--model", tiny_folder, "--out", tmp_path / "store", "--max-tiles", 1,
                            "--dtype", "float32", "--json").stdout)  # fmt: skip
    assert (header["complete"], header["images"]) == (True, 3)
