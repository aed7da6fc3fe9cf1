"""TSV data files: quoting, words for nothing, images inside, shared, listed and missing, and memory that stays flat."""

import base64
import os
import subprocess
import sys
import tracemalloc

import pytest

from tests.evaluation.made import base64_image, encoded_image, write_tsv
from xverse_v.errors import XverseError
from xverse_v.evaluation.benchmarks import find
from xverse_v.evaluation.contract import PROFILES, BadRow
from xverse_v.evaluation.tsv import NA_WORDS, columns_of, image_bytes, read_rows

RED, BLUE = base64_image("red"), base64_image("blue")


def write(tmp_path, *rows, columns=("index", "image", "question", "A", "B")):
    return write_tsv(tmp_path / "data.tsv", columns, [dict(zip(columns, row, strict=False)) for row in rows])


def read(path, **options):
    return list(read_rows(path, **options))


def codes(rows):
    return [row.code if isinstance(row, BadRow) else row.key for row in rows]


def test_a_quoted_cell_may_hold_tabs_line_ends_and_quotes(tmp_path):
    (row,) = read(write(tmp_path, ("1", RED, 'say "hi"\tthere,\nor\r\nnot', "a", "b")))
    assert row.cells["question"] == 'say "hi"\tthere,\nor\r\nnot'
    assert row.line == 2


def test_lines_are_counted_as_an_editor_counts_them(tmp_path):
    rows = read(write(tmp_path, ("1", RED, "two\nlines", "a", "b"), ("2", "1", "x", "a", "b"), ("3", "9", "x", "", "")))
    assert [row.line for row in rows] == [2, 4, 5]


def test_the_image_never_stands_in_the_cells_and_comes_back_as_bytes(tmp_path):
    (row,) = read(write(tmp_path, ("1", RED, "q", "a", "b")))
    assert "image" not in row.cells
    assert [image_bytes(image) for image in row.images] == [encoded_image("red")]
    assert row.images[0].data is None, "the bytes stay in the file until they are asked for"


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_every_kind_of_line_end_and_a_byte_order_mark(tmp_path, end):
    path = tmp_path / "data.tsv"
    path.write_bytes(f"\ufeffindex\timage\tquestion{end}1\t{RED}\tq{end}{end}2\t1\t问题{end}".encode())
    rows = read(path)
    assert [row.cells["question"] for row in rows] == ["q", "问题"]
    assert image_bytes(rows[1].images[0]) == encoded_image("red")


def test_a_file_without_a_last_line_end_is_whole(tmp_path):
    path = tmp_path / "data.tsv"
    path.write_text(f"index\timage\tquestion\n1\t{RED}\tlast")
    assert read(path)[0].cells["question"] == "last"


def test_quotes_inside_an_unquoted_cell_are_text(tmp_path):
    path = tmp_path / "data.tsv"
    path.write_text(f'index\timage\tquestion\n1\t{RED}\ta 5" nail\n2\t1\tb\n')
    assert [row.cells["question"] for row in read(path)] == ['a 5" nail', "b"]


def test_words_for_nothing_are_kept_or_lost_and_always_named(tmp_path):
    path = write(tmp_path, ("1", RED, "q", "None", "N/A"), ("2", RED, "q", "none", "Null"))
    kept, lost = read(path, na="fixed"), read(path, na="vlmevalkit")
    assert (kept[0].cells["A"], kept[0].cells["B"]) == ("None", "N/A")
    assert (lost[0].cells["A"], lost[0].cells["B"]) == ("", "")
    assert kept[0].na_columns == lost[0].na_columns == ("A", "B")
    assert (lost[1].cells["A"], lost[1].cells["B"], lost[1].na_columns) == ("none", "Null", ())


def test_the_words_for_nothing_are_the_eighteen_of_pandas():
    assert len(NA_WORDS) == 18
    assert {"None", "NA", "N/A", "n/a", "nan", "NULL", "<NA>", "-1.#QNAN"} < NA_WORDS
    assert not {"none", "Null", "NONE", "", "-", " NA"} & NA_WORDS


def test_only_the_harness_of_2024_loses_options():
    lost = {profile: find("MMStar").na(profile) for profile in PROFILES}
    assert {profile for profile, policy in lost.items() if policy == "vlmevalkit"} == {"vlmevalkit-2024-04", "release"}


def test_an_image_may_be_another_rows_before_or_after(tmp_path):
    rows = read(
        write(
            tmp_path,
            ("1", RED, "q", "", ""),
            ("2", "1", "q", "", ""),
            ("3", "4", "q", "", ""),
            ("4", BLUE, "q", "", ""),
        )
    )
    assert [image_bytes(row.images[0]) for row in rows] == [encoded_image(c) for c in ("red", "red", "blue", "blue")]
    assert rows[0].images == rows[1].images
    assert rows[0].images[0].digest != rows[2].images[0].digest


def test_two_hops_a_missing_target_and_a_damaged_list_are_bad_rows(tmp_path):
    rows = read(
        write(
            tmp_path,
            ("1", RED, "", "", ""),
            ("2", "1", "", "", ""),
            ("3", "2", "", "", ""),
            ("4", "77", "", "", ""),
            ("5", "[" + "x" * 70 + "]", "", "", ""),
        )
    )
    assert codes(rows) == ["1", "2", "E713", "E713", "E713"]
    assert "itself a reference" in rows[2].reason
    assert '"77"' in rows[3].reason


