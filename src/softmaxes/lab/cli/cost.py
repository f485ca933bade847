"""`softmaxes scale` and `softmaxes advise`: what a head costs against the number of classes, measured and foretold."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter
from rich.table import Table as Grid
from rich.text import Text

from softmaxes.files import InputError
from softmaxes.lab.bounds import check_between
from softmaxes.lab.cli.options import Whole
from softmaxes.lab.console import plain
from softmaxes.lab.cost.forecast import MARGIN, Forecast
from softmaxes.lab.cost.records import Optimizer
from softmaxes.lab.cost.scale import CLASSES, FOLDER, SCALE_HEADS
from softmaxes.lab.cost.scale import advise as look_up
from softmaxes.lab.cost.scale import scale as measure
from softmaxes.lab.devices import MOST_DEVICES
from softmaxes.lab.recipe import OPTIMIZERS
from softmaxes.names import printable

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
    ] = CLASSES,
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
    optimizer: Annotated[
        Optimizer, Parameter(help="Of the training step; it steps the rows that have a gradient, no others.")
    ] = "sgd",
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
    from softmaxes.lab.cost.report import print_table

    found = measure(
        heads,
        classes,
        features,
        batch_size=batch_size,
        labels=labels,
        seconds=seconds,
        memory=memory,
        optimizer=optimizer,
        device=device,
        out=out,
    )
    print_table(found.cells, plain(soft_wrap=False))
    plain().print(f"\nreport: {printable(str(found.page))}")
    return 0


def advise(
    *,
    classes: Annotated[Whole, Parameter(help="How many classes there are.")],
    features: Annotated[Whole, Parameter(help="Size of a feature vector.")] = 128,
    batch_size: Annotated[
        Whole | None, Parameter(help="Examples of a training step; as the table has it if not given.")
    ] = None,
    optimizer: Annotated[Optimizer, Parameter(help="Of the training step; the memory is with its state.")] = "sgd",
    device: Annotated[Literal["cpu", "cuda"], Parameter(help="Where the step is taken.")] = "cpu",
    devices: Annotated[
        Whole,
        Parameter(
            help="How many such devices share a step; then the table says how they can: with a copy of the head each, "
            "*ddp*, or with a part of its classes each, *sharded-head*."
        ),
    ] = 1,
    memory: Memory = None,
    within: Annotated[
        float | None, Parameter(help="Milliseconds that a step may take; slower heads come last.")
    ] = None,
    measured: Annotated[
        tuple[Path, ...] | None,
        Parameter(
            consume_multiple=1,
            negative=(),
            help="A table.csv of `softmaxes scale`, or several; *runs/scale/table.csv* if it is there, else one that "
            "comes with softmaxes, from another machine than yours.",
        ),
    ] = None,
) -> int:
    """Say which heads are most accurate, what a training step of them should cost, and whether they fit in memory.

    Nothing is measured now. Accuracy is what stored studies found at the nearest number of classes. Times and memory
    are read off a table of `softmaxes scale`, on straight lines between the sizes that were measured, on logarithmic
    scales. On your own data `softmaxes compare` shows how accurate heads become.

    ```
    softmaxes advise --classes 20000 --within 20
    softmaxes advise --classes 2000000 --features 256 --memory 16GB
    softmaxes advise --classes 1000000 --optimizer adamw --measured runs/adamw/table.csv
    softmaxes advise --classes 50000000 --features 256 --devices 8 --memory 16GB
    ```
    """
    from softmaxes.lab.cost.accuracy import REFERENCE, best_first, nearest_study
    from softmaxes.lab.cost.report import ms

    check_between("--devices", devices, 1, MOST_DEVICES)
    if within is not None and not 0 < within < 10**9:
        raise InputError(f"--within: expected milliseconds, more than 0, got {within:g}.")
    advice = look_up(
        classes,
        features,
        batch_size=batch_size,
        optimizer=optimizer,
        device=device,
        memory=memory,
        measured=measured,
    )
    limit = advice.memory / 2**20
    console = plain()
    console.print(
        f"{classes:,} classes, {features:,} features, training steps of {advice.batch_size:,} examples with "
        f"{OPTIMIZERS[optimizer]}, {limit / 2**10:.3g} GiB of memory; read off {printable(advice.source)}.\n"
    )
    grid = Grid(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    grid.add_column("head", no_wrap=True, style="bold")
    for title in ("accuracy", "step", "memory") if devices == 1 else ("accuracy", "copy", "part", "sent"):
        grid.add_column(title, justify="right", no_wrap=True)
    grid.add_column("fits", no_wrap=True)
    if devices == 1:
        grid.add_column("read off", no_wrap=True)
    studies = set()
    for one, told in best_first(advice.forecasts, classes, None if within is None else within / 1e3):
        accuracy = "reference" if one.head == REFERENCE else "not known"
        if told is not None:
            mark = "" if told.classes == nearest_study(classes) else "* "
            accuracy = mark + f"{told.points:+.1f} ± {told.half:.1f}".replace("-", "−")
            studies.add(f"{mark}{told.classes:,} classes of {told.data}, {told.seeds} seeds")
        if devices == 1:
            fits = "yes" if one.total < MARGIN * limit else "just" if one.total <= limit else "no"
            if within is not None and 1e3 * one.seconds > within:
                fits = "slow" if fits != "no" else "no"
            sure = one.basis if one.basis == "measured" or one.error is None else f"{one.basis}, ×{one.error:.2g}"
            cells = (f"{ms(one.seconds)} ms", f"{one.total / 2**10:.2f} GiB", fits, sure)
        else:
            cells = _shared_in_words(one, classes, features, advice.batch_size, devices, limit)
        grid.add_row(*map(Text, (one.head, accuracy, *cells)))
    console.print(grid)
    if studies:
        told_by = "; ".join(sorted(studies, reverse=True))  # a star is before every digit
        console.print(
            "\nAccuracy is in points of test accuracy less softmax's, ± half of the 95 % interval over seeds, at the "
            f"nearest number of classes that was studied ({told_by}). All heads were tuned alike. "
            "Other data may rank them otherwise."
        )
    if refreshed := [one for one in advice.forecasts if one.refresh > 0]:
        console.print()
    for one in refreshed:
        seconds = f"{one.refresh:,.{0 if one.refresh >= 9.5 else 1}f}"
        console.print(
            f"{one.head}: before each epoch {seconds} s more, to look for the nearest classes of each class.",
            highlight=False,
        )
    if devices > 1:
        console.print(
            f"\nThe {devices:,} devices share each step. Copy: memory of a device that holds the whole head "
            "(--strategy ddp). Part: of one that holds the rows of a part of the classes (--strategy sharded-head). "
            "Sent: bytes that a device sends a step, by the first of the two that fits. ≤ marks copies with sparse "
            "gradients: they send the rows that were met, at most all."
        )
    console.print(
        "\nMemory is of parameters, gradients, the optimiser's state and what a step needs; the rest of the network "
        "comes on top. A time was measured at this size, or is read off between measured sizes or beyond them: ×1.5 "
        "means that the true time may be up to 1.5 times longer or shorter, as a test on measured times found."
    )
    machines = sorted({row.machine for row in advice.rows if row.machine})
    console.print(f"Measured on {'; '.join(machines)}. Yours has other times: `softmaxes scale` measures them.")
    return 0


def _shared_in_words(
    one: Forecast, classes: int, features: int, batch_size: int, devices: int, limit: float
) -> tuple[str, str, str, str]:
    """Memory of a copy and of a part, what is sent, and what fits."""
    from softmaxes.lab.cost.devices import in_bytes, shared, that_fits  # which import torch

    ways = shared(one, classes, features, batch_size, devices)
    copy, part = (f"{way.memory / 2**10:.2f} GiB" for way in (ways * 2)[:2])
    taken = that_fits(ways, limit)
    sent = "" if taken is None else ("≤ " if taken.at_most else "") + in_bytes(taken.sent)
    return (
        copy,
        part if len(ways) > 1 else "whole only",
        sent,
        "no" if taken is None else ("copy", "part")[ways.index(taken)],
    )
