"""The user's own texts or sparse vectors, each with its labels.

Texts are lines in fastText's format, tables .csv and .tsv, or parquet files. Nothing in these files is run. Each is
read once, row by row, and becomes arrays in the cache folder.
"""

import codecs
import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from softmaxes.files import BEGINNING, InputError, open_regular
from softmaxes.lab.data import sparse_files
from softmaxes.lab.data.converted import check_columns, check_pyarrow, columns_of, is_strings, open_parquet
from softmaxes.lab.data.dataset import CHUNK, Data
from softmaxes.lab.data.features import MOST_NAME, PARTS
from softmaxes.lab.data.npy import check_unfolded, mapped_items
from softmaxes.lab.data.ragged import LabelSets, SparseVectors, Texts
from softmaxes.lab.data.row_files import (
    MOST_LINE,
    Form,
    Heard,
    Kept,
    Row,
    check_classes,
    files_of_parts,
    kept_rows,
    lines,
)
from softmaxes.names import plural

LABEL = "__label__"  # before each label in fastText's format
COLUMNS = ("text", "label")  # of a table
MOST_TEXT = 2**16  # bytes of a text; a longer one is cut


def load_texts(path: Path) -> Data:
    """Reads texts, or sparse vectors, each with the names of its classes.

    The path is a folder with a file ``train.*`` and a file ``test.*`` of one format; or a file, of whose rows a tenth
    is held out as the test set. A hash of the text or the vector decides, so that equal ones are in the same part.

    The format is known by the end of the name, and ``.txt`` by the first line:

    - ``.txt``: fastText's. Each line has words and at least one label, ``__label__NAME``, which ends at the next space.
      A file of another name that begins with ``__label__`` is one, too.
    - ``.txt`` whose first line is ``ROWS FEATURES LABELS``: that of the Extreme Classification Repository. Then each
      line is a sparse vector, ``LABEL,LABEL INDEX:VALUE INDEX:VALUE``, with the numbers of its labels. One without a
      label is left out. Any other name will do, too.
    - ``.csv`` and ``.tsv``: a line with names of columns, among them ``text`` and ``label``; then a row for each text.
    - ``.parquet``: with the columns ``text`` (strings) and ``label`` (strings or integers). It needs the extra:
      ``pip install 'softmaxes[parquet]'``.

    What has several labels stands in the training set once for each. In the test it stands once: precision at 1, 3 and
    5 is against all its labels, every other score against the first. Words are separated by single spaces, characters
    that cannot be printed are removed, and texts of more than `MOST_TEXT` bytes are cut. Classes of texts are the
    labels of both parts, sorted by character code; of sparse vectors as many as the first line says.

    Raises:
        OSError: a file cannot be opened.
        InputError: something is missing, broken or does not fit; the message says which file, and where in it.
    """
    if not path.exists():
        raise InputError(f"{path}: expected a file or a folder with texts, got none of that name.")
    if path.is_dir():
        files = dict(zip(PARTS, _of_folder(path), strict=True))
        form = _form_of_both(*files.values())
        sizes = _sizes(form, list(files.values()))
        kept = {part: kept_rows(file, form, (part,))[part] for part, file in files.items()}
    else:
        form = _form(path)
        sizes = _sizes(form, [path])
        kept = kept_rows(path, form, PARTS)
    if sizes is not None:
        class_names = list(map(str, range(sizes.labels)))
        place: Callable[[str], int] = int
    else:
        class_names = sorted({name for one in kept.values() for name in one.names})
        check_classes(len(class_names), path)
        place = {name: label for label, name in enumerate(class_names)}.__getitem__
    labels = {part: _labels(one, place) for part, one in kept.items()}
    inputs: dict[str, Texts | SparseVectors] = {}
    for part, one in kept.items():
        items = mapped_items(one.content, form.items)
        inputs[part] = Texts(items, one.ends) if sizes is None else SparseVectors(items, one.ends, sizes.features)
    several = any(one.told["several"] for one in kept.values())
    return Data(
        name=path.resolve().name if path.is_dir() else path.stem,
        description=_description(path.is_dir(), form, kept, labels, len(class_names)),
        source=str(path),
        train_inputs=inputs["train"].repeated(labels["train"].lengths()),
        train_labels=labels["train"].classes,
        test_inputs=inputs["test"],
        test_labels=labels["test"].first,
        class_names=class_names,
        files={part: one.content for part, one in kept.items()},
        test_label_sets=labels["test"] if several else None,
        train_examples=_examples(labels["train"]),
    )


