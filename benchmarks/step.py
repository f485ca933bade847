"""Time and memory of a training step of the hierarchical softmax beside what people use today.

    python benchmarks/step.py
    python benchmarks/step.py --classes 1000 10000 --rounds 20

A step is forward, backward and SGD's update, on one thread, for a batch of random features and uniformly drawn classes.
The methods take turns, those over trees among themselves, the others after them; printed is the median time with its
20 % and 80 % quantiles, and the median over that of the tree; then how far a fresh process's peak of memory grows in
five steps of the tree, the gradients included, and at last the exponent of the power of C that fits the tree's times.

    tree        HierarchicalSoftmax over the balanced binary tree, sparse gradients, no bias (the others have none)
    with bias   the same with a bias
    plain       the tree's step in plain PyTorch, as it is where no compiler was found
    moving      index_select and index_add_ of the rows on the targets' paths, one for each level and example: what a
                step that reads and writes each of them could not undercut
    flat        nn.Linear with F.cross_entropy
    chunked     softmaxes.Softmax: F.linear_cross_entropy in chunks
    adaptive    nn.AdaptiveLogSoftmaxWithLoss, as made for these uniform classes: cut-offs at a hundredth and a tenth
    fastText    its hierarchical softmax in C++ over its own Huffman tree, if the package fasttext is there: what an
                example more takes in a training with one word an example, times the batch

A method that takes longer than --slow seconds has three rounds, and is left out at more classes.
"""

import argparse
import ctypes
import gc
import importlib.util
import math
import multiprocessing
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from softmaxes import HierarchicalSoftmax, Softmax, Tree
from softmaxes.trees import paths

Step = Callable[[Tensor, Tensor], object]
RATE = 0.1


def update(parameters: list[nn.Parameter], loss: Callable[[Tensor, Tensor], Tensor]) -> Step:
    optimiser = torch.optim.SGD(parameters, lr=RATE)

    def step(input: Tensor, target: Tensor) -> None:
        loss(input, target).backward()
        optimiser.step()
        optimiser.zero_grad()

    return step


def tree_steps(features: int, classes: int) -> dict[str, Step]:
    """The steps that share one head: at ten million classes there is no room for more."""
    head = HierarchicalSoftmax(features, Tree.balanced(classes), sparse=True)
    weight, bias, library = head.weight, head.bias, paths.LIBRARY
    assert bias is not None
    alone = update([weight], lambda x, y: head(x, y).mean())
    both = update([weight, bias], lambda x, y: head(x, y).mean())
    table = weight.detach()

    def tree(input: Tensor, target: Tensor) -> None:
        head.bias = None
        alone(input, target)

    def with_bias(input: Tensor, target: Tensor) -> None:
        head.bias = bias
        both(input, target)

    def plain(input: Tensor, target: Tensor) -> None:
        head.bias, paths.LIBRARY = None, None
        alone(input, target)
        paths.LIBRARY = library

    def rows(target: Tensor) -> Tensor:
        nodes = [target]
        for _ in range(head.tree.depth - 1):
            nodes.append(head.parent[nodes[-1]])
        return head.first_row[head.parent[torch.stack(nodes, dim=1)]].flatten()

    def moving(rows: Tensor, target: Tensor) -> None:
        table.index_add_(0, rows, table.index_select(0, rows), alpha=1e-9)

    moving.rows = rows  # type: ignore[attr-defined]
    return {"tree": tree, "with bias": with_bias, "plain": plain, "moving": moving}


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
    if hasattr(step, "rows"):
        input = step.rows(target)
    start = time.perf_counter()
    step(input, target)
    return time.perf_counter() - start


def fasttext_seconds(features: int, classes: int, batch: int) -> float:
    """What fastText takes for a batch of examples: two trainings, of which one reads each example once more."""
    import fasttext

    fasttext.FastText.eprint = lambda *words: None
    took = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "examples.txt"
        examples = max(classes, 100_000)
        labels = torch.cat([torch.arange(classes), torch.randint(classes, (examples - classes,))])
        labels = labels[torch.randperm(examples)]  # in order, neighbours would share their paths
        with path.open("w") as file:
            file.writelines(f"__label__{label} word{label % 1000}\n" for label in labels.tolist())
        for epochs in (1, 3):
            start = time.perf_counter()
            fasttext.train_supervised(
                str(path), loss="hs", dim=features, epoch=epochs, thread=1, minCount=1, bucket=0, lr=RATE, verbose=0
            )
            took.append(time.perf_counter() - start)
    return (took[1] - took[0]) / 2 / examples * batch


