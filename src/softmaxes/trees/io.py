"""Trees in files, and as the objects of other libraries.

What nodes are called becomes `Tree.names`. A tree without names is written with its nodes' numbers for names, and names
that are the nodes' numbers are read as none.

The order of the classes is what a file says; if it says none, that of the argument `classes`; without it, the leaves'
numbers, where they are called 0, 1, ..., C-1; else the order in which they come. Inner nodes are numbered as they come,
if they are not called C, ..., M-1. With `classes`, nodes that lead to none of them are left out, and so is what lies
below a class; a class above another one is refused.
"""

import csv
import io
import json
import os
import re
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from reprlib import repr as short
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from softmaxes.files import InputError, check_json, read_whole, write_bytes
from softmaxes.names import from_cell, in_cell
from softmaxes.on_cpu import on_cpu
from softmaxes.trees.tree import Tree

Node = TypeVar("Node")

SUFFIXES = {".csv": "csv", ".json": "json"}
MOST_BYTES = 2**29  # of a file
MOST_VALUES = 2**25  # in it: lines, or what stands between commas; a node has one to four of them
MOST_DICTIONARIES = 2**23  # and lists in JSON, where some formats have one or two a node
MARK = b'{"format": "softmaxes.tree"'  # how a file in this library's own format begins


def read(path: str | os.PathLike[str], format: str | None = None, classes: Sequence[Hashable] | None = None) -> Tree:
    r"""Read a tree from a file; nothing in it is executed.

    A file has at most `MOST_BYTES`, `MOST_VALUES` and `MOST_DICTIONARIES`.

    The formats are ``json``, this library's own; ``csv``, edges under a header with the columns ``parent`` and
    ``child``, where the root may have a row without a parent; ``nested``, JSON as `from_nested` takes it; ``nbdt``, the
    graphs of Neural-Backed Decision Trees, which are networkx's node-link JSON, where a node's name is its label, or
    else its id; ``napkinxc``, the text that napkinXC saves trees in.

    Args:
        path: the file.
        format: one of `FORMATS`; without it ``.csv`` is csv, and a ``.json`` is told by its content.
        classes: the classes in their order, by name, in nbdt by id, as its ``wnids.txt`` lists them; not for json and
            napkinxc, which say the order themselves.

    Returns:
        The tree.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no regular file, too large or does not hold a tree; the message says in a line where and what
            is wrong.

    Example:
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> from softmaxes.trees.io import read
        >>> with TemporaryDirectory() as folder:
        ...     path = Path(folder, "tree.csv")
        ...     _ = path.write_text("parent,child\npet,cat\npet,dog\nall,pet\nall,car\n")
        ...     read(path).names
        ('cat', 'dog', 'car', 'all', 'pet')
    """
    where = os.fspath(path)
    name = _format(path, format)
    content = read_whole(path, MOST_BYTES)
    _check_size(where, name, content)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise ValueError(f"{where}: line {line}: expected UTF-8, got byte {error.object[error.start]:#04x}.") from None
    data = _json(where, text) if FORMATS[name].is_json else text
    if format is None and isinstance(data, dict) and not isinstance(data.get("format"), str):
        name = "nbdt" if isinstance(data.get("nodes"), list) else "nested"
    return FORMATS[name].read(where, data, classes)


def write(tree: Tree, path: str | os.PathLike[str], format: str | None = None) -> None:
    """Write a tree to a file, whole or not at all.

    ``json``, ``csv`` and ``nbdt`` keep a tree as it is; ``nested`` does but for the numbers of inner nodes with names;
    ``napkinxc`` has no names.

    Args:
        tree: the tree.
        path: the file; its folder is made if there is none.
        format: one of `FORMATS`; without it ``.csv`` is csv and ``.json`` is json.

    Raises:
        OSError: the file cannot be written.
        ValueError: the format cannot hold this tree; the message names the node.

    Example:
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> from softmaxes import Tree
        >>> from softmaxes.trees.io import read, write
        >>> tree = Tree.from_groups([0, 0, 1])
        >>> with TemporaryDirectory() as folder:
        ...     write(tree, Path(folder, "tree.json"))
        ...     print(Path(folder, "tree.json").read_text().strip())
        ...     read(Path(folder, "tree.json")) == tree
        {"format": "softmaxes.tree", "version": 1, "parent": [4, 4, 5, -1, 3, 3], "names": null}
        True
    """
    content = encoded(tree, path, format)
    write_bytes(Path(path), content)


