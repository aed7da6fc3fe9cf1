"""The names of the peers, and llama.cpp among them.

In: a name, our network, its processor. Out: a `Way` (`peers`). Nothing is timed here.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

from xverse_v.errors import error
from xverse_v.model import XverseVForConditionalGeneration, XverseVProcessor
from xverse_v.model.tiling import MAX_TILES
from xverse_v.speed.peers import Ours, Release, Stock, Way
from xverse_v.speed.sizes import write_folder

LLAMACPP = "llama.cpp"
_TEXT = 512  # tokens of question and answer beside the largest image


def llamacpp_way(network: XverseVForConditionalGeneration, processor: XverseVProcessor) -> Way:
    """The decoder in llama.cpp, with weights, keys and values in float32. Its sums run in another order, so over many
    tokens it may once choose another one, which is named and is no error.

    The weights are written to a temporary folder and to a GGUF file, both of which are gone from the disk once they
    are mapped. Raises E830 and E831 (the extra is missing) and E832 (a model that llama.cpp would not compute).
    """
    from xverse_v.engines.gguf.export import FOLDER, export_decoder
    from xverse_v.engines.llamacpp.loading import load

    with TemporaryDirectory() as place:
        folder = Path(place) / "model"
        (folder / FOLDER).mkdir(parents=True)
        write_folder(network, processor, folder)
        path = folder / FOLDER / "decoder-f32.gguf"
        export_decoder(folder, path, "f32")
        tokens = (MAX_TILES + 1) * processor.patches_per_view + _TEXT
        assistant = load(folder, path, context=tokens, cache=False, cache_type="F32", feature_cache_bytes=0)
    assistant.engine.stop_ids = frozenset()
    return Ours(assistant, name=LLAMACPP, note="decoder in llama.cpp, float32; tower and projector ours", exact=False)


def has_llamacpp() -> bool:
    """Whether `pip install "xverse-v[llamacpp]"` was done."""
    return find_spec("llama_cpp") is not None and find_spec("gguf") is not None


PEERS: dict[str, Callable[[XverseVForConditionalGeneration, XverseVProcessor], Way]] = {
    "release": Release,
    "transformers": Stock,
    "llamacpp": llamacpp_way,
}


def build_peer(name: str, network: XverseVForConditionalGeneration, processor: XverseVProcessor) -> Way:
    """Raises E811 for a name that is not a peer."""
    if name not in PEERS:
        raise error("E811", peer=name, known=", ".join(PEERS))
    return PEERS[name](network, processor)
