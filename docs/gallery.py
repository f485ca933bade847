"""The gallery of heads: of each public head its equation, what it does to the same logits, and its row of a study.

`python docs/gallery.py` draws the one picture that is kept, the tree of the page of hierarchical softmax.

Nothing is told twice: the words are those of the head's page, the equation is that of its docstring, the figures are
those of the stored CSV, the pictures are drawn with the heads themselves.
"""

import csv
import inspect
import io
import math
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import matplotlib
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

import softmaxes
from softmaxes import (
    NCE,
    AdaptiveSoftmax,
    CosineSoftmax,
    Entmax,
    ForestSoftmax,
    GumbelSoftmax,
    Head,
    HierarchicalSoftmax,
    MixtureOfSoftmaxes,
    NegativeSampling,
    NeighborSampledSoftmax,
    OneVsRest,
    SampledSoftmax,
    Sampler,
    Sigsoftmax,
    Softmax,
    Sparsemax,
    SphericalSoftmax,
    TaylorSoftmax,
    Tree,
    TreeSampledSoftmax,
)
from softmaxes.lab.heads.registry import HEADS

RESULTS = Path(__file__).parents[1] / "results"
STUDIES = {  # the first that has the head is shown
    "fair-cifar100": "CIFAR-100, each head at the best of six settings, five seeds",
    "all-standin-100": "small photographs, learning rate 0.1 for all, three seeds",
}

CLASSES = "ABCDEFGH"
LOGITS = torch.tensor([2.0, 1.2, 0.4, -0.3, 1.6, -1.0, -0.5, -3.0])
TARGET = 1  # B
RATE = 0.1  # of the one step
DRAWS = 60
INK, HEAD_COLOUR, SOFTMAX_COLOUR = "#010203", "#3d7fc4", "#8a8a8a"


# Rows of neighbouring classes are alike, and the features have length 1.
_alike = 0.4 ** torch.tensor([[min((i - j) % 8, (j - i) % 8) for j in range(8)] for i in range(8)], dtype=torch.float32)
_length = torch.linalg.solve(_alike, LOGITS).norm()
WEIGHT = _alike * _length  # (C, D)
FEATURES = torch.linalg.solve(WEIGHT, LOGITS)  # (D,): WEIGHT @ FEATURES are the logits


def _rows(head: Head, bias: float = 0.0) -> Head:
    """A head with a row for each class, its logits those of the picture."""
    with torch.no_grad():
        head.weight.copy_(WEIGHT)
        if isinstance(getattr(head, "bias", None), Tensor):
            head.bias.fill_(bias)
    return head


def _decisions(head: HierarchicalSoftmax) -> HierarchicalSoftmax:
    """A binary tree: the logit of a decision is the mean logit of the second side less that of the first."""
    tree, first_row = head.tree, head.tables.first_row
    below = [[c for c in range(8) if c == node or node in tree.ancestors(c)] for node in range(tree.num_nodes)]
    with torch.no_grad():
        head.bias.zero_()
        for node in range(8, tree.num_nodes):
            one, other = (WEIGHT[below[child]].mean(0) for child in tree.children_of(node))
            head.weight[first_row[node]] = other - one
    return head


def _forest() -> Head:
    head = ForestSoftmax(8, [Tree.random(8, seed=seed) for seed in range(3)])
    for member in head.members:
        _decisions(member)
    return head


def _adaptive() -> Head:
    """A to D are the shortlist, E to H the cluster: its logit is the mean of theirs, which see half of the features."""
    head = AdaptiveSoftmax(8, [80, 70, 60, 50, 4, 3, 2, 1], cutoffs=[4], div_value=2)
    with torch.no_grad():
        head.head.weight.copy_(torch.cat([WEIGHT[:4], WEIGHT[4:].mean(0, keepdim=True)]))
        left, size, right = torch.linalg.svd(WEIGHT[4:], full_matrices=False)
        head.tail[0][0].weight.copy_(right)
        head.tail[0][1].weight.copy_(left * size)
    return head


