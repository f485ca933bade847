"""Classes that change: a trained head with some classes more, or some fewer, and what it has learned of the others."""

import copy
from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn

from softmaxes import checks
from softmaxes.head import Head
from softmaxes.heads.hierarchical.head import HierarchicalSoftmax
from softmaxes.heads.neighbor_sampled import NeighborSampledSoftmax
from softmaxes.heads.tree_sampled import TreeSampledSoftmax
from softmaxes.on_cpu import on_cpu
from softmaxes.sampler import Sampler
from softmaxes.trees.tree import Tree

AnyHead = TypeVar("AnyHead", bound=Head)
Classes = Tensor | Sequence[int]


@torch.no_grad()
def add_classes(
    head: AnyHead,
    number: int,
    *,
    below: int | Classes | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    sampler: Sampler | None = None,
) -> AnyHead:
    r"""A head with more classes. The old ones keep their numbers, 0 to C - 1, and what was learned of them.

    The new classes are C to C + n - 1. In a flat softmax the odds of any two old classes stay as they are. In a tree
    new leaves hang below inner nodes: there the odds of the children that were there stay, and elsewhere every
    decision.

    Args:
        head: the head; it stays as it is.
        number: how many classes are added, n.
        below: of a head over a tree, the inner node below which the new classes are, or one for each, (n,):
            ``int(head.tree.parent[c])`` is that of class c.
        weight: rows of the new classes, (n, D). If not given each has the mean of the old rows; in a tree of those
            below the same node.
        bias: biases of the new classes, (n,); their mean if not given.
        sampler: of a head that draws classes, the sampler over all C + n. If not given a new class is drawn as often as
            the mean of the old ones.

    Returns:
        A new head with parameters of its own: give them to a new optimiser.

    Raises:
        TypeError: the head's classes cannot be changed (adaptive softmax, forests), or an argument is not of its type.
        ValueError: an argument has another size than expected, or does not belong to such a head.

    Cost:
        O((C + n) D) time and memory.

    Example:
        >>> import torch
        >>> from softmaxes import HierarchicalSoftmax, Softmax, Tree
        >>> from softmaxes.resize import add_classes
        >>> head = Softmax(8, 10)
        >>> larger, x = add_classes(head, 2), torch.randn(4, 8)
        >>> odds, before = larger.log_prob(x)[:, 1] - larger.log_prob(x)[:, 0], head.log_prob(x)
        >>> larger.num_classes, torch.allclose(odds, before[:, 1] - before[:, 0], atol=1e-5)
        (12, True)
        >>> tree = HierarchicalSoftmax(8, Tree.from_paths(["animal/cat", "animal/dog", "car"]))
        >>> add_classes(tree, 1, below=int(tree.tree.parent[0])).tree.names
        ('cat', 'dog', 'car', '', '', 'animal')
    """
    who = f"add_classes: {type(head).__name__}"
    number = checks.integer("add_classes", "number", number, 1)
    _check_able(who, head)
    for name, given, shape in (("weight", weight, (number, head.in_features)), ("bias", bias, (number,))):
        if given is not None and (not isinstance(given, Tensor) or given.shape != shape):
            got = tuple(given.shape) if isinstance(given, Tensor) else type(given).__name__
            raise ValueError(f"{who}: expected {name} of shape {shape}, got {got}.")
    if bias is not None and getattr(head, "bias", None) is None:
        raise ValueError(f"{who}: expected no bias, for the head has none.")
    own = getattr(head, "sampler", None)
    if sampler is not None and not (isinstance(own, Sampler) and isinstance(sampler, Sampler)):
        raise ValueError(f"{who}: expected a Sampler, of a head that has one, got {type(sampler).__name__}.")
    total = head.num_classes + number
    if sampler is not None and sampler.num_classes != total:
        raise ValueError(f"{who}: expected a sampler of {total} classes, got {sampler.num_classes}.")
    tree = _tree_of(head)
    if (below is None) is not (tree is None):
        wanted = "an inner node of the tree" if tree is not None else "none where there is no tree"
        raise ValueError(f"{who}: expected below as {wanted}, got {below}.")
    above = None if tree is None or below is None else _nodes(who, tree, below, number)
    if isinstance(head, HierarchicalSoftmax) and above is not None:
        return _over(head, *_grown(head.tree, above), weight, bias)  # type: ignore[return-value]
    if isinstance(own, Sampler) and sampler is None:
        sampler = Sampler(torch.cat([own.probability, own.probability.mean().expand(number)]))
    added = {"weight": weight, "bias": bias}
    rows = {}
    for name in head.class_rows:
        if (old := getattr(head, name)) is not None:
            new = added.get(name)
            mean = old.float().mean(0, keepdim=True).to(old.dtype).expand(number, *old.shape[1:])
            rows[name] = torch.cat([old, mean if new is None else new.to(old)])
    larger = _changed(head, total, rows, sampler)
    if isinstance(larger, TreeSampledSoftmax) and isinstance(head, TreeSampledSoftmax) and above is not None:
        larger.proposal = _over(head.proposal, *_grown(head.proposal.tree, above), None, None)
    return larger


