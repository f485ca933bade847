"""Steps and clipping for gradients that are sparse, or that nobody wants to keep."""

import weakref
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary

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
    numbers = []
    for parameter in [parameters] if isinstance(parameters, Tensor) else parameters:
        if parameter.grad is not None and parameter.grad.is_sparse:
            parameter.grad = parameter.grad.coalesce()
            numbers.append(parameter.grad.values())
        elif parameter.grad is not None:
            numbers.append(parameter.grad)
    norm: Tensor = nn.utils.get_total_norm(numbers, norm_type, error_if_nonfinite)
    for some in numbers:
        some.mul_((max_norm / (norm + 1e-6)).clamp(max=1.0).to(some.device))
    return norm


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
