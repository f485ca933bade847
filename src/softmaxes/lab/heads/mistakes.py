"""Heads with a mistake in them, for studies that ask what it costs. Each is a setting of a head of the lab.

What they are judged by is a distribution, as with any other head; the mistake is in the loss, or in the test.
"""

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from softmaxes import Head, HierarchicalSoftmax, Tree
from softmaxes.layers import linear_logits


class _Linear(Head):
    """A head of one linear layer."""

    def __init__(self, in_features: int, num_classes: int) -> None:
        super().__init__(in_features, num_classes)
        self.linear = nn.Linear(self.in_features, self.num_classes)

    def _logits(self, input: Tensor) -> Tensor:
        return linear_logits(input, self.linear.weight, self.linear.bias)


class SoftmaxTwice(_Linear):
    r"""A softmax before a loss that takes the softmax itself, as ``F.cross_entropy(logits.softmax(1), target)``.

    .. math:: p(c \mid x) = \operatorname{softmax}(\operatorname{softmax}(W x + b))_c, \qquad
        \ell(x, y) = -\log p(y \mid x)

    No class is more than e times as probable as another: of 100 classes none has more than 2.7 %.

    Args:
        in_features: size of a feature vector, D.
        num_classes: number of classes, C.
    """

    loss_is_nll: ClassVar[bool] = True

    def _loss(self, input: Tensor, target: Tensor) -> Tensor:
        return F.cross_entropy(self._logits(input).softmax(1), target, reduction="none")

    def _log_prob(self, input: Tensor) -> Tensor:
        return self._logits(input).softmax(1).log_softmax(1)


class NoisySoftmax(_Linear):
    r"""A softmax of logits with standard normal noise, with two mistakes to choose from.

    .. math:: q = \operatorname{softmax}(W x + b + \epsilon), \qquad \epsilon_c \sim N(0, 1)

    Args:
        in_features: size of a feature vector, D.
        num_classes: number of classes, C.
        noisy_test: whether the test has the noise of training: the head is judged by q, and not by the softmax without
            noise. Then it says something else each time that it is asked.
        of_probabilities: whether the loss is :math:`-q_y`, as of ``F.nll_loss(probabilities, target)``, and not
            :math:`-\log q_y`.
    """

    loss_is_nll: ClassVar[bool] = False

    def __init__(
        self, in_features: int, num_classes: int, noisy_test: bool = False, of_probabilities: bool = False
    ) -> None:
        super().__init__(in_features, num_classes)
        self.noisy_test = noisy_test
        self.of_probabilities = of_probabilities

    def _loss(self, input: Tensor, target: Tensor) -> Tensor:
        logits = self._logits(input)
        if self.training or self.noisy_test:
            logits = logits + torch.randn_like(logits)
        log_prob = logits.log_softmax(1)
        return F.nll_loss(log_prob.exp() if self.of_probabilities else log_prob, target, reduction="none")

    def _log_prob(self, input: Tensor) -> Tensor:
        logits = self._logits(input)
        return (logits + torch.randn_like(logits) if self.noisy_test else logits).log_softmax(1)


class LeakyTree(Head):
    r"""A binary tree of :math:`2^k \ge C` leaves, of which the first C are classes: the others take probability, too.

    .. math:: q(c \mid x) = \prod_{n \text{ above } c} \sigma(\pm (w_n^\top x + b_n)), \qquad
        \ell(x, y) = -\log q(y \mid x), \qquad p(c \mid x) = \frac{q(c \mid x)}{\sum_{j < C} q(j \mid x)}

    Args:
        in_features: size of a feature vector, D.
        num_classes: number of classes, C.
    """

    loss_is_nll: ClassVar[bool] = False

    def __init__(self, in_features: int, num_classes: int) -> None:
        super().__init__(in_features, num_classes)
        leaves = 2 ** (self.num_classes - 1).bit_length()
        self.whole = HierarchicalSoftmax(self.in_features, Tree.balanced(leaves))

    def _loss(self, input: Tensor, target: Tensor) -> Tensor:
        loss: Tensor = self.whole(input, target)
        return loss

    def _log_prob(self, input: Tensor) -> Tensor:
        return self.whole.log_prob(input)[:, : self.num_classes].log_softmax(1)
