"""Results from elsewhere, as of a paper: read from a small CSV file to be set beside ours."""

import csv
import io
from pathlib import Path

from softmaxes.files import InputError, read_whole
from softmaxes.lab.records import Elsewhere
from softmaxes.names import from_cell, printable

MOST_BYTES = 2**20
MOST_ROWS = 1000
LONGEST = 200  # characters of a name or a source
SHOWN = 40  # of a cell in an error
TEXTS = ("head", "source")
SCORES = tuple(name for name in Elsewhere.model_fields if name not in TEXTS)


def read_elsewhere(path: Path) -> tuple[Elsewhere, ...]:
    """The rows of a CSV file with the columns head, accuracy, source, and perhaps other scores.

    A share stands as ``0.813`` or ``81.3%``. A file of the first line alone has no rows.

    Raises:
        OSError: it cannot be opened.
        InputError: it is no such file; the message says in which line.
    """
    try:
        text = read_whole(path, MOST_BYTES).decode("utf-8-sig")
        lines = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    except (UnicodeDecodeError, csv.Error):
        raise InputError(f"{path}: expected a CSV file in UTF-8, got another.") from None
    names = [name.strip().lower() for name in lines[0]] if lines else []
    known = [*TEXTS, *SCORES]
    missing = [name for name in ("head", "accuracy", "source") if name not in names]
    if missing or len(set(names)) < len(names) or not set(names) <= set(known):
        raise InputError(
            f"{path}: expected a first line of names among {','.join(known)}, with head, accuracy and source, "
            f"got {printable(','.join(names), SHOWN)!r}."
        )
    if len(lines) > MOST_ROWS:
        raise InputError(f"{path}: expected at most {MOST_ROWS:,} lines, got {len(lines):,}.")
    found = []
    for number, cells in enumerate(lines[1:], 2):
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) != len(names):
            raise InputError(f"{path}, line {number}: expected {len(names)} cells, as in the first, got {len(cells)}.")
        line = {name: printable(cell.strip(), LONGEST) for name, cell in zip(names, cells, strict=True)}
        fields: dict[str, object] = {name: from_cell(line[name]) for name in TEXTS}
        if empty := [name for name in TEXTS if not fields[name]]:
            raise InputError(f"{path}, line {number}: expected a {empty[0]}, got none.")
        for name in SCORES:
            if line.get(name):
                fields[name] = _number(name, line[name], f"{path}, line {number}")
        found.append(Elsewhere.model_validate(fields))
    return tuple(found)


def _number(name: str, text: str, where: str) -> float:
    """A score: a share in 0..1 or in percent, or an NLL or seconds."""
    plain = text.removesuffix("%").strip()
    try:
        if not plain.isascii() or "_" in plain:
            raise ValueError
        value = float(plain) / (100 if plain != text.strip() else 1)
        Elsewhere.model_validate({"head": "x", "source": "x", name: value})
    except ValueError:
        what = "a number of at least 0" if name in ("nll", "epoch_seconds") else "a share as 0.813 or 81.3%"
        raise InputError(f"{where}: expected {what} as {name}, got {printable(text, SHOWN)!r}.") from None
    return value
