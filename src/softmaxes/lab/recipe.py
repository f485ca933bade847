"""What a training step is made of beside trunk and head: its optimizer, its learning rate, its targets, its images.

The options that say so are here, beside what they do. All that is drawn depends on the seed and the epoch and never on
the head. This module imports torch only when it is used, so that ``softmaxes --help`` answers at once.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, Self

from pydantic import Field, model_validator

from softmaxes.lab.fields import MOST_RATE, NonNegativeInt, PositiveInt, Rate, Record
from softmaxes.lab.seeds import stream

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.optim import Optimizer

    from softmaxes.lab.records import Run

OPTIMIZERS = {  # as torch.optim names them
    "sgd": "SGD",
    "adam": "Adam",
    "adamw": "AdamW",
    "adagrad": "Adagrad",
    "rmsprop": "RMSprop",
}
WITH_MOMENTUM = ("sgd", "rmsprop")
SMALL_RATES = ("adam", "adamw", "rmsprop")  # optimizers whose steps are about as large as the learning rate
SCHEDULES = {
    "linear": "falling linearly to 0",
    "constant": "constant",
    "cosine": "falling to 0 in half a cosine",
    "one-cycle": "in one cycle",
}
WARM_UP = 0.3  # of the steps, and the rates that follow: as in torch's OneCycleLR
FIRST = 1 / 25  # of the highest learning rate
LAST = 1e-4  # of the first one


class Recipe(Record):
    """The options of a training step. Each field is an option of the command line."""

    epochs: Annotated[
        PositiveInt, Field(description="Passes over the training set; the test set is scored after each.")
    ] = 10
    batch_size: Annotated[PositiveInt, Field(description="Training examples a step.")] = 32
    optimizer: Annotated[
        Literal["sgd", "adam", "adamw", "adagrad", "rmsprop"],
        Field(
            description="Optimizer of torch.optim, the same for all heads. A head's gradients are sparse where that is "
            "faster and the step the same: *sgd* without momentum, *adagrad*, both without weight decay. The table of "
            "n-grams, or of features of sparse vectors, always has sparse gradients: the other optimizers step its "
            "rows only when an example has met them. If none is named, texts and sparse vectors are trained with "
            "*adagrad* at learning rate 0.5, its sums beginning with 1e-7."
        ),
    ] = "sgd"
    lr: Annotated[Rate, Field(description="Learning rate; with *adam*, *adamw* and *rmsprop* 0.001 if not given.")] = (
        0.1
    )
    lr_schedule: Annotated[
        Literal["linear", "constant", "cosine", "one-cycle"],
        Field(
            description="*linear* and *cosine* let the learning rate fall to 0 over all steps; *one-cycle* lets it "
            "rise from a 25th over the first 30 % of them, then fall to almost 0."
        ),
    ] = "linear"
    momentum: Annotated[float, Field(ge=0, lt=1, description="Momentum, of *sgd* and *rmsprop*.")] = 0.0
    weight_decay: Annotated[
        float,
        Field(
            ge=0, le=MOST_RATE, allow_inf_nan=False, description="Weight decay: decoupled in *adamw*, L2 in the others."
        ),
    ] = 0.0
    initial_accumulator: Annotated[
        float,
        Field(
            ge=0,
            le=MOST_RATE,
            allow_inf_nan=False,
            description="What *adagrad*'s sums of squared gradients begin with. At 0 each first step is as large "
            "as the learning rate, however small the gradient: so rare n-grams and classes are learned by heart.",
        ),
    ] = 0.0
    label_smoothing: Annotated[
        float,
        Field(
            ge=0,
            lt=1,
            description="Probability with which the target of a training step is replaced by a class drawn uniformly: "
            "in the mean the loss with smoothed labels, of any head and at no cost.",
        ),
    ] = 0.0
    flips: Annotated[
        bool, Field(description="Mirror each training image, left to right, with probability one half.")
    ] = False
    crops: Annotated[
        NonNegativeInt,
        Field(
            le=1000, description="Pad training images by this many black pixels, and crop them to their size at random."
        ),
    ] = 0

    @model_validator(mode="after")
    def _momentum_is_used(self) -> Self:
        if self.momentum and self.optimizer not in WITH_MOMENTUM:
            raise ValueError(f"--momentum: expected 0 with {self.optimizer}, which has none, got {self.momentum:g}")
        if self.initial_accumulator and self.optimizer != "adagrad":
            raise ValueError(
                f"--initial-accumulator: expected 0 with {self.optimizer}, which has none, got "
                f"{self.initial_accumulator:g}"
            )
        return self


def make_optimizer(recipe: Recipe, parameters: Iterable[nn.Parameter], by_row: bool = False) -> Optimizer:
    """The optimizer of some parameters.

    Args:
        recipe: says which, and how it steps.
        parameters: what it steps.
        by_row: whether gradients may be sparse; then it steps the rows alone that have one.
    """
    import torch

    from softmaxes.optim import LazyRows

    options: dict[str, Any] = {"lr": recipe.lr, "weight_decay": recipe.weight_decay}
    if recipe.optimizer in WITH_MOMENTUM:
        options["momentum"] = recipe.momentum
    if recipe.optimizer == "adagrad":
        options["initial_accumulator_value"] = recipe.initial_accumulator
    rule: type[Optimizer] = getattr(torch.optim, OPTIMIZERS[recipe.optimizer])
    plain = recipe.optimizer == "sgd" and not recipe.momentum and not recipe.weight_decay  # torch's own steps rows
    return LazyRows(parameters, rule, **options) if by_row and not plain else rule(parameters, **options)


def learning_rate(run: Recipe, step: int, steps: int) -> float:
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
        import torch
        from torch.nn import functional

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
    import torch

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
