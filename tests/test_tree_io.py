import csv
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import anytree
import networkx
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from networkx.readwrite import json_graph

from cases import RAGGED
from softmaxes import Tree
from softmaxes.trees import io
from softmaxes.trees.io import (
    FORMATS,
    from_edges,
    from_nested,
    from_nodes,
    from_triples,
    read,
    to_edges,
    to_nested,
    to_triples,
    write,
)
from strategies import parents

PETS = Tree([4, 3, 3, 4, -1], names=["car", "cat", "dog", "pet", "all"])
ANY_TEXT = st.text(max_size=4) | st.integers(0, 20).map(str)
TEXT = st.text(min_size=1, max_size=4).filter(lambda name: not name.isdecimal())


@st.composite
def trees(draw: st.DrawFn, names: st.SearchStrategy[str] | None = None, unique: bool = False) -> Tree:
    """A random tree with its inner nodes in any order; with `names` it has some."""
    parent = draw(parents())
    num_classes = sum(node not in parent for node in range(len(parent)))
    assume(num_classes >= 2)
    order = [*range(num_classes), *draw(st.permutations(range(num_classes, len(parent))))]
    moved = [-1] * len(parent)
    for node, above in enumerate(parent):
        moved[order[node]] = above if above < 0 else order[above]
    size = len(parent)
    return Tree(moved, None if names is None else draw(st.lists(names, min_size=size, max_size=size, unique=unique)))


def shape(tree: Tree, node: int | None = None) -> Any:
    """What a tree is apart from the numbers of its inner nodes."""
    node = tree.root if node is None else node
    name = tree.names[node] if tree.names else str(node)
    if node < tree.num_classes:
        return name, node
    return name, sorted((shape(tree, child) for child in tree.children_of(node)), key=repr)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("trees")


def there_and_back(tree: Tree, folder: Path, format: str) -> Tree:
    write(tree, folder / "tree", format)
    return read(folder / "tree", format)


@given(trees(), trees(ANY_TEXT), trees(TEXT, unique=True))
@settings(deadline=None, max_examples=60)
@pytest.mark.slow
def test_what_was_written_is_read_again(folder: Path, bare: Tree, any_names: Tree, named: Tree) -> None:
    for tree in (bare, any_names, named):
        assert there_and_back(tree, folder, "json") == tree
        assert there_and_back(tree, folder, "nbdt") == tree
        assert there_and_back(tree, folder, "napkinxc") == Tree(tree.parent)
    for tree in (bare, named):
        assert there_and_back(tree, folder, "csv") == tree
        assert shape(there_and_back(tree, folder, "nested")) == shape(tree)
    assert there_and_back(bare, folder, "nested") == bare


@given(trees(ANY_TEXT), st.sampled_from(["csv", "nested"]))
@settings(deadline=None, max_examples=200)
@pytest.mark.slow
def test_a_tree_is_read_as_it_was_or_not_written(folder: Path, tree: Tree, format: str) -> None:
    try:
        write(tree, folder / "other", format)
    except ValueError as error:
        message = str(error)
    else:
        assert shape(read(folder / "other", format)) == shape(tree)
        return
    assert "expected n" in message  # names that ..., or no class ...


@given(trees(), trees(TEXT, unique=True))
@settings(deadline=None, max_examples=60)
@pytest.mark.slow
def test_what_was_converted_is_converted_back(bare: Tree, named: Tree) -> None:
    for tree in (bare, named):
        names = tree.names or [str(node) for node in range(tree.num_nodes)]
        assert shape(from_nested(to_nested(tree))) == shape(tree)
        assert shape(from_edges(to_edges(tree))) == shape(tree)
        assert shape(from_edges(reversed(to_edges(tree)), names[: tree.num_classes])) == shape(tree)
        assert from_triples(reversed(to_triples(tree))) == Tree(tree.parent)
        assert shape(from_nodes(tree.root, tree.children_of, names.__getitem__, range(tree.num_classes))) == shape(tree)
    assert from_nested(to_nested(bare)) == from_edges(to_edges(bare)) == bare


