"""The softmax trained on the target's nearest classes, all of them, and on a sample of the others."""

import math
from collections.abc import Callable
from typing import Any, ClassVar, Self, final

import torch
from torch import Tensor

from softmaxes.head import Head
from softmaxes.layers import linear_logits, linear_parameters, row_logits, widen
from softmaxes.on_cpu import on_cpu
from softmaxes.rounded import TILES, RoundedRows, usable, way

EXACT = 2**15  # classes up to which all pairs of rows are compared; more lie in cells
EXACT_BY_TILES = 2**20  # the same where a processor has AMX: a million classes take as long as by cells
PROBES = 16  # cells in which the neighbours of a class are looked for
PASSES = 6  # of k-means
POINTS = 128  # rows for each mean that k-means looks at: more hardly move it
MOST_NUMBERS = 2**24  # distances at a time
ASKED = 2**12  # rows whose neighbours are looked for at a time, in rounded rows


@final
class NeighborSampledSoftmax(Head):
    r"""A softmax whose normaliser is estimated, while training, from the target's nearest classes and from a sample.

    .. math:: \ell(x, y) = -\log \frac{\exp z_y}{\hat Z}, \qquad
        \hat Z = \exp z_y + \sum_{c \in N(y)} \exp z_c
        + \sum_{s \in S} [s \notin N(y) \cup \{y\}] \, \frac{\exp z_s}{q_s}, \qquad z = W x + b

    :math:`N(y)` are the K classes whose logits are highest where the input is the row of class y,
    :math:`w_c \cdot w_y + b_c`: those that examples of class y are most easily taken for. They come in whole, without a
    weight. :math:`S` are U classes that are drawn uniformly, once for the batch, each at most once; :math:`q_s` is the
    probability of class s to be among them, U / C but for rounding. So the estimate is right on average,
    :math:`E \hat Z = \sum_j \exp z_j`, whatever the neighbours are, and with U = C it is exact. The target is never
    among the others. In evaluation the loss is the negative log-likelihood, and `log_prob` is that of the plain
    softmax.

    Call `refresh` once an epoch and after loading a checkpoint: it looks for the neighbours among the rows as they are.
    Until the first `refresh` no class has any. Old neighbours make the estimate vary more and leave it right on
    average. `state_dict` does not hold them. With `torch.utils.checkpoint`, which computes the loss a second time in
    the backward pass, call `refresh` after that pass.

    Args:
        in_features: size of a feature vector, D.
        num_classes: number of classes, C, at least 2.
        num_samples: U, how many classes are drawn for the whole batch. From C on, all classes are taken.
        num_neighbors: K, how many neighbours a class has. From C - 1 on, all other classes are neighbours.
        bias: whether the linear layer has a bias.
        sparse: whether the training loss's gradients of `weight` and `bias` are sparse tensors with the rows alone that
            were met, as in `torch.nn.Embedding`; take `softmaxes.optim.for_model` as the optimiser.
            Clip them with `softmaxes.optim.clip_grad_norm_`.
        device: where the parameters are made.
        dtype: dtype of the parameters.

    Shape:
        - input: :math:`(*, D)`
        - target: :math:`(*)`, integers
        - loss: :math:`(*)`; log_prob: :math:`(*, C)`

    Attributes:
        weight: :math:`W`, (C, D), drawn as in `torch.nn.Linear`.
        bias: :math:`b`, (C,), or none.

    Cost:
        Parameters CD + C; the neighbours take 4CK bytes. Training loss O(N(K + U)D) time, O(N(KD + U)) memory; with
        ``sparse`` its gradient too, else that is dense, O(CD). `refresh` finds all neighbours in O(C^2 D) time for up
        to 32,768 classes; of more, most in O(C^1.5 D). On a processor with AMX it finds all for up to 1,048,576
        classes: 3 seconds for 81,694 classes and 128 features on one core. In evaluation loss, log_prob and top-k
        O(NCD) time, O(NC) memory.

    Example:
        >>> import torch
        >>> from softmaxes import NeighborSampledSoftmax
        >>> head = NeighborSampledSoftmax(8, 10_000, num_samples=512)
        >>> features, target = torch.randn(4, 8), torch.tensor([0, 3, 9_999, 3])
        >>> head(features, target).shape
        torch.Size([4])
        >>> head.refresh()
        >>> head.log_prob(features).shape
        torch.Size([4, 10000])

    Reference:
        S. Mussmann, D. Levy, S. Ermon. Fast amortized inference and learning in log-linear models with randomly
        perturbed nearest neighbor search. 2017 (the largest terms in whole, a sample of the others).
    """

    loss_is_nll: ClassVar[bool] = False
    class_rows: ClassVar[tuple[str, ...]] = ("weight", "bias")
    _neighbors: Tensor | None  # (C, K), int32; none before the first `refresh`

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        num_samples: int,
        num_neighbors: int = 16,
        bias: bool = True,
        sparse: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(in_features, num_classes)
        self.num_samples = self._at_least("num_samples", num_samples, 1)
        self.num_neighbors = self._at_least("num_neighbors", num_neighbors, 1)
        self.sparse = sparse
        self.weight, self.bias = linear_parameters(self.num_classes, self.in_features, bias, device, dtype)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the linear layer as `torch.nn.Linear` does; no class has neighbours from now on."""
        super().reset_parameters()
        self.forget()

    def refresh(self) -> None:
        """Look for the neighbours of each class anew, among the rows as they are now.

        Cost:
            O(C^2 D) time for C classes up to 32,768, on a processor with AMX up to 1,048,576; of more O(C^1.5 D).

        Example:
            >>> import torch
            >>> from softmaxes import NeighborSampledSoftmax
            >>> head = NeighborSampledSoftmax(8, 100, num_samples=4)
            >>> before = head.log_prob(torch.ones(8))
            >>> head.refresh()
            >>> torch.equal(head.log_prob(torch.ones(8)), before)
            True
        """
        if self.weight.is_meta:
            return
        # Made in inference mode they could never be trained with; in half precision they would be worse ones.
        with torch.inference_mode(False), torch.no_grad(), torch.autocast(self.weight.device.type, enabled=False):
            rows = widen(self.weight.detach().clone())
            column = rows.new_zeros(len(rows)) if self.bias is None else widen(self.bias.detach().clone())
            rows = torch.cat([rows, column.unsqueeze(1)], dim=1)
            # A class that is ruled out by a bias of minus infinity, or is broken, may have any.
            rows = rows.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)
            self._neighbors = neighbors(rows, min(self.num_neighbors, self.num_classes - 1))

    def forget(self) -> None:
        """From now on no class has neighbours, until the next `refresh`."""
        self._neighbors = None

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        before = self.weight.device
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        if "meta" in (before.type, self.weight.device.type):
            self.forget()
        elif self._neighbors is not None:
            self._neighbors = self._neighbors.to(self.weight.device)
        return self

    def _load_from_state_dict(self, *given: Any) -> None:
        super()._load_from_state_dict(*given)
        self.forget()

    def _loss(self, input: Tensor, target: Tensor) -> Tensor:
        if not self.training:
            return -self._target_log_prob(input, target)
        shared, log_weight = self._draw(input.device)
        near = target.new_zeros(len(target), 0)
        if self._neighbors is not None:
            near = self._neighbors.to(input.device)[target].long()
        beside = torch.cat([target.unsqueeze(1), near], dim=1)  # (N, 1 + K)
        logits = row_logits(input, beside, self.weight, self.bias, self.sparse)
        own, nearest = logits[:, :1], logits[:, 1:]
        # Where rows are too large for their products, a class may have been found as its own neighbour.
        nearest = nearest.masked_fill(near == target.unsqueeze(1), -torch.inf)
        any_other = row_logits(input, shared, self.weight, self.bias, self.sparse)  # (N, U)
        others = (any_other + log_weight.to(any_other.dtype)).masked_fill(among(beside, shared), -torch.inf)
        return torch.logsumexp(torch.cat([own, nearest, others], dim=1), dim=1) - own.squeeze(1)

    @torch.no_grad()
    def _draw(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Classes in rising order, one of each of U equal parts of them, and the log of each part's size: both (U,)."""
        parts = min(self.num_samples, self.num_classes)
        edges = torch.arange(parts + 1, device=device) * self.num_classes // parts
        size = edges[1:] - edges[:-1]
        place = (torch.rand(parts, device=device, dtype=torch.double) * size).long().minimum(size - 1)
        return edges[:-1] + place, size.double().log()

    def _log_prob(self, input: Tensor) -> Tensor:
        return torch.log_softmax(linear_logits(input, self.weight, self.bias), dim=1)


