"""Arrays in the files of numpy, .npy and .npz: what they claim is compared with what is there before it is read.

Nothing in them is run or evaluated: of a header only the form that numpy writes is known, and objects, which numpy
would unpickle, are refused.
"""

import lzma
import math
import os
import re
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from softmaxes.files import InputError, open_regular, write_whole

Array = npt.NDArray[Any]

MAGIC = b"\x93NUMPY"
MOST_HEADER = 10_000  # bytes, as numpy has it
FIELD = re.compile(
    r"\s*'(?P<key>descr|fortran_order|shape)'\s*:\s*"
    r"(?:'(?P<descr>[<>|=]?[a-zA-Z?]\d{0,9})'|(?P<order>True|False)|\((?P<shape>[\d\s,L]*)\))\s*(?:,|$)"
)
SIZE = re.compile(r"\s*(\d{1,18})L?\s*")
MOST_DIRECTORY = 2**22  # bytes of the list of what a .npz holds: some 70,000 names
SAID = 150  # characters of what another library says
PIECE = 2**20  # bytes that are read at a time
# A file may unfold to UNFOLDED bytes, or to FOLDS times its own size, whichever is more; a file that unfolds to more is
# made to fill the memory. Features compress to a half, and those that are mostly zeros to a tenth.
UNFOLDED = 2**28
FOLDS = 20
BROKEN = (  # what zipfile raises on files that are broken, or none of its own
    ValueError,
    OSError,
    EOFError,
    LookupError,
    OverflowError,
    RuntimeError,
    struct.error,
    lzma.LZMAError,
    zipfile.BadZipFile,
    zlib.error,
)


class Stored(NamedTuple):
    """An array that has not been read yet."""

    where: str  # what an error calls it
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    columns_first: bool
    start: int  # bytes before the numbers
    open: Callable[[], BinaryIO]

    @property
    def bytes(self) -> int:
        """Of the numbers."""
        return math.prod(self.shape) * self.dtype.itemsize

    def __str__(self) -> str:
        return f"{self.dtype} {self.shape}"

    def read(self) -> Array:
        """The array.

        Raises:
            InputError: the file breaks off, or a checksum does not fit.
        """
        try:
            with self.open() as file:
                file.read(self.start)
                content = np.empty(self.bytes, dtype=np.uint8)
                view, done = content.data, 0
                while done < self.bytes:
                    piece = file.read(min(PIECE, self.bytes - done))
                    if not piece:
                        raise EOFError(f"{done} bytes of {self.bytes}")
                    view[done : done + len(piece)] = piece
                    done += len(piece)
                if file.read(1):
                    raise ValueError(f"more than {self.bytes} bytes")
        except InputError:
            raise
        except BROKEN as error:
            raise _broken(self.where, error) from None
        return content.view(self.dtype).reshape(self.shape, order="F" if self.columns_first else "C")


class Items(NamedTuple):
    """Numbers that lie one after the other in a .npy file of our own.

    Attributes:
        name: what the file is called after.
        dtype: their type.
        columns: how many of them an item has, if more than one.
    """

    name: str
    dtype: np.dtype[Any]
    columns: tuple[int, ...] = ()

    @property
    def size(self) -> int:
        """Bytes of an item."""
        return math.prod(self.columns) * self.dtype.itemsize


def npy(path: Path) -> Stored:
    """The array of a file .npy.

    Raises:
        OSError: it cannot be opened.
        InputError: it holds no array, or not as many bytes as its header says.
    """
    with open_regular(path) as file:
        return _stored(str(path), lambda: open_regular(path), file, os.fstat(file.fileno()).st_size)


def save_whole(path: Path, array: Array) -> None:
    """Write an array as a file .npy, whole or not at all."""

    def write(part: Path) -> None:
        with part.open("wb") as file:  # to a path of another suffix numpy would add its own
            np.save(file, array)

    write_whole(path, write)


