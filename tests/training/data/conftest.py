"""Fixtures of the data room's tests."""

import pytest

from tests.training.data.builders import write_images
from tests.training.data.seeded import PICTURES


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("check")
    write_images(folder)
    write_images(folder / "sub", 1)
    for name, content in PICTURES.items():
        (folder / name).write_bytes(content)
    return folder
