"""The network follows from the data: TinyVGG for images, a hidden layer or nothing for vectors."""

import pytest
import torch
from torch import nn

from softmaxes.lab.backbones import MLP, TinyVGG, trunk_for
from softmaxes.lab.run import Training
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


@pytest.mark.parametrize("name", ["channels", "padding"])
def test_what_is_of_images_alone_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"toy: expected images for {name} 3, got vectors, which have none"):
        trunk_for(Training.model_validate({name: 3}), VECTORS)
