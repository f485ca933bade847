"""Twins: a setting at which a head is a simpler one, a line for each; a new head adds its own.

A twin makes two heads of a feature size in float64 that must agree in loss, log-probabilities and input gradient.
"""

from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from softmaxes import (
    NCE,
    AdaptiveSoftmax,
    CosineSoftmax,
    Entmax,
    ForestSoftmax,
    GumbelSoftmax,
    Head,
    HierarchicalSoftmax,
    MixtureOfSoftmaxes,
    NegativeSampling,
    NeighborSampledSoftmax,
    OneVsRest,
    SampledSoftmax,
    Sampler,
    Sigsoftmax,
    Softmax,
    Sparsemax,
    SphericalSoftmax,
    TaylorSoftmax,
    Tree,
    TreeSampledSoftmax,
)

Twin = Callable[[int], tuple[Head, Head]]


class SoftmaxOf(Head):
    """The plain softmax behind a function of the features."""

    loss_is_nll: ClassVar[bool] = True

    def __init__(self, flat: Softmax, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__(flat.in_features, flat.num_classes)
        self.flat, self.function = flat, function

    def _loss(self, input: Tensor, target: Tensor) -> Tensor:
        return self.flat(self.function(input), target)  # type: ignore[no-any-return]

    def _log_prob(self, input: Tensor) -> Tensor:
        return self.flat.log_prob(self.function(input))


class TreeAndFlat(Head):
    """In training the losses of a tree and of a flat softmax; the flat softmax in evaluation."""

    loss_is_nll: ClassVar[bool] = False

    def __init__(self, tree: HierarchicalSoftmax, flat: Softmax) -> None:
        super().__init__(flat.in_features, flat.num_classes)
        self.tree, self.flat = tree, flat

    def _loss(self, input: Tensor, target: Tensor) -> Tensor:
        loss: Tensor = self.flat(input, target)
        return loss + self.tree(input, target) if self.training else loss

    def _log_prob(self, input: Tensor) -> Tensor:
        return self.flat.log_prob(input)


class EveryClassAsNoise(Head):
    """The target told from every class as noise, each once, in training; the plain softmax in evaluation."""

    loss_is_nll: ClassVar[bool] = False

    def __init__(self, flat: Softmax) -> None:
        super().__init__(flat.in_features, flat.num_classes)
        self.flat = flat

    def _loss(self, input: Tensor, target: Tensor) -> Tensor:
        if not self.training:
            return -self._target_log_prob(input, target)
        chance = torch.sigmoid(F.linear(input, self.flat.weight, self.flat.bias))
        return -chance.gather(1, target.unsqueeze(1)).squeeze(1).log() - (1 - chance).log().sum(1)

    def _log_prob(self, input: Tensor) -> Tensor:
        return self.flat.log_prob(input)


def linear(head: Head) -> dict[str, Tensor]:
    """The weight and bias that heads on a linear layer share."""
    return {name: tensor for name, tensor in head.state_dict().items() if name in ("weight", "bias")}


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
    flat.load_state_dict(linear(head))
    return head, flat


def hierarchical_over_one_level_is_flat(in_features: int) -> tuple[Head, Head]:
    head = HierarchicalSoftmax(in_features, Tree.balanced(12, arity=12), dtype=torch.float64)
    flat = Softmax(in_features, 12, dtype=torch.float64)
    flat.load_state_dict(linear(head))
    return head, flat


def hierarchical_with_a_layer_over_one_level_is_flat_behind_it(in_features: int) -> tuple[Head, Head]:
    head = HierarchicalSoftmax(in_features, Tree.balanced(12, arity=12), dtype=torch.float64, level_layers=True)
    flat = Softmax(in_features, 12, dtype=torch.float64)
    flat.load_state_dict(linear(head))
    layers = head.layers
    assert layers is not None
    return head, SoftmaxOf(flat, lambda x: torch.nn.functional.linear(x, layers.weight, layers.bias).relu())


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
    other.load_state_dict(linear(head), strict=False)
    return head, other


def gumbel_of_several_samples_at_scale_0_is_flat(in_features: int) -> tuple[Head, Head]:
    head = GumbelSoftmax(in_features, 12, scale=0.0, num_samples=3, dtype=torch.float64)
    flat = Softmax(in_features, 12, dtype=torch.float64)
    flat.load_state_dict(linear(head))
    return head, flat


def forest_of_one_is_the_tree(in_features: int) -> tuple[Head, Head]:
    tree = Tree.random(12, seed=3)
    head = ForestSoftmax(in_features, [tree], dtype=torch.float64)
    other = HierarchicalSoftmax(in_features, tree, dtype=torch.float64)
    other.load_state_dict(head.members[0].state_dict())
    return head, other


def forest_of_the_same_is_the_tree(in_features: int) -> tuple[Head, Head]:
    tree = Tree.random(12, arity=3, seed=3)
    head = ForestSoftmax(in_features, [tree] * 4, dtype=torch.float64)
    other = HierarchicalSoftmax(in_features, tree, dtype=torch.float64)
    for member in head.members:
        member.load_state_dict(other.state_dict())
    return head, other


def sampled_with_every_class_is_flat(in_features: int) -> tuple[Head, Head]:
    head = SampledSoftmax(in_features, Sampler.uniform(12), 12, dtype=torch.float64)
    flat = Softmax(in_features, 12, dtype=torch.float64)
    flat.load_state_dict(linear(head))
    return head, flat


def sampled_with_every_class_thrice_is_flat(in_features: int) -> tuple[Head, Head]:
    head = SampledSoftmax(in_features, Sampler.uniform(12), 36, bias=False, dtype=torch.float64)
    flat = Softmax(in_features, 12, bias=False, dtype=torch.float64)
    flat.load_state_dict(linear(head))
    return head, flat


def tree_sampled_of_two_classes_is_tree_and_flat(in_features: int) -> tuple[Head, Head]:
    head = TreeSampledSoftmax(in_features, Tree.balanced(2), 3, dtype=torch.float64)
    flat = Softmax(in_features, 2, dtype=torch.float64)
    flat.load_state_dict({"weight": head.weight, "bias": head.bias})
    return head, TreeAndFlat(head.proposal, flat)


def neighbor_sampled_with_every_neighbor_is_flat(in_features: int) -> tuple[Head, Head]:
    """Some of them neighbours and all others in the sample."""
    head = NeighborSampledSoftmax(in_features, 12, 12, num_neighbors=4, dtype=torch.float64)
    head.refresh()
    flat = Softmax(in_features, 12, dtype=torch.float64)
    flat.load_state_dict(linear(head))
    return head, flat


def nce_with_every_class_has_every_class_as_noise(in_features: int) -> tuple[Head, Head]:
    head = NCE(in_features, Sampler.uniform(12), 12, dtype=torch.float64)
    flat = Softmax(in_features, 12, dtype=torch.float64)
    flat.load_state_dict(linear(head))
    return head, EveryClassAsNoise(flat)


def negative_sampling_of_every_class_is_one_vs_rest(in_features: int) -> tuple[Head, Head]:
    head = NegativeSampling(in_features, Sampler.uniform(12), 12, dtype=torch.float64)
    other = OneVsRest(in_features, 12, dtype=torch.float64)
    other.load_state_dict(linear(head))
    return head, other


def adaptive_without_clusters_is_flat(in_features: int) -> tuple[Head, Head]:
    head = AdaptiveSoftmax(in_features, [3, 1, 4, 1, 5], cutoffs=[], head_bias=True, dtype=torch.float64)
    flat = Softmax(in_features, 5, dtype=torch.float64)
    with torch.no_grad():
        for name in ("weight", "bias"):
            getattr(flat, name)[[4, 2, 0, 1, 3]] = getattr(head.head, name)  # the classes by rank
    return head, flat


def adaptive_is_hierarchical_over_its_clusters(in_features: int) -> tuple[Head, Head]:
    # By rank the classes are 4 2 0 | 6 1 3 | 7 5 8 9: two clusters beside a shortlist of three.
    counts = [7, 5, 8, 4, 9, 2, 6, 3, 1, 0]
    head = AdaptiveSoftmax(in_features, counts, cutoffs=[3, 6], div_value=1, dtype=torch.float64)
    tree = Tree([10, 11, 10, 11, 10, 12, 11, 12, 12, 12, -1, 10, 10])
    other = HierarchicalSoftmax(in_features, tree, bias=False, dtype=torch.float64)
    first, second = (layer[1].weight @ layer[0].weight for layer in head.tail)  # type: ignore[index, operator, union-attr]
    shortlist, clusters = head.head.weight[:3], head.head.weight[3:]
    # The tree's rows are those of the root, then of each cluster, with the classes in order.
    rows = [shortlist[[2, 1, 0]], clusters, first[[1, 2, 0]], second[[1, 0, 2, 3]]]
    other.load_state_dict({"weight": torch.cat(rows)}, strict=False)
    return head, other


def _cosine_and_flat(in_features: int, head: CosineSoftmax, scale: float) -> tuple[Head, Head]:
    flat = Softmax(in_features, head.num_classes, bias=False, dtype=torch.float64)
    flat.load_state_dict({"weight": scale * F.normalize(head.weight, dim=1)})
    return head, SoftmaxOf(flat, lambda x: F.normalize(x, dim=1))


def cosine_at_margin_0_is_flat_on_directions(in_features: int) -> tuple[Head, Head]:
    return _cosine_and_flat(in_features, CosineSoftmax(in_features, 12, scale=7.0, dtype=torch.float64), 7.0)


def cosine_at_a_learned_scale_is_that_at_its_scale(in_features: int) -> tuple[Head, Head]:
    head = CosineSoftmax(in_features, 12, scale=16.0, learn_scale=True, dtype=torch.float64)
    assert head.log_scale is not None
    with torch.no_grad():
        head.log_scale.zero_()
    return _cosine_and_flat(in_features, head, 1.0)


def sparsemax_is_entmax_at_2(in_features: int) -> tuple[Head, Head]:
    head = Sparsemax(in_features, 12, dtype=torch.float64)
    other = Entmax(in_features, 12, alpha=2, dtype=torch.float64)
    other.load_state_dict(head.state_dict())
    return head, other


def entmax_at_1_is_flat(in_features: int) -> tuple[Head, Head]:
    head = Entmax(in_features, 12, alpha=1.0, dtype=torch.float64)
    flat = Softmax(in_features, 12, dtype=torch.float64)
    flat.load_state_dict(head.state_dict())
    return head, flat


def mixture_of_one_is_flat_on_its_context(in_features: int) -> tuple[Head, Head]:
    head = MixtureOfSoftmaxes(in_features, 12, num_components=1, dtype=torch.float64)
    flat = Softmax(in_features, 12, dtype=torch.float64)
    flat.load_state_dict(linear(head))
    return head, SoftmaxOf(flat, lambda x: F.linear(x, head.context_weight, head.context_bias).tanh())


def taylor_of_high_order_is_flat_near_zero(in_features: int) -> tuple[Head, Head]:
    head = TaylorSoftmax(in_features, 12, order=12, dtype=torch.float64)
    flat = Softmax(in_features, 12, dtype=torch.float64)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.mul_(0.05)  # the first term left out, z**13 / 13!, is then less than rounding
    flat.load_state_dict(head.state_dict())
    return head, flat


def taylor_of_order_2_is_spherical_about_minus_1(in_features: int) -> tuple[Head, Head]:
    # 1 + z + z**2 / 2 = ((1 + z)**2 + 1) / 2
    head = TaylorSoftmax(in_features, 12, order=2, dtype=torch.float64)
    other = SphericalSoftmax(in_features, 12, epsilon=1.0, dtype=torch.float64)
    assert head.bias is not None
    other.load_state_dict({"weight": head.weight, "bias": head.bias + 1})
    return head, other


def sigsoftmax_of_large_logits_is_flat(in_features: int) -> tuple[Head, Head]:
    head = Sigsoftmax(in_features, 12, dtype=torch.float64)
    flat = Softmax(in_features, 12, dtype=torch.float64)
    assert head.bias is not None
    with torch.no_grad():
        head.bias.add_(64.0)  # there the sigmoid is one
    flat.load_state_dict(head.state_dict())
    return head, flat


TWINS: tuple[Twin, ...] = (
    softmax_of_two_classes_is_the_logistic_function,
    gumbel_at_scale_0_is_flat,
    hierarchical_over_one_level_is_flat,
    hierarchical_over_two_classes_is_flat,
    hierarchical_with_a_layer_over_one_level_is_flat_behind_it,
    hierarchical_through_only_children_is_without_them,
    gumbel_of_several_samples_at_scale_0_is_flat,
    forest_of_one_is_the_tree,
    forest_of_the_same_is_the_tree,
    sampled_with_every_class_is_flat,
    sampled_with_every_class_thrice_is_flat,
    tree_sampled_of_two_classes_is_tree_and_flat,
    neighbor_sampled_with_every_neighbor_is_flat,
    nce_with_every_class_has_every_class_as_noise,
    negative_sampling_of_every_class_is_one_vs_rest,
    adaptive_without_clusters_is_flat,
    adaptive_is_hierarchical_over_its_clusters,
    cosine_at_margin_0_is_flat_on_directions,
    cosine_at_a_learned_scale_is_that_at_its_scale,
    sparsemax_is_entmax_at_2,
    entmax_at_1_is_flat,
    mixture_of_one_is_flat_on_its_context,
    taylor_of_high_order_is_flat_near_zero,
    taylor_of_order_2_is_spherical_about_minus_1,
    sigsoftmax_of_large_logits_is_flat,
)
# Negative sampling gives the negative log-likelihood in evaluation, one-vs-rest its own loss.
LOSS_IN_TRAINING_ALONE = (negative_sampling_of_every_class_is_one_vs_rest,)