def encoded(tree: Tree, path: str | os.PathLike[str], format: str | None = None) -> bytes:
    """What `write` writes; it has the same arguments."""
    where = os.fspath(path)
    name = _format(path, format)
    chosen = FORMATS[name]
    if tree.num_nodes > MOST_VALUES:
        raise ValueError(f"{where}: expected a tree of at most {MOST_VALUES:,} nodes, got {tree}.")
    data = chosen.write(where, tree)
    try:
        text = json.dumps(data, ensure_ascii=False) + "\n" if chosen.is_json else data
    except RecursionError:
        raise ValueError(
            f"{where}: expected a tree of some hundred levels at most, got {tree}; formats json and csv can hold it."
        ) from None
    try:
        content = text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{where}: expected names in UTF-8, got {error.object[error.start]!r}.") from None
    _check_size(where, name, content)
    return content


def from_nested(nested: Mapping[str, Any], classes: Sequence[str] | None = None) -> Tree:
    """The tree of a dictionary with one key, the root: a node's value is the dictionary of what is below it.

    A leaf's value is the number of its class, or, at all leaves, an empty dictionary. Names need differ only from those
    of siblings, unless `classes` are given.

    Args:
        nested: the dictionary.
        classes: the classes in their order, by name; then the numbers at the leaves say nothing.

    Returns:
        The tree.

    Raises:
        ValueError: it is no tree; the message names the node.

    Example:
        >>> from softmaxes.trees.io import from_nested
        >>> from_nested({"all": {"pet": {"cat": {}, "dog": {}}, "car": {}}})
        Tree(num_classes=3, num_nodes=5, depth=2, arity=2)
    """
    return _from_nested("from_nested", nested, classes)


def to_nested(tree: Tree) -> dict[str, Any]:
    """Nested dictionaries, as `from_nested` takes them; a leaf's value is its class.

    Example:
        >>> from softmaxes import Tree
        >>> from softmaxes.trees.io import to_nested
        >>> to_nested(Tree([3, 3, 4, 4, -1], names=["cat", "dog", "car", "pet", "all"]))
        {'all': {'car': 2, 'pet': {'cat': 0, 'dog': 1}}}
    """
    return _to_nested("to_nested", tree)


def from_edges(edges: Iterable[tuple[Hashable | None, Hashable]], classes: Sequence[Hashable] | None = None) -> Tree:
    """The tree of pairs (parent, child), e.g. ``graph.edges`` of a directed graph in networkx.

    Args:
        edges: the pairs, in any order; the root may have one with none for its parent. A node's name is ``str`` of it.
        classes: the classes in their order, as they are in the pairs.

    Returns:
        The tree.

    Raises:
        TypeError: something is not a pair.
        ValueError: it is no tree; the message names the node.

    Example:
        >>> from softmaxes.trees.io import from_edges
        >>> from_edges([("all", "car"), ("all", "pet"), ("pet", "cat"), ("pet", "dog")]).names
        ('car', 'cat', 'dog', 'all', 'pet')
    """
    parents, children = [], []
    for edge in edges:
        if not isinstance(edge, tuple | list) or len(edge) != 2 or edge[1] is None:
            raise TypeError(f"from_edges: expected pairs (parent, child), got {short(edge)}.")
        parents.append(edge[0])
        children.append(edge[1])
    return _from_edges("from_edges", parents, children, classes)


