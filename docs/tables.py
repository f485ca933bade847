"""Bring what the pages repeat up to date, tables of stored results and parts of the README: `python docs/tables.py`.

A table stands between `<!-- table: results/glyphs -->` and `<!-- /table -->`, or `differences`, `frequency` or
`nearest` in place of `table`: the file of that name, `.md`, in that folder. `elsewhere` takes several folders, and sets
their differences side by side. `steps` and `search` are what `benchmarks/step.py` and
`benchmarks/search.py` measured. `stored` takes a file itself, without its ending. Between
`<!-- readme: In your own model -->` and `<!-- /readme -->` stands the part of the README below that heading.

A figure in a sentence says where it is from in a comment that no reader sees: the file, the row by one or more of its
columns, and the column, or one less another, perhaps times a number:
`80.7<!-- from: results/glyphs/table.csv head=gumbel accuracy×100 --> %`. Such a figure stays as it is written: `wrong`
tells those that are no longer the stored ones.
"""

import csv
import math
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
STUDIES = {  # whose heads are tuned: what `softmaxes advise` says of accuracy; their data, and how many classes it has
    "results/fair-cifar100": ("cifar100", 100),
    "results/many-geonames": ("geonames", 18_557),
}
KNOWN = ROOT / "src" / "softmaxes" / "lab" / "cost" / "accuracy.csv"
MARKED = re.compile(
    r"(<!-- (table|differences|frequency|nearest|elsewhere|steps|search|stored|readme): (\S+(?: \S+)*) -->\n)"
    r"(.*?)(<!-- /\2 -->)",
    re.DOTALL,
)
FIGURE = re.compile(r"([−-]?\d[\d,]*(?:\.\d+)?)<!-- from: (\S+) (.+?) (\S+) -->")
METHODS = {  # of benchmarks/step.py, as the pages call them
    "tree": "tree, `SGDInBackward`",
    "tree, SGD": "tree, `torch.optim.SGD`",
    "plain": "the same in plain PyTorch",
    "flat": "flat softmax",
    "adaptive": "`nn.AdaptiveLogSoftmaxWithLoss`",
    "fastText": "fastText's",
    "moving": "moving the rows alone",
}
MARKS = {"higher": ("▲", "ahead"), "lower": ("▼", "behind"), "": ("", "not told apart")}


def with_tables(text: str) -> str:
    """A page's text with the tables as they are stored now."""
    return MARKED.sub(lambda found: f"{found[1]}{_table(found[2], found[3].split(' '))}{found[5]}", text)


def _table(kind: str, folders: list[str]) -> str:
    if kind == "readme":
        return _part(" ".join(folders))
    if kind == "elsewhere":
        return _elsewhere([ROOT / folder for folder in folders])
    (folder,) = folders
    if kind == "stored":
        return (ROOT / f"{folder}.md").read_text()
    if kind == "steps":
        return _steps(ROOT / folder / "step.csv")
    if kind == "search":
        return _search(ROOT / folder / "search.csv")
    return (ROOT / folder / f"{kind}.md").read_text()


def _part(heading: str) -> str:
    """What the README says below a heading, its links as they are from `docs/`."""
    text = (ROOT / "README.md").read_text().partition(f"\n## {heading}\n")[2].partition("\n## ")[0].strip("\n")
    if not text:
        raise ValueError(f"README.md: expected a heading '## {heading}', got none.")
    return re.sub(r"\]\((?!https?:|#)(docs/)?", lambda link: "](" if link[1] else "](../", text) + "\n"


def _elsewhere(folders: list[Path]) -> str:
    """The differences of each head in each folder, in the order of the first, and whether their marks agree."""
    stored = [_differences(folder) for folder in folders]
    data = [f"`{folder.name.partition('-')[2]}`" for folder in folders]  # of fair-cifar100
    cells = [["head", *data, "the same on both?"], ["---"] * (len(data) + 2)]
    for head in stored[0]:
        rows = [one.get(head) for one in stored]
        found = [MARKS[row["mark"]][1] for row in rows if row is not None]
        agreed = _agreement(found, data) if len(found) == len(rows) else "–"
        cells.append([f"`{head}`", *("–" if row is None else _difference(row) for row in rows), agreed])
    return "".join(f"| {' | '.join(row)} |\n" for row in cells)


