"""The comparison as one table: scores, scores of the tree that judges, and costs. Beside it, what was published."""

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from math import isnan

from softmaxes.lab.records import Elsewhere, Published
from softmaxes.lab.report.grid import NOTHING, Cell, Column, Grid, named
from softmaxes.lab.report.summary import ACCURACY, MEASURES, NLL, OUTSIDE, TREE_MEASURES, Measure, Row, Summary
from softmaxes.lab.report.wording import (
    NBSP,
    compact,
    interval,
    known,
    number,
    outside,
    seconds,
    spread,
    status,
    with_interval,
)

ELSEWHERE = "published elsewhere"
CROWDED_OUT = ("top5", "f1")  # of the terminal, by precision at k: it has no room for all


@lru_cache(maxsize=1)  # every format prints it
def comparison(summary: Summary) -> Grid:
    """The table: CSV has every column of it, the other formats those that they have room for."""
    heads = []
    for row in summary.rows:
        seeds = {"seeds_planned": len(row.planned), "seeds_finished": len(row.finished)}
        heads.append(named(row, **seeds, seeds_diverged=" ".join(str(result.run.seed) for result in row.diverged)))
    return with_elsewhere(Grid(heads, columns(summary)), summary)


def columns(summary: Summary) -> list[Column]:
    """All that is known of the heads."""
    return [*scores(summary), *judged(summary.rows), *costs(summary.rows)]


def with_elsewhere(grid: Grid, summary: Summary) -> Grid:
    """A table of all heads, and below them the rows that were published elsewhere, without marks."""
    lines = summary.study.elsewhere
    if not lines:
        return grid
    heads = [
        Cell(
            f"{line.head} ({ELSEWHERE}, {line.source})",
            group=ELSEWHERE.capitalize(),
            facts={"label": line.head, "head": line.head, "published_elsewhere": line.source},
        )
        for line in lines
    ]
    columns = []
    for column in grid.columns:
        measure = next((one for one in MEASURES if one.key in column.cells[0].facts), None)
        cells = [Cell() if measure is None else _told(line, measure) for line in lines]
        if column.markdown == "s/epoch":
            cells = [Cell(seconds(line.epoch_seconds)) if line.epoch_seconds is not None else Cell() for line in lines]
        columns.append(replace(column, cells=[*column.cells, *cells]))
    return replace(grid, heads=[*grid.heads, *heads], columns=columns)


def _told(line: Elsewhere, measure: Measure) -> Cell:
    value = getattr(line, measure.key, None)
    return Cell() if value is None else Cell(number(value, measure), facts={measure.key: value})


def scores(summary: Summary) -> list[Column]:
    """A column for each measure, and how many runs they rest on."""
    rows, columns = summary.rows, []
    crowded = any(measure.optional for measure in summary.known)
    for measure in summary.known:
        page = measure.with_unit if measure in summary.measures else ""
        markdown = measure.name + (", %" if measure.percent else "") if measure.brief else ""
        cells = [_score(row, measure) for row in rows]
        brief = "" if crowded and measure.key in CROWDED_OUT else measure.brief
        columns.append(Column(cells, page, markdown, brief, note=measure.direction))
    times = [Cell(seconds(row.epoch_seconds.median)) if row.epoch_seconds else Cell() for row in rows]
    sizes = [Cell() if row.parameters is None else Cell(compact(row.parameters)) for row in rows]
    runs = [Cell(status(row), brief=f"{len(row.finished)}/{len(row.planned)}") for row in rows]
    return [
        *columns,
        Column(times, "", "s/epoch", "s/epoch", narrow="s/ep."),
        Column(sizes, "", "parameters", "Param.", narrow="Par."),
        Column(runs, "Seeds", "runs", "Seeds", narrow="Runs", look="seeds"),
    ]