def test_a_name_in_a_csv_file_is_no_formula(tmp_path: Path) -> None:
    """Of a spreadsheet that opens it; it is read as it was, and so is a name that somebody else wrote."""
    names = ['=HYPERLINK("http://x")', "@SUM(A1)", "+1+1", "-cmd", "'=1", "\tx", "-1", "'tis", "root"]
    tree = Tree([8] * 8 + [-1], names)
    path = tmp_path / "tree.csv"
    write(tree, path)
    with path.open(encoding="utf-8", newline="") as file:
        cells = {cell for row in csv.reader(file) for cell in row}
    assert not any(cell.startswith(("=", "@", "+", "\t", "-c")) for cell in cells)
    assert {"-1", "'tis", '\'=HYPERLINK("http://x")', "''=1"} <= cells
    assert read(path) == tree
    path.write_text("parent,child\nroot,=a\nroot,@b\n", encoding="utf-8")
    assert read(path).names == ("=a", "@b", "root")


@pytest.mark.parametrize("format", ["json", "csv"])
def test_a_suffix_says_the_format(tmp_path: Path, format: str) -> None:
    path = tmp_path / "new folder" / f"tree.{format.upper()}"
    write(PETS, path)
    assert read(path) == read(str(path), format) == PETS
    write(PETS, str(path))
    assert [part.name for part in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("format", ["json", "nested", "nbdt"])
def test_json_is_told_by_its_content(tmp_path: Path, format: str) -> None:
    for root in ("all", "format", "nodes"):
        tree = Tree(PETS.parent, names=[*(PETS.names or ())[:-1], root])
        write(tree, tmp_path / "tree.json", format)
        assert shape(read(tmp_path / "tree.json")) == shape(tree)


def test_what_files_look_like(tmp_path: Path) -> None:
    expected = {
        "json": '{"format": "softmaxes.tree", "version": 1, "parent": [4, 3, 3, 4, -1], '
        '"names": ["car", "cat", "dog", "pet", "all"]}\n',
        "csv": "parent,child\r\nall,car\r\npet,cat\r\npet,dog\r\nall,pet\r\n,all\r\n",
        "nested": '{"all": {"car": 0, "pet": {"cat": 1, "dog": 2}}}\n',
        "napkinxc": "3 5\n4 0 0\n3 1 1\n3 2 2\n4 3\n-1 4\n",
        "nbdt": '{"directed": true, "multigraph": false, "graph": {}, "nodes": ['
        '{"label": "car", "id": "f00000000"}, {"label": "cat", "id": "f00000001"}, '
        '{"label": "dog", "id": "f00000002"}, {"label": "pet", "id": "f00000003"}, '
        '{"label": "all", "id": "f00000004"}], "links": ['
        '{"source": "f00000004", "target": "f00000000"}, {"source": "f00000003", "target": "f00000001"}, '
        '{"source": "f00000003", "target": "f00000002"}, {"source": "f00000004", "target": "f00000003"}]}\n',
    }
    for format in FORMATS:
        write(PETS, tmp_path / "tree", format)
        assert (tmp_path / "tree").read_bytes().decode() == expected[format]


def test_what_other_programs_write(tmp_path: Path) -> None:
    path = tmp_path / "tree.json"
    wordnet = {
        "directed": True,
        "multigraph": False,
        "graph": {},
        "nodes": [
            {"label": "bird", "id": "n01503061"},
            {"label": "car", "contraction": {"n04170037": {"label": "vehicle"}}, "id": "n02958343"},
            {"id": "f00000010"},
            {"label": "truck", "id": "n04490091"},
            {"id": "f00000011"},
        ],
        "links": [
            {"source": "f00000010", "target": "n02958343"},
            {"source": "f00000010", "target": "n04490091"},
            {"source": "f00000011", "target": "n01503061"},
            {"source": "f00000011", "target": "f00000010"},
        ],
    }
    path.write_text(json.dumps(wordnet))
    assert read(path) == Tree([4, 3, 3, 4, -1], ["bird", "car", "truck", "f00000010", "f00000011"])
    by_id = read(path, classes=["n04490091", "n01503061", "n02958343"])
    assert by_id == Tree([3, 4, 3, 4, -1], ["truck", "bird", "car", "f00000010", "f00000011"])
    path.write_text("3 5\n-1 0 \n0 1 \n0 2 1\n1 3 2\n1 4 0\n\n")
    assert read(path, "napkinxc") == Tree([4, 3, 4, -1, 3])
    for end in ("\n", "\r\n", "\r"):
        lines = ["\ufeffweight,child,parent", "1,cat,pet", "2,dog,pet", "", "3,pet,all", "4,car,all", ""]
        path.write_bytes(end.join(lines).encode())
        assert read(path, "csv") == Tree([4, 4, 3, -1, 3], ["cat", "dog", "car", "all", "pet"])
    path.write_bytes(b'\xef\xbb\xbf{\r\n"all": {"pet": {"cat": {}, "dog": {}},\r\n "car": {}}}')
    assert read(path) == Tree([4, 4, 3, -1, 3], ["cat", "dog", "car", "all", "pet"])


@given(trees(TEXT))
@settings(deadline=None, max_examples=20)
@pytest.mark.slow
def test_networkx_reads_and_writes_the_same(folder: Path, tree: Tree) -> None:
    path = folder / "graph.json"
    write(tree, path, "nbdt")
    graph = json_graph.node_link_graph(json.loads(path.read_text()), edges="links")
    assert networkx.is_arborescence(graph)
    assert tuple(networkx.get_node_attributes(graph, "label").values()) == tree.names
    for edges in ("links", "edges"):
        path.write_text(json.dumps(json_graph.node_link_data(graph, edges=edges)))
        assert read(path) == tree
    assert shape(from_edges(graph.edges, list(graph)[: tree.num_classes])) == shape(Tree(tree.parent, list(graph)))


def test_the_order_of_classes() -> None:
    pairs = [("r", "2"), ("r", "a"), ("a", "0"), ("a", "1")]
    assert from_edges(pairs) == Tree([4, 4, 3, -1, 3], ["0", "1", "2", "r", "a"])
    assert from_edges(pairs, classes=["2", "0", "1"]) == Tree([3, 4, 4, -1, 3], ["2", "0", "1", "r", "a"])
    assert from_edges([(4, 2), (3, 0), (4, 3), (3, 1)]) == Tree([3, 3, 4, 4, -1])
    assert from_edges([("r", "2"), ("r", "1")]).names == ("2", "1", "r")  # no numbers from 0 on
    assert from_edges([("r", "01"), ("r", "0")]).names == ("01", "0", "r")
    assert from_nested({"r": {"b": {}, "a": {"d": {}, "c": {}}}}).names == ("b", "d", "c", "r", "a")
    assert from_nested({"r": {"b": 1, "a": {"d": 2, "c": 0}}}).names == ("c", "b", "d", "r", "a")
    assert from_nested({"r": {"b": 1, "a": {"d": 2, "c": 0}}}, classes=["d", "c", "b"]).names == (
        "d",
        "c",
        "b",
        "r",
        "a",
    )


def test_what_leads_to_no_class_is_left_out() -> None:
    pairs = [("r", "pet"), ("r", "car"), ("car", "bus"), ("pet", "cat"), ("pet", "dog"), ("dog", "pug"), ("r", "x")]
    assert from_edges(pairs, classes=["dog", "cat"]) == Tree([3, 3, -1, 2], ["dog", "cat", "r", "pet"])
    with pytest.raises(
        ValueError, match=r"^from_edges: expected classes that are not above each other, got 'dog' above 'pug'"
    ):
        from_edges(pairs, classes=["pug", "cat", "dog"])
    with pytest.raises(ValueError, match=r"^from_edges: expected classes that are nodes of the tree, got 'cow'"):
        from_edges(pairs, classes=["pug", "cow"])
    with pytest.raises(ValueError, match=r"^from_edges: expected classes that differ, got 'pug' twice"):
        from_edges(pairs, classes=["pug", "cat", "pug"])
    with pytest.raises(ValueError, match=r"^from_edges: expected at least 2 leaves, got 1"):
        from_edges(pairs, classes=["pug"])


@dataclass(eq=False)
class Item:
    name: str
    below: list["Item"] = field(default_factory=list)


HYPONYMS = {
    "entity": ["animal", "pet"],
    "animal": ["dog", "cat"],
    "pet": ["cat", "dog", "plush", "pet"],
    "dog": ["pug", "animal"],
}


@dataclass(frozen=True)
class Synset:
    """Made anew whenever it is asked for, and equal by its name, as NLTK's."""

    word: str

    def name(self) -> str:
        return self.word

    def hyponyms(self) -> list["Synset"]:
        return [Synset(word) for word in HYPONYMS.get(self.word, [])]


def test_objects_of_a_class() -> None:
    cats = [Item("cat"), Item("cat")]  # equal in name alone
    root = Item("all", [Item("pet", cats), Item("car")])
    tree = from_nodes(root, lambda item: item.below, lambda item: item.name)
    assert tree == Tree([3, 4, 4, -1, 3], ["car", "cat", "cat", "all", "pet"])
    assert from_nodes(root, lambda item: item.below, lambda item: item.name, cats).names == ("cat", "cat", "all", "pet")


def test_objects_that_cannot_be_hashed() -> None:
    cat: dict[str, Any] = {"name": "cat"}
    root: dict[str, Any] = {"name": "all", "children": [{"name": "pet", "children": [cat, {"name": "cat"}]}, cat]}
    tree = from_nodes(root, lambda node: node.get("children", ()), lambda node: node["name"])
    assert tree == Tree([2, 3, -1, 2], ["cat", "cat", "all", "pet"])


def test_a_graph_of_synsets() -> None:
    def tree(*words: str) -> Tree:
        classes = [Synset(word) for word in words] or None
        return from_nodes(Synset("entity"), lambda synset: synset.hyponyms(), lambda synset: synset.name(), classes)

    # Cat and dog are animals before they are pets.
    assert tree() == Tree([4, 5, 6, -1, 3, 3, 4], ["cat", "plush", "pug", "entity", "animal", "pet", "dog"])
    assert tree("dog", "cat") == Tree([3, 3, -1, 2], ["dog", "cat", "entity", "animal"])
    with pytest.raises(
        ValueError, match=r"^from_nodes: expected classes that are not above each other, got 'dog' above 'pug'"
    ):
        tree("dog", "pug")
    with pytest.raises(ValueError, match=r"^from_nodes: expected classes that are nodes of the tree, got Synset"):
        tree("dog", "ca")


def test_anytree() -> None:
    root = anytree.Node("all")
    pet, car = anytree.Node("pet", parent=root), anytree.Node("car", parent=root)
    cat, dog = anytree.Node("cat", parent=pet), anytree.Node("dog", parent=pet)
    assert root.leaves == (cat, dog, car)
    tree = from_nodes(root, lambda node: node.children, lambda node: node.name, root.leaves)
    assert tree == Tree([4, 4, 3, -1, 3], ["cat", "dog", "car", "all", "pet"])


NOT_TREES: list[tuple[str, str | bytes, str]] = [
    ("json", b'{"format": "softmaxes.tree",\n "names": ["\xff"]}', r"line 2: expected UTF-8, got byte 0xff"),
    ("csv", b"parent,child\na,b\na,\xe4\n", r"line 3: expected UTF-8, got byte 0xe4"),
    ("json", "", r"line 1 column 1: expected JSON, got the end of the file: Expecting value"),
    (
        "nested",
        '{"a": {"b": {},\n  "c" {}}}',
        r"line 2 column 7: expected JSON, got '\{\}\}\}': Expecting ':' delimiter",
    ),
    ("nested", "[" * 100_000, "expected JSON of some hundred levels at most, got too many"),
    ("nested", '{"a":' * 100_000 + "{}" + "}" * 100_000, "expected JSON of some hundred levels at most, got too many"),
    ("nested", '{"a": ' + "9" * 5000 + "}", "expected JSON, got a number that is too long: "),
    ("nested", '{"r": {"a": {}, "b": {}, "a": {}}}', "expected keys of a dictionary that differ, got 'a' twice"),
    ("nested", "[1, 2]", r"expected a dictionary with one key, the root, got \[1, 2\]"),
    ("nested", "{}", r"expected a dictionary with one key, the root, got \{\}"),
    ("nested", '{"a": {}, "b": {}}', r"expected a dictionary with one key, the root, got \{'a': \{\}, 'b': \{\}\}"),
    ("nested", '{"r": {"a": {}, "b": "c"}}', "expected a dictionary of what is below 'b', or its class, got 'c'"),
    ("nested", '{"r": {"a": 0, "b": true}}', "expected a dictionary of what is below 'b', or its class, got True"),
    ("nested", '{"r": {"a": 0, "b": 1.0}}', "expected a dictionary of what is below 'b', or its class, got 1.0"),
    ("nested", '{"r": {"a": 0, "b": NaN}}', "expected a dictionary of what is below 'b', or its class, got nan"),
    ("nested", '{"r": {"a": 0, "b": {}}}', r"expected the leaves to be classes 0..1, each once, got None for 'b'"),
    ("nested", '{"r": {"a": 1, "b": 1}}', r"expected the leaves to be classes 0..1, each once, got 1 for 'a'"),
    ("nested", '{"r": {"a": 0, "b": -1}}', r"expected the leaves to be classes 0..1, each once, got -1 for 'b'"),
    (
        "nested",
        '{"r": {"a": 0, "b": 36893488147419103232}}',
        "expected .*, got 36893488147419103232 for 'b'",
    ),
    ("nested", '{"r": {"a": {}}}', "expected at least 2 leaves, got 1"),
    ("json", "7", r'expected \{"format": "softmaxes.tree", ...\}, got 7'),
    (
        "json",
        '{"version": 1, "parent": [2, 2, -1], "names": null}',
        r'expected \{"format": "softmaxes.tree", ...\}, got',
    ),
    ("json", '{"format": "softmaxes.tree", "version": 2, "nodes": []}', r'expected "version": 1, got 2'),
    ("json", '{"format": "softmaxes.tree", "version": true}', r'expected "version": 1, got True'),
    ("json", '{"format": "softmaxes.tree"}', r'expected "version": 1, got None'),
    (
        "json",
        '{"format": "softmaxes.tree", "version": 1, "names": null}',
        "expected the keys format, version, parent, names, got 'format', 'version', 'names'",
    ),
    *(
        ("json", f'{{"format": "softmaxes.tree", "version": 1, "parent": {parent}, "names": {names}}}', message)
        for parent, names, message in [
            ("3", "null", 'expected "parent" to be a list, got 3'),
            ("[2, 2, -1]", "3", 'expected "names" to be a list, got 3'),
            ("[2, 2, -1]", '["a", "b"]', "expected a name for each of 3 nodes, got 2"),
            ("[2, 2, -1]", '["a", "b", 3]', "expected names to be strings, got 3 for node 2"),
            ('[2, "2", -1]', "null", r"parent\[1\]: expected an int in -1..2, got '2'"),
            ("[2, 2.0, -1]", "null", r"parent\[1\]: expected an int in -1..2, got 2.0"),
            ("[2, true, -1]", "null", r"parent\[1\]: expected an int in -1..2, got True"),
            ("[2, NaN, -1]", "null", r"parent\[1\]: expected an int in -1..2, got nan"),
            ("[2, 9223372036854775808, -1]", "null", r"parent\[1\]: expected an int in -1..2, got 9223372036854775808"),
            ("[2, 2, -2]", "null", r"parent\[2\]: expected an int in -1..2, got -2"),
            ("[]", "null", "expected one root, a node whose parent is -1, got 0"),
            ("[3, 3, -1, -1]", "null", "expected one root, a node whose parent is -1, got 2"),
            ("[2, 2, -1, 3]", "null", "expected every node to descend from the root, got node 3 in a cycle"),
        ]
    ),
    ("csv", "", r"line 0: expected a header with columns parent and child, got \[\]"),
    ("csv", "parent;child\na;b\n", r"line 1: expected a header with columns parent and child, got \['parent;child'\]"),
    ("csv", "parent,kid\na,b\n", r"line 1: expected a header with columns parent and child, got \['parent', 'kid'\]"),
    ("csv", "parent,child\r\na,b\r\n\r\na\r\n", r"line 4: expected 2 columns, child not empty, got \['a'\]"),
    ("csv", "parent,child\na,b, c\n", r"line 2: expected 2 columns, child not empty, got \['a', 'b', ' c'\]"),
    ("csv", "parent,child\na,\n", r"line 2: expected 2 columns, child not empty, got \['a', ''\]"),
    ("csv", 'parent,child\na,"b\n', "line 2: expected CSV, got an error: unexpected end of data"),
    ("csv", 'parent,child\na,"b"c\n', "line 2: expected CSV, got an error: "),
    ("csv", "parent,child\n", "expected one root, got 0"),
    ("csv", "parent,child\na,b\na,c\nd,b\n", "expected one parent for 'b', got 'a' and 'd'"),
    ("csv", "parent,child\na,b\na,c\na,b\n", "expected one parent for 'b', got 'a' and 'a'"),
    ("csv", "parent,child\na,b\nc,d\n", "expected one root, got 2: 'a', 'c'"),
    ("csv", "parent,child\na,b\nb,a\n", "expected one root, got 0"),
    (
        "csv",
        "parent,child\nr,x\nr,y\na,b\nb,c\nc,a\n",
        "expected every node to descend from the root 'r', got 'b' in a cycle",
    ),
    ("nbdt", "[]", r'expected lists "nodes" and "links", got \[\]'),
    ("nbdt", '{"nodes": []}', r"""expected lists "nodes" and "links", got \{'nodes': \[\]\}"""),
    ("nbdt", '{"nodes": [], "links": []}', "expected one root, got 0"),
    (
        "nbdt",
        '{"nodes": [{"id": "a"}, {"label": "b"}], "links": []}',
        r"""nodes\[1\]: expected an "id", .*got \{'label'""",
    ),
    (
        "nbdt",
        '{"nodes": [{"id": "a"}, {"id": [1]}], "links": []}',
        r"""nodes\[1\]: expected an "id", .*got \{'id': \[1""",
    ),
    (
        "nbdt",
        '{"nodes": [{"id": "a", "label": 1}], "links": []}',
        r'nodes\[0\]: expected an "id", and a string if a "lab',
    ),
    ("nbdt", '{"nodes": [{"id": "a"}, {"id": "a"}], "links": []}', "expected ids of nodes that differ, got 'a' twice"),
    *(
        ("nbdt", f'{{"nodes": [{{"id": "a"}}, {{"id": "b"}}, {{"id": 1}}], "links": [{links}]}}', message)
        for links, message in [
            ('{"source": "a"}', r'links\[0\]: expected ids of nodes for "source" and "target", got'),
            ('{"source": "a", "target": true}', r'links\[0\]: expected ids of nodes for "source" and "target", got'),
            ('{"source": "a", "target": {}}', r'links\[0\]: expected ids of nodes for "source" and "target", got'),
            (
                '{"source": "a", "target": "b"}, 3',
                r'links\[1\]: expected ids of nodes for "source" and "target", got 3',
            ),
            (
                '{"source": "a", "target": "b"}, {"source": 1, "target": "b"}',
                r"links\[1\]: expected one parent for 'b', got 'a' and 1",
            ),
            ('{"source": "a", "target": "b"}', "expected one root, got 2: 'a', '1'"),
        ]
    ),
    ("napkinxc", "", "line 1: expected the numbers of classes and nodes, got ''"),
    ("napkinxc", "two\n", "line 1: expected the numbers of classes and nodes, got 'two'"),
    ("napkinxc", "2 3\n-1 2\n2 0 0\n2 1_0 1\n", "line 4: expected parent, node and the label of a leaf, got '2 1_0 1'"),
    (
        "napkinxc",
        f"2 3\n-1 2\n2 0 0\n2 1 {2**63}\n",
        "line 4: expected parent, node and the label of a leaf, got '2 1 92",
    ),
    ("napkinxc", "2 4\n-1 2\n2 0 0\n2 1 1\n", "line 1: expected 2 classes and 3 nodes, as there are, got 2 and 4"),
    ("napkinxc", "2 3\n-1 2\n2 0 0\n2 3 1\n", r"expected nodes 0..2, each once, got 3"),
    ("napkinxc", "2 3\n-1 2\n2 0 0\n2 0 1\n", r"expected nodes 0..2, each once, got 0"),
    ("napkinxc", "2 3\n-1 2\n2 0 0\n3 1 1\n", r"expected parents in -1..2, got 3 for node 1"),
    ("napkinxc", "2 3\n-1 2\n2 0 0\n-2 1 1\n", r"expected parents in -1..2, got -2 for node 1"),
    ("napkinxc", "2 3\n-1 2\n2 0 0\n2 1\n", r"expected the leaves to have labels 0..1, each once, got -1 of node 1"),
    ("napkinxc", "2 3\n-1 2\n2 0 0\n2 1 0\n", r"expected the leaves to have labels 0..1, each once, got 0 of node 0"),
    ("napkinxc", "2 3\n-1 2\n2 0 0\n2 1 2\n", r"expected the leaves to have labels 0..1, each once, got 2 of node 1"),
    ("napkinxc", "2 3\n-1 2 2\n2 0 0\n2 1 1\n", r"expected label -1 of node 2, which has children, got 2"),
    ("napkinxc", "2 4\n-1 2\n-1 3\n2 0 0\n3 1 1\n", r"expected one root, got 2: 2, 3"),
    (
        "napkinxc",
        "2 5\n-1 2\n2 0 0\n2 1 1\n3 4\n4 3\n",
        "expected every node to descend from the root 2, got 3 in a cycle",
    ),
]


@pytest.mark.parametrize(("format", "content", "message"), NOT_TREES, ids=range(len(NOT_TREES)))
def test_a_file_that_is_no_tree(tmp_path: Path, format: str, content: str | bytes, message: str) -> None:
    path = tmp_path / "tree"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=f"tree: {message}") as raised:
        read(path, format)
    assert str(raised.value).startswith(f"{path}: ")
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < len(str(path)) + 300


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("kind", ["pipe", "folder", "device"])
def test_what_is_no_regular_file_is_refused_at_once(tmp_path: Path, format: str, kind: str) -> None:
    path = tmp_path / "tree"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path = Path("/dev/zero")
    with pytest.raises(ValueError, match=f"^{path}: expected a regular file, got a {kind}"):
        read(path, format)


