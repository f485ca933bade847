"""The report: stored results as a table in the terminal, an HTML page, a CSV table and PNG figures.

It reads records alone: it trains nothing, opens no images and imports no torch.
"""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from softmaxes.lab.report import figures, frequency, page, table
from softmaxes.lab.report.summary import summarise
from softmaxes.lab.report.terminal import print_summary
from softmaxes.lab.run import DataCard, Result, Study
from softmaxes.write_whole import write_whole


def print_table(study: Study, card: DataCard, results: Sequence[Result], console: Console) -> None:
    """Print the comparison and the notes that belong to it.

    Raises:
        InputError: if there are no results, or some are not of this study or these data.
    """
    print_summary(summarise(study, card, results), console)


def write_report(study: Study, card: DataCard, results: Sequence[Result], directory: Path) -> Path:
    """Write ``report.html``, ``table.csv``, ``table.md`` and ``figures/*.png``, each whole or not at all.

    And ``frequency.csv`` and ``frequency.md`` where some classes have many more training examples than others.

    Returns:
        The path of ``report.html``.

    Raises:
        InputError: if there are no results, or some are not of this study or these data.
    """
    summary = summarise(study, card, results)
    for name, content in figures.draw(summary).items():
        put(directory / "figures" / name, content)
    put(directory / "table.csv", table.render(summary).encode())
    put(directory / "table.md", table.markdown(summary).encode())
    parts = frequency.parts(card.train_counts)
    for name, render in {"frequency.csv": frequency.render, "frequency.md": frequency.markdown}.items():
        if parts is None:
            (directory / name).unlink(missing_ok=True)  # of other data that were here before
        else:
            put(directory / name, render(summary, parts).encode())
    html = directory / "report.html"
    put(html, page.render(summary).encode())
    return html


def put(path: Path, content: bytes) -> None:
    """Write a file whole."""
    write_whole(path, lambda part: part.write_bytes(content))
