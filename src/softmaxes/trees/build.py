"""How trees are made: functions that give the parent of every node, for the class methods of `Tree`."""

import heapq
import itertools
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from softmaxes import checks
from softmaxes.sampler import class_weights

LEAST = 16  # of an unbalanced cluster tree: a part has at least a 16th of the classes
TURNS, CUTS = 8, 8  # rounds that turn a direction towards the widest spread, then towards the best cut
BLOCK = 2**21  # numbers of the vectors that are worked on at a time
PAIRS = 2**34  # bytes that the distances of all pairs may take, with the copy that SciPy makes
MOST_CLASSES = 10**8  # of a tree that is made from their number alone
LINKAGES = ("single", "complete", "average", "weighted", "centroid", "median", "ward")


def integers(name: str, what: str, values: Tensor | Sequence[int]) -> Tensor:
    """A copy as an int64 tensor on the CPU."""
    tensor = _tensor(f"{name} as a sequence of ints, {what}", values)
    if tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool or tensor.dim() != 1:
        raise TypeError(
            f"Tree: expected {name} as a sequence of ints, {what}, got {tensor.dtype} of shape {tuple(tensor.shape)}."
        )
    found = tensor.to(dtype=torch.int64, device="cpu", copy=True)
    if tensor.dtype == torch.uint64 and bool((found < 0).any()):
        raise ValueError(f"Tree: expected {name} below 2**63, got {2**64 + int(found[found < 0][0])}.")
    return found


def balanced(num_classes: int, arity: int) -> Tensor:
    """The complete tree, filled from the left."""
    num_classes = checks.integer("Tree", "num_classes", num_classes, 2, MOST_CLASSES)
    arity = min(checks.integer("Tree", "arity", arity, 2), num_classes)
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
    return torch.cat([parents[0], *reversed(parents[1:])])


def random(num_classes: int, arity: int, seed: int) -> Tensor:
    """The complete tree, its leaves in an order drawn at random."""
    generator = _generator(seed)
    parent = balanced(num_classes, arity)
    parent[:num_classes] = parent[torch.randperm(int(num_classes), generator=generator)]
    return parent


def from_groups(levels: Sequence[Sequence[int] | Tensor]) -> Tensor:
    """Classes in groups, groups in groups, and a root over the last ones."""
    names = ["group_of_class", *(f"coarser[{place}]" for place in range(len(levels) - 1))]
    kinds = ["one a class"] + ["one a group"] * (len(levels) - 1)
    groups = [integers(*level) for level in zip(names, kinds, levels, strict=True)]
    for name, group, coarser in zip(names, groups, groups[1:], strict=False):
        size = torch.bincount(group[(group >= 0) & (group < len(coarser))], minlength=len(coarser))
        wrong = group[(group < 0) | (group >= len(coarser))]
        if len(wrong) > 0:
            raise ValueError(
                f"Tree: expected {name} in 0..{len(coarser) - 1}, since there are {len(coarser)} coarser groups, "
                f"got {int(wrong[0])}."
            )
        if bool((size == 0).any()):
            raise ValueError(
                f"Tree: expected {name} to use each of 0..{len(coarser) - 1}, got none in {int(size.argmin())}."
            )
    distinct, groups[-1] = torch.unique(groups[-1], return_inverse=True)
    root = len(groups[0])
    starts = itertools.accumulate((len(group) for group in groups[1:]), initial=root + 1)  # each level's first node
    parents = [start + group for start, group in zip(starts, groups, strict=True)]
    return torch.cat([parents[0], torch.tensor([-1]), *parents[1:], torch.full((len(distinct),), root)])


