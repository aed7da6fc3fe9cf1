"""`xverse-v eval` from end to end with the built-in model: every benchmark, every verb, and the release's own lines."""

import json
import sys
from dataclasses import dataclass

import pytest
import yaml

from tests.conftest import TINY
from tests.evaluation import made
from tests.evaluation.scripted_endpoint import ScriptedEndpoint, answer
from xverse_v.cli import main

FIFTEEN = {
    "MMBench_DEV_EN": 9,
    "MMBench_DEV_CN": 9,
    "MMStar": 2,
    "MMMU_DEV_VAL": 4,
    "MathVista_MINI": 5,
    "HallusionBench": 4,
    "AI2D_TEST": 1,
    "OCRBench": 3,
    "SEEDBench_IMG": 2,
    "LLaVABench": 3,
    "ScienceQA_TEST": 2,
    "OKVQA": 2,
    "GQA": 3,
    "VizWiz": 3,
    "TextVQA_VAL": 3,
}


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str

    @property
    def document(self):
        return json.loads(self.out)


@pytest.fixture
def run(capsys, monkeypatch):
    monkeypatch.setenv("XVERSE_V_LANG", "en")
    monkeypatch.delenv("LMUData", raising=False)

    def call(*arguments):
        capsys.readouterr()
        code = main(["eval", *(str(argument) for argument in arguments)])
        written = capsys.readouterr()
        return Outcome(code, written.out, written.err)

    return call


@pytest.fixture(scope="module", autouse=True)
def loaded_once():
    """nano is read once for all tests of this file; nobody changes it."""
    from xverse_v.inference import loading

    patch = pytest.MonkeyPatch()
    assistant, real = loading.load("nano", device="cpu"), loading.load
    replaced = lambda model="nano", **options: assistant if model == "nano" else real(model, **options)  # noqa: E731
    patch.setattr(loading, "load", replaced)
    yield
    patch.undo()


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("LMUData")
    made.write_all(folder)
    return folder


@pytest.fixture
def gqa(data):
    return f"GQA={data / 'GQA' / 'testdev_balanced_questions.json'}"


def test_all_fifteen_with_nano_then_every_verb_on_what_they_left(run, data, tmp_path):
    work = tmp_path / "work"
    names = f"GQA={data / 'GQA' / 'testdev_balanced_questions.json'}," + ",".join(FIFTEEN.keys() - {"GQA"})
    options = ("--data-root", data, "--work-dir", work, "--max-new-tokens", 4, "--json")
    first = run("run", "--model", "nano", "--data", names, *options)
    assert first.code == 0, first.err
    runs = {document["benchmark"]: document for document in first.document["runs"]}
    assert {name: one["rows"] for name, one in runs.items()} == FIFTEEN
    assert all(one["answered"] == one["rows"] for one in runs.values())
    unscored = {name for name, one in runs.items() if one["scored"] is None}
    assert unscored == {"LLaVABench"}, "which has no score without a judge"
    assert runs["HallusionBench"]["left_out_rows"] == runs["ScienceQA_TEST"]["left_out_rows"] == 1

    again = run("run", "--model", "nano", "--data", names, *options, "--batch-size", 1)
    assert [one["answered"] for one in again.document["runs"]] == [0] * 15
    hashes = [[one["scored"] and one["scored"]["bundle"] for one in o.document["runs"]] for o in (first, again)]
    assert hashes[0] == hashes[1]

    verified = run("verify", work, "--json")
    assert verified.code == 0, verified.out
    assert len(verified.document["bundles"]) == 15
    difference = run("diff", work, work, "--json")
    assert [one["changed"] for one in difference.document["benchmarks"]] == [[]] * 15
    assert run("export", work, "--out", tmp_path / "out", "--format", "tsv").out.count(".tsv\n") == 15
    scores = run("score", work)
    assert scores.code == 0
    assert "LLaVABench: answers kept, no score" in scores.err
    report = run("report", work, "--out", tmp_path / "report", "--format", "text")
    assert report.code == 0, report.err
    assert "MMBench" in report.out


def test_any_batch_size_gives_the_same_bundle_with_the_real_model(run, gqa, tmp_path):
    bundles = set()
    for size in (1, 2, 8):
        done = run("run", "--data", gqa, "--work-dir", tmp_path / str(size), "--batch-size", size, "--json")
        bundles.add(done.document["runs"][0]["scored"]["bundle"])
    assert len(bundles) == 1


