"""`softmaxes predict`, `demo` and `export`: trained classifiers in use."""

import sys
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TextIO

from cyclopts import Parameter

from softmaxes.files import InputError, check_out, write_whole
from softmaxes.lab.bounds import check_range
from softmaxes.lab.cli.options import Whole
from softmaxes.lab.console import plain
from softmaxes.names import plural, printable

if TYPE_CHECKING:
    from softmaxes.lab.use.answers import Answer
    from softmaxes.lab.use.inputs import Inputs
    from softmaxes.lab.use.loading import Trained

RunOf = Annotated[
    Path,
    Parameter(help="Folder of a comparison, *runs/glyphs*, or one run in it, *runs/glyphs/runs/KEY.json*."),
]
HeadOf = Annotated[str | None, Parameter(help="Head of the comparison, where it has several.")]
SeedOf = Annotated[
    Whole | None, Parameter(help="Run of that head; if not given, the probabilities of all its runs are averaged.")
]
Trust = Annotated[
    bool,
    Parameter(
        negative=(),
        show_default=False,
        help="Import and run the Python code that the run names, *module:object*, of a head or network of your own.",
    ),
]


def predict(
    run: RunOf,
    /,
    *inputs: Annotated[
        Path,
        Parameter(
            allow_leading_hyphen=True,
            help="Images and folders of images; files of vectors, .npy or .npz; or files of texts, a text a line, "
            "*-* for standard input: what the classifier was trained on.",
        ),
    ],
    text: Annotated[
        tuple[str, ...],
        Parameter(
            consume_multiple=1, negative=(), show_default=False, help="Texts themselves, of a classifier of texts."
        ),
    ] = (),
    head: HeadOf = None,
    seed: SeedOf = None,
    top: Annotated[Whole, Parameter(help="Most probable classes of each input.")] = 5,
    format: Annotated[
        Literal["table", "csv", "jsonl"] | None,
        Parameter(
            help="**table**; **csv**, a line for each class; or **jsonl**, a line for each input. If not given, what "
            "--out ends with, and else a table."
        ),
    ] = None,
    out: Annotated[
        Path | None, Parameter(help="File for what is said, .csv or .jsonl; another file of yours is not replaced.")
    ] = None,
    device: Annotated[Literal["auto", "cpu", "cuda"], Parameter(help="*auto* takes a GPU if there is one.")] = "auto",
    trust_code: Trust = False,
) -> int:
    """Say the most probable classes of images, vectors or texts, by a classifier that `compare` or `train` trained.

    The training data are not needed. Images are scaled and cropped as those of a folder are for training. An input that
    cannot be read is named on standard error, and the rest goes on.

    ```
    softmaxes predict runs/glyphs --head softmax a.png photos/
    # one run, and the way through its tree
    softmaxes predict runs/cifar100/runs/0123456789abcdef.json photo.jpg --top 3
    softmaxes predict runs/mine --head softmax vectors.npy --out said.csv
    softmaxes predict runs/geonames --head softmax --text "Nova York" Köln
    ```
    """
    from softmaxes.lab.machine import chosen_device
    from softmaxes.lab.use.answers import JSON_MARK, MARK
    from softmaxes.lab.use.inputs import Inputs
    from softmaxes.lab.use.loading import load

    form = _format(format, out)
    check_range("--top", top, 1, 10**6)
    target = None if out is None else check_out(out, JSON_MARK if form == "jsonl" else MARK)
    classifier = load(run, head, seed, device=chosen_device(device), trust_code=trust_code)
    asked = Inputs(classifier.card, inputs, text)
    if target is None:
        said = _write(classifier, asked, top, form, sys.stdout)
    else:
        counts: list[int] = []

        def write(part: Path) -> None:
            with part.open("w", encoding="utf-8", newline="") as file:
                counts.append(_write(classifier, asked, top, form, file))
            if not counts[-1]:
                raise InputError("expected an input that can be read, got none.")

        write_whole(target, write)
        (said,) = counts
        plain().print(f"{plural(said, 'input')}: {printable(str(out))}")
    if not said:
        raise InputError("expected an input that can be read, got none.")
    return 0


