"""The laws that every head keeps, for the heads here and for a stranger's.

A law is a function of a head maker and a feature size, and raises AssertionError where the head breaks it. A maker is
called as ``make_head(in_features, device=..., dtype=...)`` and gives a fresh head: a class, or a lambda around one.
"""

import copy
import inspect
import math
import pickle
import warnings
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.autograd.gradcheck import GradcheckError
from torch.func import functional_call

from softmaxes.head import Head


class MakeHead(Protocol):
    """What the laws need: a fresh head of a feature size, on a device, of a dtype."""

    def __call__(
        self, in_features: int, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> Head:
        """Make a head."""


Law = Callable[[MakeHead, int], None]


def check_head(make_head: MakeHead, in_features: int = 6, quick: bool = False) -> None:
    """Check a head against every law; nothing is returned if it keeps all.

    Args:
        make_head: makes a fresh head.
        in_features: size of the features that it is tried with.
        quick: check `QUICK_LAWS` alone, which take a moment at thousands of classes too, and need no `dtype`.

    Raises:
        AssertionError: the head breaks a law; the message names the law and what was seen.

    Example:
        >>> from softmaxes import Softmax
        >>> from softmaxes.testing import check_head
        >>> check_head(lambda in_features, **kwargs: Softmax(in_features, 4, **kwargs))
    """
    for law in QUICK_LAWS if quick else LAWS:
        law(make_head, in_features)


def answers_are_well_formed(make_head: MakeHead, in_features: int) -> None:
    """The loss and `log_prob` are tensors of the right shape, of a floating dtype, finite; the loss can be trained on.

    A class that cannot be has a log-probability of -inf.
    """
    head, input, target = _example(make_head, in_features)
    rows, classes = len(input), head.num_classes
    for training in (True, False):
        head.train(training)
        loss: Any = head(input, target)
        log_prob: Any = head.log_prob(input)
        for name, answer, shape in (("the loss", loss, (rows,)), ("log_prob", log_prob, (rows, classes))):
            what = f"{name} in {'training' if training else 'evaluation'}"
            _true(isinstance(answer, Tensor), f"expected {what} to be a tensor, got {type(answer).__name__}")
            _equal(tuple(answer.shape), shape, f"the shape of {what} for {rows} examples")
            _true(answer.is_floating_point(), f"expected {what} to be of a floating-point dtype, got {answer.dtype}")
            wrong = ~(answer.isfinite() | answer.isneginf()) if answer is log_prob else ~answer.isfinite()
            if bool(wrong.any()):
                _true(False, f"expected {what} to be finite, got {answer[wrong][0].item()}")
    _true(
        head.train()(input, target).requires_grad,
        "expected the loss in training to require a gradient, got a detached one",
    )


def leading_dimensions(make_head: MakeHead, in_features: int) -> None:
    """Every public method takes any leading dimensions, also none and an empty one, and gives them back."""
    head, input, target = _example(make_head, in_features)
    head.eval()
    for shape in ((), (3,), (2, 3), (0,), (2, 0), (1,)):
        rows = math.prod(shape)
        x, y = input[:rows].reshape(*shape, in_features), target[:rows].reshape(shape)
        classes = head.num_classes
        k = min(3, classes)
        loss = head.train()(x, y)
        _true(type(loss) is Tensor, f"expected the loss to be a plain tensor, got {type(loss).__name__}")
        _equal(loss.shape, shape, f"shape of the training loss for leading dimensions {shape}")
        _equal(head.eval()(x, y).shape, shape, f"shape of the loss for leading dimensions {shape}")
        _equal(head.log_prob(x).shape, (*shape, classes), f"shape of log_prob for leading dimensions {shape}")
        _equal(head.target_log_prob(x, y).shape, shape, f"shape of target_log_prob for leading dimensions {shape}")
        _equal(head.predict(x).shape, shape, f"shape of predict for leading dimensions {shape}")
        values, indices = head.topk(x, k)
        _equal(values.shape, (*shape, k), f"shape of the values of topk for leading dimensions {shape}")
        _equal(indices.shape, (*shape, k), f"shape of the classes of topk for leading dimensions {shape}")
        _close(head(x, y).flatten(), head(input[:rows], target[:rows]), f"the loss for leading dimensions {shape}")
        _close(
            head.log_prob(x).reshape(rows, classes),
            head.log_prob(input[:rows]),
            f"log_prob for leading dimensions {shape}",
        )


def log_prob_sums_to_one(make_head: MakeHead, in_features: int) -> None:
    """The probabilities of all classes sum to one, for small and large features."""
    head, input, _ = _example(make_head, in_features)
    for scale in (0.0, 1.0, 30.0):
        total = head.log_prob(scale * input).logsumexp(-1).exp()
        off = total[~torch.isclose(total, torch.ones_like(total), rtol=1e-4, atol=1e-5)]
        if len(off):
            _true(False, f"expected probabilities that sum to 1 at {scale} times the features, got {off[0].item():.3g}")


def batch_does_not_matter(make_head: MakeHead, in_features: int) -> None:
    """An example's loss does not depend on its batch: one alone, a ragged last one; an empty batch has a gradient.

    In training too, if the loss has no noise there. A row of NaN leaves the other rows as they are.
    """
    head, input, target = _example(make_head, in_features)
    for training in (True, False):
        head.train(training)
        whole, *others = (_loss_at(seed, head, input, target) for seed in range(16))
        if not all(torch.equal(whole, other) for other in others):
            continue
        for first, last in ((0, 0), (1, 5), (6, len(input) - 1)):
            part = slice(first, last + 1)
            which = f"example {first}" if first == last else f"examples {first} to {last}"
            _close(head(input[part], target[part]), whole[part], f"the loss of {which}, alone and in a batch,")
    spoilt = input.clone()
    spoilt[0] = torch.nan
    loss, log_prob = head(spoilt, target), head.log_prob(spoilt)
    _true(bool((loss[0].isnan() & log_prob[0].isnan().all()).all()), "expected NaN for features that are NaN")
    _close(loss[1:], whole[1:], "the loss beside a row of NaN")
    _close(log_prob[1:], head.log_prob(input)[1:], "log_prob beside a row of NaN")
    head.train()
    head(input[:0], target[:0]).sum().backward()
    for name, parameter in head.named_parameters():
        gradient = parameter.grad
        _true(gradient is None or not bool(gradient.any()), f"expected no gradient of {name} from an empty batch")


def predict_is_the_argmax(make_head: MakeHead, in_features: int) -> None:
    """`predict` is the argmax of `log_prob`, on examples enough for a greedy path to end elsewhere."""
    head, input, _ = _example(make_head, in_features, rows=512)
    _true(torch.equal(head.predict(input), head.log_prob(input).argmax(-1)), "expected predict to be log_prob's argmax")


def topk_is_exact(make_head: MakeHead, in_features: int) -> None:
    """`topk` is `torch.topk` of `log_prob`, for one class, some and all."""
    head, input, _ = _example(make_head, in_features, rows=512)
    log_prob = head.log_prob(input)
    for k in sorted({1, min(3, head.num_classes), head.num_classes}):
        values, classes = head.topk(input, k)
        expected, _ = log_prob.topk(k)
        _close(values, expected, f"the values of topk at k = {k}")
        _close(log_prob.gather(-1, classes), values, f"log_prob of the classes of topk at k = {k}")
        _equal(int(classes.sort(-1).values.diff(dim=-1).eq(0).sum()), 0, f"classes named twice by topk at k = {k}")


def target_log_prob_is_the_gather(make_head: MakeHead, in_features: int) -> None:
    """`target_log_prob` is the target's entry of `log_prob`."""
    head, input, target = _example(make_head, in_features)
    expected = head.log_prob(input).gather(-1, target.unsqueeze(-1)).squeeze(-1)
    _close(head.target_log_prob(input, target), expected, "target_log_prob against the gather of log_prob")


def loss_is_what_it_says(make_head: MakeHead, in_features: int) -> None:
    """The loss is exactly ``-target_log_prob`` if `loss_is_nll` says so, in training and evaluation."""
    head, input, target = _example(make_head, in_features)
    for training in (True, False):
        head.train(training)
        loss = head(input, target)
        _true(bool(loss.isfinite().all()), f"expected a finite loss with training={training}")
        if head.loss_is_nll:
            same = torch.equal(loss, -head.target_log_prob(input, target))
            _true(same, f"expected the loss to be exactly -target_log_prob with training={training}")


def log_prob_is_deterministic(make_head: MakeHead, in_features: int) -> None:
    """`log_prob` is the same twice, in training and in evaluation, and leaves the random state alone."""
    head, input, _ = _example(make_head, in_features)
    state = torch.get_rng_state()
    first = head.train().log_prob(input)
    _true(torch.equal(first, head.log_prob(input)), "expected log_prob to be the same twice")
    _true(torch.equal(first, head.eval().log_prob(input)), "expected log_prob to be the same in train() and eval()")
    _true(torch.equal(state, torch.get_rng_state()), "expected log_prob to draw no random numbers")


def gradient_of_the_training_loss(make_head: MakeHead, in_features: int) -> None:
    """The gradient of the training loss is right, for input and parameters, under any upstream gradient."""
    _gradcheck(make_head, in_features, training=True)


def gradient_of_log_prob(make_head: MakeHead, in_features: int) -> None:
    """The gradients of the loss in evaluation, `target_log_prob` and `log_prob` are right."""
    _gradcheck(make_head, in_features, training=False)


def every_parameter_learns(make_head: MakeHead, in_features: int) -> None:
    """Every parameter gets a finite gradient that is not zero."""
    head, _, _ = _example(make_head, in_features)
    target = torch.arange(head.num_classes).repeat(2)
    input = torch.randn(len(target), in_features)
    head.train()(input, target).mean().backward()
    for name, parameter in head.named_parameters():
        _true(parameter.grad is not None, f"expected {name} to get a gradient")
        _true(bool(parameter.grad.isfinite().all()), f"expected a finite gradient of {name}")  # type: ignore[union-attr]
        _true(bool(parameter.grad.any()), f"expected a gradient of {name} that is not zero")  # type: ignore[union-attr]


def extreme_features(make_head: MakeHead, in_features: int) -> None:
    """Loss and gradient stay finite for features of 1e3 and 1e6, all equal, zero, and along a class's weights."""
    head, input, target = _example(make_head, in_features)
    head.train()
    ones = torch.ones_like(input)
    features = {"1e3": 1e3 * input, "1e6": 1e6 * input, "all equal": 5 * ones, "zero": 0 * ones}
    for name, parameter in head.named_parameters():
        if parameter.dim() == 2 and parameter.shape[1] == in_features:
            rows = parameter.detach()[torch.arange(len(target)) % len(parameter)]
            features |= {f"parallel to {name}": rows.clone(), f"antiparallel to {name}": -1e3 * rows}
    for what, x in features.items():
        x.requires_grad_()
        head.zero_grad()
        loss = head(x, target)
        _true(bool(loss.isfinite().all()), f"expected a finite loss for features {what}")
        loss.sum().backward()
        for name, tensor in [("input", x), *head.named_parameters()]:
            gradient = tensor.grad
            _true(
                gradient is not None and bool(gradient.isfinite().all()),
                f"expected a finite gradient of {name} for features {what}",
            )


def separable_classes_are_learned(make_head: MakeHead, in_features: int) -> None:
    """Classes that are far apart are learned to 99 %, with a negative log-likelihood near zero.

    The features have a dimension for each class, whatever `in_features` is.
    """
    probe = make_head(in_features)
    classes = probe.num_classes
    generator = torch.Generator().manual_seed(0)
    target = torch.arange(classes).repeat(8)
    centre = 5 * torch.eye(classes)
    input = centre[target] + 0.05 * torch.randn(len(target), classes, generator=generator)
    with _seeded(0):
        head = make_head(classes).train()
        optimiser = torch.optim.Adam(head.parameters(), lr=0.1)
        for _ in range(200):
            optimiser.zero_grad()
            head(input, target).mean().backward()
            optimiser.step()
    fresh = centre[target] + 0.05 * torch.randn(len(target), classes, generator=generator)
    head.eval()
    right = (head.predict(fresh) == target).double().mean().item()
    _true(right >= 0.99, f"expected 99 % of separable classes to be learned, got {100 * right:.1f} %")
    nll = -head.target_log_prob(fresh, target).mean().item()
    _true(nll < 0.2, f"expected a negative log-likelihood near zero on separable classes, got {nll:.3f}")


def copies_are_equal(make_head: MakeHead, in_features: int) -> None:
    """`deepcopy`, `pickle` and `state_dict` give a head of the same log-probabilities."""
    head, input, _ = _example(make_head, in_features)
    expected = head.log_prob(input)
    other = make_head(in_features)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(1.0)
    other.load_state_dict(head.state_dict())
    copies = {"deepcopy": copy.deepcopy(head), "pickle": pickle.loads(pickle.dumps(head)), "state_dict": other}
    for how, twin in copies.items():
        _true(torch.equal(twin.log_prob(input), expected), f"expected the same log_prob after {how}")


def meta_device(make_head: MakeHead, in_features: int) -> None:
    """On the meta device, named or by default, nothing is allocated, shapes come out, and it can be filled in later."""
    head = make_head(in_features, device="meta")
    for name, tensor in [*head.named_parameters(), *head.named_buffers()]:
        _equal(tensor.device.type, "meta", f"device of {name} of a head made on the meta device")
    with torch.device("meta"):
        under_default = make_head(in_features)
    for name, tensor in [*under_default.named_parameters(), *under_default.named_buffers()]:
        _equal(tensor.device.type, "meta", f"device of {name} of a head made where the default device is meta")
    input, target = torch.empty(3, in_features, device="meta"), torch.empty(3, dtype=torch.int64, device="meta")
    _equal(head.log_prob(input).shape, (3, head.num_classes), "shape of log_prob on the meta device")
    _equal(head(input, target).shape, (3,), "shape of the loss on the meta device")
    real, input, _ = _example(make_head, in_features)
    head.to_empty(device="cpu")
    head.reset_parameters()
    head.load_state_dict(real.state_dict())
    _true(torch.equal(head.log_prob(input), real.log_prob(input)), "expected a filled-in meta head to be the same")


def low_precision(make_head: MakeHead, in_features: int) -> None:
    """bfloat16: under autocast with float32 and bfloat16 input, and as the head's own dtype.

    A log-probability may be off by four times what rounding each feature and weight to bfloat16 does to it in float32,
    plus 2**-6; where the head gives zeros, the same holds of probabilities. And the probabilities still sum to one.
    """
    head, input, target = _example(make_head, in_features)
    head.eval()
    rounded = copy.deepcopy(head).bfloat16().float()  # the same head with weights that bfloat16 can hold
    input = input.bfloat16().float()
    with torch.no_grad():
        expected = rounded.log_prob(input)
        sparse = bool(expected.isneginf().any())
        judged = torch.exp if sparse else torch.clone
        expected = judged(expected)
        shaken = []
        for seed in range(8):
            with _seeded(seed):
                other = copy.deepcopy(rounded)
                for parameter in other.parameters():
                    parameter.mul_(1 + 2**-8 * (2 * torch.rand_like(parameter) - 1))
                shaken.append(judged(other.log_prob(input * (1 + 2**-8 * (2 * torch.rand_like(input) - 1)))))
    tolerance = 4 * float((torch.stack(shaken) - expected).abs().max()) + 2**-6
    results: dict[str, Tensor] = {}
    with torch.autocast("cpu", dtype=torch.bfloat16):
        results["autocast, float32 input"] = rounded.log_prob(input)
        results["autocast, bfloat16 input"] = rounded.log_prob(input.bfloat16())
        loss = rounded.train()(input.bfloat16(), target)
    loss.float().sum().backward()
    _true(bool(loss.isfinite().all()), "expected a finite training loss under autocast")
    results["bfloat16 head"] = copy.deepcopy(head).bfloat16().log_prob(input.bfloat16())
    for what, log_prob in results.items():
        _equal(log_prob.dtype, torch.float32, f"dtype of log_prob, {what}")
        error = float((judged(log_prob) - expected).detach().abs().nan_to_num(torch.inf).max())
        _true(error <= tolerance, f"expected log_prob within {tolerance:.3f} in bfloat16 ({what}), got {error:.3f} off")
        total = log_prob.logsumexp(-1).exp()
        _close(total, torch.ones_like(total), f"the sum of the probabilities in bfloat16 ({what})")


def compiled(make_head: MakeHead, in_features: int) -> None:
    """`torch.compile` gives the same values and gradients, in one graph or in several, and refuses the same targets."""
    head, input, target = _example(make_head, in_features)
    for training in (True, False):
        head.train(training)
        torch.compiler.reset()
        losses, gradients = [], []
        compiled = torch.compile(head, backend="aot_eager")
        for function in (copy.deepcopy(head), compiled):
            x = input.clone().requires_grad_()
            with _seeded(1), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # where a graph breaks, torch warns of what it does itself
                loss = function(x, target)
            loss.sum().backward()
            _true(x.grad is not None, "expected the input to get a gradient")
            losses.append(loss)
            gradients.append(x.grad)
        _close(losses[1], losses[0], f"the compiled loss with training={training}")
        _close(gradients[1], gradients[0], f"the gradient of the compiled loss with training={training}")  # type: ignore[arg-type]
    for wrong in (-1, -100, head.num_classes):
        target[0] = wrong
        try:
            compiled(input, target)
        except RuntimeError as error:
            _true("expected target in 0.." in str(error), f"expected the class {wrong} to be named, got: {error}")
        else:
            raise AssertionError(f"expected the compiled head to refuse the class {wrong}")
    log_prob = torch.compile(head.log_prob, backend="aot_eager")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _close(log_prob(input), head.log_prob(input), "the compiled log_prob")


def recomputation_is_the_same(make_head: MakeHead, in_features: int) -> None:
    """Activation checkpointing, of both kinds, changes no loss and no gradient, step after step.

    The head is called twice before each backward pass: what a call changes must not reach the recomputation of another.
    """
    from torch.utils.checkpoint import checkpoint

    first, input, target = _example(make_head, in_features)

    def called(head: Head, x: Tensor, reentrant: bool | None) -> Tensor:
        if reentrant is None:
            plain: Tensor = head(x, target)
            return plain
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's own
            loss: Tensor = checkpoint(head, x, target, use_reentrant=reentrant)
        return loss

    for reentrant in (False, True):
        heads = [copy.deepcopy(first).train(), copy.deepcopy(first).train()]
        for step in range(3):
            losses = []
            for head, how in zip(heads, (None, reentrant), strict=True):
                head.zero_grad()
                leaves = [(scale * input).requires_grad_() for scale in (1, 2)]
                with _seeded(step):
                    loss = torch.stack([called(head, x, how) for x in leaves]).mean(0)
                    torch.autograd.backward(loss.mean())
                losses.append(loss)
            where = f"in step {step} with checkpoint(use_reentrant={reentrant})"
            _close(losses[1], losses[0], f"the loss {where}")
            for (name, one), other in zip(heads[0].named_parameters(), heads[1].parameters(), strict=True):
                if one.grad is not None and other.grad is not None:
                    _close(_dense(other.grad), _dense(one.grad), f"the gradient of {name} {where}")
            with torch.no_grad():
                for parameter in (parameter for head in heads for parameter in head.parameters()):
                    if parameter.grad is not None:
                        parameter.sub_(0.1 * _dense(parameter.grad))


def inference_mode_leaves_no_mark(make_head: MakeHead, in_features: int) -> None:
    """After a training loss in inference mode a head can be trained and loaded as before."""
    head, input, target = _example(make_head, in_features)
    state = copy.deepcopy(head.state_dict())
    with torch.inference_mode():
        head.train()(input, target)
        head.log_prob(input)
    try:
        head.load_state_dict(state)
        head(input, target).mean().backward()
    except RuntimeError as error:
        raise AssertionError(f"inference_mode_leaves_no_mark: expected no inference tensor to stay: {error}") from error
    _true(all(p.grad is not None for p in head.parameters()), "expected gradients after a loss in inference mode")


def averages_are_heads(make_head: MakeHead, in_features: int) -> None:
    """The moving average of a model that does not change, with its buffers, is that model."""
    from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

    head, input, target = _example(make_head, in_features)
    averaged = AveragedModel(head, multi_avg_fn=get_ema_multi_avg_fn(0.9999), use_buffers=True)  # type: ignore[no-untyped-call]
    for _ in range(3):
        averaged.update_parameters(head)
    other: Any = averaged.module
    _close(other.eval().log_prob(input), head.eval().log_prob(input), "log_prob of the moving average")
    _close(other(input, target), _loss_at(0, head, input, target), "the loss of the moving average")
    _true(bool(other.train()(input, target).isfinite().all()), "expected a finite training loss of the moving average")


def checkpoints_are_checked(make_head: MakeHead, in_features: int) -> None:
    """A checkpoint whose tables of whole numbers are no such tables is refused, and the head stays as it was."""
    head, input, _ = _example(make_head, in_features)
    expected = head.log_prob(input)
    for name, table in head.state_dict().items():
        if table.is_floating_point() or table.dim() == 0:
            continue
        for wrong in (torch.zeros_like(table), table.flip(0) + 1):
            try:
                head.load_state_dict({**head.state_dict(), name: wrong})
            except RuntimeError as error:
                _true("expected" in str(error), f"expected the error for {name} to say what was expected: {error}")
            else:
                raise AssertionError(f"checkpoints_are_checked: expected {wrong} to be refused for {name}.")
            _true(torch.equal(head.log_prob(input), expected), f"expected a refused {name} to change nothing")


def ties_go_to_the_lower_class(make_head: MakeHead, in_features: int) -> None:
    """Of equally probable classes the lower comes first, for every k, also under autocast.

    The first j of k classes are the j best, and the best one is what `predict` gives.
    """
    head, input, _ = _example(make_head, in_features, rows=64)
    level = copy.deepcopy(head)
    with torch.no_grad():
        for parameter in level.parameters():
            parameter.zero_()
    classes = head.num_classes
    sizes = sorted({1, min(2, classes), min(5, classes), classes - 1, classes})
    for what, one, x in (("all weights zero", level, input), ("few features", head, input.round())):
        for precision in ("float32", "bfloat16"):
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bfloat16"):
                log_prob, predicted = one.log_prob(x), one.predict(x)
                found = {k: one.topk(x, k)[1] for k in sizes}
            where = f"with {what}, in {precision}"
            _true(torch.equal(found[1].squeeze(-1), predicted), f"expected topk(x, 1) to be predict(x) {where}")
            for k in sizes:
                _true(torch.equal(found[classes][:, :k], found[k]), f"expected the first {k} of all classes {where}")
            if one is level:
                expected = log_prob.sort(dim=-1, descending=True, stable=True).indices
                _true(torch.equal(found[classes], expected), f"expected the lower of equal classes first {where}")


def half_the_digits_rank_alike(make_head: MakeHead, in_features: int) -> None:
    """What the head predicts does not hang on float32: a map that saturates must not end the ranking.

    At most one example in a hundred may be so close that rounding decides. A head whose map saturates ranks by the
    scores before it: `softmaxes.layers.in_order_of` gives log-probabilities that do.
    """
    cure = "rank by the scores before a map that saturates, with softmaxes.layers.in_order_of"
    head, input, _ = _example(make_head, in_features, rows=512)
    double = copy.deepcopy(head).double()
    for scale in (1.0, 10.0, 30.0):
        x = scale * input
        predicted = head.predict(x)
        alike = (predicted == double.predict(x.double())).double().mean().item()
        at = f"at {scale} times the features"
        _true(alike >= 0.99, f"expected predictions of float64 {at}, got {100 * alike:.0f} % of them; {cure}")
        same = (head.log_prob(x).argmax(-1) == predicted).double().mean().item()
        _true(same == 1, f"expected predict to be log_prob's argmax {at}, got {100 * same:.0f} % of them; {cure}")


def infinite_biases_agree(make_head: MakeHead, in_features: int) -> None:
    """With a bias of inf or -inf the loss, `target_log_prob` and `log_prob` say the same."""
    head, input, _ = _example(make_head, in_features, rows=1)
    head.eval()
    target = torch.arange(head.num_classes)
    input = input.expand(len(target), -1)
    for name, parameter in head.named_parameters():
        if not name.endswith("bias") or parameter.dim() != 1:
            continue
        for value in (math.inf, -math.inf):
            other = copy.deepcopy(head)
            with torch.no_grad():
                other.get_parameter(name)[0] = value
            own = other.log_prob(input).gather(-1, target.unsqueeze(-1)).squeeze(-1)
            what = f"with {name}[0] = {value}"
            _alike(other.target_log_prob(input, target), own, f"target_log_prob against the gather of log_prob {what}")
            if head.loss_is_nll:
                _alike(-other(input, target), own, f"the loss against log_prob {what}")


def forward_mode_is_reverse_mode(make_head: MakeHead, in_features: int) -> None:
    """The training loss has one derivative in a direction, by forward and by reverse mode, where it has both."""
    head, input, target = _example(make_head, in_features, torch.float64)
    head.train()
    parameters = {name: parameter.detach().clone() for name, parameter in head.named_parameters()}
    buffers = {name: buffer.clone() for name, buffer in head.named_buffers()}
    upstream = torch.linspace(-1.0, 2.0, len(target), dtype=torch.float64)

    def total(parameters: dict[str, Tensor], x: Tensor) -> Tensor:
        fresh = {name: buffer.clone() for name, buffer in buffers.items()}
        with _seeded(2):  # the same noise at every call
            loss: Tensor = functional_call(head, parameters | fresh, (x, target))
        return (upstream * loss).sum()

    with _seeded(1):
        direction = {name: torch.randn_like(parameter) for name, parameter in parameters.items()}
        towards = torch.randn_like(input)
    leaves = {name: parameter.clone().requires_grad_() for name, parameter in parameters.items()}
    x = input.clone().requires_grad_()
    gradients = torch.autograd.grad(total(leaves, x), [*leaves.values(), x], allow_unused=True)
    pairs = zip(gradients, [*direction.values(), towards], strict=True)
    expected = sum((_dense(gradient) * way).sum() for gradient, way in pairs if gradient is not None)
    dual: Any = forward_ad.make_dual
    unpacked: Any = forward_ad.unpack_dual
    try:
        with warnings.catch_warnings(), forward_ad.dual_level():
            warnings.simplefilter("ignore")  # torch's own
            made = {name: dual(parameters[name], direction[name]) for name in parameters}
            result = unpacked(total(made, dual(input, towards))).tangent
    except NotImplementedError:  # a function of somebody's without a forward mode
        return
    _close(result, torch.as_tensor(expected), "the forward-mode derivative of the training loss")


def function_transforms(make_head: MakeHead, in_features: int) -> None:
    """`torch.func` gives what a batch gives, for the loss's gradients and `log_prob`; or says in a line why not."""
    head, input, target = _example(make_head, in_features)
    head.eval()
    parameters = {name: parameter.detach() for name, parameter in head.named_parameters()}

    def loss(parameters: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        found: Tensor = functional_call(head, parameters, (x, y))
        return found

    def each(x: Tensor, y: Tensor) -> dict[str, Tensor]:
        found: dict[str, Tensor] = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0, 0))(parameters, x, y)
        return {name: gradient.sum(0) for name, gradient in found.items()}

    calls: dict[str, Callable[[], Tensor]] = {
        "vmap of log_prob": lambda: torch.func.vmap(head.log_prob)(input) - head.log_prob(input),
        "vmap of predict": lambda: torch.func.vmap(head.predict)(input) - head.predict(input),
        "vmap of topk": lambda: torch.func.vmap(lambda x: head.topk(x, 2)[0])(input) - head.topk(input, 2)[0],
        "grad of the loss": lambda: _apart(
            torch.func.grad(lambda p: loss(p, input, target).sum())(parameters), _gradients(head, input, target)
        ),
        "vmap of grad of the loss": lambda: _apart(each(input, target), _gradients(head, input, target)),
    }
    for what, call in calls.items():
        try:
            apart = call().nan_to_num()
        except (RuntimeError, TypeError, ValueError) as error:
            one_line = "expected " in str(error) and "\n" not in str(error)
            _true(one_line, f"expected {what} to work, or one sentence that says what was expected, got {error}")
        else:
            _close(apart, torch.zeros_like(apart), what)


