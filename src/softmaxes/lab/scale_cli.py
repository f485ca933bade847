"""`softmaxes scale` and `softmaxes advise`: what a head costs against the number of classes, measured and foretold."""

import re
from importlib import resources
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter
from rich.table import Table as Grid
from rich.text import Text

from softmaxes.lab import InputError
from softmaxes.lab.console import plain
from softmaxes.lab.cost import Cell, Limits, Measured, Table, cells, forecast, read_csv
from softmaxes.lab.options import Whole, check_between
from softmaxes.names import printable

SCALE_HEADS = (
    "softmax",
    "hierarchical",
    "hierarchical-huffman",
    "hierarchical-groups",
    "forest",
    "adaptive",
    "sampled",
    "nce",
    "negative-sampling",
)
MOST_CLASSES = 10**8
MOST_MEMORY = 2**50  # bytes
UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:I?B)?", re.IGNORECASE)
FOLDER = Path("runs") / "scale"

Features = Annotated[tuple[Whole, ...], Parameter(consume_multiple=1, negative=(), help="Sizes of a feature vector.")]
Memory = Annotated[str | None, Parameter(help="Memory that may be taken, e.g. *16GB*; what is free if not given.")]


def scale(
    *,
    heads: Annotated[
        tuple[str, ...],
        Parameter(consume_multiple=1, negative=(), help="Names from `softmaxes heads`; or **all** that can be."),
    ] = SCALE_HEADS,
    classes: Annotated[
        tuple[Whole, ...], Parameter(consume_multiple=1, negative=(), help="Numbers of classes, 4 or more.")
    ] = (100, 1000, 10_000, 100_000, 1_000_000),
    features: Features = (128,),
    batch_size: Annotated[Whole, Parameter(help="Examples of a training step.")] = 256,
    labels: Annotated[
        Literal["zipf", "uniform"],
        Parameter(help="How often classes come: by Zipf's law, as words and products do, or all alike."),
    ] = "zipf",
    seconds: Annotated[
        float, Parameter(help="Longest that a head at one size may take, with all that is measured.")
    ] = 120,
    memory: Memory = None,
    device: Annotated[Literal["auto", "cpu", "cuda"], Parameter(help="*auto* takes a GPU if there is one.")] = "auto",
    out: Annotated[
        Path, Parameter(help="Folder for the results: new, empty or of an earlier `softmaxes scale`.")
    ] = FOLDER,
) -> int:
    """Measure what heads cost against the number of classes, and write a page, figures and a table.

    The time of a training step (forward, backward, update), of the log-probabilities of all classes and of the five
    most probable ones; memory; and the power of the number of classes with which they grow. What takes too long or too
    much memory is named with the reason. What is done is kept: type the same again, and it goes on.

    ```
    softmaxes scale
    softmaxes scale --heads softmax hierarchical --classes 1000 100000 10000000 --memory 16GB
    softmaxes scale --features 64 256 --labels uniform --out runs/uniform
    ```
    """
    import torch

    from softmaxes.lab.heads import HEADS
    from softmaxes.lab.report.scale import print_table, write_report
    from softmaxes.lab.scale import execute, memory_at_hand
    from softmaxes.lab.store import Store

    chosen = tuple(name for name in HEADS if HEADS[name].alone) if heads == ("all",) else heads
    for name in chosen:
        if name not in HEADS:
            raise InputError(f"--heads: expected names from `softmaxes heads`, or all alone, got {name}.")
    _sizes("--classes", classes, 4, MOST_CLASSES)
    _sizes("--features", features, 1, 10**6)
    _sizes("--batch-size", (batch_size,), 1, 10**6)
    if not 0 < seconds < 10**6:
        bound = "less than 1,000,000" if seconds > 0 else "more than 0"
        raise InputError(f"--seconds: expected {bound}, got {seconds:g}.")
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError("--device: expected a GPU that torch can use for cuda, got none.")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    setting = Cell(head=chosen[0], classes=classes[0], batch_size=batch_size, labels=labels, device=device)
    table = Table(cells=tuple(cells(dict.fromkeys(chosen), sorted(set(classes)), sorted(set(features)), setting)))
    gibibytes = memory_at_hand() if memory is None else parse_size("--memory", memory) / 2**30
    store = Store(out, {"scale.json": Table})
    with store.lock():
        costs = execute(table, store, Limits(seconds=seconds, memory=gibibytes), plain(stderr=True))
        page = write_report(costs, out)
    print_table(costs, plain(soft_wrap=False))
    plain().print(f"\nreport: {printable(str(page))}")
    return 0


