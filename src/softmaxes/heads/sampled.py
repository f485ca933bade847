"""The softmax trained on a sample of the classes."""

import copy
from typing import ClassVar, final

import torch
from torch import Tensor

from softmaxes.head import Head
from softmaxes.layers import linear_logits, linear_parameters, row_logits
from softmaxes.sampler import Sampler


@final
class SampledSoftmax(Head):
    r"""A softmax whose normaliser is estimated, while training, from a few classes drawn at random.

    .. math:: \ell(x, y) = -\log \frac{\exp z_y}{\hat Z}, \qquad
        \hat Z = \exp z_y + \sum_{k=1}^K [s_k \ne y] \frac{\exp z_{s_k}}{K q(s_k)}, \qquad s_k \sim q, \qquad
        z = W x + b, \qquad p(c \mid x) = \frac{\exp z_c}{\sum_j \exp z_j}

    The draws are shared by the batch. Dividing by :math:`K q` (the log-q correction) and leaving out draws of the
    target itself (accidental hits) make :math:`\hat Z` right on average, :math:`E \hat Z = \sum_j \exp z_j`; its
    logarithm and the gradient are biased, less with more samples. In evaluation the loss is the negative
    log-likelihood.

    Args:
        in_features: size of a feature vector, D.
        sampler: what the classes are drawn from, e.g. ``Sampler.unigram(counts)``; the head has a copy.
        num_samples: classes drawn for each training step, K.
        bias: whether the linear layer has a bias.
        sparse: whether the training loss's gradients of `weight` and `bias` are sparse tensors with the drawn rows
            alone, as in `torch.nn.Embedding`; take `softmaxes.optim.for_model` as the
            optimiser. Clip them with `softmaxes.optim.clip_grad_norm_`.
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
        Parameters CD + C. Training loss O(NKD) time, O(NK + KD) memory; with ``sparse`` its gradient too, else that is
        dense, O(CD). In evaluation loss, log_prob and top-k O(NCD) time, O(NC) memory.

    Example:
        >>> import torch
        >>> from softmaxes import SampledSoftmax, Sampler
        >>> head = SampledSoftmax(8, Sampler.uniform(10_000), num_samples=64)
        >>> features, target = torch.randn(4, 8), torch.tensor([0, 3, 9_999, 3])
        >>> head(features, target).shape
        torch.Size([4])
        >>> head.log_prob(features).shape
        torch.Size([4, 10000])

    Reference:
        Y. Bengio, J.-S. Senécal. Adaptive importance sampling to accelerate training of a neural probabilistic language
        model. 2008.
        S. Jean, K. Cho, R. Memisevic, Y. Bengio. On using very large target vocabulary for neural machine translation.
        2015.
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
            raise TypeError(f"SampledSoftmax: expected sampler to be a Sampler, got {type(sampler).__name__}.")
        super().__init__(in_features, sampler.num_classes)
        self.num_samples = self._at_least("num_samples", num_samples, 1)
        self.sparse = sparse
        self.sampler = copy.deepcopy(sampler).to(torch.get_default_device() if device is None else device)
        self.weight, self.bias = linear_parameters(self.num_classes, self.in_features, bias, device, dtype)
        self.reset_parameters()

    def _loss(self, input: Tensor, target: Tensor) -> Tensor:
        if not self.training:
            return -self._target_log_prob(input, target)
        drawn = self.sampler.sample(self.num_samples).to(input.device)  # a replica's
        others = row_logits(input, drawn, self.weight, self.bias, self.sparse)  # (N, K)
        others = others - self.sampler.log_expected(drawn, self.num_samples).to(others.dtype)
        others = others.masked_fill(drawn == target.unsqueeze(1), -torch.inf)
        own = row_logits(input, target.unsqueeze(1), self.weight, self.bias, self.sparse)  # (N, 1)
        return torch.logsumexp(torch.cat([own, others], dim=1), dim=1) - own.squeeze(1)

    def _log_prob(self, input: Tensor) -> Tensor:
        return torch.log_softmax(linear_logits(input, self.weight, self.bias), dim=1)
