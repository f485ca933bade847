"""The network follows from the data: TinyVGG or ResNet for images, a hidden layer or nothing for vectors."""

import pytest
import torch
from torch import nn

from softmaxes.lab.records import Training
from softmaxes.lab.training.backbones import MLP, ResNet, TinyVGG, least_numbers, trunk_for
from toy import toy_data

IMAGES = toy_data().card()
VECTORS = IMAGES.model_copy(update={"image_shape": None, "vector_size": 5, "samples": ()})


def test_vectors_go_to_the_head_as_they_are() -> None:
    trunk = trunk_for(Training(), VECTORS)
    vectors = torch.randn(4, 5)
    assert isinstance(trunk, MLP)
    assert trunk.out_features == 5
    assert torch.equal(trunk(vectors), vectors)
    assert list(trunk.parameters()) == []


def test_or_through_a_hidden_layer() -> None:
    trunk = trunk_for(Training(hidden_units=7), VECTORS)
    vectors = torch.randn(4, 5)
    linear = next(module for module in trunk.modules() if isinstance(module, nn.Linear))
    assert trunk.out_features == 7
    assert torch.equal(trunk(vectors), linear(vectors).clamp(min=0))


def test_images_have_tinyvgg() -> None:
    assert isinstance(trunk_for(Training(), IMAGES), TinyVGG)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("channels", 3),
        ("padding", 3),
        ("width", 3),
        ("blocks", 3),
        ("flips", True),
        ("crops", 3),
        ("backbone", "resnet"),
    ],
)
def test_what_is_of_images_alone_is_refused(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"toy: expected images for {name} {value}, got vectors, which have none"):
        trunk_for(Training.model_validate({name: value}), VECTORS)


@pytest.mark.parametrize(
    ("name", "other", "backbone"),
    [
        ("channels", "tinyvgg", "resnet"),
        ("padding", "tinyvgg", "resnet"),
        ("width", "resnet", "tinyvgg"),
        ("blocks", "resnet", "tinyvgg"),
    ],
)
def test_an_option_of_the_other_network_is_refused(name: str, other: str, backbone: str) -> None:
    with pytest.raises(ValueError, match=f"{name} 3: expected backbone {other}, got {backbone}, whose options are "):
        trunk_for(Training.model_validate({"backbone": backbone, name: 3}), IMAGES)
    trunk_for(Training.model_validate({"backbone": other, name: 3}), IMAGES)


def test_crops_keep_something_of_the_image() -> None:
    trunk_for(Training(crops=15), IMAGES)
    with pytest.raises(ValueError, match="toy: expected crops of less than the 16 pixels of an image's side, got 16"):
        trunk_for(Training(crops=16), IMAGES)


@pytest.mark.parametrize(("blocks", "parameters"), [(3, 269_722), (5, 464_154), (9, 853_018)])
def test_a_resnet_has_the_parameters_that_others_count(blocks: int, parameters: int) -> None:
    """Of ResNet-20, -32 and -56 for CIFAR-10, in the paper 0.27, 0.46 and 0.85 million."""
    network = nn.Sequential(ResNet((3, 32, 32), blocks=blocks), nn.Linear(64, 10))
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters
    layers = sum(isinstance(module, nn.Conv2d | nn.Linear) for module in network.modules())
    assert Training(backbone="resnet", blocks=blocks).network == f"ResNet-{layers}"


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 28, 28), (3, 16, 16), (3, 5, 5), (3, 17, 23)], ids=str)
def test_a_resnet_takes_images_of_any_size_and_one_alone(shape: tuple[int, int, int]) -> None:
    trunk = trunk_for(Training(backbone="resnet", width=4), IMAGES.model_copy(update={"image_shape": shape}))
    assert isinstance(trunk, ResNet)
    trunk.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    for mode in (True, False):
        features = trunk.train(mode)(torch.rand(1, *shape))
        assert features.shape == (1, trunk.out_features) == (1, 16)
        assert features.isfinite().all()
        features.sum().backward()
    assert all(parameter.grad is not None for parameter in trunk.parameters())


def test_of_which_nothing_could_be_normalised_is_refused() -> None:
    with pytest.raises(ValueError, match="ResNet: expected images of at least 5x5, got 4x32"):
        ResNet((3, 4, 32))


def test_a_resnet_s_stages_double_the_channels_and_halve_the_image_with_channels_last() -> None:
    trunk = ResNet((3, 32, 32), width=8, blocks=2).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    image = torch.rand(2, 3, 32, 32).contiguous(memory_format=torch.channels_last)
    shapes = []
    for module in trunk.blocks:
        image = module(image)
        assert image.is_contiguous(memory_format=torch.channels_last)
        shapes.append(tuple(image.shape[1:]))
    assert shapes[2:] == [*[(8, 32, 32)] * 3, *[(16, 16, 16)] * 2, *[(32, 8, 8)] * 2]


def test_around_a_block_goes_its_input() -> None:
    """Where the block itself says nothing: the same, or every other pixel and zero in the new channels."""
    trunk = ResNet((3, 32, 32), width=8, blocks=2)
    same, halved = trunk.blocks[3], trunk.blocks[5]
    for block in (same, halved):
        nn.init.zeros_(next(reversed(list(block.modules()))).weight)  # type: ignore[arg-type]
    image = torch.rand(2, 8, 32, 32)
    assert same(image).equal(image)
    found = halved(image)
    assert found[:, :8].equal(image[:, :, ::2, ::2])
    assert found[:, 8:].count_nonzero() == 0


def test_a_resnet_may_have_a_hidden_layer() -> None:
    trunk = trunk_for(Training(backbone="resnet", hidden_units=7), IMAGES)
    assert trunk.out_features == 7
    assert trunk(torch.rand(2, 3, 16, 16)).shape == (2, 7)


@pytest.mark.parametrize(
    "training",
    [
        Training(),
        Training(padding=1, hidden_units=7),
        Training(backbone="resnet", batch_size=4),
        Training(backbone="resnet", width=3, hidden_units=9),
    ],
)
def test_the_least_numbers_of_a_network_are_counted_without_it(training: Training) -> None:
    trunk = trunk_for(training, IMAGES)
    parameters = sum(parameter.numel() for parameter in trunk.parameters())
    layers: list[int] = []
    for module in trunk.modules():
        module.register_forward_hook(lambda _module, _input, output: layers.append(output.numel()))
    trunk(torch.rand(training.batch_size, *(IMAGES.image_shape or ())))
    assert 2 * (parameters + max(layers) / 2) < least_numbers(training, IMAGES) <= 2 * (parameters + max(layers))


@pytest.mark.parametrize("fields", [{"hidden_units": 10**7}, {"channels": 10**5}, {"padding": 1000, "channels": 10**4}])
def test_a_network_of_any_size_is_counted(fields: dict[str, int]) -> None:
    assert least_numbers(Training.model_validate(fields), IMAGES) > 5 * 10**8
    wide = {"backbone": "resnet", "width": 10**4, "blocks": 3}
    assert least_numbers(Training.model_validate(wide), IMAGES) > 10**10
    assert least_numbers(Training(hidden_units=10**7, batch_size=10**9), VECTORS) > 2 * 120 * 10**7
