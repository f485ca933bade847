"""The sparse format of the Extreme Classification Repository: rows of features that are not 0, each with its labels."""

import codecs
import re
from collections.abc import Iterator
from itertools import repeat
from pathlib import Path
from typing import NamedTuple

import numpy as np

from softmaxes.files import BEGINNING, InputError
from softmaxes.lab.data.features import most_classes
from softmaxes.lab.data.ragged import SparseVectors
from softmaxes.lab.data.row_files import Form, Heard, Row, lines
from softmaxes.names import plural, printable

MOST_FEATURES = 2**31 - 1  # whose indices are int32
SHOWN = 40  # characters of a line in an error
DIGITS = 18  # of a number in the header

HEADER = re.compile(r"\s*(\d{1,18})[ \t]+(\d{1,18})[ \t]+(\d{1,18})\s*", re.ASCII)
PAIR = r"\d{1,10}:[-+]?(?:\d++(?:\.\d*+)?|\.\d++)(?:[eE][-+]?\d++)?"
LINE = re.compile(rf"(\d{{1,10}}(?:,\d{{1,10}})*+)?((?:[ \t]++{PAIR})*+)\s*", re.ASCII)
LABELS = re.compile(r"\d+(?:,\d+)*", re.ASCII)
LIKE_PAIR = re.compile(r"\d+:[-+.\w]+", re.ASCII)


class Header(NamedTuple):
    """What the first line of a file says."""

    rows: int
    features: int
    labels: int


def is_sparse(beginning: bytes) -> bool:
    """Whether a file begins as one of this format: with its header, or with rows as such a file has them.

    Args:
        beginning: `BEGINNING` bytes of it, or all if it has fewer.
    """
    text = beginning.removeprefix(codecs.BOM_UTF8).decode(errors="replace")
    if len(beginning) == BEGINNING:  # the last word may be cut off
        text = text[: max(map(text.rfind, " \n")) + 1]
    first, second = [*text.splitlines(), "", ""][:2]
    return HEADER.fullmatch(first) is not None or _like_row(first) or _like_row(second)


def _like_row(line: str) -> bool:
    words = line.split()
    if words and not line[:1].isspace() and LABELS.fullmatch(words.pop(0)) is None:
        return False
    return bool(words) and all(map(LIKE_PAIR.fullmatch, words))


def header(path: Path) -> Header:
    """What the first line of a file says.

    Raises:
        OSError: it cannot be opened.
        InputError: it is no header, or says what cannot be.
    """
    return _header(next(lines(path, lambda _: None), ""), path)


def _header(line: str, path: Path) -> Header:
    if (found := HEADER.fullmatch(line)) is None:
        raise InputError(
            f'{path}: expected a first line "ROWS FEATURES LABELS", e.g. "100 5000 30", got {_shown(line)}.'
        )
    said = Header(*map(int, found.groups()))
    bounds = Header(said.rows, MOST_FEATURES, most_classes(said.rows))
    for what, number, most in zip(Header._fields, said, bounds, strict=True):
        if not 1 <= number <= most:
            bound = "at least 1" if number < 1 else f"at most {most:,}"
            why = ", by the number of rows" if number > 1 and what == "labels" else ""
            raise InputError(f"{path}: expected {bound} {what} in the first line{why}, got {number:,}.")
    return said


def _read(path: Path, heard: Heard) -> Iterator[Row]:
    found = lines(path, heard)
    said = _header(next(found, ""), path)
    place = rows = blank = problems = 0
    for place, line in enumerate(found, 2):
        if not line.strip():
            blank += 1  # a row with nothing in it, if others follow
            continue
        yield from repeat(Row(place), blank)
        row = _row(place, line, said)
        problems += bool(row.problem)
        rows, blank = rows + blank + 1, 0
        yield row
    ending = max(0, min(blank, said.rows - rows))
    yield from repeat(Row(place), ending)
    if not problems and rows + ending != said.rows:
        raise InputError(f"{path}: expected {plural(said.rows, 'row')}, as the first line says, got {rows + ending:,}.")


def _row(place: int, line: str, said: Header) -> Row:
    found = LINE.fullmatch(line)
    if found is None:
        return Row(place, problem=_problem(line, said))
    labels = list(dict.fromkeys(map(int, (found[1] or "").split(",")))) if found[1] else []
    numbers = np.fromstring(found[2].replace(":", " "), dtype=np.float64, sep=" ").reshape(-1, 2)
    with np.errstate(over="ignore"):
        values = numbers[:, 1].astype(np.float32)
    if not np.isfinite(values).all() or any(label >= said.labels for label in labels):
        return Row(place, problem=_problem(line, said))
    if len(numbers):
        order = numbers[:, 0]
        if not (order[1:] > order[:-1]).all():
            by_index = order.argsort(kind="stable")
            order, values = order[by_index], values[by_index]
        if order[-1] >= said.features or (order[1:] == order[:-1]).any():
            return Row(place, problem=_problem(line, said))
        numbers[:, 0] = order
    pairs = np.empty(numbers.shape, dtype=np.int32)
    pairs[:, 0], pairs[:, 1] = numbers[:, 0], values.view(np.int32)
    return Row(place, tuple(map(str, labels)), pairs.tobytes())


def _problem(line: str, said: Header) -> str:
    """The first thing in a line for which it is no row."""
    words = line.split()
    if not line[:1].isspace() and words:
        labels = words.pop(0)
        if LABELS.fullmatch(labels) is None:
            return f"{_shown(labels)} for labels"
        for label in labels.split(","):
            if _number(label) >= said.labels:
                return f"label {_shown(label)}, not below {said.labels:,}"
    seen: set[int] = set()
    for word in words:
        index, colon, value = word.partition(":")
        if not colon or re.fullmatch(r"\d+", index, re.ASCII) is None:
            return f"{_shown(word)} for index:value"
        if _number(index) >= said.features:
            return f"index {_shown(index)}, not below {said.features:,}"
        try:
            with np.errstate(over="ignore"):
                finite = bool(np.isfinite(np.float32(float(value))))
        except ValueError:
            finite = False
        if not finite or "_" in value or not value.isascii():
            return f"value {_shown(value)}"
        if int(index) in seen:
            return f"index {index} twice"
        seen.add(int(index))
    return f"{_shown(line)} for labels index:value"


def _number(digits: str) -> int:
    """A whole number; one of more digits than there can be is a large one."""
    return int(digits) if len(digits) <= DIGITS else 10**DIGITS


def _shown(text: str) -> str:
    return repr(printable(text.strip(), SHOWN))


FORM = Form(
    "a file of the Extreme Classification Repository",
    'rows "LABEL,LABEL INDEX:VALUE ..."',
    "row",
    "line",
    SparseVectors.ITEMS,
    _read,
)
