"""The fonts that `glyphs` are drawn with: those that matplotlib ships, or those that a user names.

A font file is a stranger's: which characters it holds is read here, step by bounded step, and Pillow draws them. What
cannot be read is left out, with the reason.
"""

import hashlib
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import ImageFont

from softmaxes.files import InputError, open_regular, read_whole
from softmaxes.lab.data.folder import files_below

Integers = npt.NDArray[np.int64]

EM = 96  # pixels: the size at which the fonts draw, before an image is brought to its own size
SUFFIXES = (".ttf", ".otf", ".ttc", ".otc")
LISTED = 4
PLACEHOLDER = 16  # a glyph of more characters than these stands for none of them
CODES = 0x110000  # code points that Unicode has room for
LARGEST_FONT = 2**28  # bytes of a file
LARGEST_MAP = 2**22  # bytes of the table that says which characters a face holds
MOST_BYTES = 2**32  # of all files
MOST_FACES = 256  # of a file
OUTLINES = (b"\0\1\0\0", b"OTTO", b"true")  # how a face begins
MAPS = ((3, 10), (0, 6), (0, 4), (3, 1), (0, 3), (0, 2), (0, 1), (0, 0))  # of Unicode, the largest first


class Face(NamedTuple):
    """A face of a font file; only collections hold others than number 0."""

    file: Path
    number: int
    content: str  # digest of the file: what was read of a face before its file changed is another face's


@dataclass(frozen=True)
class Fonts:
    """Font files to draw with.

    Attributes:
        name: what tables call them; empty for the shipped ones.
        files: in an order that their contents decide, each content once.
        contents: a digest of each file; empty for the shipped ones, which their version names.
    """

    name: str
    files: tuple[Path, ...]
    contents: tuple[str, ...]

    @property
    def digest(self) -> str:
        """Sixteen hexadecimal digits over all contents; none for the shipped fonts."""
        return hashlib.sha256("".join(self.contents).encode()).hexdigest()[:16] if self.name else ""

    def __str__(self) -> str:
        if not self.name:
            return "the DejaVu and STIX fonts"
        names = sorted(file.name for file in self.files)
        more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
        return f"fonts of the user's own ({', '.join(names[:LISTED])}{more})"


@cache
def shipped_fonts() -> Fonts:
    """The upright, slanted, light and bold faces of DejaVu and STIX, without those for display sizes."""
    import matplotlib

    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    found = [*folder.glob("DejaVu*.ttf"), *folder.glob("STIXGeneral*.ttf")]
    files = tuple(sorted(file for file in found if "Display" not in file.stem))
    return Fonts("", files, ("",) * len(files))


def find_fonts(path: Path) -> Fonts:
    """The fonts that a user names.

    Args:
        path: a font file, or a folder, which is searched with all folders in it.

    Raises:
        InputError: there is no font, or a file cannot be read.
    """
    if path.is_dir():
        found = sorted(file for file in files_below(path, hidden=True) if file.suffix.lower() in SUFFIXES)
    elif path.exists():
        found = [path]
    else:
        raise InputError(f"{path}: expected a font file or a folder with fonts, got nothing of that name.")
    if not found:
        raise InputError(f"{path}: expected a folder with font files ({', '.join(SUFFIXES)}), got none in it.")
    by_content: dict[str, Path] = {}
    left = MOST_BYTES
    for file in found:
        try:
            content = read_whole(file, LARGEST_FONT)
        except OSError as error:
            raise InputError(f"{file}: expected a font that can be read, got {error.strerror}.") from None
        by_content.setdefault(hashlib.sha256(content).hexdigest(), file)
        left -= len(content)
        if left < 0:
            raise InputError(f"{path}: expected fonts of at most {MOST_BYTES:,} bytes, got more.")
    place = path.resolve()
    return Fonts(
        name=(place.name if path.is_dir() else place.stem) or "fonts",
        files=tuple(by_content[digest] for digest in sorted(by_content)),
        contents=tuple(sorted(by_content)),
    )


def read_faces(fonts: Fonts) -> tuple[dict[Face, str], list[tuple[Path, str]]]:
    """The characters that each face holds, in code point order, and why other faces cannot be used."""
    held: dict[Face, str] = {}
    unreadable: list[tuple[Path, str]] = []
    for file, content in zip(fonts.files, fonts.contents, strict=True):
        try:
            with open_regular(file, LARGEST_FONT) as opened:
                count = len(_starts(opened))
        except Exception as error:  # a broken file can lead to anything
            unreadable.append((file, _reason(error, file)))
            continue
        for number in range(count):
            face = Face(file, number, content)
            try:
                characters = _characters(face)
                open_face(face)
            except Exception as error:
                unreadable.append((file, f"face {face.number}: {_reason(error, file)}"))
            else:
                held[face] = characters
    return held, unreadable


@lru_cache(maxsize=64)
def open_face(face: Face) -> ImageFont.FreeTypeFont:
    """The face, ready to draw at `EM` pixels; OSError where it cannot."""
    return ImageFont.truetype(str(face.file), EM, index=face.number, layout_engine=ImageFont.Layout.BASIC)