def _mixture() -> Head:
    """Two softmaxes, half each: one of the logits, one of the logits in the opposite order."""
    head = _rows(MixtureOfSoftmaxes(8, 8, num_components=2))
    contexts = torch.cat([FEATURES, torch.linalg.solve(WEIGHT, LOGITS.flip(0))])
    with torch.no_grad():
        head.context_weight.zero_()
        head.context_bias.copy_(contexts.atanh())
        head.prior_weight.zero_()
    return head


def _tree_sampled() -> Head:
    head = TreeSampledSoftmax(8, Tree.balanced(8), 2)
    _decisions(head.proposal)
    return _rows(head)


def _neighbor_sampled() -> Head:
    head = NeighborSampledSoftmax(8, 8, num_samples=1, num_neighbors=2)
    _rows(head).refresh()  # type: ignore[operator]
    return head


UNIFORM = Sampler.uniform(8)
DRAWN: dict[type[Head], Callable[[], Head]] = {
    Softmax: lambda: _rows(Softmax(8, 8)),
    GumbelSoftmax: lambda: _rows(GumbelSoftmax(8, 8)),
    HierarchicalSoftmax: lambda: _decisions(HierarchicalSoftmax(8, Tree.balanced(8))),
    ForestSoftmax: _forest,
    AdaptiveSoftmax: _adaptive,
    SampledSoftmax: lambda: _rows(SampledSoftmax(8, UNIFORM, 2)),
    NeighborSampledSoftmax: _neighbor_sampled,
    TreeSampledSoftmax: _tree_sampled,
    NCE: lambda: _rows(NCE(8, UNIFORM, 2), -math.log(8)),
    NegativeSampling: lambda: _rows(NegativeSampling(8, UNIFORM, 2)),
    OneVsRest: lambda: _rows(OneVsRest(8, 8), -math.log(7)),
    CosineSoftmax: lambda: _rows(CosineSoftmax(8, 8, scale=float(WEIGHT[0].norm()), cosine_margin=0.35)),
    Sparsemax: lambda: _rows(Sparsemax(8, 8)),
    Entmax: lambda: _rows(Entmax(8, 8)),
    MixtureOfSoftmaxes: _mixture,
    Sigsoftmax: lambda: _rows(Sigsoftmax(8, 8)),
    TaylorSoftmax: lambda: _rows(TaylorSoftmax(8, 8)),
    SphericalSoftmax: lambda: _rows(SphericalSoftmax(8, 8)),
}
NOTES: dict[type[Head], str] = {
    HierarchicalSoftmax: "A balanced binary tree over A to H. The logit of a decision is the mean logit of its second "
    "side less that of its first.",
    ForestSoftmax: "Three random binary trees, with decisions as in hierarchical softmax.",
    AdaptiveSoftmax: "A to D are frequent, E to H one cluster; the cluster's logit is the mean of its classes'.",
    CosineSoftmax: "Cosine margin 0.35; the scale is such that the logits are the same.",
    MixtureOfSoftmaxes: "Two softmaxes, half each: one of these logits, one of them in the opposite order.",
    NeighborSampledSoftmax: "Two nearest classes of B, which are A and C here, and one uniform draw.",
    TreeSampledSoftmax: "One class drawn by a balanced binary tree, one uniformly.",
    SampledSoftmax: "Two classes drawn uniformly.",
    NCE: "Two noise classes drawn uniformly; the bias is the one that the head starts with.",
    NegativeSampling: "Two other classes drawn uniformly.",
    OneVsRest: "The bias is the one that the head starts with.",
    TaylorSoftmax: "Order 2. H has the lowest logit, and not the lowest probability.",
    SphericalSoftmax: "H has the lowest logit, and the highest probability: squares know no sign.",
}


