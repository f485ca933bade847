"""Twins: a setting at which a head is a simpler one, a line for each; a new head adds its own.

A twin makes two heads of a feature size in float64 that must agree in loss, log-probabilities and input gradient.
"""

from collections.abc import Callable

import torch

from softmaxes import GumbelSoftmax, Head, HierarchicalSoftmax, Softmax, Tree

Twin = Callable[[int], tuple[Head, Head]]


def softmax_of_two_classes_is_the_logistic_function(in_features: int) -> tuple[Head, Head]:
    # Two logits enter the softmax by their difference alone.
    flat = Softmax(in_features, 2, dtype=torch.float64)
    other = Softmax(in_features, 2, dtype=torch.float64)
    with torch.no_grad():
        other.weight.copy_(flat.weight - flat.weight[0])
        other.bias.copy_(flat.bias - flat.bias[0])  # type: ignore[union-attr, operator, index]
    return other, flat


def gumbel_at_scale_0_is_flat(in_features: int) -> tuple[Head, Head]:
    head = GumbelSoftmax(in_features, 12, scale=0.0, dtype=torch.float64)
    flat = Softmax(in_features, 12, dtype=torch.float64)
    flat.load_state_dict({"weight": head.weight, "bias": head.bias})
    return head, flat


def hierarchical_over_one_level_is_flat(in_features: int) -> tuple[Head, Head]:
    head = HierarchicalSoftmax(in_features, Tree.balanced(12, arity=12), dtype=torch.float64)
    flat = Softmax(in_features, 12, dtype=torch.float64)
    flat.load_state_dict(head.state_dict())
    return head, flat


def hierarchical_over_two_classes_is_flat(in_features: int) -> tuple[Head, Head]:
    head = HierarchicalSoftmax(in_features, Tree.balanced(2), dtype=torch.float64)
    flat = Softmax(in_features, 2, dtype=torch.float64)
    nothing, bias = torch.zeros_like(head.weight), head.bias
    assert bias is not None
    flat.load_state_dict(
        {"weight": torch.cat([nothing, head.weight]), "bias": torch.cat([torch.zeros_like(bias), bias])}
    )
    return head, flat


def hierarchical_through_only_children_is_without_them(in_features: int) -> tuple[Head, Head]:
    # Both say: class 0, or the pair of classes 1 and 2. In the first tree classes 0 and 2 have a node of their own.
    head = HierarchicalSoftmax(in_features, Tree([3, 5, 4, 6, 5, 6, -1]), dtype=torch.float64)
    other = HierarchicalSoftmax(in_features, Tree([4, 3, 3, 4, -1]), dtype=torch.float64)
    other.load_state_dict(head.state_dict())
    return head, other


TWINS: tuple[Twin, ...] = (
    softmax_of_two_classes_is_the_logistic_function,
    gumbel_at_scale_0_is_flat,
    hierarchical_over_one_level_is_flat,
    hierarchical_over_two_classes_is_flat,
    hierarchical_through_only_children_is_without_them,
)
