"""The softmax of cosines, with the margins of face recognition."""

import math
from typing import ClassVar, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from softmaxes.head import Head
from softmaxes.layers import linear_parameters, widen


@final
class CosineSoftmax(Head):
    r"""A softmax whose logits are scaled cosines; while training, the target must win by a margin.

    .. math:: p(c \mid x) = \frac{\exp(s \cos\theta_c)}{\sum_j \exp(s \cos\theta_j)}, \qquad
        \cos\theta_c = \frac{w_c \cdot x}{|w_c| |x|}

    The training loss is the cross-entropy with the target's cosine made smaller,

    .. math:: \ell(x, y) = -\log \frac{\exp(s \psi(\theta_y))}{\exp(s \psi(\theta_y)) +
        \sum_{j \ne y} \exp(s \cos\theta_j)}, \qquad \psi(\theta) = \cos(\theta + m_a) - m_c

    An additive cosine margin :math:`m_c` alone is CosFace, an additive angular margin :math:`m_a` alone ArcFace. Where
    :math:`\theta + m_a > \pi`, the cosine would rise again; there
    :math:`\psi(\theta) = \cos\theta - m_a \sin m_a - m_c`. In evaluation the loss is the negative log-likelihood,
    without margins. A feature vector of zeros, which has no direction, has cosine 0 with every class and gradient 0.

    Args:
        in_features: size of a feature vector, D.
        num_classes: number of classes, C, at least 2.
        scale: :math:`s`, above 0; where it starts, if it is learned.
        learn_scale: whether the logarithm of the scale is a parameter.
        cosine_margin: :math:`m_c`, 0 to 2.
        angular_margin: :math:`m_a`, in radians, 0 to :math:`\pi / 2`.
        device: where the parameters are made.
        dtype: dtype of the parameters.

    Shape:
        - input: :math:`(*, D)`
        - target: :math:`(*)`, integers
        - loss: :math:`(*)`; log_prob: :math:`(*, C)`

    Attributes:
        weight: :math:`w`, (C, D), drawn as in `torch.nn.Linear`.
        log_scale: :math:`\log s`, a scalar, or none if the scale is fixed.

    Cost:
        Parameters CD, and one for a learned scale. Loss, log_prob and top-k O(NCD) time, O(NC) memory.

    Example:
        >>> import torch
        >>> from softmaxes import CosineSoftmax
        >>> arcface = CosineSoftmax(in_features=8, num_classes=10, scale=64.0, angular_margin=0.5)
        >>> features, target = torch.randn(4, 8), torch.tensor([0, 3, 9, 3])
        >>> bool((arcface(features, target) > -arcface.target_log_prob(features, target)).all())  # harder in training
        True
        >>> bool(torch.equal(arcface.eval()(features, target), -arcface.target_log_prob(features, target)))
        True

    Reference:
        H. Wang et al. CosFace: large margin cosine loss for deep face recognition. 2018.
        J. Deng, J. Guo, N. Xue, S. Zafeiriou. ArcFace: additive angular margin loss for deep face recognition. 2019.
    """

    loss_is_nll: ClassVar[bool] = False
    class_rows: ClassVar[tuple[str, ...]] = ("weight",)

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        scale: float = 30.0,
        learn_scale: bool = False,
        cosine_margin: float = 0.0,
        angular_margin: float = 0.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(in_features, num_classes)
        self.scale = self._number("scale", scale, "in 1e-6..1e6", lambda s: 1e-6 <= s <= 1e6)
        self.learn_scale = learn_scale
        self.cosine_margin = self._number("cosine_margin", cosine_margin, "in 0..2", lambda m: 0 <= m <= 2)
        self.angular_margin = self._number(
            "angular_margin", angular_margin, "in 0..pi/2, in radians", lambda m: 0 <= m <= math.pi / 2
        )
        self.weight, _ = linear_parameters(self.num_classes, self.in_features, False, device, dtype)
        self.log_scale = nn.Parameter(torch.empty((), device=device, dtype=dtype)) if learn_scale else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the weights as `torch.nn.Linear` does, and start the scale anew."""
        super().reset_parameters()
        if self.log_scale is not None:
            nn.init.constant_(self.log_scale, math.log(self.scale))

    def _loss(self, input: Tensor, target: Tensor) -> Tensor:
        if not self.training:
            return -self._target_log_prob(input, target)
        cosine = self._cosine(input, self.weight)
        own = cosine.gather(1, target.unsqueeze(1))  # (N, 1)
        logits = self._scaled(cosine.scatter(1, target.unsqueeze(1), self._less_margin(own)), self.log_scale)
        return -torch.log_softmax(logits, dim=1).gather(1, target.unsqueeze(1)).squeeze(1)

    def _log_prob(self, input: Tensor) -> Tensor:
        return torch.log_softmax(self._scaled(self._cosine(input, self.weight), self.log_scale), dim=1)

    def _cosine(self, input: Tensor, weight: Tensor) -> Tensor:
        """The cosine between each feature vector and each row: (N, D), (R, D) -> (N, R)."""
        return widen(F.linear(direction(input), direction(weight)))

    def _scaled(self, cosine: Tensor, log_scale: Tensor | None) -> Tensor:
        return cosine * (self.scale if log_scale is None else widen(log_scale).exp())

    def _less_margin(self, cosine: Tensor) -> Tensor:
        """What the margins leave of the target's cosine."""
        margin = self.angular_margin
        if margin == 0:
            return cosine - self.cosine_margin
        # The sine's slope is infinite where the feature is parallel to the weight; there it counts as zero, with slope
        # zero. Rounding may bring a cosine past one, too.
        square = (1 - cosine) * (1 + cosine)
        smallest = torch.finfo(cosine.dtype).eps
        sine = square.clamp(min=smallest).sqrt().where(square > smallest, 0.0)
        added = cosine * math.cos(margin) - sine * math.sin(margin)
        rising = cosine < -math.cos(margin)
        return torch.where(rising, cosine - margin * math.sin(margin), added) - self.cosine_margin


def direction(vectors: Tensor) -> Tensor:
    """Vectors scaled to length one, of zeros zeros: (N, D) -> (N, D)."""
    vectors = widen(vectors)
    largest = vectors.detach().abs().amax(1, keepdim=True)
    vectors = vectors / largest.where(largest > 0, 1.0)  # so that no square overflows or vanishes
    square = vectors.square().sum(1, keepdim=True)
    return vectors * square.where(square > 0, 1.0).rsqrt().where(square > 0, 0.0)
