"""`softmaxes compare`, `train`, `repeat` and `report`: each parses, calls the lab, and prints."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Group, Parameter

from softmaxes.files import InputError
from softmaxes.lab.cli.options import From, Whole, given
from softmaxes.lab.console import plain
from softmaxes.lab.devices import Where
from softmaxes.lab.records import Source, Training
from softmaxes.names import file_name, printable

if TYPE_CHECKING:
    from softmaxes.lab.comparison.finished import Comparison

TRAINING = Group("Training", sort_key=2)
FOLDER = (
    "Folder for the results: new, empty, or one of ours, whose runs are kept; the page of another comparison there is "
    "kept in *earlier/*, and the new page has a link to it;"
)

Beside = Annotated[
    Path | None,
    Parameter(
        help="CSV file with results from elsewhere, as of a paper, to be set beside these: columns *head*, *accuracy*, "
        "*source*, and perhaps *top5*, *precision*, *recall*, *f1*, *nll*, *calibration_error*, *epoch_seconds*. A "
        "share is written 0.813 or 81.3%."
    ),
]
On = Annotated[Where | None, Parameter(name="*", group=TRAINING)]
Setting = Annotated[Training | None, Parameter(name="*", group=TRAINING)]
Log = Annotated[
    tuple[Literal["tensorboard", "mlflow"], ...],
    Parameter(
        consume_multiple=1,
        negative=(),
        help="Where training losses and the scores of each epoch also go: **tensorboard** (event files in "
        "*OUT/tensorboard*), **mlflow** (a database, *OUT/mlflow.db*). Needs `pip install 'softmaxes[tensorboard]'`, "
        "`'softmaxes[mlflow]'`.",
    ),
]


def compare(
    *,
    source: From = None,
    heads: Annotated[
        tuple[str, ...] | None,
        Parameter(
            consume_multiple=1,
            negative=(),
            help="Names from `softmaxes heads`, e.g. *softmax gumbel*; with settings, *entmax:alpha=1.2*; "
            "**module:function** of your own; or **all**: "
            "every head that the data can serve.",
        ),
    ] = None,
    seeds: Annotated[Whole, Parameter(help="Seeds of each head; the intervals are over them.")] = 3,
    study: Annotated[
        str | None,
        Parameter(
            help="A study with heads of its own: **seed**, the original one; **fair**, heads that differ in kind, each "
            "tuned with the same effort; **trees**, what a tree is worth; **forensics**, what explains the figures of "
            "the original study; **many**, heads for very many classes; or **FILE.py** or **module:function** of yours."
        ),
    ] = None,
    tune: Annotated[
        Whole | None,
        Parameter(
            help="Settings to try of each head: the learning rate, and one setting more that a head may declare. The "
            "best on training examples that are held out (--validation, a tenth if not given) is compared."
        ),
    ] = None,
    tuned_as: Annotated[
        Path | None,
        Parameter(
            help="Folder of another comparison, whose learning rate and setting each head has here too; in place of "
            "--tune. So a study is tuned on fewer classes, and run on more."
        ),
    ] = None,
    seconds: Annotated[
        float | None,
        Parameter(
            help="Training time of every run, in place of --epochs: each head has as many epochs as fit, by a "
            "measurement beforehand. For times that hold, one run at a time: --jobs 1."
        ),
    ] = None,
    jobs: Annotated[Whole | None, Parameter(help="Runs at a time, one thread each; all cores if not given.")] = None,
    cluster: Annotated[
        str | None,
        Parameter(
            help="Train on a Ray cluster, a core or with --device cuda a GPU for each run: **local** starts one here, "
            "HOST:PORT or **auto** joins one. Needs `pip install 'softmaxes[cluster]'`."
        ),
    ] = None,
    elsewhere: Beside = None,
    out: Annotated[Path | None, Parameter(help=f"{FOLDER} *runs/DATA* if not given.")] = None,
    training: Setting = None,
    where: On = None,
    log: Log = (),
) -> int:
    """Train heads side by side on images or vectors, and write a table and a page that compare them.

    At one seed every head starts from the same trunk and sees the same batches. What is done is kept: stop it, type
    the same again, and it goes on from the last whole epoch of each run.

    ```
    # three heads on rendered characters: some minutes
    softmaxes compare
    # downloads CIFAR-100
    softmaxes compare --data cifar100
    # images of your own, a folder for each class
    softmaxes compare --data ~/photos --image-size 64
    # vectors that a network of your own gives, and their labels
    softmaxes compare --data features --data-dir embeddings.npz --heads softmax sampled adaptive hierarchical
    # every character of your own fonts
    softmaxes compare --data glyphs:all --fonts /usr/share/fonts --train-per-class 20 --test-per-class 5
    softmaxes compare --heads softmax hierarchical-groups --seeds 5
    # each head at a learning rate of its own, chosen with equal effort
    softmaxes compare --tune 6
    # as many epochs of each head as ten minutes hold
    softmaxes compare --data glyphs:1000 --heads softmax sampled hierarchical --seconds 600
    # every head that the data can serve
    softmaxes compare --heads all
    # a training set in which the rarest class has a hundredth of the most frequent one's examples
    softmaxes compare --long-tail 100 --heads softmax adaptive sampled
    # the study that this grew from, on CIFAR-100 from an archive
    softmaxes compare --study seed --data-dir cifar-100-python.tar.gz
    # on a cluster, from one of its machines
    softmaxes compare --data cifar100 --cluster auto --heads all --seeds 5
    # one head over many trees
    softmaxes compare --study trees
    ```
    """
    from softmaxes.lab.comparison.compare import compare

    comparison = compare(
        heads=heads,
        seeds=seeds,
        study=study,
        tune=tune,
        tuned_as=tuned_as,
        seconds=seconds,
        jobs=jobs,
        cluster=cluster,
        elsewhere=elsewhere,
        out=out,
        log=log,
        **given(where),
        **_options(source, training),
    )
    _print(comparison)
    return 0


def train(
    *,
    head: Annotated[str, Parameter(help="A name from `softmaxes heads`, or **module:function**.")] = "softmax",
    seed: Annotated[Whole, Parameter(help="Decides initial weights, order of examples, and noise.")] = 0,
    source: From = None,
    out: Annotated[Path | None, Parameter(help=f"{FOLDER} *runs/DATA-HEAD* if not given.")] = None,
    training: Setting = None,
    where: On = None,
    log: Log = (),
) -> int:
    """Train one head, test it after every epoch, and keep its weights and scores.

    ```
    softmaxes train --head gumbel --epochs 20
    softmaxes train --head hierarchical --data cifar10 --seed 7 --out runs/mine
    ```
    """
    from softmaxes.lab.comparison.compare import train

    _print(train(head=head, seed=seed, out=out, log=log, **given(where), **_options(source, training)))
    return 0


def repeat(
    result: Annotated[Path, Parameter(help="A file *runs/KEY.json* of what `compare` or `train` wrote.")],
    /,
    *,
    source: From = None,
    out: Annotated[Path | None, Parameter(help=f"{FOLDER} *runs/repeat-KEY* if not given.")] = None,
    where: On = None,
) -> int:
    """Train a stored run once more, on the same data, and set its accuracy beside what is stored.

    On the machine that it was stored on the two are equal to the last digit. Elsewhere numbers round otherwise: the
    interval printed is that in which 95 % of further seeds of its setting lie, by those that are stored. The page of a
    comparison has this command for every run.

    ```
    softmaxes repeat runs/glyphs/runs/0123456789abcdef.json
    softmaxes repeat runs/cifar100/runs/0123456789abcdef.json --data-dir cifar-100-python.tar.gz
    ```
    """
    from softmaxes.lab.comparison.compare import repeat
    from softmaxes.lab.report.summary import final_scores

    found = repeat(result, out=out, **given(where), **_options(source, None))
    _print(found.comparison)
    console = plain()
    before = final_scores(found.stored).accuracy
    if found.again is None or found.again.diverged is not None:
        console.print(f"accuracy: {100 * before:.2f} % stored, diverged now")
        return 0
    now = final_scores(found.again).accuracy
    said = f"accuracy: {100 * now:.2f} % now, {100 * before:.2f} % stored"
    if found.interval is not None:
        low, high = found.interval
        inside = "inside" if low <= now <= high else "outside"
        said += f"; {inside} {100 * low:.2f} to {100 * high:.2f} % ({found.seeds} seeds)"
    console.print(said)
    return 0


def report(
    directory: Annotated[Path, Parameter(help="The folder that `compare` or `train` wrote.")],
    /,
    *others: Annotated[Path, Parameter(help="More such folders, to be shown on one page with it.")],
    out: Annotated[
        Path | None, Parameter(help="Folder for the page of several; *runs/A-and-B* if not given. New, empty or ours.")
    ] = None,
    elsewhere: Beside = None,
    figures: Annotated[
        tuple[Literal["pdf", "svg"], ...],
        Parameter(consume_multiple=1, negative=(), help="Forms of the figures for a paper, beside PNG."),
    ] = (),
) -> int:
    """Write the table, the page and the figures of a comparison anew, from its stored results alone.

    Of several folders, write one page with a group of rows for each, which says what they differ in.

    ```
    softmaxes report runs/glyphs
    softmaxes report runs/glyphs runs/glyphs-longer --out runs/both
    softmaxes report runs/cifar100 --elsewhere papers.csv
    softmaxes report runs/cifar100 --figures pdf
    ```
    """
    from softmaxes.lab.comparison.finished import Comparison, side_by_side
    from softmaxes.lab.elsewhere import read_elsewhere

    if not others:
        if out is not None:
            raise InputError(f"--out: expected none with one folder, whose page is written in it, got {out}.")
        comparison = Comparison.read(directory)
        if elsewhere is not None:
            comparison = comparison.beside(read_elsewhere(elsewhere))
        comparison.write_report(figures)
        _print(comparison)
        return 0
    if figures:
        raise InputError("--figures: expected none with several folders, whose page has no files of figures; name one.")
    if elsewhere is not None:
        raise InputError(f"--elsewhere: expected none with several folders, got {elsewhere}; give it with one of them.")
    found = [Comparison.read(folder) for folder in (directory, *others)]
    out = out or Path("runs") / file_name("-and-".join(one.directory.resolve().name for one in found))
    page = side_by_side(found, out)
    for one in found:
        _print_table(one)
    plain().print(f"\nreport: {printable(str(page))}")
    return 0


def _options(source: Source | None, training: Training | None) -> dict[str, Any]:
    """The options that were typed, as the lab's functions take them."""
    return {**given(source), **given(training)}


def _print(comparison: "Comparison") -> None:
    """The table, and where the page is."""
    _print_table(comparison)
    plain().print(f"\nreport: {printable(str(comparison.page))}")


def _print_table(comparison: "Comparison") -> None:
    from softmaxes.lab.report.terminal import print_summary

    print_summary(comparison.summary, plain(soft_wrap=False))
