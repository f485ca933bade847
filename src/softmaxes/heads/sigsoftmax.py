"""The softmax with each exponential multiplied by a sigmoid."""

from typing import ClassVar, final

import torch
from torch import Tensor

from softmaxes.head import Head
from softmaxes.layers import linear_logits, linear_parameters, log_sigmoid


@final
class Sigsoftmax(Head):
    r"""Probabilities in proportion to the exponential of the logit times its sigmoid.

    .. math:: p(c \mid x) = \frac{\exp(z_c)\, \sigma(z_c)}{\sum_j \exp(z_j)\, \sigma(z_j)}, \qquad z = W x + b, \qquad
        \ell(x, y) = -\log p(y \mid x)

    The logarithm of the numerator, :math:`2 z - \log(1 + e^z)`, is not linear in z: so the matrix of log-probabilities
    over many inputs is not bound to rank D + 2, as that of the softmax is, at no more parameters.

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
        Parameters CD + C. Loss, log_prob and top-k O(NCD) time, O(NC) memory.

    Example:
        >>> import torch
        >>> from softmaxes import Sigsoftmax
        >>> head = Sigsoftmax(in_features=8, num_classes=10)
        >>> features = torch.randn(4, 8)
        >>> z = torch.nn.functional.linear(features, head.weight, head.bias)
        >>> scores = z.exp() * z.sigmoid()
        >>> head.log_prob(features).exp().allclose(scores / scores.sum(1, keepdim=True))
        True

    Reference:
        S. Kanai, Y. Fujiwara, Y. Yamanaka, S. Adachi. Sigsoftmax: reanalysis of the softmax bottleneck. 2018.
    """

    loss_is_nll: ClassVar[bool] = True
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
        return -self._target_log_prob(input, target)

    def _log_prob(self, input: Tensor) -> Tensor:
        logits = linear_logits(input, self.weight, self.bias)
        return torch.log_softmax(logits + log_sigmoid(logits), dim=1)