def to_edges(tree: Tree) -> list[tuple[str, str]]:
    """Pairs (parent, child) of names, in the order of the child's number.

    Raises:
        ValueError: two nodes have one name, or a class has another's number for a name.

    Example:
        >>> from softmaxes import Tree
        >>> from softmaxes.trees.io import to_edges
        >>> to_edges(Tree([4, 3, 3, 4, -1]))
        [('4', '0'), ('3', '1'), ('3', '2'), ('4', '3')]
    """
    names = _unique_names("to_edges", tree)
    return [(names[above], names[node]) for node, above in enumerate(tree.parent.tolist()) if above >= 0]


def from_triples(triples: Iterable[tuple[int, int, int]]) -> Tree:
    """The tree of triples (parent, node, label), what ``get_tree_structure()`` of a model in napkinXC gives.

    Args:
        triples: one for each node, in any order; nodes are 0..M-1, the root's parent is -1, the label is the class of a
            leaf and -1 elsewhere.

    Returns:
        The tree.

    Raises:
        TypeError: something is not a triple of ints.
        ValueError: it is no tree; the message names the node.

    Example:
        >>> from softmaxes.trees.io import from_triples
        >>> from_triples([(-1, 0, -1), (0, 1, -1), (0, 2, 0), (1, 3, 2), (1, 4, 1)]).parent
        tensor([ 3,  4,  4, -1,  3])
    """
    listed = list(triples)
    for triple in listed:
        if not isinstance(triple, tuple | list) or [type(part) for part in triple] != [int, int, int]:
            raise TypeError(f"from_triples: expected triples (parent, node, label) of ints, got {short(triple)}.")
    return _from_triples("from_triples", listed)


def to_triples(tree: Tree) -> list[tuple[int, int, int]]:
    """Triples (parent, node, label), what ``set_tree_structure()`` of a model in napkinXC takes.

    Example:
        >>> from softmaxes import Tree
        >>> from softmaxes.trees.io import to_triples
        >>> to_triples(Tree([3, 3, 4, 4, -1]))
        [(3, 0, 0), (3, 1, 1), (4, 2, 2), (4, 3, -1), (-1, 4, -1)]
    """
    num_classes = tree.num_classes
    return [(above, node, node if node < num_classes else -1) for node, above in enumerate(tree.parent.tolist())]


def from_nodes(
    root: Node,
    children: Callable[[Node], Iterable[Node]],
    name: Callable[[Node], str],
    classes: Sequence[Node] | None = None,
) -> Tree:
    """The tree of any objects, walked breadth first from the root; a node that is reached again keeps its first parent.

    Nodes that are equal are one; those that cannot be hashed are one if they are the same object.

    In anytree, classes in its order of leaves: ``from_nodes(root, lambda node: node.children, lambda node: node.name,
    root.leaves)``. In NLTK's WordNet: ``from_nodes(root, lambda synset: synset.hyponyms(), lambda synset:
    synset.name(), synsets)``.

    Args:
        root: the root.
        children: gives the nodes below a node.
        name: gives a node's name; names need not differ.
        classes: the nodes that are the classes, in their order; without it those that have no children.

    Returns:
        The tree.

    Raises:
        ValueError: it is no tree, or a name is not a string; the message names the node.

    Example:
        >>> from softmaxes.trees.io import from_nodes
        >>> root = {"name": "pet", "below": [{"name": "cat"}, {"name": "dog"}]}
        >>> from_nodes(root, lambda node: node.get("below", []), lambda node: node["name"]).names
        ('cat', 'dog', 'pet')
    """

    def key(node: Node) -> Hashable:
        return node if isinstance(node, Hashable) else id(node)

    nodes, parent, places = [root], [-1], {key(root): 0}
    for place, node in enumerate(nodes):  # more are added on the way
        for child in children(node):
            if key(child) not in places:
                places[key(child)] = len(nodes)
                nodes.append(child)
                parent.append(place)
    names = [name(node) for node in nodes]
    chosen = None if classes is None else _chosen("from_nodes", places, [key(node) for node in classes])
    return _tree("from_nodes", names, parent, chosen, names)


