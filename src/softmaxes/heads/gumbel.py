"""The softmax of noisy logits: Gumbel-softmax, or with normal noise."""

import hashlib
import math
from typing import ClassVar, Literal, final, get_args
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from softmaxes.head import Head
from softmaxes.layers import linear_logits, linear_parameters
from softmaxes.noise import drawn_like

Noise = Literal["gumbel", "normal"]

REMEMBERED = 1024  # training steps that a backward pass may still ask for
# Of each head the steps that were begun, by the random state that they began with. They are no part of a copy.
_BEGUN: WeakKeyDictionary["GumbelSoftmax", dict[bytes, Tensor]] = WeakKeyDictionary()


@final
class GumbelSoftmax(Head):
    r"""A softmax whose logits are perturbed by noise while training, at a temperature.

    .. math:: \ell(x, y) = -\log \frac{\exp((z_y + s g_y) / \tau)}{\sum_j \exp((z_j + s g_j) / \tau)}, \qquad
        z = W x + b, \qquad p(c \mid x) = \frac{\exp z_c}{\sum_j \exp z_j}

    The noise :math:`g` is drawn anew for every logit of every training step. It is judged without noise: by the
    Gumbel-max theorem the largest of :math:`z_j + g_j` is class c with just the probability :math:`p(c \mid x)`, at any
    temperature. In evaluation the loss is the negative log-likelihood under :math:`p`.

    With ``straight_through`` the forward value is that of hard samples, :math:`h` being one at the largest
    :math:`z_j + s g_j` and zero elsewhere, and the gradient that of the soft ones. A hard sample gives its target
    probability 0 or 1, so the likelihood is mixed with a uniform guess of weight :math:`1/C`. With one sample the loss
    is 0 where it hits the target and :math:`\log C` where it misses; with S of them, :math:`\bar h_y` being the share
    that hits,

    .. math:: \ell(x, y) = -\log \tfrac{1}{C} \left(1 + (C - 1) \bar h_y\right).

    The gradient of a miss is C - 1 times that of the soft sample: take several samples where there are many classes.

    Args:
        in_features: size of a feature vector, D.
        num_classes: number of classes, C, at least 2.
        noise: ``"gumbel"``, standard Gumbel, or ``"normal"``, standard normal.
        scale: :math:`s`, what the noise is multiplied by, 0 or more.
        temperature: :math:`\tau`, above 0; where the schedule starts, if there is one.
        final_temperature: where the schedule ends; give it together with `anneal_steps`.
        anneal_steps: training steps over which the temperature falls (or rises) exponentially; then it stays. A step is
            one call of the loss in training mode.
        straight_through: whether the forward value is that of a hard sample.
        num_samples: draws of the noise for each example, S; the loss is the mean over them, or with `straight_through`
            that of their share of hits.
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
        num_steps: training steps taken, a buffer, so that a schedule goes on from a checkpoint.

    Cost:
        Parameters CD + C. Loss O(NCD + SNC) time, SNC draws, O(SNC) memory. log_prob and top-k O(NCD) time, O(NC)
        memory.

    Example:
        >>> import torch
        >>> from softmaxes import GumbelSoftmax
        >>> head = GumbelSoftmax(8, 10, temperature=1.0, final_temperature=0.5, anneal_steps=1000)
        >>> features, target = torch.randn(4, 8), torch.tensor([0, 3, 9, 3])
        >>> bool((head(features, target) == head(features, target)).all())  # noise
        False
        >>> bool((head.log_prob(features) == head.log_prob(features)).all())  # none
        True

    Reference:
        E. Jang, S. Gu, B. Poole. Categorical reparameterization with Gumbel-softmax. 2017.
        C. J. Maddison, A. Mnih, Y. W. Teh. The concrete distribution. 2017.
    """

    loss_is_nll: ClassVar[bool] = False
    class_rows: ClassVar[tuple[str, ...]] = ("weight", "bias")
    num_steps: Tensor

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        noise: Noise = "gumbel",
        scale: float = 1.0,
        temperature: float = 1.0,
        final_temperature: float | None = None,
        anneal_steps: int | None = None,
        straight_through: bool = False,
        num_samples: int = 1,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(in_features, num_classes)
        if noise not in get_args(Noise):
            raise ValueError(f"GumbelSoftmax: expected noise to be 'gumbel' or 'normal', got {noise!r}.")
        if (final_temperature is None) != (anneal_steps is None):
            raise ValueError(
                "GumbelSoftmax: expected final_temperature and anneal_steps together or neither, "
                f"got {final_temperature} and {anneal_steps}."
            )
        if final_temperature is not None:
            self._number("final_temperature", final_temperature, "in 1e-6..1e6", lambda t: 1e-6 <= t <= 1e6)
        self.noise = noise
        self.scale = self._number("scale", scale, "in 0..1e6", lambda s: 0 <= s <= 1e6)
        self.temperature = self._number("temperature", temperature, "in 1e-6..1e6", lambda t: 1e-6 <= t <= 1e6)
        self.final_temperature = final_temperature
        self.anneal_steps = None if anneal_steps is None else self._at_least("anneal_steps", anneal_steps, 1)
        self.straight_through = straight_through
        self.num_samples = self._at_least("num_samples", num_samples, 1)
        self.weight, self.bias = linear_parameters(self.num_classes, self.in_features, bias, device, dtype)
        self.register_buffer("num_steps", torch.zeros((), dtype=torch.int64, device=device))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the linear layer as `torch.nn.Linear` does, and start the schedule anew."""
        super().reset_parameters()
        self.num_steps.zero_()

    def current_temperature(self) -> Tensor:
        """The temperature of the next training step, a scalar on the head's device."""
        return self._temperature_after(self.num_steps)

    def _temperature_after(self, num_steps: Tensor) -> Tensor:
        """The temperature after some training steps."""
        dtype = torch.promote_types(self.weight.dtype, torch.float32)
        start = torch.full((), self.temperature, dtype=dtype, device=num_steps.device)
        if self.final_temperature is None or self.anneal_steps is None:
            return start
        share = (num_steps.to(dtype) / self.anneal_steps).clamp(max=1)
        return start * (self.final_temperature / self.temperature) ** share

    def _take_step(self) -> Tensor:
        """How many training steps came before this one, which is counted.

        Activation checkpointing calls the head again in the backward pass, for a step that was counted before. It has
        put torch's random state back for that, and by it the step is found again. In inference mode nothing is trained,
        and nothing is counted.
        """
        before = self.num_steps
        if torch.compiler.is_compiling():
            self.num_steps = before + 1
            return before
        begun = _BEGUN.setdefault(self, {})
        state = self._random_state()
        if torch._C._current_graph_task_id() >= 0:  # in a backward pass
            return begun.get(state, before)
        if not torch.is_inference_mode_enabled():
            begun[state] = before
            if len(begun) > REMEMBERED:
                del begun[next(iter(begun))]
            # A new tensor: if it is changed in place, a compiled backward pass reads the next step's temperature.
            self.num_steps = before + 1
        return before

    def _random_state(self) -> bytes:
        """Torch's random state, on the CPU and where the head is; nothing where no schedule needs it."""
        if self.anneal_steps is None:
            return b""
        state = torch.get_rng_state().numpy().tobytes()
        device = self.weight.device
        if device.type not in ("cpu", "meta"):
            state += torch.get_device_module(device).get_rng_state(device).numpy().tobytes()
        return hashlib.blake2b(state).digest()

    def _loss(self, input: Tensor, target: Tensor) -> Tensor:
        if not self.training:
            return -self._target_log_prob(input, target)
        temperature = self._temperature_after(self._take_step())
        logits = linear_logits(input, self.weight, self.bias).expand(self.num_samples, -1, -1)  # (S, N, C)
        perturbed = logits + self.scale * self._noise_like(logits)
        soft = torch.log_softmax(perturbed / temperature, dim=2)
        soft = soft.gather(2, target.expand(self.num_samples, -1).unsqueeze(2)).squeeze(2)  # (S, N)
        return self._of_samples(soft, perturbed.argmax(2) == target if self.straight_through else None)

    def _noise_like(self, logits: Tensor, generator: torch.Generator | None = None) -> Tensor:
        if self.noise == "gumbel":
            smallest = torch.finfo(logits.dtype).tiny
            even = drawn_like(logits, 1, lambda empty: empty.exponential_(generator=generator))
            return -even.clamp(min=smallest).log()
        return drawn_like(logits, 1, lambda empty: empty.normal_(generator=generator))

    def _of_samples(self, soft: Tensor, hard: Tensor | None) -> Tensor:
        """The loss by what each sample says of the target, (S, N): its log-probability, and whether it was the best."""
        if hard is None:
            return -soft.mean(0)
        sample = hard.to(soft.dtype) + soft.exp() - soft.exp().detach()
        return math.log(self.num_classes) - torch.log1p((self.num_classes - 1) * sample.mean(0))

    def _log_prob(self, input: Tensor) -> Tensor:
        return torch.log_softmax(linear_logits(input, self.weight, self.bias), dim=1)
