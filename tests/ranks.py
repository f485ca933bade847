"""Sharded heads on several processes: what each process checks. `tests/test_sharded.py` starts them."""

import copy
import json
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.tensor import DTensor

from softmaxes import (
    NCE,
    AdaptiveSoftmax,
    CosineSoftmax,
    GumbelSoftmax,
    Head,
    HierarchicalSoftmax,
    NegativeSampling,
    SampledSoftmax,
    Sampler,
    Softmax,
    Tree,
)
from softmaxes.sharded import ShardedHead, shard
from softmaxes.sharded import cut as cutting

FEATURES = 5
CLASSES = (23, 3)  # neither is a multiple of 2, 3 and 4 alike; the second is fewer than four ranks
PARTS = ([3, 5, 1, 4], [0, 6, 0, 2], [1, 0, 0, 0])  # examples of each rank


def counts(classes: int) -> Tensor:
    return torch.arange(classes).flip(0) % 7 + 1


def paths(classes: int) -> Tree:
    """A tree with chains, and with nodes of one, two and more children in an order that cutting changes."""
    names = [f"{'abc'[c % 3]}/only/{c % 4}/{c}" if c % 2 else f"{'abc'[c % 3]}/{c}" for c in range(classes)]
    return Tree.from_paths(names)


Make = Callable[[int], Head]
HEADS: dict[str, Make] = {
    "softmax": lambda classes: Softmax(FEATURES, classes),
    "softmax without bias": lambda classes: Softmax(FEATURES, classes, bias=False),
    "cosface": lambda classes: CosineSoftmax(FEATURES, classes, scale=4.0, cosine_margin=0.2, learn_scale=True),
    "arcface": lambda classes: CosineSoftmax(FEATURES, classes, scale=4.0, angular_margin=0.4),
    "gumbel without noise": lambda classes: GumbelSoftmax(FEATURES, classes, scale=0.0, temperature=0.7),
    "straight-through without noise": lambda classes: GumbelSoftmax(
        FEATURES, classes, scale=0.0, straight_through=True, num_samples=2
    ),
    "adaptive": lambda classes: AdaptiveSoftmax(
        FEATURES, counts(classes), [1, classes // 2] if classes > 4 else [1], div_value=1.5, head_bias=True
    ),
    "adaptive without clusters": lambda classes: AdaptiveSoftmax(FEATURES, counts(classes), []),
    "hierarchical": lambda classes: HierarchicalSoftmax(FEATURES, Tree.balanced(classes)),
    "hierarchical, sparse": lambda classes: HierarchicalSoftmax(FEATURES, Tree.random(classes, 3), sparse=True),
    "hierarchical of paths": lambda classes: HierarchicalSoftmax(FEATURES, paths(classes)),
    "hierarchical of one decision": lambda classes: HierarchicalSoftmax(FEATURES, Tree.balanced(classes, classes)),
}
EVALUATED: dict[str, Make] = {  # whose loss is another in training
    "gumbel": lambda classes: GumbelSoftmax(FEATURES, classes),
    "sampled": lambda classes: SampledSoftmax(FEATURES, Sampler.unigram(counts(classes)), 7),
    "nce": lambda classes: NCE(FEATURES, Sampler.unigram(counts(classes)), 7, sparse=True),
    "negative sampling": lambda classes: NegativeSampling(FEATURES, Sampler.uniform(classes), 7),
}


class Given:
    """A plain head, the same on all ranks, and everybody's examples."""

    def __init__(self, make: Make, classes: int, part: list[int], dtype: torch.dtype = torch.float64) -> None:
        torch.manual_seed(classes)
        self.head = make(classes).to(dtype)
        self.sizes = part[: dist.get_world_size()]
        total = sum(self.sizes)
        self.input, self.target = torch.randn(total, FEATURES, dtype=dtype), torch.randint(classes, (total,))
        self.weight = torch.rand(total, dtype=dtype) - 0.3  # gradients from above, not all alike
        begin = sum(self.sizes[: dist.get_rank()])
        self.own = slice(begin, begin + self.sizes[dist.get_rank()])


@contextmanager
def pieces(number: int) -> Iterator[None]:
    """Cut trees into fewer pieces, so that small ones have some below the cut."""
    before, cutting.PIECES = cutting.PIECES, number
    try:
        yield
    finally:
        cutting.PIECES = before


def everywhere(entry: Tensor) -> Tensor:
    return entry.full_tensor() if isinstance(entry, DTensor) else entry


def whole_gradients(sharded: ShardedHead) -> dict[str, Tensor]:
    """The gradients of all ranks, under the names of checkpoints."""
    mine = {}
    for name, parameter in sharded.named_parameters():
        gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad.to_dense()
        mine |= {entry: everywhere(part) for entry, part in sharded.stored(name, gradient).items()}
    return mine


def close(found: Tensor, expected: Tensor, what: str) -> None:
    torch.testing.assert_close(found, expected, msg=lambda text: f"{what}: {text}")


def same_as_dense(make: Make, training: bool) -> None:
    for number in (4, 256):
        for classes in CLASSES:
            for part in PARTS:
                with pieces(number):
                    one_same_as_dense(make, classes, part, training)


def one_same_as_dense(make: Make, classes: int, part: list[int], training: bool) -> None:
    given = Given(make, classes, part)
    head = given.head.train(training)
    sharded = shard(head).train(training)
    whole = given.input.clone().requires_grad_()
    loss = head(whole, given.target)
    (loss * given.weight).sum().backward()
    mine = given.input[given.own].clone().requires_grad_()
    found = sharded(mine, given.target[given.own])
    (found * given.weight[given.own]).sum().backward()
    what = f"{classes} classes, parts {part}"
    close(found, loss[given.own], f"the loss, {what}")
    close(mine.grad, whole.grad[given.own], f"the gradient of the features, {what}")
    gradients = whole_gradients(sharded)
    dense = copy.deepcopy(head)  # has the gradients for weights: these are split like weights
    with torch.no_grad():
        for name, one in dense.named_parameters():
            gradient = head.get_parameter(name).grad
            one.copy_(torch.zeros_like(one) if gradient is None else gradient.to_dense())
    for name, one in shard(dense).state_dict().items():
        if name in gradients:
            close(gradients.pop(name), everywhere(one), f"the gradient of {name}, {what}")
    assert not gradients, gradients.keys()
    with torch.no_grad():
        x, y = given.input[given.own], given.target[given.own]
        log_prob = head.log_prob(given.input)
        close(sharded.log_prob(x), log_prob[given.own], f"log_prob, {what}")
        close(sharded.log_prob(x, local=True), log_prob[:, sharded.classes], f"log_prob of own classes, {what}")
        close(sharded.target_log_prob(x, y), head.target_log_prob(given.input, given.target)[given.own], what)
        assert torch.equal(sharded.predict(x), head.predict(given.input)[given.own]), f"predict, {what}"
        for k in sorted({1, min(3, classes), classes}):
            values, found_classes = sharded.topk(x, k)
            best, places = head.topk(given.input, k)
            close(values, best[given.own], f"the values of topk, {what}")
            assert torch.equal(found_classes, places[given.own]), f"the classes of topk, {what}"


CASES: dict[str, Callable[[], None]] = {}
for name, make in HEADS.items():
    for training in (True, False):
        CASES[f"{name}: {'training' if training else 'evaluation'}"] = lambda make=make, training=training: (  # type: ignore[misc]
            same_as_dense(make, training)
        )
for name, make in EVALUATED.items():
    CASES[f"{name}: evaluation"] = lambda make=make: same_as_dense(make, False)  # type: ignore[misc]


def process(rank: int, size: int, folder: str, names: list[str]) -> None:
    """Run cases, one after the other, and write what failed."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    failed = {}
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=size)
    for name in names:
        try:
            CASES[name]()
        except Exception:
            failed[name] = traceback.format_exc()
            break  # the others wait for this rank, or will
    Path(folder, f"failed-{rank}.json").write_text(json.dumps(failed))
    dist.destroy_process_group()