@on_cpu
def _tree(
    where: str,
    keys: Sequence[Hashable],
    parent: list[int],
    classes: list[int] | None,
    names: Sequence[str] | None,
    number: Callable[[int], str] = str,
) -> Tree:
    """The tree of nodes that are listed in any order.

    Args:
        where: what an error begins with.
        keys: what errors call the nodes, (M,); where they are the nodes' numbers, they decide the order.
        parent: the place of each one's parent in the list, -1 for the root.
        classes: the places of the classes, in their order.
        names: the names, (M,), or none; if all are the nodes' numbers, the tree has none.
        number: how a number is written.
    """
    above = torch.tensor(parent, dtype=torch.int64)
    roots = (above < 0).nonzero().flatten().tolist()
    if len(roots) != 1:
        which = f": {', '.join(short(keys[root]) for root in roots[:3])}" if roots else ""
        raise ValueError(f"{where}: expected one root, got {len(roots)}{which}.")
    up = above.where(above >= 0, roots[0])
    for _ in range(len(up).bit_length()):  # twice as far up in each round
        up = up[up]
        if bool((up == roots[0]).all()):
            break
    else:
        lost = int((up != roots[0]).int().argmax())
        raise ValueError(
            f"{where}: expected every node to descend from the root {short(keys[roots[0]])}, "
            f"got {short(keys[lost])} in a cycle."
        )
    if classes is None:
        has_children = torch.zeros_like(above, dtype=torch.bool)
        has_children[above[above >= 0]] = True
        leaves = _by_number((~has_children).nonzero().flatten().tolist(), keys, 0, number)
        inner = has_children.nonzero().flatten().tolist()
    else:
        leaves, inner = classes, _ancestors(where, keys, parent, classes)
    inner = _by_number(inner, keys, len(leaves), number)
    order = leaves + inner
    node = torch.full_like(above, -1)
    node[order] = torch.arange(len(order))
    ordered = above[order]
    if names is not None:
        names = [names[place] for place in order]
        names = None if all(name == number(node) for node, name in enumerate(names)) else names
    return _checked(where, node[ordered].where(ordered >= 0, -1), names)


def _by_number(places: list[int], keys: Sequence[Hashable], first: int, number: Callable[[int], str]) -> list[int]:
    """The places by their keys, where these are the numbers from `first` on; else as they are."""
    numbers = [number(node) for node in range(first, first + len(places))]
    if all(keys[place] == name for place, name in zip(places, numbers, strict=True)):
        return places
    place_of = {keys[place]: place for place in places}
    if not all(name in place_of for name in numbers):
        return places
    return [place_of[name] for name in numbers]


def _ancestors(where: str, keys: Sequence[Hashable], parent: list[int], classes: list[int]) -> list[int]:
    """The places above classes, in their order; an error if a class is among them."""
    is_class, found = set(classes), set()
    for place in classes:
        above = parent[place]
        while above >= 0 and above not in found:
            if above in is_class:
                raise ValueError(
                    f"{where}: expected classes that are not above each other, "
                    f"got {short(keys[above])} above {short(keys[place])}."
                )
            found.add(above)
            above = parent[above]
    return sorted(found)


def _chosen(where: str, places: Mapping[Hashable, int], classes: Sequence[Hashable]) -> list[int]:
    """The places of classes."""
    for key in _places(where, "classes", classes):
        if key not in places:
            raise ValueError(f"{where}: expected classes that are nodes of the tree, got {short(key)}.")
    return [places[key] for key in classes]


