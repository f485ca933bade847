"""The page's figures as plain plotly.js dictionaries. Colours are names that the page's script looks up by scheme."""

import html
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from softmaxes.lab.report.palette import style
from softmaxes.lab.report.sections.calibration import Bin, Calibrated
from softmaxes.lab.report.summary import ACCURACY, FEW, CurvePlot, Matrix, Row, Summary
from softmaxes.lab.report.wording import number, percent, seconds, undrawn, with_interval

NAME_LIMIT = 18  # characters of a class's or group's name beside a matrix
LABEL_LIMIT = 24  # characters of a setting's label beside an axis

Figure = dict[str, Any]


@dataclass(frozen=True)
class Chart:
    """A figure, its text alternative, its shape, and what is said below it."""

    name: str  # unique on the page
    title: str
    alternative: str
    figure: Figure
    shape: str = "wide"
    note: str = ""


def short(name: str, limit: int) -> str:
    """A name that fits beside an axis."""
    return name if len(name) <= limit else name[: limit - 1].rstrip() + "…"


def text(name: str) -> str:
    """A stranger's text as plotly.js takes it: it would otherwise read tags, entities and names of numbers in it."""
    return html.escape(name, quote=False).replace("%{", "&#37;{")


def axis(title: str, standoff: int = 10, **settings: Any) -> Figure:
    """An axis in the page's style."""
    return {
        "title": {"text": title, "standoff": standoff},
        "automargin": True,
        "gridcolor": "--grid",
        "linecolor": "--axis",
        "tickcolor": "--axis",
        "zeroline": False,
        **settings,
    }


def layout(xaxis: Figure, yaxis: Figure, **settings: Any) -> Figure:
    """A layout in the page's style: no legend, for the page has one of its own."""
    return {
        "autosize": True,
        "showlegend": False,
        "margin": {"l": 8, "r": 12, "t": 12, "b": 8},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": "system-ui, sans-serif", "size": 12, "color": "--ink-soft"},
        "hoverlabel": {
            "bgcolor": "--surface",
            "bordercolor": "--axis",
            "font": {"family": "system-ui, sans-serif", "size": 12, "color": "--ink"},
            "align": "left",
        },
        "xaxis": xaxis,
        "yaxis": yaxis,
        **settings,
    }


def curve_chart(plot: CurvePlot) -> Chart:
    """A line a setting, with a band from the smallest to the largest seed."""
    shape = ".1%" if plot.percent else ".3f"
    traces: list[Figure] = []
    ends = []
    for row, points in plot.curves:
        if not points:
            continue
        drawn = style(row.position)
        xs = [point.x for point in points]
        group = f"head-{row.position}"
        if any(point.seeds > 1 for point in points):
            traces.append(
                {
                    "type": "scatter",
                    "x": xs + xs[::-1],
                    "y": [point.high for point in points] + [point.low for point in points[::-1]],
                    "fill": "toself",
                    "fillcolor": f"{drawn.token}-band",
                    "mode": "lines",
                    "line": {"width": 0},
                    "hoverinfo": "skip",
                    "legendgroup": group,
                }
            )
        traces.append(
            {
                "type": "scatter",
                "name": text(row.label),
                "x": xs,
                "y": [point.mean for point in points],
                "customdata": [[point.low, point.high, point.seeds] for point in points],
                "mode": "lines+markers" if len(points) <= 30 else "lines",
                "line": {"color": drawn.token, "dash": drawn.dash, "width": 2},
                "marker": {"color": drawn.token, "symbol": drawn.symbol, "size": 7},
                "hovertemplate": f"%{{y:{shape}}} (%{{customdata[0]:{shape}}} to %{{customdata[1]:{shape}}}, "
                "n = %{customdata[2]})" + ("" if plot.aligned else "<br>after %{x:,.3~r} s"),
                "legendgroup": group,
            }
        )
        last = points[-1].mean
        after = "" if plot.aligned else f" after {seconds(points[-1].x)} s"
        ends.append(f"{row.label} ends at {percent(last) if plot.percent else format(last, '.3f')}{after}")
    xaxis = axis(
        plot.x_title,
        rangemode="tozero",
        separatethousands=True,
        unifiedhovertitle={"text": f"{plot.x_title} %{{x}}"},
        spikecolor="--axis",
        spikethickness=1,
        spikedash="dot",
    )
    return Chart(
        plot.name,
        plot.title,
        f"Line chart: {plot.title.lower()} against {plot.x_title}. {'; '.join(ends)}. {undrawn(plot)}".strip(),
        {
            "data": traces,
            # With more curves than this on show, hovering tells of one and not of all.
            "few": FEW if plot.aligned else 0,
            "layout": layout(
                xaxis,
                axis(plot.y_title, tickformat=".2~%" if plot.percent else "", rangemode="normal"),
                hovermode="x unified",
            ),
        },
        note=undrawn(plot),
    )


