"""Each law goes red on a head that breaks it, most of them as somebody's package once did."""

from collections.abc import Callable
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from softmaxes.head import Head
from softmaxes.layers import highest, widen
from softmaxes.testing import LAWS, Law, check_head, compiled, exported, half_the_digits_rank_alike


class Plain(Head):
    """A softmax that is right, to be broken in one place."""

    loss_is_nll: ClassVar[bool] = True

    def __init__(self, in_features: int, num_classes: int = 5, device: Any = None, dtype: Any = None) -> None:
        super().__init__(in_features, num_classes)
        self.weight = nn.Parameter(torch.empty(num_classes, in_features, device=device, dtype=dtype))
        self.bias = nn.Parameter(torch.empty(num_classes, device=device, dtype=dtype))
        self.reset_parameters()

    def logits(self, input: Tensor) -> Tensor:
        return widen(F.linear(input, self.weight, self.bias))

    def _loss(self, input: Tensor, target: Tensor) -> Tensor:
        return -self._target_log_prob(input, target)

    def _log_prob(self, input: Tensor) -> Tensor:
        return self.logits(input).log_softmax(1)

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, num_classes={self.num_classes}"


class NotANumber(Plain):
    def _loss(self, input: Tensor, target: Tensor) -> Tensor:
        return torch.nan * super()._loss(input, target)


class OneForTheBatch(Plain):
    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return super().forward(input, target).mean()


class OverTheOtherAxis(Plain):
    def _log_prob(self, input: Tensor) -> Tensor:
        return self.logits(input).log_softmax(0)


class WholeNumbers(Plain):
    loss_is_nll = False

    def _loss(self, input: Tensor, target: Tensor) -> Tensor:
        return F.cross_entropy(self.logits(input), target, reduction="none")

    def _log_prob(self, input: Tensor) -> Tensor:
        return super()._log_prob(input).long()


class OneIsInfinite(WholeNumbers):
    def _log_prob(self, input: Tensor) -> Tensor:
        return self.logits(input).log_softmax(1).index_fill(1, torch.tensor([1]), torch.inf)


class GivesAList(Plain):
    def log_prob(self, input: Tensor) -> Any:
        return super().log_prob(input).tolist()


class Detached(Plain):
    def _loss(self, input: Tensor, target: Tensor) -> Tensor:
        return super()._loss(input, target).detach()


class ForgetsShape(Plain):
    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        self._check_input(input)
        self._check_target(input, target)
        return self._loss(input.reshape(-1, self.in_features), target.reshape(-1))


class AveragesOverTheBatch(Plain):
    def _loss(self, input: Tensor, target: Tensor) -> Tensor:
        return super()._loss(input, target) / max(len(input), 1)


class AveragesInTraining(Plain):
    loss_is_nll = False

    def _loss(self, input: Tensor, target: Tensor) -> Tensor:
        return super()._loss(input, target) / (max(len(input), 1) if self.training else 1)


class FallsOverNaN(Plain):
    def _log_prob(self, input: Tensor) -> Tensor:
        support = (self.logits(input) > -torch.inf).sum(1, keepdim=True)  # as a partial sort has it
        return super()._log_prob(input) + 0 * self.logits(input).gather(1, support - 1)


class WrapsTargetsUnseen(Plain):
    """The check is left out where it would have to be waited for, and a negative index counts from the end."""

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        if torch.compiler.is_compiling():
            target = target % self.num_classes
        return super().forward(input, target)


class FixesNormaliser(Plain):
    """Negative sampling's self-normalisation, taken for a probability."""

    def _log_prob(self, input: Tensor) -> Tensor:
        return self.logits(input)


class PredictsGreedily(Plain):
    def predict(self, input: Tensor) -> Tensor:
        halves = self.log_prob(input).exp().unflatten(-1, (5, 1))
        first = halves[..., :2, 0].sum(-1) > halves[..., 2:, 0].sum(-1)
        return torch.where(first, halves[..., :2, 0].argmax(-1), 2 + halves[..., 2:, 0].argmax(-1))


class TopOfTheFirstFew(Plain):
    def _topk(self, input: Tensor, k: int) -> tuple[Tensor, Tensor]:
        log_prob = self._log_prob(input)
        values, classes = log_prob[:, : max(k, 3)].topk(k, dim=1)
        return values, classes


class LosesProbability(Plain):
    """The target's probability in a tree with unused leaves: too small."""

    def _target_log_prob(self, input: Tensor, target: Tensor) -> Tensor:
        return super()._target_log_prob(input, target) - 0.01


class SmoothsInSilence(Plain):
    def _loss(self, input: Tensor, target: Tensor) -> Tensor:
        return 0.99 * super()._loss(input, target) - 0.01 * self._log_prob(input).mean(1)


