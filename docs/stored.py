"""The stored tables of `results/`, for the site."""

from pathlib import Path

RESULTS = Path(__file__).parents[1] / "results"
TABLES = {
    "table.md": "",
    "differences.md": "Differences:",
    "frequency.md": "By how frequent a class is:",
    "nearest.md": "Nearest to the published figures:",
}


def folders() -> list[Path]:
    """The folders that have something to read."""
    return sorted(path for path in RESULTS.iterdir() if path.is_dir() and _files(path))


def _files(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.iterdir()) if path.suffix in (".csv", ".txt")]


def anchor(target: Path) -> str | None:
    """Where the page of stored results has a folder or a table of `results/`; none for other files."""
    if target == RESULTS or target == RESULTS / "README.md":
        return ""
    if not target.is_relative_to(RESULTS) or not (target.is_dir() or target.suffix == ".md"):
        return None
    return f"#{target.relative_to(RESULTS).parts[0]}"


def sections() -> str:
    """Each folder with its tables, and with its files to download."""
    return "\n".join(_section(folder) for folder in folders())


def _section(folder: Path) -> str:
    tables = [f"{words}\n\n{(folder / name).read_text()}" for name, words in TABLES.items() if (folder / name).exists()]
    links = ", ".join(f"[{path.name}](../results/{folder.name}/{path.name})" for path in _files(folder))
    return "\n".join([f"## {folder.name}\n", *tables, "", f"Files: {links}.", ""])
