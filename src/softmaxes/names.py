"""Names, which may be a stranger's, where a terminal, a file system, a spreadsheet or Markdown takes them."""

import re
from collections.abc import Sequence

LONGEST = 150  # bytes of a file's name, so that something may stand before and behind it
RESERVED = re.compile(r"(?:con|prn|aux|nul|com\d|lpt\d)(?:\..*)?|\.+", re.IGNORECASE)  # on Windows; and . and ..
FORMULA = re.compile(r"'*(?:\s*[-=+@\uff1d\uff0b\uff0d\uff20]|[\t\r\n])")  # as it begins
NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?", re.ASCII)


def printable(text: str, limit: int | None = None) -> str:
    r"""A text in one line, with nothing that a terminal would take for a command, or that turns or hides letters.

    Args:
        text: any.
        limit: characters at most; of a longer text the beginning and the end are kept.

    Example:
        >>> from softmaxes.names import printable
        >>> printable("a\x1b[31mred\nb")
        'a�[31mred�b'
        >>> printable("0123456789", limit=7)
        '0123…89'
    """
    if limit is not None and len(text) > limit:
        end = (limit - 1) // 3
        text = f"{text[: limit - 1 - end]}…{text[len(text) - end :]}"
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)


def file_name(name: str) -> str:
    """A name as that of a file or folder, or as a part of it: letters, digits, ``-``, ``_`` and ``.``, not too long.

    Example:
        >>> from softmaxes.names import file_name
        >>> file_name("../my photos?"), file_name("..")
        ('..-my-photos-', '-..')
    """
    name = "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in name)
    name = name.encode(errors="replace")[:LONGEST].decode(errors="ignore")
    return f"-{name}" if not name or RESERVED.fullmatch(name) else name


def distinct(names: Sequence[str]) -> list[str]:
    """Names of files that stay apart where a file system does not tell capitals from small letters.

    Example:
        >>> from softmaxes.names import distinct
        >>> distinct(["a", "A", "a", "A_2"])
        ['a', 'A_2', 'a_3', 'A_2_2']
    """
    taken: set[str] = set()
    found = []
    for name in names:
        number, other = 1, name
        while other.casefold() in taken:
            number += 1
            other = f"{name}_{number}"
        taken.add(other.casefold())
        found.append(other)
    return found


def in_cell(value: object) -> object:
    """A value as a cell of a CSV table: an apostrophe stands before a text that a spreadsheet would calculate.

    Numbers stay as they are. `from_cell` takes the apostrophe away.

    Example:
        >>> from softmaxes.names import in_cell
        >>> [in_cell(value) for value in ("softmax", "=1+1", "-1.5", -1.5, None)]
        ['softmax', "'=1+1", '-1.5', -1.5, None]
    """
    return f"'{value}" if isinstance(value, str) and _calculated(value) else value


def from_cell(text: str) -> str:
    """The text that `in_cell` was given.

    Example:
        >>> from softmaxes.names import from_cell
        >>> from_cell("'=1+1"), from_cell("'tis")
        ('=1+1', "'tis")
    """
    return text[1:] if text.startswith("'") and _calculated(text[1:]) else text


def _calculated(text: str) -> bool:
    """Whether a spreadsheet would, or whether apostrophes alone keep it from it: so that none is lost."""
    return FORMULA.match(text) is not None and NUMBER.fullmatch(text) is None


def in_code(name: str) -> str:
    r"""A name as a code span of Markdown that may stand in a table.

    Example:
        >>> from softmaxes.names import in_code
        >>> print(in_code("softmax"), in_code("a`b|c"))
        `softmax` ``a`b\|c``
    """
    longest = max(map(len, re.findall("`+", name)), default=0)
    fence = "`" * (longest + 1) if longest else "`"
    pad = " " if name.startswith("`") or name.endswith("`") or name != name.strip() or not name else ""
    escaped = name.replace("|", "\\|")
    return f"{fence}{pad}{escaped}{pad}{fence}"


def typed(value: object) -> str:
    """The value of a setting, as it is typed on the command line.

    Example:
        >>> from softmaxes.names import typed
        >>> typed(True), typed(0.5)
        ('yes', '0.5')
    """
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


def plural(count: int, noun: str, nouns: str = "") -> str:
    """A count and its noun."""
    return f"{count:,} {noun if count == 1 else nouns or noun + 's'}"
