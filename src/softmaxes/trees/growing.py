"""Class vectors from one's own network, from which a tree is grown."""

from collections.abc import Iterable

import torch
from torch import Tensor

from softmaxes import checks


@torch.no_grad()
def class_means(batches: Iterable[tuple[Tensor, Tensor]], num_classes: int) -> Tensor:
    r"""The mean feature vector of each class, (C, D): what `Tree.clustered` makes a tree of.

    .. math:: m_c = \frac{1}{|\{i : y_i = c\}|} \sum_{i : y_i = c} x_i

    A class without examples has the mean of all examples.

    Args:
        batches: features as the head sees them, (N, D), with their classes, (N,) int64. A generator will do.
        num_classes: how many classes there are, C.

    Returns:
        The means, float32 at least, on the device of the features.

    Raises:
        ValueError: there is no example, or a label is not in 0..C - 1.

    Cost:
        O(ND + CD) time, O(CD) memory.

    Example:
        >>> import torch
        >>> from softmaxes import HierarchicalSoftmax, Tree
        >>> from softmaxes.trees.growing import class_means
        >>> body = torch.nn.Linear(20, 8)
        >>> loader = [(torch.randn(32, 20), torch.randint(100, (32,))) for _ in range(10)]
        >>> means = class_means(((body(x), y) for x, y in loader), 100)
        >>> HierarchicalSoftmax(8, Tree.clustered(means, arity=10)).tree.num_classes
        100
    """
    num_classes = checks.integer("class_means", "num_classes", num_classes, 2)
    total = count = None
    for features, label in batches:
        if label.numel() and not 0 <= int(label.min()) <= int(label.max()) < num_classes:
            wrong = int(label.min()) if label.min() < 0 else int(label.max())
            raise ValueError(f"class_means: expected labels in 0..{num_classes - 1}, got {wrong}.")
        features = features.to(torch.promote_types(features.dtype, torch.float32))
        if total is None or count is None:
            total = features.new_zeros(num_classes, features.shape[1])
            count = torch.zeros(num_classes, dtype=torch.int64, device=features.device)
        total.index_add_(0, label, features)
        count.index_add_(0, label, torch.ones_like(label))
    if total is None or count is None or not count.any():
        raise ValueError("class_means: expected at least one example, got none.")
    return torch.where(count.unsqueeze(1) > 0, total / count.clamp(min=1).unsqueeze(1), total.sum(0) / count.sum())