class Effect(NamedTuple):
    """What a head does to the logits of the picture."""

    probability: Tensor  # (C,)
    changes: Tensor  # (draws, C) of the probability, by one step of SGD on an example of the target


def effect(head: Head) -> Effect:
    """What a head does to the logits: its probabilities, and what a training step changes."""
    target = torch.tensor(TARGET)
    parameters = list(head.parameters())
    with torch.no_grad():
        before = head.log_prob(FEATURES).exp()
    changes = []
    for seed in range(DRAWS):
        torch.manual_seed(seed)
        gradients = torch.autograd.grad(head(FEATURES, target), parameters, allow_unused=True)
        kept = [parameter.detach().clone() for parameter in parameters]
        with torch.no_grad():
            for parameter, gradient in zip(parameters, gradients, strict=True):
                if gradient is not None:
                    parameter -= RATE * gradient
            changes.append(head.log_prob(FEATURES).exp() - before)
            for parameter, value in zip(parameters, kept, strict=True):
                parameter.copy_(value)
    return Effect(before, torch.stack(changes))


@cache
def _of_softmax() -> Effect:
    return effect(DRAWN[Softmax]())


def picture(head: type[Head]) -> str:
    """Two panels as SVG within a page: probabilities, and what a training step changes; in the text's own colour."""
    torch.manual_seed(0)
    found, plain = effect(DRAWN[head]()), _of_softmax()
    name = head.__name__
    panels = [
        _panel(f"{name}-judged", "Probability, %", found.probability, plain.probability, None),
        _panel(
            f"{name}-trained", "Change by one step, points", found.changes.mean(0), plain.changes.mean(0), found.changes
        ),
    ]
    told = [
        ", ".join(f"{letter} {100 * value:.0f}" for letter, value in zip(CLASSES, values.tolist(), strict=True))
        for values in (found.probability, found.changes.mean(0))
    ]
    labels = [
        f"{name}: probability of each class, in percent: {told[0]}.",
        f"{name}: change of each probability by one training step on an example of class B, in points: {told[1]}.",
    ]
    shown = (f'<div role="img" aria-label="{label}">{svg}</div>' for label, svg in zip(labels, panels, strict=True))
    return f'<div class="picture">{"".join(shown)}</div>'


def _panel(identity: str, title: str, values: Tensor, softmax: Tensor, draws: Tensor | None) -> str:
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": identity, "font.size": 9}):
        figure = Figure(figsize=(3.5, 2.1), layout="constrained")
        axes = figure.add_subplot()
        places = range(len(CLASSES))
        axes.bar(places, (100 * values).tolist(), width=0.7, color=HEAD_COLOUR)
        if draws is not None and draws.std(0).max() > 1e-6:
            spread = 0.5 * torch.rand(draws.shape, generator=torch.Generator().manual_seed(0)) - 0.25
            across, up = ((torch.arange(8) + spread).flatten().tolist(), (100 * draws).flatten().tolist())
            axes.plot(across, up, ".", color=INK, markersize=2, alpha=0.35)
        for place, value in zip(places, (100 * softmax).tolist(), strict=True):
            axes.plot([place - 0.45, place + 0.45], [value, value], color=SOFTMAX_COLOUR, linewidth=2)
        axes.axhline(0, color=INK, linewidth=0.6)
        axes.set_title(title, fontsize=9, loc="left", color=INK)
        letters = [f"{letter}\n{logit:.1f}".replace("-", "−") for letter, logit in zip(CLASSES, LOGITS, strict=True)]
        axes.set_xticks(places, letters, color=INK, fontsize=8)
        axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.tick_params(axis="both", length=0, labelcolor=INK)
        for side in axes.spines.values():
            side.set_visible(False)
        written = io.StringIO()
        figure.savefig(written, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = written.getvalue()
    svg = svg[svg.index("<svg") :].replace(INK, "currentColor")
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"font: [^;\"]*?(\d+)px[^;\"]*", r"font-size: \1px", svg)
    svg = re.sub(r'(id="|href="#|url\(#)', rf"\1{identity}-", svg)
    return re.sub(r"\s*\n\s*", "\n", svg)