def exported(make_head: MakeHead, in_features: int) -> None:
    """`torch.export` of `log_prob`, `predict` and `topk` takes any batch size, and gives what the head gives."""
    head, input, _ = _example(make_head, in_features)
    served = Served(head.eval(), min(3, head.num_classes))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own
        try:
            sizes = {"input": {0: torch.export.Dim("batch")}}
            program = torch.export.export(served, (input,), dynamic_shapes=sizes).module()
        except Exception as error:
            raise AssertionError(f"exported: expected an export with any batch size, got: {error}") from error
    for rows in (1, 3, 40, 1000):
        same_answers(served, program, torch.randn(rows, in_features))
    with torch.no_grad():
        for parameter in (*head.parameters(), *program.parameters()):
            parameter.zero_()
    x = torch.randn(3, in_features)
    _true(torch.equal(program(x)[3], served(x)[3]), "expected topk exported to give the lower of equal classes")


class Served(torch.nn.Module):
    """What a head is judged by, as the module that `torch.export` and `torch.onnx.export` want.

    Its forward maps features, (N, D), to `log_prob`, `predict` and both results of `topk`.
    """

    def __init__(self, head: Head, k: int) -> None:
        super().__init__()
        self.head, self.k = head, k

    def forward(self, input: Tensor) -> tuple[Tensor, ...]:
        """Log-probabilities, the most probable class, and the k most probable ones with their log-probabilities."""
        return self.head.log_prob(input), self.head.predict(input), *self.head.topk(input, self.k)


