"""Several comparisons on one page: each a group of rows, and what a reader must know before comparing the groups."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from softmaxes.files import write_bytes
from softmaxes.lab.records import Training
from softmaxes.lab.report import page, table
from softmaxes.lab.report.charts import accuracy_chart, curve_chart, time_chart
from softmaxes.lab.report.grid import Cell, Column, Grid, named
from softmaxes.lab.report.page import Link, Section
from softmaxes.lab.report.summary import Row, Summary
from softmaxes.lab.report.wording import choices, listed, machines, own_in_words
from softmaxes.names import typed

SECONDS = "machine, load and versions"
SEEDS = "seeds"
DATA = "data"
OWN = "parts of the user's own"


@dataclass(frozen=True)
class Group:
    """A comparison among others."""

    name: str  # of its folder; no other has it
    summary: Summary


def told(group: Group) -> dict[str, str]:
    """All that two comparisons can differ in, in words."""
    study, card = group.summary.study, group.summary.card
    examples = f"{sum(card.train_counts):,} training and {sum(card.test_counts):,} test {card.example}s"
    facts = {DATA: f"{card.name}, {card.num_classes:,} classes, {examples}, fingerprint {card.fingerprint[:16]}"}
    for name in Training.model_fields:
        facts[name.replace("_", " ")] = listed(map(typed, choices(study.runs, name)), "or")
    facts["tuned"] = "no" if study.tuning is None else f"{study.tuning.trials} settings of each head"
    facts[SEEDS] = listed(sorted({run.seed for run in study.runs}))
    facts[OWN] = own_in_words(study) or "none"
    facts[SECONDS] = "; ".join(machines(group.summary))
    return facts


def differing(groups: Sequence[Group]) -> dict[str, list[str]]:
    """What the comparisons differ in, and what it is in each."""
    every = [told(group) for group in groups]
    return {name: [facts[name] for facts in every] for name in every[0] if len({facts[name] for facts in every}) > 1}


def warnings(groups: Sequence[Group]) -> list[str]:
    """What forbids to take a difference between groups for one between heads."""
    found = differing(groups)
    notes = []
    if DATA in found:
        notes.append("The data differ: compare heads within a folder, not between folders.")
    recipe = [name for name in found if name not in (DATA, SEEDS, OWN, SECONDS)]
    if recipe:
        notes.append(f"The training differs in {listed(recipe)}: a difference between folders may come from that.")
    if SEEDS in found:
        notes.append("The seeds differ: means of different folders rest on different runs and cannot be paired.")
    if OWN in found:
        notes.append("The parts of the user's own differ.")
    if SECONDS in found:
        notes.append("The machine, its load or the versions differ: do not compare seconds between folders.")
    return notes or ["Data, training, seeds and machine are the same in every folder."]


def what_differs(groups: Sequence[Group]) -> Grid | None:
    """A line for each folder, a column for each thing that differs; none where nothing does."""
    columns = [
        Column([Cell(value) for value in values], name.capitalize(), look="words")
        for name, values in differing(groups).items()
    ]
    return Grid([Cell(group.name) for group in groups], columns, corner="folder") if columns else None


def stacked(groups: Sequence[Group], columns_of: Callable[[Summary], Sequence[Column]]) -> Grid:
    """The tables of the groups below each other; a dash where a group has no such column."""
    heads: list[Cell] = []
    parts = []
    for group in groups:
        for row in group.summary.rows:
            numbered = replace(row, position=len(heads))
            head = named(row, folder=group.name)
            facts = {"folder": group.name, **head.facts}
            heads.append(Cell(f"{group.name}: {row.label}", row=numbered, group=group.name, facts=facts))
        parts.append({(one.page, one.markdown): one for one in columns_of(group.summary)})
    columns = []
    for key in dict.fromkeys(key for part in parts for key in part):
        some = next(part[key] for part in parts if key in part)
        cells = [
            cell
            for group, part in zip(groups, parts, strict=True)
            for cell in (part[key].cells if key in part else [Cell()] * len(group.summary.rows))
        ]
        columns.append(replace(some, cells=cells))
    return Grid(heads, columns)


def comparison(groups: Sequence[Group]) -> Grid:
    """All that is known of every row: the table of CSV, Markdown and LaTeX."""
    return stacked(groups, table.columns)


def merged(groups: Sequence[Group]) -> Summary:
    """Every row under its folder's name, for figures."""
    first = groups[0].summary
    rows: list[Row] = []
    for group in groups:
        for row in group.summary.rows:
            rows.append(replace(row, label=f"{group.name}: {row.label}", position=len(rows)))
    return Summary(first.study, first.card, tuple(rows))


def render(groups: Sequence[Group], links: Sequence[Link]) -> str:
    """The page."""
    summary = merged(groups)
    strip, time = (accuracy_chart(summary), time_chart(summary)) if summary.finished else (None, None)
    curves = [curve_chart(plot) for plot in summary.curve_plots]
    return page.render_with_figures(
        "together.html.jinja",
        [*curves, *filter(None, (strip, time))],
        title=f"{listed(group.name for group in groups)}, side by side",
        groups=groups,
        links=links,
        summary=summary,
        rows=summary.rows,
        sections={
            "comparison": Section("Comparison", "Comparison"),
            "setting": Section("What differs", "What differs"),
            "curves": Section("Curves", "Learning curves"),
            "cost": Section("Cost", "Time, parameters and memory"),
        },
        warnings=warnings(groups),
        differing=what_differs(groups),
        comparison=stacked(groups, table.scores),
        costs=stacked(groups, lambda summary: table.costs(summary.rows)),
        strip=strip,
        time=time,
        curves=curves,
        **page.shown_by(),
    )


def write(groups: Sequence[Group], links: Sequence[Link], directory: Path) -> Path:
    """Write ``report.html``, and ``table.csv``, ``.md`` and ``.tex``; the path of the page."""
    grid = comparison(groups)
    texts = {
        "table.csv": grid.csv(),
        "table.md": grid.markdown(),
        "table.tex": grid.latex(),
        "report.html": render(groups, links),
    }
    for name, text in texts.items():
        write_bytes(directory / name, text.encode())
    return directory / "report.html"