def _steps(path: Path) -> str:
    """Milliseconds of each method at each number of classes, with two digits."""
    median = {(row["classes"], row["method"]): 1000 * float(row["median"]) for row in _rows(path)}
    cells = [["classes", *METHODS.values()], ["---"] * (len(METHODS) + 1)]
    for classes in dict.fromkeys(classes for classes, _ in median):
        times = [median.get((classes, method)) for method in METHODS]
        cells.append([f"{int(classes):,}", *("" if time is None else _two_digits(time) for time in times)])
    return "".join(f"| {' | '.join(row)} |\n" for row in cells)


def _search(path: Path) -> str:
    """How many times as fast as scoring all classes: ``9.8 (5.9 to 17)``, a line for each head."""
    lines: dict[tuple[str, str], list[str]] = {}
    for row in _rows(path):
        trained = f"right on {100 * float(row['right']):.0f} %" if row["right"] else row["head"]
        median, low, high = (_two_digits(float(row[name])) for name in ("ratio", "low", "high"))
        lines.setdefault((row["classes"], trained), []).append(f"{median} ({low} to {high})")
    asked = ("best class of 256", "best five of 256", "best class of one", "best five of one")
    cells = [["classes", "head", *asked], ["---"] * (2 + len(asked))]
    cells += [[f"{int(classes):,}", head, *ratios] for (classes, head), ratios in lines.items()]
    return "".join(f"| {' | '.join(row)} |\n" for row in cells)


def _two_digits(value: float) -> str:
    """``0.33``, ``1.4``, ``21``, ``7,200``."""
    rounded = float(f"{value:.2g}")
    return f"{rounded:,.{max(0, 1 - math.floor(math.log10(rounded)))}f}"


def wrong(text: str) -> list[str]:
    """The figures of a page that are not the stored ones, rounded to the digits that are written: one line for each."""
    lines = []
    for written, path, row, column in FIGURE.findall(text):
        value = _value(ROOT / path, dict(part.split("=", 1) for part in row.split(",")), column)
        number = float(written.replace(",", "").replace("−", "-"))
        decimals = len(written.partition(".")[2])
        if number not in {round(value, decimals), *(float(f"{value:.{digits}g}") for digits in (2, 3, 4))}:
            lines.append(f"{written}: {path} has {value:.6g} for {row} {column}")
    return lines


def _value(path: Path, row: dict[str, str], column: str) -> float:
    """What a table has in the one row that fits."""
    (found,) = (one for one in _rows(path) if all(one[name] == value for name, value in row.items()))
    names, _, factor = column.partition("×")
    first, *less = (float(found[name]) for name in names.split("-"))
    return (first - sum(less)) * float(factor or 1)


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _differences(folder: Path) -> dict[str, dict[str, str]]:
    return {row["head"]: row for row in _rows(folder / "differences.csv")}


def _difference(row: dict[str, str]) -> str:
    """In points: ``▼ −6.42 ± 0.66``."""
    mean, high = (100 * float(row[column]) for column in ("difference", "high"))
    shown = f"{mean:+.2f} ± {high - mean:.2f}".replace("-", "−")
    return f"**{MARKS[row['mark']][0]} {shown}**" if row["mark"] else shown


def _agreement(found: list[str], data: list[str]) -> str:
    if len(set(found)) == 1:
        return f"yes: {found[0]}"
    return "no: " + ", ".join(f"{word} on {name}" for word, name in zip(found, data, strict=True))


def known_accuracy() -> str:
    """What the tuned studies say of every head, as `softmaxes advise` reads it."""
    lines = ["head,classes,data,seeds,points,half"]
    for folder, (data, classes) in STUDIES.items():
        for row in _differences(ROOT / folder).values():
            mean, high = (100 * float(row[column]) for column in ("difference", "high"))
            head = row["head"].partition(":")[0]
            lines.append(f"{head},{classes},{data},{row['seeds']},{mean:.2f},{high - mean:.2f}")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    KNOWN.write_text(known_accuracy(), encoding="utf-8")
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))):
        text = page.read_text()
        if (new := with_tables(text)) != text:
            page.write_text(new)
            print(page.relative_to(ROOT))
