"""The figures as PNG, for papers and README files."""

import io
import math
import re
import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Literal

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter

from softmaxes.lab.report.charts import LABEL_LIMIT, NAME_LIMIT, short
from softmaxes.lab.report.palette import style
from softmaxes.lab.report.sections.calibration import Bin, Calibrated, calibrated
from softmaxes.lab.report.summary import ACCURACY, OUTSIDE, CurvePlot, Matrix, Point, Row, Summary
from softmaxes.lab.report.wording import outside
from softmaxes.names import distinct, file_name

Form = Literal["png", "pdf", "svg"]

INK = "#22262d"
SOFT = "#59616c"
GRID = "#e3e6ea"
GREY = "#cfd4da"
PANELS = 30
PANELS_ABREAST = 5
LEGEND_INSIDE = 4  # more heads than this have their names beside the axes
LEGEND_LIMIT = 60  # characters of a name there, and in a title


def image(figure: Figure, form: Form = "png") -> bytes:
    """The figure as a file. A name in a script that the font lacks is drawn as boxes, without a warning."""
    buffer = io.BytesIO()
    undated: dict[str, None] = {"png": {}, "pdf": {"CreationDate": None}, "svg": {"Date": None}}[form]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure.savefig(buffer, format=form, dpi=160, facecolor="white", metadata=undated)
    return buffer.getvalue()


def axes_of(title: str, width: float = 6.4, height: float = 4.0) -> tuple[Figure, Axes]:
    """A figure with one pair of axes."""
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title)
    return figure, axes


def named(label: str) -> str:
    """A label as a legend shows it: matplotlib leaves out one that begins with an underscore."""
    label = short(label, LEGEND_LIMIT)
    return f"\N{HAIR SPACE}{label}" if label.startswith("_") else label


def draw_curve(axes: Axes, row: Row, points: Sequence[Point], label: str = "", size: float = 5) -> None:
    """A line with a band from the smallest to the largest seed."""
    drawn = style(row.position)
    xs = [point.x for point in points]
    axes.fill_between(
        xs,
        [point.low for point in points],
        [point.high for point in points],
        color=drawn.light,
        alpha=0.16,
        linewidth=0,
    )
    axes.plot(
        xs,
        [point.mean for point in points],
        color=drawn.light,
        linestyle=drawn.line_style,
        linewidth=1.8,
        marker=drawn.marker if len(points) <= 30 else None,
        markersize=size,
        label=label,
    )


def rule(axes: Axes, plot: CurvePlot, ticks: int = 10) -> None:
    """Ticks and grid of a drawing of curves."""
    axes.grid(True)
    axes.xaxis.set_major_locator(MaxNLocator(ticks, integer=True, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    if plot.percent:
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))


def curve_figure(plot: CurvePlot) -> Figure:
    """A line a setting."""
    figure, axes = axes_of(plot.title)
    for row, points in plot.curves:
        infinite = f": ∞ {outside(row.scores[OUTSIDE.key].mean)}".rstrip() if row in plot.infinite else ""
        draw_curve(axes, row, points, named(row.label) + infinite)
    rule(axes, plot)
    axes.set_xlabel(plot.x_title)
    axes.set_ylabel(plot.y_title)
    axes.legend()
    return figure


def panels_figure(plot: CurvePlot, summary: Summary) -> Figure:
    """A panel a setting, for more than one panel can hold: those of highest accuracy if they are very many."""
    kept = (*summary.ranked, *(row for row in summary.rows if not row.finished))[:PANELS]
    shown = [(row, points) for row, points in plot.curves if row in kept]
    lines = math.ceil(len(shown) / PANELS_ABREAST)
    figure = Figure(figsize=(2.2 * PANELS_ABREAST, 0.7 + 1.7 * lines), layout="constrained")
    grid = figure.subplots(lines, PANELS_ABREAST, sharex=True, sharey=plot.comparable, squeeze=False)
    for place, axes in enumerate(grid.flat):
        if place >= len(shown):
            axes.set_visible(False)
            continue
        row, points = shown[place]
        if plot.comparable:
            for _, others in plot.curves:
                axes.plot([point.x for point in others], [point.mean for point in others], color=GREY, linewidth=0.8)
        draw_curve(axes, row, points, size=3.5)
        rule(axes, plot, ticks=4)
        axes.set_title(short(row.label, LABEL_LIMIT), fontsize=8.5, pad=4)
        axes.tick_params(labelsize=7.5, labelbottom=place + PANELS_ABREAST >= len(shown))
        if row in plot.infinite:
            said = f"∞\n{outside(row.scores[OUTSIDE.key].mean)}".rstrip()
            axes.text(0.5, 0.5, said, transform=axes.transAxes, ha="center", va="center", fontsize=8, color=INK)
    said = "grey: the other heads" if plot.comparable else "each head on a scale of its own"
    if len(shown) < len(plot.curves):
        said += f"; the {len(shown)} of highest accuracy of {len(plot.curves)}"
    figure.suptitle(f"{plot.title} ({said})", x=0.01, ha="left", fontsize=11, fontweight="bold", color=INK)
    figure.supxlabel(plot.x_title, fontsize=9.5, color=SOFT)
    figure.supylabel(plot.y_title, fontsize=9.5, color=SOFT)
    return figure


