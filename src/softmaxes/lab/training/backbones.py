"""Networks that turn images, vectors, sparse vectors or texts into features, for a head to classify."""

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from softmaxes.files import InputError
from softmaxes.lab.records import FOR_SPARSE, FOR_TEXTS, FOR_WORDS, DataCard, Of, Training
from softmaxes.lab.resolve import callable_part, is_own, made_by, unknown
from softmaxes.lab.training.ngrams import BagOfNgrams, hidden_layer


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
        self.hidden = hidden_layer(in_features, hidden_units)

    def forward(self, vector: Tensor) -> Tensor:
        """Features of a batch of vectors."""
        return torch.as_tensor(self.hidden(vector))


class BagOfFeatures(nn.Module):
    r"""For sparse vectors: the sum of learned vectors, one for each feature, weighted by the vector at unit length.

    .. math:: f(x) = \sum_{j:\, x_j \ne 0} \frac{x_j}{\lVert x \rVert_2} E_j

    The gradient of E is sparse: it has the rows that the batch has met.

    Args:
        in_features: size of a sparse vector.
        dim: size of a learned vector.
        hidden_units: width of a linear layer with ReLU after the sum; none by default.

    Shape:
        - vectors: (N, in_features), floating point, a sparse matrix in torch's coordinate format
        - features: (N, out_features); 0 before the hidden layer where a vector is 0

    Attributes:
        out_features: size of a feature vector: `dim`, or `hidden_units`.

    Cost:
        Parameters `in_features` times `dim`. O(GD) time for G numbers that are not 0, and learned vectors of D numbers.

    Example:
        >>> import torch
        >>> from softmaxes.lab.data.ragged import SparseVectors
        >>> from softmaxes.lab.training.backbones import BagOfFeatures
        >>> vectors = SparseVectors.of([{0: 0.5, 7: 1.5}, {3: 1.0}], size=10)
        >>> BagOfFeatures(10, dim=16)(vectors.batch(torch.arange(2))).shape
        torch.Size([2, 16])
    """

    def __init__(self, in_features: int, dim: int = 128, hidden_units: int | None = None) -> None:
        super().__init__()
        self.table = nn.EmbeddingBag(in_features, dim, mode="sum", sparse=True)
        nn.init.normal_(self.table.weight, std=1 / dim)
        self.hidden = hidden_layer(dim, hidden_units)
        self.out_features = dim if hidden_units is None else hidden_units

    def forward(self, vectors: Tensor) -> Tensor:
        """Features of a batch of sparse vectors."""
        vectors = vectors.coalesce()
        row, feature = vectors.indices()
        value = vectors.values().double()  # in which no square is too large or too small
        norm = value.new_zeros(len(vectors)).index_add(0, row, value.square()).sqrt()
        weight = (value / norm[row].clamp(min=LEAST)).to(self.table.weight.dtype)
        number = torch.bincount(row, minlength=len(vectors))
        return torch.as_tensor(self.hidden(self.table(feature, number.cumsum(0) - number, per_sample_weights=weight)))


LEAST = 1e-300  # stands for a norm of 0

# Networks for images by name. Options that are a network's own are fields of `Training`, marked with its name.
BACKBONES: dict[str, Callable[[Training, tuple[int, int, int]], nn.Module]] = {
    "tinyvgg": lambda t, shape: TinyVGG(shape, t.channels, t.padding, t.hidden_units),
    "resnet": lambda t, shape: ResNet(shape, t.width, t.blocks, t.hidden_units),
}
# Names of networks that nobody needs to say.
FOR_OTHERS = {FOR_TEXTS: "text", FOR_WORDS: "next word", FOR_SPARSE: "sparse vector"}
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
    """The network for the data: of a name, or of the user's own.

    Of vectors it is an `MLP`, of sparse vectors a `BagOfFeatures`, and of texts and next words a `BagOfNgrams`, if not
    the user's own.

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
    t = training
    if card.next_word:
        return BagOfNgrams(
            t.dim, t.buckets, max_chars=0, max_words=0, hidden_units=t.hidden_units, last_words=t.last_words
        )
    if card.kind == "text":
        return BagOfNgrams(t.dim, t.buckets, t.min_chars, t.max_chars, t.max_words, t.hidden_units)
    if card.sparse_size is not None:
        return BagOfFeatures(card.sparse_size, training.dim, training.hidden_units)
    if card.image_shape is None:
        return MLP(card.vector_size or 0, training.hidden_units)
    return BACKBONES[name](training, card.image_shape)


def _check_options(training: Training, card: DataCard, changed: Sequence[str]) -> None:
    """Refuse options that the network or the data have no use for."""
    own = is_own(training.backbone)
    for option in changed:
        value = getattr(training, option)
        of = [mark.backbone for mark in Training.model_fields[option].metadata if isinstance(mark, Of)]
        kinds = [FOR_OTHERS.get(name, "image") for name in of]
        if option in FOR_IMAGES or (option == "backbone" and not own):
            kinds = ["image"]
        elif option == "standardise":
            kinds = ["image", "vector"]
        if kinds and card.task not in kinds:
            wanted = " or ".join(f"{kind}s" for kind in kinds)
            raise ValueError(f"{card.name}: expected {wanted} for {option} {value}, got {card.task}s, which have none.")
        if of and (own or "image" in kinds) and training.backbone not in of:
            others = "" if own else f", whose options are {' and '.join(Training.options_of(training.backbone))}"
            raise ValueError(f"{option} {value}: expected backbone {' or '.join(of)}, got {training.backbone}{others}.")
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

    if card.kind in FOR_OTHERS.values():
        rows = (card.sparse_size or training.buckets) * training.dim
        return rows if training.optimizer == "sgd" else 2 * rows  # the gradient has few of them, a state all
    with torch.device("meta"):
        trunk = trunk_for(training, card).eval()
        for module in trunk.modules():
            module.register_forward_hook(watch)
        trunk(torch.empty(1, *(card.image_shape or (card.vector_size or 0,))))
    parameters = sum(parameter.numel() for parameter in trunk.parameters())
    return 2 * (parameters + min(training.batch_size, card.trained_on(training)) * widest)