def advise(
    *,
    classes: Annotated[Whole, Parameter(help="How many classes there are.")],
    features: Annotated[Whole, Parameter(help="Size of a feature vector.")] = 128,
    memory: Memory = None,
    measured: Annotated[
        Path | None,
        Parameter(
            help="A table.csv of `softmaxes scale`; *runs/scale/table.csv* if it is there, else one that comes with "
            "softmaxes, from another machine than yours."
        ),
    ] = None,
) -> int:
    """Say which heads fit in memory and what a training step of them should cost, and how sure that is.

    Nothing is measured now: times and memory are read off a table of `softmaxes scale`, on straight lines between the
    sizes that were measured, on logarithmic scales. How accurate heads become, `softmaxes compare` shows.

    ```
    softmaxes advise --classes 2000000 --features 256 --memory 16GB
    ```
    """
    _sizes("--classes", (classes,), 4, MOST_CLASSES)
    _sizes("--features", (features,), 1, 10**6)
    path, rows = _table(measured)
    limit = None if memory is None else parse_size("--memory", memory) / 2**20
    if limit is None:
        from softmaxes.lab.scale import memory_at_hand

        limit = memory_at_hand() * 2**10
    from softmaxes.lab.report.scale import ms

    console = plain()
    batches = sorted({row.batch_size for row in rows})
    console.print(
        f"{classes:,} classes, {features:,} features, training steps of {' or '.join(map(str, batches))} examples, "
        f"{limit / 2**10:.3g} GiB of memory; read off {printable(path)}.\n"
    )
    grid = Grid(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    grid.add_column("head", no_wrap=True, style="bold")
    for title in ("step", "memory", "parameters"):
        grid.add_column(title, justify="right", no_wrap=True)
    grid.add_column("fits")
    grid.add_column("this size is")
    for one in forecast(rows, classes, features):
        own = 4 * one.parameters / 2**20
        total = own + one.memory
        fits = "yes" if total < 0.8 * limit else "just" if total <= limit else "no"
        sure = {"measured": "measured", "between": "between measured", "beyond": "beyond measured"}[one.basis]
        if one.basis != "measured" and one.error is not None:
            sure += f", ×{one.error:.2g}"
        numbers = (f"{ms(one.seconds)} ms", f"{total / 2**10:.2f} GiB", f"{own / 2**10:.2f} GiB")
        grid.add_row(*map(Text, (one.head, *numbers, fits, sure)))
    console.print(grid)
    console.print(
        "\nMemory is of parameters, gradients and what a step needs; the rest of the network comes on top. Behind × is "
        "how sure a time is: the worst factor by which a measured one is missed when its neighbours alone are known."
    )
    machines = sorted({row.machine for row in rows if row.machine})
    console.print(f"Measured on {'; '.join(machines)}. Yours has other times: `softmaxes scale` measures them.")
    return 0


def parse_size(option: str, text: str) -> float:
    """Bytes, from words such as 16GB, 512 MiB or 1.5g; K, M, G and T are powers of 1,024."""
    found = SIZE.fullmatch(text.strip())
    size = 0.0 if found is None else float(found[1]) * UNITS[found[2].upper()]
    if not 1 <= size <= MOST_MEMORY:
        bound = ", at most 1024TB" if size > 1 else ""
        raise InputError(f"{option}: expected a size such as 16GB or 512MB{bound}, got {text[:60]}.")
    return size


def _table(measured: Path | None) -> tuple[str, list[Measured]]:
    if measured is None and not (FOLDER / "table.csv").exists():
        with resources.as_file(resources.files("softmaxes.lab") / "measured.csv") as own:
            return "the table that comes with softmaxes", read_csv(own)
    path = measured or FOLDER / "table.csv"
    return str(path), read_csv(path)


def _sizes(option: str, values: tuple[int, ...], least: int, most: int) -> None:
    for value in values:
        check_between(option, value, least, most)
    if not values:
        raise InputError(f"{option}: expected at least one number, got none.")
