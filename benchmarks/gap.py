"""What was tried to close the gap between a tree and a flat softmax at a loss that still costs O(log C).

    python benchmarks/gap.py
    python benchmarks/gap.py --data cifar100 --data-dir cifar-100-binary.tar.gz --seeds 3 --ideas softmax product

Each idea is trained by the lab, at its default setting and one learning rate. Those that were kept are heads of the lab
and have their names, the others are here alone. Printed, and written with --out, are the accuracies on the test set
at each seed, their mean, that less softmax's, and the rows of weights that a loss reads for an example. Trees have ten
children a node unless said otherwise; "grown" trees are first random, and after a fifth and a half of the epochs
clustered from the classes' mean features.
"""

import argparse
import csv
import functools
import math
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from rich.console import Console
from torch import Tensor, nn

from softmaxes import (
    ForestSoftmax,
    GumbelSoftmax,
    Head,
    HierarchicalSoftmax,
    SampledSoftmax,
    Sampler,
    Tree,
    TreeSampledSoftmax,
)
from softmaxes.heads.hierarchical import search
from softmaxes.lab import Entry, Growth, compare, load_data
from softmaxes.lab.heads.entry import Classes
from softmaxes.layers import row_logits

TREES = 4
DRAWN = 20  # classes that are drawn for an example


class Product(Head):
    """Trees that learn each for itself; a class has the product of their probabilities."""

    loss_is_nll: ClassVar[bool] = False

    def __init__(self, in_features: int, trees: Sequence[Tree]) -> None:
        super().__init__(in_features, trees[0].num_classes)
        self.members = nn.ModuleList(HierarchicalSoftmax(in_features, tree) for tree in trees)

    def _loss(self, input: Tensor, target: Tensor) -> Tensor:
        return torch.stack([member(input, target) for member in self.members]).mean(0)

    def _log_prob(self, input: Tensor) -> Tensor:
        return torch.stack([member.log_prob(input) for member in self.members]).sum(0).log_softmax(1)


class Mended(Head):
    """A tree with one change to how it learns, that leaves what it says alone.

    `features`: the gradient of the features is divided by the tree's depth, over which the loss sums. `rows`: a
    decision that a share s of the classes passes has 1 / sqrt(s) of the learning rate. `zero`: all decisions begin at
    even odds.
    """

    loss_is_nll: ClassVar[bool] = False

    def __init__(self, in_features: int, tree: Tree, change: Literal["features", "rows", "zero"]) -> None:
        super().__init__(in_features, tree.num_classes)
        self.tree = HierarchicalSoftmax(in_features, tree)
        self.share = 1 / tree.depth if change == "features" else 1.0
        parameters = list(self.tree.parameters())
        if change == "rows":
            rate = _passed(tree)[self.tree.tables.row_owner].rsqrt()
            for parameter in parameters:
                parameter.register_hook(lambda gradient: gradient * rate.view(-1, *[1] * (gradient.ndim - 1)))
        if change == "zero":
            for parameter in parameters:
                nn.init.zeros_(parameter)

    def _loss(self, input: Tensor, target: Tensor) -> Tensor:
        loss: Tensor = self.tree(self.share * input + (1 - self.share) * input.detach(), target)
        return loss

    def _log_prob(self, input: Tensor) -> Tensor:
        return self.tree.log_prob(input)


def _passed(tree: Tree) -> Tensor:
    """The share of the classes that lie below each node, (M,)."""
    return tree.subtree_sum((torch.arange(tree.num_nodes) < tree.num_classes) / tree.num_classes)


