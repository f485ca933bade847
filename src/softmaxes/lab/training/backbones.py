"""Networks that turn images, vectors or texts into features, for a head to classify."""

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from softmaxes.files import InputError
from softmaxes.lab.records import FOR_TEXTS, DataCard, Training
from softmaxes.lab.resolve import callable_part, is_own, made_by, unknown
from softmaxes.lab.training.ngrams import BagOfNgrams


class TinyVGG(nn.Module):
    r"""The network of the CNN Explainer: two blocks of two 3x3 convolutions with ReLU and a 2x2 max-pool, flattened.

    Args:
        image_shape: channels, height and width of an image.
        channels: output channels of every convolution.
        padding: zero padding of every convolution.
        hidden_units: width of a linear layer after the blocks, as the original study put before its tree; none by
            default.

    Shape:
        - image: (N, channels, height, width), floating point
        - features: (N, out_features)

    Attributes:
        out_features: size of a feature vector: 250 for a 32x32 image at the default setting.

    Raises:
        ValueError: the image is too small for the two blocks.

    Example:
        >>> import torch
        >>> from softmaxes.lab.training.backbones import TinyVGG
        >>> TinyVGG((3, 32, 32))(torch.zeros(2, 3, 32, 32)).shape
        torch.Size([2, 250])

    Reference:
        Z. J. Wang et al. CNN Explainer: learning convolutional neural networks with interactive visualization. 2020.
    """

    def __init__(
        self, image_shape: tuple[int, int, int], channels: int = 10, padding: int = 0, hidden_units: int | None = None
    ) -> None:
        super().__init__()
        colours, *size = image_shape
        for _ in range(2):
            size = [(side + 2 * (2 * padding - 2)) // 2 for side in size]
        if min(size) < 1:
            raise ValueError(
                f"TinyVGG: expected images of at least 16x16 at padding 0, got {image_shape[1]}x{image_shape[2]} "
                f"at padding {padding}."
            )
        self.blocks = nn.Sequential(*self._block(colours, channels, padding), *self._block(channels, channels, padding))
        self.out_features = channels * size[0] * size[1]
        self.hidden = nn.Identity() if hidden_units is None else nn.Linear(self.out_features, hidden_units)
        if hidden_units is not None:
            self.out_features = hidden_units

    @staticmethod
    def _block(inputs: int, channels: int, padding: int) -> list[nn.Module]:
        return [
            nn.Conv2d(inputs, channels, 3, padding=padding),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, channels, 3, padding=padding),
            nn.MaxPool2d(2),
            nn.ReLU(inplace=True),  # after the pool: the same numbers and gradients from a quarter of the values
        ]

    def forward(self, image: Tensor) -> Tensor:
        """Features of a batch of images."""
        return torch.as_tensor(self.hidden(self.blocks(image).flatten(1)))


