"""A classifier: inputs through a trunk into a head, and how one is built for a run."""

from typing import Any

import torch
from torch import Tensor, nn

from softmaxes import Head, Tree
from softmaxes.files import InputError
from softmaxes.lab.data.batches import Examples, Inputs
from softmaxes.lab.devices import ONE, Devices
from softmaxes.lab.heads.registry import entry_of
from softmaxes.lab.recipe import make_optimizer
from softmaxes.lab.records import (
    DataCard,
    Run,
)
from softmaxes.lab.seeds import stream
from softmaxes.lab.training.backbones import trunk_for
from softmaxes.lab.training.fabric import Fabric
from softmaxes.optim import SPARSE
from softmaxes.trees.growing import class_means

MOST_BRIGHT = 255.0  # of a pixel


class UnfitError(InputError):
    """A head that the data cannot serve; the message says why."""


class Classifier(nn.Module):
    """Inputs to loss: through a trunk into a head, if it has one behind a layer. Images, vectors are standardised."""

    mean: Tensor | None  # of images and vectors
    std: Tensor | None

    def __init__(
        self, trunk: nn.Module, hidden: nn.Module, head: Head, mean: Tensor | None, std: Tensor | None
    ) -> None:
        super().__init__()
        self.trunk = trunk
        self.hidden = hidden  # the head's own layer, or none
        self.head = head
        # As large as an input, for the arithmetic on images with their channels last is slow where shapes differ.
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Training loss of each example, of which `Examples` gives the batches: inputs, (N,) -> (N,)."""
        loss: Tensor = self.head(self.features(input), target)
        return loss

    def log_prob(self, input: Tensor) -> Tensor:
        """Log-probability of each class: inputs -> (N, C)."""
        return self.head.log_prob(self.features(input))

    def features(self, input: Tensor) -> Tensor:
        """What the head sees of a batch of `Examples`."""
        if self.mean is not None and self.std is not None:
            input = (input.float() - self.mean).div_(self.std)
        features: Tensor = self.hidden(self.trunk(input))
        return features

    def head_parameters(self) -> int:
        """How many numbers are the head's own, those of its hidden layer among them."""
        return sum(parameter.numel() for part in (self.hidden, self.head) for parameter in part.parameters())


def build(run: Run, card: DataCard, train_inputs: Inputs, devices: Devices = ONE) -> Classifier:
    """The untrained classifier of a run, for its devices. Its trunk depends on the seed and never on the head.

    Args:
        run: what to build.
        card: what is known of the data.
        train_inputs: as `Examples` has them: images with their channels last, or others.
        devices: where the classifier is trained.

    Raises:
        UnfitError: the data cannot serve the head.
        ValueError: the network does not fit the inputs.
    """
    mean = std = None
    if isinstance(train_inputs, Tensor):
        mean, std = mean_and_std(train_inputs)
        if not run.standardise:
            mean, std = torch.zeros_like(mean), torch.full_like(std, 1.0 if card.image_shape is None else MOST_BRIGHT)
        shape = _shape(card)
        mean, std = (one.float().expand(1, *shape).contiguous() for one in (mean, std))
    entry = entry_of(run.head)
    if run.epochs < entry.least_epochs:
        raise UnfitError(
            f"{run.head}: expected at least {entry.least_epochs} epochs, the first to learn a tree from, "
            f"got {run.epochs}."
        )
    return _built(run, card, mean, std, devices)


def rebuild(run: Run, card: DataCard, tree: Tree | None) -> Classifier:
    """The classifier of a run that was trained, for its weights: what training makes of data is still to be loaded.

    Args:
        run: what was trained.
        card: what is known of its data.
        tree: the one that its head is over, if it has one.

    Raises:
        UnfitError: the data cannot serve the head.
        ValueError: the network does not fit the inputs.
    """
    mean = torch.zeros(1, *_shape(card)) if card.kind in ("image", "vector") else None
    classifier = _built(run, card, mean, None if mean is None else torch.ones_like(mean))
    growth = entry_of(run.head).growth
    if growth is not None and tree is not None:
        classifier.head = growth.put(classifier.head, tree, False)
    return classifier


