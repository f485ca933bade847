"""Retrieval of classes that training never saw: an ArcFace head beside a plain softmax, and recall@1 of their features.

    python examples/arcface_retrieval.py
    python examples/arcface_retrieval.py --classes 400 --epochs 30

Half of the characters are trained on. For each image of the others the nearest one is looked for, by the angle between
their features. Recall@1 says how often it shows the same character. One seed.
Needs `pip install 'softmaxes[lab]'`, which draws the images.
"""

import argparse

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from softmaxes import CosineSoftmax, Head, Softmax
from softmaxes.lab import load_data
from softmaxes.optim import for_model


def network() -> nn.Sequential:
    """Two convolutions for images of 32 x 32 pixels, and a linear layer that gives 64 features of either sign."""
    return nn.Sequential(
        *(nn.Conv2d(3, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(32, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(64 * 8 * 8, 64)),
    )


@torch.no_grad()
def recall(body: nn.Module, images: Tensor, labels: Tensor) -> float:
    """How often the nearest other image, by cosine, is of the same class."""
    body.eval()
    features = F.normalize(torch.cat([body(some) for some in images.split(256)]), dim=1)
    nearest = (features @ features.T).fill_diagonal_(-1).argmax(1)
    return float((labels[nearest] == labels).float().mean())


def main() -> None:
    """Train both heads on one half of the classes, and print recall@1 on the other."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--classes", type=int, default=120, help="characters; half of them are held out")
    parser.add_argument("--per-class", type=int, default=30, help="images of each")
    parser.add_argument("--margin", type=float, default=0.3, help="of ArcFace, in radians")
    parser.add_argument("--epochs", type=int, default=10)
    given = parser.parse_args()

    data = load_data(f"glyphs:{given.classes}", train_per_class=given.per_class)
    images, labels = data.train_inputs.float() / 255, data.train_labels
    known = given.classes - given.classes // 2
    seen = labels % 2 == 0  # every other character, so that both halves have all kinds
    targets, inputs = labels[seen] // 2, images[seen]
    heads: dict[str, Head | None] = {
        "untrained": None,
        "softmax": Softmax(64, known),
        "arcface": CosineSoftmax(64, known, scale=16, angular_margin=given.margin),
    }
    print(f"{known} characters to learn, {given.classes - known} others to find, {given.per_class} images of each")
    for name, head in heads.items():
        torch.manual_seed(0)
        body = network()
        if head is not None:
            optimiser = for_model(body, head, lr=0.001)
            for _ in range(given.epochs):
                for batch in torch.randperm(len(targets)).split(64):
                    optimiser.zero_grad()
                    head(body(inputs[batch]), targets[batch]).mean().backward()
                    optimiser.step()
        print(f"{name}: recall@1 {100 * recall(body, images[~seen], labels[~seen]):.1f} %")
    print(f"chance: {100 * (given.per_class - 1) / ((~seen).sum() - 1):.1f} %")


if __name__ == "__main__":
    main()
