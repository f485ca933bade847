"""`softmaxes tree`: class trees built, shown, converted and compared."""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from cyclopts import App, Parameter
from rich.table import Table
from rich.text import Text

from softmaxes.files import InputError, check_regular, read_whole
from softmaxes.lab.bounds import check_between, check_range
from softmaxes.lab.cli.options import From, Whole
from softmaxes.lab.console import plain
from softmaxes.lab.records import DataCard, Result, Source
from softmaxes.names import printable

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from softmaxes import Tree

Given = TypeVar("Given")
PAIRS = 200_000  # of classes, drawn to compare the distances of two trees
MOST_CLASSES = 10**7  # of a tree that is made from their number alone, and so written
MOST_TEXT = 2**29  # bytes of a file with a line a class
MOST_LINE = 100_000  # characters of it
MOST_FILES = 1000  # with trees to compare
SHOWN = 60  # characters of a class's name in a message
REPLACED = "One that is there is replaced if it is such a tree in JSON, else refused unless it is the same."

app = App(
    name="tree",
    sort_key=6,
    help_format="markdown",
    result_action="return_value",
    help="""Build class trees, look at them, convert and compare them.

A tree file is this project's JSON, or CSV with a row `parent,child` for each edge; other programs' formats are read and
written with `--format`.
""",
)

USED: dict[str, tuple[str, ...]] = {  # of the options of `build`, beside the data, whose names any tree takes
    "balanced": ("classes", "arity"),
    "random": ("classes", "arity", "seed"),
    "huffman": ("counts", "arity"),
    "groups": (),
    "paths": ("paths",),
    "clustered": ("vectors", "arity", "seed"),
    "agglomerative": ("vectors", "arity"),
    "confusion": ("result", "arity"),
    "trained": ("result",),
}
Method = Literal[
    "balanced", "random", "huffman", "groups", "paths", "clustered", "agglomerative", "confusion", "trained"
]
TreeFile = Annotated[Path, Parameter(help="A file with a tree, from `softmaxes tree build` or another program.")]
Format = Annotated[
    Literal["json", "csv", "nested", "nbdt", "napkinxc"] | None,
    Parameter(help="What the file is, where its name does not say it: .json is this project's own, .csv edges."),
]
ResultFile = Annotated[
    Path | None, Parameter(help="A finished run's JSON, in the folder *runs* of a comparison: for its test results.")
]


