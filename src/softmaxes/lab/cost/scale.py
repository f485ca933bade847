"""The door to costs: measure heads against the number of classes, and read off a table what they should cost."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Literal, NamedTuple

from rich.console import Console

from softmaxes.files import InputError
from softmaxes.lab.bounds import check_range
from softmaxes.lab.cost.forecast import Forecast, Measured, forecast, read_csv
from softmaxes.lab.cost.records import Cell, Cost, Limits, Optimizer, Table, cells
from softmaxes.lab.machine import chosen_device, memory_at_hand

SCALE_HEADS = (
    "softmax",
    "hierarchical",
    "hierarchical-huffman",
    "hierarchical-groups",
    "forest",
    "adaptive",
    "sampled",
    "neighbor-sampled",
    "tree-sampled",
    "nce",
    "negative-sampling",
)
CLASSES = (100, 1000, 10_000, 100_000, 1_000_000)
MOST_CLASSES = 10**8
MOST_MEMORY = 2**50  # bytes
UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:I?B)?", re.IGNORECASE)
FOLDER = Path("runs") / "scale"


@dataclass(frozen=True)
class Costs:
    """What heads cost.

    Attributes:
        directory: the folder that holds everything.
        cells: the cost of each head at each size.
    """

    directory: Path
    cells: tuple[Cost, ...]

    @property
    def page(self) -> Path:
        """The HTML page."""
        return self.directory / "report.html"


def scale(
    heads: Sequence[str] = SCALE_HEADS,
    classes: Sequence[int] = CLASSES,
    features: Sequence[int] = (128,),
    *,
    batch_size: int = 256,
    labels: Literal["zipf", "uniform"] = "zipf",
    seconds: float = 120,
    memory: str | None = None,
    optimizer: Optimizer = "sgd",
    device: str = "auto",
    out: str | Path = FOLDER,
    console: Console | None = None,
) -> Costs:
    """Measure what heads cost against the number of classes, and write a page, figures and a table.

    It is what ``softmaxes scale`` does; each argument is the option of that name. What is done is kept.

    Args:
        heads: names, or ``("all",)``: every head that can be measured so.
        classes: numbers of classes, each at least 4.
        features: sizes of a feature vector.
        batch_size: examples of a training step.
        labels: how often classes come: by Zipf's law, or all alike.
        seconds: longest that a head at one size may take.
        memory: that a head at one size may take, e.g. ``16GB``; what is free if not given.
        optimizer: of the training step; it steps the rows that have a gradient, as `softmaxes.optim.for_model` does.
        device: ``auto``, ``cpu`` or ``cuda``.
        out: folder for the results.
        console: shows the progress; standard error if not given.

    Raises:
        InputError: something does not fit; the message says what was expected and what came.
    """
    from softmaxes.lab.console import plain
    from softmaxes.lab.cost.measure import execute
    from softmaxes.lab.cost.report import write_report
    from softmaxes.lab.heads.registry import HEADS, entry_of_ours, one_name
    from softmaxes.lab.store import Store

    chosen = (
        [name for name in HEADS if HEADS[name].alone]
        if tuple(heads) == ("all",)
        else [one_name(name) for name in heads]
    )
    for name in chosen:
        if entry_of_ours(name) is None:
            raise InputError(f"--heads: expected names from `softmaxes heads`, or all alone, got {name}.")
    check_sizes("--classes", classes, 4, MOST_CLASSES)
    check_sizes("--features", features, 1, 10**6)
    check_sizes("--batch-size", (batch_size,), 1, 10**6)
    if not 0 < seconds < 10**6:
        bound = "less than 1,000,000" if seconds > 0 else "more than 0"
        raise InputError(f"--seconds: expected {bound}, got {seconds:g}.")
    setting = Cell(
        head=chosen[0],
        classes=classes[0],
        batch_size=batch_size,
        labels=labels,
        device=chosen_device(device),
        optimizer=optimizer,
    )
    table = Table(cells=tuple(cells(dict.fromkeys(chosen), sorted(set(classes)), sorted(set(features)), setting)))
    store = Store(Path(out), {"scale.json": Table})
    with store.lock():
        limits = Limits(seconds=seconds, memory=bytes_of(memory) / 2**30)
        costs = execute(table, store, limits, console or plain(stderr=True))
        write_report(costs, store.directory)
    return Costs(store.directory, tuple(costs))


class Advice(NamedTuple):
    """What heads should cost at a size."""

    forecasts: list[Forecast]  # the quickest first
    rows: list[Measured]  # that they are read off
    source: str  # of the rows
    batch_size: int
    memory: float  # bytes that may be taken


def advise(
    classes: int,
    features: int = 128,
    *,
    batch_size: int | None = None,
    optimizer: Optimizer = "sgd",
    device: Literal["cpu", "cuda"] = "cpu",
    memory: str | None = None,
    measured: Path | Sequence[Path] | None = None,
) -> Advice:
    """Which heads fit in memory and what a training step of them should cost, read off tables of `scale`.

    Args:
        classes: the number of classes, at least 4.
        features: size of a feature vector.
        batch_size: examples of a training step; as most rows of the tables have it if not given.
        optimizer: of the training step; memory is with its state.
        device: where the step is taken.
        memory: that may be taken, e.g. ``16GB``; what is free if not given.
        measured: a ``table.csv`` of `scale`, or several; ``runs/scale/table.csv`` if it is there, else one of another
            machine that comes with softmaxes.

    Raises:
        InputError: a size cannot be, a table is broken, or none was measured with that optimiser and device.
    """
    check_sizes("--classes", (classes,), 4, MOST_CLASSES)
    check_sizes("--features", (features,), 1, 10**6)
    source, rows = _tables([measured] if isinstance(measured, Path) else measured)
    fit = [row for row in rows if row.optimizer == optimizer and row.device == device]
    if not fit:
        known = ", ".join(sorted({f"{row.optimizer} on {row.device}" for row in rows}))
        raise InputError(
            f"{source}: expected rows measured with {optimizer} on {device}, got {known}; measure them: "
            f"softmaxes scale --optimizer {optimizer} --device {device}."
        )
    if batch_size is None:
        batch_size = Counter(row.batch_size for row in fit).most_common(1)[0][0]
    check_sizes("--batch-size", (batch_size,), 1, 10**6)
    return Advice(forecast(fit, classes, features, batch_size), fit, source, batch_size, bytes_of(memory))


def bytes_of(memory: str | None) -> float:
    """Bytes of words such as 16GB, 512 MiB or 1.5g, where K, M, G and T are powers of 1,024; of none what is free."""
    if memory is None:
        return memory_at_hand() * 2**30
    found = SIZE.fullmatch(memory.strip())
    size = 0.0 if found is None else float(found[1]) * UNITS[found[2].upper()]
    if not 1 <= size <= MOST_MEMORY:
        bound = ", at most 1024TB" if size > 1 else ""
        raise InputError(f"--memory: expected a size such as 16GB or 512MB{bound}, got {memory[:60]}.")
    return size


def check_sizes(option: str, values: Sequence[int], least: int, most: int) -> None:
    """Refuse numbers that an option cannot be, and none."""
    for value in values:
        check_range(option, value, least, most)
    if not values:
        raise InputError(f"{option}: expected at least one number, got none.")


def _tables(measured: Sequence[Path] | None) -> tuple[str, list[Measured]]:
    if measured is None and not (FOLDER / "table.csv").exists():
        with resources.as_file(resources.files("softmaxes.lab.cost") / "measured.csv") as own:
            return "the table that comes with softmaxes", read_csv(own)
    paths = measured or [FOLDER / "table.csv"]
    return ", ".join(map(str, paths)), [row for path in paths for row in read_csv(path)]
