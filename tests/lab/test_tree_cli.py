"""`softmaxes tree` as a stranger meets it."""

import html
import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from softmaxes import Tree
from softmaxes.lab.cli import tree as tree_verbs
from softmaxes.lab.cli.main import main
from softmaxes.lab.data.batches import lay_out
from softmaxes.lab.data.dataset import Data
from softmaxes.lab.records import Source
from softmaxes.lab.store import Store
from softmaxes.lab.training.train import train
from softmaxes.trees.io import read, write
from toy import toy_data, toy_run

DATA = toy_data()  # six classes in three groups, by the remainder of three


@pytest.fixture(autouse=True)
def toy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """`--data toy` names the toy data, and files are made in a folder of the test's own."""

    def load(source: Source) -> Data:
        assert source.data == "toy"
        return DATA

    monkeypatch.setattr("softmaxes.lab.data.sources.load_source", load)
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The result of a finished run of two heads, by name."""
    store = Store(tmp_path_factory.mktemp("runs"))
    lay_out(DATA, store)
    found = {}
    for head in ("softmax", "hierarchical-random"):
        run = toy_run(DATA, head)
        train(run, DATA.card(), store)
        found[head] = store.weights(run).with_suffix(".json")
    return found


def built(*options: str) -> Tree:
    assert main(["tree", "build", *options, "--out", "tree.json"]) == 0
    return read("tree.json")


@pytest.mark.slow
def test_trees_of_every_origin(runs: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert built("balanced", "--classes", "12", "--arity", "3") == Tree.balanced(12, 3)
    assert "Tree(num_classes=12, num_nodes=19, depth=3, arity=3): tree.json" in capsys.readouterr().out
    assert built("random", "--classes", "12", "--seed", "4") == Tree.random(12, seed=4)
    assert torch.equal(built("balanced", "--data", "toy").parent, Tree.balanced(6).parent)
    counts = [40, 1, 7, 7, 3]
    Path("counts.txt").write_text("".join(f"{count}\n" for count in counts))
    np.save("counts.npy", np.array(counts))
    for name in ("counts.txt", "counts.npy"):
        assert built("huffman", "--counts", name) == Tree.huffman(counts)
    assert torch.equal(built("huffman", "--data", "toy").parent, Tree.huffman([20] * 6).parent)
    Path("paths.txt").write_text("animal/dog\nanimal/cat\ncar\n")
    assert built("paths", "--paths", "paths.txt") == Tree.from_paths(["animal/dog", "animal/cat", "car"])
    vectors = torch.randn(10, 3, generator=torch.Generator().manual_seed(0))
    np.save("vectors.npy", vectors.numpy())
    assert built("clustered", "--vectors", "vectors.npy", "--seed", "1") == Tree.clustered(vectors, seed=1)
    assert built("agglomerative", "--vectors", "vectors.npy", "--arity", "3") == Tree.agglomerative(vectors, 3)
    assert built("clustered", "--vectors", str(runs["softmax"].with_suffix(".safetensors"))).num_classes == 6
    assert built("confusion", "--result", str(runs["softmax"])).num_classes == 6
    assert built("trained", "--result", str(runs["hierarchical-random"])) == Tree.random(6)


def test_data_give_names() -> None:
    tree = built("groups", "--data", "toy")
    assert tree.names == (*DATA.class_names, "root", "red", "green", "blue")
    assert torch.equal(tree.parent, Tree.from_groups([c % 3 for c in range(6)]).parent)


def test_a_tree_is_shown_folded_and_whole(runs: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    built("groups", "--data", "toy")
    capsys.readouterr()
    assert main(["tree", "show", "tree.json", "--lines", "5"]) == 0
    printed = capsys.readouterr().out
    assert "red (2 classes)" in printed
    assert len(printed.strip().splitlines()) == 6  # with a line for the tree itself
    options = ["--result", str(runs["softmax"]), "--out", "tree.html"]
    assert main(["tree", "show", "tree.json", *options]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"root \(6 classes\) 100.0\s%", printed)
    assert "page: tree.html" in printed
    page = Path("tree.html").read_text("utf-8")
    assert "<title>tree.json: 6 classes, depth 2</title>" in page
    assert "class 3" in page
    assert page.count("<rect") > 10
    assert "default-src 'none'" in html.unescape(page)


def test_a_name_cannot_be_a_script() -> None:
    Path("paths.txt").write_text("<script>alert(1)</script>|a\n<script>alert(1)</script>|b\nc\n")
    Path("tree.json").write_text(
        json.dumps(
            {"format": "softmaxes.tree", "version": 1, "parent": [3, 3, -1, 2, 2], "names": None}
            | {"parent": [3, 3, 4, 4, -1], "names": ["<script>", "b", "c", "<img onerror=x>", "root"]}
        )
    )
    assert main(["tree", "show", "tree.json", "--out", "tree.html"]) == 0
    page = Path("tree.html").read_text("utf-8")
    assert "<script" not in page
    assert "<img" not in page


def test_a_tree_is_written_in_other_formats(capsys: pytest.CaptureFixture[str]) -> None:
    tree = built("groups", "--data", "toy")
    for name, format in (("tree.csv", "csv"), ("graph.json", "nbdt"), ("nested.json", "nested"), ("t.txt", "napkinxc")):
        assert main(["tree", "export", "tree.json", "--out", name, "--format", format]) == 0
        again = read(name, format)
        assert again.num_classes == tree.num_classes
        assert again.names in (tree.names, None)
    assert main(["tree", "export", "t.txt", "--source-format", "napkinxc", "--out", "back.json"]) == 0
    assert torch.equal(read("back.json").parent, tree.parent)


def test_a_root_without_a_name_has_one_in_a_table() -> None:
    Path("paths.txt").write_text("root/dog\nroot/cat\ncar\n")
    built("paths", "--paths", "paths.txt")
    assert main(["tree", "export", "tree.json", "--out", "tree.csv"]) == 0
    assert read("tree.csv").names == ("dog", "cat", "car", "root 2", "root")


@pytest.mark.slow
def test_a_file_of_the_users_is_not_replaced(runs: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    built("groups", "--data", "toy")
    build = ["tree", "build", "balanced", "--classes", "5", "--out"]
    for command, name in (
        (build, "package.json"),
        (build, "table.csv"),
        (["tree", "export", "tree.json", "--out"], "edges.csv"),
        (["tree", "export", "tree.json", "--format", "nbdt", "--out"], "graph.json"),
        (["tree", "show", "tree.json", "--out"], "index.html"),
    ):
        Path(name).write_text("<html>parent,child</html>")
        capsys.readouterr()
        assert main([*command, name]) == 2
        printed = capsys.readouterr()
        assert printed.err == (
            f"softmaxes: {name}: expected no file, or one that this command wrote, got another; move it away first.\n"
        )
        assert printed.out == ""
        assert Path(name).read_text() == "<html>parent,child</html>"
        Path(name).write_text("")  # nothing to lose
        for _ in range(2):
            assert main([*command, name]) == 0
    assert main(["tree", "build", "balanced", "--classes", "6", "--out", "package.json"]) == 0  # such a tree, replaced
    assert read("package.json") == Tree.balanced(6)
    assert main(["tree", "show", "package.json", "--out", "index.html"]) == 0  # such a page
    assert main(["tree", "build", "balanced", "--classes", "6", "--out", "table.csv"]) == 2  # nobody knows whose
    assert read("table.csv").num_classes == 5


def test_trees_are_compared(
    runs: dict[str, Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    for method in ("balanced", "groups"):
        assert main(["tree", "build", method, "--data", "toy", "--out", f"{method}.json"]) == 0
    capsys.readouterr()
    options = ["--data", "toy", "--result", str(runs["softmax"])]
    assert main(["tree", "compare", "balanced.json", "groups.json", *options]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    balanced, groups = (
        next(line for line in lines if line and line[0] == f"{name}.json") for name in ("balanced", "groups")
    )
    assert balanced[1:6] == ["6", "12", "3", "2", "3.00"]
    assert groups[1:6] == ["6", "10", "2", "3", "2.00"]
    assert balanced[7] == "1.000"
    assert -1 < float(groups[7]) < 0.5  # classes in their order are of three groups in turn
    assert 1 <= float(groups[8]) <= 2


def shuffled() -> list[int]:
    """Files of paths over the toy data's classes in this order, and the tree of them."""
    order = [3, 0, 5, 1, 4, 2]
    Path("paths.txt").write_text("".join(f"{'ab'[c // 3]}/class {c}\n" for c in order))
    write(Tree.from_paths(Path("paths.txt").read_text().split("\n")[:-1]), "shuffled.json")
    return order


