"""Time and peak memory of every way to build a tree, against the number of classes.

    python benchmarks/builders.py [--threads 2] [--out FILE.csv]

Each cell is a process of its own. Time is the median of three builds, or of one if it takes more than ten seconds;
memory is how much the process's peak has grown over what it was before the first, when the imports were done and the
input was there; 0 is no more than making the input took for a while. Counts are Zipf's; vectors are of 64 features, in
clusters of clusters; a confusion has 100 examples a class, a third of them taken for classes near by. gensim's Huffman
tree, of the same counts, stands beside ours.
"""

import argparse
import csv
import multiprocessing
import resource
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from softmaxes import Tree

FEATURES = 64
SIZES = (1_000, 10_000, 100_000, 1_000_000)
MOST_PAIRED = 10_000  # classes of builders that hold all pairs of them


def counts(num_classes: int) -> Tensor:
    """How often each class occurs: the r-th most frequent 10^9 / r times, in no order."""
    order = torch.randperm(num_classes, generator=torch.Generator().manual_seed(0))
    return (1_000_000_000 / (1 + order)).long()


def vectors(num_classes: int) -> Tensor:
    """Class vectors: six levels of eight clusters each, every level half as wide as the one above."""
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(num_classes, FEATURES, generator=generator).mul_(0.5**6)
    for level in range(6):
        centres = 0.5**level * torch.randn(8 ** (level + 1), FEATURES, generator=generator)
        places = torch.arange(num_classes) * len(centres) // num_classes
        for start in range(0, num_classes, 2**16):  # in parts, so that the peak before is not above the input
            points[start : start + 2**16] += centres[places[start : start + 2**16]]
    return points


def confusion(num_classes: int) -> Tensor:
    """Counts of 100 examples a class."""
    generator = torch.Generator().manual_seed(0)
    true = torch.arange(num_classes).repeat_interleave(100)
    away = torch.randn(len(true), generator=generator).mul_(3).round_().long()
    away[torch.rand(len(true), generator=generator) > 1 / 3] = 0
    taken = torch.zeros(num_classes * num_classes, dtype=torch.int32)
    place = true * num_classes + (true + away).clamp(0, num_classes - 1)
    return taken.index_add_(0, place, torch.ones(len(place), dtype=torch.int32)).view(num_classes, num_classes)


def paths(num_classes: int) -> list[str]:
    """Three levels, with a hundred classes in a group and a hundred groups in an area."""
    return [f"area {c // 10_000}/group {c // 100}/class {c}" for c in range(num_classes)]


def parents(num_classes: int) -> dict[str, str]:
    """The same tree, each name with its parent's."""
    groups = {f"group {c // 100}": f"area {c // 10_000}" for c in range(num_classes)}
    areas = dict.fromkeys(groups.values(), "all")
    return {f"class {c}": f"group {c // 100}" for c in range(num_classes)} | groups | areas


def gensim_input(num_classes: int) -> object:
    """Gensim's vocabulary with the same counts."""
    from gensim.models import KeyedVectors

    words = KeyedVectors(1)
    words.add_vectors([str(c) for c in range(num_classes)], np.zeros((num_classes, 1), np.float32))
    for c, count in enumerate(counts(num_classes).tolist()):
        words.set_vecattr(str(c), "count", count)
    return words


def gensim_huffman(words: object) -> None:
    from gensim.models.word2vec import _assign_binary_codes

    _assign_binary_codes(words)


Builder = tuple[Callable[[int], object], Callable[..., object], int]
BUILDERS: dict[str, Builder] = {  # name -> how its input is made, how it builds, for how many classes at most
    "balanced": (lambda num_classes: num_classes, Tree.balanced, SIZES[-1]),
    "random": (lambda num_classes: num_classes, Tree.random, SIZES[-1]),
    "from_groups": (lambda num_classes: torch.arange(num_classes) // 100, Tree.from_groups, SIZES[-1]),
    "from_paths": (paths, Tree.from_paths, SIZES[-1]),
    "from_parents": (parents, Tree.from_parents, SIZES[-1]),
    "huffman": (counts, Tree.huffman, SIZES[-1]),
    "huffman, arity 16": (counts, lambda own: Tree.huffman(own, arity=16), SIZES[-1]),
    "huffman, gensim": (gensim_input, gensim_huffman, SIZES[-1]),
    "clustered": (vectors, Tree.clustered, SIZES[-1]),
    "clustered, arity 16": (vectors, lambda own: Tree.clustered(own, arity=16), SIZES[-1]),
    "clustered, unbalanced": (vectors, lambda own: Tree.clustered(own, balanced=False), SIZES[-1]),
    "agglomerative": (vectors, Tree.agglomerative, MOST_PAIRED),
    "from_confusion": (confusion, Tree.from_confusion, MOST_PAIRED),
}


def peak() -> float:
    """This process's, so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def cell(name: str, num_classes: int, threads: int) -> tuple[float, float]:
    """Seconds and MiB."""
    torch.set_num_threads(threads)
    make_input, build, _ = BUILDERS[name]
    build(make_input(50))  # brings the imports that wait for the first use
    own = make_input(num_classes)
    before = peak()
    seconds: list[float] = []
    while len(seconds) < 3 and sum(seconds) < 10:
        start = time.perf_counter()
        build(own)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds), peak() - before


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, metavar="FILE.csv", help="write the figures there too")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="of torch; 1 if not given")
    options = parser.parse_args()
    print(f"torch {torch.__version__}, {FEATURES} features, threads: {options.threads}")
    print(f"{'builder':<22}" + "".join(f"{f'C = {size:,}':>22}" for size in SIZES) + "   seconds, MiB")
    rows = []
    for name, (_, _, most) in BUILDERS.items():
        print(f"{name:<22}", end="", flush=True)
        for size in SIZES:
            if size > most:
                break
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                seconds, mebibytes = pool.apply(cell, (name, size, options.threads))
            rows.append((name, size, f"{seconds:.4g}", f"{mebibytes:.0f}"))
            print(f"{f'{seconds:.3g}, {mebibytes:.0f}':>22}", end="", flush=True)
        print()
    if options.out is not None:
        with options.out.open("w", newline="") as file:
            csv.writer(file).writerows([("builder", "num_classes", "seconds", "peak_mib"), *rows])


if __name__ == "__main__":
    main()