def _shape(card: DataCard) -> tuple[int, ...]:
    """The shape of an input that is standardised."""
    return (card.vector_size or 0,) if card.image_shape is None else card.image_shape


def _built(run: Run, card: DataCard, mean: Tensor | None, std: Tensor | None, devices: Devices = ONE) -> Classifier:
    torch.manual_seed(stream(run.seed, "trunk"))
    trunk = trunk_for(run, card)
    out_features = int(trunk.out_features)  # type: ignore[arg-type]
    torch.manual_seed(stream(run.seed, "head"))
    entry, classes = entry_of(run.head), len(card.class_names)
    try:
        if entry.most_classes is not None and classes > entry.most_classes:
            raise ValueError(f"{run.head}: expected at most {entry.most_classes:,} classes, got {classes:,}.")
        hidden: nn.Module = nn.Identity()
        if entry.hidden:
            hidden = nn.Sequential(nn.Linear(out_features, out_features), nn.ReLU())
        sparse = entry.sparse is not None and sparse_is_better(run, classes * out_features, devices)
        if run.knob is None:
            head = (entry.sparse if entry.sparse is not None and sparse else entry.build)(out_features, card)
        elif entry.knob is not None:
            head = entry.knob.build(out_features, card, run.knob)
        else:
            raise ValueError(f"{run.head}: expected no knob, for it has none, got {run.knob:g}.")
    except ValueError as error:
        raise UnfitError(" ".join(str(error).split())) from error
    classifier = Classifier(trunk, hidden, head, mean, std)
    return classifier.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def mean_and_std(inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each channel of images, or of each number of vectors, over some thousand of them.

    Images are (N, height, width, channels).

    A number that hardly varies, or does not, is left at its scale.
    """
    some = (inputs if len(inputs) < 5000 else inputs[:: len(inputs) // 5000]).double()
    if some.dim() == 4:
        mean, std = some.mean((0, 1, 2)), some.std((0, 1, 2)).clamp(min=1)
        return mean.view(1, -1, 1, 1), std.view(1, -1, 1, 1)
    std = some.std(0, keepdim=True, correction=0)
    return some.mean(0, keepdim=True), std.where(std > 1e-6 * std.max(), 1.0)


def sparse_is_better(run: Run, numbers: int, devices: Devices) -> bool:
    """Whether sparse gradients make the same step as dense ones, and sooner; on a GPU that was not measured.

    `fully_shard` has none that are sparse.
    """
    rows_without_gradient_stay = run.optimizer in ("sgd", "adagrad") and run.momentum == 0 and run.weight_decay == 0
    in_parts = devices.number > 1 and devices.strategy == "fsdp"
    return rows_without_gradient_stay and numbers >= SPARSE and devices.kind == "cpu" and not in_parts


def grow(run: Run, classifier: Classifier, vectors: Tensor, devices: Devices = ONE) -> Tree:
    """Let the head of a run learn a tree from class vectors, (C, D), and go on over it; the tree."""
    growth = entry_of(run.head).growth
    if growth is None:
        raise ValueError(f"{run.head}: expected a head that learns a tree.")
    torch.manual_seed(stream(run.seed, "tree"))
    sparse = sparse_is_better(run, vectors.numel(), devices._replace(kind=vectors.device.type))
    classifier.head, tree = growth.grow(classifier.head, vectors, sparse)
    return tree


def means_of_classes(fabric: Fabric, classifier: Classifier, examples: Examples) -> Tensor:
    """The mean features of each class, (C, D); of a class without examples the mean of all."""
    classifier.eval()
    with torch.no_grad(), fabric.autocast():
        batches = ((classifier.features(input), label) for input, label in examples.batches())
        return class_means(batches, classifier.head.num_classes)


def set_up(fabric: Fabric, run: Run, classifier: Classifier) -> tuple[Any, Any]:
    """The model on its device, and an optimiser of all its parameters."""
    by_row = any(getattr(module, "sparse", False) for module in classifier.modules())
    model = fabric.setup_module(classifier)
    model.mark_forward_method("log_prob")
    return model, fabric.setup_optimizers(make_optimizer(run, classifier.parameters(), by_row))
