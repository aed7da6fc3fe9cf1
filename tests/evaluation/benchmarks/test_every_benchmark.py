"""What holds for all benchmarks: found by name, described, read, asked, scored, under every profile."""

import pytest

from tests.evaluation import made
from tests.evaluation.reading import first, rows_of, scored
from tests.evaluation.stub_judge import StubJudge
from xverse_v.errors import XverseError
from xverse_v.evaluation.benchmarks import find, names
from xverse_v.evaluation.contract import PROFILES, REFUSED, ImageRef, Prediction
from xverse_v.evaluation.data_files import find_data

CARD = {
    "MMBench_DEV_EN",
    "MMBench_DEV_CN",
    "MMStar",
    "MMMU_DEV_VAL",
    "MathVista_MINI",
    "HallusionBench",
    "AI2D_TEST",
    "OCRBench",
    "SEEDBench_IMG",
    "LLaVABench",
    "ScienceQA_TEST",
    "OKVQA",
    "GQA",
    "VizWiz",
    "TextVQA_VAL",
}
HEADLINES = {"LLaVABench": "Relative score", "OCRBench": "Final Score"}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    return folder, made.write_all(folder)


def gold(name):
    """What a perfect model answers, given a row."""
    if name == "HallusionBench":
        return lambda row: f"{row.answers[0]}."
    if name == "MathVista_MINI":
        return lambda row: row.fields.get("answer_option") or row.answers[0]
    return lambda row: row.answers[0]


def echo(asked):
    """The model's answer, as a judge that extracts would give it back."""
    _, found, said = asked.prompt.partition("Model respone: ")
    return said.removesuffix("Extracted answer:") if found else asked.prompt.split("\n\n")[-2]


def judge_for(name):
    return StubJudge({"LLaVABench": "8 8\nequal", "MathVista_MINI": echo}.get(name, "Z"))


def test_all_of_the_card_are_there_and_found_whatever_the_case():
    assert set(names()) >= CARD | {"MMBench_TEST_CN_V11", "AI2D_TEST_NO_MASK", "ScienceQA_VAL", "GQA_TestDev_Balanced"}
    assert find("gqa") is find("GQA")
    assert find("ocrbench").name == "OCRBench"


def test_an_unknown_name_names_the_nearest():
    with pytest.raises(XverseError, match="MMStar") as caught:
        find("MMStars")
    assert caught.value.code == "E730"


@pytest.mark.parametrize("name", names())
def test_a_benchmark_describes_itself(name):
    benchmark = find(name)
    assert benchmark.name == name
    assert benchmark.source and benchmark.metric and benchmark.citation
    assert benchmark.judge in ("none", "optional", "required")
    published = name not in ("OKVQA", "GQA")
    assert bool(benchmark.md5) is published, "VLMEvalKit publishes a digest for each of its files"
    if published:
        assert benchmark.file == f"{name}.tsv"
        assert len(benchmark.md5) == 32 and set(benchmark.md5) <= set("0123456789abcdef")


def test_no_two_files_have_one_digest():
    digests = [find(name).md5 for name in names() if find(name).md5]
    assert len(set(digests)) == len(digests) == 25


@pytest.mark.parametrize("name", sorted(CARD))
def test_data_is_found_where_a_user_keeps_it(name, data):
    folder, files = data
    assert find_data(find(name), folder).path == files[name]


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("name", sorted(CARD))
def test_a_perfect_model_scores_everything(name, profile, data):
    _, files = data
    rows = rows_of(name, files[name], profile)
    assert rows
    verdicts, scores = scored(name, rows, gold(name), profile, judge_for(name))
    assert verdicts.keys() == {row.key for row in rows}
    for score in scores.values():
        assert score.profile == profile
        assert score.low <= score.value <= score.high
        assert score.rows > 0
    headline = first(scores)
    # Only what a profile's own rule makes impossible may keep a perfect answer from the full score.
    lost = {
        ("MathVista_MINI", "vlmevalkit"): 80,  # the list
        ("MathVista_MINI", "vlmevalkit-2024-04"): 80,
        ("MathVista_MINI", "release"): 80,
        ("MMStar", "vlmevalkit-2024-04"): 50,  # the option "None"
        ("MMStar", "release"): 50,
    }
    full = 3 if name == "OCRBench" else lost.get((name, profile), 100)
    assert headline.value == pytest.approx(full)
    assert headline.name.startswith(HEADLINES.get(name, headline.name))


@pytest.mark.parametrize("name", sorted(CARD))
def test_a_silent_model_scores_nothing(name, data):
    _, files = data
    rows = rows_of(name, files[name])
    if name == "LLaVABench":
        with pytest.raises(XverseError) as caught:
            scored(name, rows, lambda row: "")
        assert caught.value.code == "E733"
        return
    verdicts, scores = scored(name, rows, lambda row: "")
    assert first(scores).value == 0
    assert first(scores).low == 0 < first(scores).high
    assert first(scores).matcher == "exact" and first(scores).judge == ""
    assert not any(verdict.score for verdict in verdicts.values())


@pytest.mark.parametrize("name", sorted(CARD))
def test_refused_rows_are_counted_and_never_scored(name, data):
    _, files = data
    rows = rows_of(name, files[name])
    if name == "AI2D_TEST":
        rows = rows * 2
    pairs = [(row, Prediction(row.key, gold(name)(row))) for row in rows[:-1]]
    pairs.append((rows[-1], Prediction(rows[-1].key, "", REFUSED, {"error": {"code": "E501"}})))
    verdicts, scores = find(name).score(pairs, "vlmevalkit", judge_for(name))
    assert len(verdicts) == len(rows) - 1
    # The refused pass was the first of its question; the other one has nothing to be rotated from.
    assert scores[0].skipped == (2 if name.startswith("MMBench") else 1)


def test_nothing_to_score_is_an_error_and_no_number(data):
    _, files = data
    row = rows_of("MMStar", files["MMStar"])[0]
    with pytest.raises(XverseError) as caught:
        find("MMStar").score([(row, Prediction(row.key, "", REFUSED))], "vlmevalkit", None)
    assert caught.value.code == "E731"


@pytest.mark.parametrize("name", sorted(CARD))
def test_rows_of_a_table_hold_no_image_and_prompts_refer_to_one(name, data):
    _, files = data
    for row in rows_of(name, files[name]):
        prompt = find(name).prompt(row, "vlmevalkit")
        images = [part for part in prompt.parts if isinstance(part, ImageRef)]
        assert images and set(images) <= set(row.images)
        assert all(image.data is None for image in images)
        assert all(image.offset >= 0 or image.path.is_file() for image in images)
        assert prompt.system == ""
        assert prompt == find(name).prompt(row, "vlmevalkit"), "the prompt of a row is always the same"
