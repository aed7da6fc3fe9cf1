"""A source opened with a cache of its own, and a sample in short."""

from xverse_v.training.data.config import SourceConfig
from xverse_v.training.data.sample import text_of
from xverse_v.training.data.sources import open_source


def opened(path, cache, **settings):
    return open_source(SourceConfig(path=path, **settings), cache)


def summary(sample):
    return [(m["role"], sum(p["type"] == "image" for p in m["content"]), text_of(m)) for m in sample.messages]
