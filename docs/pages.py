"""What the site adds to the pages of `docs/`: a table of contents, and where links out of `docs/` lead to."""

import os
import re
from pathlib import Path

DOCS = Path(__file__).parent
RESULTS = DOCS.parent / "results"
CONTENTS = ("index.md", "heads.md")
LINK = re.compile(r"(?<!!)(\[[^\]]*)\]\((?!https?:)([^)#\s]+)(#[^)]*)?\)")
TABLES = {
    "table.md": "",
    "differences.md": "Differences:",
    "frequency.md": "By how frequent a class is:",
    "nearest.md": "Nearest to the published figures:",
}


def chapters(text: str) -> list[tuple[str, list[str]]]:
    """The headings of a page, and under each the first link of each row of its lists and tables."""
    found = []
    for part in re.split(r"^## ", f"\n{text}", flags=re.MULTILINE):
        pages = re.findall(r"^[-|] .*?\]\(([\w/-]+\.(?:md|rst|ipynb))\)", part, re.MULTILINE)
        if pages:
            found.append((part.partition("\n")[0], pages))
    return found


def toctree(chapter: tuple[str, list[str]]) -> str:
    """A chapter as Sphinx has it."""
    caption, pages = chapter
    return "\n".join(["", "```{toctree}", ":hidden:", f":caption: {caption}" if caption else "", *pages, "```", ""])


def with_links(text: str, folder: Path) -> str:
    """A page's text, its links out of `docs/` leading to where the site has what they name."""

    def moved(link: re.Match[str]) -> str:
        target = (folder / link[2]).resolve()
        if target.is_relative_to(DOCS) or not target.exists():
            return link[0]
        if (place := anchor(target)) is not None:
            return f"{link[1]}]({Path(os.path.relpath(DOCS / 'stored.md', folder)).as_posix()}{place})"
        return f"{link[1]}](<path:{link[2]}>)"

    return LINK.sub(moved, text)


def anchor(target: Path) -> str | None:
    """Where the page of stored results has a folder or a table of `results/`; none for other files."""
    if target == RESULTS:
        return ""
    if RESULTS not in target.parents or not (target.is_dir() or (target.parent != RESULTS and target.suffix == ".md")):
        return None
    return f"#{target.relative_to(RESULTS).parts[0]}"


def sections() -> str:
    """Each folder of `results/` with its tables, and with its files to download."""
    return "\n".join(_section(folder) for folder in sorted(RESULTS.iterdir()) if folder.is_dir())


def _files(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.iterdir()) if path.suffix in (".csv", ".txt")]


def _section(folder: Path) -> str:
    tables = [f"{words}\n\n{(folder / name).read_text()}" for name, words in TABLES.items() if (folder / name).exists()]
    links = ", ".join(f"[{path.name}](../results/{folder.name}/{path.name})" for path in _files(folder))
    return "\n".join([f"## {folder.name}\n", *tables, "", f"Files: {links}.", ""])