@app.command(sort_key=1)
def build(
    method: Annotated[Method, Parameter(help="Where the tree comes from; see above.")],
    /,
    *,
    out: Annotated[Path, Parameter(help=f"File for the tree, .json or .csv. {REPLACED}")],
    classes: Annotated[Whole | None, Parameter(help="How many classes, for *balanced* and *random*.")] = None,
    source: From = None,
    counts: Annotated[Path | None, Parameter(help="Counts of the classes, a number a line, or .npy.")] = None,
    paths: Annotated[Path | None, Parameter(help="A path a line, such as *animal/mammal/dog*.")] = None,
    vectors: Annotated[
        Path | None, Parameter(help="Class vectors: .npy of shape (classes, features), or a run's .safetensors.")
    ] = None,
    result: ResultFile = None,
    arity: Annotated[Whole | None, Parameter(help="Children of a node; 2 if not given.")] = None,
    seed: Annotated[Whole | None, Parameter(help="Decides what is drawn by chance; 0 if not given.")] = None,
) -> int:
    """Build a tree over classes.

    - **balanced**, **random**: from `--classes` or `--data`; in their order, or in one drawn by chance
    - **huffman**: from `--counts` or `--data`; frequent classes near the root
    - **groups**: from `--data`, its own groups
    - **paths**: from `--paths`
    - **clustered**, **agglomerative**: from `--vectors`; by balanced k-means from the top, or Ward's method from below
    - **confusion**: from `--result`; classes that are confused lie together
    - **trained**: from `--result`; the tree that the run was trained over

    `--data` gives any of them the names of its classes; of **paths**, which have names, it gives the classes' order.

    ```
    softmaxes tree build balanced --classes 1000 --arity 10 --out tree.json
    softmaxes tree build huffman --data glyphs:1000 --out huffman.json
    softmaxes tree build paths --paths species.txt --out species.json
    softmaxes tree build clustered --vectors runs/glyphs/runs/0123456789abcdef.safetensors --out learned.json
    ```
    """
    from softmaxes import Tree

    if classes is not None:
        check_range("--classes", classes, 2, MOST_CLASSES)
    if seed is not None:
        check_range("--seed", seed, -(2**63), 2**64 - 1)
    check_between("--arity", arity, 2, MOST_CLASSES)
    options = {"classes": classes, "counts": counts, "paths": paths, "vectors": vectors, "result": result}
    for option, value in (options | {"arity": arity, "seed": seed}).items():
        if value is not None and option not in USED[method]:
            raise InputError(
                f"--{option}: expected none with tree build {method}, which has no use for it, got {value}."
            )
    most, arity, seed = arity, arity or 2, seed or 0
    card = _card(source)
    with _one_line(counts or paths or vectors or result):
        if method in ("balanced", "random"):
            number = len(card.class_names) if card is not None and classes is None else classes
            size = _given(method, "--classes or --data", number)
            tree = Tree.balanced(size, arity) if method == "balanced" else Tree.random(size, arity, seed)
        elif method == "huffman":
            if counts is None:
                tree = Tree.huffman(_given(method, "--counts or --data", card).train_counts, arity)
            else:
                tree = Tree.huffman(_numbers(counts), arity)
        elif method == "groups":
            known = _given(method, "--data", card)
            if known.group_of_class is None:
                raise InputError(f"--data: expected data with groups of classes, got {known.name}, which has none.")
            tree = Tree.from_groups(known.group_of_class, *known.coarser_groups)
        elif method == "paths":
            tree = Tree.from_paths(_lines(_given(method, "--paths", paths)))
        elif method == "clustered":
            tree = Tree.clustered(_vectors(_given(method, "--vectors", vectors)), arity, seed=seed)
        elif method == "agglomerative":
            tree = Tree.agglomerative(_vectors(_given(method, "--vectors", vectors)), arity)
        elif method == "confusion":
            tree = Tree.from_confusion(_confusion(_given(method, "--result", result)), arity)
        else:
            tree = _trained(_given(method, "--result", result))
        if most is not None and most > tree.num_classes:
            raise InputError(f"--arity: expected at most {tree.num_classes:,}, as there are classes, got {most:,}.")
        tree = _fitted(tree, card, f"tree build {method}" if paths is None else str(paths))
        _write(_named(tree, card), out)
    plain().print(f"{tree!r}: {printable(str(out))}")
    return 0


@app.command(sort_key=2)
def show(
    file: TreeFile,
    /,
    *,
    format: Format = None,
    source: From = None,
    result: ResultFile = None,
    lines: Annotated[Whole, Parameter(help="Lines to print at most; what does not fit is counted.")] = 40,
    out: Annotated[
        Path | None, Parameter(help="File for a page with all of the tree, .html; another page is not replaced.")
    ] = None,
) -> int:
    """Print a tree, folded to fit, and draw all of it on a page.

    With a run's result every node shows how many of the test examples below it were kept below it. With `--data`
    classes are called as there; where the tree has names, they are the same, and say which leaf is which class.

    ```
    softmaxes tree show tree.json
    softmaxes tree show tree.json --data glyphs --result runs/glyphs/runs/0123456789abcdef.json --out tree.html
    ```
    """
    from softmaxes.files import check_out, write_bytes
    from softmaxes.lab.report.page import TREE_MARK, render_tree
    from softmaxes.lab.report.tree import icicle_svg, terminal_tree
    from softmaxes.metrics import node_accuracy

    if lines < 1:
        raise InputError(f"--lines: expected 1 or more, got {lines}.")
    page = None if out is None else check_out(out, TREE_MARK)
    with _one_line():
        card = _card(source)
        tree = _fitted(_read(file, format), card, str(file))
        names = None if card is None else card.class_names
        values = None if result is None else node_accuracy(_triples(_result(result), tree.num_classes), tree).numpy()
        plain(soft_wrap=False).print(repr(tree), terminal_tree(tree, names, values, lines))
        if page is not None:
            svg = icicle_svg(tree, names, values)
            title = f"{printable(file.name)}: {tree.num_classes:,} classes, depth {tree.depth}"
            write_bytes(page, render_tree(title, svg).encode())
            plain().print(f"page: {printable(str(out))}")
    return 0


