"""Files: read if they are regular and not too large, written whole or not at all."""

import os
import re
import stat
from collections.abc import Callable
from io import BufferedReader
from pathlib import Path

KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}
ROOM = 2**20  # bytes
BEGINNING = 2**12  # bytes of a file in which a mark stands
PART = r"\.(?:{})\.\d+\.part"  # what `write_whole` calls a file that is not whole yet


class InputError(ValueError):
    """What the user gave cannot be used; the message is one line: what was expected, what came, which file."""


def open_regular(path: str | os.PathLike[str], most: int | None = None) -> BufferedReader:
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


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file with this content, as `write_whole` does."""
    write_whole(path, lambda part: part.write_bytes(content))


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file so that a reader, or a machine that stops, sees the old one or the new one and nothing between.

    Args:
        path: the file. A link is replaced, and what it points to stays as it is.
        write: writes a file at the path that it is given.

    Raises:
        OSError: the system does not take the file, for want of space or whatever; it names the file. Each library that
            writes has an error of its own for that, this one is for all.
        InputError: there is something that is no file, such as a folder or a device.
    """
    _check_file(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        write(part)
        with part.open("rb") as file:
            os.fsync(file.fileno())
        part.replace(path)
    except InputError:
        raise
    except Exception as error:
        if (reason := _refusal(error, part)) is None:
            raise
        raise OSError(reason.errno, reason.strerror, os.fspath(path)) from error
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


def _check_file(path: Path) -> None:
    """Refuse a place where something is that is no regular file: one would be put in place of it."""
    try:
        mode = path.stat().st_mode
    except OSError:  # nothing there; or what the writer will be told
        return
    if not stat.S_ISREG(mode):
        raise InputError(f"{path}: expected a regular file or none, got {KINDS.get(stat.S_IFMT(mode), 'none')}.")


def _refusal(error: Exception, part: Path) -> OSError | None:
    """Why the system did not take a file, if that is why its writer failed."""
    if isinstance(error, OSError) and error.errno is not None:
        return error if error.filename is None or Path(error.filename) == part else None
    if found := re.search(r"os error (\d+)", str(error)):  # as Rust has it, which may have removed the file
        return OSError(int(found[1]), os.strerror(int(found[1])))
    try:
        with part.open("ab") as file:  # others leave no reason, but what they wrote: is there room for more?
            file.write(bytes(ROOM))
            file.flush()
            os.fsync(file.fileno())
    except OSError as reason:
        return reason
    return None


def is_part(name: str, names: str) -> bool:
    """Whether a file is what `write_whole` leaves when it is killed, of a file whose whole name is in `names`.

    Args:
        name: what the file is called.
        names: a regular expression.
    """
    return re.fullmatch(PART.format(names), name) is not None


def remove_parts(folder: Path, names: str) -> None:
    """Remove what writers that were killed have left of files of a folder, by `is_part`; what else is there is let be.

    Args:
        folder: the folder; what lies below it is not looked at.
        names: a regular expression of whole names, of the files that are written there.
    """
    for part in folder.glob(".*.part"):
        if is_part(part.name, names) and part.is_file() and not part.is_symlink():
            part.unlink(missing_ok=True)


def check_out(path: Path, mark: bytes, content: bytes | None = None) -> Path:
    """Where to write a file that the user names, if nothing of the user's is lost by it.

    That is so if there is none, or one that is empty, or that has the same content, or one that this project wrote.

    Args:
        path: the file.
        mark: bytes in the beginning of every file that this project would write there; empty if it has none.
        content: what is to be written, if that is known.

    Returns:
        The path, or where it leads to if it is a link.

    Raises:
        InputError: another file is there, or what is no file.
        OSError: it cannot be read.
    """
    target = Path(os.path.realpath(path)) if path.is_symlink() else path
    _check_file(target)
    try:
        with open_regular(target) as file:
            there = file.read(BEGINNING)
            size = os.fstat(file.fileno()).st_size
            same = content is not None and size == len(content) and there + file.read() == content
    except FileNotFoundError:
        return target
    if there and not same and not (mark and mark in there):
        ours = ", or one that this command wrote, got another" if mark else ", got one that is there"
        raise InputError(f"{path}: expected no file{ours}; move it away first.")
    return target


def said(error: OSError) -> str:
    """What the system says, in words, after the file that it says it of."""
    place = "" if error.filename is None else f"{error.filename}: "
    return place + (error.strerror or " ".join(str(error).split()))