class NoisyLogProb(Plain):
    def _log_prob(self, input: Tensor) -> Tensor:
        return self.logits(F.dropout(input, 0.1, self.training)).log_softmax(1)


class _MeanUpstream(torch.autograd.Function):
    """A fused loss whose backward takes the upstream gradient to be the same for every row."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, target: Tensor) -> Tensor:
        ctx.save_for_backward(logits, target)
        return F.cross_entropy(logits, target, reduction="none")

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> Any:
        logits, target = ctx.saved_tensors
        return (logits.softmax(1) - F.one_hot(target, logits.shape[1])) * upstream[0].mean(), None


class UniformUpstream(Plain):
    loss_is_nll = False

    def _loss(self, input: Tensor, target: Tensor) -> Tensor:
        loss: Tensor = _MeanUpstream.apply(self.logits(input), target)  # type: ignore[no-untyped-call]
        return loss


class DetachedNormaliser(Plain):
    def _log_prob(self, input: Tensor) -> Tensor:
        logits = self.logits(input)
        return logits - logits.detach().logsumexp(1, keepdim=True)


class LogOfZero(Plain):
    """The three most probable classes alone, and a logarithm whose gradient is 0 / 0 where the others are zero."""

    loss_is_nll = False

    def _loss(self, input: Tensor, target: Tensor) -> Tensor:
        return F.cross_entropy(self.logits(input), target, reduction="none")

    def _log_prob(self, input: Tensor) -> Tensor:
        chance = self.logits(input).softmax(1)
        chance = chance * (chance >= chance.topk(3).values[:, 2:])
        return (chance / chance.sum(1, keepdim=True)).log()


class IdleParameter(Plain):
    def __init__(self, in_features: int, device: Any = None, dtype: Any = None) -> None:
        super().__init__(in_features, 5, device, dtype)
        self.class_weight = nn.Parameter(torch.ones(5, device=device, dtype=dtype))


class ProbabilitiesMultiplied(Plain):
    def _log_prob(self, input: Tensor) -> Tensor:
        scores = self.logits(input).exp()
        return (scores / scores.sum(1, keepdim=True)).log()


class SoftmaxTwice(Plain):
    def _log_prob(self, input: Tensor) -> Tensor:
        return self.logits(input).softmax(1).log_softmax(1)


class StateOutsideTheState(Plain):
    def __init__(self, in_features: int, device: Any = None, dtype: Any = None) -> None:
        super().__init__(in_features, 5, device, dtype)
        self.order = torch.randperm(5)

    def logits(self, input: Tensor) -> Tensor:
        return super().logits(input)[:, self.order]


class ForgetsDevice(Plain):
    def __init__(self, in_features: int, device: Any = None, dtype: Any = None) -> None:
        super().__init__(in_features, 5, device, dtype)
        self.register_buffer("counts", torch.ones(5, dtype=torch.int64))


class NarrowNormaliser(Plain):
    def _log_prob(self, input: Tensor) -> Tensor:
        return F.linear(input, self.weight, self.bias).log_softmax(1)


class CountsInPlace(Plain):
    """An annealed temperature whose step is counted in place: compiled, the backward pass reads the next one."""

    loss_is_nll = False
    steps: Tensor

    def __init__(self, in_features: int, device: Any = None, dtype: Any = None) -> None:
        super().__init__(in_features, 5, device, dtype)
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64, device=device))

    def _loss(self, input: Tensor, target: Tensor) -> Tensor:
        temperature = 0.5 ** (self.steps / 50).clamp(max=1)
        loss = F.cross_entropy(self.logits(input) / temperature, target, reduction="none")
        self.steps.add_(1)
        return loss


class ClampsTargets(Plain):
    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        self._check_input(input)
        return super().forward(input, target.clamp(0, self.num_classes - 1) if isinstance(target, Tensor) else target)


class SilentRepr(Plain):
    def extra_repr(self) -> str:
        return ""


class CountsInInferenceMode(CountsInPlace):
    """A new tensor at every step, also in inference mode, whose tensors nothing may be loaded into."""

    def _loss(self, input: Tensor, target: Tensor) -> Tensor:
        self.steps = self.steps + 1
        return F.cross_entropy(self.logits(input), target, reduction="none")


class OrderInABuffer(Plain):
    """The order of the classes, in a buffer that a moving average averages and a checkpoint overwrites."""

    order: Tensor

    def __init__(self, in_features: int, device: Any = None, dtype: Any = None) -> None:
        super().__init__(in_features, 5, device, dtype)
        self.register_buffer("order", 11 * torch.tensor([3, 4, 0, 2, 1]))  # places of lines that are 11 apart

    def logits(self, input: Tensor) -> Tensor:
        return super().logits(input)[:, self.order // 11]


class TiesAsTheyFall(Plain):
    def _topk(self, input: Tensor, k: int) -> tuple[Tensor, Tensor]:
        values, classes = self._log_prob(input).flip(1).topk(k, dim=1)
        return values, self.num_classes - 1 - classes


class SaturatesBeforeRanking(Plain):
    def _log_prob(self, input: Tensor) -> Tensor:
        return F.logsigmoid(50 * self.logits(input)).log_softmax(1)


class RanksInPredictAlone(SaturatesBeforeRanking):
    """By the logits, which `log_prob` does not know."""

    def _predict(self, input: Tensor) -> Tensor:
        return self.logits(input).argmax(1)


class ForgetsInfinity(Plain):
    """The target's logit against the others', another formula than the one that all classes have."""

    def _target_log_prob(self, input: Tensor, target: Tensor) -> Tensor:
        logits = self.logits(input).clamp(-1e4, 1e4)
        return logits.gather(1, target.unsqueeze(1)).squeeze(1) - logits.logsumexp(1)


class StopsBackwardAlone(Plain):
    """A weight that is taken for a constant, by `no_grad`, which forward-mode derivatives pass."""

    loss_is_nll = False

    def _loss(self, input: Tensor, target: Tensor) -> Tensor:
        with torch.no_grad():
            weight = self._log_prob(input).exp().amax(1)
        return weight * F.cross_entropy(self.logits(input), target, reduction="none")


class AsksForNumbers(Plain):
    def _log_prob(self, input: Tensor) -> Tensor:
        logits = self.logits(input)
        return logits.log_softmax(1) if logits.max() < 1e30 else logits * 0


class DividesByTheNorm(Plain):
    """A zero feature vector has no direction."""

    def logits(self, input: Tensor) -> Tensor:
        return super().logits(input / input.norm(dim=1, keepdim=True))


class OverflowsFarOut(Plain):
    """A power that float32 holds for features of 1e3 and not of 1e6."""

    def logits(self, input: Tensor) -> Tensor:
        return super().logits(input) / (1 + input.pow(8).sum(1, keepdim=True)).pow(1 / 8)


class RowsAreANumber(Plain):
    def _log_prob(self, input: Tensor) -> Tensor:
        return self.logits(input).reshape(input.shape[:1].numel(), 5).log_softmax(1)


class AsksInTopk(Plain):
    """A search that asks how far it has come."""

    def _topk(self, input: Tensor, k: int) -> tuple[Tensor, Tensor]:
        log_prob = self._log_prob(input)
        while not bool((log_prob.topk(k).values > -torch.inf).all()):
            log_prob = log_prob + 1
        return highest(log_prob, k)


class SearchesForFew(Plain):
    """Another way for small batches than for large ones."""

    def _predict(self, input: Tensor) -> Tensor:
        return self._log_prob(input).argmax(1) if len(input) < 32 else highest(self._log_prob(input), 1)[1].squeeze(1)


class TiesAsTheyFallExported(TiesAsTheyFall):
    """The eager way goes by the order of the classes, and the exported one does not."""

    def _topk(self, input: Tensor, k: int) -> tuple[Tensor, Tensor]:
        return super()._topk(input, k) if torch.compiler.is_exporting() else highest(self._log_prob(input), k)


class OtherWhenExported(Plain):
    def _predict(self, input: Tensor) -> Tensor:
        log_prob = self._log_prob(input)
        return log_prob.argmin(1) if torch.compiler.is_exporting() else log_prob.argmax(1)


class WantsAnInt(Plain):
    def topk(self, input: Tensor, k: int) -> tuple[Tensor, Tensor]:
        values, classes = super().topk(input, k)
        return (values, classes) if type(k) is int else (values.flip(-1), classes.flip(-1))


class WantsInt64(Plain):
    def _check_target(self, input: Tensor, target: Tensor) -> Tensor:
        super()._check_target(input, target)
        return target


class TakesAMask(Plain):
    def _check_target(self, input: Tensor, target: Tensor) -> Tensor:
        return super()._check_target(input, target.long() if isinstance(target, Tensor) else target)


RED: dict[str, Callable[..., Head]] = {
    "answers_are_well_formed": NotANumber,
    "leading_dimensions": ForgetsShape,
    "batch_does_not_matter": AveragesOverTheBatch,
    "log_prob_sums_to_one": FixesNormaliser,
    "predict_is_the_argmax": PredictsGreedily,
    "topk_is_exact": TopOfTheFirstFew,
    "target_log_prob_is_the_gather": LosesProbability,
    "loss_is_what_it_says": SmoothsInSilence,
    "log_prob_is_deterministic": NoisyLogProb,
    "gradient_of_the_training_loss": UniformUpstream,
    "gradient_of_log_prob": DetachedNormaliser,
    "every_parameter_learns": IdleParameter,
    "extreme_features": ProbabilitiesMultiplied,
    "separable_classes_are_learned": SoftmaxTwice,
    "copies_are_equal": StateOutsideTheState,
    "meta_device": ForgetsDevice,
    "low_precision": NarrowNormaliser,
    "recomputation_is_the_same": CountsInPlace,
    "inference_mode_leaves_no_mark": CountsInInferenceMode,
    "averages_are_heads": OrderInABuffer,
    "checkpoints_are_checked": OrderInABuffer,
    "ties_go_to_the_lower_class": TiesAsTheyFall,
    "half_the_digits_rank_alike": SaturatesBeforeRanking,
    "infinite_biases_agree": ForgetsInfinity,
    "forward_mode_is_reverse_mode": StopsBackwardAlone,
    "function_transforms": AsksForNumbers,
    "compiled": CountsInPlace,
    "exported": RowsAreANumber,
    "bad_arguments_are_refused": ClampsTargets,
    "integers_are_integers": WantsAnInt,
    "arguments_are_attributes": SilentRepr,
}


ALSO_RED: list[tuple[str, Callable[..., Head]]] = [
    ("gradient_of_log_prob", LogOfZero),
    ("batch_does_not_matter", AveragesInTraining),
    ("compiled", WrapsTargetsUnseen),
    ("exported", AsksInTopk),
    ("exported", SearchesForFew),
    ("exported", TiesAsTheyFallExported),
    ("exported", OtherWhenExported),
    ("integers_are_integers", WantsInt64),
    ("bad_arguments_are_refused", TakesAMask),
    ("extreme_features", DividesByTheNorm),
    ("extreme_features", OverflowsFarOut),
]


@pytest.mark.slow
@pytest.mark.parametrize(("law", "head"), ALSO_RED, ids=lambda value: getattr(value, "__name__", value))
def test_law_goes_red_too(law: str, head: Callable[..., Head]) -> None:
    with pytest.raises(AssertionError, match="expected"):
        next(each for each in LAWS if each.__name__ == law)(head, 6)


def test_a_head_that_falls_over_nan_is_told_so() -> None:
    law = next(each for each in LAWS if each.__name__ == "batch_does_not_matter")
    with pytest.raises(RuntimeError, match="index -1 is out of bounds"):
        law(FallsOverNaN, 6)


@pytest.mark.parametrize("quick", [False, True])
@pytest.mark.parametrize(
    ("head", "told"),
    [
        (NotANumber, "answers_are_well_formed: expected the loss in training to be finite, got nan."),
        (
            OneForTheBatch,
            "answers_are_well_formed: expected the shape of the loss in training for 11 examples to be (11,), got ().",
        ),
        (
            WholeNumbers,
            "answers_are_well_formed: expected log_prob in training to be of a floating-point dtype, got torch.int64.",
        ),
        (OneIsInfinite, "answers_are_well_formed: expected log_prob in training to be finite, got inf."),
        (GivesAList, "answers_are_well_formed: expected log_prob in training to be a tensor, got list."),
        (
            Detached,
            "answers_are_well_formed: expected the loss in training to require a gradient, got a detached one.",
        ),
        (
            OverTheOtherAxis,
            "log_prob_sums_to_one: expected probabilities that sum to 1 at 0.0 times the features, got 0.455.",
        ),
        (
            AveragesOverTheBatch,
            "batch_does_not_matter: expected the loss of example 0, alone and in a batch, to agree, got 1.69e+00 off.",
        ),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_is_wrong_is_told_in_a_line(head: Callable[..., Head], told: str, quick: bool) -> None:
    with pytest.raises(AssertionError) as raised:
        check_head(head, quick=quick)
    assert str(raised.value) == told


@pytest.mark.parametrize("head", [SaturatesBeforeRanking, RanksInPredictAlone])
def test_a_head_that_saturates_is_told_the_cure(head: Callable[..., Head]) -> None:
    """A worked example is in `docs/checking-a-head.md`."""
    cure = "; rank by the scores before a map that saturates, with softmaxes.layers.in_order_of."
    with pytest.raises(
        AssertionError, match=r"^half_the_digits_rank_alike: expected .* times the features, got"
    ) as told:
        half_the_digits_rank_alike(head, 6)
    assert str(told.value).endswith(cure)


@pytest.mark.slow
def test_the_head_that_is_broken_is_right_before() -> None:
    check_head(Plain)


@pytest.mark.parametrize(
    "law",
    [
        pytest.param(law, id=law.__name__, marks=[pytest.mark.slow] if law in (compiled, exported) else [])
        for law in LAWS
    ],
)
def test_law_goes_red(law: Law) -> None:
    with pytest.raises(AssertionError) as raised:
        law(RED[law.__name__], 6)
    assert "expected" in str(raised.value)
