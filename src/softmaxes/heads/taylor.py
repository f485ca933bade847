"""The softmax with the exponential's Taylor polynomial in place of the exponential."""

import math
from typing import ClassVar, final

import torch
from torch import Tensor

from softmaxes.head import Head
from softmaxes.layers import linear_logits, linear_parameters


@final
class TaylorSoftmax(Head):
    r"""Probabilities in proportion to the Taylor polynomial of the exponential, of even order.

    .. math:: p(c \mid x) = \frac{f_n(z_c)}{\sum_j f_n(z_j)}, \qquad f_n(z) = \sum_{k=0}^n \frac{z^k}{k!}, \qquad
        z = W x + b, \qquad \ell(x, y) = -\log p(y \mid x)

    At an even order :math:`f_n` is above zero everywhere; at order 2 it is :math:`\frac12 + \frac12 (1 + z)^2`. Its
    tails are those of a polynomial, so a class is never as impossible as under the softmax.

    Args:
        in_features: size of a feature vector, D.
        num_classes: number of classes, C, at least 2.
        order: :math:`n`, even, 2 to 12: beyond, the sum of alternating terms is not above zero when rounded.
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
        Parameters CD + C. Loss, log_prob and top-k O(NCD + NCn) time, O(NC) memory.

    Example:
        >>> import torch
        >>> from softmaxes import TaylorSoftmax
        >>> head = TaylorSoftmax(in_features=8, num_classes=10, order=2)
        >>> features = torch.randn(4, 8)
        >>> z = torch.nn.functional.linear(features, head.weight, head.bias)
        >>> scores = 1 + z + z**2 / 2
        >>> head.log_prob(features).exp().allclose(scores / scores.sum(1, keepdim=True))
        True

    Reference:
        A. de Brébisson, P. Vincent. An exploration of softmax alternatives belonging to the spherical loss family.
        2016.
        P. Vincent, A. de Brébisson, X. Bouthillier. Efficient exact gradient update for training deep networks with
        very large sparse targets. 2015 (the family).
    """

    loss_is_nll: ClassVar[bool] = True
    class_rows: ClassVar[tuple[str, ...]] = ("weight", "bias")

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        order: int = 2,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(in_features, num_classes)
        self.order = self._at_least("order", order, 2)
        if self.order % 2 == 1 or self.order > 12:
            raise ValueError(f"TaylorSoftmax: expected order to be even and at most 12, got {self.order}.")
        self.weight, self.bias = linear_parameters(self.num_classes, self.in_features, bias, device, dtype)
        self.reset_parameters()

    def _loss(self, input: Tensor, target: Tensor) -> Tensor:
        return -self._target_log_prob(input, target)

    def _log_prob(self, input: Tensor) -> Tensor:
        log_score = self._log_polynomial(linear_logits(input, self.weight, self.bias))
        return torch.log_softmax(log_score, dim=1)

    def _log_polynomial(self, z: Tensor) -> Tensor:
        """The logarithm of n! times the polynomial; for large z with z**n taken out, so that nothing overflows.

        Its coefficients are n!/k!, from 1 to n!: of a smaller number than 1e-8 the optimiser of onnxscript takes a sum
        for the other number.
        """
        coefficients = [float(math.perm(self.order, self.order - k)) for k in range(self.order + 1)]
        large = z.abs() > self.order
        inverse = 1 / z.where(large, 1.0)
        near = _horner(z.where(~large, 0.0), coefficients[::-1]).log()
        far = _horner(inverse, coefficients).log() + self.order * z.where(large, 1.0).abs().log()
        return torch.where(large, far, near)


def _horner(z: Tensor, coefficients: list[float]) -> Tensor:
    """The polynomial with these coefficients, of the highest power first."""
    value = torch.full_like(z, coefficients[0])
    for coefficient in coefficients[1:]:
        value = value * z + coefficient
    return value
