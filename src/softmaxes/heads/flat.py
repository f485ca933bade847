"""The plain softmax, with cross-entropy."""

from typing import ClassVar, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from softmaxes.head import Head, widen


@final
class Softmax(Head):
    r"""The softmax of a linear layer, trained with cross-entropy.

    .. math:: p(c \mid x) = \frac{\exp z_c}{\sum_j \exp z_j}, \qquad z = W x + b, \qquad \ell(x, y) = -\log p(y \mid x)

    Args:
        in_features: size of a feature vector, D.
        num_classes: number of classes, C, at least 2.
        bias: whether the linear layer has a bias.
        device: where the parameters are made.
        dtype: dtype of the parameters.

    Shape:
        - input: :math:`(*, D)`
        - target: :math:`(*)`, int64
        - loss: :math:`(*)`; log_prob: :math:`(*, C)`

    Attributes:
        weight: :math:`W`, (C, D), drawn as in `torch.nn.Linear`.
        bias: :math:`b`, (C,), or none.

    Cost:
        Parameters CD + C. Loss, log_prob and top-k O(NCD) time, O(NC) memory.

    Example:
        >>> import torch
        >>> from softmaxes import Softmax
        >>> head = Softmax(in_features=8, num_classes=10)
        >>> features, target = torch.randn(4, 8), torch.tensor([0, 3, 9, 3])
        >>> head(features, target).shape
        torch.Size([4])
        >>> head.log_prob(features).exp().sum(-1).allclose(torch.ones(4))
        True

    Reference:
        J. S. Bridle. Probabilistic interpretation of feedforward classification network outputs, with relationships to
        statistical pattern recognition. 1990.
    """

    loss_is_nll: ClassVar[bool] = True

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(in_features, num_classes)
        self.weight = nn.Parameter(torch.empty(num_classes, in_features, device=device, dtype=dtype))
        self.bias = nn.Parameter(torch.empty(num_classes, device=device, dtype=dtype)) if bias else None
        self.reset_parameters()

    def _loss(self, input: Tensor, target: Tensor) -> Tensor:
        return -self._target_log_prob(input, target)

    def _log_prob(self, input: Tensor) -> Tensor:
        return torch.log_softmax(widen(F.linear(input, self.weight, self.bias)), dim=1)

    def extra_repr(self) -> str:
        """The constructor's arguments."""
        return f"in_features={self.in_features}, num_classes={self.num_classes}, bias={self.bias is not None}"
