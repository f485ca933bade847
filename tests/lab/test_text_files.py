"""Texts of the user's own: each format read as it is written, converted once, refused in one line that says where."""

import csv
import io
import json
import os
import signal
import sys
import tracemalloc
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet
from rich.console import Console

from softmaxes.lab import InputError
from softmaxes.lab.cli.main import main
from softmaxes.lab.data import row_files
from softmaxes.lab.data import text_files as source
from softmaxes.lab.data.batches import lay_out
from softmaxes.lab.data.dataset import Data
from softmaxes.lab.data.ragged import Texts
from softmaxes.lab.data.sources import load_data
from softmaxes.lab.data.text_files import load_texts
from softmaxes.lab.store import Store

Rows = Sequence[tuple[str, str]]  # texts with their labels
ROWS = [(f"word{row} and more", ("pear", "apple", "fig")[row % 3]) for row in range(60)]
TRAIN, TEST = ROWS[:45], ROWS[45:]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SOFTMAXES_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def as_txt(path: Path, rows: Rows) -> Path:
    path = path.with_suffix(".txt")
    path.write_text("".join(f"__label__{label} {text}\n" for text, label in rows), encoding="utf-8")
    return path


def as_table(path: Path, rows: Rows, delimiter: str = ",") -> Path:
    path = path.with_suffix(".csv" if delimiter == "," else ".tsv")
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, delimiter=delimiter).writerows([source.COLUMNS, *rows])
    return path


def as_tsv(path: Path, rows: Rows) -> Path:
    return as_table(path, rows, "\t")


def as_parquet(path: Path, rows: Rows, **columns: Any) -> Path:
    path = path.with_suffix(".parquet")
    table = {"text": [text for text, _ in rows], "label": [label for _, label in rows]}
    parquet.write_table(pa.table(table | columns), path, row_group_size=7)
    return path


LAYOUTS = [as_txt, as_table, as_tsv, as_parquet]
Layout = Callable[[Path, Rows], Path]


def written(tmp_path: Path, content: bytes, name: str = "mine.txt") -> Path:
    path = tmp_path / name
    path.write_bytes(content)
    return path


def in_folder(tmp_path: Path, layout: Layout, train: Rows = TRAIN, test: Rows = TEST) -> Path:
    folder = tmp_path / "mine"
    folder.mkdir(exist_ok=True)
    layout(folder / "train", train)
    layout(folder / "test", test)
    return folder


def convert(path: Path, folder: Path, parts: Sequence[str] = ("train",), console: Console | None = None) -> None:
    """Convert a file in this process."""
    row_files._convert(path, folder, console or Console(), form=source.FORMS[path.suffix], parts=parts)


def rows_of(data: Data, part: str) -> list[tuple[str, str]]:
    texts, labels = getattr(data, f"{part}_inputs"), getattr(data, f"{part}_labels")
    assert isinstance(texts, Texts)
    return [(texts.text(row), data.class_names[label]) for row, label in enumerate(labels.tolist())]


# What is read


@pytest.mark.parametrize("content", ["text,label\nred,a\n", 'text,label\n"red,a\n'])
def test_the_process_reads_other_tables_as_before(content: str, tmp_path: Path) -> None:
    """Wide fields are for texts alone, also after a table that is broken or that is not read to its end."""
    path = tmp_path / "table.csv"
    path.write_text(content)
    limit = csv.field_size_limit()
    with suppress(InputError):
        list(source.table_rows(path, lambda size: None, ","))
    next(source.table_rows(path, lambda size: None, ","))
    assert csv.field_size_limit() == limit


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_is_in_the_files_is_what_is_read(layout: Layout, tmp_path: Path, cache: Path) -> None:
    folder = in_folder(tmp_path, layout)
    data = load_texts(folder)
    assert (rows_of(data, "train"), rows_of(data, "test")) == (TRAIN, TEST)
    assert data.class_names == ["apple", "fig", "pear"]
    assert (data.name, data.source, data.description) == ("mine", str(folder), "Texts from files.")
    assert data.files is not None
    assert all(cache in file.parents for file in data.files.values())
    assert data.card().text_size == len("word44 and more")


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_tenth_is_held_out_of_a_file(layout: Layout, tmp_path: Path) -> None:
    """The same texts in whatever format and order; equal texts are in one part."""
    many = [(f"text number {row % 1000}", f"class {row % 7}".replace(" ", "_")) for row in range(2000)]
    data = load_texts(layout(tmp_path / "mine", many))
    train, test = rows_of(data, "train"), rows_of(data, "test")
    assert sorted(train + test) == sorted(many)
    assert len(test) == 198
    assert not {text for text, _ in train} & {text for text, _ in test}
    assert data.description == "Texts from a file, a tenth of them held out as test texts by a hash of each."
    other = load_texts(layout(tmp_path / "other", many[::-1]))
    assert sorted(rows_of(other, "test")) == sorted(test)