@torch.no_grad()
def remove_classes(head: AnyHead, classes: Classes | int) -> AnyHead:
    r"""A head without some classes. The others stay in their order, numbered anew from 0, with all that was learned.

    In a flat softmax the odds of any two of them stay as they are. In a tree the odds of the children that stay below a
    node do; a node without classes goes, and one with a single child left takes no decision.

    Args:
        head: the head; it stays as it is.
        classes: those that go, each once, or a single one; two at least must stay.

    Returns:
        A new head with parameters of its own: give them to a new optimiser.

    Raises:
        TypeError: the head's classes cannot be changed (adaptive softmax, forests), or classes are not whole numbers.
        ValueError: a class is not in the head, is named twice, or fewer than two stay.

    Cost:
        O(CD) time and memory.

    Example:
        >>> from softmaxes import HierarchicalSoftmax, Tree
        >>> from softmaxes.resize import remove_classes
        >>> head = HierarchicalSoftmax(8, Tree.from_paths(["animal/cat", "animal/dog", "car", "bike"]))
        >>> remove_classes(head, [1, 3]).tree.names
        ('cat', 'car', '', 'animal')
    """
    who = f"remove_classes: {type(head).__name__}"
    _check_able(who, head)
    gone = _whole_numbers(who, "classes", classes).flatten()
    if len(gone) and not 0 <= int(gone.min()) <= int(gone.max()) < head.num_classes:
        wrong = int(gone.min()) if int(gone.min()) < 0 else int(gone.max())
        raise ValueError(f"{who}: expected classes in 0..{head.num_classes - 1}, got {wrong}.")
    stays = torch.ones(head.num_classes, dtype=torch.bool)
    stays[gone] = False
    if int(stays.sum()) != head.num_classes - len(gone):
        raise ValueError(f"{who}: expected each class once, got one twice.")
    if int(stays.sum()) < 2:
        raise ValueError(f"{who}: expected at least 2 classes to stay, got {int(stays.sum())}.")
    kept = stays.nonzero().squeeze(1)
    if isinstance(head, HierarchicalSoftmax):
        return _over(head, *_pruned(head.tree, kept), None, None)  # type: ignore[return-value]
    rows = {name: old[kept.to(old.device)] for name in head.class_rows if (old := getattr(head, name)) is not None}
    sampler = getattr(head, "sampler", None)
    fewer = Sampler(sampler.probability[kept]) if isinstance(sampler, Sampler) else None
    smaller = _changed(head, len(kept), rows, fewer)
    if isinstance(smaller, TreeSampledSoftmax) and isinstance(head, TreeSampledSoftmax):
        smaller.proposal = _over(head.proposal, *_pruned(head.proposal.tree, kept), None, None)
    return smaller


def _check_able(who: str, head: object) -> None:
    if not isinstance(head, Head):
        raise TypeError(f"{who}: expected a Head.")
    if not head.class_rows and not isinstance(head, HierarchicalSoftmax):
        raise TypeError(
            f"{who}: expected a head with a row of weights for each class, or over one tree; it is neither."
        )


def _tree_of(head: Head) -> Tree | None:
    return head.tree if isinstance(head, (HierarchicalSoftmax, TreeSampledSoftmax)) else None


@on_cpu
def _whole_numbers(who: str, name: str, values: object) -> Tensor:
    try:
        numbers = torch.as_tensor(values).cpu()
    except (TypeError, ValueError, RuntimeError):
        raise TypeError(f"{who}: expected {name} as whole numbers, got {type(values).__name__}.") from None
    if numbers.numel() == 0:
        numbers = numbers.long()
    if numbers.is_floating_point() or numbers.is_complex() or numbers.dtype == torch.bool or numbers.dim() > 1:
        raise TypeError(f"{who}: expected {name} as whole numbers, got {numbers.dtype} {tuple(numbers.shape)}.")
    return numbers.long()


def _nodes(who: str, tree: Tree, below: object, number: int) -> Tensor:
    """The inner node above each new class, (n,)."""
    nodes = _whole_numbers(who, "below", below)
    nodes = nodes.expand(number) if nodes.dim() == 0 else nodes
    if nodes.shape != (number,):
        raise ValueError(f"{who}: expected a node, or one for each of {number} classes, got {len(nodes)}.")
    for node in nodes.tolist():
        if not tree.num_classes <= node < tree.num_nodes:
            raise ValueError(
                f"{who}: expected below as inner nodes, {tree.num_classes}..{tree.num_nodes - 1}, got {node}."
            )
    return nodes