def accuracy_chart(summary: Summary) -> Chart:
    """A dot a setting with its interval, and each seed as a smaller dot; many settings by accuracy, and all of them."""
    rows = summary.ranked if summary.many else summary.finished
    traces: list[Figure] = []
    for line, row in enumerate(rows):
        drawn = style(row.position)
        estimate = row.scores[ACCURACY.key]
        values = row.values(ACCURACY)
        group = "" if summary.many else f"head-{row.position}"
        traces.append(
            {
                "type": "scatter",
                "name": text(row.label),
                "x": list(values.values()),
                "y": [line] * len(values),
                "customdata": list(values),
                "mode": "markers",
                "marker": {"symbol": "line-ns-open", "color": drawn.token, "size": 11, "line": {"width": 1.5}},
                "hovertemplate": "seed %{customdata}: %{x:.2%}",
                "legendgroup": group,
            }
        )
        traces.append(
            {
                "type": "scatter",
                "name": text(row.label),
                "x": [estimate.mean],
                "y": [line],
                "error_x": {
                    "type": "data",
                    "array": [estimate.half_width or 0.0],
                    "visible": estimate.half_width is not None,
                    "color": drawn.token,
                    "thickness": 2,
                    "width": 5,
                },
                "mode": "markers",
                "marker": {"color": drawn.token, "symbol": drawn.symbol, "size": 11},
                "hovertemplate": f"mean {with_interval(estimate, ACCURACY)} %",
                "legendgroup": group,
            }
        )
    said = "; ".join(f"{row.label} {with_interval(row.scores[ACCURACY.key], ACCURACY)} %" for row in rows)
    return Chart(
        "accuracy",
        "Test accuracy after the last epoch",
        f"Dot plot of test accuracy with 95 % intervals. {said}.",
        {
            "data": traces,
            "layout": layout(
                axis("test accuracy", tickformat=".1~%", **_within(summary)),
                axis(
                    "",
                    tickvals=list(range(len(rows))),
                    ticktext=[text(short(row.label, LABEL_LIMIT)) for row in rows],
                    range=[len(rows) - 0.4, -0.6],
                    showgrid=False,
                    ticklen=0,
                ),
                hovermode="closest",
                height=90 + (26 if summary.many else 44) * len(rows),
            ),
        },
        shape="strip",
    )


def _within(summary: Summary) -> Figure:
    """The range of the axis of accuracies, where it is not left to Plotly."""
    return {} if summary.accuracy_range is None else {"range": list(summary.accuracy_range)}


def time_chart(summary: Summary) -> Chart:
    """Seconds an epoch against accuracy: the upper left is the better corner."""
    traces: list[Figure] = []
    said = []
    for row in summary.finished:
        if row.epoch_seconds is None:
            continue
        drawn = style(row.position)
        estimate, time = row.scores[ACCURACY.key], row.epoch_seconds
        traces.append(
            {
                "type": "scatter",
                "name": text(row.label),
                "x": [time.median],
                "y": [estimate.mean],
                "error_x": {
                    "type": "data",
                    "symmetric": False,
                    "array": [time.high - time.median],
                    "arrayminus": [time.median - time.low],
                    "color": drawn.token,
                    "thickness": 1.5,
                    "width": 4,
                },
                "error_y": {
                    "type": "data",
                    "array": [estimate.half_width or 0.0],
                    "visible": estimate.half_width is not None,
                    "color": drawn.token,
                    "thickness": 1.5,
                    "width": 4,
                },
                "mode": "markers",
                "marker": {"color": drawn.token, "symbol": drawn.symbol, "size": 11},
                "hovertemplate": f"<b>{text(row.label)}</b><br>{seconds(time.median)} s an epoch<br>"
                f"{with_interval(estimate, ACCURACY)} % accuracy<extra></extra>",
            }
        )
        said.append(
            f"{row.label} {seconds(time.median)} s and {number(estimate.mean, ACCURACY)} %",
        )
    return Chart(
        "time",
        "Time against accuracy",
        f"Scatter chart of seconds an epoch against test accuracy. {'; '.join(said)}.",
        {
            "data": traces,
            "layout": layout(
                axis("seconds an epoch (training only)"),
                axis("test accuracy", tickformat=".1~%", **_within(summary)),
                hovermode="closest",
            ),
        },
    )


def reliability_charts(heads: Sequence[Calibrated]) -> list[Chart]:
    """Accuracy against confidence, before temperature scaling and, of the heads that were scaled, after it."""
    before = [(one.row, one.bins) for one in heads]
    after = [(one.row, one.scaled.bins) for one in heads if one.scaled is not None]
    if not after:
        return [_reliability_chart("reliability", "Reliability", before)]
    return [
        _reliability_chart("reliability", "Reliability, before scaling", before),
        _reliability_chart("reliability_scaled", "Reliability, after scaling", after),
    ]