def _places(where: str, what: str, keys: Iterable[Hashable]) -> dict[Hashable, int]:
    """The place of each key; an error if one comes twice."""
    places: dict[Hashable, int] = {}
    for key in keys:
        if key in places:
            raise ValueError(f"{where}: expected {what} that differ, got {short(key)} twice.")
        places[key] = len(places)
    return places


def _checked(where: str, parent: Tensor, names: Sequence[str] | None) -> Tree:
    """A tree whose errors begin with what it is read from."""
    try:
        return Tree(parent, names)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where}: {str(error).removeprefix('Tree: ')}") from None


def _names(tree: Tree) -> Sequence[str]:
    return tree.names or [str(node) for node in range(tree.num_nodes)]


def _unique_names(where: str, tree: Tree) -> Sequence[str]:
    """Names by which a reader finds the nodes and the order of the classes."""
    names = _names(tree)
    _places(where, "names", names)
    in_order = list(range(tree.num_classes))
    for node, read in zip(in_order, _by_number(in_order, names, 0, str), strict=True):
        if read != node:
            raise ValueError(
                f"{where}: expected no class to have another's number for a name, got {names[node]!r} for class {node}."
            )
    return names


def _format(path: str | os.PathLike[str], format: str | None) -> str:
    """The name of a format, by itself or by the suffix."""
    if format is None:
        suffix = Path(path).suffix
        if suffix.lower() not in SUFFIXES:
            raise ValueError(
                f"{os.fspath(path)}: expected format to be given, one of {', '.join(FORMATS)}, "
                f"or the suffix to be one of {', '.join(SUFFIXES)}, got {suffix!r}."
            )
        return SUFFIXES[suffix.lower()]
    if format not in FORMATS:
        raise ValueError(f"{os.fspath(path)}: expected format to be one of {', '.join(FORMATS)}, got {format!r}.")
    return format


def _check_size(where: str, format: str, content: bytes) -> None:
    """Refuse a file that would take too much to read, so that none is written either."""
    if len(content) > MOST_BYTES:
        raise InputError(f"{where}: expected a file of at most {MOST_BYTES:,} bytes, got {len(content):,}.")
    if FORMATS[format].is_json:
        check_json(where, content, MOST_VALUES, MOST_DICTIONARIES)
    elif (lines := max(content.count(b"\n"), content.count(b"\r"))) > MOST_VALUES:
        raise InputError(f"{where}: expected at most {MOST_VALUES:,} lines, got {lines:,}.")


