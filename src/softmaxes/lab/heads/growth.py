"""Growth: a tree that a head learns while it is trained, and that takes over from the one before."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from softmaxes import Head, HierarchicalSoftmax, Tree

FLAT_SHARE = 5  # a tree takes over after one epoch in five


def over_tree(head: Head, tree: Tree, sparse: bool, level_layers: bool = False) -> Head:
    """A new hierarchical softmax over the tree, on the device of the head that it replaces."""
    device = next(head.parameters()).device
    return HierarchicalSoftmax(head.in_features, tree, sparse=sparse, device=device, level_layers=level_layers)


@dataclass(frozen=True)
class Growth:
    """Which tree a head learns, when, and from what.

    Attributes:
        tree: makes the tree from class vectors, (C, D).
        from_means: whether the first tree is learned from the classes' mean features. If not, the head that the run
            starts with is flat, and the first tree is learned from the rows of its weight.
        again: whether a second tree is learned halfway, always from mean features.
        put: makes the head that goes on, from the head before, the tree, and whether gradients are sparse.
    """

    tree: Callable[[Tensor], Tree]
    from_means: bool = False
    again: bool = False
    put: Callable[[Head, Tree, bool], Head] = over_tree

    @property
    def least_epochs(self) -> int:
        """The fewest epochs of a run: each tree needs an epoch before it, and one after it."""
        return 4 if self.again else 2

    def epochs(self, total: int) -> tuple[int, ...]:
        """The epochs after which a tree takes over: a fifth of the total, at least 1; and half of it, if `again`.

        Args:
            total: epochs of the run.

        Raises:
            ValueError: there are fewer than `least_epochs`.

        Example:
            >>> from softmaxes import Tree
            >>> from softmaxes.lab.heads.growth import Growth
            >>> Growth(Tree.clustered).epochs(10), Growth(Tree.clustered, again=True).epochs(9)
            ((2,), (1, 4))
        """
        if total < self.least_epochs:
            raise ValueError(
                f"expected at least {self.least_epochs} epochs, the first to learn a tree from, got {total}."
            )
        return (max(1, total // FLAT_SHARE), *([total // 2] if self.again else []))

    def most_epochs(self, before: float, after: float, seconds: float) -> int:
        """The most epochs that fit in some seconds; at least `least_epochs`.

        Args:
            before: seconds of an epoch until the first tree takes over.
            after: seconds of an epoch from then on.
            seconds: for all of them.
        """
        low, high = self.least_epochs, max(self.least_epochs, int(seconds / min(before, after)))
        while low < high:
            middle = (low + high + 1) // 2
            first = self.epochs(middle)[0]
            low, high = (middle, high) if first * before + (middle - first) * after <= seconds else (low, middle - 1)
        return low

    def grow(self, head: Head, vectors: Tensor, sparse: bool) -> tuple[Head, Tree]:
        """Learn a tree, and put it in the place of what there was.

        Args:
            head: the head so far.
            vectors: of the classes, (C, D).
            sparse: whether the gradients of the head that goes on are to be sparse.

        Returns:
            The head that goes on, and its tree.
        """
        tree = self.tree(vectors.float().cpu())
        return self.put(head, tree, sparse), tree