def from_paths(paths: Sequence[str | Sequence[str]], separator: str) -> tuple[list[int], list[str]]:
    """The tree of all beginnings of the paths, and the last part of each as its name."""
    if isinstance(paths, str):
        raise TypeError(f"Tree: expected a path for each class, got {paths!r}.")
    if not isinstance(separator, str):
        raise TypeError(f"Tree: expected separator to be a string, got {separator!r}.")
    if not separator:
        raise ValueError("Tree: expected separator of at least one character, got ''.")
    if len(paths) < 2:
        raise ValueError(f"Tree: expected paths of at least 2 classes, got {len(paths)}.")
    inner: dict[tuple[int, str], int] = {}  # node above (the root is 0) and name -> node
    leaves: dict[tuple[int, str], int] = {}
    for leaf, path in enumerate(paths):
        parts = path.split(separator) if isinstance(path, str) else path
        if not isinstance(parts, Sequence) or not all(isinstance(part, str) for part in parts):
            raise TypeError(f"Tree: expected a path to be a string or strings, got {path!r} for class {leaf}.")
        if len(parts) == 0 or "" in parts:
            raise ValueError(f"Tree: expected a path of one or more names, none empty, got {path!r} for class {leaf}.")
        node = 0
        for part in parts[:-1]:
            node = inner.setdefault((node, part), len(inner) + 1)
        other = leaves.setdefault((node, parts[-1]), leaf)
        if other != leaf:
            raise ValueError(f"Tree: expected paths that differ, got {path!r} for classes {other} and {leaf}.")
    for key, leaf in leaves.items():
        if key in inner:
            raise ValueError(f"Tree: expected no class above another, got {paths[leaf]!r} for class {leaf}.")
    root = len(leaves)
    parent = [root + node for node, _ in leaves] + [-1] + [root + node for node, _ in inner]
    return parent, [name for _, name in leaves] + [""] + [name for _, name in inner]


def from_parents(parent_of: Mapping[str, str | None], classes: Sequence[str] | None) -> tuple[list[int], list[str]]:
    """Nodes in the order in which they are first named, the classes before the others."""
    if not isinstance(parent_of, Mapping):
        raise TypeError(f"Tree: expected parent_of to be a mapping, got {type(parent_of).__name__}.")
    above: dict[str, str] = {}
    named: dict[str, None] = {}
    for child, parent in parent_of.items():
        if not isinstance(child, str) or not isinstance(parent, str | None):
            raise TypeError(f"Tree: expected names to be strings, got {parent!r} above {child!r}.")
        named[child] = None
        if parent is not None:
            named[parent] = None
            above[child] = parent
    roots = [name for name in named if name not in above]
    below = set(roots)  # what is known to descend from a root
    for name in named:
        path: dict[str, None] = {}
        while name not in below:
            if name in path:
                raise ValueError(f"Tree: expected every node to descend from the root, got {name!r} in a cycle.")
            path[name] = None
            name = above[name]
        below.update(path)
    if len(roots) != 1:
        raise ValueError(f"Tree: expected one root, a name without a parent, got {roots[:2] or 'none'}.")
    parents = set(above.values())
    leaves = [name for name in named if name not in parents]
    if classes is not None:
        if isinstance(classes, str):
            raise TypeError(f"Tree: expected classes as a sequence of names, got {classes!r}.")
        chosen = dict.fromkeys(classes)
        wrong = [name for name in chosen if name not in named or name in parents]
        if wrong:
            why = "is above others" if wrong[0] in parents else "is not in parent_of"
            raise ValueError(f"Tree: expected classes to be nodes with none below, got {wrong[0]!r}, which {why}.")
        missing = [name for name in leaves if name not in chosen]
        if missing:
            raise ValueError(f"Tree: expected classes to name every node with none below, got no {missing[0]!r}.")
        if len(chosen) != len(classes):
            again = Counter(classes).most_common(1)[0][0]
            raise ValueError(f"Tree: expected classes that differ, got {again!r} twice.")
        leaves = list(chosen)
    nodes = [*leaves, *(name for name in named if name in parents)]
    number = {name: node for node, name in enumerate(nodes)}
    return [number[above[name]] if name in above else -1 for name in nodes], nodes