@pytest.mark.slow
def test_of_a_few_texts_one_is_held_out(tmp_path: Path) -> None:
    for number in range(2, 7):
        data = load_texts(as_txt(tmp_path / f"mine{number}", ROWS[:number]))
        assert sorted(rows_of(data, "train") + rows_of(data, "test")) == sorted(ROWS[:number])
        assert len(data.test_inputs) == 1
    with pytest.raises(InputError, match=r"mine.txt: expected texts of which some can be held out, got 2 texts alike"):
        load_texts(as_txt(tmp_path / "mine", [("same", "a"), ("same", "b")]))


def test_a_text_of_several_classes_is_trained_on_once_for_each(tmp_path: Path) -> None:
    folder = in_folder(tmp_path, as_txt)
    (folder / "train.txt").write_text("__label__b __label__a __label__b one\n__label__a two\n")
    (folder / "test.txt").write_text("__label__b __label__a three\n")
    data = load_texts(folder)
    assert rows_of(data, "train") == [("one", "b"), ("one", "a"), ("two", "a")]
    assert rows_of(data, "test") == [("three", "b")]
    assert data.test_label_sets is not None
    assert data.test_label_sets.classes.tolist() == [1, 0]
    assert data.description == (
        "Texts from files. Texts of several classes: 2; training takes one once for each, the test once: precision at "
        "1, 3 and 5 is against all its classes, every other score against the first."
    )
    (folder / "train.txt").write_text("__label__a two\n")
    (folder / "test.txt").write_text("__label__b three\n")
    assert load_texts(folder).test_label_sets is None


def test_many_labels_of_long_texts_do_not_fill_the_disk(tmp_path: Path, cache: Path) -> None:
    labels = " ".join(f"__label__{number}" for number in range(200))
    path = written(tmp_path, f"__label__a one\n{labels} {'x' * 10_000}\n".encode())
    data = load_texts(path)
    assert {text for text, _ in rows_of(data, "train")} == {"x" * 10_000}
    assert len(data.train_inputs) == 200
    assert sum(file.stat().st_size for file in cache.glob("texts/*/*_bytes.npy")) < 11_000


def test_labels_stand_anywhere_in_a_line_as_fasttext_has_it(tmp_path: Path) -> None:
    content = "\ufeff__label__a one __label__b two\r\nthree\t __label__c__label__d\r\n\r\n  __label__e, a__label__f"
    data = load_texts(written(tmp_path, content.encode(), "cooking.train"))
    found = sorted(rows_of(data, "train") + rows_of(data, "test"))
    assert ("three", "c__label__d") in found
    assert ("a__label__f", "e,") in found
    assert ("one two", "a") in found


