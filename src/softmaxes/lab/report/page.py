"""The comparison as one HTML file that needs no network."""

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup

from softmaxes.lab.report import table, wording
from softmaxes.lab.report.charts import (
    Chart,
    accuracy_chart,
    curve_chart,
    matrix_chart,
    reliability_charts,
    time_chart,
)
from softmaxes.lab.report.grid import SIGNS, Grid, named
from softmaxes.lab.report.palette import DARK, DARK_PAGE, LIGHT, LIGHT_PAGE, style, variables
from softmaxes.lab.report.sections import calibration, differences, frequency, nearest, tuning
from softmaxes.lab.report.sections.trees import views
from softmaxes.lab.report.summary import Summary

HERE = Path(__file__).parent / "templates"


def script(name: str) -> Markup:
    """A file of JavaScript as the content of a script element, which neither of its strings may close or nest."""
    source = (HERE / name).read_text(encoding="utf-8")
    return Markup(source.replace("</script", "<\\/script").replace("<!--", "<\\!--"))  # noqa: S704


def script_hash(source: str) -> str:
    """How a content security policy names an inline script."""
    return "sha256-" + base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()


def embedded(value: Any) -> Markup:
    """JSON as the content of a script element: no character of it can be read as HTML."""
    return Markup(json.dumps(value, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c"))  # noqa: S704


def _template(name: str) -> Template:
    return Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    ).get_template(name)


def _look() -> dict[str, Any]:
    """Colours and styles, of every page."""
    return {
        "light": variables("light", LIGHT, LIGHT_PAGE),
        "dark": variables("dark", DARK, DARK_PAGE),
        "css": Markup((HERE / "page.css").read_text(encoding="utf-8")),  # noqa: S704
    }


TREE_MARK = b'<meta name="generator" content="softmaxes tree show">'  # near the beginning of a page with one tree


def render_tree(title: str, svg: str) -> str:
    """A page with one tree."""
    return _template("tree.html.jinja").render(
        title=title,
        svg=Markup(svg),  # noqa: S704
        policy="default-src 'none'; style-src 'unsafe-inline'; img-src data:",
        **_look(),
    )


def shown_by() -> dict[str, Any]:
    """What the tables of a page need to show a head and a mark."""
    return {"style": style, "signs": SIGNS}


def render_with_figures(template: str, charts: Sequence[Chart], **rest: Any) -> str:
    """A page with figures that its own script draws."""
    plotly, page = script("plotly-cartesian.min.js"), script("page.js")
    return _template(template).render(
        figures=embedded({chart.name: chart.figure for chart in charts}),
        plotly=plotly,
        page=page,
        policy="; ".join(
            (
                "default-src 'none'",
                f"script-src '{script_hash(plotly)}' '{script_hash(page)}'",
                "style-src 'unsafe-inline'",
                "img-src data: blob:",
            )
        ),
        **_look(),
        **rest,
    )


class Section(NamedTuple):
    """A part of the page: how the bar of contents and its own head call it."""

    label: str
    title: str


class Link(NamedTuple):
    """The page of another comparison."""

    text: str
    address: str


def render(summary: Summary, others: Sequence[Link] = ()) -> str:
    """The page, with links to those of others."""
    curves = [curve_chart(plot) for plot in summary.curve_plots]
    matrices = {
        row.label: matrix_chart(row, matrix) for row in summary.finished if (matrix := summary.matrix(row)) is not None
    }
    trees = views(summary)
    strip, time = (accuracy_chart(summary), time_chart(summary)) if summary.finished else (None, None)
    confident, found = calibration.calibrated(summary), differences.differences(summary)
    judging, choices = summary.judged_by_tree, tuning.choices(summary.study)
    near = nearest.nearest(summary)
    reliability = reliability_charts(confident) if confident else []
    parts = frequency.table(summary) if summary.finished else None
    sections = {  # in the page's order
        "comparison": Section("Comparison", "Comparison"),
        "samples": summary.card.samples
        and summary.finished
        and Section("Samples", f"Sample test {summary.card.example}s"),
        "reading": Section("How to read", "How to read this"),
        "setting": Section("Setting", "Setting"),
        "tuning": choices and Section("Tuning", "Settings"),
        "frequency": parts and Section("Rare classes", "Accuracy by class frequency"),
        "differences": found and Section("Differences", f"Differences to {found.reference.label}"),
        "published": summary.study.published and Section("Published", "Beside the published numbers"),
        "curves": Section("Curves", "Learning curves"),
        "calibration": confident and Section("Calibration", "Calibration"),
        "confusions": summary.finished and Section("Confusions", "Confusions"),
        "trees": (judging or trees) and Section("Trees", "Trees of classes"),
        "cost": Section("Cost", "Time, parameters and memory"),
        "repeat": Section("Repeat", "How to repeat this"),
    }
    charts = [*curves, *matrices.values(), *filter(None, (strip, time)), *reliability]
    return render_with_figures(
        "page.html.jinja",
        charts,
        title=summary.study.title,
        others=others,
        summary=summary,
        study=summary.study,
        card=summary.card,
        rows=summary.rows,
        sections={name: section for name, section in sections.items() if section},
        pictures=_pictures(summary),
        comparison=_ranked(summary, _scores(summary)),
        published=table.published(summary),
        nearest=nearest.table(near[: nearest.NEAREST]) if near else None,
        judged=_ranked(summary, Grid([named(row) for row in judging], table.judged(judging))),
        costs=_ranked(summary, Grid([named(row) for row in summary.rows], table.costs(summary.rows))),
        differences=found,
        compared=found and _ranked(summary, differences.table(found)),
        confident=confident,
        calibration=_ranked(summary, calibration.table(confident, summary.card.example)),
        reliability=reliability,
        frequency=frequency,
        parts=parts and _ranked(summary, parts),
        tuning=tuning,
        choices=choices,
        chosen=tuning.table(choices),
        trees=trees,
        paths={view.row.label: view.paths for view in trees if any(view.paths)},
        words=wording,
        **shown_by(),
        curves=curves,
        matrices=matrices,
        strip=strip,
        time=time,
    )


def _scores(summary: Summary) -> Grid:
    return table.with_elsewhere(Grid([named(row) for row in summary.rows], table.scores(summary)), summary)


def _ranked(summary: Summary, grid: Grid) -> Grid:
    """The table; of many heads the lines of highest accuracy first, as a reader sees the first ones alone."""
    if not summary.many:
        return grid
    place = {row.label: number for number, row in enumerate(summary.ranked)}
    order = sorted(range(len(grid.heads)), key=lambda line: place.get(grid.heads[line].text, len(place)))
    columns = [replace(column, cells=[column.cells[line] for line in order]) for column in grid.columns]
    return replace(grid, heads=[grid.heads[line] for line in order], columns=columns)


def _pictures(summary: Summary) -> dict[int, str]:
    """The pictures of the classes that the page names, by class."""
    card = summary.card
    if not card.class_pictures or not summary.finished:
        return {}
    shown = {sample.target for sample in card.samples}
    for row in summary.finished:
        shown.update(index for guess in row.guesses for index in guess.classes)
        shown.update(
            index for pair in row.confusion.pairs(card.group_of_class) for index in (pair.target, pair.predicted)
        )
    return {index: card.class_pictures[index] for index in sorted(shown)}
