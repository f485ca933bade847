"""The comparison as one HTML file that needs no network."""

import base64
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

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


def render(summary: Summary) -> str:
    """The page."""
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
    charts = [*curves, *matrices.values(), *filter(None, (strip, time)), *reliability]
    return render_with_figures(
        "page.html.jinja",
        charts,
        title=summary.study.title,
        summary=summary,
        study=summary.study,
        card=summary.card,
        rows=summary.rows,
        signs=SIGNS,
        comparison=Grid(table.comparison(summary).heads, table.scores(summary)),
        published=table.published(summary),
        nearest=nearest.table(near[: nearest.NEAREST]) if near else None,
        judged=Grid([named(row) for row in judging], table.judged(judging)),
        costs=Grid([named(row) for row in summary.rows], table.costs(summary.rows)),
        differences=found,
        compared=found and differences.table(found),
        confident=confident,
        calibration=calibration.table(confident, summary.card.example),
        reliability=reliability,
        frequency=frequency,
        parts=frequency.table(summary) if summary.finished else None,
        tuning=tuning,
        choices=choices,
        chosen=tuning.table(choices),
        trees=trees,
        paths={view.row.label: view.paths for view in trees if any(view.paths)},
        words=wording,
        style=style,
        curves=curves,
        matrices=matrices,
        strip=strip,
        time=time,
    )