@pytest.mark.parametrize("format", FORMATS)
def test_a_file_of_more_than_a_reader_takes_is_refused_before_it_is_parsed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format: str
) -> None:
    write(PETS, tmp_path / "tree", format)
    monkeypatch.setitem(FORMATS, format, FORMATS[format]._replace(read=None))  # type: ignore[arg-type]
    monkeypatch.setattr(io, "_json", None)
    bounds = {"MOST_BYTES": "file of at most 0 bytes", "MOST_VALUES": "at most 0 (values|lines)"}
    if FORMATS[format].is_json:
        bounds["MOST_DICTIONARIES"] = "at most 0 lists and dictionaries"
    for name, bound in bounds.items():
        with monkeypatch.context() as patched:
            patched.setattr(io, name, 0)
            with pytest.raises(ValueError, match=rf"^{tmp_path / 'tree'}: expected .*{bound}, got \d+"):
                read(tmp_path / "tree", format)


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("bound", ["MOST_BYTES", "MOST_VALUES", "MOST_DICTIONARIES"])
def test_a_tree_that_could_not_be_read_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format: str, bound: str
) -> None:
    path = tmp_path / "tree"
    for most in range(60):
        monkeypatch.setattr(io, bound, most)
        path.unlink(missing_ok=True)
        try:
            write(PETS, path, format)
        except ValueError as error:
            assert str(error).startswith(f"{path}: expected")  # noqa: PT017
            assert not path.exists()
        else:
            read(path, format)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["format", "version", "parent", "names", "nodes", "links", "id", "label", "source", "target"]
            )
            | st.text(max_size=2),
            inner,
            max_size=4,
        )
    ),
)


