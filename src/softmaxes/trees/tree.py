"""A class hierarchy: immutable, in flat arrays, O(C) memory, fit for ten million classes."""

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from softmaxes.on_cpu import on_cpu
from softmaxes.sampler import class_weights
from softmaxes.trees import build

NODES_PER_LEVEL = 128  # a loop visits this many nodes in the time that torch takes for one level


class Tree:
    """A rooted tree whose leaves are the classes.

    Nodes are numbered: the leaves are ``0..C-1``, class c is leaf c; inner nodes are ``C..M-1``. Leaves may lie at any
    depth, nodes may have any number of children; a node with one child takes no decision. The children of a node are
    ordered by their number.

    Args:
        parent: the parent of every node, (M,) int64; the root's is -1. A sequence of ints will do.
        names: what every node is called, M strings, or none; names need not differ.

    Attributes:
        parent: as given, a tensor on the CPU; treat it as read-only.
        names: as given, a tuple, or none.
        num_nodes: M.
        num_classes: C.
        root: the root's number.
        depth: edges from the root to the deepest leaf.
        arity: children of the node that has the most.

    Raises:
        TypeError: `parent` is not of integers, or `names` not of strings.
        ValueError: `parent` is not a tree whose leaves are ``0..C-1``, with C at least 2, or there is not a name for
            each node; the message names the node.

    Example:
        >>> from softmaxes import Tree
        >>> Tree([4, 3, 3, 4, -1])  # class 0 beside a pair of classes 1 and 2
        Tree(num_classes=3, num_nodes=5, depth=2, arity=2)
    """

    parent: Tensor
    names: tuple[str, ...] | None
    num_nodes: int
    num_classes: int
    root: int
    depth: int
    arity: int

    @on_cpu
    def __init__(self, parent: Tensor | Sequence[int], names: Sequence[str] | None = None) -> None:
        own = self.__dict__  # past the guard against changes
        own["parent"] = build.integers("parent", "one a node", parent)
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
        own["names"] = None if names is None else tuple(names)
        if self.names is not None:
            if isinstance(names, str):
                raise TypeError(f"Tree: expected names as a sequence of strings, got {names!r}.")
            if len(self.names) != self.num_nodes:
                raise ValueError(f"Tree: expected a name for each of {self.num_nodes} nodes, got {len(self.names)}.")
            for node, name in enumerate(self.names):
                if not isinstance(name, str):
                    raise TypeError(f"Tree: expected names to be strings, got {name!r} for node {node}.")

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
        return cls(build.balanced(num_classes, arity))

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
        return cls(build.random(num_classes, arity, seed))

    @classmethod
    @on_cpu
    def huffman(cls, counts: Tensor | Sequence[float], arity: int = 2) -> "Tree":
        """The tree in which a class that is drawn by its count is at the least depth, on average.

        The `arity` lightest nodes are put under a new one, which weighs as much as they do together, until there is
        one. The first time fewer are put under one node, where that is needed for the root to have `arity` children.

        Args:
            counts: how often each class occurs, (C,); not negative, one of them above zero.
            arity: children of a node, at least 2; one node may have fewer.

        Returns:
            The tree; inner node ``C + i`` is the i-th that was made, so the root is the last.

        Raises:
            TypeError: counts are not numbers, or `arity` is not an int.
            ValueError: counts are not such, their sum is 2**63 or more if they are ints, or `arity` is out of range.

        Cost:
            O(C log C) time, O(C) memory.

        Example:
            >>> from softmaxes import Tree
            >>> tree = Tree.huffman([8, 6, 5, 4, 3])
            >>> tree.node_depth[:5]
            tensor([2, 2, 2, 3, 3])

        Reference:
            D. A. Huffman. A method for the construction of minimum-redundancy codes. 1952.
        """
        return cls(build.huffman(counts, arity))

    @classmethod
    @on_cpu
    def from_groups(cls, group_of_class: Sequence[int] | Tensor, *coarser: Sequence[int] | Tensor) -> "Tree":
        """A root, a node for each group, and under it the group's classes; groups may be in groups, and so on.

        Args:
            group_of_class: for each class the number of its group, (C,). The numbers may be any integers; with a
                coarser level they are ``0..G-1``, each used.
            coarser: for each group of the level before the number of its own group, (G,), from fine to coarse; the
                numbers are as above.

        Returns:
            The tree; its inner nodes are the root, C, and the groups in the order of their numbers, C + 1 on, finer
            levels before coarser ones.

        Raises:
            TypeError: an argument is not of integers.
            ValueError: there are fewer than 2 classes, or a level does not number the groups of the one before it.

        Example:
            >>> from softmaxes import Tree
            >>> Tree.from_groups([0, 0, 1, 1, 1])
            Tree(num_classes=5, num_nodes=8, depth=2, arity=3)
            >>> Tree.from_groups([0, 0, 1, 1, 2], [0, 0, 1])
            Tree(num_classes=5, num_nodes=11, depth=3, arity=2)
        """
        return cls(build.from_groups([group_of_class, *coarser]))

    @classmethod
    @on_cpu
    def from_paths(cls, paths: Sequence[str | Sequence[str]], separator: str = "/") -> "Tree":
        """The tree of the classes' paths from the root; the last part of a path is the class.

        Args:
            paths: one a class, each a string or the names in it; from the root, which has none, down to the class.
            separator: stands between the names of a string.

        Returns:
            The tree, with names: the last part of each path, and "" for the root. Its inner nodes are the root, C, and
            the others in the order in which the paths bring them.

        Raises:
            TypeError: a path is not a string or strings.
            ValueError: a path is empty, has an empty name, is another class's too, or leads on to another class; or
                there are fewer than 2.

        Example:
            >>> from softmaxes import Tree
            >>> tree = Tree.from_paths(["animal/mammal/dog", "animal/mammal/cat", "animal/bird/wren", "plant/oak"])
            >>> tree
            Tree(num_classes=4, num_nodes=9, depth=3, arity=2)
            >>> [tree.names[node] for node in tree.ancestors(1)]
            ['mammal', 'animal', '']
        """
        return cls(*build.from_paths(paths, separator))

    @classmethod
    @on_cpu
    def from_parents(cls, parent_of: Mapping[str, str | None], classes: Sequence[str] | None = None) -> "Tree":
        """The tree in which every name is right below another, but for the root's.

        Args:
            parent_of: for each name that of its parent; the root's has none, or is left out.
            classes: the names that are nobody's parent, in the order of the classes; if not given, in the order in
                which they first occur.

        Returns:
            The tree, with names; its inner nodes are in the order in which their names first occur.

        Raises:
            TypeError: a name is not a string.
            ValueError: there is not one root that all names descend from, or `classes` are not the names that are
                nobody's parent, each once; the message says which name.

        Example:
            >>> from softmaxes import Tree
            >>> tree = Tree.from_parents({"dog": "mammal", "cat": "mammal", "mammal": "animal", "wren": "animal"})
            >>> tree.names
            ('dog', 'cat', 'wren', 'mammal', 'animal')
        """
        return cls(*build.from_parents(parent_of, classes))

    @classmethod
    @on_cpu
    def clustered(
        cls, vectors: Tensor | Sequence[Sequence[float]], arity: int = 2, balanced: bool = True, seed: int = 0
    ) -> "Tree":
        """Classes with similar vectors under one node: a hierarchy of clusters, from the root down.

        A cluster is cut in two by two-means along a direction, again and again until it is in `arity` parts; one of at
        most `arity` classes is not cut.

        Args:
            vectors: of the classes, (C, D), finite, e.g. the rows of a trained softmax's weight.
            arity: children of a node, at least 2; a node with leaves alone may have fewer.
            balanced: whether the sizes of a node's parts differ by at most one, so that the tree is as deep as
                `Tree.balanced`. If not, the part with the largest sum of squares is cut next, and each side has at
                least a sixteenth of what is cut, which bounds the depth: it is less than 11 log2(C) + 2.
            seed: decides the directions to begin with; torch's global random state is left alone.

        Returns:
            The tree; its inner nodes are numbered from the root, C, down.

        Raises:
            TypeError: `vectors` are not floating-point, or another argument is not of its type.
            ValueError: a vector is not finite, or an argument is out of range.

        Cost:
            O(C D log C) time if balanced; twice the memory of the vectors, and O(C). In float32 at least, on the CPU.

        Example:
            >>> import torch
            >>> from softmaxes import Tree
            >>> tree = Tree.clustered(torch.tensor([[0.0], [9.0], [0.1], [9.1]]))
            >>> tree.distance(torch.tensor([0, 0]), torch.tensor([2, 1]))
            tensor([2, 4])
        """
        return cls(build.clustered(vectors, arity, balanced, seed))

    @classmethod
    @on_cpu
    def agglomerative(
        cls, vectors: Tensor | Sequence[Sequence[float]], arity: int = 2, linkage: str = "ward"
    ) -> "Tree":
        """Classes with similar vectors under one node: the closest two clusters are merged, from the leaves up.

        It needs SciPy: ``pip install 'softmaxes[trees]'``. For an arity above 2 the highest of a node's children is
        replaced by its own children, until the node has `arity` of them or all are leaves.

        Args:
            vectors: of the classes, (C, D), finite, e.g. the rows of a trained softmax's weight.
            arity: children of a node, at least 2; a node may have fewer.
            linkage: what clusters are close, as in `scipy.cluster.hierarchy.linkage`.

        Returns:
            The tree; its inner nodes are in the order of their merges, so the root is the last.

        Raises:
            ImportError: SciPy is not installed.
            TypeError: `vectors` are not floating-point, or `arity` is not an int.
            ValueError: a vector is not finite, an argument is out of range, or there are more than 46340 classes.

        Cost:
            O(C² D) time, 8 C² bytes; `Tree.clustered` is for more classes.

        Example:
            >>> import torch
            >>> from softmaxes import Tree
            >>> Tree.agglomerative(torch.tensor([[0.0], [9.0], [0.1], [9.2]])).parent
            tensor([ 4,  5,  4,  5,  6,  6, -1])
        """
        return cls(build.agglomerative(vectors, arity, linkage))

    @classmethod
    @on_cpu
    def from_confusion(cls, confusion: Tensor | Sequence[Sequence[float]], arity: int = 2) -> "Tree":
        """Classes that a classifier takes for each other under one node.

        The similarity of two classes is the mean of the shares of each one's examples that are taken for the other;
        clusters are merged by average linkage, as in `Tree.agglomerative`. It needs SciPy.

        Args:
            confusion: how many examples of each class (row) were taken for each class (column), (C, C); a class may
                have none.
            arity: children of a node, at least 2; a node may have fewer.

        Returns:
            The tree; its inner nodes are in the order of their merges, so the root is the last.

        Raises:
            ImportError: SciPy is not installed.
            TypeError: `confusion` is not of numbers, or `arity` is not an int.
            ValueError: a count is negative or not finite, an argument is out of range, or there are more than 46340
                classes.

        Cost:
            O(C²) time, 8 C² bytes.

        Example:
            >>> from softmaxes import Tree
            >>> Tree.from_confusion([[5, 0, 3], [1, 8, 0], [2, 0, 9]]).parent
            tensor([ 3,  4,  3,  4, -1])
        """
        return cls(build.from_confusion(confusion, arity))

    @cached_property
    @on_cpu
    def num_children(self) -> Tensor:
        """Children of every node, (M,)."""
        return torch.bincount(self.parent[self.parent >= 0], minlength=self.num_nodes)

    @cached_property
    @on_cpu
    def child_index(self) -> Tensor:
        """Place of every node among its parent's children, from 0, (M,); the root's is 0."""
        index = torch.zeros_like(self.parent)
        index[self.children] = torch.arange(self.num_nodes - 1) - self.first_child[self.parent[self.children]]
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

    @cached_property
    @on_cpu
    def node_height(self) -> Tensor:
        """Edges from every node down to the deepest leaf below it, (M,); a leaf's is 0."""
        if self._deep:
            heights, parent = [0] * self.num_nodes, self.parent.tolist()
            for node in self._upwards()[:-1].tolist():
                heights[parent[node]] = max(heights[parent[node]], heights[node] + 1)
            return torch.tensor(heights)
        height = torch.zeros_like(self.parent)
        for nodes in self._levels_up():
            height.scatter_reduce_(0, self.parent[nodes], height[nodes] + 1, "amax")
        return height

    @cached_property
    @on_cpu
    def children(self) -> Tensor:
        """All nodes but the root, those of one parent together, (M - 1,); see `first_child`."""
        return self.parent.argsort(stable=True)[1:]

    @cached_property
    @on_cpu
    def first_child(self) -> Tensor:
        """Where a node's children begin in `children`, (M,); there are `num_children` of them."""
        return self.num_children.cumsum(0) - self.num_children

    def children_of(self, node: int) -> tuple[int, ...]:
        """The children of a node, in their order.

        Example:
            >>> from softmaxes import Tree
            >>> Tree.balanced(4).children_of(4)
            (5, 6)
        """
        self._check_node(node)
        start = int(self.first_child[node])
        return tuple(self.children[start : start + int(self.num_children[node])].tolist())

    def _levels_up(self) -> Iterator[Tensor]:
        """The nodes of each depth, from the deepest to those below the root."""
        sizes = torch.bincount(self.node_depth).flip(0).tolist()
        return iter(self._upwards()[:-1].split_with_sizes(sizes[:-1]))

    def _upwards(self) -> Tensor:
        """All nodes, the deepest first, the root last, (M,)."""
        return self.node_depth.argsort(stable=True, descending=True)

    @property
    def _deep(self) -> bool:
        """Whether there are many narrow levels: then a loop over nodes is faster than one over levels."""
        return self.depth * NODES_PER_LEVEL > self.num_nodes

    def ancestors(self, node: int) -> tuple[int, ...]:
        """The nodes above a node, from its parent up to the root.

        Example:
            >>> from softmaxes import Tree
            >>> Tree.balanced(4).ancestors(3)
            (6, 4)
        """
        self._check_node(node)
        path = []
        above = int(self.parent[node])
        while above >= 0:
            path.append(above)
            above = int(self.parent[above])
        return tuple(path)

    @on_cpu
    def lowest_common_ancestor(self, first: Tensor, second: Tensor) -> Tensor:
        """The deepest node that lies on both paths to the root, for many pairs at once; O(log M) steps.

        Args:
            first: nodes, of any shape, int64; class c is node c.
            second: as many nodes.

        Returns:
            The node of each pair: a node's own with itself, or with one below it.

        Raises:
            TypeError: nodes are not int64.
            ValueError: a node is not of this tree.

        Example:
            >>> import torch
            >>> from softmaxes import Tree
            >>> Tree.balanced(4).lowest_common_ancestor(torch.tensor([0, 0, 2]), torch.tensor([1, 3, 2]))
            tensor([5, 4, 2])
        """
        first, second = torch.broadcast_tensors(self._nodes(first), self._nodes(second))  # type: ignore[no-untyped-call]
        depth = self.node_depth
        one, other = self._top_of_run[first], self._top_of_run[second]
        while bool((apart := one != other).any()):
            # Who is in the run that begins deeper leaves it, both where they begin as deep.
            lower = depth[one] - depth[other]
            first = self.parent[one].where(apart & (lower >= 0), first)
            second = self.parent[other].where(apart & (lower <= 0), second)
            one, other = self._top_of_run[first], self._top_of_run[second]
        return first.where(depth[first] <= depth[second], second)

    @cached_property
    @on_cpu
    def _top_of_run(self) -> Tensor:
        """The highest node of every node's run, (M,): from each node a run goes on to the child with the most below it.

        On the way from the root to any node a run is left at most log2(M) times, for each time the nodes below halve.
        """
        nodes = torch.arange(self.num_nodes)
        order = self.subtree_sum(torch.ones_like(nodes)) * self.num_nodes + nodes  # of equals the one of higher number
        above = self.parent.where(self.parent >= 0, nodes)  # the root is in its own way
        goes_on = torch.zeros_like(nodes).scatter_reduce(0, above[self.children], order[self.children], "amax")
        top = above.where(goes_on[above] == order, nodes)
        for _ in range(self.depth.bit_length()):  # twice as far up in each round
            top = top[top]
        return top

    @on_cpu
    def distance(self, first: Tensor, second: Tensor) -> Tensor:
        """Edges between two nodes, for many pairs at once.

        Args:
            first: nodes, of any shape, int64; class c is node c.
            second: as many nodes.

        Returns:
            The number of edges of each pair's path.

        Raises:
            TypeError: nodes are not int64.
            ValueError: a node is not of this tree.

        Example:
            >>> import torch
            >>> from softmaxes import Tree
            >>> Tree.balanced(4).distance(torch.tensor([0, 0, 2]), torch.tensor([1, 3, 2]))
            tensor([2, 4, 0])
        """
        first, second = self._nodes(first), self._nodes(second)
        depth = self.node_depth
        return depth[first] + depth[second] - 2 * depth[self.lowest_common_ancestor(first, second)]

    @on_cpu
    def subtree_sum(self, values: Tensor) -> Tensor:
        """Every node's value and those of all nodes below it, added up.

        Args:
            values: a number for every node, (M,).

        Returns:
            The sums, (M,), of the same dtype.

        Raises:
            ValueError: there is not a value for each node.

        Example:
            >>> import torch
            >>> from softmaxes import Tree
            >>> Tree.balanced(4).subtree_sum(torch.tensor([1, 1, 1, 1, 0, 0, 0]))  # how many classes
            tensor([1, 1, 1, 1, 4, 2, 2])
        """
        if values.shape != self.parent.shape:
            raise ValueError(f"Tree: expected values of shape ({self.num_nodes},), got {tuple(values.shape)}.")
        total = values.to(device="cpu", copy=True)
        if self._deep and not total.requires_grad:
            sums, parent = total.tolist(), self.parent.tolist()
            for node in self._upwards()[:-1].tolist():
                sums[parent[node]] += sums[node]
            return torch.tensor(sums, dtype=total.dtype)
        for nodes in self._levels_up():
            total.index_add_(0, self.parent[nodes], total[nodes])
        return total

    @on_cpu
    def expected_path_length(self, counts: Tensor | Sequence[float]) -> float:
        """Mean depth of a class that is drawn by its count: decisions an example, where no node has one child.

        Args:
            counts: how often each class occurs, (C,); not negative, one of them above zero.

        Returns:
            Edges from the root to a class, on average.

        Raises:
            TypeError: counts are not numbers.
            ValueError: counts are not such, or not of this tree's classes.

        Example:
            >>> from softmaxes import Tree
            >>> Tree([4, 3, 3, 4, -1]).expected_path_length([2, 1, 1])
            1.5
        """
        weights = class_weights("Tree", "counts", counts)
        if len(weights) != self.num_classes:
            raise ValueError(f"Tree: expected counts of {self.num_classes} classes, got {len(weights)}.")
        depth = self.node_depth[: self.num_classes].double()
        return float(weights @ depth / weights.sum())

    def _check_node(self, node: int) -> None:
        if not 0 <= node < self.num_nodes:
            raise ValueError(f"Tree: expected a node in 0..{self.num_nodes - 1}, got {node}.")

    def _nodes(self, nodes: Tensor) -> Tensor:
        """Nodes, on the CPU, each of this tree."""
        if nodes.dtype != torch.int64:
            raise TypeError(f"Tree: expected nodes of dtype torch.int64, got {nodes.dtype}.")
        nodes = nodes.cpu()
        wrong = (nodes < 0) | (nodes >= self.num_nodes)
        if bool(wrong.any()):
            raise ValueError(f"Tree: expected nodes in 0..{self.num_nodes - 1}, got {int(nodes[wrong][0])}.")
        return nodes

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
        return isinstance(other, Tree) and torch.equal(self.parent, other.parent) and self.names == other.names

    def __hash__(self) -> int:
        return hash(self.parent.numpy().tobytes())

    def __getstate__(self) -> dict[str, Any]:
        return {"parent": self.parent, "names": self.names}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    def __repr__(self) -> str:
        return (
            f"Tree(num_classes={self.num_classes}, num_nodes={self.num_nodes}, depth={self.depth}, arity={self.arity})"
        )