def same_answers(served: torch.nn.Module, program: Callable[[Tensor], Sequence[Tensor]], input: Tensor) -> None:
    """Check that what was made of a module for a machine without it, by an export, says what the module says.

    Of classes that rounding alone tells apart either will do. Where some probabilities are zero, they are compared in
    place of their logarithms, in which a rounding error near zero is large.

    Args:
        served: `Served`, or a network that ends in it.
        program: what was made of it.
        input: what the module takes, of N examples.

    Raises:
        AssertionError: it says something else.
    """
    with torch.no_grad():
        (log_prob, predicted, values, classes), found = served(input), program(input)
    where = f"exported, for {len(input)} examples"
    judged = torch.exp if bool(log_prob.isneginf().any()) else torch.clone
    known = judged(log_prob)
    _close(judged(found[0]), known, f"log_prob {where}")
    _close(judged(found[2]), judged(values), f"the values of topk {where}")
    for what, some, own in (("predict", found[1:2], predicted.unsqueeze(1)), ("topk", found[3:], classes)):
        got = some[0].view(own.shape)
        _equal(got.dtype, torch.int64, f"dtype of {what} {where}")
        _close(known.gather(1, got), known.gather(1, own), f"log_prob of the classes of {what} {where}")
    _equal(int(found[3].sort(1).values.diff(dim=1).eq(0).sum()), 0, f"classes named twice by topk {where}")


