"""What a trained classifier is asked about: images, vectors or texts of the user's own, as the tensors that it takes.

Nothing in these files is run.
"""

import itertools
import sys
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from softmaxes.files import InputError, said
from softmaxes.lab.data.features import mapped, read_vectors, role
from softmaxes.lab.data.folder import decoded_images, files_below
from softmaxes.lab.data.npy import check_unfolded, npz
from softmaxes.lab.data.ragged import Texts
from softmaxes.lab.data.row_files import lines
from softmaxes.lab.data.text_files import COLUMNS, MOST_TEXT, normal, table_rows
from softmaxes.lab.records import DataCard
from softmaxes.names import printable

AnyItem = TypeVar("AnyItem")
MOST_AT_ONCE = 2**22  # numbers of a batch
STDIN = "-"
DELIMITERS = {".csv": ",", ".tsv": "\t"}
OTHERS = (".parquet", ".json", ".jsonl")  # that hold texts otherwise than a line each


class Batch(NamedTuple):
    """Some inputs, those that cannot be read apart.

    Attributes:
        names: what each is called, (N,).
        input: the tensor for the classifier, N of them.
        broken: of each that cannot be read its name, and why.
    """

    names: list[str]
    input: Tensor
    broken: list[tuple[str, str]]


class Inputs:
    """Inputs for a classifier, in batches.

    Args:
        card: the data that the classifier was trained on: its kind of input, and their sizes.
        places: files. For images also folders, whose files are taken in the order of their paths, those in folders
            below them too. For vectors .npy files (N, D) and .npz files with an array ``features``. For texts files in
            UTF-8 with a text a line, or tables .csv and .tsv with a column ``text``; `STDIN` is standard input.
        texts: texts themselves, after those in files.
        size: inputs of a batch at most; what fits in some megabytes if not given.

    Raises:
        OSError: a place cannot be read.
        InputError: a place holds nothing that the classifier takes; the message says which.
    """

    def __init__(
        self, card: DataCard, places: Sequence[Path], texts: Sequence[str] = (), size: int | None = None
    ) -> None:
        if card.kind == "sparse vector":
            raise InputError(
                f"expected a classifier of images, vectors or texts, got one of sparse vectors, {card.name}; "
                "ask it in Python: softmaxes.lab.load gives a module that takes a torch.sparse_coo_tensor."
            )
        if texts and card.kind != "text":
            raise InputError(f"--text: expected none, for the classifier takes {card.kind}s, got {len(texts)}.")
        if not places and not texts:
            what = {"image": "images or folders of them", "vector": "files with vectors", "text": "files or --text"}
            raise InputError(f"expected {what[card.kind]} as inputs, got none.")
        self._card, self._places, self._texts, self._size = card, places, texts, size
        self.total: int | None = None  # how many there are, where that is known before they are read
        if card.kind == "image":
            self._images = [file for place in places for file in _image_files(place)]
            self.total = len(self._images)
        elif card.kind == "vector":
            self._vectors = [(place, self._matrix(place)) for place in places]
            self.total = sum(len(matrix) for _, matrix in self._vectors)
        else:
            for place in places:
                if str(place) != STDIN:
                    _check_there(place)
                    _check_texts(place)

    def __iter__(self) -> Iterator[Batch]:
        """The batches, in order."""
        return {"image": self._of_images, "vector": self._of_vectors, "text": self._of_texts}[self._card.kind]()

    # Images

    def _of_images(self) -> Iterator[Batch]:
        shape = self._card.image_shape or (3, 1, 1)
        _, height, width = shape
        decoded = zip(self._images, decoded_images(self._images, (height, width)), strict=True)
        for some in _parts(decoded, self._size or max(1, MOST_AT_ONCE // (3 * height * width))):
            whole = [(file, image) for file, image in some if not isinstance(image, str)]
            pixels = [torch.from_numpy(image.copy()) for _, image in whole]
            yield Batch(
                [_shown(file) for file, _ in whole],
                torch.stack(pixels) if pixels else torch.empty(0, *shape, dtype=torch.uint8),
                [(_shown(file), image) for file, image in some if isinstance(image, str)],
            )

    # Vectors

    def _matrix(self, place: Path) -> Tensor:
        """The vectors of a file, (N, D)."""
        _check_there(place)
        if place.suffix == ".npy":
            matrix = mapped(place)
        elif place.suffix == ".npz":
            with npz(place) as members:
                names = [name for name in members if role(name) == ("", "features")]
                if len(names) != 1:
                    got = ", ".join(map(repr, list(members)[:10])) or "none"
                    raise InputError(f"{place}: expected one array features, or X, got {len(names)} among {got}.")
                stored = members[names[0]]()
                check_unfolded(str(place), stored.bytes, place.stat().st_size, "save it with np.savez")
                matrix = torch.from_numpy(read_vectors(stored))
        else:
            raise InputError(f"{place}: expected vectors in a file .npy or .npz, got another file.")
        if matrix.shape[1] != self._card.vector_size:
            raise InputError(
                f"{place}: expected vectors of {self._card.vector_size} numbers, as in training, got {matrix.shape[1]}."
            )
        return matrix

    def _of_vectors(self) -> Iterator[Batch]:
        size = self._size or max(1, MOST_AT_ONCE // (self._card.vector_size or 1))
        for place, matrix in self._vectors:
            for first in range(0, len(matrix), size):
                rows = matrix[first : first + size].float()
                finite = rows.isfinite().all(1)
                names = [f"{_shown(place)}, row {first + row}" for row in range(len(rows))]
                yield Batch(
                    [name for name, whole in zip(names, finite.tolist(), strict=True) if whole],
                    rows[finite],
                    [
                        (name, "numbers that are not finite in float32")
                        for name, whole in zip(names, finite.tolist(), strict=True)
                        if not whole
                    ],
                )

    # Texts

    def _of_texts(self) -> Iterator[Batch]:
        for some in _parts(self._lines(), self._size or 1024):
            whole = [text for _, text in some if text]
            yield Batch(
                [printable(text) for text in whole],
                as_bytes(whole),
                [(place, "no words") for place, text in some if not text],
            )

    def _lines(self) -> Iterator[tuple[str, str]]:
        """Each text with its place."""
        for place in self._places:
            name = "standard input" if str(place) == STDIN else _shown(place)
            for number, text in _texts_of(place):
                yield f"{name}, line {number:,}", as_trained(text)
        for number, text in enumerate(self._texts, 1):
            yield f"--text, {number}", as_trained(text)


def _check_texts(place: Path) -> None:
    """Refuse a file of which a line is no text, and a table without a column of texts."""
    suffix = place.suffix.lower()
    if suffix in OTHERS:
        raise InputError(
            f"{place}: expected a text a line, or a .csv or .tsv with the column {COLUMNS[0]}, got {suffix}."
        )
    if suffix in DELIMITERS:
        next(_texts_of(place), None)


def _texts_of(place: Path) -> Iterator[tuple[int, str]]:
    """The texts of a file with the lines that they begin in: of a table those of its column."""
    if str(place) == STDIN:
        yield from enumerate(sys.stdin, 1)
        return
    delimiter = DELIMITERS.get(place.suffix.lower())
    if delimiter is None:
        yield from enumerate(lines(place, lambda size: None), 1)
        return
    rows = table_rows(place, lambda size: None, delimiter)
    _, header = next(rows)
    if COLUMNS[0] not in header:
        got = ", ".join(printable(name, 40) for name in header[:10]) or "an empty file"
        raise InputError(f"{place}: expected a table with the column {COLUMNS[0]}, got {got}.")
    column = header.index(COLUMNS[0])
    for line, row in rows:
        yield line, row[column] if column < len(row) else ""


def as_trained(text: str) -> str:
    """A text as training has it."""
    text = normal(text)
    encoded = text.encode()
    return text if len(encoded) <= MOST_TEXT else encoded[:MOST_TEXT].decode(errors="ignore").rstrip()


def as_bytes(texts: Sequence[str]) -> Tensor:
    """Texts as a classifier takes them, (N, L), uint8."""
    return Texts.of(texts).batch(torch.arange(len(texts)))


def _image_files(place: Path) -> list[Path]:
    """A file itself; of a folder the files in it and below it."""
    _check_there(place)
    if not place.is_dir():
        return [place]
    files = sorted(files_below(place, hidden=False))
    if not files:
        raise InputError(f"{place}: expected images in the folder, got none.")
    return files


def _check_there(place: Path) -> None:
    try:
        place.stat()
    except OSError as error:
        raise InputError(f"expected an input that exists, got {said(error)}.") from None
    except ValueError:  # a zero byte
        raise InputError(f"expected an input that exists, got {printable(str(place), 80)}.") from None


def _shown(place: Path) -> str:
    return printable(str(place))


def _parts(items: Iterable[AnyItem], size: int) -> Iterator[list[AnyItem]]:
    iterator = iter(items)
    return iter(partial(lambda: list(itertools.islice(iterator, size))), [])