@pytest.mark.parametrize("layout", [as_table, as_tsv])
def test_fields_of_a_table_hold_anything(layout: Layout, tmp_path: Path) -> None:
    """In the order of the header's columns; other columns are not read, blank lines are none."""
    delimiter = "," if layout is as_table else "\t"
    lines = [
        "",
        "id, label ,text",
        '1,"New\u00e9 York",plain',
        "",
        '2,b,"with ""quotes"" %,\r\nand line"',
        "3, 7 ,end",
    ]
    content = "\ufeff" + "\r\n".join(lines).replace(",", delimiter)
    path = written(tmp_path, content.encode(), f"mine{layout(tmp_path / 'x', ROWS).suffix}")
    data = load_texts(path)
    found = dict(rows_of(data, "train") + rows_of(data, "test"))
    assert found == {
        "plain": "Newé York",
        f'with "quotes" %{"," if delimiter == "," else ""} and line': "b",
        "end": "7",
    }


FIELD = st.text(max_size=8)
NAME = st.text(st.characters(exclude_categories=["Z", "C"]), min_size=1, max_size=4)


@pytest.mark.slow
@settings(deadline=None)
@given(
    st.lists(st.tuples(FIELD.filter(source.normal), NAME), min_size=1, max_size=6), st.sampled_from([as_table, as_tsv])
)
def test_a_table_as_csv_writes_it_comes_back(rows: list[tuple[str, str]], layout: Layout) -> None:
    with TemporaryDirectory() as name:
        folder = Path(name)
        path = layout(folder / "mine", rows)
        read = list(source.FORMS[path.suffix].read(path, lambda _: None))
        assert [(row.content.decode(), *row.labels) for row in read] == [
            (source.normal(text), name) for text, name in rows
        ]
        convert(path, folder)
        kept = {what: torch.from_numpy(np.load(folder / f"train_{what}.npy")) for what in ("bytes", "ends", "labels")}
        texts, names = Texts(kept["bytes"], kept["ends"]), json.loads((folder / "names.json").read_text())["names"]
    assert [(texts.text(row), names[label]) for row, label in enumerate(kept["labels"].tolist())] == [
        (source.normal(text), label) for text, label in rows
    ]


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("  two\t words \n", "two words"),
        ("nul\0 and \x1b[31m red", "nul and [31m red"),
        ("a \u200b b\u00a0c\u2028d", "a b c d"),
        ("Köln 中 😀", "Köln 中 😀"),
    ],
)
def test_what_cannot_be_printed_is_left_out(text: str, normal: str, tmp_path: Path) -> None:
    data = load_texts(in_folder(tmp_path, as_table, [(text, "a"), ("else", "b")], [(text, "a")]))
    assert rows_of(data, "test") == [(normal, "a")]


def test_long_texts_are_cut_between_characters(tmp_path: Path) -> None:
    longest = "x" * source.MOST_TEXT
    rows = [(longest, "a"), (longest + "y", "b"), (longest[1:] + "é", "a"), (longest[1:] + " y", "a"), ("z", "b")]
    data = load_texts(in_folder(tmp_path, as_txt, rows, TEST))
    assert [text for text, _ in rows_of(data, "train")] == [longest, longest, longest[1:], longest[1:], "z"]
    assert "Texts that were cut to 65,536 bytes: 3." in data.description


def test_a_class_may_be_in_the_test_alone(tmp_path: Path) -> None:
    data = load_texts(in_folder(tmp_path, as_txt, [("b", "10"), ("a", "1")], [("c", "9"), ("d", "1")]))
    assert data.class_names == ["1", "10", "9"]
    assert data.card().train_counts == (1, 1, 0)
    assert data.description == "Texts from files. Classes with test texts alone: 1."


@pytest.mark.parametrize(
    "label",
    [
        pa.array([7 + row % 3 for row in range(60)], pa.uint8()),
        pa.array([str(7 + row % 3) for row in range(60)], pa.large_string()),
        pa.array([f" {7 + row % 3}" for row in range(60)]).dictionary_encode(),
        pa.array([7 + row % 3 for row in range(60)]).dictionary_encode(),
    ],
)
def test_each_kind_of_label_in_parquet(label: Any, tmp_path: Path) -> None:
    words = pa.array([text for text, _ in ROWS]).dictionary_encode()
    data = load_texts(as_parquet(tmp_path / "mine", ROWS, label=label, text=words, more=words))
    assert data.class_names == ["7", "8", "9"]
    assert len(data.train_inputs) + len(data.test_inputs) == 60


