"""The adaptive softmax: frequent classes at full width, rare ones in clusters of less."""

import itertools
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, ClassVar, NamedTuple, Self, final

import torch
from torch import Tensor, nn

from softmaxes.head import Head
from softmaxes.layers import transformed, uncompiled, widen
from softmaxes.on_cpu import on_cpu
from softmaxes.sampler import class_weights
from softmaxes.structure import Structure, saved_table

MOST_CLUSTERS = 4  # that are chosen if cut-offs are not given
PLACES = 64  # for a cut, that are tried
# What a cluster costs beside its multiplications, in multiplications an example. Measured on a CPU with one thread,
# forward and backward, 256 features: 100 to 150 microseconds a batch, and 12,000 multiplications a microsecond; for a
# batch of 128 that is this.
OVERHEAD = 10_000


@final
class AdaptiveSoftmax(Head):
    r"""A softmax over the most frequent classes and clusters of the others, then one within the cluster, narrower.

    The classes are ranked by their counts. The first :math:`c_1` of them, the shortlist, and J clusters share a softmax
    over all D features; cluster j has the ranks from :math:`c_j` to :math:`c_{j+1} - 1` and a softmax over
    :math:`h_j = \lfloor D / v^j \rfloor` features, a projection of the input.

    .. math:: p(c \mid x) = \begin{cases} p_0(c \mid x) & c \text{ in the shortlist} \\
        p_0(j \mid x)\, p_j(c \mid x) & c \text{ in cluster } j \end{cases}, \qquad
        \ell(x, y) = -\log p(y \mid x), \qquad p_0 = \mathrm{softmax}(W_0 x), \qquad p_j = \mathrm{softmax}(W_j P_j x)

    If no cut-offs are given, those are chosen that make the cost of a loss least, in expected multiplications,

    .. math:: D (c_1 + J) + \sum_{j=1}^J s_j h_j (D + c_{j+1} - c_j) + 10^4 J,

    with :math:`s_j` the share of examples in cluster j and 10,000 for the overhead of a cluster, among up to four
    clusters, none with fewer classes than its own features or than the one before, and 64 places for a cut, evenly
    apart on a logarithmic scale. It may be none at all: then the head is the plain softmax. The model is of cost
    alone: where the counts are nearly equal it leaves a short shortlist, and full width to few classes.

    Parameters have the names that `torch.nn.AdaptiveLogSoftmaxWithLoss` gives them; its ``state_dict`` can be loaded
    with ``strict=False``, and its class r is then the class of rank r here.

    Args:
        in_features: size of a feature vector, D.
        counts: training examples of each class, (C,), in any order. Of classes with equal counts the first comes first.
        cutoffs: ranks :math:`c_1 < c_2 < \ldots < c_J` at which clusters begin, or none to have them chosen.
        div_value: :math:`v`, at least 1.
        head_bias: whether the softmax over the shortlist and the clusters has a bias.
        device: where the parameters are made.
        dtype: dtype of the parameters.

    Shape:
        - input: :math:`(*, D)`
        - target: :math:`(*)`, integers
        - loss: :math:`(*)`; log_prob: :math:`(*, C)`

    Attributes:
        cutoffs: as given or chosen, a tuple.
        head: a linear layer, (c_1 + J, D).
        tail: for each cluster a projection, (h_j, D), and a linear layer, (c_{j+1} - c_j, h_j).
        order: the classes by rank, (C,). It is in the ``state_dict``, and a checkpoint brings its own: so other counts
            cannot mix up classes.
        rank: the rank of each class, (C,), in the ``state_dict``, too.

    Raises:
        ValueError: a cluster would have no features, its h_j being 0.

    Cost:
        Parameters D (c_1 + J) + sum of h_j (D + c_{j+1} - c_j). Loss as the sum above on average; which examples a
        cluster has is looked up on the device, so ``torch.compile`` makes more than one graph. log_prob and top-k take
        all of it for each example, O(NC) memory.

    Example:
        >>> import torch
        >>> from softmaxes import AdaptiveSoftmax
        >>> head = AdaptiveSoftmax(64, counts=[10_000 // (c + 1) for c in range(1000)])
        >>> head.cutoffs
        (39,)
        >>> features, target = torch.randn(4, 64), torch.tensor([0, 3, 999, 3])
        >>> head(features, target).shape
        torch.Size([4])
        >>> head.log_prob(features).exp().sum(-1).allclose(torch.ones(4))
        True

    Reference:
        E. Grave, A. Joulin, M. Cissé, D. Grangier, H. Jégou. Efficient softmax approximation for GPUs. 2017.
    """

    loss_is_nll: ClassVar[bool] = True

    def __init__(
        self,
        in_features: int,
        counts: Tensor | Sequence[float],
        cutoffs: Sequence[int] | None = None,
        div_value: float = 4.0,
        head_bias: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        counts = class_weights("AdaptiveSoftmax", "counts", counts)
        super().__init__(in_features, len(counts))
        self.counts = counts
        self.div_value = self._number("div_value", div_value, "finite and at least 1", lambda v: 1 <= v < math.inf)
        self.head_bias = head_bias
        self.cutoffs = self._cheapest() if cutoffs is None else self._checked(cutoffs)
        ends = (*self.cutoffs, self.num_classes)
        factory = {"device": device, "dtype": dtype}
        self.head = nn.Linear(in_features, ends[0] + len(self.cutoffs), bias=head_bias, **factory)
        self.tail = nn.ModuleList()
        for cluster, (start, end) in enumerate(itertools.pairwise(ends), 1):
            width = self._width(cluster)
            projection = nn.Linear(in_features, width, bias=False, **factory)
            self.tail.append(nn.Sequential(projection, nn.Linear(width, end - start, bias=False, **factory)))
        self.structure = Structure(partial(_tables, counts.argsort(descending=True, stable=True)), device)
        self.reset_parameters()

    @property
    def order(self) -> Tensor:
        """The classes by rank, (C,)."""
        return self.structure.on(self.head.weight.device).order

    @property
    def rank(self) -> Tensor:
        """The rank of each class, (C,)."""
        return self.structure.on(self.head.weight.device).rank

    def reset_parameters(self) -> None:
        """Draw every layer as `torch.nn.Linear` does."""
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                layer.reset_parameters()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        self.structure.follow(fn)
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        destination[f"{prefix}order"], destination[f"{prefix}rank"] = self.order, self.rank

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
        order, rank = (state_dict.pop(f"{prefix}{name}", None) for name in ("order", "rank"))  # of torch's own copy
        lists = missing_keys, unexpected_keys, error_msgs
        super()._load_from_state_dict(state_dict, prefix, local_metadata, strict, *lists)
        missing_keys.extend(f"{prefix}{name}" for name, one in (("order", order), ("rank", rank)) if one is None)
        if order is None or rank is None:
            return
        order, rank = saved_table(order), saved_table(rank)
        if order is None or rank is None:
            return
        classes = torch.arange(self.num_classes)
        if torch.equal(order.sort().values, classes) and torch.equal(order.argsort(), rank):
            self.structure = Structure(partial(_tables, order), self.head.weight.device)
        else:
            error_msgs.append(
                f"AdaptiveSoftmax: expected a checkpoint with an order of {self.num_classes} classes and the rank of "
                "each in it, got others."
            )

    def _loss(self, input: Tensor, target: Tensor) -> Tensor:
        nll: Tensor = -self._target_log_prob(input, target)
        return nll

    # Which examples a cluster has is known only when the targets are.
    @uncompiled
    def _target_log_prob(self, input: Tensor, target: Tensor) -> Tensor:
        if input.is_meta or transformed(input, target):  # where no one can say which
            return super()._target_log_prob(input, target)
        rank = self.rank[target]
        first, clusters = self._first(input), self._cluster(rank)
        column = torch.where(clusters == 0, rank, first.shape[1] - len(self.cutoffs) + clusters - 1)
        log_prob = first.gather(1, column.unsqueeze(1)).squeeze(1)
        for cluster, (start, layer) in enumerate(zip(self.cutoffs, self.tail, strict=True), 1):
            rows = (clusters == cluster).nonzero().squeeze(1)
            within = torch.log_softmax(widen(layer(input[rows])), dim=1)
            place = (rank[rows] - start).unsqueeze(1)
            log_prob = log_prob.index_add(0, rows, within.gather(1, place).squeeze(1))
        return log_prob

    def _log_prob(self, input: Tensor) -> Tensor:
        first = self._first(input)
        shortlist = first.shape[1] - len(self.cutoffs)
        parts = [first[:, :shortlist]]
        for cluster, layer in enumerate(self.tail):
            own = first[:, shortlist + cluster].unsqueeze(1)
            parts.append(torch.log_softmax(widen(layer(input)), dim=1) + own)
        return torch.cat(parts, dim=1)[:, self.rank]

    def _first(self, input: Tensor) -> Tensor:
        """Log-probabilities of the shortlist and the clusters: (N, D) -> (N, c_1 + J)."""
        return torch.log_softmax(widen(self.head(input)), dim=1)

    def _cluster(self, rank: Tensor) -> Tensor:
        """The cluster of each rank, from 1; 0 for the shortlist."""
        return torch.stack([torch.zeros_like(rank), *((rank >= start).long() for start in self.cutoffs)]).sum(0)

    def _width(self, cluster: int) -> int:
        return int(self.in_features // self.div_value**cluster)

    def _checked(self, cutoffs: Sequence[int]) -> tuple[int, ...]:
        if isinstance(cutoffs, str) or not hasattr(cutoffs, "__getitem__"):
            raise TypeError(f"AdaptiveSoftmax: expected cutoffs to be a sequence of ints, got {cutoffs!r}.")
        cutoffs = [self._at_least("each cut-off", cutoff, 1) for cutoff in cutoffs]
        if any(low >= high for low, high in itertools.pairwise((*cutoffs, self.num_classes))):
            raise ValueError(
                f"AdaptiveSoftmax: expected cutoffs to rise and stay below {self.num_classes}, got {tuple(cutoffs)}."
            )
        if len(cutoffs) > 0 and self._width(len(cutoffs)) < 1:
            raise ValueError(
                "AdaptiveSoftmax: expected at least 1 feature for each cluster, got in_features // div_value**j = 0 "
                f"for cluster j = {len(cutoffs)}; take fewer cutoffs or a smaller div_value."
            )
        return tuple(cutoffs)

    @on_cpu
    def _cheapest(self) -> tuple[int, ...]:
        """The cut-offs of least expected cost: all are tried."""
        share = self.counts.sort(descending=True).values.cumsum(0) / self.counts.sum()
        share = torch.cat([share.new_zeros(1), share])  # of examples in the classes before each rank
        places = torch.logspace(0, math.log2(self.num_classes), PLACES + 1, base=2, dtype=torch.float64).round().long()
        best, cutoffs = float(self.in_features * self.num_classes), torch.zeros(0)
        for clusters in range(1, MOST_CLUSTERS + 1):
            widths = torch.tensor([self._width(cluster) for cluster in range(1, clusters + 1)])
            if widths[-1] < 1:
                break
            starts = torch.combinations(torch.unique(places[:-1]), clusters)  # (choices, J)
            ends = torch.cat([starts[:, 1:], torch.full_like(starts[:, :1], self.num_classes)], dim=1)
            size = ends - starts
            cost = ((share[ends] - share[starts]) * widths * (self.in_features + size)).sum(1)
            cost = cost + self.in_features * (starts[:, 0] + clusters) + OVERHEAD * clusters
            cost = cost.masked_fill((size < widths.clamp(min=2)).any(1) | (size.diff(dim=1) < 0).any(1), math.inf)
            if len(cost) > 0 and float(cost.min()) < best:
                best, cutoffs = float(cost.min()), starts[cost.argmin()]
        return tuple(cutoffs.int().tolist())


class Tables(NamedTuple):
    """The order of the classes."""

    order: Tensor  # (C,) the classes by rank
    rank: Tensor  # (C,) the rank of each class


@on_cpu
def _tables(order: Tensor) -> Tables:
    return Tables(order, order.argsort())