def accuracy_figure(summary: Summary) -> Figure:
    """A dot a setting with its interval, and each seed as a tick; many settings by accuracy."""
    rows, pitch = (summary.ranked, 0.26) if summary.many else (summary.finished, 0.45)
    figure, axes = axes_of("Test accuracy after the last epoch", height=1.3 + pitch * len(rows))
    axes.grid(True, axis="x")
    for line, row in enumerate(rows):
        drawn = style(row.position)
        estimate = row.scores[ACCURACY.key]
        values = list(row.values(ACCURACY).values())
        axes.plot(values, [line] * len(values), "|", color=drawn.light, markersize=9, alpha=0.7)
        axes.errorbar(
            estimate.mean,
            line,
            xerr=estimate.half_width,
            color=drawn.light,
            marker=drawn.marker,
            markersize=8,
            capsize=4,
            linewidth=1.8,
        )
    axes.set_xlim(summary.accuracy_range)
    axes.set_yticks(range(len(rows)), [short(row.label, LABEL_LIMIT) for row in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0, labelcolor=INK)
    axes.spines["left"].set_visible(False)
    axes.xaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set_xlabel("test accuracy, mean and 95 % interval over seeds; a stroke is a seed")
    return figure


def time_figure(summary: Summary) -> Figure:
    """Seconds an epoch against accuracy."""
    names = len(summary.finished)
    beside = names > LEGEND_INSIDE
    figure, axes = axes_of("Time against accuracy", 8.4 if beside else 6.4, max(4.0, 0.8 + 0.2 * names))
    axes.grid(True)
    marks = []
    for row in summary.finished:
        if row.epoch_seconds is None:
            continue
        drawn = style(row.position)
        estimate, time = row.scores[ACCURACY.key], row.epoch_seconds
        mark = axes.errorbar(
            time.median,
            estimate.mean,
            xerr=[[time.median - time.low], [time.high - time.median]],
            yerr=estimate.half_width,
            color=drawn.light,
            marker=drawn.marker,
            markersize=8,
            capsize=3,
            linestyle="none",
            label=named(row.label),
        )
        marks.append((mark[0], named(row.label)))
    axes.set_xlabel("seconds an epoch, training only (median, 20 % and 80 % quantiles)")
    axes.set_ylabel("test accuracy (mean, 95 % interval)")
    axes.set_ylim(summary.accuracy_range)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    if beside:
        figure.legend(*zip(*marks, strict=True), loc="outside right upper", fontsize=8)
    else:
        axes.legend()
    return figure


def draw_reliability(
    axes: Axes, row: Row, bins: Sequence[Bin], size: float, label: str = "", color: str | None = None
) -> None:
    """A line whose marks are the larger the more examples they stand for, over the diagonal of the calibrated."""
    drawn = style(row.position)
    xs, ys = [one.confidence for one in bins], [one.accuracy for one in bins]
    color = color or drawn.light
    axes.plot(xs, ys, color=color, linestyle=drawn.line_style if label else "-", linewidth=1.5)
    axes.plot([], [], color=color, linestyle=drawn.line_style, marker=drawn.marker, markersize=size, label=label)
    areas = [(size * (0.4 + 1.4 * one.share**0.5)) ** 2 for one in bins]
    axes.scatter(xs, ys, areas, color=color, marker=drawn.marker, linewidths=0, zorder=2.5)


def reliability_axes(axes: Axes) -> None:
    """Both shares from 0 to 1, and the line on which they are equal."""
    axes.plot([0, 1], [0, 1], color=SOFT, linestyle=":", linewidth=1, zorder=1)
    axes.grid(True)
    axes.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), aspect="equal")
    for side in (axes.xaxis, axes.yaxis):
        side.set_major_locator(MaxNLocator(5))
        side.set_major_formatter(PercentFormatter(1.0))


def reliability_figure(heads: Sequence[Calibrated]) -> Figure:
    """Accuracy against confidence, before temperature scaling and, of the heads that were scaled, after it."""
    scaled = [(one.row, one.scaled.bins) for one in heads if one.scaled is not None]
    parts = [("before temperature scaling" if scaled else "", [(one.row, one.bins) for one in heads])]
    parts += [("after temperature scaling", scaled)] if scaled else []
    figure = Figure(figsize=(4.6 * len(parts), 4.7), layout="constrained")
    for axes, (said, curves) in zip(figure.subplots(1, len(parts), squeeze=False).flat, parts, strict=True):
        reliability_axes(axes)
        axes.set_title("Reliability" + (f", {said}" if said else ""))
        for row, bins in curves:
            draw_reliability(axes, row, bins, 6, named(row.label))
        axes.set_xlabel("confidence, 15 bins; a larger mark is more examples")
        axes.set_ylabel("accuracy")
        axes.legend(markerscale=1, loc="upper left", fontsize=8)
    return figure


