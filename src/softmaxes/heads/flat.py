"""The plain softmax, with cross-entropy."""

from typing import ClassVar, Self, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from softmaxes.head import Head
from softmaxes.layers import autocasts, linear_logits, linear_parameters, once, transformed

# The most logits that a loss holds at a time; more are computed in chunks of rows. Measured on a CPU, at 100,000 and
# 500,000 classes and a batch of 256: no slower than all at once, and a fifth of the memory at 500,000.
CHUNK = 2**23


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
        - target: :math:`(*)`, integers
        - loss: :math:`(*)`; log_prob: :math:`(*, C)`

    Attributes:
        weight: :math:`W`, (C, D), drawn as in `torch.nn.Linear`.
        bias: :math:`b`, (C,), or none.

    Cost:
        Parameters CD + C. Loss, log_prob and top-k O(NCD) time, O(NC) memory. Where N C exceeds 2**23 in float32 or
        float64, the loss and target_log_prob never hold more logits than that (or a row): they are computed in chunks,
        by `torch.nn.functional.linear_cross_entropy`, and once more for the gradient, of which there
        is no second derivative: asking for one is an error.

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

    @classmethod
    def from_linear(cls, linear: nn.Linear) -> Self:
        """The head whose logits are those of a linear layer, from its own parameters: nothing is copied.

        So an optimiser that has the layer's parameters has the head's, and what one of the two learns both know.
        ``linear.load_state_dict(head.state_dict())`` is the way back from a head of its own.

        Args:
            linear: the last layer of a network that was trained with `torch.nn.functional.cross_entropy`.

        Returns:
            The head, in training mode if the layer is.

        Raises:
            TypeError: it is no `torch.nn.Linear`, or its parameters are computed, as by `torch.nn.utils.parametrize`.
            ValueError: it has fewer than 2 outputs.

        Example:
            >>> import torch
            >>> from softmaxes import Softmax
            >>> linear = torch.nn.Linear(8, 10)
            >>> head = Softmax.from_linear(linear)
            >>> features, target = torch.randn(4, 8), torch.tensor([0, 3, 9, 3])
            >>> expected = torch.nn.functional.cross_entropy(linear(features), target)
            >>> torch.allclose(head(features, target).mean(), expected)
            True
        """
        if not isinstance(linear, nn.Linear) or not {"weight", "bias"} <= linear._parameters.keys():
            raise TypeError(
                "Softmax: expected linear to be a torch.nn.Linear with parameters of its own, got "
                f"{type(linear).__name__}."
            )
        head = cls(linear.in_features, linear.out_features, bias=linear.bias is not None, device="meta")
        head.weight, head.bias = linear.get_parameter("weight"), linear._parameters["bias"]
        return head.train(linear.training)

    def _loss(self, input: Tensor, target: Tensor) -> Tensor:
        return -self._target_log_prob(input, target)

    def _target_log_prob(self, input: Tensor, target: Tensor) -> Tensor:
        rows = max(1, CHUNK // self.num_classes)
        half = autocasts(input.device.type) or input.dtype in (torch.bfloat16, torch.float16)
        if len(input) > rows and not half and not transformed(input, target, self.weight, self.bias):
            options = torch.nn.LinearCrossEntropyOptions(chunking_method=None, batch_chunk_size=rows)
            bias = None if self.bias is None else once(self.bias)
            return -F.linear_cross_entropy(
                once(input),
                once(self.weight),
                target,
                linear_bias=bias,
                reduction="none",
                ignore_index=-1,  # which no target is
                options=options,
            )
        return super()._target_log_prob(input, target)

    def _log_prob(self, input: Tensor) -> Tensor:
        return torch.log_softmax(linear_logits(input, self.weight, self.bias), dim=1)