def _characters(face: Face) -> str:
    with open_regular(face.file, LARGEST_FONT) as opened:
        limits, table = _tables(opened, _starts(opened)[face.number])
    glyphs = _glyphs(table, _number(limits[4:6]))
    uses = Counter(glyphs.values())
    return "".join(chr(code) for code, glyph in sorted(glyphs.items()) if uses[glyph] <= PLACEHOLDER)


def _starts(opened: BinaryIO) -> list[int]:
    """Where each face of a file starts."""
    opened.seek(0)
    head = opened.read(12)
    if head[:4] in OUTLINES:
        return [0]
    if head[:4] != b"ttcf":
        raise ValueError("no TrueType or OpenType font")
    count = _number(head[8:12])
    if count > MOST_FACES:
        raise ValueError(f"{count:,} faces, which are more than {MOST_FACES}")
    return [_number(opened.read(4)) for _ in range(count)]


def _tables(opened: BinaryIO, start: int) -> tuple[bytes, bytes]:
    """Of a face the table of its size and that of the characters that it holds; all must lie within the file."""
    end = opened.seek(0, os.SEEK_END)
    opened.seek(start)
    head = opened.read(12)
    if head[:4] not in OUTLINES:
        raise ValueError("no TrueType or OpenType font")
    found: dict[bytes, tuple[int, int]] = {}
    for _ in range(_number(head[4:6])):
        entry = opened.read(16)
        found[entry[:4]] = place, size = _number(entry[8:12]), _number(entry[12:])
        if len(entry) < 16 or place + size > end:
            raise ValueError("a font that is cut off")
    if b"maxp" not in found:
        raise ValueError("no table of its size")
    if b"cmap" not in found:
        raise ValueError("no table of Unicode characters")
    (place, _), (map_place, size) = found[b"maxp"], found[b"cmap"]
    if size > LARGEST_MAP:
        raise ValueError(f"a table of characters of {size:,} bytes, which are more than {LARGEST_MAP:,}")
    opened.seek(place)
    limits = opened.read(6)
    opened.seek(map_place)
    return limits, opened.read(size)


def _glyphs(table: bytes, count: int) -> dict[int, int]:
    """The number of the glyph of each code point that has one of the `count` glyphs."""
    starts: dict[tuple[int, int], int] = {}
    for place in range(4, 4 + 8 * _number(table[2:4]), 8):
        system = _number(table[place : place + 2]), _number(table[place + 2 : place + 4])
        starts.setdefault(system, _number(table[place + 4 : place + 8]))
    known = [starts[system] for system in MAPS if system in starts]
    if not known:
        raise ValueError("no table of Unicode characters")
    part = table[known[0] :]
    kind = _number(part[:2])
    size = _number(part[4:8] if kind in (12, 13) else part[2:4])
    if size > len(part):
        raise ValueError("a table of characters that is cut off")
    glyphs: dict[int, int] = {}
    total = 0
    for first, numbers in _ranges(kind, part[:size]):
        total += len(numbers)
        if total > CODES:
            raise ValueError("more characters than Unicode has room for")
        glyphs.update((code, number) for code, number in enumerate(numbers.tolist(), first) if 0 < number < count)
    return glyphs


def _ranges(kind: int, table: bytes) -> Iterator[tuple[int, Integers]]:
    """The first code point of each range, and the numbers of the glyphs of all its code points; 0 stands for none."""
    words = np.frombuffer(table[: len(table) // 2 * 2], dtype=">u2").astype(np.int64)
    if kind == 0:
        yield 0, np.frombuffer(table[6:262], dtype=np.uint8).astype(np.int64)
    elif kind == 4:
        count = int(words[3]) // 2
        ends, (firsts, deltas, offsets) = words[7 : 7 + count], words[8 + count : 8 + 4 * count].reshape(3, count)
        for row in range(count - 1):  # the last one stands for no character
            codes = np.arange(firsts[row], ends[row] + 1)
            if offsets[row]:
                places = codes - firsts[row] + 8 + 3 * count + row + offsets[row] // 2
                if len(codes) and not 8 + 4 * count <= places[0] <= places[-1] < len(words):
                    raise ValueError("a table of characters that leads out of itself")
                numbers = words[places]
                yield int(firsts[row]), np.where(numbers, numbers + deltas[row] & 0xFFFF, 0)
            else:
                yield int(firsts[row]), codes + deltas[row] & 0xFFFF
    elif kind == 6:
        yield int(words[3]), words[5 : 5 + int(words[4])]
    elif kind in (12, 13):
        before = 0
        for first, last, number in np.frombuffer(table[16:], dtype=">u4").reshape(-1, 3).tolist():
            if before <= first <= (last := min(last, CODES - 1)):
                before = last
                yield first, number + np.arange(last - first + 1) * (kind == 12)
    else:
        raise ValueError(f"a table of characters in format {kind}")


def _number(digits: bytes) -> int:
    return int.from_bytes(digits, "big")


def _reason(error: Exception, file: Path) -> str:
    return " ".join(str(error).removeprefix(f"{file}: ").split()) or type(error).__name__
