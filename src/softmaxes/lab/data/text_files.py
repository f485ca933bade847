"""The user's own texts, each with its class: lines in fastText's format, tables .csv and .tsv, or parquet files.

Nothing in these files is run. Each is read once, row by row, and becomes arrays in the cache folder.
"""

import codecs
import csv
import hashlib
import json
import re
from array import array
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import torch
from rich.console import Console
from rich.progress import Progress

from softmaxes.files import BEGINNING, InputError, open_regular, write_whole
from softmaxes.lab.data.converted import (
    Conversion,
    check_columns,
    check_pyarrow,
    columns_of,
    converted,
    is_strings,
    open_parquet,
)
from softmaxes.lab.data.dataset import CHUNK, Data
from softmaxes.lab.data.features import MOST_CLASSES, MOST_NAME, PARTS
from softmaxes.lab.data.npy import check_unfolded, mapped_bytes, npy, save_whole
from softmaxes.lab.data.ragged import Texts
from softmaxes.names import plural

LABEL = "__label__"  # before each label in fastText's format
COLUMNS = ("text", "label")  # of a table
MOST_TEXT = 2**16  # bytes of a text; a longer one is cut
MOST_LINE = 2**24  # bytes of a line, and characters of a field
# A text is written once for each label: all of them may come to COPIES times the file's size, and MOST_COPIED more.
MOST_COPIED = 2**28
COPIES = 100
HELD_OUT = 10  # one text in this many is for the test, where there is one file
HASHES = 2**64
LISTED = 10  # rows that an error names
RECIPE = 1  # of the files in the cache: another number has texts converted anew
WRITTEN = r"(train|test)_(bytes|ends|labels)\.npy|names\.json"
SPARSE = re.compile(r"\s*\d+ \d+ \d+\s*")  # the first line of a file of the Extreme Classification Repository
PIECE = 2**20  # bytes after which the progress is told

Heard = Callable[[int], None]


class Row(NamedTuple):
    """A text with its labels, as it stands in a file.

    Attributes:
        place: the number of its line or row.
        labels: names of its classes; empty if the file gives none.
        text: the words, as the file has them.
        problem: why it cannot be used; empty if it can.
    """

    place: int
    labels: Sequence[str]
    text: str
    problem: str = ""


class Form(NamedTuple):
    """A format of files with texts.

    Attributes:
        what: the name of such a file in an error.
        rows: the name of its rows in an error.
        unit: what `Row.place` counts: lines or rows.
        read: yields the rows of a file, and calls its second argument with each number of bytes that it has read.
    """

    what: str
    rows: str
    unit: str
    read: Callable[[Path, Heard], Iterator[Row]]


