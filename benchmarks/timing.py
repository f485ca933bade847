"""What the benchmarks of training steps share: the steps, how they are timed, and how figures are written."""

import argparse
import csv
import functools
import importlib.util
import math
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from importlib.metadata import packages_distributions, version
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from softmaxes import HierarchicalSoftmax, SGDInBackward, Softmax

Step = Callable[[Tensor, Tensor], object]
RATE = 0.1
QUICK = 0.05  # seconds


def update(parameters: list[nn.Parameter], loss: Callable[[Tensor, Tensor], Tensor]) -> Step:
    optimiser = torch.optim.SGD(parameters, lr=RATE)

    def step(input: Tensor, target: Tensor) -> None:
        loss(input, target).backward()
        optimiser.step()
        optimiser.zero_grad()

    return step


def update_in_backward(parameters: list[nn.Parameter], loss: Callable[[Tensor, Tensor], Tensor]) -> Step:
    optimiser = SGDInBackward(parameters, lr=RATE)

    def step(input: Tensor, target: Tensor) -> None:
        loss(input, target).backward()

    step.optimiser = optimiser  # type: ignore[attr-defined]  # it is needed as long as they are trained
    return step


def tree_steps(head: HierarchicalSoftmax) -> dict[str, Step]:
    """The tree without a bias, updated in the backward pass and after it; the two share one table of weights."""
    after, inside = head.weight, nn.Parameter(head.weight.detach())
    in_backward = update_in_backward([inside], lambda x, y: head(x, y).mean())
    by_sgd = update([after], lambda x, y: head(x, y).mean())

    return {"tree": with_parameters(head, in_backward, inside), "tree, SGD": with_parameters(head, by_sgd, after)}


def with_parameters(
    head: HierarchicalSoftmax, step: Step, weight: nn.Parameter, bias: nn.Parameter | None = None
) -> Step:
    """The step of a head that has these parameters; it gets them outside the timer."""

    def prepare(input: Tensor, target: Tensor) -> Tensor:
        head.weight, head.bias = weight, bias
        return input

    step.prepare = prepare  # type: ignore[attr-defined]
    return step


def flat(features: int, classes: int) -> Step:
    linear = nn.Linear(features, classes, bias=False)
    return update(list(linear.parameters()), lambda x, y: F.cross_entropy(linear(x), y))


def chunked(features: int, classes: int) -> Step:
    head = Softmax(features, classes, bias=False)
    return update(list(head.parameters()), lambda x, y: head(x, y).mean())


def adaptive(features: int, classes: int) -> Step:
    layer = nn.AdaptiveLogSoftmaxWithLoss(features, classes, [classes // 100, classes // 10])
    return update(list(layer.parameters()), lambda x, y: layer(x, y).loss)


OTHERS = {"flat": flat, "chunked": chunked, "adaptive": adaptive}


def timed(step: Step, batch: int, features: int, classes: int) -> float:
    """Seconds of a step on features and classes that are new."""
    input, target = torch.randn(batch, features, requires_grad=True), torch.randint(classes, (batch,))
    if hasattr(step, "prepare"):
        input = step.prepare(input, target)
    start = time.perf_counter()
    step(input, target)
    return time.perf_counter() - start


def take_turns(steps: dict[str, Step], given: argparse.Namespace, classes: int) -> dict[str, list[float]]:
    """Seconds of a step in each turn of each; three rounds of those that are slow.

    A turn of a quick one is four steps, of which the last counts: in training a step follows on one of its own kind.
    """
    found: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(given.rounds + 3):  # three to warm up
        for name, step in steps.items():
            if turn < 4 or min(found[name]) < given.slow:
                quick = turn > 0 and min(found[name]) < QUICK
                took = [timed(step, given.batch, given.features, classes) for _ in range(4 if quick else 1)]
                found[name].append(took[-1])
    return {name: seconds[3 if len(seconds) > 4 else 1 :] for name, seconds in found.items()}


def equally_often(classes: int) -> Tensor:
    """At least 100,000 labels, an even number, each class as often as any other, in an order drawn at random."""
    repeats = math.ceil(100_000 / classes)
    labels = torch.arange(classes).repeat(repeats + (repeats * classes) % 2)
    return labels[torch.randperm(len(labels))]  # in order, neighbours would share their paths


def fasttext_seconds(features: int, classes: int) -> float:
    """What fastText takes for an example: two trainings, of which one reads each example twice more."""
    import fasttext

    fasttext.FastText.eprint = lambda *words: None
    took = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "examples.txt"
        labels = equally_often(classes).tolist()
        with path.open("w") as file:
            file.writelines(f"__label__{label} word{label % 1000}\n" for label in labels)
        for epochs in (1, 3):
            start = time.perf_counter()
            fasttext.train_supervised(
                str(path), loss="hs", dim=features, epoch=epochs, thread=1, minCount=1, bucket=0, lr=RATE, verbose=0
            )
            took.append(time.perf_counter() - start)
    return (took[1] - took[0]) / 2 / len(labels)


@functools.cache
def version_of(module: str) -> str | None:
    """The version of the package that a module is from, or none if it is not there."""
    if importlib.util.find_spec(module) is None:
        return None
    return version(packages_distributions()[module][0])


def spread(seconds: list[float]) -> tuple[float, float, float]:
    """The 20 % quantile, the median and the 80 % quantile."""
    fifths = statistics.quantiles(seconds, n=5, method="inclusive")
    return fifths[0], statistics.median(seconds), fifths[-1]


def write_csv(path: Path, header: str, rows: Iterable[Iterable[object]]) -> None:
    """A line for each row; figures with six digits."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header.split())
        writer.writerows([f"{cell:.6g}" if isinstance(cell, float) else cell for cell in row] for row in rows)
