"""Steps and clipping for gradients that are sparse, or that nobody wants to keep."""

import weakref
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary

from softmaxes import rows as rows_alone
from softmaxes.head import Head
from softmaxes.layers import uncompiled

# Of each parameter that is updated in the backward pass the optimiser and the number of its group. The optimiser is
# held weakly, here and by the hooks: torch shows a parameter's hooks to no garbage collector, and it holds parameters.
_OWNER: Any = WeakTensorKeyDictionary()


class SGDInBackward(torch.optim.Optimizer):
    r"""Stochastic gradient descent whose update is part of the backward pass.

    .. math:: w \leftarrow w - \gamma \nabla_w \ell

    What `torch.optim.SGD` does without momentum and weight decay, except that ``loss.backward()`` has done it when it
    returns and no gradient is left: there is nothing to keep, and nothing to zero. The compiled step of
    `HierarchicalSoftmax` writes each change at once where the weight lies. So each `backward` is a step: gradients
    cannot be clipped, looked at, scaled, added up over several calls or averaged over processes.

    Args:
        params: parameters, or groups of them, as for `torch.optim.SGD`; none that another such optimiser updates. Keep
            the optimiser as long as they are trained.
        lr: learning rate, at least 0; read at each `backward`, so that `torch.optim.lr_scheduler` may change it.

    Cost:
        No memory, and no time where the update is part of the compiled step; elsewhere that of `torch.optim.SGD`.

    Example:
        >>> import torch
        >>> from softmaxes import HierarchicalSoftmax, SGDInBackward, Tree
        >>> head = HierarchicalSoftmax(8, Tree.balanced(100_000), sparse=True)
        >>> optimizer = SGDInBackward(head.parameters(), lr=0.5)
        >>> features, target = torch.randn(16, 8), torch.randint(100_000, (16,))
        >>> loss = head(features, target).mean()
        >>> loss.backward()
        >>> bool(head(features, target).mean() < loss), head.weight.grad
        (True, None)

    Reference:
        K. Lv, Y. Yang, T. Liu, Q. Gao, Q. Guo, X. Qiu. Full parameter fine-tuning for large language models with
        limited resources. 2023.
    """

    def __init__(self, params: Iterable[Any], lr: float = 1e-3) -> None:
        self._hooks: list[torch.utils.hooks.RemovableHandle] = []
        super().__init__(params, {"lr": lr})

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Update these parameters too, as every optimiser's `add_param_group`."""
        super().add_param_group(param_group)
        group, number = self.param_groups[-1], len(self.param_groups) - 1
        if not group["lr"] >= 0:
            raise ValueError(f"SGDInBackward: expected lr to be at least 0, got {group['lr']}.")
        if any(parameter in _OWNER for parameter in group["params"]):
            raise ValueError(
                "SGDInBackward: expected parameters that no other such optimiser updates, got one; see its `remove`."
            )
        for parameter in group["params"]:
            _OWNER[parameter] = weakref.ref(self), number
            self._hooks.append(parameter.register_post_accumulate_grad_hook(_update))

    def remove(self) -> None:
        """Leave the parameters alone from now on."""
        for hook in self._hooks:
            hook.remove()
        for group in self.param_groups:
            for parameter in group["params"]:
                _OWNER.pop(parameter, None)

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Nothing, as `backward` has done it; with a closure what that does and returns."""
        return None if closure is None else closure()


BY_ROW = (  # their rule for a number depends on the gradients of that number alone
    torch.optim.SGD,
    torch.optim.Adagrad,
    torch.optim.RMSprop,
    torch.optim.Adam,
    torch.optim.AdamW,
    torch.optim.NAdam,
    torch.optim.RAdam,
    torch.optim.Adamax,
    torch.optim.Adadelta,
)
# A head that can have sparse gradients has them where it has at least this many weights. Measured on a CPU for 1,000 to
# a million classes, 64 and 256 features, batches of 32: hardly a gain at a fifth of it, steps 2 to 8 times as fast at
# twice of it.
SPARSE = 2**20


class LazyRows(torch.optim.Optimizer):
    r"""An optimiser of torch that also steps parameters with sparse gradients: their rows with a gradient, no others.

    torch's optimiser steps dense gradients as ever. Heads with ``sparse=True`` and `torch.nn.Embedding` give sparse
    gradients, which have some rows :math:`I` alone. There the same rule steps the rows :math:`w_I` of the parameter and
    the rows :math:`s_I` of its state:

    .. math:: w_I, s_I \leftarrow \mathrm{rule}(w_I, s_I, g_I), \qquad w_j, s_j \text{ unchanged for } j \notin I

    This is not what a dense gradient with zeros gives. A row that has no gradient keeps its place: no momentum moves
    it, no weight decay shrinks it, and its averages do not fade. Where the rule corrects for the number of steps, that
    is the number of steps of the whole parameter. `torch.optim.SparseAdam` does the same for Adam. Plain SGD and
    Adagrad without weight decay are the same as with dense gradients.

    Args:
        params: parameters, or groups of them, as for every optimiser of torch.
        rule: the class of the optimiser: SGD, Adagrad, RMSprop, Adam, AdamW, NAdam, RAdam, Adamax or Adadelta of
            `torch.optim`.
        options: those of that optimiser, such as ``lr`` and ``weight_decay``.

    Raises:
        ValueError: the rule is another, or an option is out of its range.

    Cost:
        Of a sparse gradient with K rows O(KD) time; Adagrad, Adam and AdamW are compiled for the CPU. The state has the
        size that it has for torch's optimiser; memory that no step has touched is not taken from the machine where it
        hands out memory lazily, as Linux does.

    Example:
        >>> import torch
        >>> from softmaxes import HierarchicalSoftmax, Tree
        >>> from softmaxes.optim import LazyRows
        >>> head = HierarchicalSoftmax(8, Tree.balanced(100_000), sparse=True)
        >>> optimizer = LazyRows(head.parameters(), torch.optim.AdamW, lr=0.01)
        >>> features, target = torch.randn(16, 8), torch.randint(100_000, (16,))
        >>> loss = head(features, target).mean()
        >>> loss.backward()
        >>> optimizer.step()
        >>> bool(head(features, target).mean() < loss)
        True

    Reference:
        TensorFlow Addons. LazyAdam. 2018. PyTorch. SparseAdam. 2017.
    """

    def __init__(
        self, params: Iterable[Any], rule: type[torch.optim.Optimizer] = torch.optim.AdamW, **options: Any
    ) -> None:
        if rule not in BY_ROW:
            able = ", ".join(one.__name__ for one in BY_ROW)
            raise ValueError(
                f"LazyRows: expected as the rule one of {able}, got {getattr(rule, '__name__', rule)}, which does not "
                "step each row by its own gradients."
            )
        self._rule = rule(params, **options)
        super().__init__(self._rule.param_groups, self._rule.defaults)
        self.state = self._rule.state  # Adagrad has some before the first step

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_rule": self._rule}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._rule.__setstate__({"state": self.state, "param_groups": self.param_groups})  # type: ignore[no-untyped-call]

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take a step by the gradients that there are."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        apart: list[tuple[Tensor, dict[str, Any], Tensor]] = []
        for group in self.param_groups:
            for parameter in group["params"]:
                gradient = parameter.grad
                if gradient is not None and gradient.is_sparse:
                    if gradient.sparse_dim() != 1:
                        raise ValueError(
                            "LazyRows: expected gradients that are sparse by rows, sparse_dim 1, got one of sparse_dim "
                            f"{gradient.sparse_dim()}."
                        )
                    apart.append((parameter, group, gradient))
        self._rule.state, self._rule.param_groups = self.state, self.param_groups
        for parameter, _, _ in apart:
            parameter.grad = None
        try:
            self._rule.step()
        finally:
            for parameter, _, gradient in apart:
                parameter.grad = gradient
        for parameter, group, gradient in apart:
            self._step_rows(parameter, group, gradient)
        return loss

    @uncompiled
    @torch.no_grad()
    def _step_rows(self, parameter: Tensor, group: dict[str, Any], gradient: Tensor) -> None:
        rule = type(self._rule)
        if rows_alone.usable(rule, group, parameter, gradient, self.state.get(parameter, {})):
            if gradient._nnz():
                rows_alone.step(rule, group, parameter, gradient, self.state[parameter])
            return
        gradient = gradient.coalesce()
        rows, values = gradient.indices()[0], gradient.values()
        if not len(rows):
            return
        part = nn.Parameter(parameter.index_select(0, rows))
        part.grad = values
        alone = type(self._rule)([part])
        alone.param_groups[0].update({option: value for option, value in group.items() if option != "params"})
        state = self.state.get(parameter, {})
        begin = group.get("initial_accumulator_value", 0.0)  # Adagrad's
        if not state:
            for value in alone.state.get(part, {}).values():
                if _has_rows(value, part):
                    value.fill_(begin)
        else:
            alone.state[part] = {
                name: value.index_select(0, rows) if _has_rows(value, parameter) else value
                for name, value in state.items()
            }
        alone.step()
        parameter.index_copy_(0, rows, part.detach())
        for name, value in alone.state.get(part, {}).items():
            if not _has_rows(value, part):
                state[name] = value
                continue
            if name not in state:
                state[name] = torch.full_like(parameter, begin, dtype=value.dtype)
            state[name].index_copy_(0, rows, value)
        if state:
            self.state[parameter] = state


def _has_rows(value: Any, parameter: Tensor) -> bool:
    """Whether a part of a parameter's state has a number for each of the parameter's."""
    return isinstance(value, Tensor) and value.dim() > 0 and value.shape == parameter.shape


def for_model(
    *models: nn.Module, optimizer: type[torch.optim.Optimizer] = torch.optim.AdamW, **options: Any
) -> LazyRows:
    """One optimiser for a model with a head of very many classes in it: the whole step costs what the loss costs.

    It turns on the sparse gradients of each head that can have them and has at least 2^20 weights, on the CPU, and
    gives a `LazyRows` over all parameters. To do it by hand, make the head with ``sparse=True`` and the optimiser by
    ``LazyRows(model.parameters(), torch.optim.AdamW, lr=...)``.

    Args:
        models: the whole network, or its parts, such as a body and a head.
        optimizer: the class of the optimiser, as for `LazyRows`.
        options: those of that optimiser, such as ``lr`` and ``weight_decay``.

    Raises:
        TypeError: a model is not a `torch.nn.Module`, or none is given.
        ValueError: the optimiser is one that `LazyRows` does not take, or an option is out of its range.

    Cost:
        That of `LazyRows`.

    Example:
        >>> import torch
        >>> from softmaxes import HierarchicalSoftmax, Tree
        >>> from softmaxes.optim import for_model
        >>> body, head = torch.nn.Linear(20, 64), HierarchicalSoftmax(64, Tree.balanced(100_000))
        >>> optimizer = for_model(body, head, lr=1e-3)
        >>> x, y = torch.randn(32, 20), torch.randint(100_000, (32,))
        >>> head(body(x), y).mean().backward()
        >>> optimizer.step()
        >>> head.weight.grad.is_sparse, body.weight.grad.is_sparse
        (True, False)
    """
    wrong = [type(one).__name__ for one in models if not isinstance(one, nn.Module)]
    if wrong or not models:
        got = wrong[0] if wrong else "nothing"
        raise TypeError(f"for_model: expected modules, as in for_model(body, head, lr=0.001), got {got}.")
    model = nn.ModuleList(models)
    optimiser = LazyRows(model.parameters(), optimizer, **options)
    for head in model.modules():
        if isinstance(head, Head) and hasattr(head, "sparse") and _pays(head):
            for part in head.modules():  # the trees of a forest, too
                if isinstance(part, Head) and hasattr(part, "sparse"):
                    part.sparse = True  # type: ignore[assignment]
    return optimiser


def _pays(head: Head) -> bool:
    """Whether sparse gradients make a step faster; on a GPU that was not measured."""
    parameters = list(head.parameters())
    return all(one.device.type == "cpu" for one in parameters) and sum(one.numel() for one in parameters) >= SPARSE


@torch.no_grad()
def clip_grad_norm_(
    parameters: Tensor | Iterable[Tensor], max_norm: float, norm_type: float = 2.0, error_if_nonfinite: bool = False
) -> Tensor:
    r"""Scale the gradients so that their norm is at most `max_norm`; sparse ones too.

    .. math:: g \leftarrow g \min\left(1, \frac{m}{\|g\| + 10^{-6}}\right)

    What `torch.nn.utils.clip_grad_norm_` does, which refuses the gradients of heads with ``sparse=True``. The norm is
    that of all gradients together, taken for one vector. A sparse gradient comes out coalesced.

    Args:
        parameters: parameters, or one; those without a gradient are passed over.
        max_norm: the largest norm, m.
        norm_type: which norm; ``inf`` is the largest entry.
        error_if_nonfinite: whether to raise where the norm is NaN or infinite.

    Returns:
        The norm before, a scalar.

    Raises:
        RuntimeError: the norm is not finite and that is an error.

    Cost:
        O(rows that have a gradient).

    Example:
        >>> import torch
        >>> from softmaxes import HierarchicalSoftmax, Tree
        >>> from softmaxes.optim import clip_grad_norm_
        >>> head = HierarchicalSoftmax(8, Tree.balanced(100_000), sparse=True)
        >>> head(torch.ones(1, 8), torch.tensor([7])).backward()
        >>> norm = clip_grad_norm_(head.parameters(), max_norm=0.5)
        >>> bool(norm > 0.5), round(float(clip_grad_norm_(head.parameters(), max_norm=9.0)), 3)
        (True, 0.5)
    """
    numbers = gradients_of([parameters] if isinstance(parameters, Tensor) else parameters)
    norm: Tensor = nn.utils.get_total_norm(numbers, norm_type, error_if_nonfinite)
    scale_down(numbers, norm, max_norm)
    return norm


def gradients_of(parameters: Iterable[Tensor]) -> list[Tensor]:
    """The numbers of the gradients that there are; sparse gradients are coalesced."""
    numbers = []
    for parameter in parameters:
        if parameter.grad is not None and parameter.grad.is_sparse:
            parameter.grad = parameter.grad.coalesce()
            numbers.append(parameter.grad.values())
        elif parameter.grad is not None:
            numbers.append(parameter.grad)
    return numbers


def scale_down(numbers: Iterable[Tensor], norm: Tensor, max_norm: float) -> None:
    """Multiply gradients in place, so that the norm that all have together is at most a bound."""
    for some in numbers:
        some.mul_((max_norm / (norm + 1e-6)).clamp(max=1.0).to(some.device))


def rate_in_backward(parameter: Tensor) -> float | None:
    """The learning rate by which the backward pass is to update a parameter, or none."""
    found = _OWNER.get(parameter)
    if found is None:
        return None
    owner, number = found
    optimiser = owner()
    if optimiser is None:
        raise RuntimeError("SGDInBackward: expected the optimiser to be there until its `remove`, got it deleted.")
    return float(optimiser.param_groups[number]["lr"])


def _update(parameter: Tensor) -> None:
    gradient, parameter.grad = parameter.grad, None
    if gradient is None:
        return  # the compiled step has updated it
    refuse_second_derivatives(gradient.requires_grad)
    rate = rate_in_backward(parameter)
    assert rate is not None  # noqa: S101
    with torch.no_grad():
        parameter.add_(gradient, alpha=-rate)


def refuse_second_derivatives(wanted: bool) -> None:
    """Raise if the gradient is to have a gradient: the weights that it would be of are no more."""
    if wanted:
        raise ValueError("SGDInBackward: expected backward without create_graph, got it with.")
