"""The registry: every head that can be imported can be compared, built from what is known of the data alone."""

import pytest
import torch

from cases import public_heads
from softmaxes import HierarchicalSoftmax
from softmaxes.lab.heads.registry import HEADS
from toy import toy_data


def test_every_public_head_is_in_the_lab() -> None:
    card = toy_data(12).card()
    assert {type(entry.build(16, card)) for entry in HEADS.values()} == public_heads()


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("classes", [3, 12])
def test_a_head_of_the_lab_fits_the_data(name: str, classes: int) -> None:
    head = HEADS[name].build(16, toy_data(classes).card())
    assert (head.in_features, head.num_classes) == (16, classes)
    target = torch.arange(classes)
    head(torch.randn(classes, 16), target).mean().backward()
    assert head.log_prob(torch.randn(5, 16)).shape == (5, classes)


def test_the_tree_of_groups_is_that_of_the_data_s_labels() -> None:
    card = toy_data(12).card()
    assert card.group_of_class is not None
    head = HEADS["hierarchical-groups"].build(16, card)
    assert isinstance(head, HierarchicalSoftmax)
    above = [head.tree.ancestors(c)[0] for c in range(12)]
    for one in range(12):
        for other in range(12):
            together = card.group_of_class[one] == card.group_of_class[other]
            assert (above[one] == above[other]) == together


@pytest.mark.parametrize("name", [name for name, entry in HEADS.items() if entry.sparse is not None])
def test_sparse_gradients_make_the_same_step(name: str) -> None:
    """From the same weights, at the same draws: another form of the gradient and no other head."""
    entry, card = HEADS[name], toy_data(12).card()
    assert entry.sparse is not None
    stepped = []
    for build in (entry.build, entry.sparse):
        torch.manual_seed(0)
        head = build(16, card)
        optimiser = torch.optim.SGD(head.parameters(), lr=0.5)
        head(torch.randn(8, 16), torch.arange(8)).mean().backward()
        layouts = {parameter.grad.layout for parameter in head.parameters() if parameter.grad is not None}
        assert layouts == {torch.sparse_coo if build is entry.sparse else torch.strided}
        optimiser.step()
        stepped.append(list(head.parameters()))
    torch.testing.assert_close(*stepped)


@pytest.mark.parametrize("name", ["sampled", "nce", "negative-sampling", "adaptive", "hierarchical-huffman"])
def test_a_class_that_was_never_seen_is_served(name: str) -> None:
    card = toy_data(12).card()
    card = card.model_copy(update={"train_counts": (0, *card.train_counts[1:])})
    head = HEADS[name].build(16, card)
    assert head.log_prob(torch.randn(5, 16)).isfinite().all()
