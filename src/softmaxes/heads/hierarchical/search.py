"""Asking a `HierarchicalSoftmax` for classes by going down its tree, without scoring all of them."""

import math
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from softmaxes.layers import highest, mapped, widen

if TYPE_CHECKING:
    from softmaxes.heads.hierarchical.head import HierarchicalSoftmax

# An exact search begins with a beam of k + 3 nodes, which gives its bound. Measured at 100,000 classes on trained and
# untrained heads: with k + 0 a bad bound costs up to twenty times as much, with k + 15 the beam itself costs most.
SPARE_NODES = 3
# Rounding errors, for each level, by which a log-probability that is a sum over a path may be off.
ROUNDING_ERRORS = 4
# A search may read a 64th of the weights' rows; an example that needs more is scored in full. Measured on a CPU: if all
# examples need more, the search takes 1.4 times as long as scoring them in full at once.
ROWS_PER_READ = 64
# Classes are drawn from the log-probabilities of all classes where the tree has at most 1,000 rows. A larger tree is
# gone down for each draw.
MOST_SCORED_ROWS = 1000
# The most numbers that a step of a search holds: weights that were read, nodes that wait, log-probabilities.
MOST_NUMBERS = 2**23


class Nodes(NamedTuple):
    """Nodes met on the way down, each for one example."""

    example: Tensor  # (P,) a row of the input
    node: Tensor  # (P,)
    value: Tensor  # (P,) the node's log-probability

    def take(self, which: Tensor) -> "Nodes":
        """Some of them: places, or a mask."""
        which = which.nonzero().squeeze(1) if which.dtype == torch.bool else which
        return Nodes(self.example[which], self.node[which], self.value[which])


