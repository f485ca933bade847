"""A network that sees the mean colour of each quarter of an image."""

from torch import nn

from softmaxes.lab import DataCard


def pooled(card: DataCard) -> nn.Module:
    """Mean colours of a grid of 4 by 4 fields, and a hidden layer.

    Args:
        card: what is known of the data; ``card.image_shape`` is channels, height and width.

    Returns:
        A network whose ``out_features`` says how many numbers it gives for an image.
    """
    channels, *_ = card.image_shape or (1, 1, 1)
    network = nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(16 * channels, 32), nn.ReLU())
    network.out_features = 32  # type: ignore[assignment]
    return network