def bad_arguments_are_refused(make_head: MakeHead, in_features: int) -> None:
    """What does not fit is refused with the head's name, what was expected and what came."""
    head, x, y = _example(make_head, in_features)
    classes = head.num_classes
    wrong_class, negative = y.clone(), y.clone()
    wrong_class[1], negative[1] = classes, -1
    wide = torch.randn(len(y), in_features + 1)
    refused: list[tuple[str, Callable[[], Any], type[Exception], str]] = [
        ("features of another size", lambda: head(wide, y), ValueError, f"(*, {in_features})"),
        ("features of another size", lambda: head.log_prob(wide), ValueError, f"(*, {in_features})"),
        ("a number for features", lambda: head.predict(torch.tensor(1.0)), ValueError, "()"),
        ("integer features", lambda: head.log_prob(x.long()), TypeError, "torch.int64"),
        ("features of another dtype", lambda: head.topk(x.double(), 1), TypeError, "torch.float64"),
        ("features on another device", lambda: head.log_prob(x.to("meta")), ValueError, "meta"),
        ("floating-point targets", lambda: head(x, y.float()), TypeError, "torch.float32"),
        ("targets that are true or false", lambda: head.target_log_prob(x, y > 0), TypeError, "torch.bool"),
        ("a list of features", lambda: head.predict([[1.0] * in_features]), TypeError, "list"),  # type: ignore[arg-type]
        ("a number for a target", lambda: head(x[0], 1), TypeError, "int"),
        ("float64 under autocast", lambda: _autocast(head, x.double(), y), TypeError, "torch.float64"),
        ("fewer targets", lambda: head(x, y[:-1]), ValueError, str((len(y) - 1,))),
        ("targets on another device", lambda: head(x, y.to("meta")), ValueError, "meta"),
        ("the class C", lambda: head(x, wrong_class), ValueError, f"0..{classes - 1}, got {classes}"),
        ("the class C", lambda: head.target_log_prob(x, wrong_class), ValueError, f"0..{classes - 1}, got {classes}"),
        ("the class -1", lambda: head(x, negative), ValueError, f"0..{classes - 1}, got -1"),
        ("k = 2.0", lambda: head.topk(x, 2.0), TypeError, "got 2.0"),  # type: ignore[arg-type]
        ("k = 0", lambda: head.topk(x, 0), ValueError, f"1..{classes}, got 0"),
        ("k = C + 1", lambda: head.topk(x, classes + 1), ValueError, f"1..{classes}, got {classes + 1}"),
        ("no features", lambda: make_head(0), ValueError, "got 0"),
    ]
    for what, call, kind, came in refused:
        try:
            call()
        except kind as error:
            message = str(error)
            fits = message.startswith(f"{type(head).__name__}: expected ") and ", got " in message and came in message
            _true(fits, f"expected the error for {what} to name the head, what was expected and {came!r}: {message}")
        else:
            raise AssertionError(f"expected {kind.__name__} for {what}")


