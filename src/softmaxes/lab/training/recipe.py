"""What a training step is made of beside trunk and head: its learning rate, its targets, its images.

All that is drawn here depends on the seed and the epoch and never on the head.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from softmaxes.lab.records import Run
from softmaxes.lab.seeds import stream

WARM_UP = 0.3  # of the steps, and the rates that follow: as in torch's OneCycleLR
FIRST = 1 / 25  # of the highest learning rate
LAST = 1e-4  # of the first one


def learning_rate(run: Run, step: int, steps: int) -> float:
    """The learning rate of a step. Steps are counted from 0; `steps` is their number."""
    if run.lr_schedule == "constant":
        return run.lr
    if run.lr_schedule == "linear":
        return run.lr * (1 - step / steps)
    if run.lr_schedule == "cosine":
        return _half_cosine(run.lr, 0, step / steps)
    highest = WARM_UP * steps - 1  # the step of it, seldom a whole number
    if step <= highest:
        return _half_cosine(FIRST * run.lr, run.lr, step / highest)
    return _half_cosine(run.lr, LAST * FIRST * run.lr, (step - highest) / (steps - 1 - highest))


def _half_cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2


class Draws(NamedTuple):
    """What is drawn for an epoch, for each of the N examples of the training set."""

    targets: Tensor  # (N,)
    flipped: Tensor | None  # (N,); none where images are left as they are
    corner: Tensor | None  # (N, 2), row and column at which a crop begins in the padded image
    padding: int

    def images(self, images: Tensor, rows: Tensor) -> Tensor:
        """A batch of images, flipped and cropped: uint8 (B, height, width, channels), (B,) -> as the images."""
        if self.flipped is None or self.corner is None:
            return images
        height, width = images.shape[1:3]
        padded = functional.pad(images, [0, 0, *[self.padding] * 4])
        across = torch.arange(width, device=rows.device)
        across = self.corner[rows, 1:] + torch.where(self.flipped[rows].unsqueeze(1), across.flip(0), across)
        down = self.corner[rows, :1] + torch.arange(height, device=rows.device)
        down += padded.shape[1] * torch.arange(len(rows), device=rows.device).unsqueeze(1)  # over all of the batch
        pixels = (padded.shape[2] * down).unsqueeze(2) + across.unsqueeze(1)
        # One list of pixels: on a CPU in half the time of an index for each dimension.
        return padded.flatten(0, 2)[pixels.flatten()].view(len(rows), height, width, -1)


def draw(run: Run, epoch: int, labels: Tensor, classes: int) -> Draws:
    """The draws of an epoch, on the device of the labels.

    Args:
        run: says what is drawn.
        epoch: its number.
        labels: of the training set, (N,).
        classes: how many there are.
    """
    targets, flipped, corner = labels, None, None
    if run.label_smoothing > 0:
        generator = torch.Generator().manual_seed(stream(run.seed, "targets", epoch))
        replaced = torch.rand(len(labels), generator=generator) < run.label_smoothing
        drawn = torch.randint(classes, (len(labels),), generator=generator)
        targets = torch.where(replaced.to(labels.device), drawn.to(labels.device), labels)
    if run.flips or run.crops > 0:
        generator = torch.Generator().manual_seed(stream(run.seed, "flips", epoch))
        flipped = (torch.rand(len(labels), generator=generator) < 0.5 * run.flips).to(labels.device)
        generator = torch.Generator().manual_seed(stream(run.seed, "crops", epoch))
        corner = torch.randint(2 * run.crops + 1, (len(labels), 2), generator=generator).to(labels.device)
    return Draws(targets, flipped, corner, run.crops)