@given(trees(TEXT, unique=True), st.data())
@settings(deadline=None, max_examples=300)
@pytest.mark.slow
def test_whatever_a_file_holds_it_is_a_tree_or_an_error_of_one_line(
    folder: Path, tree: Tree, data: st.DataObject
) -> None:
    path = folder / "any.json"
    format = data.draw(st.sampled_from([None, *FORMATS]))
    if data.draw(st.booleans()):
        path.write_text(json.dumps(data.draw(JSON)))
    else:  # a file that is right but for some bytes
        write(tree, path, format)
        content = path.read_bytes()
        start = data.draw(st.integers(0, len(content)))
        end = data.draw(st.integers(start, min(start + 3, len(content))))
        path.write_bytes(
            content[:start]
            + data.draw(st.binary(max_size=2) | st.sampled_from([b"0", b"-1", b",", b"{}", b"]"]))
            + content[end:]
        )
    try:
        assert isinstance(read(path, format), Tree)
        return
    except ValueError as error:
        message = str(error)
    assert message.startswith(f"{path}: ")
    assert "expected" in message
    assert "\n" not in message


def test_objects_that_are_no_tree() -> None:
    with pytest.raises(TypeError, match=r"^from_edges: expected pairs \(parent, child\), got 'ab'"):
        from_edges(["ab"])  # type: ignore[list-item]
    with pytest.raises(TypeError, match=r"^from_edges: expected pairs \(parent, child\), got \('a', None\)"):
        from_edges([("a", None)])
    with pytest.raises(
        TypeError, match=r"^from_triples: expected triples \(parent, node, label\) of ints, got \(0, 1\)"
    ):
        from_triples([(0, 1)])  # type: ignore[list-item]
    with pytest.raises(TypeError, match=r"^from_triples: expected triples .* of ints, got \(0, 1, True\)"):
        from_triples([(0, 1, True)])
    with pytest.raises(ValueError, match=r"^from_nodes: expected names to be strings, got 1 for node 0"):
        from_nodes(2, {2: [1, 0], 1: [], 0: []}.__getitem__, lambda node: node)  # type: ignore[arg-type, return-value]
    with pytest.raises(ValueError, match=r"^from_nested: expected names that differ, got 'a' twice"):
        from_nested({"r": {"a": {}, "b": {"a": {}}}}, classes=["a", "b"])
    endless: dict[str, Any] = {"a": {}}
    endless["b"] = endless
    with pytest.raises(ValueError, match=r"^from_nested: expected a tree, got 'b' in a cycle"):
        from_nested({"r": endless})
    shared: dict[str, Any] = {"a": {}, "b": {}}
    assert from_nested({"r": {"x": shared, "y": shared}}).num_classes == 4


