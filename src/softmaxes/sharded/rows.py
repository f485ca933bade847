"""Heads with a row for each class, whose rows are split over ranks: flat, cosine, with noise, and sampled ones."""

from abc import abstractmethod
from typing import ClassVar, Generic, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from softmaxes.head import Head
from softmaxes.heads.cosine import CosineSoftmax
from softmaxes.heads.flat import Softmax
from softmaxes.heads.gumbel import GumbelSoftmax
from softmaxes.heads.nce import NCE
from softmaxes.heads.negative_sampling import NegativeSampling
from softmaxes.heads.sampled import SampledSoftmax
from softmaxes.layers import highest, in_order_of, linear_logits, log_sigmoid, row_logits
from softmaxes.sampler import Sampler, columns, log_expected
from softmaxes.sharded.head import Slice, SlicedHead, at, blocks, total_of, with_parts
from softmaxes.sharded.ranks import Batch, Ranks

Kind = TypeVar("Kind", bound=Head)
Sampling = TypeVar("Sampling", SampledSoftmax, NCE, NegativeSampling)


class ShardedRows(SlicedHead, Generic[Kind]):
    """A head whose logits are those of its rows: rank r has the r-th part of them."""

    local: Kind

    def __init__(self, head: Kind, ranks: Ranks, average: bool, device: torch.device) -> None:
        super().__init__(head, ranks, average)
        self.parts = Slice.all_of(head.num_classes, ranks.size)
        self.slice = self.parts[ranks.rank]
        fresh = next(head.parameters()).is_meta
        self.local = with_parts(head, dict.fromkeys(head.class_rows, self.slice), device, filled=not fresh)
        sampler = getattr(head, "sampler", None)
        if isinstance(sampler, Sampler):
            self.local.sampler = SlicedSampler(sampler, self.slice, device)
        if fresh:
            self.reset_parameters()

    @property
    def classes(self) -> Tensor:
        """The classes that this rank has: a range."""
        return torch.arange(self.slice.first, self.slice.end, device=self.weight.device)

    @property
    def weight(self) -> Tensor:
        """This rank's rows, (C', D)."""
        weight: Tensor = self.local.weight  # type: ignore[assignment]
        return weight

    @property
    def bias(self) -> Tensor | None:
        """This rank's biases, (C',), or none."""
        return getattr(self.local, "bias", None)

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw the first weights anew; they do not depend on how many ranks there are."""
        device, head, first = self.weight.device, self.local, self.slice.first
        own = head.state_dict(keep_vars=True)
        with self.ranks.seeded(device) as seed:
            for start, stop, low, high in blocks(self.slice, self.num_classes) or [(0, 1, 0, 0)]:  # of no rows the rest
                block = with_parts(head, dict.fromkeys(head.class_rows, Slice(start, stop)), device, filled=False)
                torch.manual_seed(seed + start)
                block.reset_parameters()
                for name, drawn in block.state_dict(keep_vars=True).items():
                    if name not in head.class_rows:
                        own[name].copy_(drawn)
                    elif high > low:
                        own[name][low - first : high - first] = drawn[low - start : high - start]

    def slices(self, name: str) -> list[Slice] | None:
        """The rows have parts."""
        return self.parts if name in self.local.class_rows else None

    def _logits(self, input: Tensor) -> Tensor:
        """The logits of this rank's classes: (N, D) -> (N, C')."""
        return linear_logits(input, self.weight, self.bias)

    def _log_weight(self, logits: Tensor) -> Tensor:
        """The logarithm of what is normalised."""
        return logits

    def _normalised(self, logits: Tensor) -> Tensor:
        """Log-probabilities of all classes: (n, C) -> (n, C)."""
        return torch.log_softmax(logits, dim=1)

    def _loss(self, input: Tensor, target: Tensor) -> Tensor:
        batch = self._meet(input)
        loss = self._training_loss if self.training else self._nll
        return loss(batch, batch.gather(input), batch.gather(target))

    def _target_log_prob(self, input: Tensor, target: Tensor) -> Tensor:
        batch = self._meet(input)
        return -self._nll(batch, batch.gather(input), batch.gather(target))

    def _training_loss(self, batch: Batch, some: Tensor, target: Tensor) -> Tensor:
        """The loss in training of this rank's examples, by those of all: (N, D), (N,) -> (n,)."""
        return self._nll(batch, some, target)

    def _nll(self, batch: Batch, some: Tensor, target: Tensor) -> Tensor:
        """The negative log-likelihood of this rank's examples, by those of all: (N, D), (N,) -> (n,)."""
        return self._of_weights(batch, self._log_weight(self._logits(some)), target)

    def _of_weights(self, batch: Batch, log_weight: Tensor, target: Tensor) -> Tensor:
        """The same by the logarithms of what is normalised: (N, C'), (N,) -> (n,)."""
        parts = torch.stack([log_weight.logsumexp(1), at(log_weight, target, self.slice)], dim=1)
        total, own = batch.of_all_ranks(parts).unbind(2)
        return total_of(total) - own.sum(1)

    def _log_prob(self, input: Tensor) -> Tensor:
        batch = self._meet(input)
        logits = self._logits(batch.gather(input))
        return self._normalised(batch.give_back(logits, [one.size for one in self.parts]))

    def _known(self, batch: Batch, input: Tensor) -> Tensor:
        weight = self._log_weight(self._logits(batch.gather(input)))
        return weight - batch.gather(_log_total(batch, weight)).unsqueeze(1)

    def _topk(self, input: Tensor, k: int) -> tuple[Tensor, Tensor]:
        batch = self._meet(input)
        logits = self._logits(batch.gather(input))
        widths = [min(k, one.size) for one in self.parts]
        best, place = highest(logits, widths[self.ranks.rank]) if self.slice.size else (logits, logits.long())
        log_total = _log_total(batch, self._log_weight(logits))
        # The ranks' classes rise, so that of equal ones the lower class is in the lower column.
        best, column = highest(batch.give_back(best, widths), k)
        classes = batch.give_back(place + self.slice.first, widths).gather(1, column)
        return self._log_weight(best) - log_total.unsqueeze(1), classes


