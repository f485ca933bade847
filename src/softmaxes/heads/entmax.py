"""The alpha-entmax family: from softmax through distributions with zeros to sparsemax and beyond."""

import math
from typing import ClassVar, final

import entmax
import torch
from torch import Tensor, nn

from softmaxes.head import Head
from softmaxes.layers import linear_logits, linear_parameters, log_of_sparse, once, transformed, uncompiled, widen

FIRST_SORTED = 100  # logits; if the support is larger, the sort goes on
# torch.compile cannot follow them: their methods are class methods.
EXACT = {1.5: uncompiled(entmax.entmax15), 2: uncompiled(entmax.sparsemax)}
BISECTED = uncompiled(entmax.entmax_bisect)

LEAST_LEARNED = 1.01  # below, the gradient by alpha, divided by (alpha - 1) ** 2, is rounding error


@final
class Entmax(Head):
    r"""A map from logits to probabilities that can be exactly zero, trained with its Fenchel-Young loss.

    .. math:: p(\cdot \mid x) = \arg\max_{p \in \triangle} p \cdot z - \Omega_\alpha(p), \qquad
        \Omega_\alpha(p) = \frac{\sum_c p_c^\alpha - 1}{\alpha (\alpha - 1)}, \qquad z = W x + b, \qquad
        \ell(x, y) = \max_{p \in \triangle} \left( p \cdot z - \Omega_\alpha(p) \right) - z_y

    At :math:`\alpha = 1` it is the softmax, :math:`\Omega_1` being negative entropy and the loss cross-entropy; at 2 it
    is sparsemax. Above 1, a class whose logit is far enough below the largest has probability zero, and log_prob -inf.
    The loss stays finite, and is zero once the target's logit leads by enough.

    Args:
        in_features: size of a feature vector, D.
        num_classes: number of classes, C, at least 2.
        alpha: :math:`\alpha`, 1 to 3; where it starts, if it is learned. Beyond 3 a rounding error in a logit is one of
            its cube root or worse in the probabilities.
        learn_alpha: whether alpha is learned, between 1.01 and 2. Beware: the loss falls as alpha rises, whatever the
            data, so that it tends to 2.
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
        alpha_logit: a scalar whose logistic function is where a learned alpha is between 1.01 and 2, or none.

    Cost:
        Parameters CD + C. Loss, log_prob and top-k O(NCD) time, O(NC) memory. Exact at alpha 1, 1.5 and 2, by a partial
        sort that grows until it holds the support; at any other alpha by bisection, 50 rounds of O(NC). Closer to 1
        than the square root of the dtype's precision, it is computed as softmax: bisection would be less exact.

    Example:
        >>> import torch
        >>> from softmaxes import Entmax
        >>> head = Entmax(in_features=8, num_classes=10, alpha=1.5)
        >>> features, target = 9 * torch.randn(4, 8), torch.tensor([0, 3, 9, 3])
        >>> bool(head(features, target).isfinite().all())
        True
        >>> bool(head.log_prob(features).isneginf().any())  # classes that cannot be
        True

    Reference:
        B. Peters, V. Niculae, A. F. T. Martins. Sparse sequence-to-sequence models. 2019.
        G. M. Correia, V. Niculae, A. F. T. Martins. Adaptively sparse transformers. 2019 (learning alpha).
        M. Blondel, A. F. T. Martins, V. Niculae. Learning with Fenchel-Young losses. 2020.
    """

    loss_is_nll: ClassVar[bool] = False
    class_rows: ClassVar[tuple[str, ...]] = ("weight", "bias")

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        alpha: float = 1.5,
        learn_alpha: bool = False,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(in_features, num_classes)
        self.alpha = self._number("alpha", alpha, "in 1..3", lambda a: 1 <= a <= 3)
        if learn_alpha:
            self._number("alpha", alpha, "above 1.01 and below 2 to be learned", lambda a: LEAST_LEARNED < a < 2)
        self.learn_alpha = learn_alpha
        self.weight, self.bias = linear_parameters(self.num_classes, self.in_features, bias, device, dtype)
        self.alpha_logit = nn.Parameter(torch.empty((), device=device, dtype=dtype)) if learn_alpha else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the linear layer as `torch.nn.Linear` does, and start alpha anew."""
        super().reset_parameters()
        if self.alpha_logit is not None:
            nn.init.constant_(self.alpha_logit, math.log((self.alpha - LEAST_LEARNED) / (2 - self.alpha)))

    def current_alpha(self) -> Tensor | float:
        """Alpha, a scalar; a tensor if it is learned."""
        if self.alpha_logit is None:
            return self.alpha
        return LEAST_LEARNED + (2 - LEAST_LEARNED) * widen(self.alpha_logit).sigmoid()

    def _loss(self, input: Tensor, target: Tensor) -> Tensor:
        logits, alpha = linear_logits(input, self.weight, self.bias), self.current_alpha()
        if self._is_softmax(logits):
            return torch.logsumexp(logits, dim=1) - logits.gather(1, target.unsqueeze(1)).squeeze(1)
        # At the maximum the loss does not change with p to first order: for the gradient p is a constant.
        logits = once(logits)
        p = entmax_probability(logits.detach(), alpha.detach() if isinstance(alpha, Tensor) else alpha)
        over = (logits - logits.gather(1, target.unsqueeze(1))).masked_fill(p == 0, 0.0)  # no 0 times -inf
        exponent = (alpha - 1) * p.masked_fill(p == 0, 1.0).log()
        return (p * (over - torch.expm1(exponent) / (alpha * (alpha - 1)))).sum(1)

    def _log_prob(self, input: Tensor) -> Tensor:
        logits = linear_logits(input, self.weight, self.bias)
        if self._is_softmax(logits):
            return torch.log_softmax(logits, dim=1)
        return log_of_sparse(entmax_probability(logits, self.current_alpha()))

    def _is_softmax(self, logits: Tensor) -> bool:
        return not self.learn_alpha and self.alpha - 1 < math.sqrt(torch.finfo(logits.dtype).eps)


def entmax_probability(logits: Tensor, alpha: Tensor | float) -> Tensor:
    """The alpha-entmax of each row, for alpha above 1: exact at 1.5 and 2, else by bisection: (N, C) -> (N, C).

    NaN for a row with a logit that is NaN or inf; the package's partial sort would end in an index out of bounds.

    Raises:
        NotImplementedError: `torch.func` or forward-mode differentiation follows the logits or alpha.
    """
    if transformed(logits, alpha if isinstance(alpha, Tensor) else None):
        raise NotImplementedError(
            "entmax_probability: expected tensors that torch.autograd alone follows, got ones of torch.func or of "
            "forward-mode differentiation, for which the package entmax has no rule."
        )
    largest = logits.detach().amax(1, keepdim=True)
    lost = ~largest.isfinite()
    logits = (logits - largest).masked_fill(lost, 0.0)
    if isinstance(alpha, Tensor) or alpha not in EXACT:
        p: Tensor = BISECTED(logits, alpha=alpha, dim=1)
    else:
        whole = logits.is_meta or torch.compiler.is_exporting()  # where nobody can ask whether the sort has to go on
        p = EXACT[alpha](logits, dim=1, k=None if whole else FIRST_SORTED)
    return p.masked_fill(lost, torch.nan)
