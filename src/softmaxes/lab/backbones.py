"""Networks that turn images or vectors into features, for a head to classify."""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from softmaxes.lab.run import DataCard, Training


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
        >>> from softmaxes.lab.backbones import TinyVGG
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
        >>> from softmaxes.lab.backbones import ResNet
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
        >>> from softmaxes.lab.backbones import MLP
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


OWN = {"tinyvgg": ("channels", "padding"), "resnet": ("width", "blocks")}  # options of one network alone


def trunk_for(training: Training, card: DataCard) -> TinyVGG | ResNet | MLP:
    """The network for the data: TinyVGG or ResNet for images, `MLP` for vectors.

    Raises:
        ValueError: it does not fit the data, or an option does not fit it.
    """
    changed = [name for name, field in Training.model_fields.items() if getattr(training, name) != field.default]
    if card.image_shape is None:
        for name in changed:
            if name in ("flips", "crops", "backbone", *OWN["tinyvgg"], *OWN["resnet"]):
                raise ValueError(
                    f"{card.name}: expected images for {name} {getattr(training, name)}, got vectors, which have none."
                )
        return MLP(card.vector_size or 0, training.hidden_units)
    for backbone, own in OWN.items():
        for name in changed:
            if name in own and backbone != training.backbone:
                raise ValueError(
                    f"{name} {getattr(training, name)}: expected backbone {backbone}, got {training.backbone}, "
                    f"whose options are {' and '.join(OWN[training.backbone])}."
                )
    if training.crops >= min(card.image_shape[1:]):
        raise ValueError(
            f"{card.name}: expected crops of less than the {min(card.image_shape[1:])} pixels of an image's side, "
            f"got {training.crops}."
        )
    if training.backbone == "resnet":
        return ResNet(card.image_shape, training.width, training.blocks, training.hidden_units)
    return TinyVGG(card.image_shape, training.channels, training.padding, training.hidden_units)


def least_numbers(training: Training, card: DataCard) -> int:
    """How many numbers a training step holds at least: parameters and gradients, and the widest layer of a batch.

    Nothing of that size is made.

    Raises:
        ValueError: the network does not fit the data, or an option does not fit it.
    """
    with torch.device("meta"):
        trunk = trunk_for(training, card)
    parameters = sum(parameter.numel() for parameter in trunk.parameters())
    widest = trunk.out_features
    if card.image_shape is not None:
        channels = training.width if training.backbone == "resnet" else training.channels
        widest = max(widest, channels * (card.image_shape[1] - 2) * (card.image_shape[2] - 2))
    examples = sum(count - training.held_out(count) for count in card.train_counts)
    return 2 * (parameters + min(training.batch_size, examples) * widest)
