"""Time of an epoch of TinyVGG in the lab over that of a bare loop, and over that of a loader of single images.

    python benchmarks/lab.py
    python benchmarks/lab.py --data cifar100 --data-dir cifar-100-python.tar.gz --rounds 3

All train the same network on the same images, one thread, a softmax over the classes:

    bare      forward, backward, step and zero_grad on tensors that lie ready, as the lab has them
    loader    torchvision's ToTensor and Normalize on the PIL image that its data sets make of each example, and a
              DataLoader that stacks them, without workers; the network as it is usually written, channels first, each
              ReLU where its convolution is and not in place

torchvision is not among softmaxes' dependencies: pip install --no-deps torchvision==0.28.0, the release for torch 2.13,
serves, as nothing of its compiled part is used. All take turns; printed is the median over the rounds of the lab's
epoch over theirs, with the lowest and highest. An epoch is a training epoch without its test.
"""

import argparse
import importlib
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from softmaxes.lab.data.batches import Examples, channels_last, lay_out
from softmaxes.lab.data.dataset import Data
from softmaxes.lab.data.sources import load_data
from softmaxes.lab.records import Run
from softmaxes.lab.store import Store
from softmaxes.lab.training.classifier import Classifier, build
from softmaxes.lab.training.train import train


def torchvision() -> Any:
    """The package, also where its compiled part does not load, as beside another build of torch; none of it is used."""
    try:
        return importlib.import_module("torchvision")
    except RuntimeError:  # two operators are expected to be declared there
        for name in [name for name in sys.modules if name.startswith("torchvision")]:
            del sys.modules[name]
        for name in ("nms", "qnms"):
            torch.library.define(f"torchvision::{name}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        return importlib.import_module("torchvision")


class Images(Dataset[tuple[Tensor, int]]):
    """Images one at a time, in the steps of torchvision's CIFAR100."""

    def __init__(self, data: Data, classifier: Classifier) -> None:
        self.pixels = data.train_inputs.permute(0, 2, 3, 1).contiguous().numpy()
        self.labels = data.train_labels.tolist()
        transforms = torchvision().transforms
        mean, std = ((one[0, :, 0, 0] / 255).tolist() for one in (classifier.mean, classifier.std))
        self.transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize(mean, std)])
        expected = (data.train_inputs[0] - classifier.mean[0]) / classifier.std[0]
        torch.testing.assert_close(self[0][0], expected, atol=1e-5, rtol=0)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.pixels[index].squeeze())), self.labels[index]


def in_the_lab(run: Run, data: Data) -> float:
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder))
        lay_out(data, store)
        return train(run, data.card(), store).epochs[0].train_seconds


def bare(run: Run, data: Data) -> float:
    classifier = build(run, data.card(), channels_last(data.train_inputs)).train()
    optimiser = torch.optim.SGD(classifier.parameters(), lr=run.lr)
    images = data.train_inputs.contiguous(memory_format=torch.channels_last)
    for _ in range(3):
        classifier(images[: run.batch_size], data.train_labels[: run.batch_size]).mean().backward()
    optimiser.zero_grad()
    start = time.perf_counter()
    for batch in Examples.of(data.train_inputs, data.train_labels).shuffled(run, 1):
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
    classifier = build(run, data.card(), channels_last(data.train_inputs)).train()
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
    try:
        vision = torchvision()
    except ModuleNotFoundError:
        parser.error("torchvision is not installed: pip install --no-deps torchvision==0.28.0")
    data = load_data(given.data, data_dir=given.data_dir)
    run = Run(head="softmax", seed=0, data=data.name, fingerprint=data.fingerprint, epochs=1)
    seconds: dict[str, list[float]] = {"lab": [], "bare": [], "loader": []}
    for turn in range(given.rounds + 1):  # one to warm up
        found = {"lab": in_the_lab(run, data), "bare": bare(run, data), "loader": with_loader(run, data)}
        if turn > 0:
            for name, took in found.items():
                seconds[name].append(took)
    print(
        f"torch {torch.__version__}, torchvision {vision.__version__}, one thread, {len(data.train_labels)} images of "
        f"{data.name}, {given.rounds} rounds"
    )
    for name in ("bare", "loader"):
        ratios = [lab / other for lab, other in zip(seconds["lab"], seconds[name], strict=True)]
        print(
            f"lab / {name:<7} {statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})   "
            f"{statistics.median(seconds['lab']):.2f} s over {statistics.median(seconds[name]):.2f} s"
        )


if __name__ == "__main__":
    main()
