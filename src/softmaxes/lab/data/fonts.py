"""The fonts that `glyphs` are drawn with: those that matplotlib ships, or those that a user names.

A font file is a stranger's: fontTools reads which characters it holds and Pillow draws them; what they refuse is left
out, with the reason.
"""

import hashlib
from collections import Counter
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import NamedTuple

from fontTools.ttLib import TTFont
from PIL import ImageFont

from softmaxes.lab import InputError

EM = 96  # pixels: the size at which the fonts draw, before an image is brought to its own size
SUFFIXES = (".ttf", ".otf", ".ttc", ".otc")
LISTED = 4
PLACEHOLDER = 16  # a glyph of more characters than these stands for none of them


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
    if path.is_file():
        found = [path]
    elif path.is_dir():
        found = [file for file in sorted(path.rglob("*")) if file.suffix.lower() in SUFFIXES and file.is_file()]
    else:
        raise InputError(f"{path}: expected a font file or a folder with fonts, got nothing of that name.")
    if not found:
        raise InputError(f"{path}: expected a folder with font files ({', '.join(SUFFIXES)}), got none in it.")
    by_content: dict[str, Path] = {}
    for file in found:
        try:
            with file.open("rb") as opened:
                by_content.setdefault(hashlib.file_digest(opened, "sha256").hexdigest(), file)
        except OSError as error:
            raise InputError(f"{file}: expected a font that can be read, got {error.strerror}.") from None
    place = path.resolve()
    return Fonts(
        name=(place.stem if path.is_file() else place.name) or "fonts",
        files=tuple(by_content[digest] for digest in sorted(by_content)),
        contents=tuple(sorted(by_content)),
    )


def read_faces(fonts: Fonts) -> tuple[dict[Face, str], list[tuple[Path, str]]]:
    """The characters that each face holds, in code point order, and why other faces cannot be used."""
    held: dict[Face, str] = {}
    unreadable: list[tuple[Path, str]] = []
    for file, content in zip(fonts.files, fonts.contents, strict=True):
        try:
            with file.open("rb") as opened, TTFont(opened, lazy=True, fontNumber=0) as font:
                count = getattr(font.reader, "numFonts", 1)
        except Exception as error:  # fontTools raises whatever a broken file leads to
            unreadable.append((file, _reason(error)))
            continue
        for number in range(count):
            face = Face(file, number, content)
            try:
                characters = _characters(face)
                open_face(face)
            except Exception as error:
                unreadable.append((file, f"face {face.number}: {_reason(error)}"))
            else:
                held[face] = characters
    return held, unreadable


@lru_cache(maxsize=64)
def open_face(face: Face) -> ImageFont.FreeTypeFont:
    """The face, ready to draw at `EM` pixels; OSError where it cannot."""
    return ImageFont.truetype(str(face.file), EM, index=face.number, layout_engine=ImageFont.Layout.BASIC)


def _characters(face: Face) -> str:
    with face.file.open("rb") as opened, TTFont(opened, lazy=True, fontNumber=face.number) as font:
        glyphs = font.getBestCmap()
    if glyphs is None:
        raise InputError("no table of Unicode characters")
    uses = Counter(glyphs.values())
    return "".join(
        chr(code) for code, glyph in sorted(glyphs.items()) if glyph != ".notdef" and uses[glyph] <= PLACEHOLDER
    )


def _reason(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
