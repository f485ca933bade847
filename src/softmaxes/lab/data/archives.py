"""Tar archives, plain or compressed, read once and to their end: only there does a compressed one have its checksum.

Nothing is unpacked, no link is followed, and what an archive may unfold to is bounded by what it takes itself.
"""

import bz2
import gzip
import io
import lzma
import os
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

from softmaxes.files import InputError, open_regular

SUFFIXES = (".tar.gz", ".tgz", ".tar")
MOST_BYTES = 2**31  # that an archive unfolds to; the official ones hold 187 MB
MOST_TIMES = 10  # its own size that it unfolds to, where that is more than `ANY_BYTES`
ANY_BYTES = 2**28
MOST_MEMBERS = 10_000
LONGEST_HEADER = 2**16  # bytes of what is said of a member besides its own block
BLOCK = 512
CHUNK = 2**20

_SAYS_MORE = {  # members that describe the next one, or all
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
    tarfile.XHDTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.XGLTYPE,
}


def read_archive(path: Path, wanted: Mapping[str, int]) -> dict[str, dict[str, bytes]]:
    """The contents of the wanted regular files of a tar archive, by folder and name.

    Args:
        path: the archive; compressed with gzip, bzip2 or xz, or not at all.
        wanted: the names of the files, and the most bytes of each.

    Raises:
        OSError: there is no such file, or it cannot be opened.
        InputError: it is no regular file, cut off, broken, or unfolds to more than it may.
    """
    contents_at: dict[str, dict[str, bytes]] = {}
    with open_regular(path, MOST_BYTES) as file:
        size = os.fstat(file.fileno()).st_size
        try:
            source = _Source(file, size)
            for name, length in _members(source):
                folder, _, known = name.rpartition("/")
                if known not in wanted:
                    source.skip(length + -length % BLOCK)
                    continue
                if length > wanted[known]:
                    raise InputError(f"{path}/{name}: expected at most {wanted[known]:,} bytes, got {length:,}.")
                contents_at.setdefault(f"{path}/{folder}".rstrip("/"), {})[known] = source.take(length)
            source.finish()
        except InputError:
            raise
        except _TooLargeError as error:
            raise InputError(f"{path}: expected an archive of {error}, got more.") from None
        except Exception as error:  # a broken archive can raise anything
            reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
            raise InputError(
                f"{path}: expected a whole tar archive ({', '.join(SUFFIXES)}), "
                f"got {size} bytes that cannot be read as one: {reason}."
            ) from error
    return contents_at


class _TooLargeError(Exception):
    """An archive that holds more than it may; the message says what it may."""


class _Source:
    """What a file unfolds to, from its start to its end, and no more than it may be."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self.stream = _unfolded(file)
        self.most = min(MOST_BYTES, max(ANY_BYTES, MOST_TIMES * size))
        self.left = self.most

    def read(self, size: int) -> bytes:
        """So many bytes, or fewer at the end."""
        if size > self.left:
            raise _TooLargeError(f"at most {self.most:,} bytes when it is unfolded")
        content = self.stream.read(size)
        self.left -= len(content)
        return content

    def take(self, size: int) -> bytes:
        """The next `size` bytes, a member."""
        content = self.read(size)
        if len(content) < size:
            raise EOFError("it ends within a file")
        self.skip(-size % BLOCK)
        return content

    def skip(self, size: int) -> None:
        """Read `size` bytes and drop them."""
        while size > 0:
            passed = len(self.read(min(size, CHUNK)))
            if not passed:
                raise EOFError("it ends within a file")
            size -= passed

    def finish(self) -> None:
        """Reads what is left, at whose end the checksum is."""
        while self.read(min(CHUNK, self.left + 1)):
            pass


def _unfolded(file: BinaryIO) -> BinaryIO | io.BufferedIOBase:
    head = file.read(6)
    file.seek(0)
    if head.startswith(b"\x1f\x8b"):
        return gzip.GzipFile(fileobj=file)
    if head.startswith(b"BZh"):
        return bz2.BZ2File(file)
    if head == b"\xfd7zXZ\0":
        return lzma.LZMAFile(file)
    return file


def _members(source: _Source) -> Iterator[tuple[str, int]]:
    """The name and size of each regular file; whoever gets them takes or skips its content."""
    records: dict[str, str] = {}  # what was said of the next member
    for place in range(MOST_MEMBERS):
        block = source.read(BLOCK)
        if not block.strip(b"\0"):
            if not block and not place:
                raise EOFError("an empty file")
            return
        member = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        if member.type == tarfile.GNUTYPE_SPARSE:
            raise ValueError("a file with holes")
        if member.type in _SAYS_MORE:
            if not 0 <= member.size <= LONGEST_HEADER:
                raise ValueError(f"a header of {member.size} bytes")
            said = source.take(member.size)
            if member.type == tarfile.GNUTYPE_LONGNAME:
                records["path"] = said.partition(b"\0")[0].decode("utf-8", "surrogateescape")
            elif member.type in (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE):
                records |= _records(said)
            continue
        size = int(records.get("size", member.size))
        if size < 0:
            raise ValueError(f"a file of {size} bytes")
        if member.isreg():
            yield records.get("path", member.name), size
        elif member.type not in tarfile.SUPPORTED_TYPES:
            source.skip(size + -size % BLOCK)
        records = {}
    raise _TooLargeError(f"at most {MOST_MEMBERS:,} files")


def _records(said: bytes) -> dict[str, str]:
    """The pairs of an extended header, each as its length, a blank, the key, ``=``, the value and an end of line."""
    records = {}
    while said.strip(b"\0"):
        digits = said.partition(b" ")[0]
        length = int(digits)
        if not len(digits) < length <= len(said):
            raise ValueError(f"an extended header with a record of {length} bytes")
        key, _, value = said[len(digits) + 1 : length - 1].decode("utf-8", "surrogateescape").partition("=")
        records[key] = value
        said = said[length:]
    return records
