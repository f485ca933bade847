"""Steps of Adagrad, Adam and AdamW on the rows that have a gradient, compiled, for the CPU.

`softmaxes.optim.LazyRows` says the same in plain PyTorch, and takes this where it can: for float32 and float64 on a
CPU, if `rows.cpp` was built when the package was installed. Each row of weights and state is read and written once.
"""

import math
from typing import Any

import torch
from torch import Tensor

from softmaxes.native import ADDRESS, DTYPES, NUMBER, SIZE, load

LIBRARY, _ = load(
    "softmaxes._rows",
    {
        "adagrad": ([ADDRESS] * 6 + [SIZE] * 2 + [NUMBER] * 3, None),
        "adam": ([ADDRESS] * 7 + [SIZE] * 2 + [NUMBER] * 7, None),
    },
)
STATE = {
    torch.optim.Adagrad: ("sum",),
    torch.optim.Adam: ("exp_avg", "exp_avg_sq"),
    torch.optim.AdamW: ("exp_avg", "exp_avg_sq"),
}
UNKNOWN = ("maximize", "amsgrad", "differentiable", "capturable")  # options that it does not have


def usable(
    rule: type[torch.optim.Optimizer],
    group: dict[str, Any],
    parameter: Tensor,
    gradient: Tensor,
    state: dict[str, Any],
) -> bool:
    """Whether it can take these; the state is perhaps yet to be made."""
    if LIBRARY is None or rule not in STATE or any(group.get(option) for option in UNKNOWN):
        return False
    if parameter.dtype not in DTYPES or gradient.dtype != parameter.dtype or parameter.device.type != "cpu":
        return False
    if not all(isinstance(one, int | float) for one in (group["lr"], *group.get("betas", ()))):  # and no tensor
        return False
    tables = [parameter, *(state[name] for name in STATE[rule] if name in state)]
    return all(one.is_contiguous() and one.dtype == parameter.dtype and not one.is_neg() for one in tables)


def step(
    rule: type[torch.optim.Optimizer],
    group: dict[str, Any],
    parameter: Tensor,
    gradient: Tensor,
    state: dict[str, Any],
) -> None:
    """Step the rows of a parameter that have a gradient. Call it only where `usable` says that it can.

    Args:
        rule: Adagrad, Adam or AdamW.
        group: its options.
        parameter: (R, *).
        gradient: sparse by rows; a row may have several entries.
        state: of the parameter; it is made at the first step, and changed.
    """
    rows, values = gradient._indices()[0], gradient._values().contiguous()
    order = None
    if not gradient.is_coalesced():
        rows, order = rows.sort(stable=True)
    if rows[0] < 0 or rows[-1] >= len(parameter):
        raise IndexError(f"LazyRows: expected a gradient of rows 0..{len(parameter) - 1}, got {rows[0]} to {rows[-1]}.")
    begin = group.get("initial_accumulator_value", 0.0)  # Adagrad's
    for name in STATE[rule]:
        if name not in state:
            state[name] = torch.full_like(parameter, begin)
    state["step"] = state.get("step", torch.tensor(0.0)) + 1
    steps, rate, decay, small = int(state["step"]), float(group["lr"]), float(group["weight_decay"]), group["eps"]
    if rule is torch.optim.Adagrad:
        name, options = "adagrad", [rate / (1 + (steps - 1) * group["lr_decay"]), decay, small]
    else:
        first, second = group["betas"]
        apart = rule is torch.optim.AdamW or group.get("decoupled_weight_decay", False)
        name = "adam"
        options = [
            rate / (1 - first**steps),
            first,
            second,
            math.sqrt(1 - second**steps),
            small,
            0.0 if apart else decay,
            1 - rate * decay if apart else 1.0,
        ]
    features = math.prod(parameter.shape[1:])
    spare = parameter.new_empty(features)
    tensors = (rows.contiguous(), order, values, parameter, *(state[name] for name in STATE[rule]), spare)
    function = getattr(LIBRARY, f"softmaxes_{name}_{DTYPES[parameter.dtype]}")
    function(*(None if one is None else one.data_ptr() for one in tensors), len(rows), features, *options)
    torch.autograd.graph.increment_version(parameter)
