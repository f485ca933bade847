"""Time and memory of a training step of the hierarchical softmax beside what people use today.

    python benchmarks/step.py
    python benchmarks/step.py --classes 1000 10000 --rounds 20 --out step.csv

A step is forward, backward and SGD's update, on one thread, for a batch of random features and uniformly drawn classes.
The methods take turns, those over trees among themselves, the others after them; printed is the median time with its
20 % and 80 % quantiles, and the median over that of the tree (of quick methods each turn is four steps, and the last
counts); then how far a fresh process's peak of memory grows in
five steps of the tree, and at last the exponent of the power of C that fits the tree's times.

    tree        HierarchicalSoftmax over the balanced binary tree, sparse gradients, no bias (the others have none),
                with SGDInBackward: the backward pass is the update
    tree, SGD   the same with torch.optim.SGD, as all that follow
    with bias   the latter with a bias
    plain       the latter without one in plain PyTorch, as it is where no compiler was found
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
import math
import multiprocessing
import platform
import statistics
from pathlib import Path

import torch
from torch import Tensor

from softmaxes import HierarchicalSoftmax, Tree
from softmaxes.heads.hierarchical import compiled
from timing import (
    OTHERS,
    Step,
    fasttext_seconds,
    spread,
    take_turns,
    timed,
    tree_steps,
    update,
    version_of,
    with_parameters,
    write_csv,
)


def steps_over_trees(features: int, classes: int) -> dict[str, Step]:
    """The steps that share one head: at ten million classes there is no room for more."""
    head = HierarchicalSoftmax(features, Tree.balanced(classes), sparse=True)
    weight, bias, library = head.weight, head.bias, compiled.LIBRARY
    assert bias is not None
    steps = tree_steps(head)
    both = update([weight, bias], lambda x, y: head(x, y).mean())
    table = weight.detach()

    by_sgd = update([weight], lambda x, y: head(x, y).mean())

    def plain(input: Tensor, target: Tensor) -> None:
        compiled.LIBRARY = None
        by_sgd(input, target)
        compiled.LIBRARY = library

    def rows(input: Tensor, target: Tensor) -> Tensor:
        nodes = [target]
        for _ in range(head.tree.depth - 1):
            nodes.append(head.tables.parent[nodes[-1]])
        return head.tables.first_row[head.tables.parent[torch.stack(nodes, dim=1)]].flatten()

    def moving(rows: Tensor, target: Tensor) -> None:
        table.index_add_(0, rows, table.index_select(0, rows), alpha=1e-9)

    moving.prepare = rows  # type: ignore[attr-defined]
    return steps | {
        "with bias": with_parameters(head, both, weight, bias),
        "plain": with_parameters(head, plain, weight),
        "moving": moving,
    }


def memory_growth(features: int, classes: int, batch: int) -> float:
    """How far the peak of this process's memory grows in five steps of the tree, in MiB."""
    torch.set_num_threads(1)
    step = steps_over_trees(features, 1000)["tree"]
    for _ in range(5):  # what the libraries take once
        timed(step, batch, features, 1000)
    step = steps_over_trees(features, classes)["tree"]
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
    low, middle, high = spread(seconds)
    between = f"({1e3 * low:.3g} to {1e3 * high:.3g})"
    print(f"  {name:<10} {1e3 * middle:>10.3g} ms {between:>22}   {middle / ours:>8.3g}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--classes", type=int, nargs="+", default=[10**power for power in range(3, 8)])
    parser.add_argument("--features", type=int, default=128)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--slow", type=float, default=1.0)
    parser.add_argument("--out", type=Path, metavar="FILE.csv", help="write the figures there too, in seconds a step")
    given = parser.parse_args()
    torch.set_num_threads(1)
    versions = [f"torch {torch.__version__}", f"Python {platform.python_version()}"]
    fasttext_version = version_of("fasttext")
    if fasttext_version is not None:
        versions.append(f"fastText {fasttext_version}")
    print(", ".join([*versions, "one thread", f"D = {given.features}", f"N = {given.batch}", f"{given.rounds} rounds"]))
    print(compiled.MISSING or "the tree's step is compiled")
    middle: dict[int, float] = {}
    too_slow: set[str] = set()
    rows: list[tuple[object, ...]] = []
    for classes in given.classes:
        torch.manual_seed(0)
        timings = take_turns(steps_over_trees(given.features, classes), given, classes)
        middle[classes] = statistics.median(timings["tree"])
        others = {name: make(given.features, classes) for name, make in OTHERS.items() if name not in too_slow}
        timings |= take_turns(others, given, classes)
        too_slow |= {name for name in others if len(timings[name]) < given.rounds}
        del others
        print(f"C = {classes:,}")
        for name, seconds in timings.items():
            report(name, seconds, middle[classes])
        gc.collect()
        if fasttext_version is not None and classes <= 10**6:
            timings["fastText"] = [given.batch * fasttext_seconds(given.features, classes) for _ in range(3)]
            report("fastText", timings["fastText"], middle[classes])
        for name, seconds in timings.items():
            low, median, high = spread(seconds)
            rows.append((classes, given.features, given.batch, name, median, low, high, median / middle[classes]))
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            grown = pool.apply(memory_growth, (given.features, classes, given.batch))
        all_rows = given.batch * given.features * math.ceil(math.log2(classes)) * 4 / 2**20
        print(f"  memory     {grown:>10.1f} MiB; a row for each level and example would be {all_rows:.1f}", flush=True)
        if given.out is not None:  # anew after each size, so that a run that is stopped has left something
            write_csv(given.out, "classes features batch method median low high ratio", rows)
    if len(middle) > 1:
        logs = torch.tensor([[math.log(classes), math.log(seconds)] for classes, seconds in middle.items()]).T
        centred = logs - logs.mean(1, keepdim=True)
        exponent = (centred[0] * centred[1]).sum() / centred[0].square().sum()
        print(f"the tree's step grows as C ** {exponent:.3f}")


if __name__ == "__main__":
    main()