def _facts(row: Row, measure: Measure) -> dict[str, object]:
    """A number that does not exist is none."""
    estimate = row.scores.get(measure.key)
    name = measure.key.replace(".", "_")
    return {
        name: estimate and (None if isnan(estimate.mean) else estimate.mean),
        f"{name}_low": estimate and estimate.low,
        f"{name}_high": estimate and estimate.high,
        f"{name}_mark": row.marks[measure.key],
    }


def _score(row: Row, measure: Measure) -> Cell:
    """A score with its mark. The terminal has room for the interval of the accuracy alone."""
    facts = _facts(row, measure)
    if not row.finished:
        return Cell(facts=facts)
    estimate, mark = row.scores[measure.key], row.marks[measure.key]
    share = row.scores[OUTSIDE.key].mean if measure == NLL else 0.0
    shown = number(estimate.mean, measure)
    brief = with_interval(estimate, measure) if measure == ACCURACY else shown
    brief += f" {number(share, OUTSIDE)}%" if share else ""
    brief = brief if mark else f" {brief}"  # as wide as with a mark
    return Cell(shown, interval(estimate, measure), outside(share), brief, mark, facts)


def judged(rows: Sequence[Row]) -> list[Column]:
    """What the tree of the data's groups says of the rows that it judged."""
    levels = max((len(row.levels) for row in rows), default=0) - 1  # the last one is that of the classes
    columns = []
    for level in range(levels):
        page = f"Accuracy of the group{f', level {level + 1}' if levels > 1 else ''},{NBSP}%"
        cells = [Cell(with_interval(row.levels[level], ACCURACY)) if row.levels else Cell() for row in rows]
        columns.append(Column(cells, page, note=ACCURACY.direction))
    for measure in TREE_MEASURES:
        cells = [Cell(known(row.scores.get(measure.key), measure), facts=_facts(row, measure)) for row in rows]
        columns.append(Column(cells, measure.with_unit, note=measure.direction))
    return columns


def costs(rows: Sequence[Row]) -> list[Column]:
    """Time, parameters and memory."""
    times = []
    for time in (row.epoch_seconds for row in rows):
        ends = (time.median, time.low, time.high) if time else (None, None, None)
        facts = dict(zip(("epoch_seconds", "epoch_seconds_q20", "epoch_seconds_q80"), ends, strict=True))
        times.append(Cell(seconds(time.median), f"({spread(time)})", facts=facts) if time else Cell(facts=facts))
    columns = [Column(times, "Seconds an epoch")]
    fields = {"parameters": "Parameters", "head_parameters": "in the head", "peak_memory_mib": "Memory, MiB"}
    for field, page in fields.items():
        values = [getattr(row, field) for row in rows]
        cells = [Cell(NOTHING if value is None else f"{value:,.0f}", facts={field: value}) for value in values]
        columns.append(Column(cells, page))
    return columns


def published(summary: Summary) -> Grid:
    """The published numbers, each beside ours."""
    lines = summary.published()
    pairs = {}
    for measure in (measure for measure in MEASURES if measure.key in Published.model_fields):
        ours = [known(row.scores[measure.key] if row else None, measure) for _, row in lines]
        pairs[measure.with_unit] = ([_two_decimals(getattr(line, measure.key), 100) for line, _ in lines], ours)
    times = [_two_decimals(line.epoch_seconds) for line, _ in lines]
    ours = [seconds(row.epoch_seconds.median) if row and row.epoch_seconds else NOTHING for _, row in lines]
    pairs["Seconds an epoch"] = (times, ours)
    columns = []
    for over, (theirs, ours) in pairs.items():
        columns.append(Column([Cell(text) for text in theirs], "published", over=over, look="published"))
        columns.append(Column([Cell(text) for text in ours], "here", over=over))
    return Grid([named(row) if row else Cell(line.head, "(not run here)") for line, row in lines], columns)


def _two_decimals(value: float | None, scale: int = 1) -> str:
    return NOTHING if value is None else f"{scale * value:.2f}"
