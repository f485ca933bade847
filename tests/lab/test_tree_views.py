"""What a reader sees of a tree: every class is drawn or counted, whatever the tree."""

import io
import math
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections import defaultdict

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from rich.tree import Tree as Lines

from cases import RAGGED
from softmaxes import Tree, metrics
from softmaxes.lab.report import tree as views
from softmaxes.lab.report.palette import DARK_PAGE, LIGHT_PAGE
from softmaxes.lab.report.tree import icicle_svg, terminal_tree
from strategies import trees

CHAIN = 2000  # Class 0 or (class 1 or (class 2 or ...)).
LARGE = {
    "binary": Tree.balanced(10_000),
    "groups": Tree.from_groups(torch.arange(10_000) // 70),
    "flat": Tree([10_000] * 10_000 + [-1]),
    "chain": Tree([*range(CHAIN, 2 * CHAIN - 1), 2 * CHAIN - 2, -1, *range(CHAIN, 2 * CHAIN - 2)]),
}
ALERT = "<script>alert(1)</script>"
HOSTILE = (ALERT, "\x1b[31mred\n", "[bold]b[/bold]", "a\"b'c&amp;", "漢字", "]]></style>", "x" * 500)


def printed(lines: Lines, width: int = 100) -> list[str]:
    file = io.StringIO()
    Console(file=file, width=width).print(lines)
    return file.getvalue().splitlines()


def counted(lines: Lines) -> int:
    """The classes that lines tell of: each is a class, a node with what is drawn below it, or a number of classes."""
    if lines.children:
        return sum(counted(child) for child in lines.children)
    found = re.search(r"([\d,]+) (more )?class(es)?\b", str(lines.label))
    return int(found[1].replace(",", "")) if found else 1


def test_a_small_tree_is_whole() -> None:
    tree = Tree([5, 5, 5, 6, 6, 7, 7, -1], ["ant", "bee", "cat", "dog", "eel", "land", "", "all"])
    value = [0.5, math.nan, 1, 0, 0.25, 0.875, 0.5, 1]
    assert printed(terminal_tree(tree, value_of_node=value)) == [
        "all (5 classes) 100.0\xa0%",
        "├── land (3 classes) 87.5\xa0%",
        "│   ├── ant 50.0\xa0%",
        "│   ├── bee",
        "│   └── cat 100.0\xa0%",
        "└── 2 classes 50.0\xa0%",
        "    ├── dog 0.0\xa0%",
        "    └── eel 25.0\xa0%",
    ]
    assert printed(terminal_tree(tree, ["1", "2", "3", "4", "5"]))[2] == "│   ├── 1"
    assert printed(terminal_tree(RAGGED))[:2] == ["7 classes", "├── class 0"]


def test_a_folded_tree_opens_the_first_nodes() -> None:
    """The root takes half of the lines that are left, its first child half of the rest, and so on."""
    tree = Tree.from_groups([c // 10 for c in range(1000)])
    assert printed(terminal_tree(tree, max_lines=21)) == [
        "1,000 classes",
        "├── 10 classes",
        "│   ├── class 0",
        "│   ├── class 1",
        "│   ├── class 2",
        "│   ├── class 3",
        "│   └── … 6 more classes",
        "├── 10 classes",
        "│   ├── class 10",
        "│   └── … 9 more classes",
        *["├── 10 classes"] * 7,
        "└── … 91 more (910 classes)",
    ]
    assert len(printed(terminal_tree(Tree([30] * 30 + [-1]), max_lines=31))) == 31  # nobody else wants a line


def test_the_way_to_the_first_class_is_opened_first() -> None:
    assert printed(terminal_tree(Tree.balanced(16), max_lines=14)) == [
        "16 classes",
        "├── 8 classes",
        "│   ├── 4 classes",
        "│   │   ├── 2 classes",
        "│   │   │   ├── class 0",
        "│   │   │   └── class 1",
        "│   │   └── 2 classes",
        "│   └── 4 classes",
        "└── 8 classes",
        "    ├── 4 classes",
        "    └── 4 classes",
    ]


@given(trees(), st.integers(1, 40))
@settings(deadline=None, max_examples=200)
@pytest.mark.slow
def test_every_class_is_shown_or_counted(tree: Tree, max_lines: int) -> None:
    lines = terminal_tree(tree, max_lines=max_lines)
    assert len(printed(lines)) <= max_lines
    # A class is called "class 3": that is no count.
    lines = terminal_tree(tree, ["leaf"] * tree.num_classes, max_lines=max_lines)
    assert counted(lines) == tree.num_classes
    if max_lines > 2 * tree.num_nodes:
        assert len(printed(lines)) == tree.num_nodes


@pytest.mark.parametrize("tree", LARGE.values(), ids=LARGE)
def test_a_large_tree_is_folded(tree: Tree) -> None:
    lines = terminal_tree(tree, ["leaf"] * tree.num_classes)
    assert 20 <= len(printed(lines)) <= 40
    assert counted(lines) == tree.num_classes
    level, depth = [lines], 0
    while level := [child for node in level for child in node.children]:
        depth += 1
    assert depth == min(tree.depth, views.DEEPEST)


def test_strangers_names_stay_text() -> None:
    tree = Tree([7] * 7 + [-1], [*HOSTILE, ALERT])
    lines = printed(terminal_tree(tree))
    assert len(lines) == 8
    assert lines[0] == f"{ALERT} (7 classes)"
    assert lines[2].endswith(" \ufffd[31mred\ufffd")
    assert lines[3].endswith(" [bold]b[/bold]")
    assert lines[7].endswith(f" {'x' * 59}…")
    svg = icicle_svg(tree, None, np.linspace(0, 1, 8), value_name=ALERT)
    assert "<script" not in svg
    assert svg.count("</style>") == 1
    assert "\x1b" not in svg
    assert [box.lines[0] for box in boxes(svg)][:4] == [ALERT, ALERT, "\ufffd[31mred\ufffd", "[bold]b[/bold]"]


class Drawn:
    """A box of an icicle, as a browser has it."""

    def __init__(self, rect: ET.Element) -> None:
        self.x, self.y, self.width, self.height = (float(rect.attrib[name]) for name in ("x", "y", "width", "height"))
        self.shade = rect.attrib["class"].split()[0]
        self.lines = (rect[0].text or "").split("\n")
        found = re.fullmatch(r"([\d,]+) nodes", self.lines[0])
        self.nodes = int(found[1].replace(",", "")) if found else 1


def parsed(svg: str) -> ET.Element:
    return ET.fromstring(svg.replace(' xmlns="http://www.w3.org/2000/svg"', ""))  # noqa: S314


def boxes(svg: str) -> list[Drawn]:
    return [Drawn(rect) for rect in parsed(svg).iter("rect") if len(rect)]


def texts(svg: str) -> list[str]:
    return [text.text or "" for text in parsed(svg).iter("text")]


def test_a_node_is_as_high_as_it_has_classes() -> None:
    drawn = boxes(icicle_svg(RAGGED))
    assert len(drawn) == RAGGED.num_nodes
    by_name = {box.lines[0]: box for box in drawn}
    assert [by_name[f"class {c}"].height for c in range(7)] == [views.LINE] * 7
    assert {name: (box.y, box.height, box.lines[1:]) for name, box in by_name.items() if name.startswith("node")} == {
        "node 10": (0, 7 * views.LINE, ["7 classes"]),
        "node 7": (1 * views.LINE, 4 * views.LINE, ["4 classes"]),
        "node 9": (5 * views.LINE, 2 * views.LINE, ["2 classes"]),
        "node 8": (6 * views.LINE, 1 * views.LINE, []),
    }
    assert by_name["class 0"].y == 0
    assert by_name["class 5"].y == 6 * views.LINE  # class 6 lies a level higher and comes first
    level = by_name["node 10"].width
    assert [by_name[name].x / level for name in ("node 10", "class 0", "class 6", "class 5")] == [0, 1, 2, 3]


def test_a_node_is_as_high_as_its_counts() -> None:
    svg = icicle_svg(RAGGED, counts=[4, 0, 1, 1, 2, 8, 5])
    by_name = {box.lines[0]: box for box in boxes(svg)}
    assert [text for text in texts(svg) if text.startswith("class ")] == ["class 0", "class 6", "class 5"]
    assert "class 1" not in by_name
    pixel = 7 * views.LINE / 21
    assert by_name["node 7"].lines == ["node 7", "4 classes", "count 4"]
    starts = {"class 0": (0, 4), "node 7": (4, 4), "class 4": (6, 2), "node 9": (8, 13), "class 5": (13, 8)}
    for name, (start, size) in starts.items():
        assert by_name[name].y == pytest.approx(start * pixel, abs=0.01)
        assert by_name[name].height == pytest.approx(size * pixel, abs=0.01)


def test_colours_tell_values() -> None:
    tree = Tree([10] * 10 + [-1])
    value = [0, 0.124, 0.125, 0.49, 0.5, 0.624, 0.625, 0.999, 1, math.nan, 0.9]
    svg = icicle_svg(tree, None, value, value_name="recall")
    expected = ["q7", "q0", "q0", "q1", "q3", "q4", "q4", "q5", "q7", "q7", "none"]
    assert [box.shade for box in boxes(svg)] == expected
    assert [box.lines[-1] for box in boxes(svg)][:2] == ["recall 90.0\xa0%", "recall 0.0\xa0%"]
    assert boxes(svg)[-1].lines == ["class 9", "recall unknown"]
    assert texts(svg)[:4] == ["recall", "0 %", "100 %", "unknown"]
    assert "unknown" not in texts(icicle_svg(tree, None, [0.5] * 11))
    assert {box.shade for box in boxes(icicle_svg(tree))} == {"plain"}
    for shade in (*set(expected), "plain"):
        assert f".icicle .{shade}{{fill:" in svg


def contrast(first: list[float], second: list[float]) -> float:
    def luminance(colour: list[float]) -> float:
        linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in (c / 255 for c in colour)]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(first), luminance(second)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("page", [LIGHT_PAGE, DARK_PAGE], ids=["light", "dark"])
def test_text_stands_out_from_every_shade(page: dict[str, str]) -> None:
    svg = icicle_svg(Tree([8] * 8 + [-1]), None, [*np.arange(0.5, 8) / 8, 1])

    def colour(css: str) -> list[float]:
        if mixed := re.fullmatch(r"color-mix\(in srgb,(.*?\)) (\d+)%,(.*?\))\)", css):
            share = int(mixed[2]) / 100
            return [share * a + (1 - share) * b for a, b in zip(colour(mixed[1]), colour(mixed[3]), strict=True)]
        if named := re.fullmatch(r"var\(--([\w-]+),(#\w+)\)", css):
            assert named[2] == LIGHT_PAGE[named[1]]  # what it is in a file of its own
            css = page[named[1]]
        return [int(css[start : start + 2], 16) for start in (1, 3, 5)]

    def fill(rule: str) -> list[float]:
        return colour(svg.split(f".icicle {rule}{{fill:")[1].split("}")[0].split(";")[0])

    for eighth in range(8):
        ink = views._ink((eighth + 0.5) / 8)
        assert contrast(fill(f".q{eighth}"), fill(f".{ink}" if ink else "text")) >= 4.5
    for shade in (".none", ".plain"):
        assert contrast(fill(shade), fill("text")) >= 4.5
    grounds = [contrast(fill(f".q{eighth}"), colour(page["ground"])) for eighth in range(8)]
    assert sorted(grounds) == grounds
    assert grounds[0] > 1.15


def test_labels_stand_where_they_fit() -> None:
    groups = ["a short name", "a name that is much too long for the column of its level", "thin"]
    tree = Tree([31] * 10 + [32] * 10 + [33] + [30, 30, 34] + [34] * 6 + [-1, 30, 30, 30, 30], None)
    names = [f"n{c}" for c in range(30)] + ["root", *groups, ""]
    svg = icicle_svg(Tree(tree.parent, names), None, [0.5] * 35)
    shown = texts(svg)
    assert shown[3:5] == ["root", "50.0\xa0%"]
    assert {"a short name", "thin", *names[:30]} <= set(shown)  # a class of its own line is always named
    assert next(text for text in shown if text.startswith("a name")).endswith("…")
    assert "rotate" not in svg
    narrow = icicle_svg(Tree(tree.parent, names), None, [0.5] * 35, width=240)
    assert re.search(r"rotate\(-90 [\d. ]+\)\">a short name<", narrow)
    deep = icicle_svg(LARGE["chain"])
    assert "rotate(-90" in deep
    assert f"{CHAIN:,} classes" in texts(deep)
    for depth, notes in ((9, []), (10, ["1 deeper level not drawn."]), (11, ["2 deeper levels not drawn."])):
        chain = Tree([*range(depth + 1, 2 * depth + 1), 2 * depth, -1, *range(depth + 1, 2 * depth)])
        assert [text for text in texts(icicle_svg(chain, width=240)) if "deeper" in text] == notes
    assert not any(text.startswith("class ") for text in texts(icicle_svg(LARGE["flat"])))


@pytest.mark.parametrize("valued", [False, True])
@pytest.mark.parametrize("tree", LARGE.values(), ids=LARGE)
def test_a_large_tree_is_small_and_whole(tree: Tree, valued: bool) -> None:
    value = np.random.default_rng(0).random(tree.num_nodes) if valued else None
    svg = icicle_svg(tree, [f"A class with quite a long name {c}" for c in range(tree.num_classes)], value)
    assert len(svg.encode()) < 300_000
    assert len(boxes(svg)) <= views.BOXES
    levels = check_levels(tree, svg)
    left_out = tree.depth + 1 - levels
    assert (f"{left_out:,} deeper levels not drawn." in texts(svg)) == (left_out > 0)
    merged = any(re.fullmatch(r"Neighbours of less than \d+ pixels? are drawn as one\.", text) for text in texts(svg))
    assert merged == any(box.nodes > 1 for box in boxes(svg)) == (left_out == 0)
    if left_out == 0:  # all classes are at one depth: no level has a gap
        assert sum(box.height for box in boxes(svg)) == pytest.approx(levels * views.HEIGHT, abs=2)


def check_levels(tree: Tree, svg: str) -> int:
    """Every node of each level that is drawn is in one box, and boxes of one level lie below each other."""
    columns: defaultdict[float, list[Drawn]] = defaultdict(list)
    for box in boxes(svg):
        columns[box.x].append(box)
    at_depth = torch.bincount(tree.node_depth).tolist()
    for depth, x in enumerate(sorted(columns)):
        assert sum(box.nodes for box in columns[x]) == at_depth[depth]
        for above, below in zip(columns[x], columns[x][1:], strict=False):
            assert above.y + above.height <= below.y + 0.1
    return len(columns)


@given(trees(), st.integers(1, 12), st.integers(10, 60))
@settings(deadline=None, max_examples=100)
@pytest.mark.slow
def test_thin_neighbours_are_drawn_as_one(tree: Tree, most: int, height: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(views, "BOXES", max(most, tree.depth + 1))
        patch.setattr(views, "WITH_LINES", 1)
        patch.setattr(views, "HEIGHT", height)
        svg = icicle_svg(tree)
    assert len(boxes(svg)) <= max(most, tree.depth + 1)
    assert check_levels(tree, svg) == tree.depth + 1


def test_neighbours_drawn_as_one_have_their_mean_value() -> None:
    """1440 classes on 720 pixels: two in a box."""
    counts = [1, 3] * 720
    value = np.array([*[0.0, 1.0] * 720, 1.0])
    value[:4] = math.nan, 0.5, math.nan, math.nan
    root, *drawn = boxes(icicle_svg(Tree([1440] * 1440 + [-1]), None, value, counts=counts))
    assert root.lines == ["node 1440", "1,440 classes", "count 2,880", "accuracy 100.0\xa0%"]
    assert drawn[0].lines == ["2 nodes", "2 classes", "count 4", "mean accuracy 50.0\xa0%"]
    assert drawn[1].lines == ["2 nodes", "2 classes", "count 4", "mean accuracy unknown"]
    assert [box.shade for box in drawn[:3]] == ["q4", "none", "q6"]
    assert {tuple(box.lines[1:]) for box in drawn[2:]} == {("2 classes", "count 4", "mean accuracy 75.0\xa0%")}
    assert len(drawn) == 720


def test_the_icicle_says_what_it_is() -> None:
    svg = parsed(icicle_svg(RAGGED, None, [1.0] * 11, value_name="a & b"))
    assert svg.attrib["role"] == "img"
    assert svg.attrib["aria-label"] == "Tree of 7 classes, depth 3, coloured by a & b"
    assert [svg[0].tag, svg[0].text, svg[1].tag] == ["title", svg.attrib["aria-label"], "desc"]
    assert svg[1].text == "The root is on the left; each column is a level, and a node is as high as it has classes."
    assert parsed(icicle_svg(RAGGED)).attrib["aria-label"] == "Tree of 7 classes, depth 3"


def test_the_accuracy_of_nodes_is_shown() -> None:
    confusion = torch.tensor([[0, 0, 3], [0, 1, 1], [1, 0, 2], [1, 6, 2], [6, 5, 4]])
    accuracy = metrics.node_accuracy(confusion, RAGGED)
    assert "class 0 75.0\xa0%" in printed(terminal_tree(RAGGED, value_of_node=accuracy))[1]
    said = {box.lines[0]: box.lines[-1] for box in boxes(icicle_svg(RAGGED, None, accuracy))}
    assert [said[name] for name in ("node 10", "node 9", "class 6", "class 0", "node 7", "class 2")] == [
        f"accuracy {value}" for value in ("100.0\xa0%", "100.0\xa0%", "0.0\xa0%", "75.0\xa0%", "0.0\xa0%", "unknown")
    ]


def test_what_does_not_fit_the_tree_is_refused() -> None:
    for function in (terminal_tree, icicle_svg):
        name = function.__name__
        with pytest.raises(ValueError, match=rf"^{name}: expected names of 7 classes, got 2\.$"):
            function(RAGGED, ["a", "b"])
        with pytest.raises(ValueError, match=rf"^{name}: expected a value for each of 11 nodes, got shape \(7,\)\.$"):
            function(RAGGED, None, [1.0] * 7)
        for wrong in (-0.25, 1.25):
            with pytest.raises(ValueError, match=rf"^{name}: expected values in 0..1 or NaN, got {wrong}\.$"):
                function(RAGGED, None, [0.5] * 10 + [wrong])
    with pytest.raises(ValueError, match=r"^terminal_tree: expected max_lines to be at least 1, got 0\.$"):
        terminal_tree(RAGGED, max_lines=0)
    for width in (239, 4001):
        with pytest.raises(ValueError, match=rf"^icicle_svg: expected width in 240..4000, got {width}\.$"):
            icicle_svg(RAGGED, width=width)
    with pytest.raises(ValueError, match=r"^icicle_svg: expected counts of 7 classes, got 11\.$"):
        icicle_svg(RAGGED, counts=[1] * 11)
    with pytest.raises(ValueError, match=r"^icicle_svg: expected counts not all 0, got 7 zeros\.$"):
        icicle_svg(RAGGED, counts=[0] * 7)


def test_the_module_imports_no_torch() -> None:
    code = "import sys, softmaxes.lab.report.tree; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_what_has_no_value_is_named_where_its_name_fits_and_else_not_shown() -> None:
    shown = {width: "".join(views._legend("accuracy", True, width)) for width in range(150, 520, 2)}
    for legend in shown.values():
        assert ('class="none"' in legend) == (">unknown<" in legend)
    assert {'class="none"' in legend for legend in shown.values()} == {True, False}


def test_a_value_stands_below_its_name() -> None:
    box = views.Box(depth=0, start=0.0, size=40.0, node=0, nodes=1, classes=3, weight=3.0, value=0.5)
    drawn = "".join(views._inside(box, "ape", 10.0, 20.0, 200.0, "", valued=True))
    assert re.findall(r'y="([\d.]+)"[^>]*>([^<]*)<', drawn) == [("13", "ape"), ("27", "50.0\xa0%")]
