"""Time of a training step of the hierarchical softmax over that of nn.Linear with F.cross_entropy.

    python benchmarks/hierarchical.py

Both do the same work in turn, forward and backward on one thread; printed is the median ratio with its 20 % and 80 %
quantiles. Below 1 the tree is faster. "compiled", "gathered" and "all" are the ways that the head can take.
"""

import statistics
import time
from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional as F

from softmaxes import HierarchicalSoftmax, Tree
from softmaxes.heads.hierarchical import compiled as kernel
from softmaxes.heads.hierarchical import head as hierarchical

ROUNDS = 60


def seconds(step: Callable[[], None]) -> float:
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def step_of(
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    module: nn.Module,
    input: torch.Tensor,
    target: torch.Tensor,
) -> Callable[[], None]:
    def step() -> None:
        module.zero_grad()
        loss(input, target).mean().backward()

    return step


def flat_loss(linear: nn.Linear) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    return lambda features, target: F.cross_entropy(linear(features), target)


def main() -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    gather = hierarchical.GATHER_RATIO
    print(f"torch {torch.__version__}, one thread, {ROUNDS} rounds")
    print(f"{'batch':>6} {'D':>5} {'C':>7} {'way':>9}   step / (nn.Linear + F.cross_entropy)")
    for batch, features, classes in [
        (32, 250, 100),
        (32, 250, 1_000),
        (32, 64, 3_000),
        (256, 250, 1_000),
        (32, 250, 30_000),
    ]:
        input = torch.randn(batch, features, requires_grad=True)
        target = torch.randint(classes, (batch,))
        linear = nn.Linear(features, classes)
        head = HierarchicalSoftmax(features, Tree.balanced(classes))
        flat = step_of(flat_loss(linear), linear, input, target)
        tree = step_of(head, head, input, target)
        for way, compiled, factor in (("compiled", 0, 0), ("gathered", 10**9, 0), ("all", 10**9, 10**9)):
            hierarchical.COMPILED_RATIO, hierarchical.GATHER_RATIO = compiled, factor
            for warm_up in (flat, tree, flat, tree):
                warm_up()
            ratios = sorted(seconds(tree) / seconds(flat) for _ in range(ROUNDS))
            low, high = ratios[ROUNDS // 5], ratios[-ROUNDS // 5]
            by_itself = (
                "compiled" if kernel.LIBRARY else "gathered" if gather * head.tree.depth <= len(head.weight) else "all"
            )
            chosen = "*" if way == by_itself else " "
            median = statistics.median(ratios)
            print(f"{batch:>6} {features:>5} {classes:>7} {way:>8}{chosen}   {median:.2f} ({low:.2f} to {high:.2f})")
    print("* the way that the head takes by itself")


if __name__ == "__main__":
    main()