def _reliability_chart(name: str, title: str, curves: Sequence[tuple[Row, Sequence[Bin]]]) -> Chart:
    traces: list[Figure] = [
        {
            "type": "scatter",
            "x": [0, 1],
            "y": [0, 1],
            "mode": "lines",
            "line": {"color": "--axis", "dash": "dot", "width": 1.5},
            "hoverinfo": "skip",
        }
    ]
    said = []
    for row, bins in curves:
        drawn = style(row.position)
        traces.append(
            {
                "type": "scatter",
                "name": text(row.label),
                "x": [one.confidence for one in bins],
                "y": [one.accuracy for one in bins],
                "customdata": [[one.examples, one.share] for one in bins],
                "mode": "lines+markers",
                "line": {"color": drawn.token, "dash": drawn.dash, "width": 2},
                "marker": {
                    "color": drawn.token,
                    "symbol": drawn.symbol,
                    "size": [4 + 14 * one.share**0.5 for one in bins],
                },
                "hovertemplate": f"<b>{text(row.label)}</b><br>%{{y:.1%}} right at a confidence of %{{x:.1%}}<br>"
                "%{customdata[0]:,} predictions, %{customdata[1]:.1%}<extra></extra>",
                "legendgroup": f"head-{row.position}",
            }
        )
        gap = sum(one.share * (one.confidence - one.accuracy) for one in bins)
        said.append(f"{row.label} {percent(abs(gap))} {'over' if gap > 0 else 'under'}confident on average")
    share: Figure = {"tickformat": ".0%", "range": [-0.03, 1.03], "dtick": 0.2}
    return Chart(
        name,
        title,
        f"Line chart of accuracy against confidence in 15 bins. {'; '.join(said)}.",
        {
            "data": traces,
            "layout": layout(axis("confidence", **share), axis("accuracy", **share), hovermode="closest"),
        },
        shape="wide tall",
    )


def matrix_chart(row: Row, matrix: Matrix) -> Chart:
    """A confusion matrix. The page's script makes the cells from ``cells``, so that no name is written twice."""
    size = len(matrix.names)
    ticks, names = matrix.ticks
    labels = [text(short(name, NAME_LIMIT)) for name in names]
    separators = [
        {
            "type": "line",
            "layer": "above",
            "line": {"color": "--separator", "width": 1},
            **(
                {"x0": edge, "x1": edge, "y0": -0.5, "y1": size - 0.5}
                if upright
                else {"y0": edge, "y1": edge, "x0": -0.5, "x1": size - 0.5}
            ),
        }
        for block in matrix.blocks[1:]
        for edge in (block.start - 0.5,)
        for upright in (True, False)
    ]
    small = {"size": 11 if len(names) <= 25 else 9}
    ruled: Figure = {"showgrid": False, "ticklen": 0, "tickvals": ticks, "ticktext": labels, "tickfont": small}
    whole = f"{matrix.unit}es" if matrix.unit == "class" else "groups"
    return Chart(
        f"confusion-{row.position}",
        f"Confusion matrix of {row.label}",
        f"Confusion matrix of {row.label} over {size} {whole}: true {whole} in rows, predicted {whole} in columns. "
        f"The most confused pairs are listed beside it.",
        {
            "data": [
                {
                    "type": "heatmap",
                    "zmin": 0,
                    "zmax": 1,
                    "colorscale": [[step / 4, f"--heat-{step}"] for step in range(5)],
                    "colorbar": {
                        "orientation": "h",
                        "y": 1.0,
                        "yanchor": "bottom",
                        "x": 0,
                        "xanchor": "left",
                        "len": 0.6,
                        "thickness": 8,
                        "outlinewidth": 0,
                        "tickvals": [0, 0.1**0.5, 0.25**0.5, 0.5**0.5, 1],
                        "ticktext": ["0", "10 %", "25 %", "50 %", "100 %"],
                        "tickfont": {"size": 10},
                        "title": {"text": f"share of the true {matrix.unit}", "side": "top", "font": {"size": 11}},
                    },
                    "hovertemplate": "true: <b>%{customdata[0]}</b><br>predicted: <b>%{customdata[1]}</b><br>"
                    f"%{{customdata[2]}} {matrix.example}s, %{{customdata[3]}} of the true {matrix.unit}"
                    "<extra></extra>",
                }
            ],
            "cells": {"names": [text(name) for name in matrix.names], "counts": matrix.counts.tolist()},
            "layout": layout(
                axis(f"predicted {matrix.unit}", standoff=28, range=[-0.5, size - 0.5], tickangle=-90, **ruled),
                axis(f"true {matrix.unit}", range=[size - 0.5, -0.5], **ruled),
                shapes=separators,
                hovermode="closest",
            ),
        },
        shape="square",
    )