def integers_are_integers(make_head: MakeHead, in_features: int) -> None:
    """Sizes and k may be any integers, such as NumPy's, and are kept as ints; targets may have any integer dtype."""
    head, input, target = _example(make_head, in_features)
    twin = make_head(np.int64(in_features))  # type: ignore[arg-type]
    _true(type(twin.in_features) is int, "expected in_features to be kept as an int")
    _true(twin.in_features == in_features, f"expected {in_features} in_features")
    for k in (np.int64(2), np.uint8(1), torch.tensor(2)):
        _true(torch.equal(head.topk(input, k)[1], head.topk(input, int(k))[1]), f"expected topk to take {k!r}")  # type: ignore[arg-type]
    target = target.clamp(max=127)
    expected = _loss_at(0, copy.deepcopy(head), input, target), head.target_log_prob(input, target)
    for dtype in (torch.uint8, torch.int8, torch.int16, torch.int32):
        y = target.to(dtype)
        try:
            found = _loss_at(0, copy.deepcopy(head), input, y), head.target_log_prob(input, y)
        except (TypeError, IndexError, RuntimeError) as error:
            raise AssertionError(f"integers_are_integers: expected targets of {dtype} to be taken: {error}") from error
        _true(all(map(torch.equal, found, expected)), f"expected the same of targets of {dtype} as of int64")


