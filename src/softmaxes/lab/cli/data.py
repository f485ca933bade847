"""`softmaxes heads` and `softmaxes data`: what there is to compare, and on what."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.table import Table
from rich.text import Text

from softmaxes.files import InputError
from softmaxes.lab.cli.options import From, given
from softmaxes.lab.console import plain
from softmaxes.lab.records import Source
from softmaxes.names import file_name, plural, printable, typed


def list_heads(
    name: Annotated[
        str | None, Parameter(help="A head whose settings are listed, e.g. *hierarchical*; all heads if not given.")
    ] = None,
    /,
) -> int:
    """List the heads: name, what it is, and what the loss of one example costs in D features and C classes.

    A head with settings is written with a colon, wherever a head is named.

    ```
    softmaxes heads
    # what can be set of a head
    softmaxes heads hierarchical
    softmaxes compare --heads softmax hierarchical:tree=clustered,arity=4 entmax:alpha=1.2
    ```
    """
    from softmaxes.lab.heads.registry import by_kind

    if name is not None:
        return _show_head(name)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("head", no_wrap=True, style="bold")
    table.add_column("what it is")
    table.add_column("cost of a loss", no_wrap=True)
    for kind, heads in by_kind().items():
        table.add_row(Text(kind, style="bold underline"))
        for name, entry in heads.items():
            table.add_row(*map(Text, (f"  {name}", entry.summary, entry.cost)))
    plain(soft_wrap=False).print(table)
    return 0


def _show_head(name: str) -> int:
    from softmaxes.lab.heads.registry import entry_of, settings_of

    entry = entry_of(name, "NAME")
    out = plain(soft_wrap=False)
    out.print(Text(f"{name}: {entry.summary}{f' {entry.cost} a loss.' if entry.cost else ''}"))
    found = settings_of(name)
    if not found:
        out.print(Text("It has no settings."))
        return 0
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("setting", no_wrap=True, style="bold")
    table.add_column("value")
    table.add_column("one of", overflow="fold")
    table.add_column("what it is")
    for one in found:
        table.add_row(*map(Text, (one.name, "" if one.value is None else typed(one.value), one.kind, one.description)))
    out.print(table)
    return 0


def show_data(
    name: Annotated[str | None, Parameter(help="As --data; glyphs if not given.")] = None,
    /,
    *,
    source: From = None,
    out: Annotated[
        Path | None,
        Parameter(
            help="File for the sheet of images; *DATA.png* if not given. A picture of your own is not replaced. "
            "Vectors and texts have none."
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
    from softmaxes.lab.data.sources import load_source
    from softmaxes.lab.report.wording import shape_in_words

    if out is not None:
        check_out(out, MARK)
    source = source or Source()
    if name is not None and source.data is not None:
        raise InputError(f"--data: expected none beside the name {name}, got {source.data}.")
    loaded = load_source(source if name is None else Source.model_validate({**given(source), "data": name}))
    if loaded.kind != "image" and out is not None:
        raise InputError(
            f"--out: expected none with --data {loaded.name}, for {loaded.kind}s have no picture, got {out}."
        )
    card = loaded.card()
    path = out or Path(f"{file_name(card.name)}.png")
    sheet = check_out(path, MARK) if loaded.kind == "image" else None
    counts = {"train": card.train_counts, "validation": card.validation_counts, "test": card.test_counts}
    console = plain()
    console.print(Text.assemble((card.name, "bold"), f": {card.description}"))
    for part, of_class in counts.items():
        if of_class is not None:
            examples = plural(sum(of_class), card.example)
            console.print(f"{part}: {examples}, {min(of_class):,} to {max(of_class):,} a class")
    groups = "no groups" if card.group_names is None else f"{len(card.group_names):,} groups"
    if sheet is None:
        console.print(f"{len(card.class_names):,} classes, {groups}; {shape_in_words(card)}")
        for sample in card.samples:
            console.print(Text(f"{sample.text} → {card.class_names[sample.target]}"))
        return 0
    console.print(
        f"{len(card.class_names):,} classes, {groups}; images of {'x'.join(map(str, card.image_shape or ()))}"
    )
    write_sheet(loaded, sheet)
    console.print(f"samples: {printable(str(path))}")
    return 0
