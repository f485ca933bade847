"""A tree cut into subtrees, and the decisions above them."""

import heapq
from typing import NamedTuple

import torch
from torch import Tensor

from softmaxes.heads.hierarchical.head import num_rows_of, slots
from softmaxes.on_cpu import on_cpu
from softmaxes.trees.tree import Tree

PIECES = 256  # into which a tree is cut, at least, whatever the number of ranks: so a checkpoint fits any number
MOST_CHILDREN = 4096  # of a node that is cut; one with more stays in one piece, unless it is the first decision


class Cut(NamedTuple):
    """Pieces of a tree: subtrees that begin with a decision, or are a class."""

    top: Tree  # what is above them; its class j is piece j
    branch: Tensor  # (M',) of each node of the top, the tree's node that its parent decides for
    begin: Tensor  # (P,) the tree's node with which a piece begins
    classes: Tensor  # (P,) how many are in a piece
    piece: Tensor  # (M,) of each node of the tree; -1 above them

    def share(self, ranks: int) -> Tensor:
        """The rank of each piece, (P,): about as many classes for each."""
        load = [(0, rank) for rank in range(ranks)]
        share = torch.zeros(len(self.classes), dtype=torch.int64)
        for piece in self.classes.argsort(descending=True, stable=True).tolist():
            classes, rank = heapq.heappop(load)
            share[piece] = rank
            heapq.heappush(load, (classes + int(self.classes[piece]), rank))
        return share


@on_cpu
def cut(tree: Tree) -> Cut:
    """Cut a tree, the largest pieces first.

    Args:
        tree: the tree.

    Cost:
        O(M log depth) time.
    """
    leaves = torch.zeros(tree.num_nodes, dtype=torch.int64)
    leaves[: tree.num_classes] = 1
    size = tree.subtree_sum(leaves)
    branch, begin, above = [tree.root], [_first_decision(tree, tree.root)], [-1]
    waiting = [(-tree.num_classes, 0)]
    pieces = 1
    opened: set[int] = set()
    while waiting and pieces < PIECES:
        classes, item = heapq.heappop(waiting)
        children = int(tree.num_children[begin[item]])
        if classes == -1 or (opened and children > MOST_CHILDREN):
            continue
        opened.add(item)
        pieces += children - 1
        for child in tree.children_of(begin[item]):
            heapq.heappush(waiting, (-int(size[child]), len(branch)))
            branch.append(child)
            begin.append(_first_decision(tree, child))
            above.append(item)
    items = sorted(range(len(branch)), key=lambda item: (item in opened, branch[item]))
    place = {item: number for number, item in enumerate(items)}
    top = Tree([-1 if above[item] < 0 else place[above[item]] for item in items])
    first = torch.tensor([begin[item] for item in items[: top.num_classes]])
    piece = torch.full((tree.num_nodes,), -1)
    piece[first] = torch.arange(top.num_classes)
    up = torch.where(piece >= 0, torch.arange(tree.num_nodes), tree.parent)
    up[tree.root] = tree.root
    for _ in range(tree.depth.bit_length()):
        up = up[up]
    return Cut(top, torch.tensor([branch[item] for item in items]), first, size[first], piece[up])


def _first_decision(tree: Tree, node: int) -> int:
    """The first node on the way down that has not one child alone."""
    while int(tree.num_children[node]) == 1:
        (node,) = tree.children_of(node)
    return node


class Rows(NamedTuple):
    """Where the rows of a part of a tree are among the rows of the whole."""

    row: Tensor  # (R',)
    sign: Tensor  # (R',) -1 where of a node's two children the other one has the logit


class Numbers(NamedTuple):
    """The rows of a tree's decisions."""

    tree: Tree
    num_rows: Tensor  # (M,) of each node
    first_row: Tensor  # (M,)

    @classmethod
    def of(cls, tree: Tree) -> "Numbers":
        """Those of a tree."""
        num_rows = num_rows_of(tree)
        return cls(tree, num_rows, num_rows.cumsum(0) - num_rows)

    def of_nodes(self, nodes: Tensor) -> Tensor:
        """The row of the logit with which its parent decides for each of some nodes; -1 if that is fixed."""
        slot = slots(self.tree, nodes)
        return (self.first_row[self.tree.parent[nodes]] + slot).where(slot >= 0, -1)


@on_cpu
def rows_above(cut: Cut, whole: Numbers) -> Rows:
    """The rows of the decisions above the pieces."""
    top = Numbers.of(cut.top)
    here, there = top.of_nodes(torch.arange(cut.top.num_nodes)), whole.of_nodes(cut.branch)
    there = there.where(cut.top.parent >= 0, -1)
    place = torch.empty(int(top.num_rows.sum()), dtype=torch.int64)
    sign = torch.ones(len(place))
    both = (here >= 0) & (there >= 0)
    place[here[both]] = there[both]
    # Of two children the second has the logit. Where the order is another, the node has it from the other child.
    mine, others = ((here >= 0) & ~both).nonzero().flatten(), ((there >= 0) & ~both).nonzero().flatten()
    mine, others = mine[cut.top.parent[mine].argsort()], others[cut.top.parent[others].argsort()]
    place[here[mine]] = there[others]
    sign[here[mine]] = -1
    return Rows(place, sign)


class Below(NamedTuple):
    """Some pieces as one tree, whose root decides nothing."""

    tree: Tree
    classes: Tensor  # (C',) the whole tree's class of each leaf; they rise
    row: Tensor  # (R',) the whole tree's row of each decision's, piece by piece
    ends: list[int]  # where the rows of each piece end


@on_cpu
def below(tree: Tree, cut: Cut, whole: Numbers, pieces: list[int]) -> Below:
    """Some pieces, each with more than one class."""
    place = torch.full((len(cut.classes) + 1,), -1)  # the last is of what is in no piece
    place[torch.tensor(pieces)] = torch.arange(len(pieces))
    own = place[cut.piece]
    nodes = (own >= 0).nonzero().flatten()
    leaf = nodes < tree.num_classes
    inner = nodes[~leaf]
    inner = inner[own[inner].argsort(stable=True)]
    nodes = torch.cat([nodes[leaf], inner])
    after = torch.full((tree.num_nodes,), len(nodes))
    after[nodes] = torch.arange(len(nodes))
    parent = torch.cat([after[tree.parent[nodes]], torch.tensor([-1])])
    parent[after[cut.begin[torch.tensor(pieces)]]] = len(nodes)
    num_rows = whole.num_rows[inner]
    start = whole.first_row[inner] - num_rows.cumsum(0) + num_rows
    row = start.repeat_interleave(num_rows) + torch.arange(int(num_rows.sum()))
    ends = torch.bincount(own[inner].repeat_interleave(num_rows), minlength=len(pieces)).cumsum(0)
    return Below(Tree(parent), nodes[: int(leaf.sum())], row, ends.tolist())
