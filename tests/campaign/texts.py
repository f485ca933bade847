"""Bad files of rows with labels: texts, and sparse vectors."""

import random
from collections.abc import Sequence

from campaign import mutate
from campaign.bases import PARTS, Bases
from campaign.case import Case, Command, Place

ROWS = 24


def _read(place: Place, path: str) -> list[str]:
    """Words that read texts at a path."""
    verbs = [["data", "text", "--data-dir", path]] * 4 + [["data", path], ["data", path, "--long-tail", "2"]]
    return place.random.choice(verbs)


def _lay(place: Place, name: str, good: str, bad: bytes, about: str, must_refuse: str = "") -> Case:
    """A bad file, alone or with a good one of the other part."""
    if place.random.random() < 0.5:
        (place.work / name).write_bytes(bad)
        return Case(f"{name}: {about}", Command(_read(place, name)), must_refuse=must_refuse)
    folder = place.work / "rows"
    folder.mkdir()
    ending = name.partition(".")[2]
    part = place.random.choice(PARTS)
    for other in PARTS:
        (folder / f"{other}.{ending}").write_bytes(bad if other == part else good.encode())
    return Case(f"{part}.{ending}: {about}", Command(_read(place, "rows")), must_refuse=must_refuse)


def _changed(chance: random.Random, text: str) -> tuple[bytes, str]:
    """The file with some bytes, lines or words changed, or in another encoding; and what was done."""
    how = chance.random()
    if how < 0.4:
        return mutate.change_bytes(chance, text.encode())
    if how < 0.5:
        encoding = chance.choice(("utf-16", "utf-32", "utf-8-sig", "latin-1"))
        return text.replace("Köln", "Koln").encode(encoding), f"in {encoding}"
    changed, about = mutate.change_text(chance, text)
    return changed.encode("utf-8", "surrogatepass"), about


def texts(place: Place, known: Bases, number: int) -> Case:
    """Texts in fastText's format, or in a table."""
    name = place.random.choice(("rows.txt", "rows.csv", "rows.tsv"))
    if name == "rows.txt":
        lines = [f"__label__{row % 3} __label__more Köln number {row}" for row in range(ROWS)]
    else:
        mark = "," if name == "rows.csv" else "\t"
        lines = [f"text{mark}label"] + [f'"Köln, ""number"" {row}"{mark}{row % 3}' for row in range(ROWS)]
    good = "\n".join(lines) + "\n"
    bad, about = _changed(place.random, good)
    return _lay(place, name, good, bad, about)


def sparse(place: Place, known: Bases, number: int) -> Case:
    """Sparse vectors with their labels, as the Extreme Classification Repository has them."""
    chance = place.random
    lines = [f"{row % 3},{3 + row % 4} {row}:0.5 {30 + row % 5}:1.25 90:-2e-3" for row in range(ROWS)]
    good = "\n".join([f"{ROWS} 100 9", *lines]) + "\n"
    if number == len(SPECIALS):
        (place.work / "rows.txt").write_text(good.replace("\n1,4 ", "\n "))
        words = ["data", "text", "--data-dir", "rows.txt"]
        return Case("rows without a label", Command(words, valid=True), must_succeed="they are left out")
    if number > len(SPECIALS):
        bad, about = _changed(chance, good)
        return _lay(place, "rows.txt", good, bad, about)
    about, header, row = SPECIALS[number]
    at = chance.randrange(ROWS)
    changed: Sequence[str] = [header, *lines[:at], row or lines[at], *lines[at + 1 :]]
    return _lay(place, "rows.txt", good, ("\n".join(changed) + "\n").encode(), about, must_refuse=about)


HEADER = f"{ROWS} 100 9"
SPECIALS = (  # what is wrong, the first line, and a row if it is that
    ("no header", "0 1:1", ""),
    ("a header of two numbers", f"{ROWS} 100", ""),
    ("a header of four numbers", f"{ROWS} 100 9 1", ""),
    ("a row too few", f"{ROWS + 1} 100 9", ""),
    ("a row too many", f"{ROWS - 1} 100 9", ""),
    ("rows without end", f"{10**17} 100 9", ""),
    ("features without end", f"{ROWS} {10**17} 9", ""),
    ("labels without end", f"{ROWS} 100 {10**17}", ""),
    ("19,999,999 labels", f"{ROWS} 100 19999999", ""),
    ("a header of 5,000 digits", "9" * 5000 + " 100 9", ""),
    ("no features", f"{ROWS} 0 9", ""),
    ("an index too large", HEADER, "0 100:1"),
    ("an index of 2^63", HEADER, f"0 {2**63}:1"),
    ("an index of 5,000 digits", HEADER, f"0 {'9' * 5000}:1"),
    ("an index below 0", HEADER, "0 -1:1"),
    ("a label too large", HEADER, "9 1:1"),
    ("a label of 5,000 digits", HEADER, f"{'9' * 5000} 1:1"),
    ("a label that is none", HEADER, "a 1:1"),
    ("NaN", HEADER, "0 1:nan"),
    ("infinity", HEADER, "0 1:inf"),
    ("1e39", HEADER, "0 1:1e39"),
    ("1e400", HEADER, "0 1:1e400"),
    ("a number that breaks off", HEADER, "0 1:"),
    ("an index twice", HEADER, "0 1:1 1:2"),
    ("an expression", HEADER, "0 1:__import__('os')"),
    ("a million digits", HEADER, f"0 1:{'1' * 10**6}"),
    ("two million signs", HEADER, f"0 {'1:' * 10**6}"),
    ("a row of 20 MB", HEADER, "0 " + "1:1 " * 5_000_000),
)
