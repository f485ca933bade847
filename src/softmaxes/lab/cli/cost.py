"""`softmaxes scale` and `softmaxes advise`: what a head costs against the number of classes, measured and foretold."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter
from rich.table import Table as Grid
from rich.text import Text

from softmaxes.lab.cli.options import Whole
from softmaxes.lab.console import plain
from softmaxes.lab.cost.records import Optimizer
from softmaxes.lab.cost.scale import CLASSES, FOLDER, SCALE_HEADS
from softmaxes.lab.cost.scale import advise as look_up
from softmaxes.lab.cost.scale import scale as measure
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
    memory: Memory = None,
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
    """Say which heads fit in memory and what a training step of them should cost, and how sure that is.

    Nothing is measured now: times and memory are read off a table of `softmaxes scale`, on straight lines between the
    sizes that were measured, on logarithmic scales. How accurate heads become, `softmaxes compare` shows.

    ```
    softmaxes advise --classes 2000000 --features 256 --memory 16GB
    softmaxes advise --classes 1000000 --batch-size 32 --optimizer adamw
    ```
    """
    from softmaxes.lab.cost.report import ms

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
    for title in ("step", "memory", "parameters"):
        grid.add_column(title, justify="right", no_wrap=True)
    grid.add_column("fits")
    grid.add_column("this size is")
    for one in advice.forecasts:
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
        "\nMemory is of parameters, gradients, the optimiser's state and what a step needs; the rest of the network "
        "comes on top. ×1.5 means that the true time may be up to 1.5 times longer or shorter. A test on measured "
        "times gave this factor."
    )
    machines = sorted({row.machine for row in advice.rows if row.machine})
    console.print(f"Measured on {'; '.join(machines)}. Yours has other times: `softmaxes scale` measures them.")
    return 0