def topk(head: "HierarchicalSoftmax", input: Tensor, k: int, down: bool) -> tuple[Tensor, Tensor]:
    """The k most probable classes, exact, most probable first; of equally probable ones the lower first.

    They are ranked by what `target_log_prob` says of them, whichever way they were found and whatever k is. On the way
    rounding may exchange classes that are nearly equal, so some more than k are found and ranked.

    Args:
        head: the head.
        input: (N, D).
        k: 1 to C.
        down: whether to go down the tree, or to score all classes.

    Returns:
        Their log-probabilities, (N, k), and the classes, (N, k).
    """
    some = min(k + SPARE_NODES, head.num_classes)
    input = head.seen(input)
    with torch.no_grad():
        if down:
            limit = max(1, len(head.weight) // ROWS_PER_READ)
            found = [_exact(head, input[part], k, some, limit) for part in parts(len(input), MOST_NUMBERS // limit)]
        else:
            rows = MOST_NUMBERS // head.tree.num_nodes
            found = [highest(head._log_prob(input[part]), some)[1] for part in parts(len(input), rows)]
    values, classes = _valued(head, input, torch.cat(found))
    return values[:, :k], classes[:, :k]


def beam(head: "HierarchicalSoftmax", input: Tensor, k: int, width: int) -> tuple[Tensor, Tensor]:
    """The k most probable classes that a beam meets: of all nodes met at a depth the most probable alone go on.

    Approximate: a class is missed if a node above it is not among the `width` most probable of its depth. `head.topk`
    is exact, and so is a beam as wide as there are classes.

    Args:
        head: the head.
        input: features, (*, D).
        k: how many classes, 1 to C.
        width: how many nodes go on, at least k.

    Returns:
        Their log-probabilities, (*, k), most probable first, and the classes, (*, k), int64.

    Raises:
        TypeError: the dtype is not the one expected, or k or width is not an int.
        ValueError: the shape or device is not one expected, or k or width is out of range.

    Example:
        >>> import torch
        >>> from softmaxes import HierarchicalSoftmax, Tree
        >>> from softmaxes.heads.hierarchical import search
        >>> head = HierarchicalSoftmax(8, Tree.balanced(1000))
        >>> values, classes = search.beam(head, torch.randn(4, 8), k=5, width=20)
        >>> classes.shape
        torch.Size([4, 5])
    """
    head._check_input(input)
    k = head._check_k(k)
    width = head._at_least("width", width, k)
    flat = head.seen(input.reshape(-1, head.in_features))
    with torch.no_grad():
        found, _ = _beam(head, flat, width)
        classes = _best(found, len(flat), k).node.view(-1, k)
    values, classes = _valued(head, flat, classes)
    return values.view(*input.shape[:-1], k), classes.view(*input.shape[:-1], k)


def sample(
    head: "HierarchicalSoftmax", input: Tensor, num_samples: int, other_than: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Classes drawn from the head's distribution, with replacement, without a gradient.

    In a tree with more than a thousand rows a draw goes down from the root, a child at a time: O(D L K) for a tree of
    depth L whose nodes have up to K children. Draws of an example that are at the same node share its logits.

    Args:
        head: the head.
        input: features, (*, D).
        num_samples: how many classes, at least 1.
        other_than: a class for each example, (*), integers, that it does not draw; none by default.

    Returns:
        Their log-probabilities among the classes that can be drawn, (*, num_samples), and the classes,
        (*, num_samples), int64, in the order of drawing. Where a feature is NaN the log-probabilities are NaN.

    Raises:
        TypeError: a dtype is not the one expected, or num_samples is not an int.
        ValueError: a shape, a device or (on the CPU) a class is not one expected, or num_samples is below 1.

    Example:
        >>> import torch
        >>> from softmaxes import HierarchicalSoftmax, Tree
        >>> from softmaxes.heads.hierarchical import search
        >>> head = HierarchicalSoftmax(8, Tree.balanced(1000))
        >>> target = torch.tensor([0, 3, 999, 3])
        >>> values, classes = search.sample(head, torch.randn(4, 8), num_samples=20, other_than=target)
        >>> classes.shape
        torch.Size([4, 20])
        >>> bool((classes == target.unsqueeze(1)).any())
        False
    """
    head._check_input(input)
    num_samples = head._at_least("num_samples", num_samples, 1)
    if other_than is not None:
        other_than = head._check_target(input, other_than).reshape(-1)
    with torch.no_grad():
        values, classes, _ = drawn(head, input.reshape(-1, head.in_features), num_samples, other_than)
    shape = (*input.shape[:-1], num_samples)
    return values.view(shape), classes.view(shape)


def drawn(
    head: "HierarchicalSoftmax", input: Tensor, num_samples: int, other_than: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """What `sample` gives, and the log of the probability of all that can be drawn: (N, D) -> (N, K), (N, K), (N,)."""
    input = head.seen(input)
    # Going down asks how far it has come, which the meta device and `torch.func.vmap` cannot say.
    if len(head.weight) <= MOST_SCORED_ROWS or head.weight.device.type == "meta" or mapped(input):
        return _drawn_of_all(head, input, num_samples, other_than)
    return _drawn_down(head, input, num_samples, other_than)


def _drawn_of_all(
    head: "HierarchicalSoftmax", input: Tensor, num_samples: int, other_than: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Draws by the log-probabilities of all classes."""
    log_prob = head._log_prob(input)
    left = log_prob.new_zeros(len(input))
    if other_than is not None:
        log_prob = log_prob.scatter(1, other_than.unsqueeze(1), -torch.inf)
        left, log_prob = log_prob.logsumexp(1), log_prob.log_softmax(1)
    chance = log_prob.double().exp().nan_to_num(nan=1.0).cumsum(1)
    classes = _first_above(chance, _uniform(len(input), num_samples, input) * chance[:, -1:])
    return log_prob.gather(1, classes), classes, left


def _drawn_down(
    head: "HierarchicalSoftmax", input: Tensor, num_samples: int, other_than: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Draws from the root down."""
    example = torch.arange(len(input), device=input.device).repeat_interleave(num_samples)
    node = torch.full_like(example, head.tree.root)
    value = widen(input.new_zeros(len(example)))
    left = widen(input.new_zeros(len(input)))
    if other_than is not None:
        path, left_of, left = _without(head, input, other_than)
    while bool((node >= head.num_classes).any()):
        # Draws of an example that are at the same node are expanded once: `which` has the place of each among those.
        together, which = (example * head.tree.num_nodes + node).unique(return_inverse=True)  # type: ignore[no-untyped-call]
        whose, at = together // head.tree.num_nodes, together % head.tree.num_nodes
        above, child, branch = head._below(input, whose, at)
        if other_than is not None:
            on_path = path[whose[above]] == child.unsqueeze(1)  # (T, L)
            branch = within(branch + left_of[whose[above]].where(on_path, 0.0).sum(1), above, len(at))
        # The children of the first node share the interval from 0 to 1, those of the second that from 1 to 2.
        chance = branch.double().exp().nan_to_num(nan=1.0).cumsum(0)
        last = torch.bincount(above).cumsum(0) - 1
        end = chance[last]
        start = torch.cat([end.new_zeros(1), end[:-1]])
        chance = above + (chance - start[above]) / (end - start)[above]
        taken = _first_above(chance, which + _uniform(1, len(which), input).squeeze(0))
        node, value = child[taken], value + branch[taken]
    return value.view(-1, num_samples), node.view(-1, num_samples), left


def _without(head: "HierarchicalSoftmax", input: Tensor, classes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What is left of each node above a class without it: (N, D), (N,) -> (N, L), (N, L), (N,).

    The nodes from the class up to the root's child, the log of what is left of each, and that of the root.
    """
    path = [classes]
    for _ in range(head.tree.depth - 1):
        path.append(head.tables.parent[path[-1]])
    nodes = torch.stack(path, dim=1)  # a shorter path ends in repeats of the root
    example = torch.arange(len(input), device=input.device).repeat_interleave(nodes.shape[1])
    above, child, branch = head._below(input, example, head.tables.parent[nodes].flatten())
    own = child == nodes.flatten()[above]
    siblings = _log_sum(branch.masked_fill(own, -torch.inf), above, nodes.numel()).view_as(nodes)
    taken = siblings.new_zeros(nodes.numel()).index_copy(0, above[own], branch[own]).view_as(nodes)
    left = [torch.full_like(siblings[:, 0], -torch.inf)]
    for level in range(head.tree.depth):
        at_root = nodes[:, level] == head.tree.root  # beyond a shorter path
        left.append(torch.logaddexp(siblings[:, level], taken[:, level] + left[-1]).where(~at_root, left[-1]))
    return nodes, torch.stack(left[:-1], dim=1), left[-1]


def within(value: Tensor, above: Tensor, number: int) -> Tensor:
    """The log-softmax within each of `number` runs, never above zero: values (T,), the run of each (T,) -> (T,)."""
    highest = value.new_full((number,), -torch.inf).scatter_reduce(0, above, value.detach(), "amax")
    value = value - highest[above]
    total = torch.zeros_like(highest).index_add(0, above, value.exp())
    return value - total.log()[above]


def _log_sum(value: Tensor, above: Tensor, number: int) -> Tensor:
    """The log-sum-exp over each of `number` runs: values (T,), the run of each (T,) -> (P,).

    A run may be of -inf alone.
    """
    highest = value.new_full((number,), -torch.inf).scatter_reduce(0, above, value, "amax")
    shift = highest.masked_fill(highest == -torch.inf, 0.0)
    return torch.zeros_like(highest).index_add(0, above, (value - shift[above]).exp()).log() + shift


def _uniform(rows: int, columns: int, like: Tensor) -> Tensor:
    """Draws from 0 to below 1, float64, with so few digits that a whole number can be added exactly."""
    return torch.rand(rows, columns, device=like.device, dtype=torch.float32).double()


def _first_above(increasing: Tensor, points: Tensor) -> Tensor:
    """Where in a row the first number above a point is: chances of zero are passed over."""
    return torch.searchsorted(increasing, points, right=True).clamp(max=increasing.shape[-1] - 1)


def greedy(head: "HierarchicalSoftmax", input: Tensor) -> tuple[Tensor, Tensor]:
    """The class that is reached by the most probable child of every node; not always the most probable class.

    Args:
        head: the head.
        input: features, (*, D).

    Returns:
        Its log-probability, (*), and the class, (*), int64.

    Raises:
        TypeError: the dtype is not the one expected.
        ValueError: the shape or device is not one expected.

    Example:
        Class 0 has 40 %; beside it three classes share 60 %.

        >>> import torch
        >>> from softmaxes import HierarchicalSoftmax, Tree
        >>> from softmaxes.heads.hierarchical import search
        >>> head = HierarchicalSoftmax(1, Tree([4, 5, 5, 5, -1, 4]))
        >>> weight = torch.tensor([[0.4], [0.0], [0.0], [0.0]])
        >>> _ = head.load_state_dict({"weight": weight, "bias": torch.zeros(4)}, strict=False)
        >>> search.greedy(head, torch.ones(1))[1], head.predict(torch.ones(1))
        (tensor(1), tensor(0))
    """
    return descend(head, input)


def descend(
    head: "HierarchicalSoftmax", input: Tensor, probability: float = 0.0, max_depth: int | None = None
) -> tuple[Tensor, Tensor]:
    """The node where the most probable children lead, as long as they are probable enough: "a mammal, 93 %".

    From the root down, to the most probable child each time, until it would be less probable than `probability` or
    deeper than `max_depth`. For a probability above 0.5 no other node that is as deep or deeper is so probable.

    Args:
        head: the head.
        input: features, (*, D).
        probability: what the node must have at least, 0 to 1. The root has 1.
        max_depth: how many edges from the root at most; none for no bound.

    Returns:
        The log-probability of the node, (*), and the node, (*), int64: below C it is a class, otherwise an inner node
        of `head.tree`.

    Raises:
        TypeError: the dtype is not the one expected, or probability or max_depth is not a number, or not an int.
        ValueError: the shape or device is not one expected, or probability or max_depth is out of range.

    Example:
        >>> import torch
        >>> from softmaxes import HierarchicalSoftmax, Tree
        >>> from softmaxes.heads.hierarchical import search
        >>> head = HierarchicalSoftmax(8, Tree.balanced(1000))
        >>> values, nodes = search.descend(head, torch.randn(4, 8), probability=0.9)
        >>> bool((values.exp() >= 0.9).all())
        True
    """
    head._check_input(input)
    head._number("probability", probability, "in 0..1", lambda p: 0 <= p <= 1)
    depth = head.tree.depth if max_depth is None else head._at_least("max_depth", max_depth, 0)
    floor = math.log(probability) if probability > 0 else -math.inf
    flat = head.seen(input.reshape(-1, head.in_features))
    at = _root(head, flat)
    for _ in range(min(depth, head.tree.depth)):
        children = _expand(head, flat, at)
        below = children.take(_widest(head, children, len(flat), 1))
        goes = ~(below.value < floor)
        after = below.node.where(goes, at.node)
        if torch.equal(after, at.node):
            break
        at = Nodes(at.example, after, below.value.where(goes, at.value))
    return at.value.view(input.shape[:-1]), at.node.view(input.shape[:-1])


def decisions(head: "HierarchicalSoftmax", input: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """The path from the root to given classes, and how probable each branch on it is.

    Args:
        head: the head.
        input: features, (*, D).
        target: classes, (*), integers.

    Returns:
        The log-probability of each node below its parent, (*, L) for a tree of depth L, and the nodes, (*, L), int64,
        from the root's child down to the class. After a shorter path come zeros and nodes of -1, so that the sum of the
        log-probabilities is `head.target_log_prob`.

    Raises:
        TypeError: a dtype is not the one expected.
        ValueError: a shape, a device or (on the CPU) a class is not one expected.

    Example:
        >>> import torch
        >>> from softmaxes import HierarchicalSoftmax, Tree
        >>> from softmaxes.heads.hierarchical import search
        >>> head = HierarchicalSoftmax(8, Tree([4, 3, 3, 4, -1]))
        >>> search.decisions(head, torch.randn(2, 8), torch.tensor([0, 2]))[1]
        tensor([[ 0, -1],
                [ 3,  2]])
    """
    head._check_input(input)
    target = head._check_target(input, target)
    nodes, values = head._branches(input.reshape(-1, head.in_features), target.reshape(-1), head.weight, head.bias)
    # They come from the class up, and end in repeats of the root.
    length = (nodes != head.tree.root).sum(1, keepdim=True)
    place = length - 1 - torch.arange(nodes.shape[1], device=nodes.device)
    beyond = place < 0
    values = values.gather(1, place.clamp(min=0)).masked_fill(beyond, 0.0)
    nodes = nodes.gather(1, place.clamp(min=0)).masked_fill(beyond, -1)
    shape = (*target.shape, nodes.shape[1])
    return values.view(shape), nodes.view(shape)


def _join(*nodes: Nodes) -> Nodes:
    """These and those."""
    return Nodes(*(torch.cat(parts) for parts in zip(*nodes, strict=True)))


def _root(head: "HierarchicalSoftmax", input: Tensor) -> Nodes:
    """The root, for every example."""
    example = torch.arange(len(input), device=input.device)
    return Nodes(example, torch.full_like(example, head.tree.root), widen(input.new_zeros(len(input))))


def _expand(head: "HierarchicalSoftmax", input: Tensor, nodes: Nodes) -> Nodes:
    """The children of nodes, in the nodes' order; a leaf is its own child."""
    above, child, value = head._below(input, nodes.example, nodes.node)
    return Nodes(nodes.example[above], child, nodes.value[above] + value)


def _widest(head: "HierarchicalSoftmax", nodes: Nodes, n: int, width: int) -> Tensor:
    """Places of the most probable nodes of each of n examples: `width` of them, or all; of equal ones the lower."""
    count = torch.bincount(nodes.example, minlength=n)
    start = count.cumsum(0) - count
    row = _rows(nodes, start, count)
    if row.shape[1] <= width:
        return torch.arange(len(nodes.node), device=count.device)
    found, column = row.topk(width + 1, dim=1)
    if bool(((found[:, -2] == found[:, -1]) & (found[:, -1] > -torch.inf)).any()):  # whose choice would be topk's own
        order = (nodes.example * head.tree.num_nodes + nodes.node).argsort()
        column = highest(_rows(nodes.take(order), start, count), width)[1]
        return order[(start.unsqueeze(1) + column)[column < count.unsqueeze(1)]]
    column = column[:, :-1]
    return (start.unsqueeze(1) + column)[column < count.unsqueeze(1)]


def _rows(nodes: Nodes, start: Tensor, count: Tensor) -> Tensor:
    """The nodes' values, those of an example in a row; then -inf, which no node has: (N, most)."""
    row = nodes.value.new_full((len(count), max([0, *count.tolist()])), -torch.inf)
    column = torch.arange(len(nodes.node), device=count.device) - start[nodes.example]
    row[nodes.example, column] = nodes.value.detach().clamp(min=torch.finfo(row.dtype).min)
    return row


def _best(nodes: Nodes, n: int, k: int) -> Nodes:
    """The k most probable nodes of each of n examples, most probable first; of equal ones the lower first."""
    order = nodes.node.argsort()
    for key in (-nodes.value, nodes.example):
        order = order[key[order].argsort(stable=True)]
    count = torch.bincount(nodes.example, minlength=n)
    place = torch.arange(len(order), device=order.device) - (count.cumsum(0) - count)[nodes.example[order]]
    return nodes.take(order[place < k])


def _beam(head: "HierarchicalSoftmax", input: Tensor, width: int) -> tuple[Nodes, Nodes]:
    """The leaves where the most probable nodes of each depth lead, `width` of them, and the nodes left aside."""
    found = _root(head, input)
    met, aside = [found], [torch.zeros_like(found.node, dtype=torch.bool)]
    while bool((found.node >= head.num_classes).any()):
        children = _expand(head, input, found)
        widest = _widest(head, children, len(input), width)
        found = children.take(widest)
        met.append(children)
        aside.append(torch.ones_like(children.node, dtype=torch.bool).index_fill(0, widest, False))
    return found, _join(*met).take(torch.cat(aside))


def _exact(head: "HierarchicalSoftmax", input: Tensor, k: int, some: int, limit: int) -> Tensor:
    """The most probable classes, `some` of them, with all that may be among the first k: (N, D) -> (N, some).

    A beam goes down first; the k-th of its classes is a bound. Log-probabilities only fall on the way down, so a class
    can be among the first k only if all nodes above it reach the bound, but for rounding. Of the nodes that the beam
    left aside those are followed, and the bound rises with every better class that they lead to. An example reads
    `limit` rows beside those of the beam; if it wants more, all of its classes are scored.
    """
    n = len(input)
    found, waiting = _beam(head, input, some)
    found = _best(found, n, some)
    read = torch.zeros(n, dtype=torch.int64, device=input.device)  # rows of the weights, for each example
    rounding = ROUNDING_ERRORS * head.tree.depth * torch.finfo(found.value.dtype).eps
    while len(waiting.node) > 0:
        bound = found.value.view(n, some)[:, k - 1] * (1 + rounding)
        waiting = waiting.take(~(waiting.value < bound[waiting.example]))
        leaf = waiting.node < head.num_classes
        if bool(leaf.any()):
            found = _best(_join(found, waiting.take(leaf)), n, some)
            waiting = waiting.take(~leaf)
            continue
        read = read.index_add(0, waiting.example, head.tables.num_rows[waiting.node])
        waiting = _expand(head, input, waiting.take(read[waiting.example] <= limit))
    classes = found.node.view(n, some)
    much = (read > limit).nonzero().squeeze(1)
    if len(much) > 0:
        for part in parts(len(much), MOST_NUMBERS // head.tree.num_nodes):
            classes[much[part]] = highest(head._log_prob(input[much[part]]), some)[1]
    return classes


def _valued(head: "HierarchicalSoftmax", input: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
    """The log-probabilities of classes, (N, k), as `target_log_prob` has them, and the classes, most probable first."""
    k = classes.shape[1]
    classes = classes.sort(dim=1).values
    rows = MOST_NUMBERS // (k * head.tree.depth * head.width * head.in_features)
    values = [
        head._target_log_prob(input[part].repeat_interleave(k, 0), classes[part].flatten())
        for part in parts(len(input), rows)
    ]
    value, order = torch.cat(values).view_as(classes).sort(dim=1, descending=True, stable=True)
    return value, classes.gather(1, order)


def parts(n: int, rows: int) -> list[slice]:
    """Slices of `rows` rows each that cover n rows; `rows` below 1 counts as 1; of n = 0 one empty slice."""
    rows = max(1, rows)
    return [slice(start, start + rows) for start in range(0, max(1, n), rows)]
