"""The command line: each verb a call into the lab. Torch is imported by the verbs, so that ``--help`` is quick."""

import sys

if __name__ == "__main__":  # as the command `softmaxes` is run, which can be stopped while all else is imported
    from softmaxes.lab import main as command

    sys.exit(command())

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from traceback import walk_tb
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from cyclopts import App, ConsumeMultipleError, CycloptsError, Group, Parameter, UnusedCliTokensError
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table
from rich.text import Text

import softmaxes.lab.quiet  # noqa: F401
from softmaxes import __version__
from softmaxes.files import said
from softmaxes.lab import InputError
from softmaxes.lab.console import plain, replace_unencodable
from softmaxes.lab.memory import too_little
from softmaxes.lab.options import Whole
from softmaxes.lab.run import (
    MOST_TRIALS,
    DataCard,
    Drawing,
    LeftOut,
    Result,
    Run,
    Study,
    Training,
    Tuning,
    seed_by_seed,
)
from softmaxes.lab.scale_cli import advise, scale
from softmaxes.lab.stopping import farewell, stoppable
from softmaxes.lab.tree_cli import app as tree_app
from softmaxes.names import file_name, printable

if TYPE_CHECKING:
    from softmaxes.lab.data import Data
    from softmaxes.lab.store import Store

Named = TypeVar("Named")
GLYPHS = Group("Glyphs", sort_key=1)
TRAINING = Group("Training", sort_key=2)
EVERY_HEAD = "all"
HELD_OUT = 0.1  # of the training examples, to tune on
IMAGE_SIZE = 32
NAMED_IN_TITLE = 5  # more heads than this are counted
MOST_RUNS = 10_000  # of a study
MOST_JOBS = 1000  # processes
LINE = 900  # characters of an error
SHOWN = 60  # of a value in it
FOLDER = "Folder for the results: new, empty, or one of ours, whose runs are kept and whose page is written anew;"
STOPPED, UNREAD = 130, 141  # exit codes: 128 and the number of SIGINT, of SIGPIPE

app = App(
    name="softmaxes",
    version=__version__,
    help="""Train classifiers that differ only in their softmax, and compare them fairly.

Begin with `softmaxes compare`: minutes later there is a table and a page, `runs/glyphs/report.html`.
""",
    help_format="markdown",
    help_epilogue="`softmaxes VERB --help` has the options of a verb, with examples.",
    default_parameter=Parameter(json_list=False, json_dict=False),  # a path may begin with [ or {
    result_action="return_value",
    suppress_keyboard_interrupt=False,  # `main` says how to go on
)

app.command(tree_app)
app.command(scale, sort_key=7)
app.command(advise, sort_key=8)

DataName = Annotated[
    str,
    Parameter(
        help="**glyphs** (100 kinds of characters, rendered here), **glyphs:1000** (any number of kinds), "
        "**glyphs:all** (as many as the fonts hold, some 4,000, or more with --fonts), **cifar100** or "
        "**cifar10** (downloaded unless --data-dir says where it lies), **features** (vectors and labels of your "
        "own, see --data-dir), or the path of a folder of images with a folder for each class."
    ),
]
DataDir = Annotated[
    Path | None,
    Parameter(
        help="Where the data lies: a folder, or an archive of CIFAR. Of **features** a file .npz with the arrays "
        "*train_features*, *train_labels*, *test_features* and *test_labels*; or a folder with these as .npy files, "
        "or with *train.parquet* and *test.parquet*."
    ),
]
ImageSize = Annotated[Whole, Parameter(help="Side in pixels to which the images of a folder are brought, 16 to 1024.")]
LongTail = Annotated[
    float | None,
    Parameter(
        help="Train on a part in which classes become rarer exponentially (Cui et al. 2019): the first keeps all its "
        "training examples, the last one in so many. The test set stays as it is."
    ),
]
HowDrawn = Annotated[Drawing | None, Parameter(name="*", group=GLYPHS)]
Device = Annotated[
    Literal["auto", "cpu", "cuda"],
    Parameter(help="Where to train; *auto* takes a GPU if there is one.", group=TRAINING),
]
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


