"""What holds for every verb: fast help, errors as text and as JSON, exit codes, languages, global flags."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import xverse_v.cli as cli
from xverse_v.cli.version import nano_weights_id, versions
from xverse_v.errors import error

REPOSITORY = Path(__file__).parents[2]
VERBS = ["ask", "chat", "batch", "tiles", "convert", "inspect", "verify", "plan", "train", "export", "data", "explain"]


@pytest.fixture
def failing(monkeypatch):
    """Makes `explain` raise what a test wants."""

    def install(problem):
        def catalogue():
            raise problem

        monkeypatch.setattr("xverse_v.cli.explain.catalogue", catalogue)

    return install


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["ask", "--help"], ["batch", "--help"], ["explain"]])
def test_neither_help_nor_version_loads_torch(arguments):
    program = (
        "import sys; from xverse_v.cli import main; code = main(sys.argv[1:]);"
        "heavy = {'torch', 'transformers', 'PIL'} & sys.modules.keys();"
        "print(sorted(heavy), file=sys.stderr); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, cwd=REPOSITORY)
    assert (done.returncode, done.stderr.strip()) == (0, "[]")
    assert done.stdout.strip()


@pytest.mark.parametrize(("given", "wanted"), [(None, "1"), ("0", "0")])
def test_a_process_of_ours_has_memory_in_large_pages_unless_it_was_told(monkeypatch, given, wanted):
    monkeypatch.delenv(cli.LARGE_PAGES, raising=False)
    if given is not None:
        monkeypatch.setenv(cli.LARGE_PAGES, given)
    before = os.environ.get(cli.LARGE_PAGES)
    assert cli.main(["--version"]) == 0 and os.environ.get(cli.LARGE_PAGES) == before
    monkeypatch.setattr(sys, "argv", ["xverse-v", "--version"])
    try:
        assert cli.main() == 0 and os.environ[cli.LARGE_PAGES] == wanted
    finally:
        os.environ.pop(cli.LARGE_PAGES, None)


def test_no_argument_shows_what_there_is(run):
    shown = run()
    assert shown.code == 0
    assert all(f" {verb} " in shown.out for verb in VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help(run, verb):
    shown = run(verb, "--help")
    assert shown.code == 0
    assert f"xverse-v {verb}" in shown.out


@pytest.mark.parametrize("verb", ["ask", "chat", "batch", "explain"])
def test_help_teaches_by_examples(run, verb):
    lines = run(verb, "--help").out.split("\n")
    assert sum(f"xverse-v {verb}" in line or f"| xverse-v {verb}" in line for line in lines) >= 3


def test_version_tells_what_computes(run):
    shown = run("--version")
    assert shown.code == 0
    told = dict(line.split(" ", 1) for line in shown.out.splitlines())
    import torch
    import transformers

    assert told["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert told["transformers"] == transformers.__version__
    assert told["xverse-v"] == __import__("xverse_v").__version__
    assert set(told) == set(versions()) == {"xverse-v", "python", "torch", "transformers", "nano"}


def test_version_names_the_same_weights_as_loading_does():
    from importlib.resources import files

    from xverse_v.weights.load import weights_id

    folder = Path(str(files("xverse_v"))) / "nano" / "weights"
    assert nano_weights_id() == weights_id(folder)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["aks"], "Did you mean 'ask'"),
        (["ask", "--modle", "x", "What?"], "--model"),
        (["explain", "--jsno"], "--json"),
        (["ask"], "Missing argument"),
        (["ask", "What?", "--top-k", "many"], "many"),
        (["batch", "a", "b", "--on-bad-image", "shrug"], "shrug"),
    ],
)
def test_a_mistyped_command_exits_with_2_and_says_what_was_meant(run, arguments, told):
    shown = run(*arguments)
    assert shown.code == 2
    assert shown.err.startswith("E801 ")
    assert told in shown.err
    assert "--help" in shown.err.splitlines()[2]
    assert shown.out == ""


def test_our_errors_are_three_lines_on_stderr_with_their_exit_code(run, failing):
    failing(error("E822", path="out.jsonl"))
    shown = run("explain")
    assert shown.code == 1
    assert shown.out == ""
    assert shown.err.splitlines()[0] == "E822 Another run is writing to out.jsonl."
    assert len(shown.err.splitlines()) == 3


def test_json_puts_the_error_on_stdout_as_well(run, failing):
    failing(error("E827", path="a"))
    shown = run("explain", "--json")
    assert shown.code == 2
    told = json.loads(shown.out)
    assert set(told) == {"error"}
    assert (told["error"]["code"], told["error"]["name"]) == ("E827", "batch_same_file")


def test_json_covers_mistakes_on_the_command_line_too(run):
    assert json.loads(run("explain", "--json", "--nope").out)["error"]["code"] == "E801"


def test_what_we_did_not_foresee_is_called_our_bug(run, failing):
    failing(ZeroDivisionError("division by zero"))
    shown = run("explain")
    assert shown.code == 1
    assert "E800" in shown.err
    assert "ZeroDivisionError: division by zero" in shown.err
    assert "bug in xverse-v" in shown.err
    assert "Traceback" not in shown.err


@pytest.mark.parametrize("arguments", [["--debug", "explain"], ["explain", "--debug"]])
def test_debug_shows_the_traceback_wherever_it_stands(run, failing, arguments):
    failing(ZeroDivisionError("division by zero"))
    assert "Traceback" in run(*arguments).err


def test_ctrl_c_exits_with_130(run, failing):
    failing(KeyboardInterrupt())
    shown = run("explain")
    assert (shown.code, shown.out, shown.err) == (130, "", "")


@pytest.mark.parametrize("arguments", [["--lang", "zh", "explain", "E827"], ["explain", "E827", "--lang=zh"]])
def test_the_language_is_chosen_wherever_the_flag_stands(run, arguments):
    assert "同一个文件" in run(*arguments).out


def test_the_variable_chooses_the_language(run, monkeypatch):
    monkeypatch.setenv("XVERSE_V_LANG", "zh")
    assert "同一个文件" in run("explain", "E827").out


def test_an_unknown_language_is_refused(run):
    shown = run("--lang", "fr", "explain")
    assert (shown.code, shown.err[:4]) == (2, "E806")


def test_flags_behind_a_bare_double_dash_are_text():
    assert cli._global_flags_first(["ask", "--", "--debug"]) == ["ask", "--", "--debug"]
    assert cli._global_flags_first(["ask", "x", "--lang", "zh", "--json"]) == ["--lang", "zh", "ask", "x", "--json"]
    assert cli._global_flags_first(["ask", "--lang"]) == ["--lang", "ask"]


def test_a_reader_that_leaves_is_no_error_to_shout_about():
    program = "import sys; from xverse_v.cli import main; sys.exit(main(['explain']))"
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=REPOSITORY
    )
    process.stdout.close()
    said = process.stderr.read()
    process.stderr.close()
    assert process.wait() == 1
    assert said == ""


def test_the_module_is_the_command():
    done = subprocess.run([sys.executable, "-m", "xverse_v", "aks"], capture_output=True, text=True, cwd=REPOSITORY)
    assert done.returncode == 2
    assert "E801" in done.stderr
