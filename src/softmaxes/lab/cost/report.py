"""The costs of heads as a page, figures, a CSV table and a table in the terminal."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from rich.console import Console
from rich.table import Table
from rich.text import Text

from softmaxes.files import write_bytes
from softmaxes.lab.cost.records import FIT_FROM, TIMES, TOPK, Cost, Timing, exponent, write_csv
from softmaxes.lab.recipe import OPTIMIZERS
from softmaxes.lab.report import page
from softmaxes.lab.report.charts import Chart, axis, layout, text
from softmaxes.lab.report.figures import axes_of, image, styled
from softmaxes.lab.report.palette import style
from softmaxes.lab.report.wording import listed
from softmaxes.lab.tables import as_latex, as_markdown, in_latex
from softmaxes.names import in_code

NAMES = {
    "step": "A training step",
    "forward": "Forward",
    "backward": "Backward",
    "update": "Update",
    "log_prob": "Log-probabilities of all classes",
    "topk": f"The {TOPK} most probable classes",
}
MEMORY = "Memory of a training step"
BYTE = 2**-20  # MiB: a logarithmic scale has no place for nothing
REFERENCE = "softmax"  # the head that the others are set beside


@dataclass(frozen=True)
class Scale:
    """Costs, and what is said of them."""

    costs: Sequence[Cost]

    @cached_property
    def heads(self) -> list[str]:
        """In the order in which they were asked for."""
        return list(dict.fromkeys(cost.cell.head for cost in self.costs))

    @cached_property
    def classes(self) -> list[int]:
        """From few to many."""
        return sorted({cost.cell.classes for cost in self.costs})

    @cached_property
    def features(self) -> list[int]:
        """From few to many."""
        return sorted({cost.cell.features for cost in self.costs})

    @cached_property
    def _by_size(self) -> dict[tuple[str, int, int], Cost]:
        return {(cost.cell.head, cost.cell.classes, cost.cell.features): cost for cost in self.costs}

    def at(self, head: str, classes: int, features: int) -> Cost | None:
        """The cost of a cell, if it was measured."""
        return self._by_size.get((head, classes, features))

    def of(self, head: str, features: int) -> list[Cost]:
        """A head's costs, from few classes to many."""
        found = [self.at(head, classes, features) for classes in self.classes]
        return [cost for cost in found if cost is not None]

    def power(self, head: str, features: int, what: str = "step") -> str:
        """The power of the number of classes that fits a head's times, or a dash."""
        found = exponent(self.of(head, features), what)
        return "–" if found is None else f"{found:.2f}"

    @property
    def unfit(self) -> list[str]:
        """Each cell that could not be measured whole, and why."""
        return [
            f"{cost.cell.head}, {cost.cell.classes:,} classes, {cost.cell.features} features, {failure.phase}: "
            f"{failure.reason}."
            for cost in self.costs
            for failure in cost.failures
        ]

    @property
    def finding(self) -> str:
        """A sentence: the quickest step at the most classes at which the reference was measured too."""
        for classes in reversed(self.classes):
            steps = {
                head: cost.step.median
                for head in self.heads
                if (cost := self.at(head, classes, self.features[0])) is not None and cost.step is not None
            }
            quickest = min(steps, key=lambda head: steps[head], default=REFERENCE)
            if REFERENCE in steps and len(steps) > 1:
                if quickest == REFERENCE:
                    return f"At {classes:,} classes no head's training step is quicker than that of {REFERENCE}."
                ratio = steps[REFERENCE] / steps[quickest]
                return (
                    f"At {classes:,} classes a training step of {quickest} takes {ms(steps[quickest])} ms, one of "
                    f"{REFERENCE} {ms(steps[REFERENCE])} ms: {ratio:,.{1 if ratio < 10 else 0}f} times as long."
                )
        return ""

    @property
    def setting(self) -> str:
        """What all cells have in common, and where they were measured."""
        cells = [cost.cell for cost in self.costs]
        kinds = {
            "zipf": "classes drawn by Zipf's law (the r-th most frequent with probability in proportion to 1/r)",
            "uniform": "classes drawn uniformly",
        }
        drawn = listed(sorted({kinds[cell.labels] for cell in cells}))
        optimizers = sorted({OPTIMIZERS[cell.optimizer] for cell in cells})
        machines = {cost.machine for cost in self.costs if cost.machine is not None}
        where = sorted(
            f"{machine.processor}, {'one thread' if machine.device == 'cpu' else machine.device}, torch {machine.torch}"
            for machine in machines
        )
        measured = f" Measured on {listed(where)}." if where else " Nothing could be measured."
        return (
            f"Training steps of {_numbers({cell.batch_size for cell in cells})} examples with "
            f"{_numbers(set(self.features))} features, {listed(optimizers)}, {drawn}. Log-probabilities and the most "
            f"probable classes of {_numbers({cell.test_batch for cell in cells})} examples.{measured}"
        )


