"""Bring what the pages repeat up to date, tables of stored results and parts of the README: `python docs/tables.py`.

A table stands between `<!-- table: results/glyphs -->` and `<!-- /table -->`, or `differences`, `frequency` or
`nearest` in place of `table`: the file of that name, `.md`, in that folder. `elsewhere` takes several folders, and sets
their differences side by side. Between `<!-- readme: In your own model -->` and `<!-- /readme -->` stands the part of
the README below that heading.
"""

import csv
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
MARKED = re.compile(
    r"(<!-- (table|differences|frequency|nearest|elsewhere|readme): (\S+(?: \S+)*) -->\n)(.*?)(<!-- /\2 -->)", re.DOTALL
)
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


def _differences(folder: Path) -> dict[str, dict[str, str]]:
    with (folder / "differences.csv").open(encoding="utf-8") as file:
        return {row["head"]: row for row in csv.DictReader(file)}


def _difference(row: dict[str, str]) -> str:
    """In points: ``▼ −6.42 ± 0.66``."""
    mean, high = (100 * float(row[column]) for column in ("difference", "high"))
    shown = f"{mean:+.2f} ± {high - mean:.2f}".replace("-", "−")
    return f"**{MARKS[row['mark']][0]} {shown}**" if row["mark"] else shown


def _agreement(found: list[str], data: list[str]) -> str:
    if len(set(found)) == 1:
        return f"yes: {found[0]}"
    return "no: " + ", ".join(f"{word} on {name}" for word, name in zip(found, data, strict=True))


if __name__ == "__main__":
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))):
        text = page.read_text()
        if (new := with_tables(text)) != text:
            page.write_text(new)
            print(page.relative_to(ROOT))
