"""The report: the card's numbers, what counts as best, what is marked, and nothing from a file trusted."""

import csv
import io
import re
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser

import pytest

from tests.evaluation.report.made_runs import made_run
from xverse_v.errors import XverseError
from xverse_v.evaluation.report import render_text, write_report
from xverse_v.evaluation.report.card import read_card
from xverse_v.evaluation.report.charts import bars, radar
from xverse_v.evaluation.report.reading import read_work_dirs
from xverse_v.evaluation.report.tables import compare


def comparisons_of(work_dir):
    return compare(read_card(), read_work_dirs([work_dir]))


def row_of(work_dir, name):
    rows = {row.name: row for comparison in comparisons_of(work_dir) for row in comparison.rows}
    return rows[name]


def best_of(row, comparison):
    return [column.name for column, cell in zip(comparison.columns, row.cells, strict=True) if cell and cell.best]


def test_the_card_is_complete_and_its_bold_numbers_are_the_best_of_their_rows(tmp_path):
    card = read_card()
    names = [row.name for table in card.tables for row in table.rows]
    assert len(names) == 15 and [len(table.models) for table in card.tables] == [11, 8]
    assert sum(row.values[0] for table in card.tables for row in table.rows) == pytest.approx(1395.3)
    made_run(tmp_path, "SomethingElse", 1.0)
    bold = {row.name: best_of(row, comparison) for comparison in comparisons_of(tmp_path) for row in comparison.rows}
    assert bold == {
        "MMBench": ["TransCore-M"],
        "MMBench-CN": ["TransCore-M"],
        "MMStar": ["XVERSE-V-13B"],
        "MMMU-Val": ["GeminiProVision"],
        "MathVistaMini-Test": ["GeminiProVision"],
        "HallusionBench": ["GeminiProVision"],
        "AI2D-Test": ["LLaVA-Next-Vicuna-13B"],
        "OCRBench": ["Qwen-VL-Plus"],
        "SEEDBench_IMG": ["XVERSE-V-13B"],
        "LLaVABench": ["XVERSE-V-13B"],
        "ScienceQA": ["XVERSE-V-13B"],
        "OKVQA": ["LLaVA-Next-Vicuna-13B"],
        "GQA": ["LLaVA-Next-Vicuna-13B"],
        "VizWiz": ["XVERSE-V-13B"],
        "TextVQA": ["XVERSE-V-13B"],
    }


def test_ours_may_be_best_alone_or_share_it(tmp_path):
    made_run(tmp_path, "MMStar", 47.84)
    made_run(tmp_path, "AI2D_TEST", 90.0)
    mmstar, ai2d = row_of(tmp_path, "MMStar"), row_of(tmp_path, "AI2D-Test")
    assert [cell.best for cell in mmstar.cells[:3]] == [True, True, False]
    assert [cell.best for cell in ai2d.cells] == [True] + [False] * 11


@pytest.mark.parametrize(
    ("facts", "said"), [({"beyond": 3}, "limited"), ({"skipped": 1}, "could not be asked"), ({"md5": "b"}, "published")]
)
def test_a_number_of_an_incomplete_run_is_shown_and_never_the_best(tmp_path, facts, said):
    made_run(tmp_path, "MMStar", 99.0, **facts)
    row = row_of(tmp_path, "MMStar")
    assert row.cells[0].text == "99.0" and not row.cells[0].best and row.cells[1].best
    assert said in row.cells[0].apart[0]
    text = render_text([tmp_path])
    assert "(99.0)" in text and said in text.replace("\n  ", " ")


def test_points_of_a_thousand_are_not_compared_with_a_share(tmp_path):
    made_run(tmp_path, "OCRBench", 489.0, unit="points")
    assert row_of(tmp_path, "OCRBench").cells[0].apart == ()
    made_run(tmp_path / "share", "OCRBench", 99.0)
    assert row_of(tmp_path / "share", "OCRBench").cells[0].apart


def test_other_rules_than_the_cards_are_marked_and_compared(tmp_path):
    made_run(tmp_path, "MMStar", 50.0, profile="vlmevalkit", unmatched=4)
    cell = row_of(tmp_path, "MMStar").cells[0]
    assert cell.best and "profile vlmevalkit" in cell.differs[0] and "no judge" in cell.differs[1]
    text = render_text([tmp_path])
    assert "50.0≠*" in text and "4 (4.0 %)" in text
    made_run(tmp_path / "2024", "MMStar", 50.0)
    assert row_of(tmp_path / "2024", "MMStar").cells[0].differs == ()


def test_runs_that_differ_never_share_a_column(tmp_path):
    for folder, facts in {
        "a": {"weights": "w1"},
        "b": {"weights": "w2"},
        "c": {"weights": "w1", "profile": "vlmevalkit"},
        "d": {"weights": "w1"},
    }.items():
        made_run(tmp_path, "MMStar", 40.0 + ord(folder), folder=folder, **facts)
    comparison = comparisons_of(tmp_path)[0]
    details = [column.detail for column in comparison.columns if column.ours]
    assert details == [
        "vlmevalkit-2024-04, w1",
        "vlmevalkit-2024-04, w2",
        "vlmevalkit, w1",
        "vlmevalkit-2024-04, w1, run 2",
    ]
    shown = next(row.cells[:4] for row in comparison.rows if row.name == "MMStar")
    assert [cell.value for cell in shown] == [137.0, 138.0, 139.0, 140.0]