def _numbers(values: set[int]) -> str:
    return listed([f"{value:,}" for value in sorted(values)])


def ms(seconds: float) -> str:
    """Milliseconds with two or three digits."""
    value = 1e3 * seconds
    return f"{value:,.0f}" if value >= 99.5 else f"{value:.1f}" if value >= 9.95 else f"{value:.2f}"


def mib(value: float) -> str:
    """MiB with about two digits."""
    return f"{value:,.0f}" if value >= 9.95 else f"{value:.1f}"


def _points(costs: Sequence[Cost], what: str) -> list[tuple[int, float, float, float]]:
    """Classes, value, low and high of what a chart shows: milliseconds, or MiB."""
    points = []
    for cost in costs:
        if what == "step_memory":
            if cost.step_memory is not None and cost.step_memory >= BYTE:
                points.append((cost.cell.classes, cost.step_memory, cost.step_memory, cost.step_memory))
            continue
        timing: Timing | None = getattr(cost, what)
        if timing is not None:
            points.append((cost.cell.classes, 1e3 * timing.median, 1e3 * timing.low, 1e3 * timing.high))
    return points


def _charts(scale: Scale, features: int) -> list[Chart]:
    charts = []
    for what, title in {**NAMES, "step_memory": MEMORY}.items():
        traces = []
        said = []
        for position, head in enumerate(scale.heads):
            points = _points(scale.of(head, features), what)
            if not points:
                continue
            drawn = style(position)
            unit = "MiB" if what == "step_memory" else "ms"
            traces.append(
                {
                    "type": "scatter",
                    "name": text(head),
                    "x": [point[0] for point in points],
                    "y": [point[1] for point in points],
                    "error_y": {
                        "type": "data",
                        "symmetric": False,
                        "array": [point[3] - point[1] for point in points],
                        "arrayminus": [point[1] - point[2] for point in points],
                        "color": drawn.token,
                        "thickness": 1,
                        "width": 3,
                    },
                    "mode": "lines+markers",
                    "line": {"color": drawn.token, "dash": drawn.dash, "width": 2},
                    "marker": {"color": drawn.token, "symbol": drawn.symbol, "size": 7},
                    "hovertemplate": f"<b>{text(head)}</b><br>%{{x:,}} classes: %{{y:.3~g}} {unit}<extra></extra>",
                    "legendgroup": f"head-{position}",
                }
            )
            last = points[-1]
            said.append(f"{head} {last[1]:.3g} {unit} at {last[0]:,} classes")
        if not traces:
            continue
        log: dict[str, Any] = {"type": "log", "dtick": 1, "minor": {"ticks": "outside"}}
        charts.append(
            Chart(
                f"{what}-{features}",
                title,
                f"Line chart on logarithmic scales: {title.lower()} against the number of classes. {'; '.join(said)}.",
                {
                    "data": traces,
                    "layout": layout(
                        axis("classes", tickformat="~s", **log),
                        axis(
                            "MiB above the parameters" if what == "step_memory" else "milliseconds",
                            tickformat=",~r",
                            **log,
                        ),
                        hovermode="closest",
                    ),
                },
            )
        )
    return charts