@app.command(sort_key=1)
def compare(
    *,
    data: DataName | None = None,
    data_dir: DataDir = None,
    image_size: ImageSize = IMAGE_SIZE,
    drawing: HowDrawn = None,
    long_tail: LongTail = None,
    heads: Annotated[
        tuple[str, ...] | None,
        Parameter(
            consume_multiple=1,
            negative=(),
            help="Names from `softmaxes heads`, e.g. *softmax gumbel*; or **all**: every head that the data can serve.",
        ),
    ] = None,
    seeds: Annotated[Whole, Parameter(help="How many seeds a head; the intervals are over them.")] = 3,
    study: Annotated[
        str | None,
        Parameter(
            help="A study with heads of its own: **seed**, the original one; **fair**, heads that differ in kind, each "
            "tuned with the same effort; **trees**, what a tree is worth."
        ),
    ] = None,
    tune: Annotated[
        Whole | None,
        Parameter(
            help="Settings to try of each head: the learning rate, and one setting more that a head may declare. The "
            "best on training examples that are held out (--validation, a tenth if not given) is compared."
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
    out: Annotated[Path | None, Parameter(help=f"{FOLDER} *runs/DATA* if not given.")] = None,
    training: Setting = None,
    device: Device = "auto",
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
    from softmaxes.lab.studies import STUDIES

    _check_runs(1, seeds)
    if tune is not None:
        _between("--tune", tune, 2, MOST_TRIALS)
    if jobs is not None:
        _between("--jobs", jobs, 1, MOST_JOBS)
    changes = {} if training is None else training.model_dump(include=training.model_fields_set)
    if seconds is not None and cluster is not None:
        raise InputError(f"--seconds: expected none with --cluster, whose machines may differ, got {seconds:g}.")
    if cluster is not None:
        from softmaxes.lab.cluster import require_ray

        require_ray()
    _check_log(log)
    if seconds is not None and not 0 < seconds <= 10**9:
        raise InputError(f"--seconds: expected more than 0, got {seconds:g}.")
    if seconds is not None and "epochs" in changes:
        raise InputError(f"--epochs: expected none with --seconds, which decides on them, got {changes['epochs']}.")
    _check_out(out)
    if study is not None:
        entry = _named("--study", study, STUDIES)
        if heads is not None:
            raise InputError(f"--heads: expected none with --study {study}, which has its own, got {' '.join(heads)}.")
        loaded = _load(data or entry.data, data_dir, image_size, drawing, long_tail)
        card = loaded.card()
        _check_runs(len(entry.make(card, 1, changes).runs), seeds)
        chosen = entry.make(card, seeds, changes)
    else:
        names = _heads("--heads", ("softmax", "gumbel", "hierarchical") if heads is None else heads, all_too=True)
        _check_runs(len(names), seeds)
        loaded = _load(data or "glyphs", data_dir, image_size, drawing, long_tail)
        chosen = _comparison(loaded, names, range(seeds), changes)
    named = data or ("glyphs" if study is None else entry.data)
    chosen = chosen.model_copy(update={"data_options": _data_options(named, data_dir, image_size, drawing, long_tail)})
    name = loaded.name if study is None else f"{study}-{loaded.name}"
    trials = tune if tune is not None or chosen.tuning is None else chosen.tuning.trials
    if trials is not None:
        chosen = _tuned(chosen, trials, changes)
    if seconds is not None:
        said = f"{chosen.description} Each head has as many epochs as {seconds:g} seconds of training hold."
        chosen = chosen.model_copy(update={"budget": seconds, "description": said})
    return _execute(chosen, loaded, out or Path("runs") / file_name(name), jobs, device, cluster, log)


@app.command(sort_key=2)
def train(
    *,
    head: Annotated[str, Parameter(help="A name from `softmaxes heads`.")] = "softmax",
    seed: Annotated[Whole, Parameter(help="Decides initial weights, order of examples, and noise.")] = 0,
    data: DataName = "glyphs",
    data_dir: DataDir = None,
    image_size: ImageSize = IMAGE_SIZE,
    drawing: HowDrawn = None,
    long_tail: LongTail = None,
    out: Annotated[Path | None, Parameter(help=f"{FOLDER} *runs/DATA-HEAD* if not given.")] = None,
    training: Setting = None,
    device: Device = "auto",
    log: Log = (),
) -> int:
    """Train one head, test it after every epoch, and keep its weights and scores.

    ```
    softmaxes train --head gumbel --epochs 20
    softmaxes train --head hierarchical --data cifar10 --seed 7 --out runs/mine
    ```
    """
    _between("--seed", seed, 0, 2**63 - 1)
    names = _heads("--head", (head,))
    _check_log(log)
    _check_out(out)
    changes = {} if training is None else training.model_dump(include=training.model_fields_set)
    loaded = _load(data, data_dir, image_size, drawing, long_tail)
    chosen = _comparison(loaded, names, [seed], changes)
    words = _data_options(data, data_dir, image_size, drawing, long_tail)
    chosen = chosen.model_copy(update={"data_options": words})
    return _execute(chosen, loaded, out or Path("runs") / f"{file_name(loaded.name)}-{head}", 1, device, log=log)


@app.command(sort_key=3)
def repeat(
    result: Annotated[Path, Parameter(help="A file *runs/KEY.json* of what `compare` or `train` wrote.")],
    /,
    *,
    data: DataName | None = None,
    data_dir: DataDir = None,
    image_size: ImageSize = IMAGE_SIZE,
    drawing: HowDrawn = None,
    long_tail: LongTail = None,
    out: Annotated[Path | None, Parameter(help=f"{FOLDER} *runs/repeat-KEY* if not given.")] = None,
    device: Device = "auto",
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
    from softmaxes.lab.report.summary import final_scores, next_one
    from softmaxes.lab.store import Store, read_record

    if not result.is_file():
        raise InputError(f"{result}: expected a file runs/KEY.json of `softmaxes compare`, got none.")
    stored = read_record(result, Result)
    if stored.diverged is not None:
        raise InputError(f"{result}: expected a run that finished, got one that diverged in epoch {stored.diverged}.")
    run = stored.run
    folder = out or Path("runs") / f"repeat-{run.key}"
    _check_out(folder)
    loaded = _load(data or run.data, data_dir, image_size, drawing, long_tail)
    if loaded.fingerprint != run.fingerprint:
        raise InputError(
            f"{loaded.source}: expected the data of {result}, {run.data} with fingerprint {run.fingerprint[:16]}, "
            f"got {loaded.name} with {loaded.fingerprint[:16]}."
        )
    study = Study(name=run.data, title=f"{run.head} on {run.data}, once more", description="A repetition.", runs=(run,))
    code = _execute(study, loaded, folder, 1, device)
    again = Store(folder).result(run)
    others = Store(result.parent.parent)
    seeds = others.results(others.study()) if others.has_study() else []
    known = [final_scores(one).accuracy for one in seeds if one.run.setting == run.setting and one.diverged is None]
    console = plain()
    if again is None or again.diverged is not None:
        console.print(f"accuracy: {100 * final_scores(stored).accuracy:.2f} % stored, diverged now")
        return code
    now, before = final_scores(again).accuracy, final_scores(stored).accuracy
    interval = next_one(known) if len(known) > 1 else None
    said = f"accuracy: {100 * now:.2f} % now, {100 * before:.2f} % stored"
    if interval is not None:
        inside = "inside" if interval[0] <= now <= interval[1] else "outside"
        said += f"; {inside} {100 * interval[0]:.2f} to {100 * interval[1]:.2f} % ({len(known)} seeds)"
    console.print(said)
    return code


@app.command(sort_key=3)
def report(directory: Annotated[Path, Parameter(help="The folder that `compare` or `train` wrote.")], /) -> int:
    """Write the table, the page and the figures of a comparison anew, from its stored results alone.

    ```
    softmaxes report runs/glyphs
    ```
    """
    from softmaxes.lab.store import Store

    store = Store(directory)
    study = store.study()
    store.check()
    _report(store, study, store.results(study))
    return 0


@app.command(sort_key=4, name="heads")
def list_heads() -> int:
    """List the heads: name, what it is, and what the loss of one example costs in D features and C classes."""
    from softmaxes.lab.heads import HEADS

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("head", no_wrap=True, style="bold")
    table.add_column("what it is")
    table.add_column("cost of a loss", no_wrap=True)
    for name, entry in HEADS.items():
        table.add_row(*map(Text, (name, entry.summary, entry.cost)))
    plain(soft_wrap=False).print(table)
    return 0


@app.command(sort_key=5, name="data")
def show_data(
    data: DataName = "glyphs",
    /,
    *,
    data_dir: DataDir = None,
    image_size: ImageSize = IMAGE_SIZE,
    drawing: HowDrawn = None,
    long_tail: LongTail = None,
    out: Annotated[
        Path | None,
        Parameter(
            help="File for the sheet of images; *DATA.png* if not given. Another picture is not replaced. None of "
            "vectors."
        ),
    ] = None,
) -> int:
    """Count a data set's examples and classes, and draw a sheet of sample images.

    ```
    softmaxes data glyphs
    softmaxes data glyphs:1000 --out sheet.png
    softmaxes data glyphs:all --fonts /usr/share/fonts --train-per-class 20 --test-per-class 5
    softmaxes data cifar100 --data-dir cifar-100-python.tar.gz
    ```
    """
    from softmaxes.files import check_out
    from softmaxes.lab.data.sheet import MARK, write_sheet
    from softmaxes.lab.report.wording import shape_in_words

    if out is not None:
        check_out(out, MARK)
    loaded = _load(data, data_dir, image_size, drawing, long_tail)
    if loaded.of_vectors and out is not None:
        raise InputError(f"--out: expected none with --data {data}, for vectors have no picture, got {out}.")
    card = loaded.card()
    path = out or Path(f"{file_name(card.name)}.png")
    sheet = None if loaded.of_vectors else check_out(path, MARK)
    counts = {"train": card.train_counts, "test": card.test_counts}
    console = plain()
    console.print(Text.assemble((card.name, "bold"), f": {card.description}"))
    for part, of_class in counts.items():
        console.print(f"{part}: {sum(of_class):,} {card.example}s, {min(of_class):,} to {max(of_class):,} a class")
    groups = "no groups" if card.group_names is None else f"{len(card.group_names):,} groups"
    if sheet is None:
        console.print(f"{len(card.class_names):,} classes, {groups}; {shape_in_words(card)}")
        return 0
    console.print(
        f"{len(card.class_names):,} classes, {groups}; images of {'x'.join(map(str, card.image_shape or ()))}"
    )
    write_sheet(loaded, sheet)
    console.print(f"samples: {printable(str(path))}")
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: words after the program's name; those it was called with if not given.

    Returns:
        The exit code: 0, or 2 after one line on standard error that says what was expected and what came. Where a
        signal stopped it, 128 and the signal's number, as shells have it: 130 of Ctrl-C, 129 of SIGHUP, 143 of SIGTERM,
        after a line that says how to go on; 141, of SIGPIPE, and no word where nobody reads on, as in a pipe to `head`.
    """
    replace_unencodable()
    with stoppable() as came:
        code, line = _run(arguments, came)
        if code == STOPPED or (came and code != 0):  # whatever else came of it
            return farewell(came)
        if line:
            with suppress(OSError):  # of a terminal that was closed
                plain(stderr=True).print(f"softmaxes: {_printable(line)}")
        return code


def _run(arguments: Sequence[str] | None, came: Sequence[int]) -> tuple[int, str]:
    """The exit code of the command line, and the line that says why if it is not 0; `came` has signals that came."""
    try:
        code = app(arguments, exit_on_error=False, print_error=False)
        if sys.stdout is not None:
            sys.stdout.flush()
    except (InputError, CycloptsError, ValidationError) as error:
        return 2, _one_line(error)
    except SystemExit as error:
        if isinstance(error.__context__, BrokenPipeError):  # rich has it that way
            return UNREAD, ""
        raise
    except OSError as error:
        return 2, f"{_of_output(error)}{said(error)}."
    except (MemoryError, RuntimeError) as error:
        if came:
            return STOPPED, ""
        if not too_little(error):
            raise
        return 2, "expected enough memory for these data, got too little."
    except KeyboardInterrupt:
        return STOPPED, ""
    except Exception:
        if came:  # what was cut off may have led to anything
            return STOPPED, ""
        raise
    return (code if isinstance(code, int) else 0), ""


def _of_output(error: OSError) -> str:
    """What the system does not say: that it is standard output which takes no more."""
    *_, (frame, _) = walk_tb(error.__traceback__)
    wrote = frame.f_globals["__name__"].startswith((f"{__package__}.", "rich."))
    return "standard output: " if error.filename is None and wrote else ""


def _one_line(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        said = first["msg"].removeprefix("Value error, ").replace("Input should be", "expected")
        if not first["loc"]:  # of a whole record, which may be long
            return f"{said}."
        option = "--" + "-".join(str(part) for part in first["loc"]).replace("_", "-")
        return f"{option}: {said}, got {printable(str(first['input']), SHOWN)}."
    if isinstance(error, ConsumeMultipleError) and error.keyword is not None:
        return f"{error.keyword}: expected a value or more, got none."
    if isinstance(error, UnusedCliTokensError):
        word, *others = error.unused_tokens or [""]
        verb = " ".join(["softmaxes", *(error.command_chain or [])])
        more = f" and {len(others):,} more" if others else ""
        return f"{verb}: expected options, see {verb} --help, got {printable(word, SHOWN)!r}{more}."
    if isinstance(error.__cause__, ValidationError):
        return _one_line(error.__cause__)
    return " ".join(str(error).split())


def _printable(text: str) -> str:
    """One line of some length: an error may quote a stranger's file."""
    return printable(text, LINE)


def _between(option: str, value: int, least: int, most: int) -> None:
    _at_least(option, value, least)
    if value > most:
        raise InputError(f"{option}: expected {most:,} or less, got {_number(value)}.")


def _number(value: int) -> str:
    """A number as a reader reads it; Python refuses to write one of thousands of digits."""
    if abs(value) < 10**20:
        return f"{value:,}"
    return "more than 10^20" if value > 0 else "less than -10^20"


def _check_runs(heads: int, seeds: int) -> None:
    """Refuse more runs than a study may have, before they are made."""
    _at_least("--seeds", seeds, 1)
    if heads * seeds > MOST_RUNS:
        raise InputError(
            f"--seeds: expected a study of at most {MOST_RUNS:,} runs, "
            f"got {heads} {'head' if heads == 1 else 'heads'} at {_number(seeds)} seeds."
        )


def _at_least(option: str, value: int, least: int) -> None:
    if value < least:
        raise InputError(f"{option}: expected {least} or more, got {_number(value)}.")


def _check_out(out: Path | None) -> None:
    """Refuse a folder that is not ours to write to, before anything is loaded."""
    if out is not None:
        from softmaxes.lab.store import Store

        Store(out).check()


def _check_log(names: Sequence[str]) -> None:
    """Refuse trackers that are not installed, before anything is loaded or written."""
    if len(set(names)) < len(names):
        raise InputError(f"--log: expected each tracker once, got {' '.join(names)}.")
    if names:
        from softmaxes.lab.trackers import require

        require(names)


def _named(option: str, name: str, known: dict[str, Named]) -> Named:
    from difflib import get_close_matches

    if name not in known:
        near = get_close_matches(name, known, 1)
        hint = f"; did you mean {near[0]}?" if near else "."
        raise InputError(f"{option}: expected one of {', '.join(known)}, got {name}{hint}")
    return known[name]


def _heads(option: str, names: Sequence[str], all_too: bool = False) -> tuple[str, ...]:
    """The names of heads, each known; where `all_too` says so, perhaps `EVERY_HEAD` alone."""
    from softmaxes.lab.heads import HEADS

    if all_too and EVERY_HEAD in names and len(names) > 1:
        raise InputError(f"{option}: expected {EVERY_HEAD} alone, or names of heads, got {' '.join(names)}.")
    known: dict[str, object] = {**({EVERY_HEAD: None} if all_too else {}), **HEADS}
    for name in names:
        _named(option, name, known)
    if len(set(names)) < len(names):
        raise InputError(f"{option}: expected each head once, got {' '.join(names)}.")
    return tuple(names)


def _load(
    name: str, data_dir: Path | None, image_size: int, drawing: Drawing | None, ratio: float | None = None
) -> "Data":
    from softmaxes.lab.data import load
    from softmaxes.lab.data.long_tail import check_ratio, long_tail

    if ratio is not None:
        check_ratio(ratio)
    _data_options(name, data_dir, image_size, drawing, ratio)  # refuses what the report cannot name
    if not 16 <= image_size <= 1024:
        raise InputError(f"--image-size: expected 16 to 1024 pixels, got {image_size}.")
    data = load(name, data_dir, image_size, drawing)
    return data if ratio is None else long_tail(data, ratio)


def _data_options(
    data: str, data_dir: Path | None, image_size: int, drawing: Drawing | None, ratio: float | None
) -> tuple[str, ...]:
    """The words that name the data again; of a path its name alone, for a report is sent to others."""
    options = {"--data": Path(data).name if "/" in data or "\\" in data else data}
    if data_dir is not None:
        options["--data-dir"] = data_dir.name
    if image_size != IMAGE_SIZE:
        options["--image-size"] = str(image_size)
    for name, value in {} if drawing is None else drawing.model_dump(exclude_defaults=True).items():
        options[f"--{name.replace('_', '-')}"] = value.name if isinstance(value, Path) else str(value)
    if ratio is not None:
        options["--long-tail"] = f"{ratio:g}"
    words: list[str] = []
    for option, text in options.items():
        if not text.isprintable():
            raise InputError(f"{option}: expected a name of printable characters, got {printable(ascii(text), SHOWN)}.")
        words += [f"{option}={text}"] if text.startswith("-") else [option, text]  # or it would be an option itself
    return tuple(words)


def _comparison(data: "Data", heads: Sequence[str], seeds: Sequence[int], changes: dict[str, Any]) -> Study:
    settings = {"data": data.name, "fingerprint": data.fingerprint, **changes}
    left_out: tuple[LeftOut, ...] = ()
    if EVERY_HEAD in heads:
        heads, left_out = _that_fit(data, settings)
    _check_runs(len(heads), len(seeds))
    return Study(
        name=data.name,
        title=f"{' · '.join(heads) if len(heads) <= NAMED_IN_TITLE else f'{len(heads)} heads'} on {data.name}",
        description="Classifiers that differ in their output layer alone.",
        runs=seed_by_seed(heads, seeds, **settings),
        left_out=left_out,
    )


def _tuned(study: Study, trials: int, changes: dict[str, Any]) -> Study:
    """The study, to be tuned."""
    if "lr" in changes:
        raise InputError(f"--lr: expected none with --tune, which decides on it, got {changes['lr']:g}.")
    if changes.get("validation") == 0:
        raise InputError("--validation: expected more than 0 with --tune, which chooses on what is held out, got 0.")
    said = (
        f"{study.description} The learning rate of each head, and one setting more of some, is the best of {trials} on "
        "training examples that are held out."
    )
    held_out = study.runs[0].validation or HELD_OUT
    runs = tuple(run.model_copy(update={"validation": held_out}) for run in study.runs)
    return study.model_copy(update={"runs": runs, "tuning": Tuning(trials=trials), "description": said})


def _that_fit(data: "Data", settings: dict[str, Any]) -> tuple[list[str], tuple[LeftOut, ...]]:
    """Every head that the data can serve, and every other one with the reason."""
    from softmaxes.lab.heads import HEADS
    from softmaxes.lab.study import check
    from softmaxes.lab.train import UnfitError

    card = data.card()
    reasons: dict[str, str] = {}
    for head in HEADS:
        try:
            check(Run(head=head, **settings), data, card)
        except UnfitError as error:
            reasons[head] = str(error).removeprefix(f"{head}: ")
    if len(reasons) == len(HEADS):
        told = "; ".join(dict.fromkeys(reason.rstrip(".") for reason in reasons.values()))
        raise InputError(f"--heads: expected data that at least one head can serve, got {data.name} ({told}).")
    left_out = tuple(LeftOut(head=head, reason=reason) for head, reason in reasons.items())
    return [head for head in HEADS if head not in reasons], left_out


def _execute(
    study: Study,
    data: "Data",
    out: Path,
    jobs: int | None,
    device: str,
    cluster: str | None = None,
    log: Sequence[str] = (),
) -> int:
    import torch

    from softmaxes.lab.budget import fit
    from softmaxes.lab.data import usable_cores
    from softmaxes.lab.store import Store
    from softmaxes.lab.study import execute
    from softmaxes.lab.tune import tune

    if jobs is not None:
        _at_least("--jobs", jobs, 1)
    if cluster is None:  # otherwise its machines say what there is
        if device == "cuda" and not torch.cuda.is_available():
            raise InputError("--device: expected a GPU that torch can use for cuda, got none.")
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        jobs = jobs or (1 if device == "cuda" else usable_cores())
    store, console = Store(out), Console(stderr=True)
    with store.lock():
        before = store.study() if store.has_study() else None
        if study.budget is not None:
            study = fit(study, data, device, before, console)
            if before is None:  # or what is cut off while it is tuned would be measured anew
                store.save_study(study, data.card())
        if before is not None and _replaced(before, study) and (out / "report.html").exists():
            anew = "" if before.budget is None else ", at numbers of epochs that are measured anew"
            console.print(
                f"{out}: the page here shows another comparison, {before.title}. It makes room for this one; the runs "
                f"of both are kept, and the other's command brings its page back{anew}. With another --out both pages "
                "stay.",
                highlight=False,
                markup=False,
                soft_wrap=True,
            )
        if study.tuning is not None:
            study = tune(study, data, store, jobs, device, console, cluster)
        try:
            execute(study, data, store, jobs, device, console, cluster, log)
        finally:  # unless it was refused, and the folder keeps what was there before
            if store.has_study() and store.study() == study and (results := store.results(study)):
                _report(store, study, results)
    return 0


def _check_on(card: DataCard, store: "Store", results: Sequence[Result]) -> None:
    """Refuse results that do not fit the data that they are said to be on; those on other data the report refuses."""
    from softmaxes.lab.agreement import check_on

    for result in results:
        if result.run.fingerprint == card.fingerprint:
            try:
                check_on(result, card)
            except ValueError as error:
                path = store.weights(result.run).with_suffix(".json")
                raise InputError(f"{path}: expected a run on the data {card.name}: {error}.") from None


def _replaced(before: Study, study: Study) -> bool:
    """Whether a study leaves out a run of the one before it, whatever is tuned in both."""
    tuned = {"lr", "knob"} if before.tuning is not None and study.tuning is not None else set()
    kept = {run.model_dump_json(exclude=tuned) for run in study.runs}
    return any(run.model_dump_json(exclude=tuned) not in kept for run in before.runs)


def _report(store: "Store", study: Study, results: Sequence[Result]) -> None:
    from softmaxes.lab.report import print_table, write_report

    card = store.card()
    _check_on(card, store, results)
    page = write_report(study, card, results, store.directory)  # whatever the terminal can show
    print_table(study, card, results, plain(soft_wrap=False))
    plain().print(f"\nreport: {printable(str(page))}")
