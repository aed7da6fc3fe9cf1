"""The release's two YAML files name the parts; a path that was never filled in is said with file, line and key."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.weights.tiny_parts import Parts
from xverse_v.errors import XverseError
from xverse_v.weights.release_yaml import MODEL_YAML, parts_from_yaml

ROOT = Path(__file__).parents[2]
SHIPPED = sorted((ROOT / "eval_configs").glob("*.yaml"))


@pytest.fixture
def project(parts: Parts, tmp_path: Path) -> Path:
    """A project with both YAML files filled in, the chat folder relative to its root. Returns the evaluation YAML."""
    (tmp_path / MODEL_YAML).parent.mkdir(parents=True)
    (tmp_path / MODEL_YAML).write_text(f'model:\n  arch: vxverse\n  llama_model: "./{parts.llm.name}"\n')
    evaluation = tmp_path / "eval_configs/vxverse_hd_benchmark_evaluation.yaml"
    evaluation.parent.mkdir()
    evaluation.write_text(
        "model:\n"
        "  arch: vxverse\n"
        f'  vit_path: "{parts.clip}"\n'
        f'  ckpt: "{parts.adapters}"\n'
        "  lora_r: 8\n"
        "  lora_alpha: 16\n"
        "  low_resource: True\n"
        "run:\n"
        "  save_path: 'Your dir to save results'\n"
    )
    return evaluation


def code_of(path: Path, **given: Path) -> XverseError:
    with pytest.raises(XverseError) as caught:
        parts_from_yaml(path, **given)
    return caught.value


def test_both_files_together_name_the_three_parts(project, parts):
    found = parts_from_yaml(project)
    assert (found.clip, found.adapters) == (parts.clip, parts.adapters)
    assert found.llm.samefile(parts.llm)
    assert (found.lora_rank, found.lora_alpha) == (8, 16.0)
    assert found.ignored == ["model.arch", "model.low_resource", "run.save_path"]


def test_a_part_that_is_given_is_not_read(project, parts, tmp_path):
    (tmp_path / MODEL_YAML).unlink()
    assert parts_from_yaml(project, llm=parts.llm).llm == parts.llm
    problem = code_of(project)
    assert problem.code == "E321" and "model.llama_model" in problem.text("en")


def test_the_evaluation_yaml_takes_precedence(project, tmp_path):
    other = shutil.copytree(tmp_path / "XVERSE-tiny-Chat", tmp_path / "other")
    project.write_text(project.read_text().replace("  lora_r", f'  llama_model: "{other}"\n  lora_r'))
    assert parts_from_yaml(project).llm == other


@pytest.mark.parametrize(
    "text",
    [
        "Your ckpt path",
        "/path/to/adapter_and_lora.bin",
        "path/to/file",
        "<ckpt>",
        "",
        "Your openai/clip-vit-large-patch14-224 path",
        "/your_path/model.bin",
    ],
)
def test_a_placeholder_is_named_with_file_line_and_key(text, project, parts):
    project.write_text(project.read_text().replace(str(parts.adapters), text))
    problem = code_of(project)
    assert (problem.code, problem.exit_code) == ("E320", 2)
    for language in ("en", "zh"):
        assert str(project) in problem.text(language) and "model.ckpt" in problem.text(language)
    assert "line 4" in problem.text("en") and text in problem.text("en")


def test_a_real_path_that_looks_like_a_placeholder_is_a_path(project, parts, tmp_path):
    real = tmp_path / "path/to"
    real.mkdir(parents=True)
    moved = parts.adapters.rename(real / "your adapters.bin")
    project.write_text(project.read_text().replace(str(parts.adapters), str(moved)))
    assert parts_from_yaml(project).adapters == moved


def test_a_hub_name_is_not_downloaded(project, parts):
    project.write_text(project.read_text().replace(str(parts.clip), "openai/clip-vit-large-patch14"))
    problem = code_of(project)
    assert problem.code == "E323" and "openai/clip-vit-large-patch14" in problem.text("en")


def test_a_missing_key_and_a_broken_file(project):
    text = project.read_text()
    project.write_text(text.replace("  ckpt:", "  checkpoint:"))
    assert code_of(project).code == "E321"
    project.write_text("model: [unclosed")
    assert code_of(project).code == "E317"
    project.write_text(text.replace("lora_alpha: 16", "lora_alpha: many"))
    assert code_of(project).code == "E317"
    assert code_of(project.parent / "elsewhere.yaml").code == "E300"


def test_a_rank_that_the_tensors_do_not_have_is_refused(project, parts, tmp_path):
    project.write_text(project.read_text().replace("lora_r: 8", "lora_r: 128"))
    with pytest.raises(XverseError) as caught:
        parts.convert(tmp_path / "out", lora_rank=parts_from_yaml(project).lora_rank)
    assert caught.value.code == "E315" and "rank 8" in caught.value.text("en")


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_the_shipped_files_ask_to_be_filled_in(path):
    problem = code_of(path)
    assert problem.code == "E320" and "model.vit_path" in problem.text("en")


def test_two_files_are_shipped():
    assert [path.name for path in SHIPPED] == ["vxverse_hd_benchmark_evaluation.yaml", "vxverse_xverse_hd_eval.yaml"]
