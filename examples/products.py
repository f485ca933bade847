"""Very many products: what a training step takes with heads that look at few of them, beside the flat softmax.

    python examples/products.py
    python examples/products.py --products 1000000 --steps 5 --heads softmax hierarchical

The products are made here: each has a vector, and a query is its product's vector with noise. `for_model` turns on the
sparse gradients of large heads and steps the rows alone that a batch touched. The flat softmax writes every row.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import nn

from softmaxes import Head, HierarchicalSoftmax, NeighborSampledSoftmax, Softmax, Tree
from softmaxes.optim import for_model

HEADS: dict[str, Callable[[int, int], Head]] = {
    "softmax": Softmax,
    "neighbor-sampled": lambda features, classes: NeighborSampledSoftmax(features, classes, num_samples=512),
    "hierarchical": lambda features, classes: HierarchicalSoftmax(features, Tree.balanced(classes)),
}


def main() -> None:
    """Train each head for some steps, and print how long a step takes."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--products", type=int, default=200_000)
    parser.add_argument("--features", type=int, default=64)
    parser.add_argument("--batch", type=int, default=256, help="queries a step")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--heads", nargs="+", choices=HEADS, default=list(HEADS))
    given = parser.parse_args()

    torch.manual_seed(0)
    vectors = torch.randn(given.products, given.features)
    first = None
    print(f"{given.products:,} products, batches of {given.batch}, {torch.get_num_threads()} threads")
    for name in given.heads:
        body = nn.Sequential(nn.Linear(given.features, given.features), nn.ReLU())
        head = HEADS[name](given.features, given.products)
        optimiser = for_model(body, head, lr=0.001)
        if isinstance(head, NeighborSampledSoftmax):
            start = time.perf_counter()
            head.refresh()  # once an epoch: it looks for the nearest classes of each
            print(f"{name}: refresh {time.perf_counter() - start:.1f} s")
        seconds = []
        for _ in range(given.steps + 2):  # two to warm up
            target = torch.randint(given.products, (given.batch,))
            query = vectors[target] + 0.5 * torch.randn(given.batch, given.features)
            start = time.perf_counter()
            optimiser.zero_grad()
            head(body(query), target).mean().backward()
            optimiser.step()
            seconds.append(time.perf_counter() - start)
        step = statistics.median(seconds[2:])
        first = step if first is None else first
        print(f"{name}: {1000 * step:.2f} ms a step, {first / step:.1f} times as fast as {given.heads[0]}")


if __name__ == "__main__":
    main()