class Beside(Head):
    """A flat softmax and a tree side by side; the flat one's negatives are uniform, or the tree's own draws alone."""

    loss_is_nll: ClassVar[bool] = False

    def __init__(self, in_features: int, tree: Tree, uniform: bool, shapes: bool = True) -> None:
        super().__init__(in_features, tree.num_classes)
        self.tree = HierarchicalSoftmax(in_features, tree)
        self.flat = SampledSoftmax(in_features, Sampler.uniform(tree.num_classes), DRAWN)
        self.uniform, self.shapes = uniform, shapes

    def _loss(self, input: Tensor, target: Tensor) -> Tensor:
        learned: Tensor = self.tree(input if self.shapes else input.detach(), target)
        if self.uniform:
            flat: Tensor = self.flat(input, target)
            return learned + flat
        if not self.training:
            return learned - self._log_prob(input).gather(1, target.unsqueeze(1)).squeeze(1)
        log_chance, drawn = search.sample(self.tree, input, DRAWN, target)
        logits = row_logits(input, torch.cat([target.unsqueeze(1), drawn], 1), self.flat.weight, self.flat.bias, False)
        others = logits[:, 1:] - log_chance - math.log(DRAWN)
        return learned + torch.cat([logits[:, :1], others], 1).logsumexp(1) - logits[:, 0]

    def _log_prob(self, input: Tensor) -> Tensor:
        return self.flat.log_prob(input)


class Led(Beside):
    """The same, uniform, but the tree decides: the flat softmax leads the features and says nothing."""

    def __init__(self, in_features: int, tree: Tree, shapes: bool = True) -> None:
        super().__init__(in_features, tree, uniform=True, shapes=shapes)

    def grow(self, vectors: Tensor) -> Head:
        """Take a tree of these class vectors; the flat softmax goes on."""
        self.tree = HierarchicalSoftmax(self.in_features, Tree.clustered(vectors, arity=10))
        return self

    def _log_prob(self, input: Tensor) -> Tensor:
        return self.tree.log_prob(input)


class Decisions(Head):
    """A tree whose decisions see more than one linear function of the features. All are computed, at O(D C).

    `pieces`: a child is a union of half-spaces, that many rows whose logits are joined by their maximum or by
    log-sum-exp. `layer`: each level of the tree sees the features through a hidden layer of its own, as wide as they.
    """

    loss_is_nll: ClassVar[bool] = True

    def __init__(
        self, in_features: int, tree: Tree, pieces: int = 1, join: Literal["max", "sum"] = "sum", layer: bool = False
    ) -> None:
        super().__init__(in_features, tree.num_classes)
        self.pieces, self.join = pieces, join
        self.node = (tree.parent >= 0).nonzero().squeeze(1)  # that is decided for: all but the root
        self.above = tree.parent[self.node]
        self.level = tree.node_depth[self.node] - 1  # 0 below the root
        path = torch.zeros(tree.num_nodes, tree.num_classes)
        for leaf in range(tree.num_classes):
            path[[leaf, *tree.ancestors(leaf)], leaf] = 1
        self.path = path[self.node]  # (M - 1, C): whether a class lies below
        self.rows = nn.Linear(in_features, len(self.node) * pieces)
        self.layers = nn.ModuleList(nn.Linear(in_features, in_features) for _ in range(tree.depth * layer))

    def _log_prob(self, input: Tensor) -> Tensor:
        rows = self.rows.weight.view(len(self.node), self.pieces, -1)
        logits = input.new_empty(len(input), len(self.node), self.pieces)
        for level in range(int(self.level.max()) + 1):
            seen = self.layers[level](input).relu() if self.layers else input
            here = (self.level == level).nonzero().squeeze(1)
            logits = logits.index_copy(1, here, torch.einsum("nd,mpd->nmp", seen, rows[here]))
        logits = logits + self.rows.bias.view(len(self.node), self.pieces)
        joined = logits.amax(2) if self.join == "max" else logits.logsumexp(2)
        groups = self.above.expand(len(input), -1)
        largest = joined.detach().new_full((len(input), len(self.node) + 1), -math.inf)
        largest = largest.scatter_reduce(1, groups, joined.detach(), "amax")
        total = torch.zeros_like(largest).scatter_add(1, groups, (joined - largest.gather(1, groups)).exp())
        return (joined - largest.gather(1, groups) - total.gather(1, groups).log()) @ self.path

    def _loss(self, input: Tensor, target: Tensor) -> Tensor:
        return -self._target_log_prob(input, target)