def arguments_are_attributes(make_head: MakeHead, in_features: int) -> None:
    """Every constructor argument is an attribute and is shown by `repr`."""
    head = make_head(in_features)
    for name in inspect.signature(type(head)).parameters:
        if name not in ("device", "dtype"):
            _true(hasattr(head, name), f"expected the argument {name} to be an attribute")
            shown = f"{name}=" in repr(head) or f"({name}): " in repr(head)
            _true(shown, f"expected the argument {name} in {head!r}")


LAWS: tuple[Law, ...] = (
    answers_are_well_formed,
    leading_dimensions,
    log_prob_sums_to_one,
    batch_does_not_matter,
    predict_is_the_argmax,
    topk_is_exact,
    target_log_prob_is_the_gather,
    loss_is_what_it_says,
    log_prob_is_deterministic,
    gradient_of_the_training_loss,
    gradient_of_log_prob,
    every_parameter_learns,
    extreme_features,
    separable_classes_are_learned,
    copies_are_equal,
    meta_device,
    low_precision,
    recomputation_is_the_same,
    inference_mode_leaves_no_mark,
    averages_are_heads,
    checkpoints_are_checked,
    ties_go_to_the_lower_class,
    half_the_digits_rank_alike,
    infinite_biases_agree,
    forward_mode_is_reverse_mode,
    function_transforms,
    compiled,
    exported,
    bad_arguments_are_refused,
    integers_are_integers,
    arguments_are_attributes,
)


