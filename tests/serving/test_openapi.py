"""Whatever our own description of the API allows, and much that it does not, no request makes the server fail."""

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import content_type_conformance, status_code_conformance

from tests.inference.small_model import small_assistant
from tests.serving.servers import local_backend, served, wait_until_ready
from xverse_v.inference.sampling import SamplingSettings
from xverse_v.serving.settings import Limits, ServeSettings

pytestmark = pytest.mark.slow
EXAMPLES = {"post": 40, "get": 5}
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance]


@pytest.fixture(scope="module")
def api():
    assistant = small_assistant(profiles={"demo": SamplingSettings(max_new_tokens=4)})
    server = ServeSettings(port=0, limits=Limits(answer_tokens=8))
    with served(local_backend(assistant, server), server) as url:
        wait_until_ready(url)
        yield schemathesis.openapi.from_url(f"{url}/openapi.json")


def test_all_routes_are_described(api):
    described = {(method.upper(), path) for path, methods in api.raw_schema["paths"].items() for method in methods}
    assert described == {
        ("POST", "/v1/chat/completions"),
        ("POST", "/v1/tiles"),
        ("GET", "/v1/models"),
        ("GET", "/v1/models/{model}"),
        ("GET", "/health"),
        ("GET", "/metrics"),
        ("GET", "/version"),
    }


RIGHT, WRONG = GenerationMode.POSITIVE, GenerationMode.NEGATIVE  # as described, and not as described


@pytest.mark.parametrize(
    ("method", "path", "mode"),
    [
        ("post", "/v1/chat/completions", RIGHT),
        ("post", "/v1/chat/completions", WRONG),
        ("post", "/v1/tiles", RIGHT),
        ("post", "/v1/tiles", WRONG),
        ("get", "/v1/models", RIGHT),
        ("get", "/v1/models/{model}", RIGHT),
        ("get", "/health", RIGHT),
        ("get", "/version", RIGHT),
    ],
)
def test_no_request_is_a_server_error(api, method, path, mode):
    operation = api[path][method]

    @given(case=operation.as_strategy(generation_mode=mode))
    @settings(max_examples=EXAMPLES[method], deadline=None, suppress_health_check=list(HealthCheck), database=None)
    def run(case):
        if path == "/v1/chat/completions" and mode is RIGHT and isinstance(case.body, dict):
            case.body["model"] = "nano"  # or every example would end at its name
        case.call_and_validate(checks=CHECKS, timeout=30)

    run()