def huffman(counts: Tensor | Sequence[float], arity: int) -> Tensor:
    """Huffman's tree: the `arity` lightest nodes are put under a new one, until there is one.

    A node that is made weighs at least what the lightest `arity` weigh together. So nodes that weigh no more than that
    can all be put under new ones in one round, in their order; each round that weight grows by half, or more.
    """
    arity = checks.integer("Tree", "arity", arity, 2)
    weights = class_weights("Tree", "counts", counts)
    given = torch.as_tensor(counts)
    if not given.is_floating_point():
        if (total := sum(given.tolist())) >= 2**63:
            raise ValueError(f"Tree: expected counts whose sum is less than 2**63, got {total}.")
        weights = given.to(dtype=torch.int64, device="cpu")
    arity = min(arity, len(weights))
    order = weights.argsort(stable=True)
    padding = (1 - len(weights)) % (arity - 1)  # leaves that weigh nothing, so that the root has its children
    leaves = torch.cat([weights.new_zeros(padding), weights[order]]).numpy()
    made = np.empty((len(leaves) - 1) // (arity - 1), dtype=leaves.dtype)  # weights of new nodes, in their order
    above = np.full(len(leaves) + len(made), -1)  # of the leaves, then of the new nodes
    leaf = node = new = 0  # how many leaves and nodes have one above them, how many nodes there are
    while new < len(made):
        lightest = np.sort(np.concatenate([leaves[leaf : leaf + arity], made[node : min(node + arity, new)]]))
        most = lightest[:arity].cumsum()[-1]  # added up one by one, as below: rounding must not change the order
        last_leaf = leaf + int(leaves[leaf:].searchsorted(most, "right"))
        last_node = node + int(made[node:new].searchsorted(most, "right"))
        light = np.concatenate([leaves[leaf:last_leaf], made[node:last_node]])
        places = np.concatenate([np.arange(leaf, last_leaf), len(leaves) + np.arange(node, last_node)])
        groups = len(light) // arity
        rank = light.argsort(kind="stable")[: groups * arity]
        made[new : new + groups] = light[rank].reshape(groups, arity).cumsum(1)[:, -1]
        above[places[rank]] = len(weights) + new + np.arange(groups).repeat(arity)
        leaves_taken = int((rank < last_leaf - leaf).sum())
        leaf, node, new = leaf + leaves_taken, node + len(rank) - leaves_taken, new + groups
    parent = torch.from_numpy(above[padding:])
    parent[order] = parent[: len(order)].clone()
    return parent


def clustered(vectors: Tensor | Sequence[Sequence[float]], arity: int, even: bool, seed: int) -> Tensor:
    """Clusters of class vectors, from the root down, all nodes of a level at once."""
    arity = checks.integer("Tree", "arity", arity, 2)
    if not isinstance(even, bool):
        raise TypeError(f"Tree: expected balanced to be a bool, got {even!r}.")
    generator = _generator(seed)
    points = _vectors(vectors)
    num_classes = len(points)
    arity = min(arity, num_classes)
    order = torch.arange(num_classes)  # the classes of a node are a run of it
    above = torch.full((num_classes,), num_classes)  # which node a place in `order` is right under, so far
    bisect = partial(_bisect, points, order, even, generator)
    start, size, node = torch.tensor([0]), torch.tensor([num_classes]), torch.tensor([num_classes])
    parents = [torch.tensor([-1])]  # of the inner nodes
    new = num_classes + 1  # the number of the next node
    while bool((large := size > arity).any()):
        start, size, owner = (_evenly if even else _widest_first)(bisect, start[large], size[large], arity)
        by_place = start.argsort()
        by_place = by_place[size[by_place] > 1]
        start, size = start[by_place], size[by_place]
        parents.append(node[large][owner[by_place]])
        node = torch.arange(new, new + len(start))
        new += len(start)
        inside = torch.arange(int(size.sum())) - (size.cumsum(0) - size).repeat_interleave(size)
        above[start.repeat_interleave(size) + inside] = node.repeat_interleave(size)
    parent = torch.empty_like(above)
    parent[order] = above
    return torch.cat([parent, *parents])


Bisect = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]