def memory_growth(features: int, classes: int, batch: int) -> float:
    """How far the peak of this process's memory grows in five steps of the tree, in MiB."""
    torch.set_num_threads(1)
    step = tree_steps(features, 1000)["tree"]
    for _ in range(5):  # what the libraries take once
        timed(step, batch, features, 1000)
    step = tree_steps(features, classes)["tree"]
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # what building the tree has left
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = resident("VmHWM")
    for _ in range(5):
        timed(step, batch, features, classes)
    return resident("VmHWM") - before


def resident(which: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(which)) / 1024


def report(name: str, seconds: list[float], ours: float) -> None:
    low, high = statistics.quantiles(seconds, n=5)[0], statistics.quantiles(seconds, n=5)[-1]
    middle = statistics.median(seconds)
    spread = f"({1e3 * low:.3g} to {1e3 * high:.3g})"
    print(f"  {name:<10} {1e3 * middle:>10.3g} ms {spread:>22}   {middle / ours:>8.3g}", flush=True)


def take_turns(steps: dict[str, Step], given: argparse.Namespace, classes: int) -> dict[str, list[float]]:
    """Seconds of every step of each; three rounds of those that are slow."""
    found: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(given.rounds + 3):  # three to warm up
        for name, step in steps.items():
            if turn < 4 or min(found[name]) < given.slow:
                found[name].append(timed(step, given.batch, given.features, classes))
    return {name: seconds[3 if len(seconds) > 4 else 1 :] for name, seconds in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--classes", type=int, nargs="+", default=[10**power for power in range(3, 8)])
    parser.add_argument("--features", type=int, default=128)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--slow", type=float, default=1.0)
    given = parser.parse_args()
    torch.set_num_threads(1)
    versions = [f"torch {torch.__version__}", f"Python {platform.python_version()}"]
    has_fasttext = importlib.util.find_spec("fasttext") is not None
    if has_fasttext:
        from importlib.metadata import packages_distributions, version

        versions += [f"{name} {version(name)}" for name in packages_distributions()["fasttext"]]
    print(", ".join([*versions, "one thread", f"D = {given.features}", f"N = {given.batch}", f"{given.rounds} rounds"]))
    print(paths.MISSING or "the tree's step is compiled")
    middle: dict[int, float] = {}
    too_slow: set[str] = set()
    for classes in given.classes:
        torch.manual_seed(0)
        timings = take_turns(tree_steps(given.features, classes), given, classes)
        middle[classes] = statistics.median(timings["tree"])
        others = {name: make(given.features, classes) for name, make in OTHERS.items() if name not in too_slow}
        timings |= take_turns(others, given, classes)
        too_slow |= {name for name in others if len(timings[name]) < given.rounds}
        del others
        print(f"C = {classes:,}")
        for name, seconds in timings.items():
            report(name, seconds, middle[classes])
        gc.collect()
        if has_fasttext and classes <= 10**6:
            repeats = [fasttext_seconds(given.features, classes, given.batch) for _ in range(3)]
            report("fastText", repeats, middle[classes])
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            grown = pool.apply(memory_growth, (given.features, classes, given.batch))
        rows = given.batch * given.features * math.ceil(math.log2(classes)) * 4 / 2**20
        print(f"  memory     {grown:>10.1f} MiB; a row for each level and example would be {rows:.1f}", flush=True)
    if len(middle) > 1:
        logs = torch.tensor([[math.log(classes), math.log(seconds)] for classes, seconds in middle.items()]).T
        centred = logs - logs.mean(1, keepdim=True)
        exponent = (centred[0] * centred[1]).sum() / centred[0].square().sum()
        print(f"the tree's step grows as C ** {exponent:.3f}")


if __name__ == "__main__":
    main()
