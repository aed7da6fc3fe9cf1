"""Models over HTTP: what is sent, what is kept, what stops a run."""

import base64
import io

import pytest
from PIL import Image

from tests.evaluation.scripted_endpoint import ScriptedEndpoint, answer, status
from xverse_v.errors import XverseError
from xverse_v.evaluation.contract import ImageRef, Prompt
from xverse_v.evaluation.models import ModelOptions, open_model
from xverse_v.evaluation.models.images import ImageRule


def encoded(kind, mode="RGB"):
    packed = io.BytesIO()
    Image.new(mode, (20, 10), 3).save(packed, kind)
    return packed.getvalue()


def model_of(server, **options):
    return open_model(f"{server.url}#gpt-9", ModelOptions(key_variable=None, attempts=1, **options))


def test_parts_keep_their_order_and_images_travel_as_they_are():
    jpeg = encoded("JPEG")
    prompt = Prompt(("left ", ImageRef(data=jpeg), "right"), system="be brief", max_new_tokens=11)
    with ScriptedEndpoint(default=answer(" a cat \n")) as server:
        model = model_of(server)
        (prediction,) = model.answers([("k", prompt)])
    system, user = server.bodies[0]["messages"]
    assert system == {"role": "system", "content": "be brief"}
    assert [part["type"] for part in user["content"]] == ["text", "image_url", "text"]
    url = user["content"][1]["image_url"]["url"]
    assert url == "data:image/jpeg;base64," + base64.b64encode(jpeg).decode()
    assert server.bodies[0]["max_tokens"] == 11 and server.bodies[0]["temperature"] == 0.0
    assert prediction.text == "a cat" and prediction.facts["served_model"] == "served-1"
    assert model.name == "gpt-9" and model.usage["prompt_tokens"] == 7


@pytest.mark.parametrize(("kind", "mode"), [("BMP", "RGB"), ("TIFF", "CMYK"), ("PNG", "LA")])
def test_formats_that_no_endpoint_reads_become_png(kind, mode):
    url = ImageRule().data_url(ImageRef(data=encoded(kind, mode)))
    image = Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2])))
    assert url.startswith("data:image/png;base64,") and image.size == (20, 10)


def test_a_prompt_without_images_is_one_string():
    with ScriptedEndpoint() as server:
        list(model_of(server).answers([("k", Prompt(("one", "two")))]))
    assert server.bodies[0]["messages"] == [{"role": "user", "content": "one\ntwo"}]


def test_many_rows_at_once_and_each_has_its_own_answer():
    with ScriptedEndpoint(default=lambda body: answer(body["messages"][0]["content"].upper())) as server:
        model = model_of(server, concurrency=5)
        found = {p.key: p.text for p in model.answers((f"k{n}", Prompt((f"q{n}",))) for n in range(23))}
    assert found == {f"k{n}": f"Q{n}" for n in range(23)}


def test_one_refused_row_is_recorded_and_the_rest_goes_on():
    def picky(body):
        return status(400, "too large") if "big" in str(body["messages"]) else answer("ok")

    with ScriptedEndpoint(default=picky) as server:
        found = {p.key: p for p in model_of(server).answers([(n, Prompt((n,))) for n in ("big", "b", "c")])}
    assert found["big"].finish_reason == "error" and "too large" in found["big"].facts["error"]["fact"]
    assert found["b"].text == found["c"].text == "ok"


def test_an_unreadable_image_is_the_rows_own_error():
    with ScriptedEndpoint() as server:
        (prediction,) = model_of(server).answers([("k", Prompt((ImageRef(data=b"GIF89a"), "?")))])
    assert prediction.finish_reason == "error" and server.bodies == []


@pytest.mark.parametrize(("reply", "code"), [(status(401), "E762"), (status(503), "E763")])
def test_a_wrong_key_or_a_dead_endpoint_stops_the_run(reply, code):
    with ScriptedEndpoint(default=reply) as server:
        with pytest.raises(XverseError, match=code):
            list(model_of(server, concurrency=2).answers((str(n), Prompt(("q",))) for n in range(50)))
        assert len(server.bodies) < 12


def test_rows_are_taken_from_the_stream_only_as_fast_as_they_are_answered():
    taken = []

    def rows():
        for number in range(1000):
            taken.append(number)
            yield str(number), Prompt(("q",))

    with ScriptedEndpoint() as server:
        stream = model_of(server, concurrency=3).answers(rows())
        for _ in range(5):
            next(stream)
        stream.close()
    assert len(taken) < 20
