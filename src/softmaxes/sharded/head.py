"""The contract of heads whose classes lie on several ranks."""

import copy
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, Shard

from softmaxes.head import Head
from softmaxes.large_pages import in_large_pages
from softmaxes.layers import highest, transformed
from softmaxes.sharded.ranks import Batch, Ranks

AnyHead = TypeVar("AnyHead", bound=Head)
BLOCK = 1024  # rows whose numbers are drawn together, whatever rank they are on


class Slice(NamedTuple):
    """Which rows a rank has: of parts of one size, the last ones smaller or empty, as DTensor has them."""

    first: int
    end: int

    @property
    def size(self) -> int:
        """How many."""
        return self.end - self.first

    @classmethod
    def all_of(cls, rows: int, ranks: int) -> list["Slice"]:
        """The parts of all ranks."""
        each = -(-rows // ranks)
        return [cls(min(rows, rank * each), min(rows, (rank + 1) * each)) for rank in range(ranks)]

    def whole(self, local: Tensor, rows: int, ranks: Ranks) -> Tensor:
        """This rank's rows as a part of all of them, (rows, ...): nothing is copied."""
        shape = torch.Size((rows, *local.shape[1:]))
        stride = torch.empty(shape, device="meta").stride()
        mesh = ranks.mesh(local.device)
        whole: Tensor = DTensor.from_local(local, mesh, [Shard(0)], run_check=False, shape=shape, stride=stride)
        return whole


class ShardedHead(Head):
    r"""A head whose rows lie on the ranks of a group; `softmaxes.sharded.shard` makes it.

    The public methods are those of `Head`. Every rank calls them, all in the same order, with its own part of the
    batch, of any size. Each has the results of its own part: an example's loss is the same on whichever rank it is.

    .. math:: p(c \mid x) = \frac{\exp z_c}{\sum_r \sum_{j \in \text{rank } r} \exp z_j}

    The gradient of a parameter is that of the sum over all ranks of what they call ``backward`` of. So where every rank
    takes ``loss.sum() / N`` with N the examples of all ranks, each rank's rows have the gradient of the mean over all
    examples. With ``average`` it is divided by the number of ranks, as `DistributedDataParallel` divides that of the
    trunk.

    Where one rank's arguments are refused, all ranks raise: that rank the error of `Head`, the others a RuntimeError
    which names it.

    Args:
        head: the head, whole or on the meta device.
        ranks: the ranks.
        average: whether gradients are divided by the number of ranks.

    Attributes:
        ranks: this process's rank, and how many there are.
        local: what this rank has of the head.
    """

    local: Any

    def __init__(self, head: Head, ranks: Ranks, average: bool) -> None:
        super().__init__(head.in_features, head.num_classes)
        self.ranks, self.average = ranks, average
        self._met = False
        self.register_state_dict_post_hook(_under_plain_names)  # type: ignore[no-untyped-call]
        self.register_load_state_dict_pre_hook(_under_own_names)  # type: ignore[no-untyped-call]

    # What follows is called by all ranks, or by none.

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """As `Head.forward`, of this rank's part of the batch."""
        with self._together():
            return super().forward(input, target)

    def log_prob(self, input: Tensor, local: bool = False) -> Tensor:
        """As `Head.log_prob`, of this rank's part of the batch, and all classes.

        Args:
            input: features, (*, D).
            local: whether to have those of this rank's classes alone, `classes`, for the examples of all ranks,
                (N, C'); nothing is then sent that grows with the number of classes.
        """
        with self._together():
            if not local:
                return super().log_prob(input)
            self._check_input(input)
            flat = input.reshape(-1, self.in_features)
            batch = self._meet(flat)
            return batch.leave(self._known(batch, flat))

    def target_log_prob(self, input: Tensor, target: Tensor) -> Tensor:
        """As `Head.target_log_prob`, of this rank's part of the batch."""
        with self._together():
            return super().target_log_prob(input, target)

    def predict(self, input: Tensor) -> Tensor:
        """As `Head.predict`, of this rank's part of the batch."""
        with self._together():
            return super().predict(input)

    def topk(self, input: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """As `Head.topk`, of this rank's part of the batch: exact, from the best of every rank."""
        with self._together():
            return super().topk(input, k)

    @property
    @abstractmethod
    def classes(self) -> Tensor:
        """The classes that this rank has, rising: those of ``log_prob(..., local=True)``, (C',)."""

    @abstractmethod
    def _known(self, batch: Batch, input: Tensor) -> Tensor:
        """Log-probabilities of this rank's classes for the examples of all ranks: (n, D) -> (N, C')."""

    def own_state(self) -> dict[str, Tensor]:
        """What this rank has, by its own names."""
        local = self.local
        return {} if local is None else {f"local.{name}": value for name, value in local.state_dict().items()}

    @abstractmethod
    def stored(self, name: str, tensor: Tensor) -> dict[str, Tensor]:
        """What a checkpoint has of a parameter or buffer of this rank: views, by the names that they have there.

        Args:
            name: of the parameter or buffer.
            tensor: it, or one of its shape, such as an optimiser's state of it.
        """

    @abstractmethod
    def is_split(self, name: str) -> bool:
        """Whether a parameter has rows of this rank alone; the others are the same on all ranks."""

    def restored(self, name: str, own: Tensor, saved: dict[str, Any]) -> Tensor | None:
        """A parameter or buffer of this rank out of a checkpoint's entries, or none if they lack it.

        Args:
            name: of the parameter or buffer.
            own: it.
            saved: what was saved, by name.
        """
        parts, known = [], self.stored(name, own)
        for entry in known:
            if entry not in saved:
                return None
            found = saved.pop(entry)
            parts.append(found.to_local() if isinstance(found, DTensor) else found)
        if all(part.data_ptr() == one.data_ptr() for part, one in zip(parts, known.values(), strict=True)):
            return own  # its own parts, or none
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _log_prob(self, input: Tensor) -> Tensor:
        batch = self._meet(input)
        widths = self._widths(input.device)
        classes = self.ranks.exchange(
            self.classes.repeat(self.ranks.size), [widths[self.ranks.rank]] * self.ranks.size, widths
        )
        return batch.give_back(self._known(batch, input), widths)[:, classes.argsort()]

    def _topk(self, input: Tensor, k: int) -> tuple[Tensor, Tensor]:
        batch = self._meet(input)
        known = self._known(batch, input)
        widths = [min(k, width) for width in self._widths(input.device)]
        some = widths[self.ranks.rank]
        best, place = highest(known, some) if some else (known, known.long())
        classes = batch.give_back(self.classes[place], widths)
        order = classes.argsort()  # of equal ones the lower class is then in the lower column
        best, column = highest(batch.give_back(best, widths).gather(1, order), k)
        return best, classes.gather(1, order).gather(1, column)

    def _widths(self, device: torch.device) -> list[int]:
        """How many classes each rank has."""
        own = torch.tensor([len(self.classes)], device=device)
        ones = [1] * self.ranks.size
        return self.ranks.exchange(own.repeat(self.ranks.size), ones, ones).tolist()

    def _predict(self, input: Tensor) -> Tensor:
        return self._topk(input, 1)[1].squeeze(1)

    def _meet(self, input: Tensor) -> Batch:
        """How many examples each rank has."""
        if transformed(input, *self.parameters()):
            raise RuntimeError(f"{type(self).__name__}: expected no torch.func transform of what ranks exchange.")
        return self._tell(len(input), input.requires_grad and torch.is_grad_enabled(), True, input.device)

    def _tell(self, examples: int, differentiated: bool, well: bool, device: torch.device) -> Batch:
        self._met = True
        told = torch.tensor([examples, differentiated, well], device=device)
        sizes = [3] * self.ranks.size
        rows = self.ranks.exchange(told.repeat(self.ranks.size), sizes, sizes).view(-1, 3).tolist()
        name = type(self).__name__
        for rank, (_, _, fine) in enumerate(rows):
            if not fine and well:
                raise RuntimeError(f"{name}: rank {rank} refused its arguments; its error says why.")
        if well and len({flag for _, flag, _ in rows}) > 1:
            raise RuntimeError(
                f"{name}: expected input to need a gradient on all ranks or on none, got it on "
                f"{[rank for rank, (_, flag, _) in enumerate(rows) if flag]} of {self.ranks.size} ranks."
            )
        return Batch(self.ranks, tuple(size for size, _, _ in rows), self.ranks.size if self.average else 1)

    @contextmanager
    def _together(self) -> Iterator[None]:
        """What is refused here before the ranks have met is told to the others, who would wait for ever."""
        self._met = False
        try:
            yield
        except (TypeError, ValueError):
            if not self._met:
                self._tell(0, False, False, next(self.parameters()).device)
            raise

    def extra_repr(self) -> str:
        """The sizes, and which rank this is."""
        return f"in_features={self.in_features}, num_classes={self.num_classes}, {self.ranks}"


class SlicedHead(ShardedHead):
    """A head some of whose parameters are split by rows, as DTensor splits them; the others are on all ranks."""

    @abstractmethod
    def slices(self, name: str) -> list[Slice] | None:
        """The ranks' parts of a parameter of the plain head; none of what all ranks have."""

    def is_split(self, name: str) -> bool:
        """Those that have parts are."""
        return self.slices(name.removeprefix("local.")) is not None

    def stored(self, name: str, tensor: Tensor) -> dict[str, Tensor]:
        """A part as a part of the whole, by the plain head's name."""
        plain = name.removeprefix("local.")
        parts = self.slices(plain)
        return {plain: tensor if parts is None else parts[self.ranks.rank].whole(tensor, parts[-1].end, self.ranks)}

    def restored(self, name: str, own: Tensor, saved: dict[str, Any]) -> Tensor | None:
        """As `ShardedHead.restored`, from a plain head's checkpoint too."""
        plain = name.removeprefix("local.")
        parts, found = self.slices(plain), saved.get(plain)
        if parts is not None and type(found) is Tensor and len(found) == parts[-1].end:
            part = parts[self.ranks.rank]
            return saved.pop(plain)[part.first : part.end]  # type: ignore[no-any-return]
        return super().restored(name, own, saved)


def with_parts(head: AnyHead, parts: Mapping[str, Slice], device: torch.device, filled: bool = True) -> AnyHead:
    """A copy of a head with parts of some parameters, whose numbers are the head's or not filled."""
    instead: dict[int, object] = {}
    for name, old in head.named_parameters():
        shape = (parts[name].size, *old.shape[1:]) if name in parts else old.shape
        new = in_large_pages(torch.empty(shape, device=device, dtype=old.dtype))
        if filled:
            whole = old.detach()
            new.copy_(whole[parts[name].first : parts[name].end] if name in parts else whole)
        instead[id(old)] = nn.Parameter(new, old.requires_grad)
    for buffer in head.buffers():
        if buffer.is_meta:
            instead[id(buffer)] = torch.zeros_like(buffer, device=device)
    if (sampler := head._modules.get("sampler")) is not None:
        instead[id(sampler)] = sampler
    return copy.deepcopy(head, instead)


def blocks(part: Slice, rows: int) -> list[tuple[int, int, int, int]]:
    """Blocks of rows that a part has some of: where each begins and ends, and where what is of the part does."""
    starts = range(part.first - part.first % BLOCK, part.end, BLOCK)
    ends = [(start, min(start + BLOCK, rows)) for start in starts if part.size]
    return [(start, stop, max(start, part.first), min(stop, part.end)) for start, stop in ends]


def at(logits: Tensor, column: Tensor, part: Slice) -> Tensor:
    """The logits at some columns of the whole, 0 where they are not of this part: (N, C'), (N,) -> (N,)."""
    if not part.size:
        return logits.sum(1)
    here = (column >= part.first) & (column < part.end)
    return logits.gather(1, (column - part.first).where(here, 0).unsqueeze(1)).squeeze(1).where(here, 0.0)


def _under_plain_names(head: Any, state: dict[str, Any], prefix: str, _: Any) -> None:
    for name in [name for name in state if name.startswith(prefix)]:
        short = name[len(prefix) :]
        for entry, tensor in head.stored(short, state.pop(name)).items():
            state[prefix + entry] = tensor


def total_of(log_totals: Tensor) -> Tensor:
    """The logarithm of the sum over all classes by those over each rank's: (n, ranks, ...) -> (n, ...)."""
    total = log_totals.logsumexp(1)
    return total.masked_fill(total == torch.inf, torch.nan)  # as a softmax has it


def _under_own_names(head: Any, state: dict[str, Any], prefix: str, *given: Any) -> None:
    errors: list[str] = given[-1]
    saved = {name[len(prefix) :]: state.pop(name) for name in [name for name in state if name.startswith(prefix)]}
    for name, own in head.own_state().items():
        try:
            found = head.restored(name, own, saved)
        except ValueError as error:
            errors.append(str(error))
            found = own
        if found is not None:
            state[prefix + name] = found
    state |= {prefix + name: tensor for name, tensor in saved.items()}