def test_a_text_of_64_characters_is_a_reference_and_of_65_an_image(tmp_path):
    rows = read(write(tmp_path, ("1", "A" * 64, "", "", ""), ("2", "A" * 65, "", "", "")))
    assert codes(rows) == ["E713", "2"]
    with pytest.raises(XverseError) as caught:  # 65 is no length base64 has; the row itself was readable
        image_bytes(rows[1].images[0])
    assert caught.value.code == "E715"


def test_a_list_of_images_a_list_of_one_and_a_shared_list(tmp_path):
    both, one = repr([RED, BLUE]), repr([BLUE])
    rows = read(write(tmp_path, ("1", both, "", "", ""), ("2", one, "", "", ""), ("3", "1", "", "", "")))
    assert [[image_bytes(image) for image in row.images] for row in rows] == [
        [encoded_image("red"), encoded_image("blue")],
        [encoded_image("blue")],
        [encoded_image("red"), encoded_image("blue")],
    ]


def test_a_list_is_read_and_never_run(tmp_path):
    cell = "[__import__('os').mkdir('" + str(tmp_path / "pwned") + "')" + " " * 60 + "]"
    assert codes(read(write(tmp_path, ("1", cell, "q", "", "")))) == ["E713"]
    assert not (tmp_path / "pwned").exists()


def test_a_row_without_image_is_left_out_by_rule_or_kept(tmp_path):
    path = write(tmp_path, ("1", RED, "q", "", ""), ("2", "", "q", "", ""), ("3", "nan", "q", "", ""))
    assert codes(read(path)) == ["1", "E714", "E714"]
    assert [len(row.images) for row in read(path, skip_imageless=False)] == [1, 0, 0]


def test_an_empty_a_repeated_and_a_wide_row_are_bad(tmp_path):
    path = write(
        tmp_path, ("1", RED, "q", "", ""), ("", RED, "q", "", ""), ("1", BLUE, "q", "", ""), ("01", BLUE, "q", "", "")
    )
    with path.open("a") as file:
        file.write("5\ta\tb\tc\td\te\n6\tshort\n")
    rows = read(path)
    assert codes(rows) == ["1", "E711", "E712", "E712", "E710", "E710"]
    assert "6 cells where the header has 5" in rows[4].reason
    assert image_bytes(rows[0].images[0]) == encoded_image("red"), "the first of two counts"


def test_image_paths_stand_in_where_there_is_no_image_column(tmp_path):
    path = write(
        tmp_path, ("1", "a.png", "q"), ("2", "['a.png', 'sub/b.png']", "q"), columns=("index", "image_path", "question")
    )
    rows = read(path, image_root=tmp_path / "images")
    assert [[image.path.relative_to(tmp_path) for image in row.images] for row in rows][1][
        1
    ].as_posix() == "images/sub/b.png"
    with pytest.raises(XverseError) as caught:
        image_bytes(rows[0].images[0])
    assert caught.value.code == "E716"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "E705"),
        ("question\timage\n1\t2\n", "E705"),
        ("index\tindex\n1\t2\n", "E705"),
        ('index\timage\n1\t"never closed\n2\tx\n', "E704"),
        (b"index\tquestion\n1\t\xc4\xe3\xba\xc3\n", "E703"),
    ],
)
def test_a_file_that_is_no_data_file_is_refused(tmp_path, text, code):
    path = tmp_path / "data.tsv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(XverseError) as caught:
        read(path)
    assert caught.value.code == code


def test_a_missing_file_and_a_folder_are_said_to_be_unreadable(tmp_path):
    for path in (tmp_path / "none.tsv", tmp_path):
        with pytest.raises(XverseError) as caught:
            columns_of(path)
        assert caught.value.code == "E716"


MEGABYTES = 48


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """48 MB: 24 images of 2 MB, each of the others' rows sharing one of them."""
    path = tmp_path_factory.mktemp("large") / "large.tsv"
    with path.open("w") as file:
        file.write("index\timage\tquestion\n")
        for number in range(24):
            text = base64.b64encode(os.urandom(MEGABYTES * 2**20 // 24 * 3 // 4)).decode()
            file.write(f'"{number}"\t"{text}"\t"q"\n')
            file.writelines(f'"{number}-{again}"\t"{number}"\t"q"\n' for again in range(20))
    return path


def test_memory_holds_one_row_and_not_the_file(large):
    tracemalloc.start()
    images = {}
    for row in read_rows(large):
        for image in row.images:
            images[image.digest] = image
    total = sum(len(image_bytes(image)) for image in images.values())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert total > 0.7 * MEGABYTES * 2**20
    assert peak < 24 * 2**20, f"{peak / 2**20:.1f} MiB for rows of 2 MiB"


def test_memory_of_the_process_stays_below_a_quarter_of_the_file(large):
    program = (
        "import resource, sys; from pathlib import Path; from xverse_v.evaluation.tsv import read_rows\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "count = sum(1 for _ in read_rows(Path(sys.argv[1])))\n"
        "print(count, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    command = [sys.executable, "-c", program, str(large)]
    count, grown = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert int(count) == 24 * 21
    assert int(grown) < MEGABYTES * 1024 // 2, f"{int(grown) / 1024:.0f} MiB more"
