"""A logistic regression for each class, together taken for a distribution."""

import math
from typing import ClassVar, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from softmaxes.head import Head
from softmaxes.layers import in_order_of, linear_logits, linear_parameters, log_sigmoid


@final
class OneVsRest(Head):
    r"""A logistic decision for each class against all others, trained independently, normalised to be judged.

    .. math:: \ell(x, y) = -\log \sigma(z_y) - \sum_{j \ne y} \log \sigma(-z_j), \qquad
        p(c \mid x) = \frac{\sigma(z_c)}{\sum_j \sigma(z_j)}, \qquad z = W x + b

    The loss is binary cross-entropy summed over the classes; where it is least, :math:`\sigma(z_c)` is the probability
    of class c, and the normalisation changes nothing.

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
        bias: :math:`b`, (C,), or none; it starts at :math:`-\log(C - 1)`, so that at first every class is as rare as it
            is among C.

    Cost:
        Parameters CD + C. Loss, log_prob and top-k O(NCD) time, O(NC) memory.

    Example:
        >>> import torch
        >>> from softmaxes import OneVsRest
        >>> head = OneVsRest(in_features=8, num_classes=10)
        >>> features, target = torch.randn(4, 8), torch.tensor([0, 3, 9, 3])
        >>> head(features, target).shape
        torch.Size([4])
        >>> head.log_prob(features).exp().sum(-1).allclose(torch.ones(4))
        True

    Reference:
        R. Rifkin, A. Klautau. In defense of one-vs-all classification. 2004.
        T.-Y. Lin, P. Goyal, R. Girshick, K. He, P. Dollár. Focal loss for dense object detection. 2017 (the bias).
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

    def reset_parameters(self) -> None:
        """Draw the weights as `torch.nn.Linear` does, and set every bias to the logit of 1/C."""
        super().reset_parameters()
        if self.bias is not None:
            nn.init.constant_(self.bias, -math.log(self.num_classes - 1))

    def _loss(self, input: Tensor, target: Tensor) -> Tensor:
        logits = linear_logits(input, self.weight, self.bias)
        index = target.unsqueeze(1)
        against = logits.scatter(1, index, -logits.gather(1, index))  # what each decision should not be
        return F.softplus(against).sum(1)

    def _log_prob(self, input: Tensor) -> Tensor:
        logits = linear_logits(input, self.weight, self.bias)
        return in_order_of(logits, torch.log_softmax(log_sigmoid(logits), dim=1))
