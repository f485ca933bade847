"""Hierarchical softmax whose subtrees lie on ranks, below decisions that all ranks have."""

import hashlib
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from softmaxes.heads.hierarchical.head import HierarchicalSoftmax, _own_parent, _tables
from softmaxes.layers import linear_logits, linear_parameters
from softmaxes.sharded.cut import Numbers, below, cut, rows_above
from softmaxes.sharded.head import ShardedHead
from softmaxes.sharded.ranks import Batch, Ranks
from softmaxes.structure import Structure
from softmaxes.trees.tree import Tree


class ShardedHierarchical(ShardedHead):
    """`HierarchicalSoftmax` over ranks: each has some subtrees, and all have the decisions above them.

    An example goes to the rank that has the subtree of its target. So a loss sends each feature vector to one rank.
    """

    loss_is_nll: ClassVar[bool] = True
    piece_of_class: Tensor  # (C,)
    rank_of_piece: Tensor  # (P,); of a piece that is one class, the number of ranks
    own: Tensor  # (C',) the classes of `local`; they rise
    alone: Tensor  # (A,) classes of this rank that are pieces

    def __init__(self, head: HierarchicalSoftmax, ranks: Ranks, average: bool, device: torch.device) -> None:
        super().__init__(head, ranks, average)
        if head.level_layers:
            raise TypeError("shard: expected a HierarchicalSoftmax without level_layers, got one with.")
        tree, whole = head.tree, Numbers.of(head.tree)
        parts = cut(tree)
        share = parts.share(ranks.size)
        single = parts.classes == 1
        mine = share == ranks.rank
        self.pieces = (mine & ~single).nonzero().flatten().tolist()
        self.tree_hash = hash_of(tree)
        for name, table in {
            "piece_of_class": parts.piece[: tree.num_classes].to(torch.int32),
            "rank_of_piece": share.masked_fill(single, ranks.size),
            "alone": parts.begin[mine & single],
        }.items():
            self.register_buffer(name, table.to(device), persistent=False)
        bias, dtype = head.bias is not None, head.weight.dtype
        self.top = HierarchicalSoftmax(head.in_features, parts.top, bias, device=device, dtype=dtype)
        self.local: HierarchicalSoftmax | None = None
        self.ends: list[int] = []
        own, row = torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.int64)
        if self.pieces:
            under = below(tree, parts, whole, self.pieces)
            own, row, self.ends = under.classes, under.row, under.ends
            self.local = _without_root(head, under.tree, len(row), device)
        self.register_buffer("own", own.to(device), persistent=False)
        if head.weight.is_meta:
            self.reset_parameters()
            return
        above = rows_above(parts, whole)
        with torch.no_grad():
            for name, old in head.named_parameters():
                sign = above.sign.view(-1, *[1] * (old.dim() - 1)).to(old)
                self.top.get_parameter(name).copy_(old[above.row.to(old.device)] * sign)
                if self.local is not None:
                    self.local.get_parameter(name).copy_(old[row.to(old.device)])

    @property
    def classes(self) -> Tensor:
        """The classes that this rank has, rising."""
        return torch.cat([self.own, self.alone]).sort().values

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw the first weights anew; they do not depend on how many ranks there are."""
        device = self.top.weight.device
        with self.ranks.seeded(device) as seed:
            torch.manual_seed(seed)
            self.top.reset_parameters()
            for number, piece in enumerate(self.pieces):
                torch.manual_seed(seed + 1 + piece)
                for parameter in self.local.parameters() if self.local is not None else ():
                    bound = self.in_features**-0.5
                    nn.init.uniform_(parameter[self._rows(number)], -bound, bound)

    def _rows(self, number: int) -> slice:
        return slice(self.ends[number - 1] if number else 0, self.ends[number])

    def own_state(self) -> dict[str, Tensor]:
        """As `ShardedHead.own_state`, with the decisions above."""
        return super().own_state() | {f"top.{name}": value for name, value in self.top.state_dict().items()}

    def is_split(self, name: str) -> bool:
        """The rows of the subtrees are."""
        return name.startswith("local.")

    def stored(self, name: str, tensor: Tensor) -> dict[str, Tensor]:
        """The decisions above as they are, and the rows of each piece by its number."""
        if name == "top.parent":
            return {"tree": self.tree_hash.to(tensor.device)}
        if name.startswith("top."):
            return {name: tensor}
        plain = name.removeprefix("local.")
        if plain == "parent":
            return {}
        return {f"pieces.{piece}.{plain}": tensor[self._rows(number)] for number, piece in enumerate(self.pieces)}

    def restored(self, name: str, own: Tensor, saved: dict[str, Any]) -> Tensor | None:
        """As `ShardedHead.restored`, if the tree is this one."""
        if name == "local.parent" and self.local is not None:
            return _own_parent(self.local.tree)
        found = super().restored(name, own, saved)
        if name != "top.parent" or found is None:
            return found
        if not torch.equal(found.cpu(), self.tree_hash):
            raise ValueError("ShardedHierarchical: expected a checkpoint of the same tree, got one of another.")
        return own

    def _loss(self, input: Tensor, target: Tensor) -> Tensor:
        return -self._target_log_prob(input, target)

    def _target_log_prob(self, input: Tensor, target: Tensor) -> Tensor:
        batch = self._meet(input)
        piece = self.piece_of_class[target].long()
        entered = batch.enter(input)
        above = self.top._of_branches(entered, piece, *self._top_parameters())
        rank = self.rank_of_piece[piece]
        order = rank.argsort(stable=True)
        sent = torch.bincount(rank, minlength=self.ranks.size + 1)[: self.ranks.size]
        order = order[: int(sent.sum())]  # the last are of pieces that are one class: all is decided above
        ones = [1] * self.ranks.size
        received = self.ranks.exchange(sent, ones, ones)
        ways = sent.tolist(), received.tolist()
        some, theirs = (self.ranks.exchange(one[order], *ways) for one in (entered, target))
        if self.local is None:
            value = some[:, :0].sum(1).to(above.dtype) + self.top.weight[:0].sum()  # so that all ranks have a gradient
        else:
            value = self.local._target_log_prob(some, torch.searchsorted(self.own, theirs)).to(above.dtype)
        back = self.ranks.exchange(value, *reversed(ways))
        return batch.leave(above.index_add(0, order, back))

    def _top_parameters(self) -> tuple[Tensor, Tensor | None]:
        weight, bias = self.top.weight, self.top.bias
        return self.ranks.replicated(weight), None if bias is None else self.ranks.replicated(bias)

    def _known(self, batch: Batch, input: Tensor) -> Tensor:
        some = batch.gather(input)
        above = self.top._of_all_logits(linear_logits(some, *self._top_parameters()))
        own = above[:, self.piece_of_class[self.own].long()]
        if self.local is not None:
            own = own + self.local._log_prob(some)
        known = torch.cat([own, above[:, self.piece_of_class[self.alone].long()]], dim=1)
        return known[:, torch.cat([self.own, self.alone]).argsort()]


def hash_of(tree: Tree) -> Tensor:
    """Thirty-two bytes that no other tree has."""
    digest = hashlib.sha256(tree.parent.contiguous().numpy().tobytes()).digest()
    return torch.frombuffer(bytearray(digest), dtype=torch.uint8)


def _without_root(head: HierarchicalSoftmax, tree: Tree, rows: int, device: torch.device) -> HierarchicalSoftmax:
    """A head over the trees below a tree's root, whose weights are not filled."""
    bias, dtype = head.bias is not None, head.weight.dtype
    made = HierarchicalSoftmax(head.in_features, tree, bias, head.sparse, device="meta", dtype=dtype)
    made.structure = Structure(partial(_tables, tree, cut=True), device)
    made.weight, made.bias = linear_parameters(rows, head.in_features, bias, device, dtype)
    made.width = int(made.tables.num_rows.max())
    made.level_sizes = [made.level_sizes[0] + made.level_sizes[1], *made.level_sizes[2:]]
    return made
