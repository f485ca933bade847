"""A class tree to look at: folded, as lines for the terminal, and whole, as an icicle in SVG for the page.

Both take a large tree: what does not fit is counted and not drawn. This module imports no torch of its own.
"""

import heapq
import html
import itertools
import math
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray
from rich.text import Text
from rich.tree import Tree as Lines

from softmaxes.lab.report.charts import short
from softmaxes.lab.report.palette import LIGHT_PAGE
from softmaxes.lab.report.wording import percent
from softmaxes.names import plural, printable

if TYPE_CHECKING:
    from softmaxes import Tree

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

NAME_LIMIT = 60  # characters of a name in a line of the terminal or in a tooltip
DEEPEST = 14  # levels below the root in the terminal, where each takes four columns

# The shade of each eighth of 0..1: a place on the page's scale from heat-0, the ground's colour, to heat-4. On each,
# text has a contrast of 4.5 in light and in dark: ink on the first four, the ground on the last three.
SHADES = (0.6, 1.0, 1.45, 1.86, 2.41, 2.94, 3.47, 4.0)
MIDDLE_TEXT = "#171b20"  # on the shade between these, in light and in dark
BOXES = 1200  # more would make the file too large to send
LINE = 12  # pixels a class has, where all have a line of their own
WITH_LINES = 120  # classes at most for that
HEIGHT = 720  # pixels of a tree with more classes
BESIDE = 160  # pixels at least for the names of classes beside their boxes
NARROWEST, WIDEST = 14, 160  # pixels of a column
STROKED = 6  # pixels of a box that has a line around it
LETTER = 11  # pixels of the font


def terminal_tree(
    tree: "Tree",
    class_names: Sequence[str] | None = None,
    value_of_node: ArrayLike | None = None,
    max_lines: int = 40,
) -> Lines:
    """The tree as lines, folded to fit: of a node with many children the first, and how many more there are.

    Nodes are opened until the lines are used up: first those on the way to the first class, then those a turn off it,
    and so on. None takes more than half of the lines that are left, if there are others that can be opened.

    Args:
        tree: the tree.
        class_names: a name for each class; otherwise the tree's names, or numbers.
        value_of_node: a share in 0..1 for every node, as of `softmaxes.metrics.node_accuracy`, or NaN; shown behind it.
        max_lines: lines at most, at least 1.

    Returns:
        What `rich` prints.

    Raises:
        ValueError: there are not as many names or values as classes or nodes, or an argument is out of range.

    Example:
        >>> from rich.console import Console
        >>> from softmaxes import Tree
        >>> names = [*"abcdefg", "all", "vowels", "consonants"]
        >>> Console().print(terminal_tree(Tree([8, 9, 9, 9, 8, 9, 9, -1, 7, 7], names), max_lines=7))
        all (7 classes)
        ├── vowels (2 classes)
        │   ├── a
        │   └── e
        └── consonants (5 classes)
            ├── b
            └── … 4 more classes
    """
    if max_lines < 1:
        raise ValueError(f"terminal_tree: expected max_lines to be at least 1, got {max_lines}.")
    name = _names("terminal_tree", tree, class_names)
    value = _values("terminal_tree", tree, value_of_node)
    classes = _classes_below(tree)
    children, first, number = tree.children.numpy(), tree.first_child.numpy(), tree.num_children.numpy()

    def line(node: int) -> Text:
        count = plural(int(classes[node]), "class", "classes")
        text = Text(name(node) or count, no_wrap=True, overflow="ellipsis")
        if name(node) and node >= tree.num_classes:
            text.append(f" ({count})", style="dim")
        if not np.isnan(value[node]):
            text.append(f" {percent(value[node])}", style="cyan")
        return text

    drawn, left = Lines(line(tree.root)), max_lines - 1
    tick = itertools.count()
    waiting = [(0, 0, next(tick), tree.root, drawn)]  # turns off the way to the first class, depth, age
    while waiting:
        turns, depth, _, node, branch = heapq.heappop(waiting)
        below = children[first[node] : first[node] + number[node]]
        alone = not waiting and not number[below[:left]].any()
        room = left if alone else left // 2
        shown = below if len(below) <= room else below[: max(room - 1, 0)]
        if len(shown) == 0:
            break
        for turn, child in enumerate(shown.tolist()):
            twig = branch.add(line(child))
            if number[child] > 0 and depth + 1 < DEEPEST:
                heapq.heappush(waiting, (turns + turn, depth + 1, next(tick), child, twig))
        left -= len(shown)
        if len(shown) < len(below):
            rest, of_them = len(below) - len(shown), int(classes[below[len(shown) :]].sum())
            more = f"… {rest:,} more"
            more += " classes" if of_them == rest else f" ({plural(of_them, 'class', 'classes')})"
            branch.add(Text(more, style="dim"))
            left -= 1
    return drawn


