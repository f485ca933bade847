"""The softmax trained on classes that a tree, learned beside it, takes for likely."""

import math
from typing import ClassVar, final

import torch
from torch import Tensor

from softmaxes.head import Head
from softmaxes.heads.hierarchical import search
from softmaxes.heads.hierarchical.head import HierarchicalSoftmax
from softmaxes.layers import linear_logits, linear_parameters, row_logits
from softmaxes.trees.tree import Tree


@final
class TreeSampledSoftmax(Head):
    r"""A softmax whose normaliser is estimated, while training, from classes that a tree draws for each example.

    .. math:: \ell(x, y) = -\lambda \log q(y \mid x) - \log \frac{\exp z_y}{\hat Z}, \qquad
        \hat Z = \exp z_y + \sum_{k=1}^K \frac{\exp z_{s_k}}{\lceil K/2 \rceil q(s_k \mid x, s_k \ne y) +
        \lfloor K/2 \rfloor / (C - 1)}, \qquad z = W x + b, \qquad p(c \mid x) = \frac{\exp z_c}{\sum_j \exp z_j}

    q is a `HierarchicalSoftmax`, which learns from the first term alone. One half of the draws are classes beside the
    target that it takes for likely, :math:`q(\cdot \mid x, \cdot \ne y)`; the other half are any others, so that none
    has a weight above :math:`(C - 1) / \lfloor K/2 \rfloor`. Their chances are constants.
    :math:`E \hat Z = \sum_j \exp z_j`; its logarithm and the gradient are biased, less with more samples. The head is
    judged by p, a flat softmax; in evaluation the loss is its negative log-likelihood.

    Args:
        in_features: size of a feature vector, D.
        tree: a hierarchy over the classes, e.g. ``Tree.random(num_classes)``.
        num_samples: classes drawn for each example, K, at least 2.
        bias: whether the linear layer and the tree's decisions have a bias.
        sparse: whether the training loss's gradients of the parameters are sparse tensors with the touched rows alone,
            as in `torch.nn.Embedding`; take `softmaxes.optim.for_model` as the
            optimiser. Clip them with `softmaxes.optim.clip_grad_norm_`.
        proposal_weight: :math:`\lambda`, above 0. Below 1 the features are made for the flat softmax rather than for
            the tree, whose loss is a sum over its depth.
        device: where the parameters are made.
        dtype: dtype of the parameters.

    Shape:
        - input: :math:`(*, D)`
        - target: :math:`(*)`, integers
        - loss: :math:`(*)`; log_prob: :math:`(*, C)`

    Attributes:
        weight: :math:`W`, (C, D), drawn as in `torch.nn.Linear`.
        bias: :math:`b`, (C,), or none.
        proposal: q, a `HierarchicalSoftmax` over `tree`.

    Cost:
        Parameters (C + R) D + C + R with R < 2C rows of the tree. Training loss O(N K D L) for a tree of depth L whose
        nodes have few children: O(NKD log C) in a balanced one, and O(NKD) memory; with ``sparse`` its gradient too,
        else that is dense, O(CD). In evaluation loss, log_prob and top-k O(NCD) time, O(NC) memory.

    Example:
        >>> import torch
        >>> from softmaxes import Tree, TreeSampledSoftmax
        >>> head = TreeSampledSoftmax(8, Tree.random(10_000), num_samples=10)
        >>> features, target = torch.randn(4, 8), torch.tensor([0, 3, 9_999, 3])
        >>> head(features, target).shape
        torch.Size([4])
        >>> head.log_prob(features).shape
        torch.Size([4, 10000])

    Reference:
        Y. Bengio, J.-S. Senécal. Adaptive importance sampling to accelerate training of a neural probabilistic language
        model. 2008 (proposals that follow the model; theirs are n-grams).
        R. Bamler, S. Mandt. Extreme classification via adversarial softmax approximation. 2020 (a tree of decisions on
        the features as proposal; there it is fitted once, before).
    """

    loss_is_nll: ClassVar[bool] = False
    class_rows: ClassVar[tuple[str, ...]] = ("weight", "bias")

    def __init__(
        self,
        in_features: int,
        tree: Tree,
        num_samples: int,
        bias: bool = True,
        sparse: bool = False,
        proposal_weight: float = 1.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        self._check_tree(tree)
        super().__init__(in_features, tree.num_classes)
        self.num_samples = self._at_least("num_samples", num_samples, 2)
        self.sparse = sparse
        self.proposal_weight = self._number("proposal_weight", proposal_weight, "finite and above 0", _is_weight)
        self.proposal = HierarchicalSoftmax(in_features, tree, bias, sparse, device=device, dtype=dtype)
        self.weight, self.bias = linear_parameters(self.num_classes, self.in_features, bias, device, dtype)
        self.reset_parameters()

    @property
    def tree(self) -> Tree:
        """The hierarchy that the proposal is over."""
        return self.proposal.tree

    def draw_from(self, tree: Tree) -> None:
        """Take another tree for the proposal, whose decisions begin anew; the flat softmax stays as it is.

        The proposal's parameters are then others: an optimiser has to be told of them.

        Args:
            tree: a hierarchy over the same classes, e.g. one that was clustered from what the model has learned.

        Raises:
            TypeError: it is no `Tree`.
            ValueError: it has another number of classes.

        Example:
            >>> import torch
            >>> from softmaxes import Tree, TreeSampledSoftmax
            >>> head = TreeSampledSoftmax(8, Tree.random(100), num_samples=10)
            >>> before = head.log_prob(torch.ones(8))
            >>> head.draw_from(Tree.clustered(head.weight.detach()))
            >>> torch.equal(head.log_prob(torch.ones(8)), before)
            True
        """
        self._check_tree(tree)
        if tree.num_classes != self.num_classes:
            raise ValueError(
                f"TreeSampledSoftmax: expected a tree over {self.num_classes} classes, got one over {tree.num_classes}."
            )
        bias, device, dtype = self.bias is not None, self.weight.device, self.weight.dtype
        self.proposal = HierarchicalSoftmax(self.in_features, tree, bias, self.sparse, device=device, dtype=dtype)

    @staticmethod
    def _check_tree(tree: Tree) -> None:
        if not isinstance(tree, Tree):
            raise TypeError(f"TreeSampledSoftmax: expected tree to be a Tree, got {type(tree).__name__}.")

    def reset_parameters(self) -> None:
        """Draw the linear layer and the tree's decisions as `torch.nn.Linear` does."""
        super().reset_parameters()
        self.proposal.reset_parameters()

    def _loss(self, input: Tensor, target: Tensor) -> Tensor:
        if not self.training:
            return -self._target_log_prob(input, target)
        drawn, log_expected = self._draw(input, target)
        logits = row_logits(input, torch.cat([target.unsqueeze(1), drawn], dim=1), self.weight, self.bias, self.sparse)
        own, others = logits[:, :1], logits[:, 1:] - log_expected.to(logits.dtype)
        learned: Tensor = self.proposal(input, target)
        return self.proposal_weight * learned + torch.logsumexp(torch.cat([own, others], dim=1), dim=1) - own.squeeze(1)

    def _draw(self, input: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Classes other than the target, and the log of how often each is drawn on average: (N, K), (N, K).

        It is detached, since `no_grad` does not stop forward-mode derivatives.
        """
        uniform = self.num_samples // 2
        likely = self.num_samples - uniform
        with torch.no_grad():
            log_chance, drawn, left = search.drawn(self.proposal, input, likely, target)
            any_other = torch.randint(self.num_classes - 1, (len(input), uniform), device=input.device)
            any_other = any_other + (any_other >= target.unsqueeze(1))
            of_any = self.proposal.target_log_prob(input.unsqueeze(1).expand(-1, uniform, -1), any_other)
        log_chance = torch.cat([log_chance, of_any - left.unsqueeze(1)], dim=1)
        evenly = torch.full_like(log_chance, math.log(uniform / (self.num_classes - 1)))
        log_expected = torch.logaddexp(log_chance + math.log(likely), evenly)
        return torch.cat([drawn, any_other], dim=1), log_expected.detach()

    def _log_prob(self, input: Tensor) -> Tensor:
        return torch.log_softmax(linear_logits(input, self.weight, self.bias), dim=1)


def _is_weight(value: float) -> bool:
    return 0 < value < math.inf
