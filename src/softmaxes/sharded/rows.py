"""Heads with a row for each class, whose rows are split over ranks: flat, cosine, with noise, and sampled ones."""

import copy
from abc import abstractmethod
from typing import Any, ClassVar, Generic, TypeVar

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
from softmaxes.layers import highest, in_order_of, linear_logits, linear_parameters, log_sigmoid, row_logits
from softmaxes.sampler import Sampler, columns, log_expected
from softmaxes.sharded.head import ShardedHead, Slice, total_of
from softmaxes.sharded.ranks import Batch, Ranks

Kind = TypeVar("Kind", bound=Head)
Sampling = TypeVar("Sampling", SampledSoftmax, NCE, NegativeSampling)
BLOCK = 1024  # rows whose numbers are drawn together, whatever rank they are on


class ShardedRows(ShardedHead, Generic[Kind]):
    """A head whose logits are those of its rows: rank r has the r-th part of them."""

    local: Kind

    def __init__(self, head: Kind, ranks: Ranks, average: bool, device: torch.device) -> None:
        super().__init__(head, ranks, average)
        self.slices = Slice.all_of(head.num_classes, ranks.size)
        self.slice = self.slices[ranks.rank]
        fresh = next(head.parameters()).is_meta
        self.local = _with_rows(head, None if fresh else self.slice, self.slice.size, device)
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
        device = self.weight.device
        seed = self.ranks.seed(device)
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            for start, stop, low, high in _blocks(self.slice, self.num_classes):
                block = _with_rows(self.local, None, stop - start, device)
                torch.manual_seed(seed + start)
                block.reset_parameters()
                drawn = block.state_dict(keep_vars=True)
                for name, own in self.local.state_dict(keep_vars=True).items():
                    if name not in self.local.class_rows:
                        own.copy_(drawn[name])
                    elif high > low:
                        first = self.slice.first
                        own[low - first : high - first] = drawn[name][low - start : high - start]

    def is_split(self, name: str) -> bool:
        """The rows are."""
        return name.removeprefix("local.") in self.local.class_rows

    def stored(self, name: str, tensor: Tensor) -> dict[str, Tensor]:
        """The rows as a part of all rows, by the plain head's name."""
        plain = name.removeprefix("local.")
        if self.is_split(name):
            return {plain: self.slice.whole(tensor, self.num_classes, self.ranks)}
        return {plain: tensor}

    def restored(self, name: str, own: Tensor, saved: dict[str, Any]) -> Tensor | None:
        """As `ShardedHead.restored`, from a plain head's checkpoint too."""
        plain = name.removeprefix("local.")
        found = saved.get(plain)
        if self.is_split(name) and type(found) is Tensor and len(found) == self.num_classes:
            return saved.pop(plain)[self.slice.first : self.slice.end]  # type: ignore[no-any-return]
        return super().restored(name, own, saved)

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
        return -self._target_log_prob(input, target)

    def _target_log_prob(self, input: Tensor, target: Tensor) -> Tensor:
        batch = self._meet(input)
        some, place, mine = self._everybodys(batch, input, target)
        return _log_share(batch, self._log_weight(self._logits(some)), place, mine)

    def _everybodys(self, batch: Batch, input: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The features of all ranks, (N, D), each target's row here, (N,), and whether it is here, (N,)."""
        some, place = batch.gather(input), batch.gather(target) - self.slice.first
        mine = (place >= 0) & (place < self.slice.size)
        return some, place.where(mine, 0), mine

    def _log_prob(self, input: Tensor) -> Tensor:
        batch = self._meet(input)
        logits = self._logits(batch.gather(input))
        return self._normalised(batch.give_back(logits, [one.size for one in self.slices]))

    def _known(self, batch: Batch, input: Tensor) -> Tensor:
        weight = self._log_weight(self._logits(batch.gather(input)))
        return weight - batch.gather(_log_total(batch, weight)).unsqueeze(1)

    def _topk(self, input: Tensor, k: int) -> tuple[Tensor, Tensor]:
        batch = self._meet(input)
        logits = self._logits(batch.gather(input))
        widths = [min(k, one.size) for one in self.slices]
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

    def _loss(self, input: Tensor, target: Tensor) -> Tensor:
        if not self.training:
            return -self._target_log_prob(input, target)
        batch = self._meet(input)
        some, place, mine = self._everybodys(batch, input, target)
        cosine = self.local._cosine(some, self.weight)
        if self.slice.size:
            own = cosine.gather(1, place.unsqueeze(1))
            own = self.local._less_margin(own).where(mine.unsqueeze(1), own)
            cosine = cosine.scatter(1, place.unsqueeze(1), own)
        return -_log_share(batch, self._scaled(cosine), place, mine)

    def _logits(self, input: Tensor) -> Tensor:
        return self._scaled(self.local._cosine(input, self.weight))

    def _scaled(self, cosine: Tensor) -> Tensor:
        log_scale = self.local.log_scale
        return self.local._scaled(cosine, None if log_scale is None else self.ranks.replicated(log_scale))


class ShardedGumbel(ShardedRows[GumbelSoftmax]):
    """`GumbelSoftmax` over ranks. The noise depends on the first rank's random state, and not on how many there are."""

    loss_is_nll: ClassVar[bool] = False

    def _loss(self, input: Tensor, target: Tensor) -> Tensor:
        if not self.training:
            return -self._target_log_prob(input, target)
        head, samples = self.local, self.local.num_samples
        temperature = head._temperature_after(head._take_step())
        batch = self._meet(input)
        some, place, mine = self._everybodys(batch, input, target)
        logits = self._logits(some).expand(samples, -1, -1)  # (S, N, C')
        perturbed = logits + head.scale * self._noise(logits)
        own = _at(perturbed.flatten(0, 1), place.repeat(samples), mine.repeat(samples)).view(samples, -1)
        least = perturbed.new_full((*perturbed.shape[:2], 1), -torch.inf)
        best = torch.cat([perturbed.detach(), least], dim=2).amax(2)
        parts = torch.cat([(perturbed / temperature).logsumexp(2), own, best]).t()  # (N, 3 S)
        total, own, best = (
            batch.of_all_ranks(parts).view(batch.own, self.ranks.size, 3, samples).unbind(2)
        )  # (n, ranks, S) each
        own = own.sum(1)
        soft = own / temperature - total.logsumexp(1)
        return head._of_samples(soft.t(), (own >= best.amax(1)).t() if head.straight_through else None)

    def _noise(self, logits: Tensor) -> Tensor:
        """Noise for this rank's classes, (S, N, C'); a class has the same on whichever rank it is."""
        samples, examples, _ = logits.shape
        seed = self.ranks.seed(logits.device)
        generator = torch.Generator(logits.device)
        parts = [logits.new_empty(samples, examples, 0)]
        for start, stop, low, high in _blocks(self.slice, self.num_classes):
            like = logits.new_empty(stop - start, samples, examples)
            noise = self.local._noise_like(like, generator.manual_seed(seed + start))
            parts.append(noise[low - start : high - start].permute(1, 2, 0))
        return torch.cat(parts, dim=2)


class ShardedSampling(ShardedRows[Sampling]):
    """A head that draws classes while training: all ranks draw the same ones, and each has the rows of some of them."""

    loss_is_nll: ClassVar[bool] = False

    def _loss(self, input: Tensor, target: Tensor) -> Tensor:
        if not self.training:
            return -self._target_log_prob(input, target)
        batch = self._meet(input)
        some, place, mine = self._everybodys(batch, input, target)
        drawn = self._draw()
        weight, bias, sparse = self.weight, self.bias, self.local.sparse
        if self.slice.size:
            own = row_logits(some, place.unsqueeze(1), weight, bias, sparse).squeeze(1)
            others = self._less_expected(row_logits(some, drawn, weight, bias, sparse), drawn)
        else:
            own = some[:, :0].sum(1) + weight.sum()  # of no rows; so that all ranks have a gradient
            others = own.unsqueeze(1)[:, :0]
        own = self._own_logit(own, place).where(mine, 0.0)
        parts = torch.stack([own, self._of_others(others, drawn == place.where(mine, -1).unsqueeze(1))], dim=1)
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


def _with_rows(head: Kind, part: Slice | None, rows: int, device: torch.device) -> Kind:
    """A copy of a head with some of its rows, or with as many that are not filled."""
    instead: dict[int, object] = {}
    for name, old in head.named_parameters():
        size = rows if name in head.class_rows else old.shape[0] if old.dim() else 1
        new, _ = linear_parameters(size, old[:1].numel() if old.dim() == 2 else 1, False, device, old.dtype)
        shape = (size, *old.shape[1:]) if old.dim() else ()
        data = new.data.view(shape)
        if part is not None:
            data.copy_(old.detach()[part.first : part.end] if name in head.class_rows else old.detach())
        instead[id(old)] = nn.Parameter(data, old.requires_grad)
    for buffer in head.buffers():
        if buffer.is_meta:
            instead[id(buffer)] = torch.zeros_like(buffer, device=device)
    if (sampler := head._modules.get("sampler")) is not None:
        instead[id(sampler)] = sampler
    return copy.deepcopy(head, instead)


def _blocks(part: Slice, rows: int) -> list[tuple[int, int, int, int]]:
    """Blocks of rows that a part has some of: where each begins and ends, and where what is of the part does."""
    starts = range(part.first - part.first % BLOCK, part.end, BLOCK) if part.size else [0]
    blocks = [(start, min(start + BLOCK, rows)) for start in starts]
    return [(start, stop, max(start, part.first), min(stop, part.end)) for start, stop in blocks]


def _at(logits: Tensor, place: Tensor, mine: Tensor) -> Tensor:
    """The logits at some places, 0 where they are not this rank's: (N, C'), (N,), (N,) -> (N,)."""
    if not logits.shape[1]:
        return logits.sum(1)
    return logits.gather(1, place.unsqueeze(1)).squeeze(1).where(mine, 0.0)


def _log_total(batch: Batch, log_weight: Tensor) -> Tensor:
    """The logarithm of the sum over all classes, of this rank's examples: (N, C') -> (n,)."""
    return total_of(batch.of_all_ranks(log_weight.logsumexp(1, keepdim=True)).squeeze(2))


def _log_share(batch: Batch, log_weight: Tensor, place: Tensor, mine: Tensor) -> Tensor:
    """The target's part of the sum over all classes, as a logarithm: (N, C'), (N,), (N,) -> (n,)."""
    parts = torch.stack([log_weight.logsumexp(1), _at(log_weight, place, mine)], dim=1)
    total, own = batch.of_all_ranks(parts).unbind(2)
    return own.sum(1) - total_of(total)