def load_texts(path: Path) -> Data:
    """Reads texts, each with the name of its class.

    The path is a folder with a file ``train.*`` and a file ``test.*`` of one format; or a file, of whose texts a tenth
    is held out as the test set. A hash of the text decides, so that equal texts are in the same part.

    The format is known by the end of the name:

    - ``.txt``: fastText's. Each line has words and at least one label, ``__label__NAME``, which ends at the next space.
      A file of another name that begins with ``__label__`` is one, too.
    - ``.csv`` and ``.tsv``: a line with names of columns, among them ``text`` and ``label``; then a row for each text.
    - ``.parquet``: with the columns ``text`` (strings) and ``label`` (strings or integers). It needs the extra:
      ``pip install 'softmaxes[parquet]'``.

    A text that has several labels stands in the training set once for each; in the test its first one counts. Words are
    separated by single spaces, characters that cannot be printed are removed, and texts of more than `MOST_TEXT` bytes
    are cut. Classes are the labels of both parts, sorted by character code.

    Raises:
        OSError: a file cannot be opened.
        InputError: something is missing, broken or does not fit; the message says which file, and where in it.
    """
    if not path.exists():
        raise InputError(f"{path}: expected a file or a folder with texts, got none of that name.")
    files = dict(zip(PARTS, _of_folder(path), strict=True)) if path.is_dir() else dict.fromkeys(PARTS, path)
    if path.is_dir():
        folders = {part: _converted(file, (part,)) for part, file in files.items()}
    else:
        folders = dict.fromkeys(PARTS, _converted(path, PARTS))
    told = {folder: json.loads((folder / "names.json").read_text(encoding="utf-8")) for folder in folders.values()}
    class_names = sorted({name for one in told.values() for name in one["names"]})
    _check_classes(len(class_names), path)
    place = {name: label for label, name in enumerate(class_names)}
    labels = {}
    for part, folder in folders.items():
        own = np.array([place[name] for name in told[folder]["names"]], dtype=np.int64)
        labels[part] = torch.from_numpy(own[npy(folder / f"{part}_labels.npy").read()])
    bytes_of = {part: folder / f"{part}_bytes.npy" for part, folder in folders.items()}
    texts = {
        part: Texts(mapped_bytes(bytes_of[part]), torch.from_numpy(npy(folder / f"{part}_ends.npy").read()))
        for part, folder in folders.items()
    }
    sums = {what: sum(one[what] for one in told.values()) for what in ("cut", "several")}
    untrained = int((torch.bincount(labels["train"], minlength=len(class_names)) == 0).sum())
    return Data(
        name=path.resolve().name if path.is_dir() else path.stem,
        description=_description(path.is_dir(), sums["cut"], sums["several"], untrained),
        source=str(path),
        train_inputs=texts["train"],
        train_labels=labels["train"],
        test_inputs=texts["test"],
        test_labels=labels["test"],
        class_names=class_names,
        files=bytes_of,
    )


def holds_texts(path: Path) -> bool:
    """Whether a path can be nothing but one of texts: a file of a name that `load_texts` knows, or a folder with two.

    A folder that has folders in it may hold images, with lists of them; one with parquet files may hold vectors.
    """
    if not path.is_dir():
        return path.suffix.lower() in FORMS and path.exists()
    kinds = [suffix for suffix in FORMS if suffix != ".parquet"]
    if not all(any((path / f"{part}{suffix}").is_file() for suffix in kinds) for part in PARTS):
        return False
    return not any(inner.is_dir() for inner in path.iterdir() if not inner.name.startswith("."))


def _of_folder(folder: Path) -> list[Path]:
    """The files to train on and to test on, of one format."""
    found = []
    known = ", ".join(FORMS)
    for part in PARTS:
        files = sorted(file for file in folder.glob(f"{part}.*") if file.suffix.lower() in FORMS)
        if len(files) != 1:
            got = ", ".join(file.name for file in files[:LISTED]) or "none"
            raise InputError(f"{folder}: expected one file {part}.* with texts ({known}), got {got}.")
        found += files
    train, test = found
    if train.suffix.lower() != test.suffix.lower():
        raise InputError(f"{folder}: expected two files of one format, got {train.name} and {test.name}.")
    return found


def _kind(path: Path) -> str:
    """The format of a file: one of `FORMS`."""
    if path.suffix.lower() in FORMS:
        return path.suffix.lower()
    with open_regular(path) as file:
        beginning = file.read(BEGINNING)
    if not beginning.removeprefix(codecs.BOM_UTF8).startswith(LABEL.encode()):
        raise InputError(f"{path}: expected a file {', '.join(FORMS)}, got another file.")
    return ".txt"


def _description(parted: bool, cut: int, several: int, untrained: int) -> str:
    held_out = "" if parted else ", a tenth of them held out as test texts by a hash of each"
    found = [f"Texts from {'files' if parted else 'a file'}{held_out}."]
    if cut:
        found.append(f"Texts that were cut to {MOST_TEXT:,} bytes: {cut:,}.")
    if several:
        found.append(
            f"Texts of several classes: {several:,}; training takes one once for each, the test for its first."
        )
    if untrained:
        found.append(f"Classes with test texts alone: {untrained:,}.")
    return " ".join(found)