def test_an_endpoint_is_measured_and_a_judge_asked(run, data, tmp_path, monkeypatch):
    monkeypatch.setenv("TEST_KEY", "secret-key-1234")
    monkeypatch.setenv("OPENAI_API_KEY", "secret-key-1234")
    with (
        ScriptedEndpoint(default=answer("It is hard to say.")) as model,
        ScriptedEndpoint(default=answer("8 7")) as judge,
    ):
        done = run(
            *("run", "--model", f"{model.url}#closed-1", "--data", "LLaVABench", "--data-root", data),
            *("--work-dir", tmp_path, "--judge-url", judge.url, "--judge-model", "grader"),
            *("--judge-key-variable", "TEST_KEY", "--judge-price", "1000000,0", "--json"),
        )
        assert done.code == 0, done.err
        scored = done.document["runs"][0]["scored"]
        assert (scored["model"], scored["judge"]) == ("closed-1", "grader")
        assert scored["scores"][0]["value"] == pytest.approx(87.5)
        assert len(judge.bodies) == 3
        assert done.document["judge"]["usage"]["asked"] == 3
        assert done.document["judge"]["usage"]["money"] == 3 * 7
        again = run("score", tmp_path, "--judge-url", judge.url, "--judge-model", "grader")
        assert "0 asked, 3 read from before" in again.err
    assert run("verify", tmp_path).code == 0, "neither endpoint is there any more"
    kept = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert b"secret-key-1234" not in kept
    assert "secret-key-1234" not in done.out + done.err


def test_first_and_last_line_say_what_is_bad(run, data, tmp_path):
    rows = [{"index": 1, "image": made.base64_image(), "question": "q", "A": "a", "B": "b", "answer": "A"}]
    rows += [{**rows[0]}, {**rows[0], "index": 2, "image": "!" * 80}, {**rows[0], "index": 3, "answer": ""}]
    path = made.choices(tmp_path / "own.tsv", rows)
    done = run("run", "--data", path, "--work-dir", tmp_path / "work", "--max-new-tokens", 2)
    assert done.code == 0, done.err
    first, *_, last = done.err.strip().splitlines()
    assert "2 rows to ask" in first and "2 bad rows (E712: 1, E735: 1; 1, 3)" in first
    assert "1 of 2 rows answered, 3 bad rows (E712: 1, E715: 1, E735: 1" in last
    assert "bundle " in last


def test_another_md5_is_said_and_with_strict_md5_refused(run, data, tmp_path):
    asked = ("run", "--data", "AI2D_TEST", "--data-root", data, "--work-dir", tmp_path, "--max-new-tokens", 2)
    assert "is not the known 0f593e0d1c7df9a3d69bf1f947e71975" in run(*asked).err
    refused = run(*asked, "--strict-md5")
    assert (refused.code, refused.err[:4]) == (1, "E702")


def test_a_forged_bundle_has_exit_code_one(run, gqa, tmp_path):
    run("run", "--data", gqa, "--work-dir", tmp_path)
    (path,) = tmp_path.rglob("predictions.jsonl")
    path.write_text(path.read_text().replace('"text":"', '"text":"x', 1))
    shown, as_json = run("verify", tmp_path), run("verify", tmp_path, "--json")
    assert (shown.code, as_json.code) == (1, 1)
    assert "E725" in shown.err
    assert as_json.document["bundles"][0]["holds"] is False


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("run", "--data", "nope", "--work-dir", "w"), 2, "E730"),
        (("run", "--data", "GQA", "--work-dir", "w", "--data-root", "/nowhere"), 2, "E701"),
        (("run", "--data", "GQA", "--work-dir", "w", "--judge-url", "http://x/v1"), 2, "--judge-model"),
        (("score", "/nowhere"), 1, "E724"),
        (("diff", "/nowhere", "/nowhere"), 1, "E724"),
        (("verify", "/nowhere"), 1, "E724"),
    ],
)
def test_mistakes_have_codes(run, arguments, code, said):
    done = run(*arguments)
    assert said in done.err
    assert done.code == code


def test_the_list_names_all_fifteen_and_what_is_there(run, data):
    listed = run("list", "--data-root", data, "--json").document["benchmarks"]
    found = {row["name"] for row in listed if row["found"] == "yes"}
    assert set(FIFTEEN) <= found
    assert all(row["source"] and row["metric"] for row in listed)
    assert "MMStar.tsv" in run("list", "--data-root", data).out


