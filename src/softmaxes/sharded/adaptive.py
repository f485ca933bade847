"""Adaptive softmax whose rows are split over ranks, those of the shortlist and those of every cluster."""

import copy
import itertools
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from softmaxes.heads.adaptive import AdaptiveSoftmax
from softmaxes.layers import linear_logits
from softmaxes.sharded.head import ShardedHead, Slice, total_of
from softmaxes.sharded.ranks import Batch, Ranks


class ShardedAdaptive(ShardedHead):
    """`AdaptiveSoftmax` over ranks: each has a part of the rows of every layer. The projections are on all ranks."""

    loss_is_nll: ClassVar[bool] = True
    local: AdaptiveSoftmax

    def __init__(self, head: AdaptiveSoftmax, ranks: Ranks, average: bool, device: torch.device) -> None:
        super().__init__(head, ranks, average)
        ends = (*head.cutoffs, head.num_classes)
        fresh = head.head.weight.is_meta
        if fresh:
            head = copy.deepcopy(head).to_empty(device=device)
            with torch.random.fork_rng([device] if device.type == "cuda" else []):
                torch.manual_seed(ranks.seed(device))
                head.reset_parameters()
        self.parts = {"head": Slice.all_of(ends[0] + len(head.cutoffs), ranks.size)}
        for cluster, (start, end) in enumerate(itertools.pairwise(ends)):
            self.parts[f"tail.{cluster}.1"] = Slice.all_of(end - start, ranks.size)
        instead: dict[int, object] = {}
        for name, old in head.named_parameters():
            layer = name.rpartition(".")[0]
            part = self.parts[layer][ranks.rank] if layer in self.parts else Slice(0, len(old))
            instead[id(old)] = nn.Parameter(old.detach()[part.first : part.end].clone().to(device), old.requires_grad)
        self.local = copy.deepcopy(head, instead).to(device)

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

    def is_split(self, name: str) -> bool:
        """All but the projections are."""
        return name.removeprefix("local.").rpartition(".")[0] in self.parts

    def stored(self, name: str, tensor: Tensor) -> dict[str, Tensor]:
        """Every layer's rows as a part of all its rows, by the plain head's name."""
        plain = name.removeprefix("local.")
        parts = self.parts.get(plain.rpartition(".")[0])
        if parts is None:
            return {plain: tensor}
        return {plain: parts[self.ranks.rank].whole(tensor, parts[-1].end, self.ranks)}

    def restored(self, name: str, own: Tensor, saved: dict[str, Any]) -> Tensor | None:
        """As `ShardedHead.restored`, from a plain head's checkpoint too."""
        plain = name.removeprefix("local.")
        parts, found = self.parts.get(plain.rpartition(".")[0]), saved.get(plain)
        if parts is not None and type(found) is Tensor and len(found) == parts[-1].end:
            part = parts[self.ranks.rank]
            return saved.pop(plain)[part.first : part.end]  # type: ignore[no-any-return]
        return super().restored(name, own, saved)

    def reset_parameters(self) -> None:
        """Draw every layer anew, as `AdaptiveSoftmax` does; all ranks draw all rows."""
        device = self.local.head.weight.device
        whole = AdaptiveSoftmax(
            self.in_features, self.local.counts, self.local.cutoffs, self.local.div_value, self.local.head_bias, "meta"
        )
        fresh = ShardedAdaptive(whole.to(self.local.head.weight.dtype), self.ranks, self.average, device)
        with torch.no_grad():
            for own, drawn in zip(self.local.parameters(), fresh.local.parameters(), strict=True):
                own.copy_(drawn)

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
        first, end = self.parts[layer][self.ranks.rank]
        if first == end:
            return logits.sum(1)
        mine = (column >= first) & (column < end)
        return logits.gather(1, (column - first).where(mine, 0).unsqueeze(1)).squeeze(1).where(mine, 0.0)
