"""Hierarchical softmax: the head, the searches down its tree, and the compiled half of its training step."""

from softmaxes.heads.hierarchical.head import HierarchicalSoftmax as HierarchicalSoftmax
