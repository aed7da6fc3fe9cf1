"""Names the condition under which the walks use llama.cpp, so that its marker is known wherever these tests run."""

from __future__ import annotations

import pytest


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "llamacpp: needs llama-cpp-python; run by `make test-llamacpp`")