def deciding(in_features: int, tree: Tree, vectors: Tensor | None, **how: Any) -> Head:
    """`Decisions` over a tree, whatever class vectors it is of."""
    return Decisions(in_features, tree, **how)


def as_confused(head: Head, vectors: Tensor) -> Head:
    """A tree of the classes that the head confuses: clustered by what it says of each class's mean feature."""
    said = head.log_prob(vectors).exp().sqrt()
    return HierarchicalSoftmax(head.in_features, Tree.clustered(said + said.t(), arity=10))


@torch.no_grad()
def imprinted(in_features: int, tree: Tree, vectors: Tensor | None, sure: bool = False) -> Head:
    """A tree whose decisions begin as those of the nearest mean of the class vectors, if there are any.

    The weights are as large as random ones, in the mean of their squares; or, where they are sure, such that a mean's
    own logit is one half, in the mean over all branches.
    """
    head = HierarchicalSoftmax(in_features, tree)
    if vectors is None:
        return head
    mean = torch.cat([vectors, torch.zeros(tree.num_nodes - tree.num_classes, in_features)])
    mean = torch.stack([tree.subtree_sum(column) for column in mean.t()], 1)
    mean = mean / (_passed(tree) * tree.num_classes).unsqueeze(1)
    above = mean[tree.parent.clamp(min=0)]
    own = ((head.tables.row < len(head.weight)) & (tree.parent >= 0)).nonzero().squeeze(1)
    apart, bias = mean - above, -(mean.square() - above.square()).sum(1) / 2
    first = tree.children[tree.first_child[tree.parent[own]]]
    pair = (tree.num_children[tree.parent[own]] == 2).float()  # they have one row, the second's less the first's
    weight = apart[own] - pair.unsqueeze(1) * apart[first]
    if sure:
        scale = (tree.num_nodes - 1) / apart[tree.parent >= 0].square().sum()
    else:
        scale = (3 * in_features * weight.square().mean()).rsqrt()
    head.weight[head.tables.row[own]] = scale * weight
    head.get_parameter("bias")[head.tables.row[own]] = scale * (bias[own] - pair * bias[first])
    return head


@dataclass(frozen=True)
class Idea:
    """What was tried: a head of the lab by its name, or one that is here alone."""

    words: str
    rows: str
    make: Callable[[int, int], Head] | None = None  # from features and classes; none of a head of the lab
    again: Callable[[Any, Tensor], Head] | None = None  # from the head so far and class vectors


def random_trees(classes: int) -> list[Tree]:
    return [Tree.random(classes, arity=10, seed=seed) for seed in range(TREES)]


def grown(
    what: str, make: Callable[[int, Tree, Tensor | None], Head], arity: int = 10, rows: str = "{0} log{0} C"
) -> Idea:
    """A head over a tree, `make` from features, the tree and the class vectors that it is of; of a random one none."""
    return Idea(
        f"a grown tree, {what}",
        rows.format(arity),
        lambda d, c: make(d, Tree.random(c, arity=arity), None),
        lambda head, vectors: make(head.in_features, Tree.clustered(vectors, arity=arity), vectors),
    )


def mended(what: str, change: Literal["features", "rows", "zero"]) -> Idea:
    return grown(what, lambda d, tree, vectors: Mended(d, tree, change))


def grown_trees(vectors: Tensor) -> list[Tree]:
    return [Tree.clustered(vectors, arity=10, seed=seed) for seed in range(TREES)]


