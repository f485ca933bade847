"""A head in a training loop of your own: images of characters, accuracy and the best classes.

    python examples/plain_pytorch.py
    python examples/plain_pytorch.py --head hierarchical --classes 200 --epochs 20

A network gives features; the head has the last layer and the loss. `for_model` makes one optimiser of both.
Needs `pip install 'softmaxes[lab]'`, which draws the images.
"""

import argparse
from collections.abc import Callable

import torch
from torch import nn

from softmaxes import Head, HierarchicalSoftmax, Softmax, Tree
from softmaxes.lab import load_data
from softmaxes.optim import for_model

HEADS: dict[str, Callable[[int, int], Head]] = {
    "softmax": Softmax,
    "hierarchical": lambda features, classes: HierarchicalSoftmax(features, Tree.balanced(classes)),
}


def network(features: int) -> nn.Sequential:
    """Two convolutions for images of 32 x 32 pixels, and a layer that gives the features."""
    return nn.Sequential(
        *(nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(64 * 8 * 8, features), nn.ReLU()),
    )


def main() -> None:
    """Train, and print what was learned."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--head", choices=HEADS, default="softmax")
    parser.add_argument("--classes", type=int, default=50, help="characters")
    parser.add_argument("--per-class", type=int, default=60, help="training images of each")
    parser.add_argument("--epochs", type=int, default=8)
    given = parser.parse_args()

    torch.manual_seed(0)
    data = load_data(f"glyphs:{given.classes}", train_per_class=given.per_class)
    images, labels = data.train_inputs.float() / 255, data.train_labels
    body, head = network(128), HEADS[given.head](128, given.classes)
    optimiser = for_model(body, head, lr=0.001)
    for epoch in range(1, given.epochs + 1):
        total = 0.0
        for batch in torch.randperm(len(labels)).split(64):
            optimiser.zero_grad()
            loss = head(body(images[batch]), labels[batch])  # a loss for each example
            loss.mean().backward()
            optimiser.step()
            total += loss.sum().item()
        print(f"epoch {epoch}: loss {total / len(labels):.3f}")

    body.eval(), head.eval()
    with torch.no_grad():
        features = body(data.test_inputs.float() / 255)
        right = (head.predict(features) == data.test_labels).float().mean().item()
        log_prob, classes = head.topk(features[:3], 3)
    print(f"test accuracy: {100 * right:.1f} %; chance: {100 / given.classes:.1f} %")
    for label, values, best in zip(data.test_labels[:3], log_prob.exp(), classes, strict=True):
        said = ", ".join(f"{data.class_names[c]} {100 * p:.0f} %" for p, c in zip(values, best, strict=True))
        print(f"{data.class_names[label]}: {said}")


if __name__ == "__main__":
    main()
