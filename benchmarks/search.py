"""Time of the exact best classes of a hierarchical softmax, found by going down its tree, over scoring all classes.

    python benchmarks/search.py
    python benchmarks/search.py --classes 10000 100000 --noise 0.4 --out search.csv

Balanced binary trees, 128 features, one thread. A class's features are the sum of a random direction for each decision
on its path, with the decision's sign, and noise. The trained head begins at the directions, scaled as if the decisions
were independent, and takes steps of plain SGD with sparse gradients; at a million classes the last decisions before the
classes are met a few times each. Printed is how often it is right on the examples that are timed, and how probable its
best class is; the untrained head is as it was made. `head.topk` and scoring all classes (`log_prob`, then `torch.topk`,
in chunks of 4 million classes) run in turn, in batches of 256 or for 8 examples one at a time; printed is the median of
the time of all over that of the search, with its 20 % and 80 % quantiles.
"""

import argparse
import platform
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from softmaxes import HierarchicalSoftmax, Tree
from timing import write_csv

FEATURES = 128
BATCH = 256
ALONE = 8  # examples that are asked for one at a time
CHUNK = 2**22  # log-probabilities that are held at a time, where all classes are scored
RATE = 0.05


def draw(head: HierarchicalSoftmax, directions: Tensor, noise: float, rows: int) -> tuple[Tensor, Tensor]:
    """Features and classes."""
    target = torch.randint(head.num_classes, (rows,))
    input = noise * torch.randn(rows, FEATURES)
    node, tables = target, head.tables
    for _ in range(head.tree.depth):
        above = tables.parent[node]
        sign = torch.where(tables.slot[node] == head.width, -1.0, 1.0) * (tables.num_rows[above] == 1) * (above != node)
        input += sign.unsqueeze(1) * directions[tables.first_row[above]]
        node = above
    return input, target


def train(head: HierarchicalSoftmax, directions: Tensor, noise: float, seconds: float) -> int:
    """Begin at the directions, and take steps for so long: the number of steps."""
    with torch.no_grad():
        head.weight.copy_(2 / (noise**2 + head.tree.depth / 2 / FEATURES) * directions)
        torch.nn.init.zeros_(head.get_parameter("bias"))
    optimiser = torch.optim.SGD(head.parameters(), lr=RATE)
    steps, end = 0, time.perf_counter() + seconds
    while time.perf_counter() < end:
        optimiser.zero_grad()
        head(*draw(head, directions, noise, BATCH)).sum().backward()
        optimiser.step()
        steps += 1
    return steps


def score_all(head: HierarchicalSoftmax, input: Tensor, k: int) -> tuple[Tensor, Tensor]:
    rows = max(1, CHUNK // head.num_classes)
    parts = [head.log_prob(input[start : start + rows]).topk(k) for start in range(0, len(input), rows)]
    return torch.cat([part.values for part in parts]), torch.cat([part.indices for part in parts])


def seconds(best: Callable[[Tensor, int], object], batches: list[Tensor], k: int) -> float:
    """For a batch."""
    start = time.perf_counter()
    for input in batches:
        best(input, k)
    return (time.perf_counter() - start) / len(batches)


@torch.no_grad()
def compare(
    what: str, head: HierarchicalSoftmax, input: Tensor, rounds: int
) -> list[tuple[int, int, *tuple[float, ...]]]:
    """Of each batch and k: the milliseconds of both, and the median of their ratio with its quantiles."""
    rows = []
    for batches in ([input], [input[row : row + 1] for row in range(ALONE)]):
        for k in (1, 5):
            every = partial(score_all, head)
            values = head.topk(batches[0], k)[0]
            torch.testing.assert_close(values, every(batches[0], k)[0], rtol=1e-4, atol=1e-4)
            pairs = [(seconds(every, batches, k), seconds(head.topk, batches, k)) for _ in range(rounds)]
            ratios = sorted(all_classes / search for all_classes, search in pairs)
            low, high = ratios[len(ratios) // 5], ratios[-1 - len(ratios) // 5]
            each = [1e3 * statistics.median(times) for times in zip(*pairs, strict=True)]
            print(
                f"{head.num_classes:>8} {what:>9} {len(batches[0]):>6} {k:>2}   {each[0]:>9.1f} {each[1]:>9.2f}   "
                f"{statistics.median(ratios):>7.1f} ({low:.1f} to {high:.1f})",
                flush=True,
            )
            rows.append((len(batches[0]), k, *each, statistics.median(ratios), low, high))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--classes", type=int, nargs="+", default=[10_000, 100_000, 1_000_000], help="numbers of them")
    parser.add_argument("--noise", type=float, nargs="+", default=[0.4, 0.6], help="of each feature, beside directions")
    parser.add_argument("--seconds", type=float, default=90.0, help="of training")
    parser.add_argument("--rounds", type=int, default=5, help="of each timing")
    parser.add_argument("--out", type=Path, metavar="FILE.csv", help="write the figures there too")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, Python {platform.python_version()}, one thread, D = {FEATURES}")
    print(f"{'C':>8} {'head':>9} {'batch':>6} {'k':>2}   {'all, ms':>9} {'topk, ms':>9}   all / topk")
    rows: list[tuple[object, ...]] = []
    for classes in arguments.classes:
        torch.manual_seed(0)
        head = HierarchicalSoftmax(FEATURES, Tree.balanced(classes), sparse=True)
        directions = torch.nn.functional.normalize(torch.randn(len(head.weight), FEATURES))
        found = compare("untrained", head, draw(head, directions, arguments.noise[0], BATCH)[0], arguments.rounds)
        rows += [(classes, "untrained", "", "", *row) for row in found]
        for noise in arguments.noise:
            steps = train(head, directions, noise, arguments.seconds)
            input, target = draw(head, directions, noise, BATCH)
            with torch.no_grad():
                right = float((head.predict(input) == target).double().mean())
                most = head.topk(input, 1)[0].exp().flatten()
            low, median, high = most.quantile(torch.tensor([0.2, 0.5, 0.8])).tolist()
            print(
                f"{classes:>8} noise {noise}, {steps} steps: right on {100 * right:.0f} %, "
                f"best class {100 * median:.0f} % probable ({100 * low:.0f} to {100 * high:.0f})"
            )
            found = compare("trained", head, input, arguments.rounds)
            rows += [(classes, "trained", right, median, *row) for row in found]
    if arguments.out is not None:
        write_csv(arguments.out, "classes head right probable batch k all_ms topk_ms ratio low high", rows)


if __name__ == "__main__":
    main()