def demo(
    run: RunOf,
    /,
    *,
    host: Annotated[
        str, Parameter(help="Address to listen at. The default is reached from this machine alone.")
    ] = "127.0.0.1",
    port: Annotated[Whole, Parameter(help="Port to listen at; 0 takes a free one.")] = 8000,
    trust_code: Trust = False,
) -> int:
    """Show a web page on which the heads of a comparison are asked about an image or a text.

    Each head tells its five most probable classes, and the way through its tree if it has one; the page says where
    they disagree. What is sent to the page is not stored. Needs `pip install 'softmaxes[demo]'`.

    ```
    softmaxes demo runs/glyphs
    softmaxes demo runs/cifar100/runs/0123456789abcdef.json --port 0
    ```
    """
    from softmaxes.lab.use.demo import bound, check_installed, check_kind, serve
    from softmaxes.lab.use.loading import load_each

    check_range("--port", port, 0, 2**16 - 1)
    check_installed()
    classifiers = load_each(run, trust_code=trust_code)
    check_kind(classifiers)
    with bound(host, port) as listening:
        at = listening.getsockname()
        shown = f"[{at[0]}]" if ":" in at[0] else at[0]
        console = plain()
        console.print(f"{', '.join(classifiers)}: http://{shown}:{at[1]}/  (Ctrl-C ends it)")
        with suppress(KeyboardInterrupt):
            serve(classifiers, host, listening)
    return 0


def export(
    run: RunOf,
    file: Annotated[Path, Parameter(help="File to write, .onnx or .pt2; a file that is there is not replaced.")],
    /,
    *,
    head: HeadOf = None,
    seed: SeedOf = None,
    method: Annotated[
        Literal["log_prob", "predict", "topk"],
        Parameter(
            help="**log_prob**, of every class; **predict**, the most probable class; **topk**, the most probable ones "
            "and their log-probabilities."
        ),
    ] = "topk",
    top: Annotated[Whole, Parameter(help="Classes of *topk*.")] = 5,
    trust_code: Trust = False,
) -> int:
    """Write a trained classifier as a file for other programs, compared with the classifier before it is kept.

    The file takes raw inputs, any number at a time, and standardises them itself; the names of the classes are in it.
    `.onnx` is for ONNX Runtime and its kin, and needs `pip install 'softmaxes[onnx]'`; `.pt2` is for torch.

    ```
    softmaxes export runs/glyphs glyphs.onnx --head softmax --seed 0
    softmaxes export runs/cifar100/runs/0123456789abcdef.json cifar.pt2 --method log_prob
    ```
    """
    from softmaxes.lab.use.export import NAMES, OUTPUTS, ROWS
    from softmaxes.lab.use.export import export as write
    from softmaxes.lab.use.loading import load

    check_range("--top", top, 1, 10**6)
    classifier = load(run, head, seed, trust_code=trust_code)
    made = write(classifier, file, method, top)
    inputs, outputs = NAMES[classifier.card.kind], " and ".join(OUTPUTS[method])
    console = plain()
    console.print(f"{inputs} in, {outputs} out, any number at a time: {printable(str(file))}")
    rows = ", ".join(map(str, ROWS))
    console.print(f"compared with the classifier on {rows} {inputs}: probabilities differ by {made.difference:.0e}")
    return 0


def _format(format: str | None, out: Path | None) -> str:
    known = {".csv": "csv", ".jsonl": "jsonl"}
    if out is None:
        return format or "table"
    if format == "table":
        raise InputError(f"--out: expected a file for csv or jsonl, got {out} for a table.")
    if format is None and out.suffix not in known:
        raise InputError(f"--out: expected a file .csv or .jsonl, got {out}.")
    return format or known[out.suffix]


def _write(classifier: "Trained", asked: "Inputs", top: int, form: str, file: TextIO) -> int:
    """Write what is said; how many inputs could be read. Those that could not are told on standard error."""
    from rich.progress import Progress

    from softmaxes.lab.use.answers import COLUMNS, FORMATS, LISTED, answers, as_table

    errors = plain(stderr=True)
    read = broken = 0
    rows: list[Answer] = []
    with ExitStack() as stack:
        progress = stack.enter_context(Progress(console=errors, transient=True, disable=not errors.is_terminal))
        task = progress.add_task("Predicting", total=asked.total)
        if form == "csv":
            file.write(",".join(COLUMNS) + "\n")
        for batch, said in answers(classifier, asked, top):
            for name, reason in batch.broken:
                broken += 1
                if broken <= LISTED:
                    errors.print(f"softmaxes: {name}: cannot be read: {reason}.")
            read += len(said)
            if form == "table":
                rows += said
            else:
                file.write(FORMATS[form](said))
            progress.advance(task, len(said) + len(batch.broken))
    if broken > LISTED:
        errors.print(f"softmaxes: {broken - LISTED:,} more inputs cannot be read.")
    if rows:
        plain(soft_wrap=False).print(as_table(rows))
    return read