def reliability_panels(heads: Sequence[Calibrated], summary: Summary) -> Figure:
    """A panel a head, for more than can be drawn in one: those of highest accuracy if they are very many."""
    kept = summary.ranked[:PANELS]
    shown = [one for one in heads if one.row in kept]
    lines = math.ceil(len(shown) / PANELS_ABREAST)
    figure = Figure(figsize=(2.2 * PANELS_ABREAST, 0.9 + 2.1 * lines), layout="constrained")
    grid = figure.subplots(lines, PANELS_ABREAST, sharex=True, sharey=True, squeeze=False)
    for place, axes in enumerate(grid.flat):
        if place >= len(shown):
            axes.set_visible(False)
            continue
        one = shown[place]
        reliability_axes(axes)
        if one.scaled is not None:
            draw_reliability(axes, one.row, one.scaled.bins, 3.5, color="#8a929c")
        draw_reliability(axes, one.row, one.bins, 4)
        axes.set_title(short(one.row.label, LABEL_LIMIT), fontsize=8.5, pad=4)
        axes.tick_params(labelsize=7.5, labelbottom=place + PANELS_ABREAST >= len(shown))
    said = " (grey: after temperature scaling)" if any(one.scaled for one in shown) else ""
    figure.suptitle(f"Reliability{said}", x=0.01, ha="left", fontsize=11, fontweight="bold", color=INK)
    figure.supxlabel("confidence", fontsize=9.5, color=SOFT)
    figure.supylabel("accuracy", fontsize=9.5, color=SOFT)
    return figure


def matrix_figure(row: Row, matrix: Matrix) -> Figure:
    """A confusion matrix, the root of the share as its shade so that rare confusions show."""
    figure, axes = axes_of(f"Confusion matrix: {short(row.label, LEGEND_LIMIT)}", width=7.2, height=6.6)
    image = axes.imshow(np.sqrt(matrix.shares), cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
    for block in matrix.blocks[1:]:
        axes.axhline(block.start - 0.5, color="#aab2bd", linewidth=0.5)
        axes.axvline(block.start - 0.5, color="#aab2bd", linewidth=0.5)
    ticks, names = matrix.ticks
    letters = 8 if len(names) <= 25 else 6
    axes.set_xticks(ticks, [short(name, NAME_LIMIT) for name in names], rotation=90, fontsize=letters)
    axes.set_yticks(ticks, [short(name, NAME_LIMIT) for name in names], fontsize=letters)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_xlabel(f"predicted {matrix.unit}")
    axes.set_ylabel(f"true {matrix.unit}")
    bar = figure.colorbar(image, ax=axes, shrink=0.6, aspect=30, ticks=[0, 0.1**0.5, 0.25**0.5, 0.5**0.5, 1])
    bar.ax.set_yticklabels(["0", "10 %", "25 %", "50 %", "100 %"], fontsize=8)
    bar.set_label(f"share of the true {matrix.unit}", fontsize=8)
    bar.outline.set_visible(False)
    return figure


def file_names(labels: Sequence[str]) -> list[str]:
    """Each label as a part of a file's name, no two alike in whatever case."""
    plain = [re.sub(r"[^a-z0-9.]+", "_", label.lower()).strip("_") for label in labels]
    return distinct([file_name(name or "head") for name in plain])


def styled() -> AbstractContextManager[None]:
    """The look of every figure, while it is drawn and written."""
    return matplotlib.rc_context(
        {
            "font.size": 9.5,
            "axes.edgecolor": SOFT,
            "axes.labelcolor": SOFT,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.titlecolor": INK,
            "axes.titlelocation": "left",
            "axes.titlesize": 11,
            "axes.titleweight": "bold",
            "axes.titlepad": 12,
            "grid.color": GRID,
            "legend.frameon": False,
            "svg.hashsalt": "softmaxes",  # so that a figure drawn twice is the same file
            "text.parse_math": False,  # names are strangers' text
            "xtick.color": SOFT,
            "ytick.color": SOFT,
        }
    )


def draw(summary: Summary, forms: Sequence[Form] = ()) -> dict[str, bytes]:
    """Every figure of the report as PNG, and in other forms: its bytes by the name of its file."""
    drawn: dict[str, bytes] = {}

    def keep(name: str, figure: Figure) -> None:
        drawn.update({f"{name}.{form}": image(figure, form) for form in ("png", *forms)})

    with styled():
        for plot in summary.curve_plots:
            keep(plot.name, panels_figure(plot, summary) if summary.many else curve_figure(plot))
        if summary.finished:
            keep("accuracy", accuracy_figure(summary))
            keep("time_against_accuracy", time_figure(summary))
        if heads := calibrated(summary):
            drawing = reliability_panels(heads, summary) if summary.many else reliability_figure(heads)
            keep("reliability", drawing)
        for row, name in zip(summary.rows, file_names([row.label for row in summary.rows]), strict=True):
            matrix = summary.matrix(row) if row.finished else None
            if matrix is not None:
                keep(f"confusion_{name}", matrix_figure(row, matrix))
    return drawn
