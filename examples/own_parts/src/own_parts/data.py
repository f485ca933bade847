"""Images of rings, a class for each radius."""

import torch
from torch import Tensor

from softmaxes.lab import Data

CLASSES, SIZE = 8, 32


def rings() -> Data:
    """Rings of eight radii in noise: 40 training images and 10 test images of each."""
    generator = torch.Generator().manual_seed(0)
    train, test = _part(40, generator), _part(10, generator)
    return Data(
        name="rings",
        description="Rings of eight radii in noise.",
        source="own_parts",
        train_inputs=train[0],
        train_labels=train[1],
        test_inputs=test[0],
        test_labels=test[1],
        class_names=[f"radius {radius}" for radius in range(2, 2 + CLASSES)],
    )


def _part(per_class: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Images, uint8 (N, 3, 32, 32), and their labels, (N,)."""
    labels = torch.arange(CLASSES).repeat(per_class)
    place = torch.arange(SIZE) - SIZE / 2
    distance = (place.unsqueeze(0) ** 2 + place.unsqueeze(1) ** 2).sqrt()
    ring = (distance - (labels + 2).view(-1, 1, 1)).abs() < 1
    noise = torch.randint(0, 60, (len(labels), 3, SIZE, SIZE), generator=generator)
    return (noise + 150 * ring.unsqueeze(1)).to(torch.uint8), labels