@dataclass(frozen=True)
class Box:
    """A node as a rectangle, or neighbours of one level that are too thin to be drawn each."""

    depth: int
    start: float  # in pixels, from the top
    size: float
    node: int  # the first of them
    nodes: int  # how many
    classes: int  # below them
    weight: float  # what the size stands for
    value: float  # NaN where nothing is known


def icicle_svg(
    tree: "Tree",
    class_names: Sequence[str] | None = None,
    value_of_node: ArrayLike | None = None,
    value_name: str = "accuracy",
    counts: Sequence[float] | None = None,
    width: int = 1040,
) -> str:
    """The tree as an icicle: the root on the left, a column a level, every node as high as it has classes.

    Its colours are those of the report's page, in light and in dark; in a file of its own it is light. Neighbours too
    thin to be seen are drawn as one, with their mean value, so that the text stays below 300 kB whatever the tree.

    Args:
        tree: the tree.
        class_names: a name for each class; otherwise the tree's names, or numbers.
        value_of_node: a share in 0..1 for every node, as of `softmaxes.metrics.node_accuracy`, or NaN: its colour.
        value_name: what that share is.
        counts: how high each class is, such as its test images; all alike if none. A count of 0 is not drawn.
        width: in pixels, 240 to 4000.

    Returns:
        An ``svg`` element.

    Raises:
        TypeError: counts are not numbers.
        ValueError: there are not as many names, values or counts as classes or nodes, or a number is out of range.

    Example:
        >>> from softmaxes import Tree
        >>> icicle_svg(Tree.balanced(4)).count("<rect")
        7
    """
    if not 240 <= width <= 4000:
        raise ValueError(f"icicle_svg: expected width in 240..4000, got {width}.")
    name = _names("icicle_svg", tree, class_names)
    value = _values("icicle_svg", tree, value_of_node)
    valued = value_of_node is not None
    classes = _classes_below(tree)
    weight = classes.astype(np.float64) if counts is None else _weight_below(tree, counts)

    height = max(LINE * tree.num_classes, 5 * LINE) if tree.num_classes <= WITH_LINES else HEIGHT
    named = weight[: tree.num_classes].max() * height / weight[tree.root] >= LINE - 1  # whether any class has room
    beside = 0
    if named:
        longest = max(_length(name(node)) for node in range(tree.num_classes)) if tree.num_classes <= WITH_LINES else 0
        beside = min(max(BESIDE, math.ceil(longest) + 6), 2 * width // 5)
    columns = min(tree.depth + 1, (width - beside) // NARROWEST)
    column = min((width - beside) / columns, WIDEST if named else width)
    boxes, thinnest = _fitting_boxes(tree, classes, weight, value, height, columns)

    top = 30 if valued else 0
    parts = list(_legend(value_name, any(np.isnan(box.value) for box in boxes), width)) if valued else []
    for box in boxes:
        x, y = box.depth * column, top + box.start
        shade = _shade(box.value) if valued else "plain"
        tooltip = html.escape("\n".join(_said(box, name, value_name if valued else "", counts is not None)))
        edge = "" if box.size >= STROKED else " thin"
        parts.append(
            f'<rect class="{shade}{edge}" x="{x:.5g}" y="{y:.6g}" width="{column:.5g}" height="{box.size:.6g}">'
            f"<title>{tooltip}</title></rect>"
        )
    for box in boxes:
        if box.nodes == 1 and box.size >= LINE - 1:
            x, y = box.depth * column, top + box.start + box.size / 2
            if box.node < tree.num_classes:
                parts += _text(name(box.node), x + column + 5, y, width - x - column - 5, "")
            else:
                parts += _inside(box, name(box.node), x, y, column, _ink(box.value) if valued else "", valued)
    notes = []
    if any(box.nodes > 1 for box in boxes):
        notes.append(f"Neighbours of less than {plural(thinnest, 'pixel')} are drawn as one.")
    if columns <= tree.depth:
        notes.append(f"{plural(tree.depth + 1 - columns, 'deeper level')} not drawn.")
    for line, note in enumerate(notes):
        parts += _text(note, 0, top + height + 14 * (line + 1), width, "soft")
    total = top + height + 14 * len(notes) + (8 if notes else 0)

    title = f"Tree of {plural(tree.num_classes, 'class', 'classes')}, depth {tree.depth}"
    title += f", coloured by {value_name}" if valued else ""
    description = (
        "The root is on the left; each column is a level, and a node is as high as "
        f"{'it has classes' if counts is None else 'the counts of its classes'}. {' '.join(notes)}"
    ).strip()
    return (
        f'<svg class="icicle" xmlns="http://www.w3.org/2000/svg" role="img" aria-label="{html.escape(title)}" '
        f'width="{width}" height="{total}" viewBox="0 0 {width} {total}">'
        f"<title>{html.escape(title)}</title><desc>{html.escape(description)}</desc><style>{_CSS}</style>"
        f"{''.join(parts)}</svg>"
    )


def _names(function: str, tree: "Tree", class_names: Sequence[str] | None) -> Callable[[int], str]:
    """What a node is called: nothing, for an inner node without a name. Names may be a stranger's."""
    if class_names is not None and len(class_names) != tree.num_classes:
        raise ValueError(f"{function}: expected names of {tree.num_classes} classes, got {len(class_names)}.")

    def name(node: int) -> str:
        if class_names is not None and node < tree.num_classes:
            text = class_names[node]
        elif tree.names is not None:
            text = tree.names[node]
        else:
            text = f"class {node}" if node < tree.num_classes else ""
        return short(printable(text), NAME_LIMIT)

    return name


def _values(function: str, tree: "Tree", value_of_node: ArrayLike | None) -> Floats:
    """A value for every node; NaN where there is none."""
    if value_of_node is None:
        return np.full(tree.num_nodes, np.nan)
    value = np.asarray(value_of_node, dtype=np.float64)
    if value.shape != (tree.num_nodes,):
        raise ValueError(f"{function}: expected a value for each of {tree.num_nodes} nodes, got shape {value.shape}.")
    wrong = value[(value < 0) | (value > 1)]
    if len(wrong) > 0:
        raise ValueError(f"{function}: expected values in 0..1 or NaN, got {wrong[0]}.")
    return value


def _classes_below(tree: "Tree") -> Ints:
    """Classes below every node; a class counts itself."""
    ones = tree.parent.new_zeros(tree.num_nodes)
    ones[: tree.num_classes] = 1
    return np.asarray(tree.subtree_sum(ones).numpy())


def _weight_below(tree: "Tree", counts: Sequence[float]) -> Floats:
    from softmaxes.sampler import class_weights  # which imports torch

    of_class = class_weights("icicle_svg", "counts", counts)
    if len(of_class) != tree.num_classes:
        raise ValueError(f"icicle_svg: expected counts of {tree.num_classes} classes, got {len(of_class)}.")
    weights = of_class.new_zeros(tree.num_nodes)
    weights[: tree.num_classes] = of_class
    return np.asarray(tree.subtree_sum(weights).numpy())


def _fitting_boxes(
    tree: "Tree", classes: Ints, weight: Floats, value: Floats, height: int, columns: int
) -> tuple[list[Box], int]:
    """As many boxes as there may be, and the least number of pixels of a box for one node that makes them so few."""
    levels = list(itertools.islice(_levels(tree, weight), columns))
    thinnest = 1
    while True:
        grouped = _grouped(tree, levels, weight, height / weight[tree.root], thinnest)
        if sum(len(firsts) for firsts in grouped) <= BOXES:
            break
        thinnest *= 2
    scale = height / weight[tree.root]
    known = np.where(np.isnan(value), 0.0, weight)
    of_node = (classes, weight, known, known * np.nan_to_num(value))
    boxes = []
    for depth, ((nodes, start), firsts) in enumerate(zip(levels, grouped, strict=True)):
        lasts = np.append(firsts[1:], len(nodes)) - 1
        starts, ends = start[firsts] * scale, (start[lasts] + weight[nodes[lasts]]) * scale
        sums = [np.add.reduceat(numbers[nodes], firsts) for numbers in of_node]
        mean = np.divide(sums[3], sums[2], out=np.full(len(firsts), np.nan), where=sums[2] > 0)
        fields = (starts, ends - starts, nodes[firsts], lasts - firsts + 1, *sums[:2], np.minimum(mean, 1))
        boxes += [Box(depth, *numbers) for numbers in zip(*(field.tolist() for field in fields), strict=True)]
    return boxes, thinnest


def _levels(tree: "Tree", weight: Floats) -> Iterator[tuple[Ints, Floats]]:
    """The nodes of each depth from the top down, without those of no weight, and where each of them starts."""
    children, first, number = tree.children.numpy(), tree.first_child.numpy(), tree.num_children.numpy()
    before = np.append(0.0, weight[children].cumsum())  # the weight of all children that come earlier
    nodes, start = np.array([tree.root]), np.zeros(1)
    for _ in range(tree.depth + 1):
        yield nodes, start
        siblings = number[nodes]
        places = np.arange(siblings.sum()) + np.repeat(first[nodes] - (siblings.cumsum() - siblings), siblings)
        start = np.repeat(start - before[first[nodes]], siblings) + before[places]
        seen = weight[children[places]] > 0
        nodes, start = children[places][seen], start[seen]
        if len(nodes) == 0:
            return


def _grouped(
    tree: "Tree", levels: list[tuple[Ints, Floats]], weight: Floats, scale: float, thinnest: int
) -> list[Ints]:
    """For each level the places at which a box begins.

    A node of at least the thinnest size has a box of its own. The nearest such node above one that is thinner is cut
    into slices of that size, and what begins in one slice is one box.
    """
    parent = tree.parent.numpy()
    holder = np.arange(tree.num_nodes)  # the node itself, or the nearest thick enough above it
    place = np.zeros(tree.num_nodes)
    grouped = []
    for nodes, start in levels:
        place[nodes] = start
        thin = weight[nodes] * scale < thinnest
        holder[nodes] = np.where(thin & (nodes != tree.root), holder[parent[nodes]], nodes)
        held = holder[nodes]
        slices = np.maximum(np.floor(weight[held] * scale / thinnest), 1)
        slice_of = np.floor((start - place[held]) / weight[held] * slices + 1e-9)
        new = (np.diff(held, prepend=-1) != 0) | (np.diff(slice_of, prepend=-1) != 0)
        grouped.append(new.nonzero()[0])
    return grouped


def _said(box: Box, name: Callable[[int], str], value_name: str, counted: bool) -> Iterator[str]:
    """The lines of a box's tooltip."""
    if box.nodes > 1:
        yield f"{box.nodes:,} nodes"
    else:
        yield name(box.node) or f"node {box.node}"
    if box.nodes > 1 or box.classes > 1:
        yield plural(box.classes, "class", "classes")
    if counted:
        yield f"count {box.weight:,.6g}"
    if value_name:
        mean = "mean " if box.nodes > 1 else ""
        yield f"{mean}{value_name} {'unknown' if np.isnan(box.value) else percent(box.value)}"


def _shade(value: float) -> str:
    return "none" if np.isnan(value) else f"q{_eighth(value)}"


def _eighth(value: float) -> int:
    return min(int(value * len(SHADES)), len(SHADES) - 1)


def _ink(value: float) -> str:
    """The class of text on a shade."""
    return "" if np.isnan(value) else ("", "", "", "", "middle", "light", "light", "light")[_eighth(value)]


def _legend(value_name: str, unknown: bool, width: int) -> Iterator[str]:
    """The shades in a row between 0 % and 100 %, and what has no value."""
    x = 0.0
    side = 12 if width < 500 else 20
    for text in (value_name, "0 %"):
        yield from _text(text, x, 10, width / 3, "soft")
        x += _length(_cut(text, width / 3)) + 8
    for shade in range(len(SHADES)):
        yield f'<rect class="q{shade} key" x="{x:.4g}" y="4" width="{side}" height="12"/>'
        x += side
    yield from _text("100 %", x + 6, 10, width, "soft")
    x += 6 + _length("100 %") + 16
    if unknown and x + side + 6 + _length("unknown") <= width:
        yield f'<rect class="none" x="{x:.4g}" y="4" width="{side}" height="12"/>'
        yield from _text("unknown", x + side + 6, 10, width - x - side - 6, "soft")


def _inside(box: Box, name: str, x: float, y: float, column: float, ink: str, valued: bool) -> Iterator[str]:
    """A label within a box: across it where that fits, or upwards, or none."""
    value = "" if not valued or np.isnan(box.value) else percent(box.value)
    texts = [name] if name else [value] if value else [plural(box.classes, "class", "classes"), f"{box.classes:,}"]
    across, upwards = column - 10, box.size - 10 if column >= NARROWEST else 0.0
    for text in texts:
        if _length(text) <= across or (name and across >= min(upwards, 40)):
            if name and value and box.size >= 32 and _length(value) <= across:
                yield from _text(text, x + 5, y - 7, across, ink)
                yield from _text(value, x + 5, y + 7, across, ink)
            else:
                yield from _text(text, x + 5, y, across, ink)
            return
        if _length(text) <= upwards or (name and upwards >= 40):
            yield from _text(text, x + column / 2, y, upwards, ink, upwards=True)
            return


def _text(text: str, x: float, y: float, room: float, ink: str, upwards: bool = False) -> Iterator[str]:
    """A text from x on, or about it, in the middle of the height y; cut to fit, or nothing."""
    text = _cut(text, room)
    if text:
        chosen = " ".join(filter(None, (ink, "up" if upwards else "")))
        chosen = f' class="{chosen}"' if chosen else ""
        turned = f' transform="rotate(-90 {x:.5g} {y:.5g})"' if upwards else ""
        yield f'<text{chosen} x="{x:.5g}" y="{y:.5g}" dy=".35em"{turned}>{html.escape(text)}</text>'


def _length(text: str) -> float:
    """About how many pixels a text is long."""
    wide = sum(unicodedata.east_asian_width(letter) in "WF" for letter in text)
    capital = sum(letter.isupper() for letter in text)
    broad = sum(letter in "mwMW%@<>=+" for letter in text)
    return LETTER * (0.57 * len(text) + 0.5 * wide + 0.13 * capital + 0.35 * broad)


def _cut(text: str, room: float) -> str:
    """The text, or as much of it as fits with a sign that it is cut; nothing if that is less than three letters."""
    kept = text
    while kept and _length(short(text, len(kept))) > room:
        kept = kept[:-1]
    return short(text, len(kept)) if kept == text or len(kept) >= 3 else ""


def _style() -> str:
    """The rules: names of the page's colours, and of each its light form for a page that does not have them."""
    colour = {name: f"var(--{name},{value})" for name, value in LIGHT_PAGE.items()}
    rules = [f".icicle{{font:{LETTER}px system-ui,sans-serif;max-width:none}}"]
    for shade, place in enumerate(SHADES):
        low = min(int(place), 3)
        share = round(100 * (place - low))
        mixed = f"color-mix(in srgb,{colour[f'heat-{low + 1}']} {share}%,{colour[f'heat-{low}']})"
        rules.append(f".icicle .q{shade}{{fill:{mixed}}}")
    rules += [
        f".icicle .plain{{fill:{colour['heat-1']}}}",
        f".icicle rect{{stroke:{colour['ground']};shape-rendering:crispEdges}}",
        f".icicle .none{{fill:{colour['tint']};stroke:{colour['axis']};stroke-dasharray:2}}",
        f".icicle .key{{stroke:{colour['axis']}}}",
        ".icicle .thin{stroke:none}",
        f".icicle text{{fill:{colour['ink']};pointer-events:none}}",
        f".icicle .soft{{fill:{colour['ink-soft']}}}",
        f".icicle .middle{{fill:{MIDDLE_TEXT}}}",
        f".icicle .light{{fill:{colour['surface']}}}",
        ".icicle .up{text-anchor:middle}",
    ]
    return "".join(rules)


_CSS = _style()