class ShardedSoftmax(ShardedRows[Softmax]):
    """`Softmax` over ranks."""

    loss_is_nll: ClassVar[bool] = True


class ShardedCosine(ShardedRows[CosineSoftmax]):
    """`CosineSoftmax` over ranks, with its margins."""

    loss_is_nll: ClassVar[bool] = False

    def _training_loss(self, batch: Batch, some: Tensor, target: Tensor) -> Tensor:
        cosine = self.local._cosine(some, self.weight)
        rows = ((target >= self.slice.first) & (target < self.slice.end)).nonzero().squeeze(1)
        place = rows, target[rows] - self.slice.first
        cosine = cosine.index_put(place, self.local._less_margin(cosine[place]))
        return self._of_weights(batch, self._scaled(cosine), target)

    def _logits(self, input: Tensor) -> Tensor:
        return self._scaled(self.local._cosine(input, self.weight))

    def _scaled(self, cosine: Tensor) -> Tensor:
        log_scale = self.local.log_scale
        return self.local._scaled(cosine, None if log_scale is None else self.ranks.replicated(log_scale))


class ShardedGumbel(ShardedRows[GumbelSoftmax]):
    """`GumbelSoftmax` over ranks. The noise depends on the first rank's random state, and not on how many there are."""

    loss_is_nll: ClassVar[bool] = False

    def _training_loss(self, batch: Batch, some: Tensor, target: Tensor) -> Tensor:
        head, samples = self.local, self.local.num_samples
        temperature = head._temperature_after(head._take_step())
        logits = self._logits(some).expand(samples, -1, -1)  # (S, N, C')
        perturbed = logits + head.scale * self._noise(logits)
        own = at(perturbed.flatten(0, 1), target.repeat(samples), self.slice).view(samples, -1)
        least = perturbed.new_full((*perturbed.shape[:2], 1), -torch.inf)
        best = torch.cat([perturbed.detach(), least], dim=2).amax(2)
        parts = torch.cat([(perturbed / temperature).logsumexp(2), own, best]).t()  # (N, 3 S)
        every = batch.of_all_ranks(parts).view(batch.own, self.ranks.size, 3, samples)
        total, own, best = every.unbind(2)  # (n, ranks, S) each
        own = own.sum(1)
        soft = own / temperature - total.logsumexp(1)
        return head._of_samples(soft.t(), (own >= best.amax(1)).t() if head.straight_through else None)

    def _noise(self, logits: Tensor) -> Tensor:
        """Noise for this rank's classes, (S, N, C'); a class has the same on whichever rank it is."""
        samples, examples, _ = logits.shape
        seed = self.ranks.seed(logits.device)
        generator = torch.Generator(logits.device)
        parts = [logits.new_empty(samples, examples, 0)]
        for start, stop, low, high in blocks(self.slice, self.num_classes):
            like = logits.new_empty(stop - start, samples, examples)
            noise = self.local._noise_like(like, generator.manual_seed(seed + start))
            parts.append(noise[low - start : high - start].permute(1, 2, 0))
        return torch.cat(parts, dim=2)


