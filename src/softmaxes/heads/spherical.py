"""The softmax with squares in place of exponentials."""

import math
from typing import ClassVar, final

import torch
from torch import Tensor

from softmaxes.head import Head
from softmaxes.layers import hypot, in_order_of, linear_logits, linear_parameters


@final
class SphericalSoftmax(Head):
    r"""Probabilities in proportion to the squares of the logits.

    .. math:: p(c \mid x) = \frac{z_c^2 + \varepsilon}{\sum_j (z_j^2 + \varepsilon)}, \qquad z = W x + b, \qquad
        \ell(x, y) = -\log p(y \mid x)

    A logit and its negative say the same. The gradient of the loss by a logit is at most :math:`1/\sqrt\varepsilon`,
    and zero at zero.

    Args:
        in_features: size of a feature vector, D.
        num_classes: number of classes, C, at least 2.
        epsilon: :math:`\varepsilon`, in 1e-12..1e6.
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
        Parameters CD + C. Loss, log_prob and top-k O(NCD) time, O(NC) memory.

    Example:
        >>> import torch
        >>> from softmaxes import SphericalSoftmax
        >>> head = SphericalSoftmax(in_features=8, num_classes=10)
        >>> features = torch.randn(4, 8)
        >>> squares = torch.nn.functional.linear(features, head.weight, head.bias) ** 2 + head.epsilon
        >>> head.log_prob(features).exp().allclose(squares / squares.sum(1, keepdim=True))
        True

    Reference:
        P. Vincent, A. de Brébisson, X. Bouthillier. Efficient exact gradient update for training deep networks with
        very large sparse targets. 2015.
        A. de Brébisson, P. Vincent. An exploration of softmax alternatives belonging to the spherical loss family.
        2016.
    """

    loss_is_nll: ClassVar[bool] = True
    class_rows: ClassVar[tuple[str, ...]] = ("weight", "bias")

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        epsilon: float = 0.01,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(in_features, num_classes)
        self.epsilon = self._number("epsilon", epsilon, "in 1e-12..1e6", lambda e: 1e-12 <= e <= 1e6)
        self.weight, self.bias = linear_parameters(self.num_classes, self.in_features, bias, device, dtype)
        self.reset_parameters()

    def _loss(self, input: Tensor, target: Tensor) -> Tensor:
        return -self._target_log_prob(input, target)

    def _log_prob(self, input: Tensor) -> Tensor:
        logits = linear_logits(input, self.weight, self.bias)
        floor = torch.full_like(logits, math.sqrt(self.epsilon))
        log_prob = torch.log_softmax(2 * hypot(logits, floor).log(), dim=1)  # no square that overflows
        return in_order_of(logits.abs(), log_prob)