# --- the cards -------------------------------------------------------------------------------------------------------


def public_heads() -> list[type[Head]]:
    """Every head that a user can import."""
    public = (getattr(softmaxes, name) for name in softmaxes.__all__)
    return [one for one in public if isinstance(one, type) and issubclass(one, Head) and one is not Head]


def cards(docs: Path) -> str:
    """The gallery, in the order of the table of heads."""
    table = re.findall(r"^\| `(\w+)` \|.*\]\((heads/[\w-]+\.md)\) \|$", (docs / "heads.md").read_text(), re.MULTILINE)
    heads = {head.__name__: head for head in public_heads()}
    if (listed := {name for name, _ in table}) != heads.keys():
        raise ValueError(f"docs/heads.md: expected a row for each public head, got {sorted(listed ^ heads.keys())}.")
    return "\n".join(card(heads[name], docs, page) for name, page in table)


def card(head: type[Head], docs: Path, page: str) -> str:
    """One head."""
    text = (docs / page).read_text()
    what = inspect.getdoc(head) or ""
    equation = re.search(r"\.\. math:: (.*?)\n\n", what, re.DOTALL)
    if equation is None:
        raise ValueError(f"{head.__name__}: expected an equation in the docstring, got none.")
    note = NOTES.get(head)
    parts = [
        f"## {head.__name__}",
        what.partition("\n")[0],
        f"```{{math}}\n{re.sub(chr(92) + 's+', ' ', equation[1])}\n```",
        f"```{{raw}} html\n{picture(head)}\n```",
        f"*In the picture:* {note}" if note else "",
        *(_paragraph(text, title, page) for title in ("When to use it", "When not", "Cost")),
        _row(head),
        _papers(text, page),
        f"More: [its page]({page}), {{py:class}}`~softmaxes.{head.__name__}`.",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _paragraph(text: str, title: str, page: str) -> str:
    """The paragraph of a head's page that begins with a title, its links from here."""
    found = re.search(rf"^(\*\*{title}\.\*\*.*?)\n\n", text, re.MULTILINE | re.DOTALL)
    if found is None:
        raise ValueError(f"docs/{page}: expected a paragraph '**{title}.**', got none.")
    return _from_here(found[1])


def _from_here(text: str) -> str:
    """Links of a page in `heads/`, as they are one folder above."""
    return re.sub(r"\]\((?!https?:)(?:\.\./)?([^)]*)\)", lambda link: f"]({_up(link)})", text)


def _up(link: re.Match[str]) -> str:
    return link[1] if link[0].startswith("](../") else f"heads/{link[1]}"


def _papers(text: str, page: str) -> str:
    """What is at the end of a head's page: the papers, each with a link."""
    last = re.split(r"\n\n", text.rstrip())[-1]
    if "](https://" not in last:
        raise ValueError(f"docs/{page}: expected linked papers at the end, got {last.splitlines()[0]!r}.")
    return _from_here(last)


def _row(head: type[Head]) -> str:
    """The rows of a head in the first study that has it: that of its plain name, and the most accurate one."""
    for folder, words in STUDIES.items():
        with (RESULTS / folder / "table.csv").open(encoding="utf-8") as file:
            rows = [row for row in csv.DictReader(file) if _made(row["head"]) is head]
        if rows:
            best = max(rows, key=lambda row: float(row["accuracy"]))
            lines = [
                f"[{words}](stored.md#{folder}):",
                "",
                "| head | accuracy, % | top-5, % | NLL | calibration error, % |",
                "|---|---|---|---|---|",
                *(_cells(row) for row in ([rows[0]] if rows[0] is best else [rows[0], best])),
            ]
            return "\n".join(lines)
    return "*In no stored comparison of many heads; its page has what was measured.*"


def _cells(row: dict[str, str]) -> str:
    accuracy, top5, error = (_spread(row, column, 100, 1) for column in ("accuracy", "top5", "calibration_error"))
    return f"| `{row['label']}` | {accuracy} | {top5} | {_spread(row, 'nll', 1, 3)} | {error} |"


def _spread(row: dict[str, str], column: str, times: float, digits: int) -> str:
    """A mean and half of its 95 % interval, as the report has it, in one line: ``29.2 ± 1.4``."""
    mean, high = float(row[column] or "nan"), float(row[f"{column}_high"] or "nan")
    if math.isinf(mean):
        return "∞"
    return f"{times * mean:.{digits}f} ± {times * (high - mean):.{digits}f}".replace(" ", "\N{NO-BREAK SPACE}")


@cache
def _made(name: str) -> type[Head] | None:
    """Which head the lab makes by a name."""
    entry = HEADS.get(name)
    classes = SimpleNamespace(
        name="eight",
        class_names=CLASSES,
        train_counts=[1] * 8,
        group_of_class=[0, 0, 1, 1, 2, 2, 3, 3],
        coarser_groups=(),
    )
    return None if entry is None else type(entry.build(8, classes))


# --- the tree of the page of hierarchical softmax --------------------------------------------------------------------

DRAWING = Path(__file__).parent / "heads" / "hierarchical-tree.svg"
SHARES = {"animal": 0.8, "vehicle": 0.2, "cat": 0.75, "dog": 0.25, "car": 0.5, "bus": 0.5}  # of what is above
ABOVE = {"animal": "image", "vehicle": "image", "cat": "animal", "dog": "animal", "car": "vehicle", "bus": "vehicle"}
PLACES = {
    "image": (220, 30),
    "animal": (120, 110),
    "vehicle": (320, 110),
    "cat": (70, 200),
    "dog": (170, 200),
    "car": (270, 200),
    "bus": (370, 200),
}
PATH = ("animal", "dog")
STYLE = """
    .paper { fill: #ffffff } text { fill: #24292f; font: 14px sans-serif; text-anchor: middle }
    line { stroke: #8a8f96; stroke-width: 1.5 } rect.node { fill: #eef2f7; stroke: #8a8f96 }
    .way line { stroke: #3d7fc4; stroke-width: 4 } .way text { font-weight: bold }
    @media (prefers-color-scheme: dark) {
      .paper { fill: #131416 } text { fill: #e6edf3 } rect.node { fill: #23272d }
    }"""


def drawing() -> str:
    """The tree with the share of each decision, the way to `dog` in bold, and the product under each class."""
    parts = [
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 440 250" width="440" height="250" role="img">',
        f"  <style>{STYLE}\n  </style>",
        '  <rect class="paper" width="440" height="250" rx="8"/>',
    ]
    for name, above in ABOVE.items():
        (x, y), (u, v) = PLACES[name], PLACES[above]
        side = -1 if x < u else 1
        way = ' class="way"' if name in PATH else ""
        parts += [
            f'  <g{way}><line x1="{u}" y1="{v + 14}" x2="{x}" y2="{y - 14}"/>',
            f'  <text x="{(x + u) // 2 + 24 * side}" y="{(y + v) // 2}">{100 * SHARES[name]:.0f} %</text></g>',
        ]
    for name, (x, y) in PLACES.items():
        parts += [
            f'  <rect class="node" x="{x - 36}" y="{y - 14}" width="72" height="28" rx="6"/>',
            f'  <text x="{x}" y="{y + 5}">{name}</text>',
        ]
        if name not in ABOVE.values():
            parts.append(f'  <text x="{x}" y="{y + 34}">{100 * SHARES[ABOVE[name]] * SHARES[name]:.0f} %</text>')
    return "\n".join([*parts, "</svg>", ""])


if __name__ == "__main__":
    DRAWING.write_text(drawing(), encoding="utf-8")