def _examples(labels: LabelSets) -> torch.Tensor | None:
    """The example that each row of the training set is of; none where each has one label."""
    times = labels.lengths()
    return None if bool((times == 1).all()) else torch.arange(len(times)).repeat_interleave(times)


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
    train, test = found = files_of_parts(folder, f"texts ({', '.join(FORMS)})", FORMS)
    if train.suffix.lower() != test.suffix.lower():
        raise InputError(f"{folder}: expected two files of one format, got {train.name} and {test.name}.")
    return found


def _form(path: Path) -> Form:
    """The format of a file."""
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        check_pyarrow(path)
    if suffix in FORMS and suffix != ".txt":
        return FORMS[suffix]
    with open_regular(path) as file:
        beginning = file.read(BEGINNING)
    labelled = beginning.removeprefix(codecs.BOM_UTF8).startswith(LABEL.encode())
    if not labelled and sparse_files.is_sparse(beginning):
        return sparse_files.FORM
    if not labelled and suffix != ".txt":
        raise InputError(f"{path}: expected a file {', '.join(FORMS)}, got another file.")
    return FORMS[".txt"]


def _form_of_both(train: Path, test: Path) -> Form:
    form, other = _form(train), _form(test)
    if form is not other:
        raise InputError(f"{test}: expected {form.what}, as {train.name} is, got {other.what}.")
    return form


def _sizes(form: Form, files: Sequence[Path]) -> sparse_files.Header | None:
    """What the first lines of files with sparse vectors say, which have to agree; none of other files."""
    if form is not sparse_files.FORM:
        return None
    first, *others = map(sparse_files.header, files)
    for file, other in zip(files[1:], others, strict=True):
        if first[1:] != other[1:]:
            raise InputError(
                f"{file}: expected {first.features:,} features and {first.labels:,} labels in the first line, as in "
                f"{files[0].name}, got {other.features:,} and {other.labels:,}."
            )
    return first


def _labels(kept: Kept, place: Callable[[str], int]) -> LabelSets:
    """The labels of each row of a part, as classes."""
    classes = torch.tensor([place(name) for name in kept.names], dtype=torch.int64)
    return replace(kept.labels, classes=classes[kept.labels.classes])


def _description(
    parted: bool, form: Form, kept: Mapping[str, Kept], labels: Mapping[str, LabelSets], classes: int
) -> str:
    noun = form.noun
    held_out = "" if parted else f", a tenth of them held out as test {noun}s by a hash of each"
    what = "Sparse vectors" if form is sparse_files.FORM else "Texts"
    found = [f"{what} from {'files' if parted else 'a file'}{held_out}."]
    cut, several, unlabelled = (
        sum(one.told[what] for one in kept.values()) for what in ("cut", "several", "unlabelled")
    )
    if cut:
        found.append(f"{noun.capitalize()}s that were cut to {MOST_TEXT:,} bytes: {cut:,}.")
    if unlabelled:
        found.append(f"{noun.capitalize()}s without a label, which are left out: {unlabelled:,}.")
    if several:
        found.append(
            f"{noun.capitalize()}s of several classes: {several:,}; training takes one once for each, the test once: "
            "precision at 1, 3 and 5 is against all its classes, every other score against the first."
        )
    trained, tested = (torch.bincount(labels[part].classes, minlength=classes) > 0 for part in PARTS)
    if untrained := int((tested & ~trained).sum()):
        found.append(f"Classes with test {noun}s alone: {untrained:,}.")
    if unseen := int((~tested & ~trained).sum()):
        found.append(f"Classes with no {noun}s: {unseen:,}.")
    return " ".join(found)


