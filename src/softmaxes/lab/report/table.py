"""The comparison as CSV, every digit kept, and as a Markdown table to paste."""

import math

from softmaxes.lab.report.summary import MEASURES, NLL, OUTSIDE, TREE_MEASURES, Row, Summary
from softmaxes.lab.report.terminal import SHOWN
from softmaxes.lab.report.wording import compact, outside, seconds, status, with_interval
from softmaxes.lab.tables import as_csv, as_markdown
from softmaxes.names import in_code


def columns(row: Row) -> dict[str, object]:
    """A row of the table; a number that does not exist is an empty cell."""
    cells: dict[str, object] = {
        "label": row.label,
        "head": row.setting.head,
        "seeds_planned": len(row.planned),
        "seeds_finished": len(row.finished),
        "seeds_diverged": " ".join(str(result.run.seed) for result in row.diverged),
    }
    for measure in (*MEASURES, *TREE_MEASURES):
        estimate = row.scores.get(measure.key)
        name = measure.key.replace(".", "_")
        cells[name] = estimate and (None if math.isnan(estimate.mean) else estimate.mean)
        cells[f"{name}_low"] = estimate and estimate.low
        cells[f"{name}_high"] = estimate and estimate.high
        cells[f"{name}_mark"] = row.marks[measure.key]
    time = row.epoch_seconds
    cells["epoch_seconds"] = time and time.median
    cells["epoch_seconds_q20"] = time and time.low
    cells["epoch_seconds_q80"] = time and time.high
    cells["parameters"] = row.parameters
    cells["head_parameters"] = row.head_parameters
    cells["peak_memory_mib"] = row.peak_memory_mib
    return cells


def rows(summary: Summary) -> list[dict[str, object]]:
    """The table, a row for each head; every digit kept."""
    return [columns(row) for row in summary.rows]


def render(summary: Summary) -> str:
    """The table as CSV."""
    lines = rows(summary)
    return as_csv(list(lines[0]), [line.values() for line in lines])


def markdown(summary: Summary) -> str:
    """The table as Markdown: means, half a 95 % interval over seeds; the best in bold, ≈ what is level with it."""
    shown = [measure for measure in MEASURES if measure.key in SHOWN]
    titles = [f"{measure.name}{', %' if measure.percent else ''}" for measure in shown]
    rows = [["head", *titles, "s/epoch", "parameters", "runs"]]
    for row in summary.rows:
        cells = [in_code(row.label)]
        for measure in shown:
            text = with_interval(row.scores[measure.key], measure) if row.finished else "–"
            if measure == NLL and row.finished:
                text = f"{text} {outside(row.scores[OUTSIDE.key].mean)}".strip()
            cells.append({"best": f"**{text}**", "level": f"≈ {text}", "": text}[row.marks[measure.key]])
        cells.append("–" if row.epoch_seconds is None else seconds(row.epoch_seconds.median))
        cells.append("–" if row.parameters is None else compact(row.parameters))
        rows.append([*cells, status(row)])
    rows.insert(1, ["---"] * len(rows[0]))
    return as_markdown(rows)