@pytest.mark.slow
def test_by_the_names_that_the_command_line_takes(tmp_path: Path) -> None:
    file, folder = as_txt(tmp_path / "one", ROWS), in_folder(tmp_path, as_table)
    fingerprints = {path: load_texts(path).fingerprint for path in (file, folder)}
    for path in (file, folder):
        assert load_data("text", data_dir=path).fingerprint == load_data(str(path)).fingerprint == fingerprints[path]
    with pytest.raises(InputError, match=r"--data text: expected --data-dir with the texts, got none\."):
        load_data("text")
    with pytest.raises(InputError, match=r"--data-dir: expected none with --data .*one.txt, where texts lie, got"):
        load_data(str(file), data_dir=folder)


def test_a_folder_is_taken_for_texts_only_where_it_can_be_nothing_else(tmp_path: Path) -> None:
    folder = in_folder(tmp_path, as_txt)
    (folder / ".git").mkdir()
    assert source.holds_texts(folder)
    (folder / "class").mkdir()  # of images, of which the files may be lists
    assert not source.holds_texts(folder)
    (tmp_path / "one").mkdir()
    as_txt(tmp_path / "one" / "train", ROWS)
    assert not source.holds_texts(tmp_path / "one")
    with pytest.raises(InputError, match=r"test.parquet|train.parquet: expected columns features and label, got no"):
        load_data(str(in_folder(tmp_path / "one", as_parquet)))  # which is for vectors
    assert not source.holds_texts(tmp_path / "one" / "mine")
    assert len(load_data("text", data_dir=tmp_path / "one" / "mine").train_inputs) == 45