@pytest.fixture
def project(tmp_path):
    """A project folder as the release has it: two YAML files, GQA and OKVQA, text questions."""
    made.gqa(tmp_path / "gqa")
    made.okvqa(tmp_path / "okvqa")
    lines = [{"id": 7, "turns": ["Hello?", "What else?"]}, {"question": "What is red?"}]
    (tmp_path / "chat.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    numbers = {"max_new_tokens": 4, "batch_size": 5}
    gqa = {"eval_file_path": "gqa/testdev_balanced_questions.json", "img_path": "gqa/images", **numbers}
    okvqa = {"eval_file_path": "okvqa", "img_path": "okvqa/val2014", **numbers}
    document = {
        "model": {
            "vit_path": str(TINY / "clip-vit-tiny-patch14"),
            "ckpt": str(TINY / "adapter_and_lora.bin"),
            "lora_r": 8,
            "lora_alpha": 16,
        },
        "evaluation_datasets": {"gqa": gqa, "okvqa": okvqa, "chat": {"eval_file_path": "chat.jsonl", **numbers}},
        "run": {"save_path": "results"},
    }
    (tmp_path / "eval_configs").mkdir()
    path = tmp_path / "eval_configs" / "evaluation.yaml"
    path.write_text(yaml.safe_dump(document))
    chat = {"model": {"llama_model": str(TINY / "XVERSE-tiny-Chat")}}
    model_yaml = tmp_path / "vxverse" / "configs" / "models" / "vxverse_13bchat.yaml"
    model_yaml.parent.mkdir(parents=True)
    model_yaml.write_text(yaml.safe_dump(chat))
    return path


def test_the_releases_line_makes_the_model_of_its_parts_and_scores_both_sets(run, project, tmp_path):
    model = tmp_path / "model"
    done = run("release", "--cfg-path", project, "--dataset", "gqa,okvqa", "--out", model, "--json")
    assert done.code == 0, done.err
    assert (model / "manifest.json").is_file()
    scored = [one["scored"] for one in done.document["runs"]]
    assert [one["scores"][0]["name"] for one in scored] == ["Substring (release)", "Overall"]
    assert {one["profile"] for one in scored} == {"release"}
    answers = [json.loads(line) for line in (tmp_path / "results" / "okvqa.jsonl").read_text().splitlines()]
    assert [one["question_id"] for one in answers] == ["420", "421"]
    literal = "Answer the question with a single word or a short phrase simply. Question: What sport is 0?"
    assert answers[0]["Prompt"] == literal
    assert all(one["answer"] == one["answer"].lower() for one in answers)
    again = run("release", "--cfg-path", project, "--dataset", "okvqa", "--out", model, "--json")
    assert again.document["runs"][0]["answered"] == 0, "the model that was made is used again, and so are its answers"


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("eval_file_path", "/path/to/gqa_test.jsonl", "is still the placeholder"),
        ("img_path", "", "is still the placeholder"),
        ("eval_file_path", "gone.json", "there is nothing there"),
        ("eval_file_path", None, "is missing"),
        ("max_new_tokens", "many", "not a whole number"),
    ],
)
def test_what_is_wrong_with_the_yaml_is_named_by_line_and_key(run, project, key, value, said):
    document = yaml.safe_load(project.read_text())
    section = document["evaluation_datasets"]["gqa"]
    section.pop(key) if value is None else section.update({key: value})
    project.write_text(yaml.safe_dump(document))
    done = run("release", "--cfg-path", project, "--dataset", "gqa", "--model", "nano")
    assert done.code == 2
    assert done.err.startswith("E729")
    assert f"evaluation_datasets.gqa.{key}" in done.err
    assert said in done.err


def test_the_shipped_yaml_is_refused_at_its_first_placeholder(run):
    done = run("release", "--cfg-path", "eval_configs/vxverse_hd_benchmark_evaluation.yaml", "--dataset", "okvqa")
    assert (done.code, done.err[:4]) == (2, "E729")
    assert 'placeholder "/path/to/okvqa' in done.err


def test_text_conversations_are_answered_turn_by_turn_and_once(run, project, tmp_path):
    first = run("chat", "--cfg-path", project, "--model", "nano")
    assert first.code == 0, first.err
    written = (tmp_path / "results" / "chat.jsonl").read_bytes()
    rows = [json.loads(line) for line in written.splitlines()]
    assert [len(row["answers"]) for row in rows] == [2, 1]
    assert rows[0]["question_id"] == 7
    assert "2 of them before" in run("chat", "--cfg-path", project, "--model", "nano").out
    assert (tmp_path / "results" / "chat.jsonl").read_bytes() == written


@pytest.mark.parametrize("script", ["eval_vqa.py", "eval_chat.py"])
def test_the_scripts_at_the_root_are_the_same_verbs(script, monkeypatch, capsys):
    import runpy

    monkeypatch.setenv("XVERSE_V_LANG", "en")
    monkeypatch.setattr(sys, "argv", [script, "--cfg-path", "eval_configs/vxverse_hd_benchmark_evaluation.yaml"])
    with pytest.raises(SystemExit) as left:
        runpy.run_path(script, run_name="__main__")
    assert left.value.code == 2
    assert "E729" in capsys.readouterr().err