@pytest.mark.parametrize(
    ("format", "names", "message"),
    [
        ("csv", ["a", "b", "b"], "expected names that differ, got 'b' twice"),
        ("csv", ["a", "", "c"], "expected names that are not empty, got '' for node 1"),
        ("csv", ["1", "0", "c"], "expected no class to have another's number for a name, got '1' for class 0"),
        ("nested", ["a", "a", "c"], "expected names that differ below 'c', got 'a' twice"),
        ("json", ["a", "b", "\ud800"], r"expected names in UTF-8, got '\\ud800'"),
    ],
)
def test_a_tree_that_a_format_cannot_hold(tmp_path: Path, format: str, names: list[str], message: str) -> None:
    path = tmp_path / "tree"
    path.write_text("old")
    with pytest.raises(ValueError, match=f"tree: {message}"):
        write(Tree([2, 2, -1], names), path, format)
    assert path.read_text() == "old"


def test_a_converter_names_itself() -> None:
    with pytest.raises(ValueError, match=r"^to_edges: expected names that differ"):
        to_edges(Tree([2, 2, -1], ["a", "a", "b"]))
    with pytest.raises(ValueError, match=r"^to_nested: expected names that differ below 'b'"):
        to_nested(Tree([2, 2, -1], ["a", "a", "b"]))


