"""Negative sampling: the target told from a few other classes, as in word2vec."""

import copy
import math
from typing import ClassVar, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from softmaxes.head import Head
from softmaxes.layers import in_order_of, linear_logits, linear_parameters, log_sigmoid, row_logits
from softmaxes.sampler import Sampler


@final
class NegativeSampling(Head):
    r"""A logistic decision for the target, and one against each of K classes drawn at random.

    .. math:: \ell(x, y) = -\log \sigma(\Delta_y) - \sum_{k=1}^K [s_k \ne y] \log \sigma(-\Delta_{s_k}), \qquad
        \Delta_c = z_c - \log(K q(c)), \qquad s_k \sim q, \qquad z = W x + b, \qquad
        p(c \mid x) = \frac{\sigma(z_c)}{\sum_j \sigma(z_j)}

    A class is drawn :math:`K q(c)` times as often as in one-vs-rest, which the offset makes good: where the loss is
    least on average, :math:`\sigma(z_c)` is the probability of class c. word2vec leaves the offset to the scores: its
    own are the :math:`\Delta`, which with a bias is the same model. The draws are shared by the batch; draws of the
    target itself are left out, which is the difference to `NCE`.

    Args:
        in_features: size of a feature vector, D.
        sampler: what the negatives are drawn from, e.g. ``Sampler.unigram(counts, 0.75)``; the head has a copy.
        num_samples: classes drawn for each training step, K.
        bias: whether the linear layer has a bias.
        sparse: whether the loss's gradients of `weight` and `bias` are sparse tensors with the drawn rows alone, as in
            `torch.nn.Embedding`; take `softmaxes.optim.for_model` as the
            optimiser. Clip them with `softmaxes.optim.clip_grad_norm_`.
        device: where the parameters are made.
        dtype: dtype of the parameters.

    Shape:
        - input: :math:`(*, D)`
        - target: :math:`(*)`, integers
        - loss: :math:`(*)`; log_prob: :math:`(*, C)`

    Attributes:
        weight: :math:`W`, (C, D), drawn as in `torch.nn.Linear`.
        bias: :math:`b`, (C,), or none; it starts at :math:`-\log(C - 1)`, the logit of 1/C, as in one-vs-rest.

    Cost:
        Parameters CD + C. Training loss O(NKD) time, O(NK + KD) memory; with ``sparse`` its gradient too, else that is
        dense, O(CD). In evaluation the loss is the negative log-likelihood; it, log_prob and top-k O(NCD) time, O(NC)
        memory.

    Example:
        >>> import torch
        >>> from softmaxes import NegativeSampling, Sampler
        >>> head = NegativeSampling(8, Sampler.unigram(range(1, 10_001), power=0.75), num_samples=64)
        >>> features, target = torch.randn(4, 8), torch.tensor([0, 3, 9_999, 3])
        >>> head(features, target).shape
        torch.Size([4])
        >>> head.log_prob(features).exp().sum(-1).allclose(torch.ones(4))
        True

    Reference:
        T. Mikolov, I. Sutskever, K. Chen, G. Corrado, J. Dean. Distributed representations of words and phrases and
        their compositionality. 2013.
        O. Levy, Y. Goldberg. Neural word embedding as implicit matrix factorization. 2014 (where the loss is least).
    """

    loss_is_nll: ClassVar[bool] = False
    class_rows: ClassVar[tuple[str, ...]] = ("weight", "bias")

    def __init__(
        self,
        in_features: int,
        sampler: Sampler,
        num_samples: int,
        bias: bool = True,
        sparse: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        if not isinstance(sampler, Sampler):
            raise TypeError(f"NegativeSampling: expected sampler to be a Sampler, got {type(sampler).__name__}.")
        super().__init__(in_features, sampler.num_classes)
        self.num_samples = self._at_least("num_samples", num_samples, 1)
        self.sparse = sparse
        self.sampler = copy.deepcopy(sampler).to(torch.get_default_device() if device is None else device)
        self.weight, self.bias = linear_parameters(self.num_classes, self.in_features, bias, device, dtype)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the weights as in `torch.nn.Linear`, and set each bias to the logit of 1/C."""
        super().reset_parameters()
        if self.bias is not None:
            nn.init.constant_(self.bias, -math.log(self.num_classes - 1))

    def _loss(self, input: Tensor, target: Tensor) -> Tensor:
        if not self.training:
            return -self._target_log_prob(input, target)
        own = self._less_noise(input, target.unsqueeze(1)).squeeze(1)  # (N,)
        drawn = self.sampler.sample(self.num_samples).to(input.device)  # a replica's
        others = F.softplus(self._less_noise(input, drawn)).masked_fill(drawn == target.unsqueeze(1), 0.0)  # (N, K)
        return F.softplus(-own) + others.sum(1)

    def _less_noise(self, input: Tensor, rows: Tensor) -> Tensor:
        """Logits less the logarithm of how often a class is expected to be drawn: (N, 1) or (N, K)."""
        logits = row_logits(input, rows, self.weight, self.bias, self.sparse)
        return logits - self.sampler.log_expected(rows, self.num_samples).to(logits.dtype)

    def _log_prob(self, input: Tensor) -> Tensor:
        logits = linear_logits(input, self.weight, self.bias)
        return in_order_of(logits, torch.log_softmax(log_sigmoid(logits), dim=1))
