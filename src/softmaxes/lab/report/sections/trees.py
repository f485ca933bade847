"""The trees of a comparison, each as the page shows it. Torch is imported where there is a tree."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from softmaxes.files import InputError
from softmaxes.lab.records import DataCard, Guess, Result
from softmaxes.lab.report.summary import Row, Summary
from softmaxes.lab.report.tree import icicle_svg
from softmaxes.lab.report.wording import percent, seconds
from softmaxes.names import plural

if TYPE_CHECKING:
    from torch import Tensor

    from softmaxes import Tree


@dataclass(frozen=True)
class Step:
    """A turn on the way from the root to a class."""

    name: str
    probability: float


@dataclass(frozen=True)
class TreeView:
    """A trained tree and what came of it."""

    row: Row
    seed: int
    facts: str
    svg: str
    paths: tuple[tuple[Step, ...], ...]  # to the most probable class of each sample image


def views(summary: Summary) -> list[TreeView]:
    """The tree of each head over one, of the run with the lowest seed.

    Raises:
        InputError: what a result says of its tree cannot be.
    """
    found = []
    for row in summary.over_trees:
        result = row.finished[0]
        tree = _named_tree(result, summary.card)
        try:
            found.append(
                TreeView(
                    row,
                    result.run.seed,
                    _facts(result, tree, summary.card),
                    icicle_svg(
                        tree,
                        value_of_node=_kept(result, tree),
                        value_name=f"test {summary.card.example}s kept below the node",
                    ),
                    tuple(_steps(guess, tree) for guess in result.guesses),
                )
            )
        except ValueError as error:
            raise InputError(
                f"report: expected a path and scores of its tree in run {result.run.key}, {error}"
            ) from None
    return found


def _named_tree(result: Result, card: DataCard) -> "Tree":
    from softmaxes import Tree

    parent = () if result.tree is None else result.tree.parent
    try:
        tree = Tree(parent)
        if tree.num_classes != len(card.class_names):
            raise ValueError(f"got {tree.num_classes} classes")
    except (ValueError, TypeError) as error:
        raise InputError(
            f"report: expected a tree over {len(card.class_names)} classes in run {result.run.key}: {error}"
        ) from None
    return named(tree, card)


def named(tree: "Tree", card: DataCard) -> "Tree":
    """The tree with the classes' names, and a group's name where the classes below a node are just that group."""
    import torch

    from softmaxes import Tree

    names = [*card.words_of_class, *[""] * (tree.num_nodes - tree.num_classes)]
    if card.group_of_class is not None and card.group_names is not None:
        below = tree.subtree_sum((torch.arange(tree.num_nodes) < tree.num_classes).long())
        groups = torch.tensor(card.group_of_class)
        for level, level_names in enumerate((card.group_names, *card.coarser_names)):
            if level:
                groups = torch.tensor(card.coarser_groups[level - 1])[groups]
            for members, name in zip(_members(groups, len(level_names)), level_names, strict=True):
                if len(members) > 1:
                    top = members[0]
                    for other in members[1:]:
                        top = tree.lowest_common_ancestor(top, other)
                    if int(below[top]) == len(members):
                        names[int(top)] = names[int(top)] or name
    return Tree(tree.parent, names)


def _members(groups: "Tensor", number: int) -> "Sequence[Tensor]":
    """The classes of each group, of the group of each class."""
    sizes: list[int] = groups.bincount(minlength=number).tolist()
    return groups.argsort(stable=True).split(sizes)  # type: ignore[no-untyped-call, no-any-return]


def _kept(result: Result, tree: "Tree") -> Sequence[float]:
    import torch

    from softmaxes.metrics import node_accuracy

    shares: list[float] = node_accuracy(torch.tensor(result.confusion, dtype=torch.int64).reshape(-1, 3), tree).tolist()
    return shares


def _facts(result: Result, tree: "Tree", card: DataCard) -> str:
    """Shape, origin and search in words."""
    trained = result.tree
    if trained is None:
        return ""
    decisions = tree.expected_path_length(card.train_counts)
    text = f"Depth {tree.depth}, up to {plural(tree.arity, 'child', 'children')} a node; "
    text += f"{decisions:.1f} nodes on the way to a training {card.example}'s class."
    if trained.learned_after:
        flat, *later = trained.learned_after
        source = "the classes' mean features" if trained.from_means else "the weights of a flat softmax"
        text += f" Made in {seconds(trained.seconds)} s from {source} after {plural(flat, 'epoch')}"
        text += f", and again after {later[0]} from the classes' mean features." if later else "."
    if trained.searched is not None:
        found = trained.searched
        text += " The greedy way down ends at another class than the most probable one for "
        text += (
            f"{percent(found.greedy_differs)} of the test {card.example}s (accuracy {percent(found.greedy_accuracy)}), "
        )
        text += f"a beam of {found.beam_width} for {percent(found.beam_differs)} ({percent(found.beam_accuracy)})."
    return text


def _steps(guess: Guess, tree: "Tree") -> tuple[Step, ...]:
    import torch

    if any(branch.node >= tree.num_nodes for branch in guess.path):
        raise ValueError("got a node that the tree has not.")
    below = tree.subtree_sum((torch.arange(tree.num_nodes) < tree.num_classes).long())
    named = tree.names or ()
    return tuple(
        Step(named[branch.node] or plural(int(below[branch.node]), "class", "classes"), branch.probability)
        for branch in guess.path
    )