def _json(where: str, text: str) -> Any:
    """What a JSON text says."""
    repeated = []

    def fields(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            repeated.append(pairs)
        return found

    try:
        data = json.loads(text, object_pairs_hook=fields)
    except json.JSONDecodeError as error:
        got = short(text[error.pos : error.pos + 20]) if error.pos < len(text) else "the end of the file"
        raise ValueError(
            f"{where}: line {error.lineno} column {error.colno}: expected JSON, got {got}: {error.msg}."
        ) from None
    except ValueError as error:  # an int of thousands of digits
        raise ValueError(f"{where}: expected JSON, got a number that is too long: {error}.") from None
    except RecursionError:
        raise ValueError(f"{where}: expected JSON of some hundred levels at most, got too many.") from None
    for pairs in repeated:
        _places(where, "keys of a dictionary", (key for key, _ in pairs))
    return data


@on_cpu
def _from_json(where: str, data: Any, classes: Sequence[Hashable] | None) -> Tree:
    _no_classes(where, classes)
    if not isinstance(data, dict) or data.get("format") != "softmaxes.tree":
        raise ValueError(f'{where}: expected {{"format": "softmaxes.tree", ...}}, got {short(data)}.')
    if type(data.get("version")) is not int or data["version"] != 1:
        raise ValueError(f'{where}: expected "version": 1, got {short(data.get("version"))}.')
    expected = ["format", "version", "parent", "names"]
    if sorted(data) != sorted(expected):
        raise ValueError(f"{where}: expected the keys {', '.join(expected)}, got {', '.join(map(short, data))}.")
    parent, names = data["parent"], data["names"]
    if not isinstance(parent, list) or not isinstance(names, list | None):
        wrong = "names" if isinstance(parent, list) else "parent"
        raise ValueError(f'{where}: expected "{wrong}" to be a list, got {short(data[wrong])}.')
    for node, above in enumerate(parent):
        if type(above) is not int or not -1 <= above < len(parent):
            raise ValueError(f"{where}: parent[{node}]: expected an int in -1..{len(parent) - 1}, got {short(above)}.")
    return _checked(where, torch.tensor(parent, dtype=torch.int64), names)


def _to_json(where: str, tree: Tree) -> dict[str, Any]:
    return {"format": "softmaxes.tree", "version": 1, "parent": tree.parent.tolist(), "names": tree.names}


def _from_nested(where: str, nested: Any, classes: Sequence[Hashable] | None) -> Tree:
    if not isinstance(nested, Mapping) or len(nested) != 1:
        raise ValueError(f"{where}: expected a dictionary with one key, the root, got {short(nested)}.")
    names: list[str] = []
    parent: list[int] = []
    leaves: dict[int, int | None] = {}  # place of a leaf -> its class, if that is said
    path = [(-1, nested, iter(nested.items()))]  # the dictionaries from the outermost to where the walk is
    on_path = {id(nested)}
    while path:
        above, outer, items = path[-1]
        for name, value in items:
            place = len(names)
            names.append(name)
            parent.append(above)
            if type(value) is int:
                leaves[place] = value
                continue
            if not isinstance(value, Mapping):
                raise ValueError(
                    f"{where}: expected a dictionary of what is below {short(name)}, or its class, got {short(value)}."
                )
            if not value:
                leaves[place] = None
                continue
            if id(value) in on_path:
                raise ValueError(f"{where}: expected a tree, got {short(name)} in a cycle.")
            path.append((place, value, iter(value.items())))
            on_path.add(id(value))
            break
        else:
            path.pop()
            on_path.remove(id(outer))
    chosen = None
    if classes is not None:
        chosen = _chosen(where, _places(where, "names", names), classes)
    elif any(number is not None for number in leaves.values()):
        place_of = {number: place for place, number in leaves.items()}
        for place, number in leaves.items():
            if number is None or not 0 <= number < len(leaves) or place_of[number] != place:
                raise ValueError(
                    f"{where}: expected the leaves to be classes 0..{len(leaves) - 1}, each once, "
                    f"got {short(number)} for {short(names[place])}."
                )
        chosen = [place_of[number] for number in range(len(leaves))]
    return _tree(where, names, parent, chosen, names)


def _to_nested(where: str, tree: Tree) -> dict[str, Any]:
    names = _names(tree)
    values: list[Any] = [*range(tree.num_classes), *({} for _ in range(tree.num_nodes - tree.num_classes))]
    for node, above in enumerate(tree.parent.tolist()):
        if above >= 0:
            if names[node] in values[above]:
                raise ValueError(
                    f"{where}: expected names that differ below {short(names[above])}, got {short(names[node])} twice."
                )
            values[above][names[node]] = values[node]
    return {names[tree.root]: values[tree.root]}


def _from_edges(
    where: str, parents: Sequence[Hashable | None], children: Sequence[Hashable], classes: Sequence[Hashable] | None
) -> Tree:
    places = {child: place for place, child in enumerate(children)}
    if len(places) < len(children):
        found: dict[Hashable, Hashable | None] = {}
        for child, above in zip(children, parents, strict=True):
            if child in found:
                raise ValueError(
                    f"{where}: expected one parent for {short(child)}, got {short(found[child])} and {short(above)}."
                )
            found[child] = above
    roots = [above for above in dict.fromkeys(parents) if above is not None and above not in places]
    if roots:
        return _from_edges(where, [*([None] * len(roots)), *parents], [*roots, *children], classes)
    parent = [places.get(above, -1) for above in parents]
    names = [str(child) for child in children]
    return _tree(where, names, parent, None if classes is None else _chosen(where, places, classes), names)


def _from_csv(where: str, text: str, classes: Sequence[Hashable] | None) -> Tree:
    lines = io.TextIOWrapper(io.BytesIO(text.encode()), "utf-8", newline="")  # a StringIO has four bytes a character
    rows = csv.reader(lines, strict=True)
    parents, children = [], []
    try:
        header = next(rows, [])
        if "parent" not in header or "child" not in header:
            raise ValueError(
                f"{where}: line {rows.line_num}: expected a header with columns parent and child, got {short(header)}."
            )
        above, below = header.index("parent"), header.index("child")
        for row in rows:
            if row and (len(row) != len(header) or not row[below]):
                raise ValueError(
                    f"{where}: line {rows.line_num}: expected {len(header)} columns, child not empty, got {short(row)}."
                )
            if row:
                parents.append(from_cell(row[above]) or None)
                children.append(from_cell(row[below]))
    except csv.Error as error:
        raise ValueError(f"{where}: line {rows.line_num}: expected CSV, got an error: {error}.") from None
    return _from_edges(where, parents, children, classes)


def _to_csv(where: str, tree: Tree) -> str:
    names = _unique_names(where, tree)
    if "" in names:
        raise ValueError(f"{where}: expected names that are not empty, got '' for node {names.index('')}.")
    text = io.StringIO()
    rows = csv.writer(text)
    rows.writerow(["parent", "child"])
    rows.writerows(
        (in_cell(names[above]) if above >= 0 else "", in_cell(name))
        for name, above in zip(names, tree.parent.tolist(), strict=True)
    )
    return text.getvalue()


def _from_triples(where: str, triples: Sequence[tuple[int, int, int]]) -> Tree:
    nodes = range(len(triples))
    parent = [-2] * len(nodes)
    label = [-1] * len(nodes)
    for above, node, own in triples:
        if node not in nodes or parent[node] != -2:
            raise ValueError(f"{where}: expected nodes 0..{len(nodes) - 1}, each once, got {short(node)}.")
        if above != -1 and above not in nodes:
            raise ValueError(f"{where}: expected parents in -1..{len(nodes) - 1}, got {short(above)} for node {node}.")
        parent[node], label[node] = above, own
    with_children = set(parent)
    leaves = [node for node in nodes if node not in with_children]
    leaf_of = {label[node]: node for node in leaves}
    for node in nodes:
        if node in with_children and label[node] != -1:
            raise ValueError(
                f"{where}: expected label -1 of node {node}, which has children, got {short(label[node])}."
            )
        if node not in with_children and (leaf_of[label[node]] != node or not 0 <= label[node] < len(leaves)):
            raise ValueError(
                f"{where}: expected the leaves to have labels 0..{len(leaves) - 1}, each once, "
                f"got {short(label[node])} of node {node}."
            )
    return _tree(where, nodes, parent, [leaf_of[own] for own in range(len(leaves))], None)


def _from_napkinxc(where: str, text: str, classes: Sequence[Hashable] | None) -> Tree:
    _no_classes(where, classes)
    form = re.compile(r"\s*(-?[0-9]{1,18})\s+([0-9]{1,18})(?:\s+(-?[0-9]{1,18}))?\s*")
    rows = []
    for line, content in enumerate(text.split("\n"), 1):
        found = form.fullmatch(content)
        if found:
            above, node, label = found.groups("-1")
            rows.append((int(above), int(node), int(label)))
        elif content.strip() or line == 1:
            what = "the numbers of classes and nodes" if line == 1 else "parent, node and the label of a leaf"
            raise ValueError(f"{where}: line {line}: expected {what}, got {short(content)}.")
    tree = _from_triples(where, rows[1:])
    if rows[0][:2] != (tree.num_classes, tree.num_nodes):
        raise ValueError(
            f"{where}: line 1: expected {tree.num_classes} classes and {tree.num_nodes} nodes, as there are, "
            f"got {rows[0][0]} and {rows[0][1]}."
        )
    return tree


def _to_napkinxc(where: str, tree: Tree) -> str:
    rows = [f"{above} {node} {label if label >= 0 else ''}".rstrip() for above, node, label in to_triples(tree)]
    return "\n".join([f"{tree.num_classes} {tree.num_nodes}", *rows, ""])


def _nbdt_id(node: int) -> str:
    return f"f{node:08d}"


def _from_nbdt(where: str, data: Any, classes: Sequence[Hashable] | None) -> Tree:
    nodes = data.get("nodes") if isinstance(data, dict) else None
    kind = "edges" if isinstance(data, dict) and "edges" in data else "links"  # as networkx writes it since 3.6
    links = data.get(kind) if isinstance(data, dict) else None
    if not isinstance(nodes, list) or not isinstance(links, list):
        raise ValueError(f'{where}: expected lists "nodes" and "links", got {short(data)}.')
    for index, node in enumerate(nodes):
        if (
            not isinstance(node, dict)
            or type(node.get("id")) not in (str, int)
            or not isinstance(node.get("label", ""), str)
        ):
            raise ValueError(
                f'{where}: nodes[{index}]: expected an "id", and a string if a "label", got {short(node)}.'
            )
    places = _places(where, "ids of nodes", (node["id"] for node in nodes))
    parent = [-1] * len(nodes)
    for index, link in enumerate(links):
        ends = (link.get("source"), link.get("target")) if isinstance(link, dict) else (None, None)
        if not all(type(end) in (str, int) and end in places for end in ends):
            raise ValueError(
                f'{where}: {kind}[{index}]: expected ids of nodes for "source" and "target", got {short(link)}.'
            )
        above, below = places[ends[0]], places[ends[1]]
        if parent[below] >= 0:
            raise ValueError(
                f"{where}: {kind}[{index}]: expected one parent for {short(ends[1])}, "
                f"got {short(nodes[parent[below]]['id'])} and {short(ends[0])}."
            )
        parent[below] = above
    ids = [str(key) for key in places]
    names = [node.get("label", key) for node, key in zip(nodes, ids, strict=True)]
    chosen = None if classes is None else _chosen(where, places, classes)
    return _tree(where, ids, parent, chosen, names, _nbdt_id)


def _to_nbdt(where: str, tree: Tree) -> dict[str, Any]:
    ids = [_nbdt_id(node) for node in range(tree.num_nodes)]
    labels = tree.names and [{"label": name} for name in tree.names]
    nodes = [{**(labels[node] if labels else {}), "id": key} for node, key in enumerate(ids)]
    links = [
        {"source": ids[above], "target": ids[node]} for node, above in enumerate(tree.parent.tolist()) if above >= 0
    ]
    return {"directed": True, "multigraph": False, "graph": {}, "nodes": nodes, "links": links}


def _no_classes(where: str, classes: Sequence[Hashable] | None) -> None:
    if classes is not None:
        raise ValueError(f"{where}: expected no classes, whose order is in the file, got {short(classes)}.")


class Format(NamedTuple):
    """How a format is read and written."""

    is_json: bool
    read: Callable[[str, Any, Sequence[Hashable] | None], Tree]  # the file's path, its text or JSON, the classes
    write: Callable[[str, Tree], Any]  # the file's path, for errors, and the tree -> text or JSON


FORMATS = {
    "json": Format(True, _from_json, _to_json),
    "csv": Format(False, _from_csv, _to_csv),
    "nested": Format(True, _from_nested, _to_nested),
    "nbdt": Format(True, _from_nbdt, _to_nbdt),
    "napkinxc": Format(False, _from_napkinxc, _to_napkinxc),
}
