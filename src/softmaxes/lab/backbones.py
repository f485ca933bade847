"""Networks that turn images or vectors into features, for a head to classify."""

import torch
from torch import Tensor, nn

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


def trunk_for(training: Training, card: DataCard) -> TinyVGG | MLP:
    """The network for the data: TinyVGG for images, `MLP` for vectors.

    Raises:
        ValueError: it does not fit the data.
    """
    if card.image_shape is not None:
        return TinyVGG(card.image_shape, training.channels, training.padding, training.hidden_units)
    for name in ("channels", "padding"):
        if getattr(training, name) != Training.model_fields[name].default:
            raise ValueError(
                f"{card.name}: expected images for {name} {getattr(training, name)}, got vectors, which have none."
            )
    return MLP(card.vector_size or 0, training.hidden_units)
