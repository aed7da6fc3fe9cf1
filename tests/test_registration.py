"""Both packages, in any order and from any entrance: the Auto classes know our model, and nothing is imported early."""

import subprocess
import sys

import pytest

KNOWN = """
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
assert CONFIG_MAPPING["xverse_v"].__name__ == "XverseVConfig"
from xverse_v.model import XverseVConfig
assert XverseVConfig in AutoModelForImageTextToText._model_mapping.keys()
"""


def run(code: str) -> None:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "entrance",
    [
        "import xverse_v",
        "import transformers, xverse_v",
        "from transformers import AutoConfig\nimport xverse_v",
        "import xverse_v\nfrom transformers import CLIPVisionConfig, LlamaConfig",
        "import xverse_v\nfrom transformers import CLIPVisionModel",
        "from transformers import CLIPVisionConfig\nimport xverse_v",
        "import xverse_v\nimport transformers.modeling_utils",
        "import xverse_v\nimport transformers.cache_utils",
        "import xverse_v.weights.settings",
        "import xverse_v.model",
    ],
)
def test_every_entrance_registers(entrance):
    run(entrance + KNOWN)


def test_importing_the_package_imports_neither_torch_nor_transformers():
    run("import sys, xverse_v, xverse_v.errors; assert not {'torch', 'transformers'} & set(sys.modules)")


def test_public_names_exist():
    run("import xverse_v; [getattr(xverse_v, name) for name in xverse_v.__all__]")


def test_an_unknown_name_is_an_attribute_error():
    run("import xverse_v\ntry: xverse_v.nothing\nexcept AttributeError: pass\nelse: raise SystemExit(1)")