# Conversion


def _converted(path: Path, parts: tuple[str, ...]) -> Path:
    """The folder in the cache with the arrays of each part: ``bytes``, ``ends`` and ``labels``; and ``names.json``."""
    kind = _kind(path)
    if kind == ".parquet":
        check_pyarrow(path)
    convert = partial(_convert, kind=kind, parts=parts)
    recipe = f"{'+'.join(parts)}/{RECIPE}"
    return converted(path, Conversion("texts", recipe, FORMS[kind].what, WRITTEN, last="names.json", convert=convert))


def _convert(path: Path, folder: Path, console: Console, *, kind: str, parts: tuple[str, ...]) -> None:
    """Write a file's texts as .npy files, holding one at a time."""
    reading = _Reading(path, FORMS[kind], console)
    taken = reading.take(folder, parts, HASHES // HELD_OUT)
    if len(parts) > 1 and not taken["test"].ends:  # so few texts that none has such a hash
        taken = reading.take(folder, parts, reading.least + 1)
    rows = sum(len(one.ends) for one in taken.values())
    for part, one in taken.items():
        if not one.ends:
            raise InputError(f"{path}: expected texts of which some can be held out, got {plural(rows, 'text')} alike.")
        for what in ("ends", "labels"):
            save_whole(folder / f"{part}_{what}.npy", np.frombuffer(getattr(one, what), dtype=np.int64))
    told = {
        "names": list(reading.names),
        "cut": sum(one.cut for one in taken.values()),
        "several": sum(one.several for one in taken.values()),
    }
    text = json.dumps(told)
    write_whole(folder / "names.json", lambda place: place.write_text(text, encoding="utf-8"))


def _write_together(
    paths: Sequence[Path], write: Callable[[tuple[BinaryIO, ...]], None], files: tuple[BinaryIO, ...] = ()
) -> None:
    """As `write_whole`, for files that grow side by side."""
    if len(files) == len(paths):
        write(files)
        return

    def begin(place: Path) -> None:
        with place.open("wb") as file:
            _write_together(paths, write, (*files, file))

    write_whole(paths[len(files)], begin)


class _Taken:
    """The texts of one part: their bytes go to a file at once.

    Attributes:
        ends: where each text ends in the file's bytes.
        labels: the class of each, by its number.
        end: where the last one ends.
        cut: how many were cut.
        several: how many have several classes.
    """

    def __init__(self, file: BinaryIO, once: bool) -> None:
        self.ends, self.labels = array("q"), array("q")
        self.cut = self.several = self.end = 0
        self._file, self._once = file, once
        self.write_header()

    def add(self, text: bytes, labels: Sequence[int], cut: bool) -> None:
        """Take a text, once for each label, or for the first alone."""
        self.cut += cut
        self.several += len(labels) > 1
        for label in labels[:1] if self._once else labels:
            self._file.write(text)
            self.end += len(text)
            self.ends.append(self.end)
            self.labels.append(label)

    def write_header(self) -> None:
        """Say at the beginning of the file how many bytes there are; numpy leaves room for any number."""
        self._file.seek(0)
        header = {"descr": "|u1", "fortran_order": False, "shape": (self.end,)}
        np.lib.format.write_array_header_1_0(self._file, header)


class _Reading:
    """One file that is read, perhaps twice.

    Attributes:
        names: for the name of each class its number, in the order in which they were first seen.
        least: the least hash of a text.
    """

    def __init__(self, path: Path, form: Form, console: Console) -> None:
        self.names: dict[str, int] = {}
        self.least = HASHES
        self._path, self._form, self._console = path, form, console

    def take(self, folder: Path, parts: tuple[str, ...], below: int) -> dict[str, _Taken]:
        """Write the bytes of each part; where there are two, texts with a hash below a bound are for the test."""
        taken: dict[str, _Taken] = {}

        def write(files: tuple[BinaryIO, ...]) -> None:
            for part, file in zip(parts, files, strict=True):
                taken[part] = _Taken(file, once=part == "test")
            self._sort(taken, below)
            for one in taken.values():
                one.write_header()

        _write_together([folder / f"{part}_bytes.npy" for part in parts], write)
        return taken

    def _sort(self, taken: dict[str, _Taken], below: int) -> None:
        others: list[str] = []
        number = rows = 0
        for row in self._rows():
            rows += 1
            text = normal(row.text)
            if problem := row.problem or self._problem(row.labels, text):
                number += 1
                if number <= LISTED:
                    others.append(f"{row.place:,} ({problem})")
                continue
            encoded = text.encode()
            if cut := len(encoded) > MOST_TEXT:
                encoded = encoded[:MOST_TEXT].decode(errors="ignore").rstrip().encode()
            labels = [self.names.setdefault(label, len(self.names)) for label in row.labels]
            _check_classes(len(self.names), self._path)
            self._part(taken, encoded, below).add(encoded, labels, cut)
            if len(labels) > 1:
                self._check_copied(taken, row.place)
        if number:
            raise self._refusal(number, others)
        if not rows:
            raise InputError(f"{self._path}: expected {self._form.rows}, got none.")

    def _part(self, taken: dict[str, _Taken], text: bytes, below: int) -> _Taken:
        if len(taken) == 1:
            (one,) = taken.values()
            return one
        found = int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big")
        self.least = min(self.least, found)
        return taken["test" if found < below else "train"]

    def _check_copied(self, taken: dict[str, _Taken], place: int) -> None:
        most = COPIES * self._path.stat().st_size + MOST_COPIED
        if (copied := sum(one.end for one in taken.values())) > most:
            raise InputError(
                f"{self._path}: expected copies of texts, one for each label, of at most {most:,} bytes, "
                f"got {copied:,} by {self._form.unit} {place:,}."
            )

    def _rows(self) -> Iterator[Row]:
        with Progress(console=self._console, transient=True, disable=not self._console.is_terminal) as progress:
            task = progress.add_task(f"Converting {self._path.name}", total=self._path.stat().st_size)
            yield from self._form.read(self._path, lambda size: progress.advance(task, size))

    def _problem(self, labels: Sequence[str], text: str) -> str:
        """Why a row is none."""
        if not labels:
            return "no label"
        for label in labels:
            if label in self.names:
                continue
            if not label:
                return "no label"
            if len(label) > MOST_NAME:
                return f"a label of {len(label):,} characters"
            if not label.isprintable():
                return "a label that cannot be printed"
        return "" if text else "no words"

    def _refusal(self, number: int, listed: Sequence[str]) -> InputError:
        unit, others = (self._form.unit, "other") if number == 1 else (f"{self._form.unit}s", "others")
        more = ", ..." if number > len(listed) else ""
        return InputError(
            f"{self._path}: expected {self._form.rows}, got {number:,} {others}: {unit} {', '.join(listed)}{more}."
        )


def normal(text: str) -> str:
    """A text with single spaces between its words, and without what cannot be printed."""
    text = " ".join(text.split())
    return text if text.isprintable() else " ".join("".join(filter(str.isprintable, text)).split())


def _check_classes(number: int, path: Path) -> None:
    if number > MOST_CLASSES:
        raise InputError(f"{path}: expected at most {MOST_CLASSES:,} classes, got more.")


# Formats


def lines(path: Path, heard: Heard) -> Iterator[str]:
    """The lines of a file, with their ends.

    Raises:
        InputError: it is not in UTF-8, or a line is too long.
    """
    with open_regular(path) as file:
        beginning = file.read(BEGINNING)
        file.seek(0)
        if beginning.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            raise InputError(f"{path}: expected text in UTF-8, got UTF-16.")
        if beginning.startswith(codecs.BOM_UTF8):
            file.seek(len(codecs.BOM_UTF8))
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
                got = "a binary file" if b"\0" in beginning else f"other bytes in line {number:,}"
                raise InputError(f"{path}: expected text in UTF-8, got {got}.") from None
            yield text


def _fasttext(path: Path, heard: Heard) -> Iterator[Row]:
    for number, line in enumerate(lines(path, heard), 1):
        if number == 1 and SPARSE.fullmatch(line):
            raise InputError(
                f'{path}: expected lines "{LABEL}NAME words", got the sparse format of the Extreme Classification '
                "Repository, which is not read yet."
            )
        first, *rest = line.split(None, 1) or [""]
        if not first:
            continue
        if line.count(LABEL) == 1 and first.startswith(LABEL):
            yield Row(number, (first.removeprefix(LABEL),), rest[0] if rest else "")
            continue
        words = line.split()
        labels = dict.fromkeys(word.removeprefix(LABEL) for word in words if word.startswith(LABEL))
        yield Row(number, tuple(labels), " ".join(word for word in words if not word.startswith(LABEL)))


def _table(path: Path, heard: Heard, *, delimiter: str) -> Iterator[Row]:
    csv.field_size_limit(MOST_LINE)  # of this process, which reads nothing else
    table = csv.reader(lines(path, heard), delimiter=delimiter, strict=True)
    line = 1
    try:
        header = [name.strip() for name in next(filter(None, table), [])]
        if not header:
            raise InputError(f"{path}: expected columns {' and '.join(COLUMNS)}, got an empty file.")
        check_columns(path, header, COLUMNS)
        text, label = map(header.index, COLUMNS)
        line = table.line_num + 1
        for row in table:
            if len(row) == len(header):
                yield Row(line, (row[label].strip(),), row[text])
            elif row:
                yield Row(line, (), "", plural(len(row), "field"))
            line = table.line_num + 1
    except csv.Error as error:
        got = str(error).replace("\t", "a tab")
        raise InputError(f"{path}: expected a table as Python's csv writes it, got {got}, line {line:,}.") from None


def _parquet(path: Path, heard: Heard) -> Iterator[Row]:
    from pyarrow import types

    size = path.stat().st_size
    with open_parquet(path) as file:
        schema, number = file.schema_arrow, file.metadata.num_rows
        check_columns(path, schema.names, COLUMNS)
        for name, wanted in zip(COLUMNS, ("strings", "strings or integers"), strict=True):
            kind = schema.field(name).type
            inner = kind.value_type if types.is_dictionary(kind) else kind
            if not is_strings(inner) and not (name == "label" and types.is_integer(inner)):
                raise InputError(f"{path}: expected {name} as {wanted}, got {kind}.")
        unfolded = sum(chunk.total_uncompressed_size for name in COLUMNS for chunk in columns_of(file.metadata, name))
        check_unfolded(str(path), unfolded, size, "save the texts as .csv")
        rows = min(8192, max(1, CHUNK // max(1, unfolded // max(1, number))))
        place = 0
        for batch in file.iter_batches(rows, columns=list(COLUMNS), use_threads=False):
            columns = [batch.column(name).to_pylist() for name in COLUMNS]
            for text, label in zip(*columns, strict=True):
                yield Row(place, () if label is None else (str(label).strip(),), text or "")
                place += 1
            heard(size * len(batch) // number)


FORMS = {
    ".txt": Form("texts in fastText's format", f'lines "{LABEL}NAME words"', "line", _fasttext),
    ".csv": Form("a table of texts", "rows with a text and a label", "line", partial(_table, delimiter=",")),
    ".tsv": Form("a table of texts", "rows with a text and a label", "line", partial(_table, delimiter="\t")),
    ".parquet": Form("a parquet file", "rows with a text and a label", "row", _parquet),
}
