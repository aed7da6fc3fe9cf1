"""What vLLM finds without vLLM being here: the entry point, the registration, and all that its Transformers backend
asks of a processor and a network."""

import sys
import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType

import pytest
import torch
from PIL import Image
from transformers import AutoModel, AutoProcessor

from tests.conftest import tiny_config
from xverse_v.engines import vllm_plugin
from xverse_v.inference.loading import resolve_model
from xverse_v.model import XverseVForConditionalGeneration, XverseVModel, XverseVProcessor

PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"
SIZES = [(224, 224), (640, 480), (480, 640), (1920, 1080), (100, 2000), (2000, 100), (337, 111), (1, 1), (10000, 10000)]


class Registry:
    """vLLM's, as far as a plug-in sees it."""

    def __init__(self):
        self.models = {}

    def register_model(self, architecture, model):
        self.models[architecture] = model


@pytest.fixture
def registry(monkeypatch):
    """A stand-in for vLLM with an empty registry."""
    module = ModuleType("vllm")
    module.ModelRegistry = Registry()
    monkeypatch.setitem(sys.modules, "vllm", module)
    return module.ModelRegistry


@pytest.fixture(scope="module")
def nano_processor():
    return XverseVProcessor.from_pretrained(resolve_model("nano"))


def test_the_entry_point_is_declared_and_names_the_function():
    entry = tomllib.loads(PYPROJECT.read_text())["project"]["entry-points"]["vllm.general_plugins"]
    assert EntryPoint("xverse_v", entry["xverse_v"], "vllm.general_plugins").load() is vllm_plugin.register


def test_registering_twice_is_registering_once(registry):
    vllm_plugin.register()
    vllm_plugin.register()
    assert registry.models == {XverseVForConditionalGeneration.__name__: vllm_plugin.MODEL_CLASS}


def test_the_class_it_names_is_there():
    module, name = vllm_plugin.MODEL_CLASS.split(":")
    source = Path(__file__).parents[2].joinpath(*module.split(".")).with_suffix(".py").read_text()
    assert f"\nclass {name}(" in source


def test_the_auto_classes_build_what_vllm_asks_for():
    """On the meta device, without a head, from the configuration alone; its parts are found by type."""
    with torch.device("meta"):
        model = AutoModel.from_config(tiny_config())
    assert type(model) is XverseVModel
    assert model.get_decoder() is model.language_model
    assert model.get_encoder(modality="image") is model.vision_tower
    assert model.config.get_text_config() is not model.config
    assert model.is_backend_compatible()
    assert {name.split(".")[0] for name, _ in model.named_parameters()} == {
        "vision_tower",
        "multi_modal_projector",
        "language_model",
    }
    assert any(key.startswith("language_model.layers") for key in model.tp_plan)


def test_image_features_are_one_row_of_image_tokens_a_view(tiny_model):
    views = torch.rand(3, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        features = tiny_model.model.get_image_features(views, return_dict=True).pooler_output
        alone = tiny_model.model.get_image_features(views[1:2], return_dict=True).pooler_output
    assert features.shape == (3, 256, tiny_model.config.text_config.hidden_size)
    assert torch.allclose(features[1:2], alone, atol=1e-5)


@pytest.mark.parametrize("orientation", ["release", "upright"])
@pytest.mark.parametrize("turned", [False, True], ids=["as stored", "turned by EXIF"])
def test_the_size_alone_tells_the_views_and_the_tokens(orientation, turned, nano_processor):
    """vLLM plans from the stored size, before anyone has opened or turned the image."""
    kind = type(nano_processor.image_processor)
    processor = kind.from_dict(nano_processor.image_processor.to_dict() | {"orientation": orientation})
    whole = XverseVProcessor(processor, nano_processor.tokenizer, patches_per_view=nano_processor.patches_per_view)
    counts = whole._get_num_multimodal_tokens(image_sizes=[(h, w) for w, h in SIZES[:-1]])
    for index, (width, height) in enumerate(SIZES[:-1]):
        image = Image.new("RGB", (width, height), "teal")
        if turned:
            image.getexif()[0x0112] = 6
        made = whole(images=image, text=whole.image_token)
        assert len(made["pixel_values"]) == counts["num_image_patches"][index]
        assert int((made["input_ids"] == whole.image_token_id).sum()) == counts["num_image_tokens"][index]


def test_settings_of_the_engine_reach_the_count(nano_processor):
    counts = nano_processor._get_num_multimodal_tokens(image_sizes=[(1080, 1920)], max_tiles=4)
    made = nano_processor(images=Image.new("RGB", (1920, 1080)), text="<|image|>", max_tiles=4)
    assert counts["num_image_patches"] == [len(made["pixel_values"])] == [5]


def test_the_largest_image_is_the_one_vllm_looks_for(nano_processor):
    """It halves a huge square as long as the count holds, so a square has to have the most views there are."""
    counts = nano_processor._get_num_multimodal_tokens(image_sizes=[(h, w) for w, h in SIZES])
    assert max(counts["num_image_tokens"]) == counts["num_image_tokens"][-1] == 10 * nano_processor.patches_per_view


def test_every_placeholder_says_what_it_became(nano_processor):
    """The offsets are vLLM's only way to know; a bare placeholder is one token, and so is each it becomes."""
    images = [Image.new("RGB", size) for size in ((448, 672), (224, 224))]
    text = nano_processor.image_token * 2
    made = nano_processor(images=images, text=text, return_text_replacement_offsets=True)
    (offsets,) = made["text_replacement_offsets"]
    assert [entry["type"] for entry in offsets] == ["image", "image"]
    for entry, views in zip(offsets, (7, 1), strict=True):
        ids = nano_processor.tokenizer.encode(entry["replacement"], add_special_tokens=False)
        assert ids == [nano_processor.image_token_id] * (views * nano_processor.patches_per_view)
    assert nano_processor.tokenizer.encode(nano_processor.image_token, add_special_tokens=False) == [
        nano_processor.image_token_id
    ]


def test_an_image_is_the_same_beside_any_other(nano_processor):
    """vLLM keeps processed images by their content."""
    images = [Image.linear_gradient("L").resize(size).convert("RGB") for size in ((448, 672), (224, 224))]
    both = nano_processor(images=images, text="<|image|><|image|>")["pixel_values"]
    alone = [nano_processor(images=image, text="<|image|>")["pixel_values"] for image in images]
    assert torch.equal(both, torch.cat(alone))


def test_nothing_is_handed_over_that_the_network_does_not_take(nano_processor):
    made = nano_processor(images=Image.new("RGB", (9, 9)), text="<|image|>")
    assert set(made) - {"mm_token_type_ids"} == {"input_ids", "attention_mask", "pixel_values"}


def test_patches_a_view_are_the_configuration_s(nano_processor):
    assistant_config = XverseVForConditionalGeneration.config_class.from_pretrained(resolve_model("nano"))
    assert nano_processor.patches_per_view == assistant_config.patches_per_view
    assert isinstance(AutoProcessor.from_pretrained(resolve_model("nano")), XverseVProcessor)
