"""Adaptive softmax whose rows are split over ranks, those of the shortlist and those of every cluster."""

import itertools
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from softmaxes.heads.adaptive import AdaptiveSoftmax
from softmaxes.layers import linear_logits
from softmaxes.sharded.head import Slice, SlicedHead, at, blocks, total_of, with_parts
from softmaxes.sharded.ranks import Batch, Ranks


class ShardedAdaptive(SlicedHead):
    """`AdaptiveSoftmax` over ranks: each has a part of the rows of every layer. The projections are on all ranks."""

    loss_is_nll: ClassVar[bool] = True
    local: AdaptiveSoftmax

    def __init__(self, head: AdaptiveSoftmax, ranks: Ranks, average: bool, device: torch.device) -> None:
        super().__init__(head, ranks, average)
        ends = (*head.cutoffs, head.num_classes)
        self.parts = {"head": Slice.all_of(ends[0] + len(head.cutoffs), ranks.size)}
        for cluster, (start, end) in enumerate(itertools.pairwise(ends)):
            self.parts[f"tail.{cluster}.1"] = Slice.all_of(end - start, ranks.size)
        fresh = head.head.weight.is_meta
        own = {
            name: parts[ranks.rank] for name, _ in head.named_parameters() if (parts := self.slices(name)) is not None
        }
        self.local = with_parts(head, own, device, filled=not fresh)
        self.local.structure.follow(lambda table: torch.empty_like(table, device=device))
        if fresh:
            self.reset_parameters()

    @property
    def classes(self) -> Tensor:
        """The classes that this rank has, rising."""
        return self._by_layer().sort().values

    def _by_layer(self) -> Tensor:
        """The classes that this rank has: of the shortlist, then of every cluster."""
        order, ends = self.local.order, (*self.local.cutoffs, self.num_classes)
        first, end = self.parts["head"][self.ranks.rank]
        classes = [order[first : min(end, ends[0])]]
        for cluster, start in enumerate(ends[:-1]):
            first, end = self.parts[f"tail.{cluster}.1"][self.ranks.rank]
            classes.append(order[start + first : start + end])
        return torch.cat(classes)

    def slices(self, name: str) -> list[Slice] | None:
        """All but the projections have parts."""
        return self.parts.get(name.rpartition(".")[0])

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw every layer anew, as `torch.nn.Linear` does; it does not depend on how many ranks there are."""
        device, dtype = self.local.head.weight.device, self.local.head.weight.dtype
        for layer, module in self.local.named_modules():
            if not isinstance(module, nn.Linear):
                continue
            rows = len(module.weight)
            parts = self.parts.get(layer)
            part, rows = (Slice(0, rows), rows) if parts is None else (parts[self.ranks.rank], parts[-1].end)
            with self.ranks.seeded(device) as seed:
                for start, stop, low, high in blocks(part, rows):
                    torch.manual_seed(seed + start)
                    bias = module.bias is not None
                    block = nn.Linear(module.in_features, stop - start, bias=bias, device=device, dtype=dtype)
                    for name, drawn in block.named_parameters():
                        own = module.get_parameter(name)
                        own[low - part.first : high - part.first] = drawn[low - start : high - start]

    def _loss(self, input: Tensor, target: Tensor) -> Tensor:
        nll: Tensor = -self._target_log_prob(input, target)
        return nll

    def _target_log_prob(self, input: Tensor, target: Tensor) -> Tensor:
        batch = self._meet(input)
        some, rank = batch.gather(input), self.local.rank[batch.gather(target)]
        cluster = self.local._cluster(rank)
        shortlist = self.local.cutoffs[0] if self.local.cutoffs else self.num_classes
        first = self._first(some)
        column = torch.where(cluster == 0, rank, shortlist + cluster - 1)
        within = first.new_full((len(rank),), 0.0 if self.ranks.rank == 0 else -torch.inf)
        own = first.new_zeros(len(rank))
        for number, start in enumerate(self.local.cutoffs):
            rows = (cluster == number + 1).nonzero().squeeze(1)
            logits = self._within(number, some[rows])
            within = within.index_copy(0, rows, logits.logsumexp(1))
            own = own.index_copy(0, rows, self._at(f"tail.{number}.1", logits, rank[rows] - start))
        parts = torch.stack([first.logsumexp(1), within, self._at("head", first, column) + own], dim=1)
        total, within, own = batch.of_all_ranks(parts).unbind(2)
        return own.sum(1) - total_of(total) - within.logsumexp(1)

    def _known(self, batch: Batch, input: Tensor) -> Tensor:
        some = batch.gather(input)
        first = self._first(some)
        clusters = range(len(self.local.cutoffs))
        shortlist = self.local.cutoffs[0] if self.local.cutoffs else self.num_classes
        within = [self._within(number, some) for number in clusters]
        named = [
            self._at("head", first, torch.full((len(some),), shortlist + number, device=first.device))
            for number in clusters
        ]
        totals = [logits.logsumexp(1) for logits in (first, *within)]
        parts = batch.of_all_ranks(torch.stack([*totals, *named], dim=1))
        total = total_of(parts[:, :, : len(totals)])
        less = torch.cat([total[:, :1], total[:, 1:] + total[:, :1] - parts[:, :, len(totals) :].sum(1)], dim=1)
        less = batch.gather(less)  # what is taken from the logits of the shortlist, and of each cluster
        own, end = self.parts["head"][self.ranks.rank]
        logits = [first[:, : max(0, min(end, shortlist) - own)], *within]
        known = torch.cat([part - less[:, [number]] for number, part in enumerate(logits)], dim=1)
        return known[:, self._by_layer().argsort()]

    def _first(self, some: Tensor) -> Tensor:
        """Logits of this rank's part of the shortlist and the clusters."""
        return linear_logits(some, self.local.head.weight, self.local.head.bias)

    def _within(self, cluster: int, some: Tensor) -> Tensor:
        """Logits of this rank's part of a cluster."""
        layers: Any = self.local.tail[cluster]
        return linear_logits(F.linear(some, self.ranks.replicated(layers[0].weight)), layers[1].weight, None)

    def _at(self, layer: str, logits: Tensor, column: Tensor) -> Tensor:
        """The logits at some columns of a layer, 0 where they are not this rank's: (N, K'), (N,) -> (N,)."""
        return at(logits, column, self.parts[layer][self.ranks.rank])