def test_every_number_stands_with_its_conditions_in_every_format(tmp_path):
    more = [("vanilla", 61.25), ("CP", 70.5)]
    made_run(tmp_path / "w", "MMBench_DEV_EN", 50.5, judge="gpt-j", unmatched=3, more=more, note="2 groups cut")
    written = write_report([tmp_path / "w"], tmp_path / "out")
    assert [path.name for path in written] == ["report.txt", "report.md", "report.csv", "report.html"]
    for path in written:
        text = re.sub(r"\\", "", path.read_text())
        for part in (
            "50.5",
            "61.25",
            "70.5",
            "48.5",
            "52.5",
            "gpt-j",
            "vlmevalkit-2024-04",
            "MMBench_DEV_EN",
            "vanilla",
        ):
            assert part in text, (path.name, part)
    records = list(csv.DictReader(io.StringIO(written[2].read_text())))
    ours = [record for record in records if record["origin"] == "measured"]
    assert len(records) == 10 * 11 + 5 * 8 + 3 and [record["compared"] for record in ours] == ["yes", "no", "no"]
    assert ours[0]["judge"] == "gpt-j" and ours[0]["unmatched"] == "3" and "2 groups cut" in ours[0]["notes"]
    assert sum(record["best"] == "yes" for record in records) == 15


def test_a_benchmark_outside_the_card_is_reported_too(tmp_path):
    made_run(tmp_path, "MyOwnSet", 12.5)
    assert "MyOwnSet" in render_text([tmp_path]) and "12.50 %" in render_text([tmp_path])


class Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.attributes = [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs


EVIL = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'&$x_1$ | ** `]]>-->"


def test_names_and_notes_from_files_are_text_and_nothing_else(tmp_path):
    made_run(tmp_path / "w", "MMStar", 40.0, model=EVIL, note=EVIL, judge=EVIL, weights=EVIL)
    made_run(tmp_path / "w", "MMStar", 41.0, model=EVIL, folder="2", weights="\x1b[31m=1+1")
    made_run(tmp_path / "w", EVIL.replace("/", "_"), 40.0, model="=cmd()", folder="3")
    text, markdown, table, page = (path.read_text() for path in write_report([tmp_path / "w"], tmp_path / "out"))
    tags = Tags()
    tags.feed(page)
    assert not {"script", "img", "iframe", "link", "object"} & set(tags.tags)
    assert not [name for name, _ in tags.attributes if name.startswith("on") or name == "src"]
    links = [value for name, value in tags.attributes if name.endswith("href")]
    assert links and all(value.startswith("#") for value in links)
    assert "alert(1)" in page and "\x1b" not in text + markdown + table + page
    assert "<script" not in markdown and "<img" not in markdown
    assert "'=cmd()" in table and not re.search(r"(^|,)=", table, re.MULTILINE)


def test_pictures_are_whole_svg_with_ids_of_their_own_and_the_same_every_time(tmp_path):
    made_run(tmp_path, "MMStar", 40.0)
    made_run(tmp_path, "AI2D_TEST", 40.0, skipped=2)
    comparison = comparisons_of(tmp_path)[0]
    ids = []
    for draw, prefix in ((radar, "a"), (bars, "b")):
        picture = draw(comparison, prefix)
        root = ElementTree.fromstring(picture)
        texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
        assert {row.name for row in comparison.rows} <= set(texts)
        assert picture == draw(comparison, prefix)
        ids += [element.get("id") for element in root.iter() if element.get("id")]
        for reference in re.findall(r'(?:url\(|href=")#([^")]+)', picture):
            assert reference in ids
    assert len(ids) == len(set(ids))


def test_a_report_is_the_same_bytes_again(tmp_path):
    made_run(tmp_path / "w", "MMStar", 40.0)
    first = [path.read_bytes() for path in write_report([tmp_path / "w"], tmp_path / "1")]
    assert first == [path.read_bytes() for path in write_report([tmp_path / "w"], tmp_path / "2")]


def test_scores_older_than_their_run_are_not_compared(tmp_path):
    folder = made_run(tmp_path, "MMStar", 99.0)
    (folder / "bundle.json").write_text('{"bundle": "other"}')
    assert "after it was scored" in row_of(tmp_path, "MMStar").cells[0].apart[0]
    (folder / "bundle.json").unlink()
    assert "not finished" in row_of(tmp_path, "MMStar").cells[0].apart[0]


def test_what_cannot_be_reported_says_why(tmp_path):
    folder = made_run(tmp_path / "w", "MMStar", 40.0)
    with pytest.raises(XverseError, match="E777"):
        write_report([tmp_path / "w"], tmp_path / "out", ["text", "pdf"])
    assert not (tmp_path / "out").exists()
    for broken in ('{"scores": []}', '{"scores": [{"name": 1}]}', "{}"):
        (folder / "scores.json").write_text(broken)
        with pytest.raises(XverseError, match="E776"):
            read_work_dirs([tmp_path / "w"])
    (folder / "scores.json").unlink()
    with pytest.raises(XverseError, match="E775"):
        read_work_dirs([tmp_path / "w"])
