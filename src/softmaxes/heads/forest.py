"""Several hierarchical softmaxes over different trees, averaged."""

import math
from collections.abc import Sequence
from typing import ClassVar, cast, final

import torch
from torch import Tensor, nn

from softmaxes.head import Head
from softmaxes.heads.hierarchical.head import HierarchicalSoftmax
from softmaxes.trees.tree import Tree


@final
class ForestSoftmax(Head):
    r"""The mean of the probabilities that hierarchical softmaxes over different trees give.

    .. math:: p(c \mid x) = \frac1T \sum_{t=1}^T p_t(c \mid x), \qquad \ell(x, y) = -\log p(y \mid x)

    Classes that a tree cannot tell apart well, another tree may; the cost is T times that of a tree and grows as it
    does.

    Args:
        in_features: size of a feature vector, D.
        trees: hierarchies over the same classes, at least one, e.g. ``[Tree.random(C, seed=t) for t in range(4)]``.
        bias: whether the decisions have a bias.
        sparse: whether the gradients are sparse tensors; see `HierarchicalSoftmax`.
        device: where the parameters are made.
        dtype: dtype of the parameters.

    Shape:
        - input: :math:`(*, D)`
        - target: :math:`(*)`, integers
        - loss: :math:`(*)`; log_prob: :math:`(*, C)`

    Attributes:
        members: a `HierarchicalSoftmax` for each tree.

    Cost:
        T times that of a `HierarchicalSoftmax`: a loss O(T N D log C) with balanced binary trees.

    Example:
        >>> import torch
        >>> from softmaxes import ForestSoftmax, Tree
        >>> head = ForestSoftmax(8, [Tree.random(10, seed=seed) for seed in range(4)])
        >>> features, target = torch.randn(4, 8), torch.tensor([0, 3, 9, 3])
        >>> head(features, target).shape
        torch.Size([4])
        >>> head.log_prob(features).exp().sum(-1).allclose(torch.ones(4))
        True

    Reference:
        A. Mnih, G. E. Hinton. A scalable hierarchical distributed language model. 2008 (several places a word; the mean
        over separate trees is ours).
    """

    loss_is_nll: ClassVar[bool] = True

    def __init__(
        self,
        in_features: int,
        trees: Sequence[Tree],
        bias: bool = True,
        sparse: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        if not isinstance(trees, Sequence) or len(trees) == 0 or not all(isinstance(tree, Tree) for tree in trees):
            raise TypeError(f"ForestSoftmax: expected trees to be a sequence of at least one Tree, got {trees!r}.")
        classes = sorted({tree.num_classes for tree in trees})
        if len(classes) > 1:
            raise ValueError(f"ForestSoftmax: expected trees over the same number of classes, got {classes}.")
        super().__init__(in_features, classes[0])
        self.trees = tuple(trees)
        self.sparse = sparse
        self.members = nn.ModuleList(
            HierarchicalSoftmax(in_features, tree, bias, sparse, device=device, dtype=dtype) for tree in trees
        )
        self.bias = bias

    def reset_parameters(self) -> None:
        """Draw the decisions of every tree anew."""
        for member in self._members():
            member.reset_parameters()

    def _members(self) -> list[HierarchicalSoftmax]:
        return cast(list[HierarchicalSoftmax], list(self.members))

    def _loss(self, input: Tensor, target: Tensor) -> Tensor:
        return -self._target_log_prob(input, target)

    def _target_log_prob(self, input: Tensor, target: Tensor) -> Tensor:
        each = torch.stack([member.target_log_prob(input, target) for member in self._members()])
        return torch.logsumexp(each, dim=0) - math.log(len(self.members))

    def _log_prob(self, input: Tensor) -> Tensor:
        each = torch.stack([member.log_prob(input) for member in self._members()])
        return torch.logsumexp(each, dim=0) - math.log(len(self.members))