@app.command(sort_key=3)
def export(
    file: TreeFile,
    /,
    *,
    out: Annotated[Path, Parameter(help=f"File for the tree. {REPLACED}")],
    format: Format = None,
    source_format: Annotated[
        Literal["json", "csv", "nested", "nbdt", "napkinxc"] | None,
        Parameter(help="What the file that is read is, where neither its name nor its content says it."),
    ] = None,
) -> int:
    """Write a tree in another format: edges in CSV, nested JSON, the NBDT project's JSON, napkinXC's text.

    ```
    softmaxes tree export tree.json --out tree.csv
    softmaxes tree export tree.json --out graph.json --format nbdt
    softmaxes tree export theirs.txt --source-format napkinxc --out ours.json
    ```
    """
    with _one_line():
        tree = _read(file, source_format)
        _write(tree, out, format)
    plain().print(f"{tree!r}: {printable(str(out))}")
    return 0


@app.command(sort_key=4)
def compare(
    files: Annotated[tuple[Path, ...], Parameter(help="Files with trees over the same classes.")],
    /,
    *,
    source: From = None,
    result: ResultFile = None,
) -> int:
    """Set trees side by side: shape, decisions an example, and how alike the distances of classes are.

    Likeness is the cophenetic correlation (Sokal and Rohlf, 1962): the correlation, over pairs of classes, of their
    distance in a tree with that in the first. With a run's result, each tree judges its mistakes. Classes are matched
    by name where trees, or a tree and the data, have the same names; trees with other names, or none, by number.

    ```
    softmaxes tree compare balanced.json huffman.json --data glyphs
    softmaxes tree compare groups.json learned.json --result runs/glyphs/runs/0123456789abcdef.json
    ```
    """
    import torch

    if len(files) > MOST_FILES:
        raise InputError(f"expected at most {MOST_FILES:,} files with trees, got {len(files):,}.")
    with _one_line():
        trees = [_read(file, None) for file in files]
        sizes = {tree.num_classes for tree in trees}
        if len(sizes) > 1:
            raise InputError(f"expected trees over the same number of classes, got {sorted(sizes)}.")
        card = _card(source)
        trees = [_fitted(tree, card, str(file)) for file, tree in zip(files, trees, strict=True)]
        counts = None if card is None else card.train_counts
        judged = None if result is None else _result(result)
        generator = torch.Generator().manual_seed(0)
        one, other = torch.randint(trees[0].num_classes, (2, PAIRS), generator=generator)
        one, other = one[one != other], other[one != other]
        like_first = [
            tree if (order := _order(tree, _leaves(trees[0]))) is None else _put(tree, order) for tree in trees
        ]
        distances = [tree.distance(one, other).double() for tree in like_first]
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
        titles = ["tree", "classes", "nodes", "depth", "arity", "mean path"]
        titles += (
            ["by counts"] * (counts is not None) + ["like the first"] + ["mistakes' height"] * (judged is not None)
        )
        for title in titles:
            table.add_column(title, justify="left" if title == "tree" else "right", no_wrap=title == "tree")
        for file, tree, distance in zip(files, trees, distances, strict=True):
            cells = [f"{tree.num_classes:,}", f"{tree.num_nodes:,}", str(tree.depth), str(tree.arity)]
            cells.append(f"{tree.expected_path_length([1] * tree.num_classes):.2f}")
            if counts is not None:
                cells.append(f"{tree.expected_path_length(counts):.2f}")
            likeness = float(torch.corrcoef(torch.stack([distances[0], distance]))[0, 1])
            cells.append("–" if likeness != likeness else f"{likeness:.3f}")
            if judged is not None:
                height = _mistakes_height(judged, tree)
                cells.append("–" if height != height else f"{height:.3f}")
            table.add_row(Text(printable(str(file))), *cells)
    plain(soft_wrap=False).print(table)
    return 0


@contextmanager
def _one_line(source: Path | None = None) -> Iterator[None]:
    """What the library refuses is the user's to mend: one line, with the file that it came from."""
    try:
        yield
    except InputError:
        raise
    except (ValueError, TypeError) as error:
        message = " ".join(str(error).split())
        raise InputError(message if source is None or str(source) in message else f"{source}: {message}") from None


def _given(method: str, option: str, value: Given | None) -> Given:
    if value is None:
        raise InputError(f"tree build {method}: expected {option}, got none.")
    return value


def _card(source: Source | None) -> DataCard | None:
    """What is known of the data that were named, if some were: of their classes' names, counts and groups."""
    if source is None or source.data is None:
        return None
    from softmaxes.lab.data.sources import load_source

    return load_source(source).card()


