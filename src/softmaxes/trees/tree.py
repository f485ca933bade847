"""A class hierarchy: immutable, in flat arrays, O(C) memory, fit for ten million classes."""

import itertools
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from softmaxes.on_cpu import on_cpu


class Tree:
    """A rooted tree whose leaves are the classes.

    Nodes are numbered: the leaves are ``0..C-1``, class c is leaf c; inner nodes are ``C..M-1``. Leaves may lie at any
    depth, nodes may have any number of children; a node with one child takes no decision. The children of a node are
    ordered by their number.

    Args:
        parent: the parent of every node, (M,) int64; the root's is -1. A sequence of ints will do.

    Attributes:
        parent: as given, a tensor on the CPU; treat it as read-only.
        num_nodes: M.
        num_classes: C.
        root: the root's number.
        depth: edges from the root to the deepest leaf.
        arity: children of the node that has the most.

    Raises:
        TypeError: `parent` is not of integers.
        ValueError: `parent` is not a tree whose leaves are ``0..C-1``, with C at least 2; the message names the node.

    Example:
        >>> from softmaxes import Tree
        >>> Tree([4, 3, 3, 4, -1])  # class 0 beside a pair of classes 1 and 2
        Tree(num_classes=3, num_nodes=5, depth=2, arity=2)
    """

    parent: Tensor
    num_nodes: int
    num_classes: int
    root: int
    depth: int
    arity: int

    @on_cpu
    def __init__(self, parent: Tensor | Sequence[int]) -> None:
        own = self.__dict__  # past the guard against changes
        own["parent"] = _integers("parent", "one a node", parent)
        own["num_nodes"] = len(self.parent)
        roots = (self.parent == -1).nonzero().flatten()
        if len(roots) != 1:
            raise ValueError(f"Tree: expected one root, a node whose parent is -1, got {len(roots)}.")
        own["root"] = int(roots)
        wrong = ((self.parent < -1) | (self.parent >= self.num_nodes)).nonzero().flatten()
        if len(wrong) > 0:
            node = int(wrong[0])
            raise ValueError(
                f"Tree: expected parents in 0..{self.num_nodes - 1}, got {int(self.parent[node])} for node {node}."
            )
        inner = self.num_children > 0
        own["num_classes"] = int((~inner).sum())
        if self.num_classes < 2:
            raise ValueError(f"Tree: expected at least 2 leaves, got {self.num_classes}.")
        if bool(inner[: self.num_classes].any()):
            node = int(inner.int().argmax())
            raise ValueError(
                f"Tree: expected the {self.num_classes} leaves to be nodes 0..{self.num_classes - 1}, "
                f"got node {node} with {int(self.num_children[node])} children."
            )
        lost = (self.node_depth < 0).nonzero().flatten()
        if len(lost) > 0:
            raise ValueError(f"Tree: expected every node to descend from the root, got node {int(lost[0])} in a cycle.")
        own["depth"] = int(self.node_depth.max())
        own["arity"] = int(self.num_children.max())

    @classmethod
    @on_cpu
    def balanced(cls, num_classes: int, arity: int = 2) -> "Tree":
        """The complete tree over the classes in their order: all leaves at one depth, filled from the left.

        It is the heap of the least depth L with ``arity ** L >= num_classes``, less the nodes that hold no class: see
        `heap_numbers`.

        Args:
            num_classes: number of classes, C, at least 2.
            arity: children of a node, at least 2; nodes at the right edge may have fewer.

        Returns:
            The tree.

        Raises:
            TypeError: an argument is not an int.
            ValueError: an argument is out of range.

        Example:
            >>> from softmaxes import Tree
            >>> Tree.balanced(100)
            Tree(num_classes=100, num_nodes=202, depth=7, arity=2)
        """
        for name, value in (("num_classes", num_classes), ("arity", arity)):
            if isinstance(value, bool) or not isinstance(value, int):
                raise TypeError(f"Tree: expected {name} to be an int, got {value!r}.")
            if value < 2:
                raise ValueError(f"Tree: expected {name} to be at least 2, got {value}.")
        widths = [num_classes]  # nodes of each level, from the leaves up
        while widths[-1] > 1:
            widths.append(-(-widths[-1] // arity))
        parents = []
        end = num_classes + sum(widths[1:])  # inner nodes are numbered from the root down, so the root is C
        start_of_level = end
        for width, above in itertools.pairwise(widths):
            start_of_level -= above
            parents.append(start_of_level + torch.arange(width) // arity)
        parents.append(torch.tensor([-1]))
        return cls(torch.cat([parents[0], *reversed(parents[1:])]))

    @classmethod
    @on_cpu
    def random(cls, num_classes: int, arity: int = 2, seed: int = 0) -> "Tree":
        """The balanced tree over the classes in an order drawn at random: a control for any other tree.

        Args:
            num_classes: number of classes, C, at least 2.
            arity: children of a node, at least 2; nodes at the right edge may have fewer.
            seed: decides the order; torch's global random state is left alone.

        Returns:
            The tree.

        Raises:
            TypeError: an argument is not an int.
            ValueError: an argument is out of range.

        Example:
            >>> from softmaxes import Tree
            >>> Tree.random(100, seed=1)
            Tree(num_classes=100, num_nodes=202, depth=7, arity=2)
            >>> Tree.random(100, seed=1) == Tree.random(100, seed=2)
            False
        """
        if isinstance(seed, bool) or not isinstance(seed, int):
            raise TypeError(f"Tree: expected seed to be an int, got {seed!r}.")
        parent = cls.balanced(num_classes, arity).parent.clone()
        order = torch.randperm(num_classes, generator=torch.Generator().manual_seed(seed))
        parent[:num_classes] = parent[order]
        return cls(parent)

    @classmethod
    @on_cpu
    def from_groups(cls, group_of_class: Sequence[int] | Tensor) -> "Tree":
        """A root, a node for each group, and under it the group's classes.

        Args:
            group_of_class: for each class the number of its group, (C,); the numbers may be any integers.

        Returns:
            The tree; its inner nodes are the root, C, and the groups in the order of their numbers, C + 1 on.

        Raises:
            TypeError: `group_of_class` is not of integers.
            ValueError: there are fewer than 2 classes.

        Example:
            >>> from softmaxes import Tree
            >>> Tree.from_groups([0, 0, 1, 1, 1])
            Tree(num_classes=5, num_nodes=8, depth=2, arity=3)
        """
        groups = _integers("group_of_class", "one a class", group_of_class)
        distinct, index = torch.unique(groups, return_inverse=True)
        root = len(groups)
        return cls(torch.cat([root + 1 + index, torch.tensor([-1]), torch.full((len(distinct),), root)]))

    @cached_property
    @on_cpu
    def num_children(self) -> Tensor:
        """Children of every node, (M,)."""
        return torch.bincount(self.parent[self.parent >= 0], minlength=self.num_nodes)

    @cached_property
    @on_cpu
    def child_index(self) -> Tensor:
        """Place of every node among its parent's children, from 0, (M,); the root's is 0."""
        order = self.parent.argsort(stable=True)  # the root, then the children of each node in turn
        start = self.num_children.cumsum(0) - self.num_children + 1  # of each node's children in that order
        index = torch.empty_like(self.parent)
        index[order] = torch.arange(self.num_nodes) - start[self.parent[order]]
        index[self.root] = 0
        return index

    @cached_property
    @on_cpu
    def node_depth(self) -> Tensor:
        """Edges from the root to every node, (M,); -1 where the root is not reached.

        Every node looks twice as far up in each round, so the work is O(M log depth).
        """
        up = self.parent.clone()
        up[self.root] = self.root
        depth = torch.ones_like(up)
        depth[self.root] = 0
        for _ in range(self.num_nodes.bit_length()):
            depth = depth + depth[up]
            up = up[up]
            if bool((up == self.root).all()):
                break
        return depth.where(up == self.root, torch.tensor(-1))

    def ancestors(self, node: int) -> tuple[int, ...]:
        """The nodes above a node, from its parent up to the root.

        Example:
            >>> from softmaxes import Tree
            >>> Tree.balanced(4).ancestors(3)
            (6, 4)
        """
        if not 0 <= node < self.num_nodes:
            raise ValueError(f"Tree: expected a node in 0..{self.num_nodes - 1}, got {node}.")
        path = []
        above = int(self.parent[node])
        while above >= 0:
            path.append(above)
            above = int(self.parent[above])
        return tuple(path)

    @on_cpu
    def heap_numbers(self) -> Tensor:
        """Place of every node in the heap that holds this tree, (M,): the root's is 0.

        Child i of the node at place p is at ``arity * p + 1 + i``.

        Raises:
            ValueError: the heap has more places than an int64 can number.

        Example:
            >>> from softmaxes import Tree
            >>> Tree.balanced(100).heap_numbers()[19]
            tensor(146)
        """
        if self.arity ** (self.depth + 1) >= 2**63:
            raise ValueError(f"Tree: expected a heap of fewer than 2**63 places, got {self}.")
        numbers = torch.zeros_like(self.parent)
        for depth in range(1, self.depth + 1):
            nodes = (self.node_depth == depth).nonzero().flatten()
            numbers[nodes] = self.arity * numbers[self.parent[nodes]] + 1 + self.child_index[nodes]
        return numbers

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"Tree: expected no change, got {name} = {value!r}; make another tree.")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Tree) and torch.equal(self.parent, other.parent)

    def __hash__(self) -> int:
        return hash(self.parent.numpy().tobytes())

    def __getstate__(self) -> dict[str, Any]:
        return {"parent": self.parent}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["parent"])  # type: ignore[misc]

    def __repr__(self) -> str:
        return (
            f"Tree(num_classes={self.num_classes}, num_nodes={self.num_nodes}, depth={self.depth}, arity={self.arity})"
        )


def _integers(name: str, what: str, values: Tensor | Sequence[int]) -> Tensor:
    """A copy as an int64 tensor on the CPU."""
    try:
        tensor = torch.as_tensor(values)
    except (ValueError, TypeError, RuntimeError):
        raise TypeError(
            f"Tree: expected {name} as a sequence of ints, {what}, got {type(values).__name__} of other things."
        ) from None
    if tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool or tensor.dim() != 1:
        raise TypeError(
            f"Tree: expected {name} as a sequence of ints, {what}, got {tensor.dtype} of shape {tuple(tensor.shape)}."
        )
    return tensor.to(dtype=torch.int64, device="cpu", copy=True)
