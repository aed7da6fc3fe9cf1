"""The loop: who is asked with whom, what happens to rows that fail, and what a second run does."""

import json

import pytest
from PIL import Image

from xverse_v.batch import InputIndex, OutputFile, run_batch
from xverse_v.errors import XverseError, error

SETTINGS = {"temperature": 0.0}


class World:
    """A folder with an input, a stand-in engine that echoes and remembers, and images as wide as their name."""

    def __init__(self, folder):
        self.input, self.output = folder / "in.jsonl", folder / "out.jsonl"
        self.asked, self.opened = [], []
        self.refused = set()

    def write(self, *rows):
        rows = [{"id": n, "image": "1", "question": f"q{n}"} | row for n, row in enumerate(rows)]
        self.input.write_text("".join(json.dumps(row) + "\n" for row in rows))

    def open(self, name):
        self.opened.append(name)
        if not name.isdigit():
            raise error("E829", path=name)
        return Image.new("RGB", (int(name), 1))

    def answer(self, questions):
        """Two at a time, the second of two first, as an engine does whose rows end when they end."""
        waiting = []
        for place, q in enumerate(questions):
            self.asked.append(q.id)
            fields = {"answer": f"{q.text} {[i.width for i in q.images]} {q.system}"}
            waiting.append((place, error("E827", path="refused") if q.id in self.refused else fields))
            if len(waiting) == 2:
                yield waiting.pop()
        yield from waiting

    def run(self, **options):
        options = {"answer": self.answer, "open_image": self.open} | options
        with OutputFile(self.output, SETTINGS) as output:
            return run_batch(InputIndex.scan(self.input), output, **options)

    def rows(self):
        return {row["id"]: row for row in map(json.loads, self.output.read_text().splitlines())}


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


def test_every_row_is_answered_with_its_own_images(world):
    world.write({"image": "3"}, {"image": "5", "system": "S"}, {"image": "3"})
    report = world.run()
    assert (report.rows, report.answered, report.done) == (3, 3, 3)
    assert {n: row["answer"] for n, row in world.rows().items()} == {0: "q0 [3] None", 1: "q1 [5] S", 2: "q2 [3] None"}
    assert world.asked == [0, 2, 1]
    assert world.opened == ["3", "5"]


def test_a_second_run_asks_nothing_and_adds_nothing(world):
    world.write({}, {}, {})
    world.run()
    before = world.output.read_bytes()
    report = world.run()
    assert (report.answered, report.answered_before) == (0, 3)
    assert world.asked == [0, 1, 2]
    assert world.output.read_bytes() == before


def test_new_lines_are_answered_and_old_ones_kept(world):
    world.write({}, {})
    world.run()
    world.write({}, {}, {"image": "9"})
    report = world.run()
    assert (report.answered, report.answered_before, report.elsewhere) == (1, 2, 0)
    world.write({})
    assert world.run().elsewhere == 2


def test_a_changed_question_under_an_answered_id_is_refused(world):
    world.write({}, {})
    world.run()
    world.write({}, {"question": "something else"})
    with pytest.raises(XverseError) as caught:
        world.run()
    assert caught.value.code == "E826"
    assert caught.value.facts["examples"] == "1"


def test_fail_stops_at_a_bad_image_and_keeps_what_was_answered(world):
    world.write({}, {"image": "bad"}, {"image": "2"}, {"image": "3"})
    with pytest.raises(XverseError) as caught:
        world.run()
    assert caught.value.code == "E825"
    assert (caught.value.facts["line"], caught.value.facts["id"], caught.value.facts["inner"]) == (2, 1, "E829")
    assert set(world.rows()) == {0}
    assert "3" not in world.opened, "nothing new is begun once it has to stop"


def test_skip_writes_counts_and_lists_bad_images(world):
    world.write({}, {"image": "bad"}, {"image": "bad"}, {"image": "3"})
    report = world.run(on_bad_image="skip")
    assert (report.answered, report.skipped, report.skips) == (2, 2, [(1, "E829"), (2, "E829")])
    assert world.rows()[1]["error"]["code"] == "E829"
    assert world.rows()[1]["error"]["name"] == "batch_image_root_missing"
    again = world.run(on_bad_image="skip")
    assert (again.skipped, again.skipped_before, again.answered_before) == (0, 2, 2)
    assert again.skips == [(1, "E829"), (2, "E829")]


def test_a_row_the_model_refuses_does_not_cost_its_neighbours(world):
    world.write({}, {}, {})
    world.refused = {1}
    report = world.run(on_bad_image="skip")
    assert (report.answered, report.skips) == (2, [(1, "E827")])
    assert world.rows()[2]["answer"] == "q2 [1] None"


def test_fail_stops_when_the_model_refuses_a_row(world):
    world.write(*[{}] * 6)
    world.refused = {1}
    with pytest.raises(XverseError) as caught:
        world.run()
    assert (caught.value.code, caught.value.facts["id"], caught.value.facts["inner"]) == ("E825", 1, "E827")
    assert 0 in world.rows()
    assert 5 not in world.asked


def test_error_rows_do_not_depend_on_the_language(world, monkeypatch):
    world.write({"image": "bad"})
    monkeypatch.setenv("XVERSE_V_LANG", "zh")
    world.run(on_bad_image="skip")
    assert world.rows()[0]["error"]["message"].isascii()


def test_progress_counts_up_to_the_whole(world):
    world.write({}, {}, {"image": "bad"}, {})
    seen = []
    world.run(on_bad_image="skip", progress=lambda report: seen.append(report.done))
    assert seen[0] == 0
    assert seen[-1] == 4
    assert seen == sorted(seen)


def test_an_engine_that_loses_an_answer_is_caught(world):
    world.write({}, {})
    with pytest.raises(RuntimeError, match="1 questions were taken"):
        world.run(answer=lambda questions: [(place, {"answer": "one"}) for place, _ in enumerate(questions) if place])


def test_images_are_opened_only_as_they_are_asked_for(world):
    world.write(*[{"image": str(n + 1)} for n in range(50)])
    ahead = []

    def one_by_one(questions):
        for place, question in enumerate(questions):
            ahead.append(len(world.opened) - place)
            yield place, {"answer": question.text}

    world.run(answer=one_by_one)
    assert set(ahead) == {1}