class ResNet(nn.Module):
    r"""The residual network for CIFAR: a 3x3 convolution, three stages of blocks, and the mean over all pixels.

    A block is two 3x3 convolutions with batch normalisation around which its input is added. The second and third
    stage halve height and width and double the channels; there the input is every other pixel, and zero in the new
    channels, so that the way around has no parameters.

    Args:
        image_shape: channels, height and width of an image.
        width: channels of the first stage.
        blocks: how many each stage has; there are 6 blocks + 2 layers with those before and after.
        hidden_units: width of a linear layer after the mean; none by default.

    Shape:
        - image: (N, channels, height, width), floating point
        - features: (N, out_features)

    Attributes:
        out_features: size of a feature vector: 4 width, or `hidden_units`.

    Raises:
        ValueError: the image is so small that one pixel is left of it, of which there is nothing to normalise.

    Example:
        >>> import torch
        >>> from softmaxes.lab.training.backbones import ResNet
        >>> ResNet((3, 32, 32))(torch.zeros(2, 3, 32, 32)).shape
        torch.Size([2, 64])

    Reference:
        K. He, X. Zhang, S. Ren, J. Sun. Deep residual learning for image recognition. 2015. Section 4.2.
    """

    def __init__(
        self, image_shape: tuple[int, int, int], width: int = 16, blocks: int = 1, hidden_units: int | None = None
    ) -> None:
        super().__init__()
        colours, *size = image_shape
        if min(size) < 5:
            raise ValueError(f"ResNet: expected images of at least 5x5, got {size[0]}x{size[1]}.")
        channels = [width] * (1 + blocks) + [2 * width] * blocks + [4 * width] * blocks
        self.blocks = nn.Sequential(
            nn.Conv2d(colours, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            *(_Block(*pair) for pair in pairwise(channels)),
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        self.hidden = nn.Identity() if hidden_units is None else nn.Linear(4 * width, hidden_units)
        self.out_features = 4 * width if hidden_units is None else hidden_units

    def forward(self, image: Tensor) -> Tensor:
        """Features of a batch of images."""
        return torch.as_tensor(self.hidden(self.blocks(image).mean((2, 3))))


class _Block(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.stride = 1 if inputs == outputs else 2
        self.convolutions = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride=self.stride, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
            nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.new_channels = outputs - inputs

    def forward(self, image: Tensor) -> Tensor:
        around = image
        if self.new_channels:
            around = functional.pad(image[:, :, ::2, ::2], (0, 0, 0, 0, 0, self.new_channels))
        return functional.relu_(self.convolutions(image).add_(around))


class MLP(nn.Module):
    """For vectors: a hidden layer with ReLU, or none, and the vectors are the features.

    Args:
        in_features: size of a vector.
        hidden_units: width of the hidden layer; none by default.

    Shape:
        - vector: (N, in_features), floating point
        - features: (N, out_features)

    Attributes:
        out_features: size of a feature vector.

    Example:
        >>> import torch
        >>> from softmaxes.lab.training.backbones import MLP
        >>> MLP(64)(torch.zeros(2, 64)).shape, MLP(64, hidden_units=256)(torch.zeros(2, 64)).shape
        (torch.Size([2, 64]), torch.Size([2, 256]))
    """

    def __init__(self, in_features: int, hidden_units: int | None = None) -> None:
        super().__init__()
        self.out_features = in_features if hidden_units is None else hidden_units
        self.hidden = (
            nn.Identity() if hidden_units is None else nn.Sequential(nn.Linear(in_features, hidden_units), nn.ReLU())
        )

    def forward(self, vector: Tensor) -> Tensor:
        """Features of a batch of vectors."""
        return torch.as_tensor(self.hidden(vector))


# Networks for images by name. Options that are a network's own are fields of `Training`, marked with its name.
BACKBONES: dict[str, Callable[[Training, tuple[int, int, int]], nn.Module]] = {
    "tinyvgg": lambda t, shape: TinyVGG(shape, t.channels, t.padding, t.hidden_units),
    "resnet": lambda t, shape: ResNet(shape, t.width, t.blocks, t.hidden_units),
}
FOR_IMAGES = ("flips", "crops")  # options that others have no use for


class OwnBackbone(nn.Module):
    """A network of the user's own, and a linear layer after it if there is to be one.

    Args:
        network: gives features (N, out_features) for standardised inputs; `out_features` is an attribute of it.
        hidden_units: width of the layer; none by default.
    """

    def __init__(self, network: nn.Module, hidden_units: int | None) -> None:
        super().__init__()
        self.network = network
        self.features = int(network.out_features)  # type: ignore[arg-type]
        self.hidden = nn.Identity() if hidden_units is None else nn.Linear(self.features, hidden_units)
        self.out_features = self.features if hidden_units is None else hidden_units

    def forward(self, input: Tensor) -> Tensor:
        """Features of a batch of inputs.

        Raises:
            InputError: the network gives features of another size than its `out_features`.
        """
        features = self.network(input)
        expected = (len(input), self.features)
        if not isinstance(features, Tensor) or tuple(features.shape) != expected:
            got = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
            raise InputError(
                f"--backbone: expected features of shape {expected}, as the network's out_features says, got {got}."
            )
        return torch.as_tensor(self.hidden(features))


def trunk_for(training: Training, card: DataCard) -> nn.Module:
    """The network for the data: of a name, or of the user's own; else for vectors an `MLP`, for texts a `BagOfNgrams`.

    Raises:
        ValueError: it does not fit the data, or an option does not fit it.
    """
    name = training.backbone
    if name not in BACKBONES and not is_own(name):
        raise unknown("--backbone", name, BACKBONES)
    changed = [name for name, field in Training.model_fields.items() if getattr(training, name) != field.default]
    _check_options(training, card, changed)
    if is_own(name):
        return _own_backbone(training, card)
    if card.kind == "text":
        t = training
        return BagOfNgrams(t.dim, t.buckets, t.min_chars, t.max_chars, t.max_words, t.hidden_units)
    if card.image_shape is None:
        return MLP(card.vector_size or 0, training.hidden_units)
    return BACKBONES[name](training, card.image_shape)


def _check_options(training: Training, card: DataCard, changed: Sequence[str]) -> None:
    """Refuse options that the network or the data have no use for."""
    own = is_own(training.backbone)
    for option in changed:
        value = getattr(training, option)
        of = next((name for name in (*BACKBONES, FOR_TEXTS) if option in Training.options_of(name)), None)
        wanted = None
        if of == FOR_TEXTS:
            wanted = "text"
        elif option in FOR_IMAGES or of is not None or (option == "backbone" and not own):
            wanted = "image"
        elif option == "standardise" and card.kind == "text":
            raise ValueError(
                f"{card.name}: expected images or vectors for {option} {value}, got texts, which have none."
            )
        if wanted is not None and wanted != card.kind:
            raise ValueError(
                f"{card.name}: expected {wanted}s for {option} {value}, got {card.kind}s, which have none."
            )
        if of is not None and (own or wanted == "image") and of != training.backbone:
            others = "" if own else f", whose options are {' and '.join(Training.options_of(training.backbone))}"
            raise ValueError(f"{option} {value}: expected backbone {of}, got {training.backbone}{others}.")
    if card.image_shape is not None and training.crops >= min(card.image_shape[1:]):
        raise ValueError(
            f"{card.name}: expected crops of less than the {min(card.image_shape[1:])} pixels of an image's side, "
            f"got {training.crops}."
        )


def _own_backbone(training: Training, card: DataCard) -> OwnBackbone:
    """The network that the user's own function makes of what is known of the data."""
    name = training.backbone
    make = callable_part("--backbone", name, "a function that makes a network")
    network = made_by("--backbone", name, make, card)
    if not isinstance(network, nn.Module):
        raise InputError(f"--backbone: expected {name} to make an nn.Module, got {type(network).__name__}.")
    features = getattr(network, "out_features", None)
    if not isinstance(features, int) or features < 1:
        raise InputError(f"--backbone: expected a network of {name} with out_features, a number, got {features!r}.")
    return OwnBackbone(network, training.hidden_units)


def least_numbers(training: Training, card: DataCard) -> int:
    """How many numbers a training step holds at least: parameters and gradients, and the widest layer of a batch.

    Nothing of that size is made. A network of the user's own is not looked at.

    Raises:
        ValueError: the network does not fit the data, or an option does not fit it.
    """
    if is_own(training.backbone):
        return 0
    widest = 0

    def watch(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal widest
        widest = max(widest, output.numel())

    if card.kind == "text":
        rows = training.buckets * training.dim
        return rows if training.optimizer == "sgd" else 2 * rows  # the gradient has few of them, a state all
    with torch.device("meta"):
        trunk = trunk_for(training, card).eval()
        for module in trunk.modules():
            module.register_forward_hook(watch)
        trunk(torch.empty(1, *(card.image_shape or (card.vector_size or 0,))))
    parameters = sum(parameter.numel() for parameter in trunk.parameters())
    examples = sum(count - training.held_out(count) for count in card.train_counts)
    return 2 * (parameters + min(training.batch_size, examples) * widest)
