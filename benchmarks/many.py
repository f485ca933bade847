"""fastText on the lab's texts: the accuracy that it reaches in some seconds, each loss tuned with equal effort.

    pip install fasttext 'softmaxes[lab,geonames]'
    python benchmarks/many.py --data geonames --seconds 600
    python benchmarks/many.py --data geonames:1000 --seconds 600 --losses hs ns --lr 1.0

It is the judge of `softmaxes compare --study many --data geonames --seconds 600 --jobs 1`: the same training and test
texts, the same n-grams (2 to 4 characters, words, as many buckets), vectors of the same size, one thread. A loss has as
many epochs as fit in the seconds, by the times of one and of three epochs. Its learning rate is the best of `RATES` on
a tenth of the training texts that is held out, after as many epochs: at a rate that is good for fewer, it may diverge.
Printed, and written to `--out`, are accuracy and top-5 accuracy on all test texts.
"""

import argparse
import time
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import fasttext
import torch

from softmaxes.lab import load_data
from softmaxes.lab.data.ragged import Texts
from timing import write_csv

RATES = (0.1, 0.2, 0.5, 1.0, 2.0, 4.0)
HELD_OUT = 10  # one training text in this many
LOSSES = ("softmax", "hs", "ns", "ova")


class Trained(NamedTuple):
    """A model and what it took."""

    model: Any
    seconds: float


def write(path: Path, texts: Texts, labels: Iterable[int], rows: Sequence[int]) -> None:
    """Texts in fastText's format, in the order of the rows: it takes them as they come."""
    known = list(labels)
    with path.open("w", encoding="utf-8") as file:
        file.writelines(f"__label__{known[row]} {texts.text(row)}\n" for row in rows)


def order(number: int, seed: int) -> list[int]:
    shuffled: list[int] = torch.randperm(number, generator=torch.Generator().manual_seed(seed)).tolist()
    return shuffled


def trained(path: Path, loss: str, epochs: int, lr: float, dim: int, buckets: int) -> Trained:
    begin = time.perf_counter()
    model = fasttext.train_supervised(
        str(path),
        loss=loss,
        epoch=epochs,
        lr=lr,
        dim=dim,
        minn=2,
        maxn=4,
        bucket=buckets,
        wordNgrams=1,
        minCount=1,
        thread=1,
        verbose=0,
    )
    return Trained(model, time.perf_counter() - begin)


def attempted(part: Path, loss: str, epochs: int, lr: float, held_out: Path, dim: int, buckets: int) -> float:
    """Accuracy on held-out texts; 0 at a rate at which fastText diverges."""
    try:
        return right(trained(part, loss, epochs, lr, dim, buckets).model, held_out)
    except RuntimeError as error:
        if "NaN" not in str(error):
            raise
        return 0.0


def right(model: Any, path: Path, k: int = 1) -> float:
    """Share of the texts whose label is among the k most probable ones."""
    return float(model.test(str(path), k=k)[2])  # recall: each text has one label


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--data", default="geonames")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--buckets", type=int, default=2**18)
    parser.add_argument("--losses", nargs="+", default=LOSSES, choices=LOSSES)
    parser.add_argument("--lr", type=float, help="learning rate; not tuned then")
    parser.add_argument("--seeds", type=int, default=1, help="orders of the training texts")
    parser.add_argument("--out", type=Path, help="file for the table, as CSV")
    given = parser.parse_args()
    data = load_data(given.data) if given.data_dir is None else load_data(given.data, data_dir=given.data_dir)
    if not isinstance(data.train_inputs, Texts) or not isinstance(data.test_inputs, Texts):
        parser.error(f"--data: expected texts, got {data.kind}s.")
    print(f"fasttext {version('fasttext')}, one thread; {data.name}: {data.num_classes:,} classes", flush=True)
    size = {"dim": given.dim, "buckets": given.buckets}
    lines: list[tuple[object, ...]] = []
    with TemporaryDirectory() as folder:
        train, part, held_out, test = (Path(folder) / name for name in ("train", "part", "held_out", "test"))
        labels = data.train_labels.tolist()
        write(test, data.test_inputs, data.test_labels.tolist(), range(len(data.test_inputs)))
        mixed = order(len(labels), 1000)
        cut = len(mixed) // HELD_OUT
        write(held_out, data.train_inputs, labels, mixed[:cut])
        write(part, data.train_inputs, labels, mixed[cut:])
        for loss in given.losses:
            one, three = (trained(part, loss, number, 0.1, **size).seconds for number in (1, 3))
            once = (three - one) / 2
            fit = (given.seconds - max(0.0, one - once)) / once * (len(mixed) - cut) / len(mixed)
            epochs, lr = max(1, int(fit)), given.lr
            if lr is None:
                tried = {rate: attempted(part, loss, epochs, rate, held_out, **size) for rate in RATES}
                lr = max(tried, key=lambda rate: tried[rate])
                print(f"{loss}: {epochs} epochs, held out: {tried}", flush=True)
            for seed in range(given.seeds):
                write(train, data.train_inputs, labels, order(len(labels), seed))
                model, seconds = trained(train, loss, epochs, lr, **size)
                accuracy, top5 = right(model, test), right(model, test, 5)
                print(
                    f"{loss}, seed {seed}: learning rate {lr:g}, {epochs} epochs, {seconds:.0f} s of training, "
                    f"accuracy {100 * accuracy:.1f} %, top-5 {100 * top5:.1f} %",
                    flush=True,
                )
                lines.append((data.name, data.num_classes, loss, seed, lr, epochs, seconds, accuracy, top5))
    if given.out is not None:
        write_csv(given.out, "data classes loss seed lr epochs seconds accuracy top5", lines)


if __name__ == "__main__":
    main()
