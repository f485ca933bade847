"""Time and memory of a training step of the flat softmax over those of nn.Linear with F.cross_entropy.

    python benchmarks/flat.py

Both do the same work in turn, forward and backward on one thread; printed is the median ratio with its 20 % and 80 %
quantiles. Memory is the growth of a fresh process's peak over three steps, beside what parameters and data take; the
dense gradient of the weights is in it. "rows" is how many rows of logits the head holds at a time.
"""

import multiprocessing
import resource
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from softmaxes import Softmax
from softmaxes.heads.flat import CHUNK

ROUNDS = 9
Loss = Callable[[Tensor, Tensor], Tensor]


def losses(features: int, classes: int) -> dict[str, tuple[nn.Module, Loss]]:
    linear, head = nn.Linear(features, classes), Softmax(features, classes)
    return {
        "plain": (linear, lambda x, y: F.cross_entropy(linear(x), y)),
        "head": (head, lambda x, y: head(x, y).mean()),
    }


def step(module: nn.Module, loss: Loss, input: Tensor, target: Tensor) -> float:
    module.zero_grad()
    start = time.perf_counter()
    loss(input, target).backward()
    return time.perf_counter() - start


def growth(which: str, batch: int, features: int, classes: int) -> float:
    """Peak memory of a process over what it took before the steps, in MiB."""
    torch.set_num_threads(1)
    input, target = torch.randn(batch, features, requires_grad=True), torch.randint(classes, (batch,))
    module, loss = losses(features, classes)[which]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(3):
        step(module, loss, input, target)
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


def main() -> None:
    torch.set_num_threads(1)
    sizes = [(32, 250, 100), (256, 128, 10_000), (256, 128, 100_000), (256, 64, 500_000)]
    memory = {}
    for size in sizes:  # before this process has grown: a child's peak begins at its parent's
        for which in ("head", "plain"):
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                memory[size, which] = pool.apply(growth, (which, *size))
    print(f"torch {torch.__version__}, one thread, {ROUNDS} rounds")
    print(f"{'batch':>6} {'D':>5} {'C':>8} {'rows':>6}   {'time / plain':>22}   MiB, plain   gradient alone")
    for size in sizes:
        batch, features, classes = size
        torch.manual_seed(0)
        input, target = torch.randn(batch, features, requires_grad=True), torch.randint(classes, (batch,))
        pair = losses(features, classes)
        for _ in range(2):
            for module, loss in pair.values():
                step(module, loss, input, target)
        ratios = sorted(step(*pair["head"], input, target) / step(*pair["plain"], input, target) for _ in range(ROUNDS))
        low, high = ratios[ROUNDS // 5], ratios[-1 - ROUNDS // 5]
        rows = min(batch, max(1, CHUNK // classes))
        print(
            f"{batch:>6} {features:>5} {classes:>8} {rows:>6}   "
            f"{statistics.median(ratios):>6.2f} ({low:.2f} to {high:.2f})   "
            f"{memory[size, 'head']:>5.0f}, {memory[size, 'plain']:.0f}   {4 * classes * features / 2**20:>10.0f}"
        )


if __name__ == "__main__":
    main()
