"""Files of rows, each with its labels: read once, row by row, and kept as arrays in the cache folder.

Nothing in these files is run.
"""

import codecs
import hashlib
import json
from array import array
from collections.abc import Callable, Container, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import torch
from rich.console import Console
from rich.progress import Progress
from torch import Tensor

from softmaxes.files import BEGINNING, InputError, open_regular, write_whole
from softmaxes.lab.data.converted import Conversion, converted
from softmaxes.lab.data.features import MOST_CLASSES, PARTS
from softmaxes.lab.data.npy import Growing, Items, npy, save_whole
from softmaxes.lab.data.ragged import LabelSets
from softmaxes.names import plural

MOST_LINE = 2**24  # bytes of a line, and characters of a field
HELD_OUT = 10  # one row in this many is for the test, where there is one file
HASHES = 2**64
LISTED = 10  # rows that an error names
RECIPE = 2  # of the files in the cache: another number has files converted anew
WRITTEN = r"(train|test)_(bytes|pairs|ends|labels|label_ends)\.npy|names\.json"
PIECE = 2**20  # bytes after which the progress is told

Heard = Callable[[int], None]


class Row(NamedTuple):
    """A row with its labels.

    Attributes:
        place: the number of its line or row in the file.
        labels: names of its classes; one that has none is left out.
        content: its items, as they lie in memory.
        cut: whether they are not all that the file has.
        problem: why it cannot be used; empty if it can.
    """

    place: int
    labels: Sequence[str] = ()
    content: bytes = b""
    cut: bool = False
    problem: str = ""


class Form(NamedTuple):
    """A format of files with rows.

    Attributes:
        what: the name of such a file in an error.
        rows: what its rows are, in an error.
        noun: what a row is called.
        unit: what `Row.place` counts: lines or rows.
        items: what a row consists of.
        read: yields the rows of a file, and calls its second argument with each number of bytes that it has read.
    """

    what: str
    rows: str
    noun: str
    unit: str
    items: Items
    read: Callable[[Path, Heard], Iterator[Row]]


class Kept(NamedTuple):
    """The rows of a part as they lie in the cache, those without labels left out.

    Attributes:
        content: the file that holds their items.
        ends: where each row ends among the items, (N,).
        labels: of each row the numbers of its labels in `names`, in the file's order.
        names: of the classes, in the order in which the file has them.
        told: how many rows there are of which the description tells: ``cut``, ``several`` and ``unlabelled``.
    """

    content: Path
    ends: Tensor
    labels: LabelSets
    names: Sequence[str]
    told: dict[str, int]


def kept_rows(path: Path, form: Form, parts: Sequence[str]) -> dict[str, Kept]:
    """The rows of each part of a file, which is converted if it has not been.

    Args:
        path: the file.
        form: its format.
        parts: ``train`` or ``test``; or both, between which a hash of the row decides.

    Raises:
        OSError: it cannot be opened.
        InputError: it is broken, or does not fit the format; the message says where.
    """
    convert = partial(_convert, form=form, parts=parts)
    recipe = f"{'+'.join(parts)}/{form.items.name}/{RECIPE}"
    folder = converted(path, Conversion("texts", recipe, form.what, WRITTEN, last="names.json", convert=convert))
    told = json.loads((folder / "names.json").read_text(encoding="utf-8"))
    kept = {}
    for part in parts:
        ends, labels, label_ends = (
            torch.from_numpy(npy(folder / f"{part}_{what}.npy").read()) for what in ("ends", "labels", "label_ends")
        )
        content = folder / f"{part}_{form.items.name}.npy"
        kept[part] = Kept(content, ends, LabelSets(labels, label_ends), told["names"], told[part])
    return kept


def check_classes(number: int, path: Path) -> None:
    """Refuse more classes than there can be."""
    if number > MOST_CLASSES:
        raise InputError(f"{path}: expected at most {MOST_CLASSES:,} classes, got more.")


def files_of_parts(folder: Path, what: str, suffixes: Container[str] | None = None) -> list[Path]:
    """The file to train on and the one to test on, of a folder that has one of each; `what` is the error's word."""
    found = []
    for part in PARTS:
        files = sorted(file for file in folder.glob(f"{part}.*") if suffixes is None or file.suffix.lower() in suffixes)
        if len(files) != 1:
            got = ", ".join(file.name for file in files[:LISTED]) or "none"
            raise InputError(f"{folder}: expected one file {part}.* with {what}, got {got}.")
        found += files
    return found


def past_mark(path: Path, file: BinaryIO) -> bytes:
    """Go to the first character of a text; gives the file's first bytes. UTF-16 is refused."""
    beginning = file.read(BEGINNING)
    if beginning.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise InputError(f"{path}: expected text in UTF-8, got UTF-16.")
    file.seek(len(codecs.BOM_UTF8) if beginning.startswith(codecs.BOM_UTF8) else 0)
    return beginning


def no_utf8(path: Path, beginning: bytes, line: int) -> InputError:
    """The error of bytes in a line that are no UTF-8."""
    got = "a binary file" if b"\0" in beginning else f"other bytes in line {line:,}"
    return InputError(f"{path}: expected text in UTF-8, got {got}.")


def lines(path: Path, heard: Heard) -> Iterator[str]:
    """The lines of a file, with their ends.

    Raises:
        InputError: it is not in UTF-8, or a line is too long.
    """
    with open_regular(path) as file:
        beginning = past_mark(path, file)
        number = since = 0
        while line := file.readline(MOST_LINE + 1):
            number += 1
            since += len(line)
            if since >= PIECE:
                heard(since)
                since = 0
            if len(line) > MOST_LINE:
                raise InputError(f"{path}: expected lines of at most {MOST_LINE:,} bytes, got more in line {number:,}.")
            try:
                text = line.decode()
            except UnicodeDecodeError:
                raise no_utf8(path, beginning, number) from None
            yield text


