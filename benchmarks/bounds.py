"""How many classes of a trained flat head an exact search for the best k would have to score, by the bound it uses.

    softmaxes compare --data geonames:1000 --heads sampled:samples=1024 --seeds 1 --out runs/names
    python benchmarks/bounds.py runs/names --data geonames:1000 --head sampled:samples=1024

An exact search may leave out a class if an upper bound of its logit is below the k-th best logit. Each line is one
bound, and says which share of the classes it leaves to score: the mean over test examples, with the 10 % and 90 %
quantiles. The k-th best logit is taken as known, which no search knows so early: a real one scores more.

- norm: |q| |w|.
- cells: q·c + |q| r, for k-means cells with centre c and radius r, as many as the square root of the classes, and more.
- svd: the dot product in the first directions of the rows' singular value decomposition, and |q| |w| of the rest.
- bfloat16: the logit with both sides rounded to bfloat16, and the largest error of that rounding.
"""

import argparse
import math
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from softmaxes.heads.neighbor_sampled import clustered
from softmaxes.lab import load, load_data
from softmaxes.lab.data.ragged import Texts
from timing import write_csv

DIRECTIONS = (16, 32, 64)


def norm(vectors: Tensor) -> Tensor:
    return torch.linalg.vector_norm(vectors, dim=1)


def bounds(rows: Tensor, asked: Tensor) -> Iterator[tuple[str, Tensor]]:
    """The name of each bound, and the upper bounds of all logits: (N, C)."""
    length, size = norm(asked).unsqueeze(1), norm(rows)
    yield "norm", length * size
    least = math.ceil(math.sqrt(len(rows)))
    for number in (least, 8 * least):
        cell, centre = clustered(rows, number)
        radius = torch.zeros(number).scatter_reduce(0, cell, norm(rows - centre[cell]), "amax")
        yield f"cells-{number}", (asked @ centre.t() + length * radius)[:, cell]
    directions = torch.linalg.svd(rows, full_matrices=False).Vh.t()
    for number in DIRECTIONS:
        if number < rows.shape[1]:
            first, rest = directions[:, :number], directions[:, number:]
            yield (
                f"svd-{number}",
                (asked @ first) @ (rows @ first).t() + norm(asked @ rest).unsqueeze(1) * norm(rows @ rest),
            )
    logits, error = rounded(rows.bfloat16(), error_of_rows(rows), asked)
    yield "bfloat16", logits + error.unsqueeze(1)


def error_of_rows(rows: Tensor) -> tuple[float, float]:
    """The largest change of a row by bfloat16, and the largest row."""
    return norm(rows - rows.bfloat16().float()).max().item(), norm(rows).max().item()


def rounded(rows: Tensor, of_rows: tuple[float, float], asked: Tensor) -> tuple[Tensor, Tensor]:
    """Logits by bfloat16, (N, C), and how far they may be off, (N,)."""
    query = asked.bfloat16()
    logits = query @ rows.t()  # summed in float32, then rounded
    change, largest = of_rows
    error = norm(asked) * change + norm(asked - query.float()) * (largest + change)
    return logits.float(), error + logits.abs().amax(1).float() * 2**-8


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a folder of softmaxes compare")
    parser.add_argument("--data", required=True, help="the data that it was trained on")
    parser.add_argument("--head", required=True, help="a flat head of it, with weight and bias")
    parser.add_argument("--examples", type=int, default=512)
    parser.add_argument("--k", type=int, default=5)
    parser.add_argument("--out", type=Path, help="file for the table, as CSV")
    given = parser.parse_args()

    torch.set_num_threads(1)
    torch.manual_seed(0)
    trained = load(given.run, head=given.head, seed=0)
    (member,) = trained.members
    head = member.head
    data = load_data(given.data)
    chosen = torch.randperm(len(data.test_labels))[: given.examples]
    inputs = data.test_inputs
    features = member.features(inputs.batch(chosen) if isinstance(inputs, Texts) else inputs[chosen])
    rows = torch.cat([head.weight, head.bias.unsqueeze(1)], dim=1)
    asked = torch.cat([features, torch.ones(len(features), 1)], dim=1)
    least = (asked @ rows.t()).topk(given.k).values[:, -1:]

    about = (given.data, given.head, len(rows), rows.shape[1] - 1, given.k)
    lines = [(*about, *said(name, (upper >= least).double().mean(1))) for name, upper in bounds(rows, asked)]
    if given.out is not None:
        write_csv(given.out, "data head classes features k what value low high", lines)


def said(name: str, left: Tensor) -> tuple[str, float, float, float]:
    """Prints a line: the mean of shares, with 10 % and 90 % quantiles."""
    mean, (low, high) = left.mean().item(), left.quantile(torch.tensor([0.1, 0.9]).double()).tolist()
    print(f"{name:12} {mean:10.4g} left, {low:.4g} to {high:.4g}", flush=True)
    return name, mean, low, high


if __name__ == "__main__":
    main()