def _changed(head: AnyHead, classes: int, rows: dict[str, Tensor], sampler: Sampler | None) -> AnyHead:
    """A copy of a head with other rows: what is replaced is never copied."""
    instead: dict[int, object] = {}
    for name, row in rows.items():
        old = getattr(head, name)
        instead[id(old)] = nn.Parameter(row, old.requires_grad)
    if sampler is not None:
        own = head.sampler
        instead[id(own)] = sampler.to(next(iter(rows.values())).device)
    if isinstance(head, TreeSampledSoftmax):
        instead[id(head.proposal)] = head.proposal  # until it is replaced by its caller
    changed = copy.deepcopy(head, instead)
    changed.num_classes = classes
    if isinstance(changed, NeighborSampledSoftmax):
        changed.forget()
    return changed


# Trees


def _grown(tree: Tree, above: Tensor) -> tuple[Tree, Tensor]:
    """The tree with a leaf more below each of some nodes; and of each node of it the old one, -1 of a new leaf."""
    number, classes = len(above), tree.num_classes
    moved = torch.where(tree.parent >= classes, tree.parent + number, tree.parent)
    parent = torch.cat([moved[:classes], above + number, moved[classes:]])
    before = torch.arange(tree.num_nodes)
    before = torch.cat([before[:classes], before.new_full((number,), -1), before[classes:]])
    return Tree(parent, _names(tree, before)), before


def _pruned(tree: Tree, kept: Tensor) -> tuple[Tree, Tensor]:
    """The tree with some of its leaves, (C',); and of each node of it the old one."""
    leaves = torch.zeros(tree.num_nodes)
    leaves[kept] = 1
    before = tree.subtree_sum(leaves).nonzero().squeeze(1)  # of leaves first, then of inner nodes, in their order
    after = torch.full((tree.num_nodes,), -1)
    after[before] = torch.arange(len(before))
    above = tree.parent[before]
    return Tree(torch.where(above >= 0, after[above.clamp(min=0)], -1), _names(tree, before)), before


def _names(tree: Tree, before: Tensor) -> list[str] | None:
    if tree.names is None:
        return None
    return ["" if node < 0 else tree.names[node] for node in before.tolist()]


def _over(
    head: HierarchicalSoftmax, tree: Tree, before: Tensor, weight: Tensor | None, bias: Tensor | None
) -> HierarchicalSoftmax:
    """A head over a tree that differs in some leaves.

    Every node but the root has a logit among its siblings; of two siblings the first one's is fixed at zero. A softmax
    stays the same when all its logits are shifted: so a node with three children or more takes its children's logits as
    they were, and one with two the second's less the first's.
    """
    device, dtype = head.weight.device, head.weight.dtype
    with torch.random.fork_rng(devices=[]):  # its first weights are drawn, and overwritten
        new = HierarchicalSoftmax(
            head.in_features, tree, head.bias is not None, head.sparse, head.level_layers, device, dtype
        )
    old_row = torch.where(before >= 0, head.tables.row.cpu()[before], -1).to(device)  # of each node's logit
    pair = tree.num_children[tree.parent.clamp(min=0)] == 2
    own = ((new.tables.row.cpu() < len(new.weight)) & (tree.parent >= 0)).nonzero().squeeze(1)  # nodes with a row
    first = tree.children[tree.first_child[tree.parent[own]]].to(device)
    is_pair = pair[own].to(device)
    rows = new.tables.row[own.to(device)]
    fresh = (before < 0).nonzero().squeeze(1).to(device)
    for name, given in (("weight", weight), ("bias", bias)):
        old = getattr(head, name)
        if old is None:
            continue
        known = torch.cat([old, old.new_zeros(1, *old.shape[1:])])  # the last is the fixed logit's
        logit = known[old_row]
        if given is not None:
            logit[fresh] = given.to(old)
        elif len(fresh):
            logit[fresh] = _mean_of_siblings(tree, fresh, before.to(device), logit)
        mine = logit[own.to(device)]
        shape = (-1, *[1] * (old.dim() - 1))
        getattr(new, name).index_copy_(0, rows, mine - is_pair.view(shape).to(mine) * logit[first])
        getattr(new, name).requires_grad_(old.requires_grad)
    if new.layers is not None and head.layers is not None:
        for name, own_layers in new.layers.named_parameters():
            old = head.layers.get_parameter(name)
            own_layers.copy_(old[: len(own_layers)])  # a tree can only become less deep
            own_layers.requires_grad_(old.requires_grad)
    return new.train(head.training)


def _mean_of_siblings(tree: Tree, fresh: Tensor, before: Tensor, logit: Tensor) -> Tensor:
    """For each new leaf the mean logit of the nodes below its parent that are not new."""
    parent = tree.parent.to(fresh.device)
    known = ((before >= 0) & (parent >= 0)).nonzero().squeeze(1)
    count = torch.bincount(parent[known], minlength=tree.num_nodes).clamp(min=1)
    total = logit.new_zeros(tree.num_nodes, *logit.shape[1:], dtype=torch.float32)
    total.index_add_(0, parent[known], logit[known].float())
    above = parent[fresh]
    return (total[above] / count[above].view(-1, *[1] * (logit.dim() - 1))).to(logit.dtype)
