"""The report: stored results as tables in the terminal, an HTML page, CSV tables and PNG figures.

It reads records alone: it trains nothing, opens no images and imports no torch.
"""

from collections.abc import Sequence
from pathlib import Path

from softmaxes.files import write_bytes
from softmaxes.lab.report import figures, page, table
from softmaxes.lab.report.sections import differences, frequency, nearest, tuning
from softmaxes.lab.report.summary import Summary


def write_report(
    summary: Summary, directory: Path, others: Sequence[page.Link] = (), forms: Sequence[figures.Form] = ()
) -> Path:
    """Write ``report.html``, ``table.csv``, ``.md`` and ``.tex``, and ``figures/*.png``, each whole or not at all.

    Where seeds can be paired with those of a reference, ``differences`` in these three forms, too. And ``frequency``
    where some classes have many more training examples than others. And ``tuning`` where settings were tried, the CSV
    with all of them, and ``nearest`` where several settings stand beside published figures.

    Args:
        summary: what it says.
        directory: where it is written.
        others: the pages that it links to, of other comparisons.
        forms: other forms of the figures, beside PNG.

    Returns:
        The path of ``report.html``.
    """
    comparison, parts = table.comparison(summary), frequency.table(summary)
    found = differences.differences(summary)
    compared = None if found is None else differences.table(found)
    near, choices = nearest.nearest(summary), tuning.choices(summary.study)
    chosen = tuning.table(choices) if choices else None
    # All of it is made before any of it is written: what cannot be drawn leaves the report that is there as it is.
    drawn = figures.draw(summary, forms)
    texts = {
        "table.csv": comparison.csv(),
        "table.md": comparison.markdown(),
        "table.tex": comparison.latex(),
        "differences.csv": None if compared is None else compared.csv(),
        "differences.md": None if compared is None else compared.markdown(),
        "differences.tex": None if compared is None else compared.latex(),
        "tuning.csv": tuning.csv(summary.study) if summary.study.tuning else None,
        "tuning.md": chosen.markdown() if chosen else None,
        "tuning.tex": chosen.latex() if chosen else None,
        "frequency.csv": None if parts is None else frequency.csv(parts),
        "frequency.md": None if parts is None else parts.markdown(),
        "frequency.tex": None if parts is None else parts.latex(),
        "nearest.csv": nearest.every(nearest.fits(summary)).csv() if near else None,
        "nearest.md": nearest.table(near).markdown() if near else None,
        "nearest.tex": nearest.table(near).latex() if near else None,
        "report.html": page.render(summary, others),
    }
    for name, content in drawn.items():
        write_bytes(directory / "figures" / name, content)
    for name, text in texts.items():
        if text is None:
            (directory / name).unlink(missing_ok=True)  # of what was here before
        else:
            write_bytes(directory / name, text.encode())
    return directory / "report.html"
