"""The softmax over a tree of classes: a decision at every inner node on the way from the root to a class."""

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar, NamedTuple, Self, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from softmaxes.head import Head
from softmaxes.heads.hierarchical import compiled, search
from softmaxes.layers import autocasts, linear_logits, linear_parameters, row_logits, transformed
from softmaxes.on_cpu import on_cpu
from softmaxes.structure import Structure, saved_table
from softmaxes.trees.tree import Tree

# The loss gathers the rows of a path where the tree has at least 64 times as many logits as a path. Where it has less,
# one matrix product for all logits is faster. Measured on a CPU: 100 to 30,000 classes, 64 and 250 features, batches
# of 32.
GATHER_RATIO = 64
# The compiled half is faster than one matrix product for all logits where the tree has at least twice as many logits as
# a path. Measured for 10 to 10,000 classes, 2 to 10,000 children a node, batches of 32 and 256.
COMPILED_RATIO = 2
# The cost of a search down the tree, in rows of a matrix product: reading one row alone costs as much as 32 rows, and
# each level costs 3,072 rows more, whatever the batch. Measured on a CPU: 1,000 to 100,000 classes, 128 features,
# batches of 1 to 256, k of 1 to 20.
ROW_COST = 32
LEVEL_COST = 3072


@final
class HierarchicalSoftmax(Head):
    r"""A decision at every inner node of a tree; a class has the product of the decisions on its path.

    .. math:: p(c \mid x) = \prod_{v \in \mathrm{path}(c)} p(v \mid \mathrm{parent}(v), x), \qquad
        \ell(x, y) = -\log p(y \mid x)

    A node with two children decides by one logit, :math:`\sigma(-z)` for the first and :math:`\sigma(z)` for the
    second; a node with three or more by the softmax of a logit for each; a node with one child takes no decision, so
    the classes always sum to one. All in log space.

    A logit is linear in the features. With `level_layers` the decisions :math:`l` edges below the root see, in place of
    :math:`x`, the output of a hidden layer of that level, :math:`\max(0, U_l x + u_l)`, as wide as :math:`x`.

    Args:
        in_features: size of a feature vector, D.
        tree: the classes' hierarchy, e.g. ``Tree.balanced(num_classes)``.
        bias: whether the decisions have a bias.
        sparse: whether the gradients of `weight` and `bias` are sparse tensors with the rows of the targets' paths
            alone, as in `torch.nn.Embedding`; take `softmaxes.optim.for_model` as the
            optimiser. Clip them with `softmaxes.optim.clip_grad_norm_`.
        level_layers: whether each level of the tree sees the features through a hidden layer of its own.
        device: where the parameters are made.
        dtype: dtype of the parameters.

    Shape:
        - input: :math:`(*, D)`
        - target: :math:`(*)`, integers
        - loss: :math:`(*)`; log_prob: :math:`(*, C)`

    Attributes:
        weight: a row for each logit, (R, D), in the order of the tree's inner nodes; C - 1 rows for a binary tree.
            Drawn as in `torch.nn.Linear`.
        bias: (R,), or none.
        layers: the levels' hidden layers, with ``weight`` (LD, D) and ``bias`` (LD,); or none.

    Cost:
        Parameters RD + R with R < 2C. Loss O(N D L K) for a tree of depth L whose nodes have up to K logits (1 in a
        binary tree): O(ND log C) in a balanced one. With ``sparse`` so is the whole training step, time and memory;
        the gradient has each row of the targets' paths once. On a CPU this is compiled code, beside this file in
        ``compiled.py``, if a compiler was there at installation. Otherwise, and where R < 2 L K, it is plain PyTorch,
        which computes all R logits if R < 64 L K.
        `log_prob` takes O(NCD) time and O(NC) memory. `topk` and `predict` score all classes, too, where there are few
        classes or k is near C. Otherwise, on a CPU, they search down the tree: a beam of width k + 3 goes ahead, then
        an example reads O(D K V) numbers, where V nodes are at least as probable as its k-th class. An example that
        would read more than a 64th of the weights is scored in full, in chunks. Both give the lower of two classes
        that are equally probable.
        With `level_layers` there are LD² + LD parameters more, and each of these methods takes O(N D² L) more; the loss
        is plain PyTorch.

    Example:
        >>> import torch
        >>> from softmaxes import HierarchicalSoftmax, Tree
        >>> head = HierarchicalSoftmax(8, Tree.balanced(10))
        >>> features, target = torch.randn(4, 8), torch.tensor([0, 3, 9, 3])
        >>> head(features, target).shape
        torch.Size([4])
        >>> head.log_prob(features).exp().sum(-1).allclose(torch.ones(4))
        True

    Reference:
        F. Morin, Y. Bengio. Hierarchical probabilistic neural network language model. 2005.
    """

    loss_is_nll: ClassVar[bool] = True

    def __init__(
        self,
        in_features: int,
        tree: Tree,
        bias: bool = True,
        sparse: bool = False,
        level_layers: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        if not isinstance(tree, Tree):
            raise TypeError(f"HierarchicalSoftmax: expected tree to be a Tree, got {type(tree).__name__}.")
        super().__init__(in_features, tree.num_classes)
        self.tree = tree
        self.structure = Structure(partial(_tables, tree), device)
        num_rows = num_rows_of(tree)
        self.width = int(num_rows.max())  # logits of the widest node, K
        self.level_sizes = torch.bincount(tree.node_depth).tolist()
        self.sparse = sparse
        self.weight, self.bias = linear_parameters(int(num_rows.sum()), self.in_features, bias, device, dtype)
        self.level_layers = level_layers
        self.layers = LevelLayers(tree.depth, self.in_features, device, dtype) if level_layers else None
        self.levels = Structure(partial(_levels, tree), device) if level_layers else None
        self.level_rows = torch.bincount(_row_depth(tree), minlength=tree.depth).tolist() if level_layers else []
        self.reset_parameters()

    @property
    def tables(self) -> "Tables":
        """What the tree says, in the form that the sums need, where the weights are."""
        return self.structure.on(self.weight.device)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        self.structure.follow(fn)
        if self.levels is not None:
            self.levels.follow(fn)
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        destination[f"{prefix}parent"] = self.tables.parent  # so that a checkpoint of another tree is refused

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: dict[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        saved = state_dict.pop(f"{prefix}parent", None)  # torch gives a copy of the user's
        lists = missing_keys, unexpected_keys, error_msgs
        super()._load_from_state_dict(state_dict, prefix, local_metadata, strict, *lists)
        if saved is None:
            missing_keys.append(f"{prefix}parent")
        elif (parent := saved_table(saved)) is not None and not torch.equal(parent, _own_parent(self.tree)):
            error_msgs.append("HierarchicalSoftmax: expected a checkpoint of the same tree, got one of another.")

    def _loss(self, input: Tensor, target: Tensor) -> Tensor:
        return -self._target_log_prob(input, target)

    def _target_log_prob(self, input: Tensor, target: Tensor) -> Tensor:
        on_path = self.tree.depth * self.width  # rows at most
        if (
            self.layers is None
            and (self.sparse or COMPILED_RATIO * on_path <= len(self.weight))
            and compiled.usable(input, self.weight, self.bias)
        ):
            most = min(on_path, len(self.weight))
            return compiled.log_prob(
                input,
                target,
                self.weight,
                self.bias,
                self.tables.nodes,
                self.tree.depth,
                most,
                self.sparse,
                self._of_branches,
            )
        if not self.sparse and on_path > 2 * len(self.weight):
            return super()._target_log_prob(input, target)  # deep and wide: paths would be mostly padding
        return self._of_branches(input, target, self.weight, self.bias)

    def _of_branches(self, input: Tensor, target: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The log-probability of each target, in plain PyTorch: (N, D), (N,) -> (N,)."""
        return self._branches(input, target, weight, bias)[1].sum(1)

    def _branches(self, input: Tensor, target: Tensor, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
        """The path from each target up to the root, and how probable each branch is: (N, D), (N,) -> (N, L), (N, L)."""
        tables = self.tables
        path = [target]  # leaf c is class c
        for _ in range(self.tree.depth - 1):
            path.append(tables.parent[path[-1]])
        nodes = torch.stack(path, dim=1)  # (N, L); a shorter path ends in repeats of the root
        owner = tables.parent[nodes]
        offset = torch.arange(self.width, device=input.device)  # (K,)
        own = offset < tables.num_rows[owner].unsqueeze(2)  # (N, L, K)
        rows = tables.first_row[owner].unsqueeze(2) + offset.where(own, 0)
        logits = self._logits_of(input, rows, owner, weight, bias).masked_fill(~own, -torch.inf)
        # The last column is the logit fixed at zero, of nodes with fewer than three children.
        fixed = torch.zeros_like(logits[..., 0]).masked_fill(tables.num_rows[owner] > 1, -torch.inf)
        decisions = torch.log_softmax(torch.cat([logits, fixed.unsqueeze(2)], dim=2), dim=2)
        taken = decisions.gather(2, tables.slot[nodes].unsqueeze(2)).squeeze(2)  # (N, L)
        return nodes, taken.masked_fill(nodes == owner, 0.0)  # only the root is its own parent

    def _logits_of(self, input: Tensor, rows: Tensor, owner: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The logits of chosen rows, whose nodes are given: (N, D), (N, L, K), (N, L) -> (N, L, K)."""
        flat = rows.flatten(1)
        seen = self.seen(input)
        if not self.sparse and GATHER_RATIO * flat.shape[1] > len(weight):
            return self._all_logits(seen, weight, bias).gather(1, flat).view_as(rows)
        if self.levels is None:
            return row_logits(input, flat, weight, bias, self.sparse).view_as(rows)
        depth = self.levels.on(input.device).depth[owner]  # (N, L)
        own = seen.gather(1, depth.unsqueeze(2).expand(-1, -1, self.in_features))  # (N, L, D)
        return row_logits(own.flatten(0, 1), rows.flatten(0, 1), weight, bias, self.sparse).view_as(rows)

    def seen(self, input: Tensor) -> Tensor:
        """What the decisions see: the features, (N, D); with a layer for each level (N, L, D), also of what that is."""
        return input if self.layers is None or input.dim() == 3 else self.layers(input)

    def _all_logits(self, seen: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The logits of all rows: (N, D) or (N, L, D) -> (N, R)."""
        if self.levels is None:
            return linear_logits(seen, weight, bias)
        levels = self.levels.on(seen.device)
        logits = []
        start = 0
        for depth, size in enumerate(self.level_rows):
            some = levels.by_depth[start : start + size]
            logits.append(linear_logits(seen[:, depth], weight[some], None if bias is None else bias[some]))
            start += size
        return torch.cat(logits, 1)[:, levels.place]

    def _below(self, input: Tensor, example: Tensor, node: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The children of nodes, and how probable each branch is; a leaf is its own child.

        Args:
            input: (N, D), or what `seen` gives of it.
            example: a row of the input for each node, (P,).
            node: (P,).

        Returns:
            In the nodes' order: the place of each child's parent among the nodes, the child, and the log-probability of
            the branch to it, never above zero, each (T,).
        """
        tables = self.tables
        count = tables.num_rows[node]
        count = count + (count < 2)
        above = torch.arange(len(node), device=node.device).repeat_interleave(count)  # (T,)
        before = tables.first_child[node] - count.cumsum(0) + count
        child = tables.child[before[above] + torch.arange(len(above), device=node.device)]
        row = tables.row[child]
        own = (row < len(self.weight)).nonzero().squeeze(1)
        rows, whose = row[own].unsqueeze(1), example[above][own]
        seen = self.seen(input)
        depth = None if self.levels is None else self.levels.on(input.device).depth[node][above][own]
        known = [
            row_logits(
                seen.index_select(0, whose[part]) if depth is None else seen[whose[part], depth[part]],
                rows[part],
                self.weight,
                self.bias,
                self.sparse,
            )
            for part in search.parts(len(own), search.MOST_NUMBERS // self.in_features)
        ]
        logits = torch.zeros_like(above, dtype=known[0].dtype).index_copy(0, own, torch.cat(known).squeeze(1))
        return above, child, search.within(logits, above, len(node))

    def _predict(self, input: Tensor) -> Tensor:
        return self._topk(input, 1)[1].squeeze(1) if self._searched(input) else super()._predict(input)

    def _topk(self, input: Tensor, k: int) -> tuple[Tensor, Tensor]:
        return search.topk(self, input, k, self._pays(input, k)) if self._searched(input) else super()._topk(input, k)

    def _searched(self, input: Tensor) -> bool:
        """Whether to look for the best classes, so that no more than these need be ranked.

        It does not depend on how many are looked for: so the first of k classes are the same for every k.
        """
        # On an accelerator it was not measured; a compiled graph would break wherever it asks how far it has come. In
        # half precision rounding would tell classes apart otherwise than where all are scored.
        if torch.compiler.is_compiling() or input.device.type != "cpu" or autocasts("cpu"):
            return False
        full = (torch.float32, torch.float64)
        return input.dtype in full and not transformed(input, self.weight, self.bias) and self._pays(input, 1)

    def _pays(self, input: Tensor, k: int) -> bool:
        """Whether going down the tree is faster than scoring all classes."""
        read = ROW_COST * len(input) * (k + search.SPARE_NODES) * self.width
        return self.tree.depth * (LEVEL_COST + read) <= len(input) * len(self.weight)

    def _log_prob(self, input: Tensor) -> Tensor:
        return self._of_all_logits(self._all_logits(self.seen(input), self.weight, self.bias))

    def _of_all_logits(self, logits: Tensor) -> Tensor:
        """Log-probabilities of all classes: (N, R) -> (N, C)."""
        tables = self.tables
        # Nodes come first here, (R, N) and (M, N): what is gathered and added up are then whole rows of memory.
        logits = logits.t().contiguous()
        fixed = (tables.num_rows < 2).unsqueeze(1)  # (M, 1) the nodes with a logit fixed at zero
        zero = logits.new_zeros(self.tree.num_nodes, logits.shape[1])
        owner = tables.row_owner.unsqueeze(1).expand_as(logits)
        highest = zero.masked_fill(~fixed, -torch.inf).scatter_reduce(0, owner, logits.detach(), "amax")
        total = (-highest).exp().masked_fill(~fixed, 0.0)
        total = total.index_add(0, tables.row_owner, (logits - highest[tables.row_owner]).exp())
        log_total = highest + total.log()  # (M, N) over the logits of every inner node
        # Then from the root down: a node has its parent's log-probability and its own decision.
        logits = torch.cat([logits, zero[:1]])
        decision = logits[tables.row[tables.level_order]] - log_total[tables.parent[tables.level_order]]  # (M, N)
        above = tables.place[tables.parent[tables.level_order]]
        levels = [zero[: self.level_sizes[0]]]
        start = end = 0
        for size in self.level_sizes[1:]:
            before, start = start, start + len(levels[-1])
            end = start + size
            levels.append(levels[-1][above[start:end] - before] + decision[start:end])
        return torch.cat(levels)[tables.place[: self.num_classes]].t()


class LevelLayers(nn.Module):
    r"""A hidden layer for each level of a tree: :math:`\max(0, U_l x + u_l)`, (N, D) -> (N, L, D).

    Args:
        levels: L.
        features: D.
        device: where the parameters are made.
        dtype: dtype of the parameters.
    """

    def __init__(
        self, levels: int, features: int, device: torch.device | str | None, dtype: torch.dtype | None
    ) -> None:
        super().__init__()
        self.levels, self.in_features = levels, features
        self.weight, self.bias = linear_parameters(levels * features, features, True, device, dtype)

    def forward(self, input: Tensor) -> Tensor:
        """What each level sees of the features."""
        seen = F.linear(input, self.weight, self.bias).relu()
        return seen.view(*seen.shape[:-1], self.levels, self.in_features)


class Levels(NamedTuple):
    """Where in a tree the rows of the weights belong."""

    depth: Tensor  # (M,) edges from the root to a node
    by_depth: Tensor  # (R,) the rows, those nearest the root first
    place: Tensor  # (R,) of a row in `by_depth`


@on_cpu
def _levels(tree: Tree) -> Levels:
    """Where the rows belong; a row is of the node that decides."""
    by_depth = _row_depth(tree).argsort(stable=True)
    return Levels(depth=tree.node_depth.clone(), by_depth=by_depth, place=by_depth.argsort())


def _row_depth(tree: Tree) -> Tensor:
    """The edges from the root to the node of each row, (R,)."""
    return tree.node_depth.repeat_interleave(num_rows_of(tree))


def _own_parent(tree: Tree) -> Tensor:
    """The parent of every node, (M,); the root is its own."""
    return tree.parent.where(tree.parent >= 0, tree.root)


def slots(tree: Tree, nodes: Tensor) -> Tensor:
    """Which row of its parent's decision each of some nodes has; -1 of the root, and of a logit fixed at zero."""
    parent, place = tree.parent[nodes], tree.child_index[nodes]
    siblings = tree.num_children[parent]
    # Of two children the first has the fixed logit and the second the row; an only child has the fixed one.
    slot = torch.where(siblings > 2, place, torch.where((siblings == 2) & (place == 1), 0, -1))
    return slot.where(parent >= 0, -1)


def num_rows_of(tree: Tree) -> Tensor:
    """The rows of each node's decision, (M,): 0, 1, or as many as it has children."""
    children = tree.num_children
    return torch.where(children > 2, children, (children - 1).clamp(min=0))


class Tables(NamedTuple):
    """What a tree says, in the form that the sums need."""

    parent: Tensor  # (M,) of every node; the root is its own
    nodes: Tensor  # (M, 4) parent, first_row, num_rows and slot: one line of memory for each node
    row: Tensor  # (M,) the row of that logit; R of the fixed one
    row_owner: Tensor  # (R,) the inner node of a row
    level_order: Tensor  # (M,) all nodes, from the root down
    place: Tensor  # (M,) of a node in `level_order`
    child: Tensor  # (M - 1 + C,) the children of every node, in the nodes' order; a leaf is its own
    first_child: Tensor  # (M,) where a node's begin in `child`

    @property
    def first_row(self) -> Tensor:
        """Where the rows of an inner node begin in the weights, (M,); if it has none, another's on every path."""
        return self.nodes[:, 1]

    @property
    def num_rows(self) -> Tensor:
        """The rows of a node, (M,): 0, 1, or as many as it has children."""
        return self.nodes[:, 2]

    @property
    def slot(self) -> Tensor:
        """Which of its parent's logits a node has, (M,); the width of the widest node is the fixed logit, zero."""
        return self.nodes[:, 3]


@on_cpu
def _tables(tree: Tree, cut: bool = False) -> Tables:
    """The tables of a tree, or of the trees below the root, each of which begins with a decision."""
    nodes = torch.arange(tree.num_nodes)
    parent, num_rows, depth = _own_parent(tree), num_rows_of(tree), tree.node_depth
    if cut:
        parent, num_rows = parent.where(depth > 1, nodes), num_rows.where(depth > 0, 0)
        depth = (depth - 1).clamp(min=0)
    width = int(num_rows.max())
    slot = slots(tree, nodes)
    slot = slot.where((slot >= 0) & (parent != nodes), width)
    first_row = num_rows.cumsum(0) - num_rows
    row = (first_row[parent] + slot).where(slot < width, int(num_rows.sum()))
    # The first decision from the root down is on every path: its row stands in where a node has none.
    first = depth.where(num_rows > 0, tree.num_nodes).argmin().expand_as(nodes)
    if cut:
        first = parent
        for _ in range(int(depth.max()).bit_length()):
            first = first[first]
    level_order = depth.argsort(stable=True)
    place = torch.empty_like(level_order)
    place[level_order] = nodes
    return Tables(
        parent=parent,
        nodes=torch.stack([parent, first_row.where(num_rows > 0, first_row[first]), num_rows, slot], dim=1),
        row=row,
        row_owner=nodes.repeat_interleave(num_rows),
        level_order=level_order,
        place=place,
        child=torch.cat([nodes[: tree.num_classes], tree.children]),
        first_child=nodes.where(tree.num_children == 0, tree.first_child + tree.num_classes),
    )