FOREST = f"{TREES} x 10 log10 C"
IDEAS = {
    "softmax": Idea("a flat softmax", "C"),
    "softmax-hidden": Idea("the same behind a hidden layer", "D + C"),
    "gumbel": Idea("the same with Gumbel noise of scale 1", "C"),
    "gumbel-0.3": Idea("the same with noise of scale 0.3", "C", lambda d, c: GumbelSoftmax(d, c, scale=0.3)),
    "gumbel-annealed": Idea("noise of scale 1, the temperature falling from 1 to 0.5", "C"),
    "gumbel-samples": Idea("noise of scale 1, the mean over four draws", "C"),
    "hierarchical": Idea("a binary tree over the classes in their order", "log2 C"),
    "random-10": Idea("a random tree", "10 log10 C", lambda d, c: HierarchicalSoftmax(d, Tree.random(c, arity=10))),
    "hierarchical-grown-10": Idea("a grown tree", "10 log10 C"),
    "grown-features": mended("the features' gradient divided by its depth", "features"),
    "grown-rows": mended("decisions that few classes pass learning faster", "rows"),
    "grown-zero": mended("decisions beginning at even odds", "zero"),
    "grown-32": grown("with 32 children a node", lambda d, tree, vectors: HierarchicalSoftmax(d, tree), 32),
    "hierarchical-groups": Idea("the data's own groups", "all groups + a group"),
    "confused-10": Idea(
        "a tree of the classes that the head so far confuses",
        "10 log10 C",
        lambda d, c: HierarchicalSoftmax(d, Tree.random(c, arity=10)),
        as_confused,
    ),
    "layers-10": grown(
        "each level behind a hidden layer of its own",
        functools.partial(deciding, layer=True),
        rows="(D + {0}) log{0} C",
    ),
    "pieces-max": grown(
        "each child the maximum of four rows",
        functools.partial(deciding, pieces=4, join="max"),
        rows="4 x {0} log{0} C",
    ),
    "pieces-sum": grown(
        "each child the log-sum-exp of four rows", functools.partial(deciding, pieces=4), rows="4 x {0} log{0} C"
    ),
    "layers-pieces": grown(
        "both, with log-sum-exp", functools.partial(deciding, pieces=4, layer=True), rows="(D + 4 x {0}) log{0} C"
    ),
    "imprinted-10": grown("decisions beginning as those of the nearest mean", imprinted),
    "imprinted-32": grown("with 32 children a node and decisions so begun", imprinted, 32),
    "sure-32": grown(
        "with 32 children a node and surer decisions so begun", functools.partial(imprinted, sure=True), 32
    ),
    "led": Idea(
        f"a grown tree, a softmax sampled uniformly beside it, {DRAWN} draws",
        f"10 log10 C + {DRAWN}",
        lambda d, c: Led(d, Tree.random(c, arity=10)),
        Led.grow,
    ),
    "led-alone": Idea(
        "the same, the tree's loss not reaching the features",
        f"10 log10 C + {DRAWN}",
        lambda d, c: Led(d, Tree.random(c, arity=10), shapes=False),
        Led.grow,
    ),
    "hierarchical-late-10": Idea("a random tree after two flat epochs", "C, then 10 log10 C"),
    "hierarchical-relearned-10": Idea("a tree learned after two flat epochs, and again", "C, then 10 log10 C"),
    "hierarchical-grown-10-hidden": Idea("the same behind a hidden layer", "D + 10 log10 C"),
    "forest-10": Idea(f"the mean of {TREES} random trees", FOREST, lambda d, c: ForestSoftmax(d, random_trees(c))),
    "forest-grown": Idea(
        f"the mean of {TREES} grown trees",
        FOREST,
        lambda d, c: ForestSoftmax(d, random_trees(c)),
        lambda head, vectors: ForestSoftmax(head.in_features, grown_trees(vectors)),
    ),
    "product": Idea(f"the product of {TREES} random trees", FOREST, lambda d, c: Product(d, random_trees(c))),
    "product-grown": Idea(
        f"the product of {TREES} grown trees",
        FOREST,
        lambda d, c: Product(d, random_trees(c)),
        lambda head, vectors: Product(head.in_features, grown_trees(vectors)),
    ),
    "beside": Idea(
        f"a random binary tree beside a softmax sampled uniformly, {DRAWN} draws",
        f"log2 C + {DRAWN}",
        lambda d, c: Beside(d, Tree.random(c), uniform=True),
    ),
    "tree-draws": Idea(
        f"the same with {DRAWN} draws of the tree for each example",
        f"{DRAWN} log2 C",
        lambda d, c: Beside(d, Tree.random(c), uniform=False),
    ),
    "tree-draws-apart": Idea(
        "the same, the tree's loss not reaching the features",
        f"{DRAWN} log2 C",
        lambda d, c: Beside(d, Tree.random(c), uniform=False, shapes=False),
    ),
    "tree-sampled": Idea(f"{DRAWN // 2} draws of the tree and {DRAWN // 2} uniform ones", f"{DRAWN} log2 C"),
    "tree-sampled-50": Idea(
        "25 draws of each", "50 log2 C", lambda d, c: TreeSampledSoftmax(d, Tree.random(c), num_samples=50)
    ),
    "tree-sampled-wide": Idea(
        "the tree with ten children a node",
        f"{DRAWN} x 10 log10 C",
        lambda d, c: TreeSampledSoftmax(d, Tree.random(c, arity=10), num_samples=DRAWN),
    ),
    "tree-sampled-light": Idea(
        "a random binary tree, whose loss weighs three tenths",
        f"{DRAWN} log2 C",
        lambda d, c: TreeSampledSoftmax(d, Tree.random(c), num_samples=DRAWN, proposal_weight=0.3),
    ),
    "tree-sampled-grown": Idea("a grown binary tree, whose loss weighs three tenths", f"{DRAWN} log2 C"),
}


