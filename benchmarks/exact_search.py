"""The best five classes by `softmaxes.ExactSearch`, and by scoring all classes, on flat heads that learn city names.

    python benchmarks/exact_search.py --out results/benchmarks/exact_search.csv

Each head learns with a network of its own, a bag of n-grams, for the same number of seconds. Then all searches take
turns on the same test names, one thread: `ExactSearch`, PyTorch's linear layer and `torch.topk`, the head's own `topk`,
and faiss's exact `IndexFlatIP` if it is installed (`pip install faiss-cpu`). They must find the same logits. Each line
is the median of what the other took over what `ExactSearch` took, with 20 % and 80 % quantiles. To copy the rows anew
after training takes some time too: it is printed.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from softmaxes import (
    NCE,
    CosineSoftmax,
    ExactSearch,
    Head,
    NegativeSampling,
    NeighborSampledSoftmax,
    SampledSoftmax,
    Sampler,
    Softmax,
)
from softmaxes.exact_search import _layer
from softmaxes.heads.cosine import direction
from softmaxes.lab import load_data
from softmaxes.lab.training.ngrams import BagOfNgrams
from softmaxes.optim import LazyRows
from timing import write_csv

BATCH = 256
HEADS: dict[str, Callable[[int, int], Head]] = {
    "softmax": Softmax,
    "cosine": CosineSoftmax,
    "sampled": lambda d, c: SampledSoftmax(d, Sampler.uniform(c), 1024, sparse=True),
    "neighbor-sampled": lambda d, c: NeighborSampledSoftmax(d, c, 1024, sparse=True),
    "nce": lambda d, c: NCE(d, Sampler.uniform(c), 1024, sparse=True),
    "negative-sampling": lambda d, c: NegativeSampling(d, Sampler.uniform(c), 1024, sparse=True),
}


def learn(trunk: BagOfNgrams, head: Head, data: Any, seconds: float) -> float:
    """Train for some seconds; epochs done."""
    parameters = [*trunk.parameters(), *head.parameters()]
    optimizer = LazyRows(parameters, torch.optim.Adagrad, lr=0.3, initial_accumulator_value=1e-7)
    start, seen = time.perf_counter(), 0
    while True:
        if isinstance(head, NeighborSampledSoftmax) and seen:
            head.refresh()
        for rows in torch.randperm(len(data.train_labels)).split(BATCH):
            optimizer.zero_grad()
            head(trunk(data.train_inputs.batch(rows)), data.train_labels[rows].long()).mean().backward()
            optimizer.step()
            seen += len(rows)
            if time.perf_counter() - start > seconds:
                return seen / len(data.train_labels)


def searches(head: Head, search: ExactSearch, k: int) -> dict[str, Callable[[Tensor], Tensor]]:
    """Each gives the logits of the best k."""
    weight, bias = _layer(search.head)
    look = direction if isinstance(head, CosineSoftmax) else lambda vectors: vectors
    scale = head.scale if isinstance(head, CosineSoftmax) else 1.0

    def by_head(input: Tensor) -> Tensor:
        head.topk(input, k)
        return search.topk(input, k)[0]  # its own values are log-probabilities

    found: dict[str, Callable[[Tensor], Tensor]] = {
        "exact-search": lambda some: search.topk(some, k)[0],
        f"torch-{torch.__version__}": lambda some: F.linear(look(some), weight, bias).topk(k).values * scale,
        "head-topk": by_head,
    }
    if find_spec("faiss") is not None:
        import faiss

        faiss.omp_set_num_threads(1)
        column = torch.zeros(len(weight)) if bias is None else bias
        index = faiss.IndexFlatIP(weight.shape[1] + 1)
        index.add(torch.cat([weight, column.unsqueeze(1)], dim=1).numpy())

        def by_faiss(input: Tensor) -> Tensor:
            asked = torch.cat([look(input), torch.ones(len(input), 1)], dim=1).numpy()
            return torch.from_numpy(index.search(asked, k)[0]) * scale

        found[f"faiss-{version('faiss-cpu')}"] = by_faiss
    return found


def take_turns(
    ways: dict[str, Callable[[Tensor], Tensor]], features: Tensor, size: int, rounds: int
) -> dict[str, Tensor]:
    """Seconds of each in each round, in double precision."""
    took: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(rounds + 2):  # two to warm up
        some = features[torch.randint(len(features), (size,))]
        results = []
        for name, way in ways.items():
            start = time.perf_counter()
            results.append(way(some))
            took[name] += [time.perf_counter() - start] if turn > 1 else []
        for one in results[1:]:
            torch.testing.assert_close(results[0], one, rtol=1e-4, atol=1e-4)
    ours = torch.tensor(took["exact-search"]).double()
    seconds = {name: torch.tensor(each).double() for name, each in took.items()}
    seconds["head-topk"] = seconds["head-topk"] - ours  # it was done within
    return seconds


@torch.no_grad()
def lines(name: str, data: Any, given: argparse.Namespace) -> Iterator[tuple[object, ...]]:
    torch.manual_seed(0)
    trunk, classes = BagOfNgrams(given.features), len(data.class_names)
    head = HEADS[name](given.features, classes)
    with torch.enable_grad():
        epochs = learn(trunk, head, data, given.seconds)
    head.eval()
    chosen = torch.randperm(len(data.test_labels))[:4096]
    features = trunk(data.test_inputs.batch(chosen))
    start = time.perf_counter()
    search = ExactSearch(head)
    copying = time.perf_counter() - start
    right = (search.predict(features) == data.test_labels[chosen]).double().mean().item()
    print(f"{name}: {epochs:.2f} epochs, {100 * right:.1f} % right, rows copied in {1000 * copying:.0f} ms", flush=True)
    for size in given.examples:
        seconds = take_turns(searches(head, search, given.k), features, size, given.rounds)
        ours = seconds.pop("exact-search")
        for other, theirs in seconds.items():
            low, ratio, high = (theirs / ours).quantile(torch.tensor([0.2, 0.5, 0.8]).double()).tolist()
            times = 1000 * theirs.median().item(), 1000 * ours.median().item()
            print(f"  {size:4} examples: {ratio:5.1f} times as fast as {other} ({low:.1f} to {high:.1f})", flush=True)
            yield name, epochs, right, classes, given.features, given.k, size, other, ratio, low, high, *times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="geonames:500")
    parser.add_argument("--features", type=int, default=256)
    parser.add_argument("--heads", nargs="+", default=list(HEADS), choices=HEADS)
    parser.add_argument("--seconds", type=float, default=120.0, help="training of each head")
    parser.add_argument("--examples", type=int, nargs="+", default=[256, 32, 1], help="searched for at a time")
    parser.add_argument("--k", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--out", type=Path, help="file for the table, as CSV")
    given = parser.parse_args()

    torch.set_num_threads(1)
    data = load_data(given.data)
    found = [line for name in given.heads for line in lines(name, data, given)]
    if given.out is not None:
        header = "head epochs accuracy classes features k examples other ratio low high other_ms ms"
        write_csv(given.out, header, found)


if __name__ == "__main__":
    main()
