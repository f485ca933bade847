"""Names of strangers, in lines, in names of files, in cells and in Markdown; and that every file's text is UTF-8."""

import ast
import csv
import io
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from softmaxes.names import distinct, file_name, from_cell, in_cell, in_code, printable

SOURCE = Path(__file__).parents[1] / "src"
STARTS = st.sampled_from([*"=+-@\t\r\n' '\"|", "＝", "＋", "－", "＠", "''=", "'-1", "1e5", "-1.5", "+3", ""])
ANY = st.builds(str.__add__, STARTS, st.text())


@given(ANY, st.none() | st.integers(3, 50))
@pytest.mark.slow
def test_what_is_printed_is_one_printable_line(text: str, limit: int | None) -> None:
    shown = printable(text, limit)
    assert shown.isprintable()
    assert len(shown) == (len(text) if limit is None else min(len(text), limit))
    shown.encode()


@given(ANY)
def test_a_file_s_name_can_be_one_anywhere(text: str) -> None:
    name = file_name(text)
    assert name == Path(name).name
    assert 1 <= len(name.encode()) <= 151
    assert not set(name) & set("/\\:*?\"<>|\0\n\t $~%#;&[]`'")
    assert file_name(name) == name


def test_what_a_system_keeps_for_itself_is_no_file_s_name() -> None:
    for name in ("", ".", "..", "...", "con", "NUL", "nul.txt", "LPT1", "com9.tar.gz"):
        assert file_name(name) == f"-{name}"
    for name in ("glyphs", "glyphs-1000", "console", "..a", "漢字", "x.y"):
        assert file_name(name) == name
    assert file_name(os.fsdecode(b"by\xff")) == "by-"


@given(st.lists(st.text("aAbB_23", max_size=4), max_size=12))
def test_names_of_files_are_made_distinct(names: list[str]) -> None:
    found = distinct(names)
    assert len({name.casefold() for name in found}) == len(names)
    assert all(other.startswith(name) for name, other in zip(names, found, strict=True))
    assert names[:1] == found[:1]


@given(ANY)
def test_a_cell_is_no_formula_and_is_read_back(text: str) -> None:
    """By way of a file, as a spreadsheet would read it."""
    file = io.StringIO(newline="")
    csv.writer(file).writerow([in_cell(text), "end"])
    ((cell, _),) = csv.reader(io.StringIO(file.getvalue(), newline=""))
    assert from_cell(cell) == text
    assert not cell.startswith(("=", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠"))
    if cell.startswith(("+", "-")):
        float(cell)
    assert not cell.lstrip().startswith(("=", "@"))


def test_what_is_no_formula_stays_as_it_is() -> None:
    for value in ("softmax", "a=b", "x - y", "'tis", "", "-1.5", "+2e-3", "1", -1.5, 3, None, True, "≈ −3", "–"):
        assert in_cell(value) is value
    for text in ("=1+1", "+1+1", "-1+1", "-٣", "@SUM(A1)", " =1", "\t=1", "\rx", "'=1", '=HYPERLINK("http://x")'):
        assert in_cell(text) == f"'{text}"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("softmax", "`softmax`"),
        ("a`b", "``a`b``"),
        ("`a``", "``` `a`` ```"),
        ("a|b\\|c", "`a\\|b\\\\|c`"),
        (" a ", "`  a  `"),
    ],
)
def test_a_name_is_one_code_span(name: str, expected: str) -> None:
    assert in_code(name) == expected


BINARY = ("Image", "archive", "self", "tarfile", "zipfile")  # whose `open` gives bytes


@pytest.mark.slow
def test_every_text_that_is_read_or_written_says_its_encoding() -> None:
    """Or it would be another one where the system's is: under ``LC_ALL=C``, or on Windows."""
    silent = []
    for path in SOURCE.rglob("*.py"):
        for call in (node for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Call)):
            name = getattr(call.func, "attr", getattr(call.func, "id", ""))
            owner = getattr(getattr(call.func, "value", None), "id", "")
            given = [*call.args, *(word.value for word in call.keywords)]
            words = {str(node.value) for one in given for node in ast.walk(one) if isinstance(node, ast.Constant)}
            if name not in ("open", "fdopen", "read_text", "write_text") or owner in BINARY:
                continue
            if (owner, name) != ("os", "open") and not words & {"utf-8", "utf-8-sig", "rb", "wb", "ab", "xb", "r+b"}:
                silent.append(f"{path.relative_to(SOURCE)}:{call.lineno}")
    assert silent == []