QUICK_LAWS: tuple[Law, ...] = (
    answers_are_well_formed,
    leading_dimensions,
    log_prob_sums_to_one,
    batch_does_not_matter,
    target_log_prob_is_the_gather,
    loss_is_what_it_says,
    log_prob_is_deterministic,
    every_parameter_learns,
)


class _seeded:  # noqa: N801
    """Random numbers from a seed, and the state put back afterwards."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def __enter__(self) -> None:
        self.state = torch.get_rng_state()
        torch.manual_seed(self.seed)

    def __exit__(self, *_: object) -> None:
        torch.set_rng_state(self.state)


def _example(
    make_head: MakeHead, in_features: int, dtype: torch.dtype = torch.float32, rows: int = 11
) -> tuple[Head, Tensor, Tensor]:
    """A head, features and targets, the same at every call."""
    with _seeded(0):
        head = make_head(in_features, dtype=dtype)
        input = torch.randn(rows, in_features, dtype=dtype)
        target = torch.randint(head.num_classes, (rows,))
    return head, input, target


def _loss_at(seed: int, head: Head, input: Tensor, target: Tensor) -> Tensor:
    with _seeded(seed):
        loss: Tensor = head(input, target)
    return loss


def _autocast(head: Head, input: Tensor, target: Tensor) -> Tensor:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss: Tensor = head(input, target)
    return loss


def _gradcheck(make_head: MakeHead, in_features: int, training: bool) -> None:
    head, input, target = _example(make_head, in_features, torch.float64, rows=4)
    head.train(training)
    names = [name for name, _ in head.named_parameters()]
    upstream = torch.linspace(-1.0, 2.0, len(target), dtype=torch.float64)

    class Methods(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = head

        def forward(self, x: Tensor) -> tuple[Tensor, ...]:
            loss = head(x, target)
            if training:
                return loss, (upstream * loss).sum()
            own, log_prob = head.target_log_prob(x, target), head.log_prob(x)
            some = [values.where(values > -math.inf, 0.0) for values in (own, log_prob)]  # a class that cannot be
            finite = loss.where(loss < math.inf, 0.0)
            return finite, (upstream * finite).sum(), *some

    methods = Methods()
    buffers = {f"head.{name}": buffer.clone() for name, buffer in head.named_buffers()}

    def function(x: Tensor, *parameters: Tensor) -> tuple[Tensor, ...]:
        state = {f"head.{name}": parameter for name, parameter in zip(names, parameters, strict=True)}
        with _seeded(2):  # the same noise at every call
            fresh = {name: buffer.clone() for name, buffer in buffers.items()}
            result: tuple[Tensor, ...] = functional_call(methods, state | fresh, (x,))
            return result

    inputs = (input.requires_grad_(), *(parameter.detach().clone().requires_grad_() for parameter in head.parameters()))
    try:
        torch.autograd.gradcheck(function, inputs, fast_mode=True)
    except GradcheckError as error:
        raise AssertionError(f"{type(head).__name__}: expected right gradients, got {error}") from error


def _dense(gradient: Tensor) -> Tensor:
    return gradient.to_dense() if gradient.is_sparse else gradient


def _gradients(head: Head, input: Tensor, target: Tensor) -> dict[str, Tensor]:
    """The gradients of the summed loss, zero where there is none."""
    names, parameters = zip(*head.named_parameters(), strict=True)
    found = torch.autograd.grad(head(input, target).sum(), parameters, allow_unused=True)
    return {
        name: torch.zeros_like(parameter) if gradient is None else _dense(gradient)
        for name, parameter, gradient in zip(names, parameters, found, strict=True)
    }


def _apart(some: dict[str, Tensor], others: dict[str, Tensor]) -> Tensor:
    """How far apart tensors of one name are, all in one; if values are above one, as parts of the tensor's largest.

    A sum of gradients is rounded to parts of its largest term.
    """
    largest = {name: other.nan_to_num(posinf=0.0, neginf=0.0).abs().max() for name, other in others.items()}
    return torch.cat([((some[name] - others[name]) / largest[name].clamp(min=1.0)).flatten() for name in others])


def _alike(got: Tensor, expected: Tensor, what: str) -> None:
    """As `_close`, but infinite and NaN where the other is."""
    same = torch.allclose(got, expected, rtol=1e-4, atol=1e-5, equal_nan=True)
    _true(same, f"expected {what} to agree, got {got.tolist()[:4]} and {expected.tolist()[:4]}")


def _true(holds: bool, message: str) -> None:
    if not holds:
        raise AssertionError(f"{_law()}: {message}.")


def _equal(got: object, expected: object, what: str) -> None:
    _true(got == expected, f"expected {what} to be {expected}, got {got}")


def _close(got: Tensor, expected: Tensor, what: str) -> None:
    _true(got.shape == expected.shape, f"expected {what} to agree, got shapes {_shapes(got, expected)}")
    if not torch.allclose(got, expected, rtol=1e-4, atol=1e-5):
        off = float((got - expected).detach().abs().max())
        _true(False, f"expected {what} to agree, got {off:.2e} off")


def _shapes(some: Tensor, other: Tensor) -> str:
    return f"{tuple(some.shape)} and {tuple(other.shape)}"


def _law() -> str:
    """The name of the law that is being checked."""
    names = {law.__name__ for law in LAWS}
    return next((frame.function for frame in inspect.stack() if frame.function in names), "law")
