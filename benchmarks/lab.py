"""Time of an epoch of TinyVGG in the lab over that of a bare loop, and over that of a loader of single images.

    python benchmarks/lab.py
    python benchmarks/lab.py --data cifar100 --data-dir cifar-100-python.tar.gz --rounds 3

All train the same network on the same images, one thread, a softmax over the classes:

    bare      forward, backward, step and zero_grad on tensors that lie ready, as the lab has them
    loader    a Dataset that makes each image a PIL image, then a normalised tensor, and a DataLoader that stacks
              them: what torchvision's data sets and transforms do, without workers, and with the channels first, as
              they give them; the network as it is usually written, each ReLU where its convolution is and not in place

They take turns; printed is the median over the rounds of the lab's epoch over theirs, with the lowest and highest. An
epoch is a training epoch without its test.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from softmaxes.lab.data import Data, load
from softmaxes.lab.run import Run
from softmaxes.lab.store import Store
from softmaxes.lab.train import Classifier, build, lay_out, order, train


class Images(Dataset[tuple[Tensor, int]]):
    """Images one at a time, as torchvision's CIFAR100 gives them with ToTensor and Normalize."""

    def __init__(self, data: Data, classifier: Classifier) -> None:
        self.pixels = data.train_inputs.permute(0, 2, 3, 1).contiguous().numpy()
        self.labels = data.train_labels.tolist()
        self.mean, self.std = (one[0, :, :1, :1] / 255 for one in (classifier.mean, classifier.std))

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image = Image.fromarray(self.pixels[index].squeeze())
        pixels = np.array(image, copy=True)
        tensor = torch.from_numpy(pixels.reshape(*pixels.shape[:2], -1)).permute(2, 0, 1).contiguous()
        return (tensor.float().div(255) - self.mean) / self.std, self.labels[index]


def in_the_lab(run: Run, data: Data) -> float:
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder))
        lay_out(data, store)
        return train(run, data.card(), store).epochs[0].train_seconds


def bare(run: Run, data: Data) -> float:
    classifier = build(run, data.card(), data.train_inputs).train()
    optimiser = torch.optim.SGD(classifier.parameters(), lr=run.lr)
    images = data.train_inputs.contiguous(memory_format=torch.channels_last)
    for _ in range(3):
        classifier(images[: run.batch_size], data.train_labels[: run.batch_size]).mean().backward()
    optimiser.zero_grad()
    start = time.perf_counter()
    for batch in order(run, 1, len(images)).split(run.batch_size):
        classifier(images[batch], data.train_labels[batch]).mean().backward()
        optimiser.step()
        optimiser.zero_grad()
    return time.perf_counter() - start


def as_usually_written(run: Run, data: Data) -> nn.Module:
    """TinyVGG from the blocks that every tutorial shows; its features are those of the lab's."""
    colours, channels = data.train_inputs.shape[1], run.channels
    layers: list[nn.Module] = []
    for inputs in (colours, channels):
        layers += [nn.Conv2d(inputs, channels, 3, padding=run.padding), nn.ReLU()]
        layers += [nn.Conv2d(channels, channels, 3, padding=run.padding), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.Flatten())


def with_loader(run: Run, data: Data) -> float:
    classifier = build(run, data.card(), data.train_inputs).train()
    classifier.trunk = as_usually_written(run, data)
    classifier.to(memory_format=torch.contiguous_format)
    optimiser = torch.optim.SGD(classifier.parameters(), lr=run.lr)
    loader = DataLoader(Images(data, classifier), batch_size=run.batch_size, shuffle=True)
    start = time.perf_counter()
    for image, target in loader:
        features = classifier.trunk(image)
        classifier.head(features, target).mean().backward()
        optimiser.step()
        optimiser.zero_grad()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--data", default="glyphs")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--rounds", type=int, default=9)
    given = parser.parse_args()
    torch.set_num_threads(1)
    data = load(given.data, given.data_dir)
    run = Run(head="softmax", seed=0, data=data.name, fingerprint=data.fingerprint, epochs=1)
    seconds: dict[str, list[float]] = {"lab": [], "bare": [], "loader": []}
    for turn in range(given.rounds + 1):  # one to warm up
        found = {"lab": in_the_lab(run, data), "bare": bare(run, data), "loader": with_loader(run, data)}
        if turn > 0:
            for name, took in found.items():
                seconds[name].append(took)
    print(
        f"torch {torch.__version__}, one thread, {len(data.train_labels)} images of {data.name}, {given.rounds} rounds"
    )
    for name in ("bare", "loader"):
        ratios = [lab / other for lab, other in zip(seconds["lab"], seconds[name], strict=True)]
        print(
            f"lab / {name:<7} {statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})   "
            f"{statistics.median(seconds['lab']):.2f} s over {statistics.median(seconds[name]):.2f} s"
        )


if __name__ == "__main__":
    main()
