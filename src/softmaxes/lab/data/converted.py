"""Files that are converted once: arrays in the cache folder, which are mapped from then on.

Each is converted in a process of its own, of bounded memory: a broken file may end its reader.
"""

import hashlib
import multiprocessing
import os
import signal
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from filelock import FileLock
from rich.console import Console

from softmaxes.files import InputError, check_regular, remove_parts
from softmaxes.lab.data.cache import cache_dir
from softmaxes.lab.data.npy import told
from softmaxes.lab.extras import not_installed
from softmaxes.lab.machine import limit_memory
from softmaxes.lab.starting import without_script

# What the readers of other libraries raise of Python's own.
UNREADABLE = (OSError, ValueError, TypeError, LookupError, OverflowError, RuntimeError)
MOST_BEYOND = 2**30  # bytes of memory that a file may take beside its own, while it is converted

BUFFER = 2**20  # bytes of a column that are read at a time


@dataclass(frozen=True)
class Conversion:
    """How files of one kind become arrays.

    Attributes:
        folder: of the cache, in which each file has a folder of its own.
        recipe: names how the arrays are made: where it is another one, files are converted anew.
        what: what an error says was expected, e.g. ``a parquet file``.
        names: a regular expression of the names of all files that are written.
        last: the one that is written last; where it is, the others are whole.
        convert: writes the arrays of a file into a folder; the console is for its progress.
    """

    folder: str
    recipe: str
    what: str
    names: str
    last: str
    convert: Callable[[Path, Path, Console], None]


def converted(path: Path, how: Conversion) -> Path:
    """The folder of the cache that holds a file's arrays, which are made if they are not there.

    A file is known by its path, its size and the time of its last change.

    Raises:
        OSError: it cannot be opened.
        InputError: it cannot be converted; the message says why.
    """
    check_regular(path)
    status = path.stat()
    known = f"{path.resolve()}/{status.st_size}/{status.st_mtime_ns}/{how.recipe}"
    folder = (cache_dir() / how.folder / hashlib.sha256(known.encode()).hexdigest()[:16]).absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: expected a folder that can be made, got {error.strerror}.") from None
    with FileLock(folder / ".lock"):
        if not (folder / how.last).exists():
            remove_parts(folder, how.names)  # of one that was killed
            _convert_apart(path, folder, how)
    return folder


def _convert_apart(path: Path, folder: Path, how: Conversion) -> None:
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_tell, args=(path, folder, how, sender), daemon=True)  # type: ignore[attr-defined]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of threads, none of whose locks it takes
        with without_script():
            process.start()
    sender.close()
    try:
        failure = receiver.recv()
    except EOFError:
        process.join()
        failure = f"{path}: expected {how.what}, got one that ended its reader with code {process.exitcode}."
    finally:
        process.kill()
        process.join()
        remove_parts(folder, how.names)
    if failure is not None:
        raise InputError(failure)


def _tell(path: Path, folder: Path, how: Conversion, sender: Connection) -> None:
    """Convert a file and tell of the failure, if there is one; C++'s last words are not heard."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends this process
    limit_memory(MOST_BEYOND + 4 * path.stat().st_size)
    with os.fdopen(os.dup(2), "w", encoding="utf-8") as errors, Path(os.devnull).open("wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
        sender.send(_failure(path, folder, how, Console(file=errors)))


def _failure(path: Path, folder: Path, how: Conversion, console: Console) -> str | None:
    """Convert a file; why it could not be."""
    try:
        how.convert(path, folder, console)
    except InputError as error:
        return str(error)
    except MemoryError:
        return f"{path}: expected {how.what} that takes at most {MOST_BEYOND:,} bytes to convert, got one of more."
    except _unreadable() as error:
        if isinstance(error, OSError) and error.errno is not None:  # the system's, while it is written
            return f"{folder}: expected room for {path} as arrays, got {error.strerror}."
        return f"{path}: expected {how.what}, got {told(error)}."
    return None


def _unreadable() -> tuple[type[Exception], ...]:
    """What readers raise on broken files; pyarrow's own only where it reads."""
    arrow = sys.modules.get("pyarrow")
    return UNREADABLE if arrow is None else (*UNREADABLE, arrow.ArrowException)


# Parquet


def check_pyarrow(path: Path) -> None:
    """Refuse a parquet file where nothing can read it."""
    if find_spec("pyarrow") is None:
        raise not_installed(str(path), "pyarrow", "parquet", "which reads parquet")


def open_parquet(path: Path) -> Any:
    """A parquet file for reading, of which no more is held than the rows in hand: pyarrow would fetch it all."""
    from pyarrow import parquet

    return parquet.ParquetFile(path, pre_buffer=False, buffer_size=BUFFER)


def check_columns(path: Path, columns: list[str], wanted: tuple[str, str]) -> None:
    """Refuse a table that has not each of two columns once."""
    for name in wanted:
        if columns.count(name) != 1:
            got = ", ".join(map(repr, columns[:10])) or "none"
            found = f"{columns.count(name)} {name}" if name in columns else f"no {name}"
            raise InputError(f"{path}: expected columns {' and '.join(wanted)}, got {found} among {got}.")


def columns_of(metadata: Any, name: str) -> list[Any]:
    """What a parquet file says of a column, for each group of rows."""
    columns = [metadata.schema.column(place).path.partition(".")[0] for place in range(metadata.num_columns)]
    return [metadata.row_group(place).column(columns.index(name)) for place in range(metadata.num_row_groups)]


def is_strings(kind: Any) -> bool:
    """Whether a column's type is strings."""
    from pyarrow import types

    return bool(types.is_string(kind) or types.is_large_string(kind))