def _read(file: Path, format: str | None) -> "Tree":
    from softmaxes.trees import io

    if format is None and file.suffix not in io.SUFFIXES:
        raise InputError(f"{file}: expected a name that ends in {' or '.join(io.SUFFIXES)}, or --format, got neither.")
    return io.read(file, format)


def _write(tree: "Tree", out: Path, format: str | None = None) -> None:
    from softmaxes.files import check_out, write_bytes
    from softmaxes.trees import io

    if (format or io.SUFFIXES.get(out.suffix.lower())) == "csv":
        tree = _with_root(tree)
    content = io.encoded(tree, out, format)
    write_bytes(check_out(out, io.MARK, content), content)


def _with_root(tree: "Tree") -> "Tree":
    """The tree with a name for its root, if the others have one: CSV names a node in the edges below it."""
    from softmaxes import Tree

    if tree.names is None or tree.names[tree.root]:
        return tree
    free = (name for name in chain(["root"], (f"root {number}" for number in count(2))) if name not in tree.names)
    names = list(tree.names)
    names[tree.root] = next(free)
    return Tree(tree.parent, names)


def _lines(path: Path) -> list[str]:
    try:
        lines = read_whole(path, MOST_TEXT).decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: expected text in UTF-8, got byte {error.object[error.start]:#04x}.") from None
    for place, line in enumerate(lines, 1):
        if len(line) > MOST_LINE:
            raise InputError(f"{path}: line {place}: expected at most {MOST_LINE:,} characters, got {len(line):,}.")
    return lines


def _array(path: Path, dimensions: int) -> "NDArray[Any]":
    """The numbers of a .npy file, in this machine's order of bytes."""
    from softmaxes.lab.data.npy import npy

    stored = npy(path)
    if stored.dtype.kind not in "iuf" or stored.dtype.itemsize > 8 or len(stored.shape) != dimensions:
        kind = "counts (C,)" if dimensions == 1 else "class vectors (C, D)"
        raise InputError(f"{path}: expected an array of numbers in .npy, {kind}, got {stored}.")
    return stored.read().astype(stored.dtype.newbyteorder("="), copy=False)


def _numbers(path: Path) -> "Tensor | list[float]":
    if path.suffix == ".npy":
        import torch

        return torch.as_tensor(_array(path, 1))
    numbers: list[float] = []
    for place, line in enumerate(_lines(path), 1):
        try:
            numbers.append(int(line) if line.strip().isdecimal() else float(line))
        except ValueError:
            raise InputError(f"{path}: line {place}: expected a number, got {line[:40]!r}.") from None
        if not -(2**63) <= numbers[-1] < 2**63 and isinstance(numbers[-1], int):
            raise InputError(f"{path}: line {place}: expected a number below 2**63, got {line[:40]!r}.")
    return numbers


def _vectors(path: Path) -> "Tensor":
    import torch

    if path.suffix == ".npy":
        return torch.as_tensor(_array(path, 2))
    from safetensors import SafetensorError, safe_open

    check_regular(path)
    try:
        with safe_open(path, framework="pt") as file:
            names = set(file.keys())
            if "head.weight" not in names or "head.parent" in names:
                raise InputError(f"{path}: expected the weights of a head with a row a class, got those of another.")
            weight: Tensor = file.get_tensor("head.weight")
            return weight
    except (SafetensorError, ValueError, RuntimeError, TypeError) as error:
        if isinstance(error, InputError):
            raise
        said = " ".join(str(error).split())[:150]
        raise InputError(f"{path}: expected a run's weights, got a file that does not load ({said}).") from None


def _result(path: Path) -> Result:
    from softmaxes.lab.store import read_record

    return read_record(path, Result)


def _triples(result: Result, classes: int | None = None) -> "Tensor":
    """Rows of target, predicted class and count; an error where a tree has fewer classes than the result."""
    import torch

    triples = torch.tensor(result.confusion, dtype=torch.int64).reshape(-1, 3)
    if classes is not None and len(triples) > 0 and int(triples[:, :2].max()) >= classes:
        raise InputError(
            f"--result: expected a run over the tree's {classes} classes, got class {int(triples[:, :2].max())}."
        )
    return triples


def _confusion(path: Path) -> "Tensor":
    import torch

    from softmaxes.lab.machine import free_memory

    triples = _triples(_result(path))
    if len(triples) == 0:
        raise InputError(f"{path}: expected a run with test results, got one that diverged.")
    size = int(triples[:, :2].max()) + 1  # every class of the test set is a target
    needed, free = 24 * size**2, free_memory()  # the counts, the distances of all pairs, and SciPy's copy of them
    if free is not None and needed > free:
        raise InputError(
            f"{path}: expected classes for all pairs of which there is memory, {free:,} bytes, got {size:,}, which "
            f"need {needed:,}."
        )
    dense = torch.zeros(size, size, dtype=torch.int64)
    dense[triples[:, 0], triples[:, 1]] = triples[:, 2]
    return dense


def _trained(path: Path) -> "Tree":
    from softmaxes import Tree

    tree = _result(path).tree
    if tree is None:
        raise InputError(f"{path}: expected a run of a head over one tree, got one of another head.")
    try:
        return Tree(tree.parent)
    except ValueError as error:
        raise InputError(f"{path}: expected a tree: {error}") from None


def _mistakes_height(result: Result, tree: "Tree") -> float:
    """Mean height of the lowest common ancestor of target and prediction, over the mistakes; NaN of none."""
    triples = _triples(result, tree.num_classes)
    wrong = triples[triples[:, 0] != triples[:, 1]]
    height = tree.node_height[tree.lowest_common_ancestor(wrong[:, 0], wrong[:, 1])].double()
    return float((height * wrong[:, 2]).sum() / wrong[:, 2].sum())


def _leaves(tree: "Tree") -> tuple[str, ...]:
    """The names of a tree's classes; none if they have none but their numbers."""
    leaves = () if tree.names is None else tree.names[: tree.num_classes]
    return leaves if any(name not in ("", str(leaf)) for leaf, name in enumerate(leaves)) else ()


def _order(tree: "Tree", names: Sequence[str]) -> list[int] | None:
    """The leaf of each name; none if the leaves have others, or several have one."""
    leaves = _leaves(tree)
    if leaves and leaves == tuple(names):
        return list(range(len(leaves)))
    leaf_of = {name: leaf for leaf, name in enumerate(leaves)}
    if len(leaf_of) < tree.num_classes or len(names) != len(leaves) or leaf_of.keys() != set(names):
        return None
    return [leaf_of[name] for name in names]


def _put(tree: "Tree", order: Sequence[int]) -> "Tree":
    """The tree with its leaves in another order."""
    from softmaxes import Tree

    nodes = [*order, *range(tree.num_classes, tree.num_nodes)]
    return Tree(tree.parent[nodes], None if tree.names is None else [tree.names[node] for node in nodes])


def _fitted(tree: "Tree", card: DataCard | None, where: str) -> "Tree":
    """The tree with its leaves in the order of the data's classes, by their names if the tree has any.

    Raises:
        InputError: it is not over the data's classes; the message begins with `where`.
    """
    if card is None:
        return tree
    leaves = _leaves(tree)
    if not leaves and tree.num_classes != len(card.class_names):
        raise InputError(
            f"{where}: expected a tree over the {len(card.class_names):,} classes of {card.name}, "
            f"got one over {tree.num_classes:,}."
        )
    if not leaves:
        return tree
    for names in (card.class_names, card.words_of_class):
        if (order := _order(tree, names)) is not None:
            return _put(tree, order)
    known = card.words_of_class if set(leaves) & set(card.words_of_class) else card.class_names
    differ = []
    for what, some in (("missing", Counter(known) - Counter(leaves)), ("too many", Counter(leaves) - Counter(known))):
        if some:
            name = printable(next(iter(some)), SHOWN)
            differ.append(f"{some.total():,} {what}, such as {name!r}")
    if not differ:
        twice = printable(Counter(leaves).most_common(1)[0][0], SHOWN)
        raise InputError(
            f"{where}: expected classes of names that differ, or in the data's order, got {twice!r} twice."
        )
    raise InputError(
        f"{where}: expected a tree over the classes of {card.name}, by their names, got {', and '.join(differ)}."
    )


def _named(tree: "Tree", card: DataCard | None) -> "Tree":
    """The tree with the names that the data know; an inner node that has none is called by its number."""
    from softmaxes import Tree
    from softmaxes.lab.report.sections.trees import named

    if card is None or tree.names is not None:
        return tree
    names = named(tree, card).names or ()
    return Tree(
        tree.parent, [name or ("root" if node == tree.root else f"node {node}") for node, name in enumerate(names)]
    )