# Conversion


def _convert(path: Path, folder: Path, console: Console, *, form: Form, parts: Sequence[str]) -> None:
    """Write a file's rows as .npy files, holding one at a time."""
    reading = _Reading(path, form, console)
    taken = reading.take(folder, parts, HASHES // HELD_OUT)
    if len(parts) > 1 and not taken["test"].ends:  # so few rows that none has such a hash
        taken = reading.take(folder, parts, reading.least + 1)
    rows = sum(len(one.ends) for one in taken.values())
    told: dict[str, Any] = {"names": list(reading.names)}
    for part, one in taken.items():
        if not one.ends:
            got = plural(rows, form.noun)
            raise InputError(f"{path}: expected {form.noun}s of which some can be held out, got {got} alike.")
        for what in ("ends", "labels", "label_ends"):
            save_whole(folder / f"{part}_{what}.npy", np.frombuffer(getattr(one, what), dtype=np.int64))
        told[part] = {"cut": one.cut, "several": one.several, "unlabelled": 0}
    told[parts[0]]["unlabelled"] = reading.unlabelled
    text = json.dumps(told)
    write_whole(folder / "names.json", lambda place: place.write_text(text, encoding="utf-8"))


def write_together(
    paths: Sequence[Path], write: Callable[[tuple[BinaryIO, ...]], None], files: tuple[BinaryIO, ...] = ()
) -> None:
    """As `write_whole`, for files that grow side by side."""
    if len(files) == len(paths):
        write(files)
        return

    def begin(place: Path) -> None:
        with place.open("wb") as file:
            write_together(paths, write, (*files, file))

    write_whole(paths[len(files)], begin)


class _Taken:
    """The rows of one part: their items go to a file at once.

    Attributes:
        ends: where each row ends among the items.
        labels: the classes of each, by their numbers.
        label_ends: where those of each row end.
        cut: how many were cut.
        several: how many have several classes.
    """

    def __init__(self, file: BinaryIO, items: Items) -> None:
        self.ends, self.labels, self.label_ends = array("q"), array("q"), array("q")
        self.cut = self.several = 0
        self._content = Growing(file, items)

    def add(self, row: Row, labels: Sequence[int]) -> None:
        """Take a row, with the numbers of its labels."""
        self.cut += row.cut
        self.several += len(labels) > 1
        self._content.write(row.content)
        self.ends.append(self._content.length)
        self.labels.extend(labels)
        self.label_ends.append(len(self.labels))

    def finish(self) -> None:
        """Say in the file how many items there are."""
        self._content.finish()


class _Reading:
    """One file that is read, perhaps twice.

    Attributes:
        names: for the name of each class its number, in the order in which they were first seen.
        least: the least hash of a row.
        unlabelled: how many rows have no label.
    """

    def __init__(self, path: Path, form: Form, console: Console) -> None:
        self.names: dict[str, int] = {}
        self.least = HASHES
        self.unlabelled = 0
        self._path, self._form, self._console = path, form, console

    def take(self, folder: Path, parts: Sequence[str], below: int) -> dict[str, _Taken]:
        """Write the items of each part; where there are two, rows with a hash below a bound are for the test."""
        taken: dict[str, _Taken] = {}

        def write(files: tuple[BinaryIO, ...]) -> None:
            for part, file in zip(parts, files, strict=True):
                taken[part] = _Taken(file, self._form.items)
            self._sort(taken, below)
            for one in taken.values():
                one.finish()

        write_together([folder / f"{part}_{self._form.items.name}.npy" for part in parts], write)
        return taken

    def _sort(self, taken: dict[str, _Taken], below: int) -> None:
        others: list[str] = []
        number = rows = self.unlabelled = 0
        for row in self._rows():
            if row.problem:
                number += 1
                if number <= LISTED:
                    others.append(f"{row.place:,} ({row.problem})")
            elif row.labels:
                rows += 1
                labels = [self.names.setdefault(label, len(self.names)) for label in row.labels]
                check_classes(len(self.names), self._path)
                self._part(taken, row.content, below).add(row, labels)
            else:
                self.unlabelled += 1
        if number:
            raise self._refusal(number, others)
        if not rows:
            got = f"{self.unlabelled:,} without a label" if self.unlabelled else "none"
            raise InputError(f"{self._path}: expected {self._form.rows}, got {got}.")

    def _part(self, taken: dict[str, _Taken], content: bytes, below: int) -> _Taken:
        if len(taken) == 1:
            (one,) = taken.values()
            return one
        found = int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "big")
        self.least = min(self.least, found)
        return taken["test" if found < below else "train"]

    def _rows(self) -> Iterator[Row]:
        with Progress(console=self._console, transient=True, disable=not self._console.is_terminal) as progress:
            task = progress.add_task(f"Converting {self._path.name}", total=self._path.stat().st_size)
            yield from self._form.read(self._path, lambda size: progress.advance(task, size))

    def _refusal(self, number: int, listed: Sequence[str]) -> InputError:
        unit, others = (self._form.unit, "other") if number == 1 else (f"{self._form.unit}s", "others")
        more = ", ..." if number > len(listed) else ""
        return InputError(
            f"{self._path}: expected {self._form.rows}, got {number:,} {others}: {unit} {', '.join(listed)}{more}."
        )