def _figure(scale: Scale, features: int, what: str, title: str) -> Figure:
    figure, axes = axes_of(title, 7.6, 4.4)
    for position, head in enumerate(scale.heads):
        points = _points(scale.of(head, features), what)
        if not points:
            continue
        drawn = style(position)
        power = scale.power(head, features, what) if what in TIMES else "–"
        axes.errorbar(
            [point[0] for point in points],
            [point[1] for point in points],
            yerr=[[point[1] - point[2] for point in points], [point[3] - point[1] for point in points]],
            color=drawn.light,
            linestyle=drawn.line_style,
            marker=drawn.marker,
            markersize=5,
            linewidth=1.8,
            capsize=2,
            label=head if power == "–" else f"{head}, C to the {power}",
        )
    axes.set_xscale("log")
    axes.set_yscale("log")
    for line in (axes.xaxis, axes.yaxis):
        line.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    axes.grid(True)
    axes.set_xlabel(
        f"classes; {features} features" + ("" if what == "step_memory" else f"; powers from {FIT_FROM:,} on")
    )
    axes.set_ylabel("MiB above the parameters" if what == "step_memory" else "milliseconds (median, 20 % to 80 %)")
    figure.legend(loc="outside right upper", fontsize=8)
    return figure


def write_report(costs: Sequence[Cost], directory: Path) -> Path:
    """Write ``report.html``, ``table.csv``, ``.md`` and ``.tex``, and ``figures/*.png``, each whole or not at all.

    Returns:
        The path of ``report.html``.
    """
    scale = Scale(costs)
    files: dict[str, bytes] = {}  # all of them are made before any is written
    with styled():
        for features in scale.features:
            for what, title in {**NAMES, "step_memory": MEMORY}.items():
                if any(_points(scale.of(head, features), what) for head in scale.heads):
                    files[f"figures/{what}_{features}_features.png"] = image(_figure(scale, features, what, title))
    files["table.csv"] = write_csv(costs).encode()
    files["table.md"], files["table.tex"] = markdown(scale).encode(), latex(scale).encode()
    charts = {features: _charts(scale, features) for features in scale.features}
    files["report.html"] = page.render_with_figures(
        "cost.html.jinja",
        [chart for drawn in charts.values() for chart in drawn],
        title="What a head costs",
        scale=scale,
        drawings=charts,
        style=style,
        ms=ms,
        mib=mib,
        topk=TOPK,
    ).encode()
    for name, content in files.items():
        write_bytes(directory / name, content)
    return directory / "report.html"


def _steps(scale: Scale, head: str, features: int) -> list[str]:
    """The milliseconds of a head's step at each number of classes, and the power."""
    costs = [scale.at(head, classes, features) for classes in scale.classes]
    known = ["–" if cost is None or cost.step is None else ms(cost.step.median) for cost in costs]
    return [*known, scale.power(head, features)]


def markdown(scale: Scale) -> str:
    """The milliseconds of a step as a Markdown table, a row a head for each number of features."""
    rows = _rows(scale, in_code)
    rows.insert(1, ["---", *["---:"] * (len(rows[0]) - 1)])
    return as_markdown(rows)


def latex(scale: Scale) -> str:
    """The same table as LaTeX, for the package booktabs."""
    head, *rows = _rows(scale, lambda name: rf"\texttt{{{in_latex(name)}}}")
    return as_latex([head, *([name, *map(in_latex, cells)] for name, *cells in rows)])


def _rows(scale: Scale, shown: Callable[[str], str]) -> list[list[str]]:
    rows = [["head", *(f"{classes:,}" for classes in scale.classes), "C to the"]]
    for features in scale.features:
        for head in scale.heads:
            name = shown(head) + (f", {features} features" if len(scale.features) > 1 else "")
            rows.append([name, *_steps(scale, head, features)])
    return rows


def print_table(costs: Sequence[Cost], console: Console) -> None:
    """Print the milliseconds of a step, and how they grow."""
    scale = Scale(costs)
    for features in scale.features:
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
        table.add_column(f"a step, ms; {features} features")
        for title in (*(f"{classes:,}" for classes in scale.classes), "C to the"):
            table.add_column(title, justify="right")
        for head in scale.heads:
            table.add_row(*map(Text, (head, *_steps(scale, head, features))))
        console.print(table)
    for line in scale.unfit:
        console.print(line, highlight=False, markup=False, soft_wrap=True)
