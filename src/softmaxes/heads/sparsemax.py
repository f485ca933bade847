"""Sparsemax: the point of the simplex nearest to the logits."""

from typing import ClassVar, final

import torch
from torch import Tensor

from softmaxes.head import Head
from softmaxes.heads.entmax import entmax_probability
from softmaxes.layers import linear_logits, linear_parameters, log_of_sparse, once


@final
class Sparsemax(Head):
    r"""The Euclidean projection of the logits onto the simplex, which has zeros, trained with its Fenchel-Young loss.

    .. math:: p(\cdot \mid x) = \arg\min_{p \in \triangle} |p - z|^2, \qquad z = W x + b, \qquad
        \ell(x, y) = \max_{p \in \triangle} \left( p \cdot z - \tfrac12 |p|^2 \right) + \tfrac12 - z_y

    A class whose logit is far enough below the largest, at most by 1, has probability zero, and log_prob -inf. The loss
    stays finite, and is zero once the target's logit leads by 1.

    Args:
        in_features: size of a feature vector, D.
        num_classes: number of classes, C, at least 2.
        bias: whether the linear layer has a bias.
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
        Parameters CD + C. Loss, log_prob and top-k O(NCD) time, O(NC) memory, with a partial sort that grows until it
        holds the classes that are not zero.

    Example:
        >>> import torch
        >>> from softmaxes import Sparsemax
        >>> head = Sparsemax(in_features=8, num_classes=10)
        >>> features, target = 9 * torch.randn(4, 8), torch.tensor([0, 3, 9, 3])
        >>> bool(head(features, target).isfinite().all())
        True
        >>> bool(head.log_prob(features).isneginf().any())  # classes that cannot be
        True

    Reference:
        A. F. T. Martins, R. F. Astudillo. From softmax to sparsemax: a sparse model of attention and multi-label
        classification. 2016.
    """

    loss_is_nll: ClassVar[bool] = False
    class_rows: ClassVar[tuple[str, ...]] = ("weight", "bias")

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(in_features, num_classes)
        self.weight, self.bias = linear_parameters(self.num_classes, self.in_features, bias, device, dtype)
        self.reset_parameters()

    def _loss(self, input: Tensor, target: Tensor) -> Tensor:
        logits = linear_logits(input, self.weight, self.bias)
        # At the maximum the loss does not change with p to first order: for the gradient p is a constant.
        logits = once(logits)
        p = entmax_probability(logits.detach(), 2)
        over = (logits - logits.gather(1, target.unsqueeze(1))).masked_fill(p == 0, 0.0)  # no 0 times -inf
        return (p * (over + (1 - p) / 2)).sum(1)

    def _log_prob(self, input: Tensor) -> Tensor:
        return log_of_sparse(entmax_probability(linear_logits(input, self.weight, self.bias), 2))
