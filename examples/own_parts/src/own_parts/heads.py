"""A softmax with a fixed temperature."""

from typing import ClassVar, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from softmaxes import Head

TEMPERATURE = 0.5


@final
class TemperedSoftmax(Head):
    r"""The softmax of logits over a temperature: p(c | x) = softmax(W x / T)_c, trained with cross-entropy."""

    loss_is_nll: ClassVar[bool] = True

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        temperature: float = TEMPERATURE,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(in_features, num_classes)
        self.temperature = self._number("temperature", temperature, "more than 0", lambda value: value > 0)
        self.weight = nn.Parameter(torch.empty(num_classes, in_features, device=device, dtype=dtype))
        self.reset_parameters()

    def _loss(self, input: Tensor, target: Tensor) -> Tensor:
        return -self._target_log_prob(input, target)

    def _target_log_prob(self, input: Tensor, target: Tensor) -> Tensor:
        return self._log_prob(input).gather(1, target.unsqueeze(1)).squeeze(1)

    def _log_prob(self, input: Tensor) -> Tensor:
        return (F.linear(input, self.weight) / self.temperature).float().log_softmax(1)


def tempered(in_features: int, classes: object) -> Head:
    """A softmax at half the temperature."""
    return TemperedSoftmax(in_features, len(classes.class_names))  # type: ignore[attr-defined]