class ShardedSampling(ShardedRows[Sampling]):
    """A head that draws classes while training: all ranks draw the same ones, and each has the rows of some of them."""

    loss_is_nll: ClassVar[bool] = False

    def _training_loss(self, batch: Batch, some: Tensor, target: Tensor) -> Tensor:
        drawn, row = self._draw(), target - self.slice.first
        mine = (row >= 0) & (row < self.slice.size)
        place = row.where(mine, 0)
        weight, bias, sparse = self.weight, self.bias, self.local.sparse
        if self.slice.size:
            own = row_logits(some, place.unsqueeze(1), weight, bias, sparse).squeeze(1)
            others = self._less_expected(row_logits(some, drawn, weight, bias, sparse), drawn)
        else:
            own = some[:, :0].sum(1) + weight.sum()  # of no rows; so that all ranks have a gradient
            others = own.unsqueeze(1)[:, :0]
        own = self._own_logit(own, place).where(mine, 0.0)
        parts = torch.stack([own, self._of_others(others, drawn == row.unsqueeze(1))], dim=1)
        own, of_others = batch.of_all_ranks(parts).unbind(2)
        return self._of_all(own.sum(1), of_others)

    def _draw(self) -> Tensor:
        """The rows here of the classes that were drawn, (K',)."""
        device = self.weight.device
        generator = torch.Generator(device).manual_seed(self.ranks.seed(device))
        column, coin = columns(self.num_classes, self.local.num_samples, device, generator)
        known = self._sampler.drawn(column - self.slice.first, coin)
        drawn = self.ranks.sum(known) - self.slice.first
        return drawn[(drawn >= 0) & (drawn < self.slice.size)]

    @property
    def _sampler(self) -> "SlicedSampler":
        return self.local.get_submodule("sampler")  # type: ignore[return-value]

    def _less_expected(self, logits: Tensor, rows: Tensor) -> Tensor:
        """Logits less the logarithm of how often their classes are expected to be drawn."""
        return logits - self._sampler.log_expected(rows, self.local.num_samples).to(logits.dtype)

    def _own_logit(self, logit: Tensor, row: Tensor) -> Tensor:
        """What the loss has of the target's logit, (N,); anything if it is not here."""
        return self._less_expected(logit, row) if self.slice.size else logit

    @abstractmethod
    def _of_others(self, others: Tensor, hit: Tensor) -> Tensor:
        """What the loss has of the draws that are here, (N, K'), some of which may be the target itself: (N,)."""

    @abstractmethod
    def _of_all(self, own: Tensor, of_others: Tensor) -> Tensor:
        """The loss by the target's logit, and what every rank has of the draws: (n,), (n, ranks) -> (n,)."""


class ShardedSampled(ShardedSampling[SampledSoftmax]):
    """`SampledSoftmax` over ranks."""

    def _own_logit(self, logit: Tensor, row: Tensor) -> Tensor:
        return logit

    def _of_others(self, others: Tensor, hit: Tensor) -> Tensor:
        return others.masked_fill(hit, -torch.inf).logsumexp(1)

    def _of_all(self, own: Tensor, of_others: Tensor) -> Tensor:
        return torch.cat([own.unsqueeze(1), of_others], dim=1).logsumexp(1) - own


class ShardedNCE(ShardedSampling[NCE]):
    """`NCE` over ranks."""

    def _of_others(self, others: Tensor, hit: Tensor) -> Tensor:
        return F.softplus(others).sum(1)

    def _of_all(self, own: Tensor, of_others: Tensor) -> Tensor:
        return F.softplus(-own) + of_others.sum(1)


class ShardedNegativeSampling(ShardedSampling[NegativeSampling]):
    """`NegativeSampling` over ranks."""

    def _log_weight(self, logits: Tensor) -> Tensor:
        return log_sigmoid(logits)

    def _normalised(self, logits: Tensor) -> Tensor:
        return in_order_of(logits, torch.log_softmax(log_sigmoid(logits), dim=1))

    def _of_others(self, others: Tensor, hit: Tensor) -> Tensor:
        return F.softplus(others).masked_fill(hit, 0.0).sum(1)

    def _of_all(self, own: Tensor, of_others: Tensor) -> Tensor:
        return F.softplus(-own) + of_others.sum(1)


class SlicedSampler(nn.Module):
    """This rank's part of the tables of a `Sampler`."""

    threshold: Tensor
    alias: Tensor
    mass: Tensor

    def __init__(self, sampler: Sampler, part: Slice, device: torch.device) -> None:
        super().__init__()
        self.first = part.first
        tables = sampler.structure.on(torch.device("cpu"))
        for name, table in tables._asdict().items():
            self.register_buffer(name, table[part.first : part.end].clone().to(device), persistent=False)

    def drawn(self, column: Tensor, coin: Tensor) -> Tensor:
        """The classes that columns of this rank draw, 0 of the others': (K,), (K,) -> (K,)."""
        here = ((column >= 0) & (column < len(self.alias))).nonzero().squeeze(1)
        found, own = torch.zeros_like(column), column[here]
        found[here] = torch.where(coin[here] < self.threshold[own], own + self.first, self.alias[own])
        return found

    def log_expected(self, rows: Tensor, num_samples: int) -> Tensor:
        """As `Sampler.log_expected`, of this rank's rows."""
        return log_expected(self.mass[rows], num_samples)


def _log_total(batch: Batch, log_weight: Tensor) -> Tensor:
    """The logarithm of the sum over all classes, of this rank's examples: (N, C') -> (n,)."""
    return total_of(batch.of_all_ranks(log_weight.logsumexp(1, keepdim=True)).squeeze(2))