def test_a_tree_of_paths_has_the_order_of_the_data(capsys: pytest.CaptureFixture[str]) -> None:
    shuffled()
    assert read("shuffled.json").names[:2] == ("class 3", "class 0")
    tree = built("paths", "--paths", "paths.txt", "--data", "toy")
    assert list(tree.names[:6]) == DATA.class_names
    assert [tree.names[node] for node in tree.parent[:6].tolist()] == [*"aaabbb"]


def test_leaves_are_the_classes_of_their_names(runs: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    shuffled()
    shown = []
    for name in ("shuffled.json", "tree.json"):
        built("paths", "--paths", "paths.txt", "--data", "toy")
        capsys.readouterr()
        assert main(["tree", "show", name, "--data", "toy", "--result", str(runs["softmax"])]) == 0
        shown.append(sorted(capsys.readouterr().out.replace("└", "├").splitlines()))
    assert shown[0] == shown[1]
    assert main(["tree", "show", "shuffled.json", "--data", "toy"]) == 0
    lines = [line.strip("├─└│ ") for line in capsys.readouterr().out.splitlines()]
    assert sorted(lines[lines.index("a (3 classes)") + 1 :][:3]) == ["class 0", "class 1", "class 2"]


def test_trees_are_compared_by_name(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    shuffled()
    built("paths", "--paths", "paths.txt", "--data", "toy")
    Path("other.txt").write_text("".join(f"{'ab'[c // 3]}/other {c}\n" for c in (3, 0, 5, 1, 4, 2)))
    write(Tree.from_paths(Path("other.txt").read_text().split("\n")[:-1]), "others.json")

    def likeness(*words: str) -> float:
        capsys.readouterr()
        assert main(["tree", "compare", *words]) == 0
        return float(capsys.readouterr().out.strip().splitlines()[-1].split()[-1])

    assert likeness("tree.json", "shuffled.json") == 1
    assert likeness("shuffled.json", "tree.json") == 1
    assert likeness("tree.json", "others.json") < 0.5  # by number


def test_names_that_the_data_have_not_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    Path("paths.txt").write_text(
        "".join(f"{'ab'[c // 3]}/{c or 'class'} x\n" for c in range(6)).replace("5 x", "class 5")
    )
    Path("twice.txt").write_text("".join(f"{c}/class {c % 5}\n" for c in range(6)))
    write(Tree.from_paths(Path("paths.txt").read_text().split("\n")[:-1]), "named.json")
    said = "a tree over the classes of toy, by their names, got 5 missing, such as 'class 0', and 5 too many, such as '"
    for command, message in (
        (["show", "named.json", "--data", "toy"], f"named.json: expected {said}"),
        (["compare", "named.json", "named.json", "--data", "toy"], f"named.json: expected {said}"),
        (["build", "paths", "--paths", "paths.txt", "--data", "toy", "--out", "t.json"], f"paths.txt: expected {said}"),
        (
            ["build", "paths", "--paths", "twice.txt", "--data", "toy", "--out", "t.json"],
            "got 1 missing, such as 'class 5', and 1 too many, such as 'class 0'.",
        ),
    ):
        capsys.readouterr()
        assert main(["tree", *command]) == 2
        printed = capsys.readouterr()
        assert (printed.out, printed.err.count("\n")) == ("", 1)
        assert message in printed.err
        assert not Path("t.json").exists()


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["build", "balanced"], "--out"),
        (["build", "balanced", "--out", "t.json"], "tree build balanced: expected --classes or --data, got none."),
        (["build", "balanced", "--classes", "1", "--out", "t.json"], "--classes: expected 2 to 10,000,000, got 1."),
        (["build", "huffman", "--out", "t.json"], "tree build huffman: expected --counts or --data, got none."),
        (["build", "huffman", "--counts", "words.txt", "--out", "t.json"], "words.txt: line 2: expected a number"),
        (["build", "huffman", "--counts", "minus.txt", "--out", "t.json"], "minus.txt: Tree: expected counts to be"),
        (["build", "paths", "--paths", "bytes.txt", "--out", "t.json"], "bytes.txt: expected text in UTF-8"),
        (["build", "clustered", "--vectors", "words.npy", "--out", "t.json"], "words.npy: expected arrays of numbers"),
        (["build", "clustered", "--vectors", "w.safetensors", "--out", "t.json"], "w.safetensors: expected a run's"),
        (["build", "trained", "--result", "words.txt", "--out", "t.json"], "words.txt: expected Result as JSON"),
        (["build", "balanced", "--classes", "4", "--out", "t.tree"], "t.tree: expected"),
        (["build", "balanced", "--classes", "10000001", "--out", "t.json"], "--classes: expected 2 to 10,000,000, got"),
        (["build", "random", "--classes", f"{10**18}", "--out", "t.json"], "--classes: expected 2 to 10,000,000, got"),
        (["build", "random", "--classes", f"{10**400}", "--out", "t.json"], "--classes: expected a whole number, got"),
        (["build", "random", "--classes", "2.5", "--out", "t.json"], "--classes: expected a whole number, got '2.5'."),
        (["build", "random", "--classes", "4", "--arity", "1", "--out", "t.json"], "--arity: expected 2 or more, got "),
        (["build", "random", "--classes", "4", "--arity", "5", "--out", "t.json"], "--arity: expected at most 4, as "),
        (["build", "huffman", "--data", "toy", "--arity", "7", "--out", "t.json"], "--arity: expected at most 6, as "),
        (["build", "paths", "--arity", "3", "--out", "t.json"], "--arity: expected none with tree build paths, which"),
        (["build", "groups", "--data", "toy", "--classes", "6", "--out", "t.json"], "--classes: expected none with tr"),
        (["build", "balanced", "--classes", "4", "--seed", "0", "--out", "t.json"], "--seed: expected none with tree "),
        (["build", "balanced", "--classes", "4", "--paths", "x", "--out", "t.json"], "--paths: expected none with"),
        (["build", "balanced", "--classes", "4", "--data", "toy", "--out", "t.json"], "over the 6 classes of toy, got"),
        (["show", "good.json", "--data", "toy"], "good.json: expected a tree over the 6 classes of toy, got one over"),
        (["build", "random", "--classes", "4", "--arity", "2.5", "--out", "t.json"], "--arity: expected a whole numb"),
        (["build", "random", "--classes", "4", "--seed", f"{10**20}", "--out", "t.json"], "--seed: expected -9,223,3"),
        (["build", "huffman", "--counts", "large.txt", "--out", "t.json"], "large.txt: line 2: expected a number b"),
        (["build", "huffman", "--counts", "digits.txt", "--out", "t.json"], "digits.txt: line 1: expected a number"),
        (["build", "huffman", "--counts", "sum.txt", "--out", "t.json"], "sum.txt: Tree: expected counts whose sum is"),
        (["build", "huffman", "--counts", "/dev/zero", "--out", "t.json"], "/dev/zero: expected a regular file, got a"),
        (["build", "huffman", "--counts", "square.npy", "--out", "t.json"], "square.npy: expected an array of number"),
        (["build", "paths", "--paths", "pipe", "--out", "t.json"], "pipe: expected a regular file, got a pipe."),
        (["build", "paths", "--paths", "long.txt", "--out", "t.json"], "long.txt: line 1: expected at most 100,000"),
        (["build", "clustered", "--vectors", "pipe.npy", "--out", "t.json"], "pipe.npy: expected a regular file, got"),
        (["build", "clustered", "--vectors", "pipe", "--out", "t.json"], "pipe: expected a regular file, got a pipe."),
        (["build", "clustered", "--vectors", "folder", "--out", "t.json"], "folder: expected a regular file, got a"),
        (["build", "trained", "--result", "pipe", "--out", "t.json"], "pipe: expected a regular file, got a pipe."),
        (["show", "pipe", "--format", "csv"], "pipe: expected a regular file, got a pipe."),
        (["show", "folder", "--format", "napkinxc"], "folder: expected a regular file, got a folder."),
        (["compare", "good.json", "folder.json"], "folder.json: expected a regular file, got a folder."),
        (["build", "balnced", "--classes", "4", "--out", "t.json"], "balnced"),
        (["show", "none.json"], "none.json: No such file or directory."),
        (["show", "words.txt"], "words.txt: expected a name that ends in .csv or .json, or --format, got neither."),
        (["show", "broken.json"], "broken.json: line 1"),
        (["show", "good.json", "--lines", "0"], "--lines: expected 1 or more, got 0."),
        (["compare", "good.json", "other.json"], "expected trees over the same number of classes, got [4, 5]."),
    ],
)  # fmt: skip
def test_bad_input_is_one_line(command: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("words.txt").write_text("1\ntwo\n")
    Path("minus.txt").write_text("1\n-2\n")
    Path("bytes.txt").write_bytes(b"a\xff")
    Path("words.npy").write_text("no array")
    Path("w.safetensors").write_text("no weights")
    Path("broken.json").write_text('{"format": ')
    Path("large.txt").write_text(f"1\n{10**400}\n")
    Path("digits.txt").write_text("9" * 5000)
    Path("sum.txt").write_text("1e308\n1e308\n")
    Path("long.txt").write_text("a/" * 60_000)
    np.save("square.npy", np.eye(3))
    for name in ("pipe", "pipe.npy"):
        os.mkfifo(name)
    for name in ("folder", "folder.json"):
        Path(name).mkdir()
    main(["tree", "build", "balanced", "--classes", "4", "--out", "good.json"])
    main(["tree", "build", "balanced", "--classes", "5", "--out", "other.json"])
    capsys.readouterr()
    assert main(["tree", *command]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert message in said.err
    assert len(said.err.strip().splitlines()) == 1
    assert not Path("t.json").exists()


def test_a_result_over_more_classes_than_the_tree_is_refused(
    runs: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """An inner node of the tree has the number of a class of the result."""
    assert main(["tree", "build", "balanced", "--classes", "5", "--out", "t.json"]) == 0
    for verb in ("show", "compare"):
        capsys.readouterr()
        assert main(["tree", verb, "t.json", "--result", str(runs["softmax"])]) == 2
        said = capsys.readouterr()
        assert (said.out, said.err.count("\n")) == ("", 1)
        assert "--result: expected a run over the tree's 5 classes, got class 5." in said.err


def test_classes_of_which_no_memory_holds_all_pairs(
    runs: dict[str, Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("softmaxes.lab.machine.free_memory", lambda: 800)
    assert main(["tree", "build", "confusion", "--result", str(runs["softmax"]), "--out", "t.json"]) == 2
    assert "there is memory, 800 bytes, got 6, which need 864." in capsys.readouterr().err


@pytest.mark.slow
def test_chains_of_thousands_of_levels_are_compared(capsys: pytest.CaptureFixture[str]) -> None:
    size = 5000
    write(Tree([*range(size, 2 * size - 1), 2 * size - 2, -1, *range(size, 2 * size - 2)]), "chain.json")
    write(Tree.balanced(size), "flat.json")
    assert main(["tree", "compare", "chain.json", "flat.json"]) == 0
    assert "4999" in capsys.readouterr().out


def test_weights_of_a_tree_are_no_class_vectors(runs: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    weights = str(runs["hierarchical-random"].with_suffix(".safetensors"))
    assert main(["tree", "build", "clustered", "--vectors", weights, "--out", "t.json"]) == 2
    assert "expected the weights of a head with a row a class, got those of another." in capsys.readouterr().err
    assert main(["tree", "build", "trained", "--result", str(runs["softmax"]), "--out", "t.json"]) == 2
    assert "expected a run of a head over one tree, got one of another head." in capsys.readouterr().err


def test_fonts_are_for_glyphs_alone(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.undo()
    command = ["tree", "build", "groups", "--data", "cifar10", "--fonts", "x", "--out", "/nowhere/tree.json"]
    assert main(command) == 2
    assert "--fonts: expected none with --data cifar10" in capsys.readouterr().err


def test_more_files_than_can_be_compared_are_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tree_verbs, "MOST_FILES", 2)
    write(Tree.balanced(4), Path("one.json"))
    assert main(["tree", "compare", "one.json", "one.json"]) == 0
    assert main(["tree", "compare", "one.json", "one.json", "one.json"]) == 2
    assert "expected at most 2 files with trees, got 3." in capsys.readouterr().err