# Conversion


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_file_is_converted_once(layout: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = in_folder(tmp_path, layout)
    data = load_texts(folder)
    with monkeypatch.context() as patched:
        patched.setattr(row_files, "_Reading", None)
        assert load_texts(folder).fingerprint == data.fingerprint
    changed = [(text + "!", label) for text, label in TEST]
    layout(folder / "test", changed)
    assert rows_of(load_texts(folder), "test") == changed


def interrupt() -> None:
    """What Ctrl-C does, to the process that waits for this one."""
    os.kill(os.getppid(), signal.SIGINT)
    signal.pause()


@pytest.mark.parametrize(
    ("end", "error"),
    [(interrupt, KeyboardInterrupt), (lambda: os.kill(os.getpid(), signal.SIGKILL), InputError)],
)
@pytest.mark.parametrize("before", ["word44 and more", "names.json"])
def test_a_conversion_that_was_cut_off_leaves_nothing_half_written(
    before: str,
    end: Callable[[], None],
    error: type[BaseException],
    tmp_path: Path,
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Cut off within the texts, or before the last file is there; what it has written by then is written again."""
    path = as_txt(tmp_path / "mine", ROWS)
    with monkeypatch.context() as patched:
        for module, name, told in (
            (source, "normal", lambda text: text.strip()),
            (row_files, "write_whole", lambda path, _: path.name),
        ):
            known = getattr(module, name)
            patched.setattr(module, name, ending(known, lambda *said, told=told: told(*said) == before, end))
        with pytest.raises(error) as caught:
            load_texts(path)
    if error is InputError:
        assert "mine.txt: expected texts in fastText's format, got one that ended its reader with code -9." in str(
            caught.value
        )
    (folder,) = (cache / "texts").iterdir()
    left = {file.name for file in folder.iterdir()} - {".lock"}
    assert not {name for name in left if name.endswith(".part")} | (left & {"names.json"})
    assert bool(left) == (before == "names.json")
    for name in (".train_ends.npy.1.part", ".movie.mkv.part"):  # of one that could not clean up, and of a stranger
        (folder / name).touch()
    data = load_texts(path)
    assert sorted(rows_of(data, "train") + rows_of(data, "test")) == sorted(ROWS)
    arrays = {f"{part}_{what}.npy" for part in ("train", "test") for what in ("bytes", "ends", "labels", "label_ends")}
    assert {file.name for file in folder.iterdir()} - {".lock"} == arrays | {"names.json", ".movie.mkv.part"}


def ending(function: Callable[..., Any], at: Callable[..., bool], end: Callable[[], None]) -> Callable[..., Any]:
    def called(*arguments: Any) -> Any:
        if at(*arguments):
            end()
        return function(*arguments)

    return called


@pytest.mark.slow
@pytest.mark.parametrize("layout", [as_txt, as_table])
def test_little_is_held_of_a_large_file(layout: Layout, tmp_path: Path) -> None:
    path = layout(tmp_path / "mine", [(f"{row} {'x' * 2000}", str(row % 3)) for row in range(4000)])
    assert path.stat().st_size > 8_000_000
    tracemalloc.start()
    convert(path, tmp_path, ("train", "test"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000


@pytest.mark.slow
def test_little_is_held_of_a_large_parquet_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "mine.parquet"
    table = pa.table({"text": [f"{row} {'x' * 2000}" for row in range(16000)], "label": ["a", "b"] * 8000})
    parquet.write_table(table, path, row_group_size=500, compression=None, use_dictionary=False)
    del table
    before, normal = pa.total_allocated_bytes(), source.normal
    held: list[int] = []

    def watched(text: str) -> str:
        held.append(pa.total_allocated_bytes() - before)
        return normal(text)

    monkeypatch.setattr(source, "normal", watched)
    convert(path, tmp_path)
    assert max(held) < path.stat().st_size / 4


def test_progress_is_shown_at_a_terminal_and_nowhere_else(tmp_path: Path) -> None:
    path = as_txt(tmp_path / "mine", ROWS)
    for terminal in (True, False):
        shown = io.StringIO()
        console = Console(file=shown, force_terminal=terminal)
        convert(path, tmp_path, console=console)
        assert ("Converting mine.txt" in shown.getvalue()) == terminal


# What is refused

LINES = r'expected lines "__label__NAME words", got '
BAD_LINES: list[tuple[bytes, str]] = [
    (b"", LINES + "none"),
    (b"\n \r\n", LINES + "none"),
    (b"__label__a one\nno label\n__label__b two\n", LINES + r"1 other: line 2 \(no label\)\.$"),
    (b"__label__a\n\n__label__b \0\x1b\n", LINES + r"2 others: lines 1 \(no words\), 3 \(no words\)\.$"),
    (b"__label__ one\n", r"1 other: line 1 \(no label\)\.$"),
    (b"__label__" + b"a" * 1001 + b" one\n", r"line 1 \(a label of 1,001 characters\)\.$"),
    (b"__label__a\x1b[31m one\n", r"line 1 \(a label that cannot be printed\)\.$"),
    (b"__label__a one\n" + b"x\n" * 10, r"got 10 others: lines 2 \(no label\), .*, 11 \(no label\)\.$"),
    (b"__label__a one\n" + b"x\n" * 1200, r"got 1,200 others: lines 2 \(no label\), .*, 11 \(no label\), \.\.\.\.$"),
    (b"__label__a one\n__label__b K\xf6ln\n", r"expected text in UTF-8, got other bytes in line 2\.$"),
    (b"\x93NUMPY\1\0" + bytes(range(256)), r"expected text in UTF-8, got a binary file\.$"),
    ("__label__a one\n".encode("utf-16"), r"expected text in UTF-8, got UTF-16\.$"),
    (b"__label__a one\n__label__a two\n__label__a three\n", r"expected at least 2 classes, got 1\.$"),
]
ROW = "expected rows with a text and a label, got "
TABLE = r"expected a table as Python's csv writes it, got .*, "
BAD_TABLES: list[tuple[bytes, str]] = [
    (b"", r"expected columns text and label, got an empty file\.$"),
    (b"text,label\n", ROW + r"none\.$"),
    (b"sentence,label\na,b\n", r"expected columns text and label, got no text among 'sentence', 'label'\.$"),
    (b"text;label\na;b\n", r"got no text among 'text;label'\.$"),
    (b"text,label,text\na,b,c\n", r"got 2 text among 'text', 'label', 'text'\.$"),
    (
        b'text,label\n"a\nb",\n\nc,d,e\n ,f\ng\n',
        r"4 others: lines 2 \(no label\), 5 \(3 fields\), 6 \(no words\), 7 \(1 field\)\.$",
    ),
    (b'text,label\na,b\n"c\nd,e\n', TABLE + r"line 3\.$"),
    (b'text,label\n"a" b,c\n', TABLE + r"line 2\.$"),
    (b'"text,label\n', TABLE + r"line 1\.$"),
    (b'text,label\na,b\n"K\n\xf6ln",c\n', r"expected text in UTF-8, got other bytes in line 4\.$"),
    (b'text,label\na,"b\nc"\n', r"line 2 \(a label that cannot be printed\)\.$"),
    (b"text,label\na,b\nc,b\nd,b\n", r"expected at least 2 classes, got 1\.$"),
]


def check_refused(path: Path, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        load_texts(path)
    assert str(caught.value).startswith(str(path))
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(("content", "message"), BAD_LINES)
def test_lines_that_are_none_are_named(content: bytes, message: str, tmp_path: Path, cache: Path) -> None:
    check_refused(written(tmp_path, content), message)
    assert "2 classes" in message or not list(cache.glob("texts/*/*.npy"))


@pytest.mark.parametrize(("content", "message"), BAD_TABLES)
@pytest.mark.parametrize("name", ["mine.csv", "mine.tsv"])
def test_tables_that_are_none_are_refused(content: bytes, message: str, name: str, tmp_path: Path) -> None:
    if name == "mine.tsv":
        content = content.replace(b",", b"\t")
    check_refused(written(tmp_path, content, name), message)


@pytest.mark.slow
def test_what_is_too_long_or_too_many_is_refused(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_files, "MOST_LINE", 50)
    monkeypatch.setattr(source, "MOST_LINE", 50)
    within = b"__label__a " + b"x" * 38 + b"\n"
    check_refused(
        written(tmp_path, within + b"y" + within), r"expected lines of at most 50 bytes, got more in line 2\.$"
    )
    assert len(load_texts(written(tmp_path, within + b"__label__b x\n__label__c y", "other.txt")).class_names) == 3
    open_quote = b'text,label\na,b\n"' + b"word\n" * 30
    check_refused(written(tmp_path, open_quote, "mine.csv"), r"got field larger than field limit \(50\), line 3\.$")
    monkeypatch.setattr(row_files, "MOST_CLASSES", 2)
    arrays = set(cache.glob("texts/*/*.npy"))
    check_refused(as_txt(tmp_path / "many", ROWS), r"expected at most 2 classes, got more\.$")
    assert set(cache.glob("texts/*/*.npy")) == arrays  # it has not read to the end
    check_refused(in_folder(tmp_path, as_txt, ROWS[:2], ROWS[2:3]), r"expected at most 2 classes, got more\.$")


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"label": pa.array([1.0] * 60)}, r"expected label as strings or integers, got double\.$"),
        ({"text": pa.array([b"a"] * 60)}, r"expected text as strings, got binary\.$"),
        ({"text": pa.array([1] * 60)}, r"expected text as strings, got int64\.$"),
        ({"label": pa.array([None, *"abc" * 19, "", "a"])}, ROW + r"2 others: rows 0 \(no label\), 58 \(no label\)\.$"),
        ({"text": pa.array(["a"] * 58 + [None, " "])}, ROW + r"2 others: rows 58 \(no words\), 59 \(no words\)\.$"),
    ],
)
def test_parquet_files_that_are_none_are_refused(columns: dict[str, Any], message: str, tmp_path: Path) -> None:
    check_refused(as_parquet(tmp_path / "mine", ROWS, **columns), message)


@pytest.mark.slow
def test_parquet_files_without_what_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = as_parquet(tmp_path / "mine", ROWS)
    table = parquet.read_table(path)
    parquet.write_table(table.drop(["text"]), path)
    check_refused(path, r"expected columns text and label, got no text among 'label'\.$")
    parquet.write_table(table.slice(0, 0), path)
    check_refused(path, ROW + r"none\.$")
    path.write_bytes(b"PAR1" + os.urandom(100))
    check_refused(path, "expected a parquet file, got Arrow")
    monkeypatch.setattr("softmaxes.lab.data.npy.UNFOLDED", 0)
    check_refused(as_parquet(path, [("x" * 10_000_000, "a")] * 2), "expected what unfolds to at most .* save the texts")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    check_refused(path, r"expected the package pyarrow, .*pip install 'softmaxes\[parquet\]'\.$")


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    check_refused(tmp_path / "nowhere", r"expected a file or a folder with texts, got none of that name\.$")
    check_refused(
        written(tmp_path, b"words", "mine.doc"), r"expected a file .txt, .csv, .tsv, .parquet, got another file"
    )
    check_refused(Path("/dev/null"), r"expected a regular file, got a device\.$")
    for name in ("pipe.csv", "pipe.parquet"):
        os.mkfifo(tmp_path / name)
        check_refused(tmp_path / name, r"expected a regular file, got a pipe\.$")
    folder = in_folder(tmp_path, as_txt)
    (folder / "test.txt").unlink()
    check_refused(folder, r"mine: expected one file test\.\* with texts \(.txt, .csv, .tsv, .parquet\), got none\.$")
    as_tsv(folder / "test", TEST)
    check_refused(folder, r"mine: expected two files of one format, got train.txt and test.tsv\.$")
    as_tsv(folder / "train", TRAIN)
    check_refused(folder, r"mine: expected one file train\.\* with texts .*, got train.tsv, train.txt\.$")
    (folder / "train.txt").unlink()
    (folder / "train.tsv").unlink()
    (folder / "train.tsv").mkdir()
    check_refused(folder, r"mine/train.tsv: expected a regular file, got a folder\.$")


def test_what_needs_texts_in_memory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"--long-tail: expected data that are read into memory, .*, which is mapped\.$"
    ):
        load_data("text", data_dir=as_txt(tmp_path / "mine", ROWS), long_tail=2)


# The command line


def test_texts_stay_in_the_cache_for_training(tmp_path: Path) -> None:
    data, store = (
        load_texts(as_txt(tmp_path / "mine", [("word " * 1000 + text, label) for text, label in ROWS])),
        Store(tmp_path),
    )
    lay_out(data, store)
    assert store.tensors().stat().st_size < 4000


@pytest.mark.slow
def test_compare_on_texts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, out = in_folder(tmp_path, as_table, [(f"{label} {text}", label) for text, label in ROWS]), tmp_path / "out"
    words = ["compare", "--data", "text", "--data-dir", str(folder), "--heads", "softmax", "hierarchical", "--dim", "8"]
    assert main([*words, "--seeds", "1", "--epochs", "2", "--jobs", "2", "--buckets", "500", "--out", str(out)]) == 0
    assert "softmax" in capsys.readouterr().out
    assert len(Store(out).results(Store(out).study())) == 2
    assert "Texts from files." in (out / "report.html").read_text()


def test_bad_texts_are_one_line_and_nothing_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, out = written(tmp_path, b"__label__a one\ntwo\n"), tmp_path / "out"
    assert main(["compare", "--data", "text", "--data-dir", str(path), "--out", str(out)]) == 2
    assert capsys.readouterr().err == (
        f'softmaxes: {path}: expected lines "__label__NAME words", got 1 other: line 2 (no label).\n'
    )
    assert not out.exists()
