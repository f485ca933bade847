"""Files: read if they are regular and not too large, written whole or not at all."""

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}


class InputError(ValueError):
    """What the user gave cannot be used; the message is one line: what was expected, what came, which file."""


def open_regular(path: str | os.PathLike[str], most: int | None = None) -> BinaryIO:
    """Open a regular file for reading; nothing is read, and nothing is waited for.

    Args:
        path: the file.
        most: bytes that it may have; no bound if not given.

    Returns:
        The open file.

    Raises:
        OSError: there is no such file, or it cannot be read.
        InputError: it is no regular file (a folder, a pipe, a device), or has more bytes than `most`.
    """
    where = os.fspath(path)
    descriptor = os.open(where, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    try:
        known = os.fstat(descriptor)
        if not stat.S_ISREG(known.st_mode):
            raise InputError(f"{where}: expected a regular file, got {KINDS.get(stat.S_IFMT(known.st_mode), 'none')}.")
        if most is not None and known.st_size > most:
            raise InputError(f"{where}: expected a file of at most {most:,} bytes, got {known.st_size:,}.")
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def check_regular(path: str | os.PathLike[str], most: int | None = None) -> int:
    """The bytes of a file that another library is to read by its path; refused as `open_regular` refuses it."""
    with open_regular(path, most) as file:
        return os.fstat(file.fileno()).st_size


def read_whole(path: str | os.PathLike[str], most: int | None = None) -> bytes:
    """The content of a file; refused as `open_regular` refuses it, also where it grows while it is read."""
    with open_regular(path, most) as file:
        try:
            content = file.read() if most is None else file.read(most + 1)
        except OSError as error:  # the system does not say of what
            raise OSError(error.errno, error.strerror, os.fspath(path)) from None
    if most is not None and len(content) > most:
        raise InputError(f"{os.fspath(path)}: expected a file of at most {most:,} bytes, got more.")
    return content


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file so that a reader, or a machine that stops, sees the old one or the new one and nothing between.

    Args:
        path: the file.
        write: writes a file at the path that it is given.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        write(part)
        with part.open("rb") as file:
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def check_json(where: str, content: bytes, values: int, containers: int) -> None:
    """Refuse JSON of more values than a reader takes before it is parsed: some bytes of it become hundreds in memory.

    What stands in strings is counted, too.

    Args:
        where: what the error begins with.
        content: the text, as bytes.
        values: commas that it may have.
        containers: lists and dictionaries that it may have.

    Raises:
        InputError: it has more.
    """
    for what, most, found in (
        ("values", values, content.count(b",")),
        ("lists and dictionaries", containers, content.count(b"[") + content.count(b"{")),
    ):
        if found > most:
            raise InputError(f"{where}: expected JSON of at most {most:,} {what}, got {found:,}.")