def _evenly(bisect: Bisect, start: Tensor, size: Tensor, arity: int) -> tuple[Tensor, Tensor, Tensor]:
    """Divide runs into `arity` parts each that differ by at most one: where they begin, how long, parts of which."""
    owner = torch.arange(len(start))
    parts = torch.full_like(size, arity)  # how many a run is still to be divided into
    while len(chosen := (parts > 1).nonzero().flatten()) > 0:
        length, whole = size[chosen], parts[chosen]
        some = whole // 2
        least = length // whole * some + length % whole * some // whole
        cut, _ = bisect(start[chosen], length, least)
        some = some.where(cut == least, whole - some)
        parts = torch.cat([parts.index_copy(0, chosen, some), whole - some])
        size = torch.cat([size.index_copy(0, chosen, cut), length - cut])
        start = torch.cat([start, start[chosen] + cut])
        owner = torch.cat([owner, owner[chosen]])
    return start, size, owner


def _widest_first(bisect: Bisect, start: Tensor, size: Tensor, arity: int) -> tuple[Tensor, Tensor, Tensor]:
    """Divide runs into `arity` parts each, the widest in two each time: where they begin, how long, parts of which."""
    owner = torch.arange(len(start))
    spread = torch.zeros(len(start), dtype=torch.float64)
    for _ in range(arity - 1):
        rank = torch.from_numpy(np.lexsort((size, spread.where(size > 1, -1.0), owner)))
        chosen = rank[owner[rank].diff(append=torch.tensor([-1])) != 0]  # the last of each owner's
        length = size[chosen]
        cut, spreads = bisect(start[chosen], length, (length + LEAST - 1) // LEAST)
        spread = torch.cat([spread.index_copy(0, chosen, spreads[:, 0]), spreads[:, 1]])
        size = torch.cat([size.index_copy(0, chosen, cut), length - cut])
        start = torch.cat([start, start[chosen] + cut])
        owner = torch.cat([owner, owner[chosen]])
    return start, size, owner


def _bisect(
    vectors: Tensor, order: Tensor, even: bool, generator: torch.Generator, start: Tensor, size: Tensor, least: Tensor
) -> tuple[Tensor, Tensor]:
    """Bring the classes of each run into the order of a cut in two.

    Args:
        vectors: of the classes, (C, D).
        order: the classes, (C,); changed in the runs.
        even: whether one side has exactly `least` classes; else each side has at least `least`.
        generator: of the direction to begin with.
        start: where the runs begin, (S,).
        size: how long they are, (S,).
        least: classes of the smaller side, (S,).

    Returns:
        How many classes are before the cut, (S,), and each side's sum of squares about its centre, (S, 2).
    """
    cut, spread = torch.empty_like(size), torch.empty(len(size), 2, dtype=torch.float64)
    by_size = size.argsort(descending=True)
    done = 0
    while done < len(size):
        longest = int(size[by_size[done]])
        runs = by_size[done : done + max(1, BLOCK // (longest * vectors.shape[1]))]
        done += len(runs)
        place = torch.arange(longest)
        real = place < size[runs].unsqueeze(1)  # (S, n); the shorter runs are padded
        places = start[runs].unsqueeze(1) + place.where(real, 0)
        classes = order[places]
        points = vectors.index_select(0, classes.flatten()).view(*classes.shape, -1)  # (S, n, D)
        points -= points[:, :1].clone()  # the padding is zero now
        direction = torch.randn(vectors.shape[1], dtype=vectors.dtype, generator=generator)
        rank, cut[runs], spread[runs] = _cut(points, real, least[runs], even, direction)
        order[places[real]] = classes.gather(1, rank)[real]
    return cut, spread


def _cut(points: Tensor, real: Tensor, least: Tensor, even: bool, direction: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Two means of several sets of points: their order along a direction, and where to cut it.

    The best cut along a direction makes the two sides' sum of squares least among all cuts along it; the direction from
    one side's mean to the other's then has a cut as good, and is the next. So the sum never grows.

    Args:
        points: (S, n, D); zero where padded.
        real: which are not padding, those before the others, (S, n).
        least: points of the smaller side, (S,).
        even: whether the smaller side has exactly `least` points; else at least `least`.
        direction: to begin with, (D,).

    Returns:
        The order, (S, n), padding last; points before the cut, (S,); each side's sum of squares, (S, 2).
    """
    size = real.sum(1, keepdim=True)
    before = torch.arange(1, real.shape[1] + 1)  # points before a cut, (n,)
    smaller = before.minimum(size - before)
    allowed = smaller == least.unsqueeze(1) if even else smaller >= least.unsqueeze(1)
    balance = (before * (size - before)).to(points.dtype)
    tiny = torch.finfo(points.dtype).tiny
    directions = direction.expand(len(points), -1)
    for turn in range(TURNS + CUTS):
        directions = directions / directions.abs().amax(1, keepdim=True).clamp_min(tiny)
        score = torch.linalg.vecdot(points, directions.unsqueeze(1))  # (S, n)
        score = score - score.sum(1, keepdim=True) / size
        widest = score.abs().amax(1, keepdim=True)
        score = score / widest.clamp_min(tiny)
        if turn < TURNS:
            pull = score  # a step of power iteration
        else:
            score, rank = score.masked_fill(~real, torch.inf).sort(dim=1, stable=True)
            gain = score.cumsum(1).square() / balance  # what the cut takes off the sum of squares
            gain = gain.where(widest > 0, balance)  # points that are all equal are halved
            cut = gain.masked_fill(~allowed, -1.0).argmax(1, keepdim=True) + 1
            first = torch.zeros_like(score).scatter_(1, rank, (before <= cut).to(score.dtype))
            pull = first - cut / size
        directions = torch.bmm(pull.unsqueeze(1), points).squeeze(1)
    sides = torch.stack([first, 1 - first], dim=1)  # (S, 2, n)
    sums, squares = sides @ points, sides @ torch.linalg.vecdot(points, points).unsqueeze(2)
    spread = squares.squeeze(2) - sums.square().sum(2) / torch.cat([cut, size - cut], dim=1)
    return rank, cut.squeeze(1), spread.double().clamp_min(0)


def agglomerative(vectors: Tensor | Sequence[Sequence[float]], arity: int, linkage: str) -> Tensor:
    """SciPy's merges of class vectors."""
    arity = checks.integer("Tree", "arity", arity, 2)
    if linkage not in LINKAGES:
        raise ValueError(f"Tree: expected linkage to be one of {', '.join(LINKAGES)}, got {linkage!r}.")
    points = _vectors(vectors)
    _check_pairs("vectors", len(points), "; Tree.clustered takes more")
    return _opened(_scipy().linkage(points.double().numpy(), linkage), arity)


def from_confusion(confusion: Tensor | Sequence[Sequence[float]], arity: int) -> Tensor:
    """SciPy's merges of classes that are taken for each other."""
    arity = checks.integer("Tree", "arity", arity, 2)
    counts = _tensor("confusion as numbers of shape (C, C)", confusion).detach().cpu()
    if counts.is_complex() or counts.dtype == torch.bool or counts.dim() != 2:
        raise TypeError(
            f"Tree: expected confusion as numbers of shape (C, C), got {counts.dtype} of shape {tuple(counts.shape)}."
        )
    if counts.shape[0] != counts.shape[1] or len(counts) < 2:
        raise ValueError(
            f"Tree: expected confusion of shape (C, C) with C at least 2, got shape {tuple(counts.shape)}."
        )
    _check_pairs("confusion", len(counts), "")
    low, high = counts.aminmax()
    if not 0 <= float(low) <= float(high) < math.inf:
        true, predicted = ((counts < 0) | ~counts.isfinite()).nonzero()[0].tolist()
        raise ValueError(
            f"Tree: expected confusion to be finite and at least 0, got {counts[true, predicted].item()} "
            f"for class {true} taken for {predicted}."
        )
    total = counts.sum(1, dtype=torch.float64)
    total[total == 0] = 1
    distance = torch.empty(len(counts) * (len(counts) - 1) // 2, dtype=torch.float64)
    end = 0
    for c in range(len(counts) - 1):
        taken, given = counts[c, c + 1 :] / total[c : c + 1], counts[c + 1 :, c] / total[c + 1 :]
        start, end = end, end + len(taken)
        distance[start:end] = 1 - (taken + given) / 2
    return _opened(_scipy().linkage(distance.numpy(), "average"), arity)


def _opened(merges: NDArray[np.float64], arity: int) -> Tensor:
    """The tree of some merges of two, each node's highest child opened until it has `arity` or none but leaves."""
    pairs = merges[:, :2].astype(np.int64).tolist()
    num_classes = len(pairs) + 1
    above = [-1] * (2 * num_classes - 1)
    waiting = [len(above) - 1]
    while waiting:
        node = waiting.pop()
        children = [-child for child in pairs[node - num_classes]]  # a heap, the highest first; leaves are the lowest
        heapq.heapify(children)
        while len(children) < arity and -children[0] >= num_classes:
            for child in pairs[-heapq.heappop(children) - num_classes]:
                heapq.heappush(children, -child)
        for child in children:
            above[-child] = node
        waiting += [-child for child in children if -child >= num_classes]
    parent = torch.tensor(above)
    stays = parent >= 0
    stays[-1] = True
    number = stays.cumsum(0) - 1
    return torch.cat([number[parent[stays][:-1]], parent[-1:]])


def _tensor(what: str, values: Tensor | Sequence[Any]) -> Tensor:
    try:
        return torch.as_tensor(values)
    except (ValueError, TypeError, RuntimeError, OverflowError):
        raise TypeError(f"Tree: expected {what}, got {type(values).__name__} of other things.") from None


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(checks.integer("Tree", "seed", seed, -(2**63), 2**64 - 1))


def _vectors(values: Tensor | Sequence[Sequence[float]]) -> Tensor:
    """Finite vectors of the classes, on the CPU, in float32 at least, brought to a scale that can be squared."""
    what = "vectors of a floating-point dtype and of shape (C, D)"
    vectors = _tensor(what, values).detach()
    if not vectors.is_floating_point() or vectors.dim() != 2:
        raise TypeError(f"Tree: expected {what}, got {vectors.dtype} of shape {tuple(vectors.shape)}.")
    if len(vectors) < 2 or vectors.shape[1] == 0:
        raise ValueError(
            "Tree: expected vectors of shape (C, D) with C at least 2 and D at least 1, "
            f"got shape {tuple(vectors.shape)}."
        )
    vectors = vectors.to(dtype=torch.promote_types(vectors.dtype, torch.float32), device="cpu")
    low, high = map(float, vectors.aminmax())
    if not (math.isfinite(low) and math.isfinite(high)):
        wrong, place = (~vectors.isfinite()).nonzero()[0].tolist()
        raise ValueError(f"Tree: expected vectors to be finite, got {float(vectors[wrong, place])} for class {wrong}.")
    largest = max(-low, high)
    if largest > 0 and not 2**-40 < largest < 2**40:
        vectors = vectors / largest  # squares in float32 must be neither infinite nor zero
    return vectors


def _check_pairs(name: str, num_classes: int, instead: str) -> None:
    """Refuse classes of which all pairs would not fit; SciPy holds two float64 a pair."""
    most = math.isqrt(PAIRS // 8)
    if num_classes > most:
        raise ValueError(
            f"Tree: expected {name} of at most {most} classes, for all pairs of which there is memory, "
            f"got {num_classes}{instead}."
        )


def _scipy() -> ModuleType:
    try:
        from scipy.cluster import hierarchy
    except ImportError as error:
        raise ImportError(
            f"Tree: expected SciPy, got no {error.name}; install it: pip install 'softmaxes[trees]'"
        ) from error
    return hierarchy  # type: ignore[no-any-return]
