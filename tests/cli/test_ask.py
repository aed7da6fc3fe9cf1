"""`ask` on the tiny model: what goes to stdout, what to stderr, and what is refused before anything is loaded."""

import json
import os
import signal

import pytest
from PIL import Image

from xverse_v.cli.ask import follow, remark
from xverse_v.cli.common import for_terminal, given_options


@pytest.fixture(scope="module", autouse=True)
def loaded_once(tiny_folder):
    """One loaded tiny model for all tests of the file, with its caches off so that tests do not meet in them."""
    from xverse_v.inference.loading import load

    patch = pytest.MonkeyPatch()
    assistant = load(tiny_folder, cache_bytes=0, feature_cache_bytes=0, device="cpu")
    patch.setattr("xverse_v.inference.loading.load", lambda *arguments, **options: assistant)
    yield assistant
    patch.undo()


def ask(run, *arguments, **options):
    return run("ask", *arguments, "--max-new-tokens", "5", **options)


def test_the_answer_alone_is_on_stdout(run, image, loaded_once):
    shown = ask(run, image, "What is it?")
    assert shown.code == 0
    assert shown.out == loaded_once.ask(str(image), "What is it?", max_new_tokens=5).text + "\n"
    assert "--max-new-tokens 10" in shown.err, "an answer cut short is said"


def test_text_alone_works(run, loaded_once):
    assert ask(run, "Hello?").out == loaded_once.ask("Hello?", max_new_tokens=5).text + "\n"


def test_several_images_work(run, image):
    told = json.loads(ask(run, image, image, "Same?", "--json", "--max-tiles", "1").out)
    assert len(told["receipt"]["images"]) == 2


def test_stdin_is_an_image(run, image):
    from_file = json.loads(ask(run, image, "What?", "--json").out)
    from_pipe = json.loads(ask(run, "-", "What?", "--json", stdin=image.read_bytes()).out)
    assert from_pipe["text"] == from_file["text"]
    assert from_pipe["receipt"]["images"] == from_file["receipt"]["images"]


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["{image}"], "E103"),
        (["{image}", "{image}"], "E103"),
        (["-"], "E103"),
        (["-", "-", "What?"], "E804"),
        (["-", "What?"], "E803"),
        (["missing.png", "What?"], "E500"),
        (["{image}", "What?", "--temperature", "-1"], "E101"),
        (["{image}", "What?", "--detail", "low", "--max-tiles", "4"], "E109"),
        (["{image}", "What?", "--max-tiles", "10"], "E112"),
    ],
)
def test_what_cannot_be_asked_is_refused(run, image, arguments, code):
    shown = ask(run, *[argument.format(image=image) for argument in arguments])
    assert shown.err[:4] == code
    assert shown.code in (1, 2)
    assert shown.out == ""


def test_a_forgotten_question_is_refused_before_the_model_is_loaded(run, image, monkeypatch):
    monkeypatch.setattr("xverse_v.cli.ask.load_with", lambda *arguments: pytest.fail("loaded"))
    assert run("ask", image).err[:4] == "E103"


def test_the_receipt_goes_to_stderr(run, image):
    plain, told = ask(run, image, "What?"), ask(run, image, "What?", "--receipt", "--seed", "3", "--temperature", "1")
    for fact in ("300x200", "views", "prompt", "cached", "milliseconds", "seed 3", "weights"):
        assert fact in told.err
        assert "receipt" not in plain.out
    assert "300x200" not in plain.err


def test_json_is_one_document_with_the_receipt(run, image):
    shown = ask(run, image, "What?", "--json", "--logprobs", "2", "--system", "Be brief.")
    told = json.loads(shown.out)
    assert told["finish_reason"] == "length"
    assert len(told["token_ids"]) == len(told["logprobs"]) == 5
    assert len(told["logprobs"][0]["top"]) == 2
    assert {"images", "prompt_tokens", "cached_tokens", "milliseconds", "seed", "weights_id"} <= set(told["receipt"])


def test_logprobs_are_listed_for_people(run):
    lines = ask(run, "Hello?", "--logprobs", "2").err.splitlines()
    assert sum(line.lstrip().startswith("'") for line in lines) == 5


def test_detail_low_is_the_global_view(run, image):
    Image.new("RGB", (900, 500), "red").save(image)
    low = json.loads(ask(run, image, "What?", "--json", "--detail", "low").out)
    high = json.loads(ask(run, image, "What?", "--json", "--detail", "high").out)
    assert low["receipt"]["images"][0]["views"] == 1
    assert high["receipt"]["images"][0]["views"] > 1


def test_the_same_seed_draws_the_same(run):
    drawn = [ask(run, "Hello?", "--temperature", "5", "--seed", seed).out for seed in ("1", "1", "2")]
    assert drawn[0] == drawn[1] != drawn[2]


def test_only_given_flags_replace_the_profile():
    assert given_options() == {}
    assert given_options(temperature=0.0, stop=["a", "b"], top_k=0) == {
        "temperature": 0.0,
        "stop": ("a", "b"),
        "top_k": 0,
    }


def test_a_model_cannot_send_escape_sequences_to_the_terminal():
    assert for_terminal("a\x1b[31mb\n\tc\x07红") == "a\ufffd[31mb\n\tc\ufffd红"


def test_ctrl_c_ends_the_answer_and_keeps_its_text(loaded_once, capsys):
    before = signal.getsignal(signal.SIGINT)
    stream = loaded_once.stream("Hello?", max_new_tokens=500)
    chunks = iter(stream)

    class Interrupted:
        answer = property(lambda self: stream.answer)
        cancel = stream.cancel

        def __iter__(self):
            for count, chunk in enumerate(chunks):
                if count == 3:
                    os.kill(os.getpid(), signal.SIGINT)
                yield chunk

    answer = follow(Interrupted(), live=True)
    assert answer.finish_reason == "cancelled"
    assert 3 <= len(answer.token_ids) <= 6
    remark(answer)
    shown = capsys.readouterr()
    assert shown.out == for_terminal(answer.text)
    assert "(stopped)" in shown.err
    assert signal.getsignal(signal.SIGINT) is before


def test_an_interrupted_ask_exits_with_130(run, monkeypatch, loaded_once):
    def cancelled_at_once(stream, *, live):
        stream.cancel()
        return stream.answer

    monkeypatch.setattr("xverse_v.cli.ask.follow", cancelled_at_once)
    assert run("ask", "Hello?").code == 130