class Growing:
    """An array in a file .npy of our own that grows at its end; its header is right once `finish` was called.

    Attributes:
        length: how many items there are.
    """

    def __init__(self, file: BinaryIO, items: Items) -> None:
        self.length = 0
        self._file, self._items = file, items
        self.finish()

    def write(self, content: bytes) -> None:
        """Add items, as they lie in memory."""
        self._file.write(content)
        self.length += len(content) // self._items.size

    def finish(self) -> None:
        """Say at the beginning of the file how many items there are; numpy leaves room for any number."""
        self._file.seek(0)
        shape = (self.length, *self._items.columns)
        header = {"descr": self._items.dtype.str, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(self._file, header)


def map_in(path: Path, stored: Stored) -> Tensor:
    """The array of a file .npy where it lies: what is read of it is in memory only as long as there is room.

    Raises:
        InputError: its numbers lie in another order than in memory.
    """
    if not stored.dtype.isnative or stored.columns_first:
        order = "the bytes of a number the other way round" if not stored.dtype.isnative else "columns first"
        raise InputError(
            f"{path}: expected vectors one after the other in this machine's order of bytes, got {order}; "
            "save np.ascontiguousarray of them."
        )
    with open_regular(path) as file:
        array: Array = np.memmap(file, stored.dtype, "r", stored.start, stored.shape)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that it cannot be written to, which nobody does
        return torch.from_numpy(array)


def mapped_items(path: Path, items: Items) -> Tensor:
    """The items in a .npy file of our own, (M, ...), where they lie.

    Raises:
        InputError: the file does not hold such items.
    """
    stored = npy(path)
    if stored.dtype != items.dtype or len(stored.shape) != 1 + len(items.columns) or stored.shape[1:] != items.columns:
        shape = ", ".join(["M", *map(str, items.columns)]) if items.columns else "M,"
        raise InputError(f"{path}: expected {items.dtype} ({shape}), got {stored}.")
    return map_in(path, stored)


@contextmanager
def npz(path: Path) -> Iterator[dict[str, Callable[[], Stored]]]:
    """What a file .npz holds: by the name of each array a function that gives it.

    Raises:
        OSError: it cannot be opened.
        InputError: it is no zip file, or an array is none or unfolds to more than there can be.
    """
    with ExitStack() as stack:
        file = stack.enter_context(open_regular(path))
        size = os.fstat(file.fileno()).st_size
        try:
            archive = stack.enter_context(zipfile.ZipFile(_Pieces(file)))
        except BROKEN as error:
            raise _broken(str(path), error) from None
        yield {
            info.filename.removesuffix(".npy"): partial(_member, path, archive, info, size)
            for info in archive.infolist()
        }


def check_unfolded(where: str, unfolded: int, size: int, instead: str) -> None:
    """Refuse what would unfold to far more than the file has.

    Args:
        where: the file.
        unfolded: bytes of all that is to be read.
        size: bytes of the file.
        instead: what the user may do.
    """
    most = UNFOLDED + FOLDS * size
    if unfolded > most:
        raise InputError(
            f"{where}: expected what unfolds to at most {most:,} bytes, {FOLDS} times the file's {size:,} and "
            f"{UNFOLDED:,} more, got {unfolded:,}; {instead}."
        )


class _Pieces:
    """A file that is read in pieces: the list of what a zip file holds is read in one, however long it says it is."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.seek, self.tell, self.seekable = file.seek, file.tell, file.seekable

    def read(self, size: int = -1) -> bytes:
        content = self._file.read(size if 0 <= size <= MOST_DIRECTORY else MOST_DIRECTORY + 1)
        if len(content) > MOST_DIRECTORY:
            raise ValueError(f"a list of files of more than {MOST_DIRECTORY} bytes")
        return content


def _member(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo, size: int) -> Stored:
    where = f"{path}, {info.filename.removesuffix('.npy')}"
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise InputError(f"{where}: expected an array stored or deflated, got compression {info.compress_type}.")
    if info.compress_size > size:
        raise InputError(f"{where}: expected at most the file's {size:,} bytes, got {info.compress_size:,}.")
    try:
        with archive.open(info) as file:
            return _stored(where, lambda: archive.open(info), file, info.file_size)  # type: ignore[arg-type, return-value]
    except InputError:
        raise
    except BROKEN as error:
        raise _broken(where, error) from None


def _stored(where: str, open: Callable[[], BinaryIO], file: BinaryIO, size: int) -> Stored:
    """What the header says, if the bytes of the file fit it."""
    start = file.read(12)
    wide = start[6:7] != b"\1"  # the header's length has four bytes since version 2
    if start[:6] != MAGIC or start[6:8] not in (b"\1\0", b"\2\0", b"\3\0") or len(start) < 12:
        raise _unlike(where, "a file that does not begin as one")
    length = int.from_bytes(start[8:12] if wide else start[8:10], "little")
    if not 2 <= length <= MOST_HEADER:
        raise _unlike(where, f"a header of {length:,} bytes")
    begun = b"" if wide else start[10:]
    header = begun + file.read(length - len(begun))
    fields = _fields(header.decode("utf-8" if start[6] == 3 else "latin-1", errors="replace"))
    if len(header) < length or fields is None:
        raise _unlike(where, f"the header {header[:80]!r}")
    descr, columns_first, shape = fields
    try:
        dtype = np.dtype(descr)
    except (TypeError, ValueError, OverflowError):
        raise _unlike(where, f"the type {descr!r}") from None
    if dtype.hasobject:
        raise _unlike(where, "Python objects, which are not unpickled")
    found = Stored(where, dtype, shape, columns_first, (12 if wide else 10) + length, open)
    if dtype.itemsize == 0 or found.start + found.bytes != size:
        raise _unlike(where, f"{size:,} bytes where the header, {found}, says {found.start + found.bytes:,}")
    return found


def _fields(header: str) -> tuple[str, bool, tuple[int, ...]] | None:
    """Type, order and shape, or none of another header."""
    inner = header.strip()
    if not (inner.startswith("{") and inner.endswith("}")):
        return None
    inner, found, place = inner[1:-1].rstrip(), {}, 0
    while place < len(inner):
        field = FIELD.match(inner, place)
        if field is None or field["key"] in found:
            return None
        found[field["key"]] = field
        place = field.end()
    if len(found) < 3:
        return None
    descr, order, shape = found["descr"]["descr"], found["fortran_order"]["order"], found["shape"]["shape"]
    sizes = [SIZE.fullmatch(size) for size in (shape or "").removesuffix(",").split(",")] if shape else []
    if descr is None or order is None or shape is None or not all(sizes):
        return None
    return descr, order == "True", tuple(int(size[1]) for size in sizes if size is not None)


def _unlike(where: str, got: str) -> InputError:
    return InputError(f"{where}: expected arrays of numbers as numpy saves them, got {got}.")


def _broken(where: str, error: BaseException) -> InputError:
    return _unlike(where, told(error))


def told(error: BaseException) -> str:
    """What another library says of a broken file, as a part of a line."""
    text = "".join(letter for letter in " ".join(str(error).split())[:SAID] if letter.isprintable()).rstrip(".: ")
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