def test_arguments_are_refused(tmp_path: Path) -> None:
    formats = "json, csv, nested, nbdt, napkinxc"
    for use in (partial(write, PETS), read):
        with pytest.raises(ValueError, match=rf"tree.txt: expected format to be given, one of {formats}, .*got '.txt'"):
            use(tmp_path / "tree.txt")
        with pytest.raises(ValueError, match=f"tree.txt: expected format to be one of {formats}, got 'xml'"):
            use(tmp_path / "tree.txt", "xml")
    with pytest.raises(FileNotFoundError, match=r"nothing\.json"):
        read(tmp_path / "nothing.json")
    for format in ("json", "napkinxc"):
        write(PETS, tmp_path / "tree", format)
        with pytest.raises(ValueError, match=r"tree: expected no classes, whose order is in the file, got \['cat'"):
            read(tmp_path / "tree", format, classes=["cat", "dog", "car"])


def test_a_file_is_replaced_whole_or_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(PETS, tmp_path / "tree.json")
    whole: Callable[..., int] = Path.write_bytes

    def fail(path: Path, content: bytes) -> int:
        whole(path, content[:10])
        raise OSError("no space left")

    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(OSError, match="no space left"):
        write(RAGGED, tmp_path / "tree.json")
    assert read(tmp_path / "tree.json") == PETS
    assert list(tmp_path.iterdir()) == [tmp_path / "tree.json"]


@pytest.mark.slow
def test_a_deep_tree(tmp_path: Path) -> None:
    depth = 100_000
    tree = Tree([depth, depth, -1, *range(2, depth)])
    assert tree.depth == depth - 1
    assert from_nested(to_nested(tree)) == from_edges(to_edges(tree)) == from_triples(to_triples(tree)) == tree
    assert from_nodes(tree.root, tree.children_of, str) == tree
    for format in ("json", "csv", "nbdt", "napkinxc"):
        assert there_and_back(tree, tmp_path, format) == tree
    with pytest.raises(
        ValueError, match=r"tree: expected a tree of some hundred levels at most, got Tree\(num_classes=2"
    ):
        write(tree, tmp_path / "tree", "nested")


@pytest.mark.slow
@pytest.mark.parametrize("format", FORMATS)
def test_a_large_tree_and_another_default_device(tmp_path: Path, format: str) -> None:
    tree = Tree.random(50_000, arity=3)
    with torch.device("meta"):
        assert there_and_back(tree, tmp_path, format) == tree
