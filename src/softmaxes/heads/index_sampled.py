"""The softmax trained on classes drawn from an index over its own rows."""

import math
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple, Self, final

import torch
from torch import Tensor

from softmaxes.head import Head
from softmaxes.layers import linear_logits, linear_parameters, row_logits, widen

PASSES = 6  # of k-means
POINTS = 128  # rows for each mean that k-means looks at: more hardly move it
MOST_NUMBERS = 2**24  # distances at a time


@final
class IndexSampledSoftmax(Head):
    r"""A softmax whose normaliser is estimated, while training, from classes that an index over its rows finds likely.

    .. math:: \ell(x, y) = -\log \frac{\exp z_y}{\hat Z}, \qquad
        \hat Z = \exp z_y + \sum_{s \in S(x) \cup U} [s \ne y] \frac{\exp z_s}{E_s(x)}, \qquad
        E_c(x) = K \frac{P(\kappa_c \mid x)}{|\kappa_c|} + \frac{U}{C}, \qquad
        P(\kappa \mid x) \propto |\kappa| \exp(m_\kappa \cdot x), \qquad z = W x + b

    The rows of :math:`W` lie in cells that k-means finds, :math:`\kappa_c` is the cell of class c, and
    :math:`m_\kappa` the mean of a cell's rows. K classes are drawn for each example: a cell by the logit of its mean,
    then any class in it. U classes are drawn uniformly for the whole batch. :math:`E_c` is how often class c comes, so
    that :math:`\hat Z` is right on average, :math:`E \hat Z = \sum_j \exp z_j`, and no weight is above C / U. Draws are
    spread out: they come from equal parts of each distribution. Those of the target itself are left out. The chances
    are taken for constants, without a gradient. In evaluation the loss is the negative log-likelihood, and `log_prob`
    is that of the plain softmax.

    Call `refresh` once an epoch and after loading a checkpoint: it makes the index from the rows as they are. Until the
    first `refresh` all classes are equally likely. An old index makes the estimate vary more and leaves it right on
    average. `state_dict` does not hold the index. With `torch.utils.checkpoint`, which computes the loss a second time
    in the backward pass, call `refresh` after that pass.

    Args:
        in_features: size of a feature vector, D.
        num_classes: number of classes, C, at least 2.
        num_samples: K, how many classes the index draws for each example.
        num_uniform: U, how many classes are drawn uniformly for the whole batch.
        num_cells: M, how many cells the index has. By default the square root of C, rounded up.
        bias: whether the linear layer has a bias.
        sparse: whether the training loss's gradients of `weight` and `bias` are sparse tensors with the drawn rows
            alone, as in `torch.nn.Embedding`; take `softmaxes.optim.for_model` as the optimiser.
            Clip them with `softmaxes.optim.clip_grad_norm_`.
        device: where the parameters are made.
        dtype: dtype of the parameters.

    Shape:
        - input: :math:`(*, D)`
        - target: :math:`(*)`, int64
        - loss: :math:`(*)`; log_prob: :math:`(*, C)`

    Attributes:
        weight: :math:`W`, (C, D), drawn as in `torch.nn.Linear`.
        bias: :math:`b`, (C,), or none.

    Cost:
        Parameters CD + C. Training loss O(N(M + K + U)D) time, O(N(M + KD + U)) memory; with ``sparse`` its gradient
        too, else that is dense, O(CD). `refresh` O(CMD) time. In evaluation loss,
        log_prob and top-k O(NCD) time, O(NC) memory.

    Example:
        >>> import torch
        >>> from softmaxes import IndexSampledSoftmax
        >>> head = IndexSampledSoftmax(8, 10_000, num_samples=16)
        >>> features, target = torch.randn(4, 8), torch.tensor([0, 3, 9_999, 3])
        >>> head(features, target).shape
        torch.Size([4])
        >>> head.refresh()
        >>> head.log_prob(features).shape
        torch.Size([4, 10000])

    Reference:
        J. Chen, D. Lian, B. Jin, X. Huang, K. Zheng, E. Chen. Fast variational autoencoder with inverted multi-index
        for collaborative filtering. 2022 (draws from cells of the rows).
        E. Veach, L. Guibas. Optimally combining sampling techniques for Monte Carlo rendering. 1995 (the weights of
        draws from two distributions).
    """

    loss_is_nll: ClassVar[bool] = False

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        num_samples: int,
        num_uniform: int = 256,
        num_cells: int | None = None,
        bias: bool = True,
        sparse: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(in_features, num_classes)
        self.num_samples = self._at_least("num_samples", num_samples, 1)
        self.num_uniform = self._at_least("num_uniform", num_uniform, 1)
        self.num_cells = None if num_cells is None else self._at_least("num_cells", num_cells, 1)
        if self.num_cells is not None and self.num_cells > self.num_classes:
            raise ValueError(
                f"IndexSampledSoftmax: expected num_cells to be at most {self.num_classes}, as there are classes, got "
                f"{self.num_cells}."
            )
        self.sparse = sparse
        self.weight, self.bias = linear_parameters(self.num_classes, self.in_features, bias, device, dtype)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the linear layer as `torch.nn.Linear` does; all classes are equally likely to be drawn from now on."""
        super().reset_parameters()
        self._forget()

    def refresh(self) -> None:
        """Make the index anew, from the rows as they are now.

        Cost:
            O(CMD) time for C classes in M cells.

        Example:
            >>> import torch
            >>> from softmaxes import IndexSampledSoftmax
            >>> head = IndexSampledSoftmax(8, 100, num_samples=4)
            >>> before = head.log_prob(torch.ones(8))
            >>> head.refresh()
            >>> torch.equal(head.log_prob(torch.ones(8)), before)
            True
        """
        if self.weight.is_meta:
            return
        # Made in inference mode it could never be trained with; in half precision it would be a worse one.
        with torch.inference_mode(False), torch.no_grad(), torch.autocast(self.weight.device.type, enabled=False):
            rows = widen(self.weight.detach().clone())
            column = rows.new_zeros(len(rows)) if self.bias is None else widen(self.bias.detach().clone())
            rows = torch.cat([rows, column.unsqueeze(1)], dim=1)
            # A class that is ruled out by a bias of minus infinity, or is broken, may lie anywhere.
            rows = rows.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)
            self._index = clustered(rows, self._cells())

    def _forget(self) -> None:
        """Begin with an index that knows nothing: cells of neighbouring classes, all means zero."""
        with torch.inference_mode(False), torch.no_grad():
            device, cells = self.weight.device, self._cells()
            cell = torch.arange(self.num_classes, device=device) * cells // self.num_classes
            zero = torch.zeros((), dtype=widen(self.weight[:0]).dtype, device=device)
            self._index = index_of(zero.expand(self.num_classes, self.in_features + 1), cell, cells)

    def _cells(self) -> int:
        return math.ceil(math.sqrt(self.num_classes)) if self.num_cells is None else self.num_cells

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        before = self.weight.device
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        if "meta" in (before.type, self.weight.device.type):
            self._forget()  # what was there had no content
        else:
            self._index = Index(*(table.to(self.weight.device) for table in self._index))
        return self

    def _load_from_state_dict(self, *given: Any) -> None:
        super()._load_from_state_dict(*given)
        self._forget()

    def _loss(self, input: Tensor, target: Tensor) -> Tensor:
        if not self.training:
            return -self._target_log_prob(input, target)
        drawn, shared, log_expected = self._draw(input.detach())
        own_and_drawn = torch.cat([target.unsqueeze(1), drawn], dim=1)
        logits = row_logits(input, own_and_drawn, self.weight, self.bias, self.sparse)  # (N, 1 + K)
        any_other = row_logits(input, shared, self.weight, self.bias, self.sparse)  # (N, U)
        own, others = logits[:, :1], torch.cat([logits[:, 1:], any_other], dim=1)
        hit = torch.cat([drawn == target.unsqueeze(1), shared == target.unsqueeze(1)], dim=1)
        others = (others - log_expected.to(others.dtype)).masked_fill(hit, -torch.inf)
        return torch.logsumexp(torch.cat([own, others], dim=1), dim=1) - own.squeeze(1)

    @torch.no_grad()
    def _draw(self, input: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Classes for each example, (N, K), classes for all, (U,), and the log of how often each comes, (N, K + U)."""
        index = Index(*(table.to(input.device) for table in self._index))  # of a replica
        rows, classes = len(input), self.num_classes
        size = index.size.double()
        mean = index.mean.to(widen(input[:0]).dtype)
        score = linear_logits(widen(input), mean[:, :-1], mean[:, -1])
        log_cell = (score.double() + size.log()).log_softmax(1)  # (N, M)
        upper = log_cell.exp().cumsum(1)
        place = torch.arange(self.num_samples, device=input.device)
        place = (place + torch.rand(rows, self.num_samples, device=input.device, dtype=torch.double)) / self.num_samples
        place = place * upper[:, -1:]
        cell = torch.searchsorted(upper, place, right=True).clamp(max=len(size) - 1)  # (N, K)
        lower = torch.nn.functional.pad(upper, (1, 0)).gather(1, cell)
        share = (place - lower) / (upper.gather(1, cell) - lower)
        offset = (share * size[cell]).long().minimum(index.size[cell] - 1).clamp(min=0)
        drawn = index.order[index.first[cell] + offset]
        evenly = torch.arange(self.num_uniform, device=input.device)
        evenly = evenly + torch.rand(self.num_uniform, device=input.device, dtype=torch.double)
        shared = (evenly * (classes / self.num_uniform)).long().clamp(max=classes - 1)  # (U,)
        cells = torch.cat([cell, index.cell[shared].expand(rows, -1)], dim=1)
        by_index = log_cell.gather(1, cells) - size.log()[cells] + math.log(self.num_samples)
        by_chance = torch.full_like(by_index, math.log(self.num_uniform / classes))
        return drawn, shared, torch.logaddexp(by_index, by_chance)

    def _log_prob(self, input: Tensor) -> Tensor:
        return torch.log_softmax(linear_logits(input, self.weight, self.bias), dim=1)