def among(some: Tensor, rising: Tensor) -> Tensor:
    """Which of some rising numbers, (U,), are among the numbers of each row, (N, L): (N, U), boolean."""
    place = torch.searchsorted(rising, some).clamp(max=len(rising) - 1)
    place = place.where(rising[place] == some, len(rising))  # a column that is cut off
    return torch.zeros(len(some), len(rising) + 1, dtype=torch.bool, device=some.device).scatter(1, place, True)[:, :-1]


def neighbors(rows: Tensor, number: int) -> Tensor:
    """The classes of the highest logits at each row, the bias in the last column: (C, D + 1) -> (C, K), int32.

    Where rounded rows can be searched by AMX they are found so. Else, of more than `EXACT` classes, those that lie in
    the `PROBES` cells of the highest logits alone.
    """
    if (by_rounding := _by_rounding(rows, number)) is not None:
        return by_rounding
    asked = _asked(rows)
    every = torch.arange(len(rows), device=rows.device)
    if len(rows) <= EXACT:
        return _nearest_of_all(rows, asked, every, number).int()
    cell, mean = clustered(rows, math.ceil(math.sqrt(len(rows))))
    probed = torch.cat([(part @ mean.t()).topk(min(PROBES, len(mean))).indices for part in _parts(asked, len(mean))])
    members = _by_cell(cell.unsqueeze(1), len(mean))
    best = rows.new_full((len(rows), number), -torch.inf)
    found = every.new_zeros(len(rows), number)
    for of_cell, askers in zip(members, _by_cell(probed, len(mean)), strict=True):
        for some in torch.split(askers, max(1, MOST_NUMBERS // max(1, len(of_cell)))):
            score = (asked[some] @ rows[of_cell].t()).masked_fill(some.unsqueeze(1) == of_cell, -torch.inf)
            known = torch.cat([found[some], of_cell.expand(len(some), -1)], dim=1)
            best[some], place = torch.cat([best[some], score], dim=1).topk(number)
            found[some] = known.gather(1, place)
    few = (best[:, -1] == -torch.inf).nonzero().squeeze(1)  # whose cells had not enough
    found[few] = _nearest_of_all(rows, asked, few, number)
    return found.int()


def _asked(rows: Tensor) -> Tensor:
    """Rows as inputs, of which the bias is asked whole."""
    return torch.cat([rows[:, :-1], torch.ones_like(rows[:, -1:])], dim=1)


@on_cpu
def _by_rounding(rows: Tensor, number: int) -> Tensor | None:
    """All neighbours as they are, or none where this would not be the quickest way."""
    weight, bias = rows[:, :-1].contiguous(), rows[:, -1].contiguous()
    if len(rows) > EXACT_BY_TILES or way() < TILES or not usable(weight, bias):
        return None
    table, every = RoundedRows(weight, bias), torch.arange(len(rows))
    found, open_ = torch.empty(len(rows), number, dtype=torch.int32), []
    for some in torch.split(every, ASKED):
        best = table.best(weight[some], min(number + 1, len(rows)))  # the class itself may be among them
        order = (best.classes == some.unsqueeze(1)).int().argsort(dim=1, stable=True)
        found[some] = best.classes.gather(1, order)[:, :number].int()
        open_.append(some[~best.decided])
        if sum(map(len, open_)) > len(rows) // 64:
            return None
    left = torch.cat(open_)
    found[left] = _nearest_of_all(rows, _asked(rows), left, number).int()
    return found


def _by_cell(cells: Tensor, number: int) -> tuple[Tensor, ...]:
    """Which rows name each cell, of the cells that each row names, (C, P)."""
    rows = cells.flatten().argsort(stable=True) // cells.shape[1]
    return torch.split(rows, torch.bincount(cells.flatten(), minlength=number).tolist())


def _nearest_of_all(rows: Tensor, asked: Tensor, which: Tensor, number: int) -> Tensor:
    found = [which.new_zeros(0, number)]
    for some in _parts(which, len(rows)):
        score = asked[some] @ rows.t()
        score.scatter_(1, some.unsqueeze(1), -torch.inf)  # of the class itself
        found.append(score.topk(number).indices)
    return torch.cat(found)


def _parts(rows: Tensor, columns: int) -> tuple[Tensor, ...]:
    return torch.split(rows, max(1, MOST_NUMBERS // columns))


def clustered(rows: Tensor, cells: int) -> tuple[Tensor, Tensor]:
    """The cell of each row, (C,), and the cells' means, (M, D), by k-means of some rows that are always the same."""
    chosen = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0), device="cpu")[: POINTS * cells]
    some = rows[chosen.to(rows.device)]
    mean = some[:cells]
    for _ in range(PASSES):
        cell, away = _nearest_mean(some, mean)
        size = torch.bincount(cell, minlength=cells)
        mean = torch.zeros_like(mean).index_add_(0, cell, some) / size.clamp(min=1).unsqueeze(1)
        empty = (size == 0).nonzero().squeeze(1)
        if len(empty):  # each takes one of the rows that are farthest away from their mean
            mean[empty] = some[away.topk(len(empty)).indices]
    return _nearest_mean(rows, mean)[0], mean


def _nearest_mean(rows: Tensor, mean: Tensor) -> tuple[Tensor, Tensor]:
    """The nearest mean of each row, and the square of how far it is: (C, D), (M, D) -> (C,), (C,)."""
    half = mean.square().sum(1) / 2
    found = [torch.max(part @ mean.t() - half, dim=1) for part in _parts(rows, len(mean))]
    best = torch.cat([one.values for one in found])
    return torch.cat([one.indices for one in found]), rows.square().sum(1) - 2 * best
