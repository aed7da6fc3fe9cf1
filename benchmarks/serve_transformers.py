"""`transformers serve` with a model folder of ours, to be measured beside our server (serve_load.py --url).

    python benchmarks/serve_transformers.py FOLDER --port 8010

It serves only classes that transformers itself exports, so two private names are set first; a comparison may do that,
a product may not. It has no queue limit, no keys and no batching of image models: their requests run one after another.
"""

from __future__ import annotations

import argparse
import os


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--port", type=int, default=8010)
    given = parser.parse_args()
    os.environ["HF_HUB_OFFLINE"] = "1"

    import transformers
    from transformers.cli.serve import Serve
    from transformers.models.auto import modeling_auto

    from xverse_v.model import XverseVConfig, XverseVForConditionalGeneration

    name = XverseVForConditionalGeneration.__name__
    setattr(transformers, name, XverseVForConditionalGeneration)
    modeling_auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES[XverseVConfig.model_type] = name
    Serve(force_model=given.folder, host="127.0.0.1", port=given.port, device="cpu", dtype="float32")


if __name__ == "__main__":
    main()