class Index(NamedTuple):
    """Classes in cells."""

    mean: Tensor  # (M, D + 1) of a cell's rows, the bias their last column
    cell: Tensor  # (C,) of each class
    order: Tensor  # (C,) all classes, by cell
    first: Tensor  # (M,) where a cell begins in `order`
    size: Tensor  # (M,) classes of a cell, at least one


def index_of(rows: Tensor, cell: Tensor, cells: int) -> Index:
    """The index of rows, (C, D + 1), whose cells are known, (C,); none of the cells is empty."""
    size = torch.zeros(cells, dtype=torch.long, device=rows.device).index_add_(0, cell, torch.ones_like(cell))
    mean = rows.new_zeros(cells, rows.shape[1]).index_add_(0, cell, rows) / size.unsqueeze(1)
    return Index(mean, cell, cell.argsort(stable=True), size.cumsum(0) - size, size)


def clustered(rows: Tensor, cells: int) -> Index:
    """Cells by k-means of some rows, which are chosen by the same draw always: (C, D + 1) -> at most M cells."""
    chosen = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0), device="cpu")[: POINTS * cells]
    some = rows[chosen.to(rows.device)]
    mean = some[:cells]
    for _ in range(PASSES):
        cell, away = _nearest(some, mean)
        size = torch.bincount(cell, minlength=cells)
        mean = torch.zeros_like(mean).index_add_(0, cell, some) / size.clamp(min=1).unsqueeze(1)
        empty = (size == 0).nonzero().squeeze(1)
        if len(empty):  # each takes one of the rows that are farthest away from their mean
            mean[empty] = some[away.topk(len(empty)).indices]
    cell, _ = _nearest(rows, mean)
    kept = torch.bincount(cell, minlength=cells) > 0  # rows that are equal may leave some without any
    return index_of(rows, (kept.cumsum(0) - 1)[cell], int(kept.sum()))


def _nearest(rows: Tensor, mean: Tensor) -> tuple[Tensor, Tensor]:
    """The nearest mean of each row, and the square of how far it is: (C, D), (M, D) -> (C,), (C,)."""
    half = mean.square().sum(1) / 2
    parts = torch.split(rows, max(1, MOST_NUMBERS // len(mean)))
    found = [torch.max(part @ mean.t() - half, dim=1) for part in parts]
    best = torch.cat([one.values for one in found])
    return torch.cat([one.indices for one in found]), rows.square().sum(1) - 2 * best
