"""A training step over very many classes by each optimiser: torch's own on dense gradients, and `for_model`.

    python benchmarks/optimizers.py
    python benchmarks/optimizers.py --classes 100000 --rounds 20

The model is the README's: a hidden layer of 64 and a balanced binary tree. A step is forward, backward and update, on
one thread, for a batch of random features and uniformly drawn classes. The two take turns; printed are medians with
20 % and 80 % quantiles, and the ratio of the medians.
"""

import argparse
from typing import Any

import torch
from torch import Tensor, nn

from softmaxes import HierarchicalSoftmax, Tree
from softmaxes.optim import for_model
from timing import Step, spread, take_turns

RULES: dict[str, tuple[type[torch.optim.Optimizer], dict[str, Any]]] = {
    "SGD": (torch.optim.SGD, {"lr": 0.1}),
    "SGD, momentum": (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9}),
    "Adagrad": (torch.optim.Adagrad, {"lr": 0.1}),
    "RMSprop": (torch.optim.RMSprop, {"lr": 0.001}),
    "Adam": (torch.optim.Adam, {"lr": 0.001}),
    "AdamW": (torch.optim.AdamW, {"lr": 0.001}),
}


def step_of(tree: Tree, features: int, rule: type[torch.optim.Optimizer], options: dict[str, Any], lazy: bool) -> Step:
    body = nn.Sequential(nn.Linear(features, 64), nn.ReLU())
    head = HierarchicalSoftmax(64, tree)
    if lazy:
        optimizer: torch.optim.Optimizer = for_model(body, head, optimizer=rule, **options)
    else:
        optimizer = rule([*body.parameters(), *head.parameters()], **options)

    def step(input: Tensor, target: Tensor) -> None:
        optimizer.zero_grad()
        head(body(input), target).mean().backward()
        optimizer.step()

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--classes", type=int, default=1_000_000)
    parser.add_argument("--features", type=int, default=20)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--slow", type=float, default=10.0, help="seconds; three rounds of a step that takes longer")
    given = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    tree = Tree.balanced(given.classes)
    print(f"torch {torch.__version__}, one thread, {given.classes:,} classes, batches of {given.batch}")
    for name, (rule, options) in RULES.items():
        kinds = {"torch": False, "for_model": True}
        steps = {kind: step_of(tree, given.features, rule, options, lazy) for kind, lazy in kinds.items()}
        found = {kind: spread(seconds) for kind, seconds in take_turns(steps, given, given.classes).items()}
        said = [
            f"{kind} {1e3 * mid:8.2f} ms ({1e3 * low:.2f} to {1e3 * high:.2f})"
            for kind, (low, mid, high) in found.items()
        ]
        print(f"{name:<14} {'   '.join(said)}   ratio {found['torch'][1] / found['for_model'][1]:.0f}", flush=True)


if __name__ == "__main__":
    main()