@dataclass(frozen=True)
class Regrown(Growth):
    """A head that is made anew, or changed, from class vectors."""

    renew: Callable[[Any, Tensor], Head] = lambda head, vectors: head

    def grow(self, head: Head, vectors: Tensor, sparse: bool) -> tuple[Head, Tree]:
        """The head anew; the tree is for the record alone."""
        vectors = vectors.float().cpu()
        return self.renew(head, vectors), self.tree(vectors)


def entry(idea: Idea) -> Entry:
    """The idea as a head of the lab."""
    make, again = idea.make, idea.again
    if make is None:
        raise ValueError("expected an idea that is here alone")

    def build(features: int, card: Classes) -> Head:
        return make(features, len(card.class_names))

    growth = None if again is None else Regrown(Tree.clustered, from_means=True, again=True, renew=again)
    return Entry(build, idea.rows, idea.words, growth=growth)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--data", default="glyphs")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument(
        "--ideas", nargs="+", default=list(IDEAS), choices=list(IDEAS), metavar="IDEA", help=", ".join(IDEAS)
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--lr", type=float, default=0.1)
    parser.add_argument("--out", type=Path, help="a CSV file of the accuracies")
    parser.add_argument("--runs", type=Path, help="a folder that keeps the runs: what is there is not trained again")
    parser.add_argument("--jobs", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(1)
    data = load_data(given.data, data_dir=given.data_dir)
    rows: list[list[object]] = []
    flat: list[float] = []
    with tempfile.TemporaryDirectory() as passing:
        folder = given.runs or Path(passing)
        for name in given.ideas:
            idea = IDEAS[name]
            made = compare(
                data,
                heads={name: name if idea.make is None else entry(idea)},
                seeds=given.seeds,
                lr=given.lr,
                jobs=given.jobs,
                out=folder / name,
                console=Console(quiet=True),
            )
            last = [result.epochs[-1].scores for result in made.results]
            accuracy = [float("nan") if scores is None else 100 * scores.accuracy for scores in last]
            flat = accuracy if name == "softmax" else flat
            mean = sum(accuracy) / len(accuracy)
            behind = f"{mean - sum(flat) / len(flat):+.1f}" if flat else ""
            print(
                f"{name:<29} {mean:5.1f} {behind:>6}   {' '.join(f'{one:.1f}' for one in accuracy)}   "
                f"{idea.rows} rows: {idea.words}",
                flush=True,
            )
            rows.append([name, idea.words, idea.rows, mean, behind, *accuracy])
    if given.out:
        with given.out.open("w", newline="") as file:
            writer = csv.writer(file)
            seeds = [f"seed_{seed}" for seed in range(given.seeds)]
            writer.writerow(["idea", "what", "rows", "mean", "less_softmax", *seeds])
            writer.writerows(rows)


if __name__ == "__main__":
    main()
