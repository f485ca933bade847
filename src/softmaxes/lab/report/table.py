"""The comparison as CSV, every digit kept."""

import csv
import io

from softmaxes.lab.report.summary import MEASURES, Row, Summary


def columns(row: Row) -> dict[str, object]:
    """A row of the table; a number that does not exist is an empty cell."""
    cells: dict[str, object] = {
        "label": row.label,
        "head": row.setting.head,
        "seeds_planned": len(row.planned),
        "seeds_finished": len(row.finished),
        "seeds_diverged": " ".join(str(result.run.seed) for result in row.diverged),
    }
    for measure in MEASURES:
        estimate = row.scores.get(measure.key)
        cells[measure.key] = estimate and estimate.mean
        cells[f"{measure.key}_low"] = estimate and estimate.low
        cells[f"{measure.key}_high"] = estimate and estimate.high
        cells[f"{measure.key}_mark"] = row.marks[measure.key]
    time = row.epoch_seconds
    cells["epoch_seconds"] = time and time.median
    cells["epoch_seconds_q20"] = time and time.low
    cells["epoch_seconds_q80"] = time and time.high
    cells["parameters"] = row.parameters
    cells["head_parameters"] = row.head_parameters
    cells["peak_memory_mib"] = row.peak_memory_mib
    return cells


def render(summary: Summary) -> str:
    """The table."""
    rows = [columns(row) for row in summary.rows]
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
