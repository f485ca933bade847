"""Noise-contrastive estimation: the target told from noise, no normaliser."""

import copy
import math
from typing import ClassVar, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from softmaxes.head import Head
from softmaxes.layers import linear_logits, linear_parameters, row_logits
from softmaxes.sampler import Sampler


@final
class NCE(Head):
    r"""A classifier that tells the target from K noise classes, by scores that come to be log-probabilities.

    .. math:: \ell(x, y) = -\log \sigma(\Delta_y) - \sum_{k=1}^K \log \sigma(-\Delta_{s_k}), \qquad
        \Delta_c = z_c - \log(K q(c)), \qquad s_k \sim q, \qquad z = W x + b, \qquad
        p(c \mid x) = \frac{\exp z_c}{\sum_j \exp z_j}

    Where the loss is least on average, :math:`\exp z_c` is the probability of class c: the scores normalise themselves.
    The head does not rely on it: it is judged by the normalised softmax. The draws are shared by the batch, and may hit
    the target, as the theory has it.

    Args:
        in_features: size of a feature vector, D.
        sampler: what the noise is drawn from, e.g. ``Sampler.unigram(counts)``; the head has a copy.
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
        bias: :math:`b`, (C,), or none; it starts at :math:`-\log C`, so that the scores are nearly normalised at first.

    Cost:
        Parameters CD + C. Training loss O(NKD) time, O(NK + KD) memory; with ``sparse`` its gradient too, else that is
        dense, O(CD). In evaluation the loss is the negative log-likelihood; it, log_prob and top-k O(NCD) time, O(NC)
        memory.

    Example:
        >>> import torch
        >>> from softmaxes import NCE, Sampler
        >>> head = NCE(8, Sampler.uniform(10_000), num_samples=64)
        >>> features, target = torch.randn(4, 8), torch.tensor([0, 3, 9_999, 3])
        >>> head(features, target).shape
        torch.Size([4])
        >>> head.log_prob(features).exp().sum(-1).allclose(torch.ones(4))
        True

    Reference:
        M. Gutmann, A. Hyvärinen. Noise-contrastive estimation: a new estimation principle for unnormalized statistical
        models. 2010.
        A. Mnih, Y. W. Teh. A fast and simple algorithm for training neural probabilistic language models. 2012.
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
            raise TypeError(f"NCE: expected sampler to be a Sampler, got {type(sampler).__name__}.")
        super().__init__(in_features, sampler.num_classes)
        self.num_samples = self._at_least("num_samples", num_samples, 1)
        self.sparse = sparse
        self.sampler = copy.deepcopy(sampler).to(torch.get_default_device() if device is None else device)
        self.weight, self.bias = linear_parameters(self.num_classes, self.in_features, bias, device, dtype)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the weights as `torch.nn.Linear` does, and set every bias to -log C."""
        super().reset_parameters()
        if self.bias is not None:
            nn.init.constant_(self.bias, -math.log(self.num_classes))

    def _loss(self, input: Tensor, target: Tensor) -> Tensor:
        if not self.training:
            return -self._target_log_prob(input, target)
        own = self._less_noise(input, target.unsqueeze(1)).squeeze(1)  # (N,)
        drawn = self.sampler.sample(self.num_samples).to(input.device)  # a replica's
        return F.softplus(-own) + F.softplus(self._less_noise(input, drawn)).sum(1)

    def _less_noise(self, input: Tensor, rows: Tensor) -> Tensor:
        """Logits less the logarithm of how often the noise is expected to hit: (N, 1) or (N, K)."""
        logits = row_logits(input, rows, self.weight, self.bias, self.sparse)
        return logits - self.sampler.log_expected(rows, self.num_samples).to(logits.dtype)

    def _log_prob(self, input: Tensor) -> Tensor:
        return torch.log_softmax(linear_logits(input, self.weight, self.bias), dim=1)
