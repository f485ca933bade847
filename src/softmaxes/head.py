"""The contract that every softmax keeps: features in, a training loss and a distribution out."""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch._C._functorch import get_unwrapped, is_functorch_wrapped_tensor

from softmaxes import checks
from softmaxes.layers import autocasts, highest

INTEGERS = {torch.uint8, torch.uint16, torch.uint32, torch.uint64, torch.int8, torch.int16, torch.int32, torch.int64}


class Head(nn.Module, ABC):
    r"""An output layer that owns its weights, its training loss and the distribution it is judged by.

    A head maps features :math:`x \in \mathbb{R}^D` to a distribution :math:`p(\cdot \mid x)` over :math:`C` classes.
    Its training loss may be anything; what it is judged by is `log_prob`.

    The public methods check their arguments and take any leading dimensions. A subclass writes `_loss` and `_log_prob`
    on a flat batch, and `_target_log_prob`, `_topk` or `_predict` only where it has a cheaper way than all classes.

    Args:
        in_features: size of a feature vector, D.
        num_classes: number of classes, C, at least 2.

    Shape:
        - input: :math:`(*, D)`, of the parameters' dtype. Under autocast float32, float16 and bfloat16 are all taken.
        - target: :math:`(*)`, integers of any dtype, in :math:`[0, C)`. A class out of range is an error. On an
          accelerator and in a compiled graph it is a RuntimeError, for the values are not waited for. An accelerator
          may raise it in a later call.
        - log-probabilities are float32 at least, also where the features are bfloat16: in half precision a distribution
          does not sum to one.

    Attributes:
        in_features: D.
        num_classes: C.
        loss_is_nll: whether ``head(input, target)`` is exactly ``-head.target_log_prob(input, target)``.
        class_rows: names of the parameters that have a row for each class, (C, ...). `softmaxes.resize` adds and
            removes these rows. Nothing else in the head may depend on the number of classes.
    """

    in_features: int
    num_classes: int
    loss_is_nll: ClassVar[bool]
    class_rows: ClassVar[tuple[str, ...]] = ()

    def __init__(self, in_features: int, num_classes: int) -> None:
        super().__init__()
        self.in_features = self._at_least("in_features", in_features, 1)
        self.num_classes = self._at_least("num_classes", num_classes, 2)

    @abstractmethod
    def _loss(self, input: Tensor, target: Tensor) -> Tensor:
        """Training loss of each row: (N, D), (N,) -> (N,)."""

    @abstractmethod
    def _log_prob(self, input: Tensor) -> Tensor:
        """Log-probability of every class: (N, D) -> (N, C)."""

    def _target_log_prob(self, input: Tensor, target: Tensor) -> Tensor:
        """Log-probability of the target of each row: (N, D), (N,) -> (N,)."""
        return self._log_prob(input).gather(1, target.unsqueeze(1)).squeeze(1)

    def _predict(self, input: Tensor) -> Tensor:
        """The most probable class of each row: (N, D) -> (N,)."""
        return self._log_prob(input).argmax(1)

    def _topk(self, input: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """The k most probable classes of each row: (N, D) -> (N, k), (N, k)."""
        return highest(self._log_prob(input), k)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Training loss of each example, in nats, never reduced.

        Class weights and ignored labels are a line outside. As in `torch.nn.functional.cross_entropy`, the weighted
        losses are divided by the sum of the targets' weights:
        ``(weight[target] * head(input, target)).sum() / weight[target].sum()``, ``head(input[keep], target[keep])``.

        Args:
            input: features, (*, D).
            target: classes, (*), integers.

        Returns:
            The loss, (*).

        Raises:
            TypeError: a dtype is not the one expected.
            ValueError: a shape, a device or (on the CPU) a class is not one expected.
        """
        self._check_input(input)
        target = self._check_target(input, target)
        flat = _reshaped(target, -1)
        loss = self._loss(_reshaped(input, -1, self.in_features), flat)
        return _reshaped(self._shaped("_loss", loss, flat.shape[0]), *target.shape)

    def log_prob(self, input: Tensor) -> Tensor:
        """Log-probability of every class, in nats, normalised; the same in training and evaluation.

        Args:
            input: features, (*, D).

        Returns:
            Log-probabilities, (*, C). A class that cannot be has -inf.

        Raises:
            TypeError: the dtype is not the one expected.
            ValueError: the shape or device is not one expected.
        """
        self._check_input(input)
        flat = _reshaped(input, -1, self.in_features)
        shaped = self._shaped("_log_prob", self._log_prob(flat), flat.shape[0], self.num_classes)
        return _reshaped(shaped, *input.shape[:-1], self.num_classes)

    def target_log_prob(self, input: Tensor, target: Tensor) -> Tensor:
        """Log-probability of the target alone, in nats; without the other classes where the mathematics allows.

        Args:
            input: features, (*, D).
            target: classes, (*), integers.

        Returns:
            Log-probabilities, (*).

        Raises:
            TypeError: a dtype is not the one expected.
            ValueError: a shape, a device or (on the CPU) a class is not one expected.
        """
        self._check_input(input)
        target = self._check_target(input, target)
        found = self._target_log_prob(_reshaped(input, -1, self.in_features), _reshaped(target, -1))
        return _reshaped(found, *target.shape)

    def predict(self, input: Tensor) -> Tensor:
        """The most probable class, the argmax of `log_prob`; of equally probable ones the lowest.

        Args:
            input: features, (*, D).

        Returns:
            Classes, (*), int64.

        Raises:
            TypeError: the dtype is not the one expected.
            ValueError: the shape or device is not one expected.
        """
        self._check_input(input)
        return _reshaped(self._predict(_reshaped(input, -1, self.in_features)), *input.shape[:-1])

    def topk(self, input: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """The k most probable classes, exact, most probable first; of equally probable ones the lower first.

        The first of k classes are those of any smaller k, and the first of all is what `predict` gives.

        Args:
            input: features, (*, D).
            k: how many, 1 to C.

        Returns:
            Their log-probabilities, (*, k), and the classes, (*, k), int64.

        Raises:
            TypeError: the dtype is not the one expected, or k is not an int.
            ValueError: the shape or device is not one expected, or k is out of range.
        """
        self._check_input(input)
        k = self._check_k(k)
        values, classes = self._topk(_reshaped(input, -1, self.in_features), k)
        return _reshaped(values, *input.shape[:-1], k), _reshaped(classes, *input.shape[:-1], k)

    def reset_parameters(self) -> None:
        """Draw every parameter from U(-1/sqrt(D), 1/sqrt(D)), as `torch.nn.Linear` does."""
        bound = self.in_features**-0.5
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -bound, bound)

    def named_modules(
        self, memo: set[nn.Module] | None = None, prefix: str = "", remove_duplicate: bool = True
    ) -> Iterator[tuple[str, nn.Module]]:
        """This module and those in it; before them its parameters as an `torch.nn.Embedding`, if they are sparse.

        `DistributedDataParallel` expects sparse gradients of embeddings alone, and asks here what a model consists of.
        """
        if getattr(self, "sparse", False) and self._parameters:
            yield prefix, _SparseRows(self)
        yield from super().named_modules(memo, prefix, remove_duplicate)

    def extra_repr(self) -> str:
        """The constructor's arguments, which are attributes; one that is a module is shown as a module."""
        shown = []
        for name in inspect.signature(type(self)).parameters:
            value = getattr(self, name, None)
            if name in ("device", "dtype") or not hasattr(self, name) or isinstance(value, nn.Module):
                continue
            if name == "bias":
                value = value is not None and value is not False
            in_short = f"tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else repr(value)
            shown.append(f"{name}={in_short}")
        return ", ".join(shown)

    def _at_least(self, what: str, value: int, least: int) -> int:
        return checks.integer(type(self).__name__, what, value, least)

    def _number(self, what: str, value: float, rule: str, holds: Callable[[float], bool]) -> float:
        return checks.number(type(self).__name__, what, value, rule, holds)

    def _shaped(self, what: str, result: Tensor, *shape: int) -> Tensor:
        if not isinstance(result, Tensor):
            raise TypeError(f"{type(self).__name__}: expected {what} to give a Tensor, got {type(result).__name__}.")
        if result.shape != shape:
            raise ValueError(f"{type(self).__name__}: expected {what} to give {shape}, got {tuple(result.shape)}.")
        return result

    def _check_input(self, input: Tensor) -> None:
        name = type(self).__name__
        if not isinstance(input, Tensor):
            raise TypeError(f"{name}: expected input to be a Tensor, got {type(input).__name__}.")
        if not input.is_floating_point():
            raise TypeError(f"{name}: expected input of a floating-point dtype, got {input.dtype}.")
        if input.dim() == 0 or input.shape[-1] != self.in_features:
            raise ValueError(f"{name}: expected input of shape (*, {self.in_features}), got {tuple(input.shape)}.")
        own = next(self.parameters(), None)
        if own is None:  # a replica of `nn.DataParallel`
            return
        if input.device != own.device:
            raise ValueError(f"{name}: expected input on {own.device}, where the parameters are, got {input.device}.")
        if input.dtype != own.dtype and (torch.float64 in (input.dtype, own.dtype) or not autocasts(input.device.type)):
            raise TypeError(f"{name}: expected input of dtype {own.dtype}, the parameters', got {input.dtype}.")

    def _check_k(self, k: int) -> int:
        k = checks.integer(type(self).__name__, "k", k)
        if not 1 <= k <= self.num_classes:
            raise ValueError(f"{type(self).__name__}: expected k in 1..{self.num_classes}, got {k}.")
        return k

    def _check_target(self, input: Tensor, target: Tensor) -> Tensor:
        """The target, as int64."""
        name = type(self).__name__
        if not isinstance(target, Tensor):
            raise TypeError(f"{name}: expected target to be a Tensor, got {type(target).__name__}.")
        if target.dtype != torch.int64:
            if target.dtype not in INTEGERS:
                raise TypeError(f"{name}: expected target of an integer dtype, got {target.dtype}.")
            target = target.long()
        if target.shape != input.shape[:-1]:
            raise ValueError(
                f"{name}: expected target of shape {tuple(input.shape[:-1])}, input's without its last dimension, "
                f"got {tuple(target.shape)}."
            )
        if target.device != input.device:
            raise ValueError(f"{name}: expected target on {input.device}, where input is, got {target.device}.")
        rule = f"{name}: expected target in 0..{self.num_classes - 1}"
        compiling, seen = torch.compiler.is_compiling(), target
        while not compiling and is_functorch_wrapped_tensor(seen):
            seen = get_unwrapped(seen)
        if compiling or seen.device.type != "cpu" or type(seen) is not Tensor:  # values that cannot be read now
            torch._assert_async(((seen >= 0) & (seen < self.num_classes)).all(), rule)
        elif seen.numel() > 0:
            low, high = (int(bound) for bound in seen.aminmax())
            if low < 0 or high >= self.num_classes:
                raise ValueError(f"{rule}, got {low if low < 0 else high}.")
        return target


class _SparseRows(nn.Embedding):
    """The parameters of a head whose gradients are sparse, for those who know sparse gradients of embeddings alone."""

    def __init__(self, head: Head) -> None:
        nn.Module.__init__(self)
        self.sparse = True
        self._parameters = head._parameters

    def extra_repr(self) -> str:
        return "sparse=True"


def _reshaped(tensor: Tensor, *shape: int) -> Tensor:
    """As `Tensor.reshape`, but a tensor that has that many dimensions already is returned as it is."""
    return tensor if tensor.dim() == len(shape) else tensor.reshape(shape)
