"""A mixture of softmaxes, against the softmax bottleneck."""

from typing import ClassVar, final

import torch
from torch import Tensor
from torch.nn import functional as F

from softmaxes.head import Head
from softmaxes.layers import linear_logits, linear_parameters, widen


@final
class MixtureOfSoftmaxes(Head):
    r"""Several softmaxes that share their class weights, each of its own context, in proportions that depend on x.

    .. math:: p(c \mid x) = \sum_{k=1}^K \pi_k(x)\, \frac{\exp z_{kc}}{\sum_j \exp z_{kj}}, \qquad
        z_k = W \tanh(P_k x + q_k) + b, \qquad \pi(x) = \mathrm{softmax}(V x), \qquad
        \ell(x, y) = -\log p(y \mid x)

    The matrix of log-probabilities of one softmax over many inputs has rank D + 2 at most, whatever C; that of a
    mixture has no such bound.

    Args:
        in_features: size of a feature vector, D.
        num_classes: number of classes, C, at least 2.
        num_components: number of softmaxes, K, at least 1.
        bias: whether the logits and the contexts have a bias.
        device: where the parameters are made.
        dtype: dtype of the parameters.

    Shape:
        - input: :math:`(*, D)`
        - target: :math:`(*)`, integers
        - loss: :math:`(*)`; log_prob: :math:`(*, C)`

    Attributes:
        weight: :math:`W`, (C, D).
        bias: :math:`b`, (C,), or none.
        context_weight: :math:`P`, (KD, D).
        context_bias: :math:`q`, (KD,), or none.
        prior_weight: :math:`V`, (K, D). All are drawn as in `torch.nn.Linear`.

    Cost:
        Parameters (C + KD + K) D and C + KD. Loss, log_prob and top-k O(NK(C + D)D) time, O(NKC) memory: K times the
        plain softmax.

    Example:
        >>> import torch
        >>> from softmaxes import MixtureOfSoftmaxes
        >>> head = MixtureOfSoftmaxes(in_features=8, num_classes=10, num_components=3)
        >>> features, target = torch.randn(4, 8), torch.tensor([0, 3, 9, 3])
        >>> head(features, target).shape
        torch.Size([4])
        >>> head.log_prob(features).exp().sum(-1).allclose(torch.ones(4))
        True

    Reference:
        Z. Yang, Z. Dai, R. Salakhutdinov, W. W. Cohen. Breaking the softmax bottleneck: a high-rank RNN language model.
        2018.
    """

    loss_is_nll: ClassVar[bool] = True
    class_rows: ClassVar[tuple[str, ...]] = ("weight", "bias")

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        num_components: int = 4,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(in_features, num_classes)
        self.num_components = self._at_least("num_components", num_components, 1)
        self.weight, self.bias = linear_parameters(self.num_classes, self.in_features, bias, device, dtype)
        rows = self.num_components * self.in_features
        self.context_weight, self.context_bias = linear_parameters(rows, self.in_features, bias, device, dtype)
        self.prior_weight, _ = linear_parameters(self.num_components, self.in_features, False, device, dtype)
        self.reset_parameters()

    def _loss(self, input: Tensor, target: Tensor) -> Tensor:
        return -self._target_log_prob(input, target)

    def _target_log_prob(self, input: Tensor, target: Tensor) -> Tensor:
        index = target[:, None, None].expand(-1, self.num_components, 1)
        return torch.logsumexp(self._parts(input).gather(2, index).squeeze(2), dim=1)

    def _log_prob(self, input: Tensor) -> Tensor:
        return torch.logsumexp(self._parts(input), dim=1)

    def _parts(self, input: Tensor) -> Tensor:
        """The log-probability of each component and class together: (N, D) -> (N, K, C)."""
        context = F.linear(input, self.context_weight, self.context_bias).tanh()
        context = context.view(-1, self.num_components, self.in_features)  # (N, K, D)
        parts = torch.log_softmax(widen(F.linear(context, self.weight, self.bias)), dim=2)
        prior = torch.log_softmax(linear_logits(input, self.prior_weight, None), dim=1)  # (N, K)
        return parts + prior.unsqueeze(2)