# Formats


def _row(place: int, labels: Sequence[str], text: str) -> Row:
    """A text with its labels, as a row."""
    text = normal(text)
    if problem := _problem(labels, text):
        return Row(place, problem=problem)
    encoded = text.encode()
    if cut := len(encoded) > MOST_TEXT:
        encoded = encoded[:MOST_TEXT].decode(errors="ignore").rstrip().encode()
    return Row(place, labels, encoded, cut)


def _problem(labels: Sequence[str], text: str) -> str:
    """Why a text cannot be used."""
    if not labels or not all(labels):
        return "no label"
    for label in labels:
        if len(label) > MOST_NAME:
            return f"a label of {len(label):,} characters"
        if not label.isprintable():
            return "a label that cannot be printed"
    return "" if text else "no words"


def normal(text: str) -> str:
    """A text with single spaces between its words, and without what cannot be printed."""
    text = " ".join(text.split())
    return text if text.isprintable() else " ".join("".join(filter(str.isprintable, text)).split())


def _fasttext(path: Path, heard: Heard) -> Iterator[Row]:
    for number, line in enumerate(lines(path, heard), 1):
        first, *rest = line.split(None, 1) or [""]
        if not first:
            continue
        if line.count(LABEL) == 1 and first.startswith(LABEL):
            yield _row(number, (first.removeprefix(LABEL),), rest[0] if rest else "")
            continue
        words = line.split()
        labels = dict.fromkeys(word.removeprefix(LABEL) for word in words if word.startswith(LABEL))
        yield _row(number, tuple(labels), " ".join(word for word in words if not word.startswith(LABEL)))


def table_rows(path: Path, heard: Heard, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """The rows of a table that are not empty, with the lines that they begin in; first its head, empty of no table.

    Raises:
        InputError: it is no table.
    """
    before = csv.field_size_limit(MOST_LINE)  # of the whole process, until the table is read
    table = csv.reader(lines(path, heard), delimiter=delimiter, strict=True)
    line = 1
    try:
        yield line, [name.strip() for name in next(filter(None, table), [])]
        line = table.line_num + 1
        for row in table:
            if row:
                yield line, row
            line = table.line_num + 1
    except csv.Error as error:
        got = str(error).replace("\t", "a tab")
        raise InputError(f"{path}: expected a table as Python's csv writes it, got {got}, line {line:,}.") from None
    finally:
        csv.field_size_limit(before)


def _table(path: Path, heard: Heard, *, delimiter: str) -> Iterator[Row]:
    rows = table_rows(path, heard, delimiter)
    _, header = next(rows)
    if not header:
        raise InputError(f"{path}: expected columns {' and '.join(COLUMNS)}, got an empty file.")
    check_columns(path, header, COLUMNS)
    text, label = map(header.index, COLUMNS)
    for line, row in rows:
        if len(row) == len(header):
            yield _row(line, (row[label].strip(),), row[text])
        else:
            yield Row(line, problem=plural(len(row), "field"))


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
                yield _row(place, () if label is None else (str(label).strip(),), text or "")
                place += 1
            heard(size * len(batch) // number)


FORMS = {
    suffix: Form(what, rows, "text", unit, Texts.ITEMS, read)
    for suffix, what, rows, unit, read in (
        (".txt", "texts in fastText's format", f'lines "{LABEL}NAME words"', "line", _fasttext),
        (".csv", "a table of texts", "rows with a text and a label", "line", partial(_table, delimiter=",")),
        (".tsv", "a table of texts", "rows with a text and a label", "line", partial(_table, delimiter="\t")),
        (".parquet", "a parquet file", "rows with a text and a label", "row", _parquet),
    )
}
