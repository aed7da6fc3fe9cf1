"""llama.cpp's own vision code is only trusted when it computes what ours does; a known fault is told by its name.

Needs llama-cpp-python, which is compiled when it is installed; run by `make test-llamacpp`.
"""

import pytest
import torch

from xverse_v.engines.gguf.export import export_decoder, export_vision
from xverse_v.engines.llamacpp import probe
from xverse_v.engines.llamacpp.loading import load
from xverse_v.errors import XverseError
from xverse_v.inference.loading import resolve_model

pytestmark = pytest.mark.llamacpp


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Decoder and vision file of the built-in model."""
    folder = tmp_path_factory.mktemp("gguf")
    export_decoder(resolve_model("nano"), folder / "decoder.gguf")
    export_vision(resolve_model("nano"), folder / "vision.gguf")
    return folder / "decoder.gguf", folder / "vision.gguf"


def problem(work):
    with pytest.raises(XverseError) as caught:
        work()
    return caught.value


def test_this_build_is_told_to_be_right_or_to_have_the_known_fault(files):
    """Anything else, E843 above all, means that our vision file or our picture of the fault is wrong."""
    try:
        assert probe.check_vision(resolve_model("nano"), *files) >= probe.LEAST_COSINE
    except XverseError as refusal:
        assert refusal.code == "E842"
        assert float(refusal.facts["shifted"]) >= probe.LEAST_COSINE > float(refusal.facts["cosine"])


def test_what_comes_out_decides(files, monkeypatch):
    folder, (decoder, vision) = resolve_model("nano"), files
    assistant = load(folder, decoder)
    network, tiler = assistant.engine.model, assistant.prompts.processor.image_processor
    views = probe._views(tiler, probe._made_image(tiler.tile_size))
    with torch.inference_mode():
        ours = network.get_image_features(views, return_dict=True).pooler_output
        faulty = probe._with_class_token_behind(network, views)

    def given(tokens):
        monkeypatch.setattr(probe, "mtmd_image_tokens", lambda *arguments: tokens)
        return probe.check_vision(folder, decoder, vision)

    assert given(ours + 1e-4) > 0.9999
    assert problem(lambda: given(faulty)).code == "E842"
    assert problem(lambda: given(torch.roll(ours, 1, dims=1))).code == "E843"


def test_a_view_made_by_hand_is_the_tilers_own(files):
    from PIL import Image

    tiler = load("nano", files[0]).prompts.processor.image_processor
    pixels = probe._made_image(tiler.tile_size)
    inputs = tiler.preprocess([Image.fromarray(pixels)], return_tensors="pt")
    torch.testing.assert_close(probe._views(tiler, pixels), inputs["pixel_values"], rtol=0, atol=1e-5)


def test_files_that_cannot_be_loaded_are_named(files, tmp_path):
    decoder, vision = files
    (tmp_path / "cut.gguf").write_bytes(vision.read_bytes()[:2000])
    refusal = problem(lambda: probe.check_vision(resolve_model("nano"), decoder, tmp_path / "cut.gguf"))
    assert (refusal.code, refusal.facts["path"]) == ("E839", tmp_path / "cut.gguf")
