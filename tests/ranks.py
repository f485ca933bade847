"""Sharded heads on several processes: what each process checks. `tests/test_sharded.py` starts them."""

import copy
import json
import shutil
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from leaving import leave
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
from softmaxes.optim import LazyRows, clip_grad_norm_
from softmaxes.sampler import columns
from softmaxes.sharded import ShardedHead, load, save, shard
from softmaxes.sharded import clip_grad_norm_ as clip_in_ranks
from softmaxes.sharded import cut as cutting
from softmaxes.sharded.hierarchical import ShardedHierarchical
from softmaxes.sharded.ranks import Ranks
from softmaxes.testing import LAWS

FEATURES = 5
CLASSES = (23, 3)  # neither is a multiple of 2, 3 and 4 alike; the second is fewer than four ranks
PARTS = ([3, 5, 1, 4], [0, 6, 0, 2], [1, 0, 0, 0])  # examples of each rank


def counts(classes: int) -> Tensor:
    return torch.arange(classes).flip(0) % 7 + 1


def paths(classes: int) -> Tree:
    """A tree with chains, and with nodes of one, two and more children in an order that cutting changes."""
    names = [f"{'abc'[c % 3]}/only/{c % 4}/{c}" if c % 2 else f"{'abc'[c % 3]}/{c}" for c in range(classes)]
    return Tree.from_paths(names)


class Make(Protocol):
    def __call__(self, classes: int, features: int = FEATURES, **factory: Any) -> Head: ...


HEADS: dict[str, Make] = {
    "softmax": lambda classes, features=FEATURES, **factory: Softmax(features, classes, **factory),
    "softmax without bias": lambda classes, features=FEATURES, **factory: Softmax(features, classes, False, **factory),
    "cosface": lambda classes, features=FEATURES, **factory: CosineSoftmax(
        features, classes, scale=4.0, cosine_margin=0.2, learn_scale=True, **factory
    ),
    "arcface": lambda classes, features=FEATURES, **factory: CosineSoftmax(
        features, classes, scale=4.0, angular_margin=0.4, **factory
    ),
    "gumbel without noise": lambda classes, features=FEATURES, **factory: GumbelSoftmax(
        features, classes, scale=0.0, temperature=0.7, **factory
    ),
    "straight-through without noise": lambda classes, features=FEATURES, **factory: GumbelSoftmax(
        features, classes, scale=0.0, straight_through=True, num_samples=2, **factory
    ),
    "adaptive": lambda classes, features=FEATURES, **factory: AdaptiveSoftmax(
        features,
        counts(classes),
        [1, classes // 2] if classes > 4 else [1],
        div_value=1.5,
        head_bias=True,
        **factory,
    ),
    "adaptive without clusters": lambda classes, features=FEATURES, **factory: AdaptiveSoftmax(
        features, counts(classes), [], **factory
    ),
    "hierarchical": lambda classes, features=FEATURES, **factory: HierarchicalSoftmax(
        features, Tree.balanced(classes), **factory
    ),
    "hierarchical, sparse": lambda classes, features=FEATURES, **factory: HierarchicalSoftmax(
        features, Tree.random(classes, 3), sparse=True, **factory
    ),
    "hierarchical of paths": lambda classes, features=FEATURES, **factory: HierarchicalSoftmax(
        features, paths(classes), **factory
    ),
    "hierarchical of one decision": lambda classes, features=FEATURES, **factory: HierarchicalSoftmax(
        features, Tree.balanced(classes, classes), **factory
    ),
}
NOISY: dict[str, Make] = {  # whose loss is another in training
    "gumbel": lambda classes, features=FEATURES, **factory: GumbelSoftmax(
        features, classes, final_temperature=0.5, anneal_steps=4, **factory
    ),
    "straight-through": lambda classes, features=FEATURES, **factory: GumbelSoftmax(
        features, classes, noise="normal", straight_through=True, num_samples=2, **factory
    ),
    "sampled": lambda classes, features=FEATURES, **factory: SampledSoftmax(
        features, Sampler.unigram(counts(classes)), 7, **factory
    ),
    "nce": lambda classes, features=FEATURES, **factory: NCE(
        features, Sampler.unigram(counts(classes)), 7, sparse=True, **factory
    ),
    "negative sampling": lambda classes, features=FEATURES, **factory: NegativeSampling(
        features, Sampler.uniform(classes), 7, **factory
    ),
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
        gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad.to_dense().clone()
        mine |= {entry: everywhere(part) for entry, part in sharded.stored(name, gradient).items()}
    return mine


def close(found: Tensor, expected: Tensor, what: str) -> None:
    torch.testing.assert_close(found, expected, msg=lambda text: f"{what}: {text}")


def same_as_dense(make: Make, training: bool) -> None:
    for number, classes, part in ((4, 23, PARTS[0]), (4, 3, PARTS[1]), (256, 23, PARTS[2])):
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


def draws_are_used_as_dense_ones() -> None:
    """The loss in training is that of the plain head, on the same draws; the target is never among its negatives."""
    for name in ("sampled", "nce", "negative sampling"):
        for classes in (23, 3):
            given = Given(NOISY[name], classes, PARTS[0])
            head: Any = given.head
            sharded = shard(head)
            seed = 1234
            with always(seed):
                mine = given.input[given.own].clone().requires_grad_()
                found = sharded(mine, given.target[given.own])
                (found * given.weight[given.own]).sum().backward()
            column, coin = columns(classes, 7, torch.device("cpu"), torch.Generator().manual_seed(seed))
            tables = head.sampler.tables
            drawn = torch.where(coin < tables.threshold[column], column, tables.alias[column])
            head.sampler.sample = lambda number, drawn=drawn: drawn
            whole = given.input.clone().requires_grad_()
            loss = head(whole, given.target)
            (loss * given.weight).sum().backward()
            close(found, loss[given.own], f"the loss of {name}")
            close(mine.grad, whole.grad[given.own], f"the gradient of the features of {name}")
            for key, gradient in whole_gradients(sharded).items():
                close(gradient, head.get_parameter(key).grad.to_dense(), f"the gradient of {key} of {name}")


@contextmanager
def always(seed: int) -> Iterator[None]:
    """What ranks have alike and draw at random is this number."""
    before, Ranks.seed = Ranks.seed, lambda self, device: seed  # type: ignore[method-assign]
    try:
        yield
    finally:
        Ranks.seed = before  # type: ignore[method-assign]


def frozen_trunks() -> None:
    """Features without a gradient: the ranks without classes take part in the backward pass as well."""
    for name, make in (HEADS | NOISY).items():
        for classes in CLASSES:
            given = Given(make, classes, PARTS[0])
            with pieces(4):
                sharded = shard(given.head)
            loss = sharded(given.input[given.own], given.target[given.own])
            (loss * given.weight[given.own]).sum().backward()
            assert sum(float(one.abs().sum()) for one in whole_gradients(sharded).values()) > 0, name


def gradients_are_averaged() -> None:
    """With `average` the parameters have the mean over the ranks, the features what they have without."""
    for name in ("softmax", "cosface", "adaptive", "hierarchical of paths"):
        given = Given(HEADS[name], 23, PARTS[0])
        found = []
        for average in (False, True):
            sharded = shard(given.head, average=average)
            mine = given.input[given.own].clone().requires_grad_()
            (sharded(mine, given.target[given.own]) * given.weight[given.own]).sum().backward()
            found.append((mine.grad, whole_gradients(sharded)))
        (features, plain), (other_features, averaged) = found
        close(other_features, features, f"the gradient of the features of {name}")
        for key, gradient in plain.items():
            close(averaged[key], gradient / dist.get_world_size(), f"the averaged gradient of {key} of {name}")


def gradients_are_clipped_by_the_norm_of_all() -> None:
    """The norm is the plain model's, and so are the gradients afterwards; what all ranks have counts once."""
    for name in ("softmax", "cosface", "adaptive", "hierarchical of paths", "hierarchical, sparse"):
        for norm_type in (2.0, 1.0, torch.inf):
            given = Given(HEADS[name], 23, PARTS[0])
            (given.head(given.input, given.target) * given.weight).sum().backward()
            with pieces(4):
                sharded = shard(given.head)
            (sharded(given.input[given.own], given.target[given.own]) * given.weight[given.own]).sum().backward()
            before = whole_gradients(sharded)
            expected = clip_grad_norm_(given.head.parameters(), 0.1, norm_type)
            found = clip_in_ranks(sharded, 0.1, norm_type)
            torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-6)
            for key, gradient in whole_gradients(sharded).items():
                torch.testing.assert_close(gradient, before[key] * 0.1 / (expected + 1e-6), rtol=1e-5, atol=1e-7)


def label_smoothing_outside() -> None:
    """Smoothed by what `log_prob` says, as for a plain head; gradients too."""
    for name in ("softmax", "adaptive", "hierarchical"):
        given = Given(HEADS[name], 23, PARTS[0])

        def smoothed(head: Head, x: Tensor, y: Tensor) -> Tensor:
            return 0.9 * head(x, y) - 0.1 * head.log_prob(x).mean(1)

        sharded = shard(given.head)
        whole, mine = given.input.clone().requires_grad_(), given.input[given.own].clone().requires_grad_()
        expected = smoothed(given.head, whole, given.target)
        found = smoothed(sharded, mine, given.target[given.own])
        (expected * given.weight).sum().backward()
        (found * given.weight[given.own]).sum().backward()
        close(found, expected[given.own], f"the smoothed loss of {name}")
        close(mine.grad, whole.grad[given.own], f"the gradient of the features of {name}")


def half_precision() -> None:
    """In bfloat16 the sharded loss is the plain one within what rounding does, and probabilities sum to one."""
    for name in ("softmax", "arcface", "adaptive", "hierarchical"):
        given = Given(HEADS[name], 23, PARTS[0], torch.bfloat16)
        sharded = shard(given.head).eval()
        found = sharded(given.input[given.own], given.target[given.own])
        expected = given.head.eval()(given.input, given.target)[given.own]
        torch.testing.assert_close(found, expected, rtol=2e-2, atol=2e-2)
        total = sharded.log_prob(given.input[given.own]).logsumexp(1)
        torch.testing.assert_close(total, torch.zeros_like(total), rtol=0, atol=1e-5)


def a_refusal_is_told() -> None:
    """Where one rank is refused, all raise and none waits; then they go on."""
    given = Given(HEADS["softmax"], 23, PARTS[0])
    sharded, last = shard(given.head), dist.get_rank() == dist.get_world_size() - 1
    x, y = given.input[given.own], given.target[given.own]
    wrong = torch.full_like(y, 23) if last and len(y) else y
    if last and len(y):
        expect(ValueError, "expected target in 0..22, got 23", lambda: sharded(x, wrong))
    else:
        expect(RuntimeError, f"rank {dist.get_world_size() - 1} refused", lambda: sharded(x, wrong))
    if dist.get_world_size() > 1:
        expect(
            RuntimeError,
            "to need a gradient on all ranks or on none",
            lambda: sharded(x.clone().requires_grad_(last), y),
        )
    close(sharded(x, y), given.head(given.input, given.target)[given.own], "the loss afterwards")


NOT_OF_RANKS = {
    "exported",  # what other processes say is in no file
    "compiled",  # a graph breaks where ranks meet
    "copies_are_equal",  # a rank is of its process: no pickling
    "meta_device",  # `shard` makes weights of a head without any
    "function_transforms",  # refused, with a sentence
    "forward_mode_is_reverse_mode",  # refused, with a sentence
    "bad_arguments_are_refused",  # the plain head's arguments
    "arguments_are_attributes",  # the plain head's arguments
    "integers_are_integers",  # the plain head's arguments
}
ALONE = {  # compare with gradients that are one rank's
    "gradient_of_the_training_loss",
    "gradient_of_log_prob",
    "every_parameter_learns",
    "separable_classes_are_learned",
    "averages_are_heads",
}


def laws_hold() -> None:
    """The laws of every head, called by all ranks alike; those of parameters' gradients by one rank alone."""
    for name in ("softmax", "cosface", "adaptive", "hierarchical of paths", "sampled", "negative sampling", "gumbel"):
        make = (HEADS | NOISY)[name]

        def made(in_features: int, make: Make = make, **factory: Any) -> Head:
            return shard(make(9, in_features, **factory))

        for law in LAWS:
            if law.__name__ not in NOT_OF_RANKS and (law.__name__ not in ALONE or dist.get_world_size() == 1):
                with pieces(4):
                    law(made, FEATURES)


class Network(nn.Module):
    """A trunk that all ranks have, and a sharded head."""

    def __init__(self, head: Head) -> None:
        super().__init__()
        self.trunk = DistributedDataParallel(nn.Linear(FEATURES, FEATURES, dtype=torch.float64))
        self.head = shard(head.double(), average=True)


SPLITS = {1: [12], 2: [5, 7], 3: [5, 0, 7], 4: [3, 5, 0, 4]}  # of the same twelve examples
TRAINED = ("softmax", "cosface", "adaptive", "hierarchical of paths", "hierarchical, sparse", "gumbel", "sampled")


def step(network: Network, optimizer: torch.optim.Optimizer, number: int) -> float:
    """A training step on the same examples whatever the number of ranks; the mean loss before it."""
    torch.manual_seed(100 + number)
    x, y = torch.randn(12, FEATURES, dtype=torch.float64), torch.randint(23, (12,))
    sizes, rank = SPLITS[dist.get_world_size()], dist.get_rank()
    own = slice(sum(sizes[:rank]), sum(sizes[: rank + 1]))
    optimizer.zero_grad()
    loss = network.head(network.trunk(x[own]), y[own])
    (loss.sum() * len(sizes) / 12).backward()
    optimizer.step()
    total = loss.detach().sum()
    dist.all_reduce(total)
    return float(total) / 12


def network_of(name: str, seed: int) -> tuple[Network, torch.optim.Optimizer]:
    torch.manual_seed(seed)
    network = Network((HEADS | NOISY)[name](23))
    return network, LazyRows(network.parameters(), torch.optim.AdamW, lr=0.05)


def training_goes_on(shared: Path) -> dict[str, float]:
    """What was saved on some ranks goes on with the same losses on any other number of them."""
    told = {}
    size = dist.get_world_size()
    for name in TRAINED:
        with pieces(4):
            network, optimizer = network_of(name, seed=0)
            losses = [step(network, optimizer, number) for number in range(2)]
            save(shared / f"{name} on {size}", network, optimizer, step=2)
            losses.append(step(network, optimizer, 2))
            told |= {f"{name}, loss {number}": loss for number, loss in enumerate(losses)}
            for before in range(1, size + 1):
                again, other = network_of(name, seed=1)
                assert load(shared / f"{name} on {before}", again, other) == {"step": 2}
                found = step(again, other, 2)
                assert abs(found - losses[2]) < 1e-9, f"{name}: expected loss {losses[2]}, got {found}"
    return told


def first_weights(shared: Path) -> dict[str, float]:
    """Of a head on the meta device: they do not depend on the number of ranks, and no two rows are alike."""
    told = {}
    for name, make in (HEADS | NOISY).items():
        torch.manual_seed(3)
        with pieces(4):
            head = shard(make(2500 if "one decision" not in name else 23, device="meta"))
        rows = [one for one in head.state_dict().values() if one.is_floating_point() and one.dim() == 2]
        for number, weight in enumerate(rows if not isinstance(head, ShardedHierarchical) else []):
            whole = everywhere(weight)
            assert len(whole.unique(dim=0)) == len(whole), name
            told[f"{name} {number}"] = float((whole.double() * torch.arange(whole.numel()).view_as(whole).cos()).sum())
        if isinstance(head, ShardedHierarchical):
            own = sum(float(p.double().abs().sum()) for p in head.local.parameters()) if head.local else 0.0
            total = torch.tensor(own, dtype=torch.float64)
            dist.all_reduce(total)
            told[name] = float(total) + sum(float(one.double().sum()) for one in head.top.parameters())
    return told


def checkpoints_are_whole(shared: Path) -> None:
    """What was cut off, is damaged, or is of another model is never loaded; nothing is written over."""
    network, optimizer = network_of("softmax", 0)
    folder = shared / f"whole on {dist.get_world_size()}"
    save(folder, network, optimizer, step=0)
    expect(FileExistsError, "expected nothing there", lambda: save(folder, network, optimizer))
    expect(FileNotFoundError, "expected a checkpoint, got none", lambda: load(shared / "nowhere", network))
    before = network.head.weight.detach().clone()
    dist.barrier()
    if dist.get_rank() == 0:
        shutil.copytree(folder, shared / f"{folder.name}, cut")
        (shared / f"{folder.name}, cut" / "checkpoint.json").unlink()
        shutil.copytree(folder, shared / f"{folder.name}, short")
        file = next((shared / f"{folder.name}, short").glob("*.safetensors"))
        file.write_bytes(file.read_bytes()[:-8])
    dist.barrier()
    expect(FileNotFoundError, "none that is whole", lambda: load(shared / f"{folder.name}, cut", network))
    expect(ValueError, "bytes, got", lambda: load(shared / f"{folder.name}, short", network))
    other, _ = network_of("hierarchical", 0)
    expect(ValueError, "expected a checkpoint of this model", lambda: load(folder, other))
    assert torch.equal(network.head.weight, before)
    tree, _ = network_of("hierarchical, sparse", 0)
    save(shared / f"{folder.name}, tree", tree)
    other = Network(
        HierarchicalSoftmax(FEATURES, Tree.random(23, 3, seed=5), sparse=True)
    )  # its tensors have that size
    before = other.head.top.weight.detach().clone()
    expect(ValueError, "the same tree, got one of another", lambda: load(shared / f"{folder.name}, tree", other))
    assert torch.equal(other.head.top.weight, before)


def expect(kind: type[Exception], words: str, call: Callable[[], object]) -> None:
    with pytest.raises(kind, match=words):
        call()


CASES: dict[str, Callable[[Path], dict[str, float] | None]] = {}
for name, make in HEADS.items():
    for training in (True, False):
        CASES[f"{name}: {'training' if training else 'evaluation'}"] = lambda _, make=make, training=training: (  # type: ignore[misc]
            same_as_dense(make, training)
        )
for name, make in NOISY.items():
    CASES[f"{name}: evaluation"] = lambda _, make=make: same_as_dense(make, False)  # type: ignore[misc]
for case in (
    draws_are_used_as_dense_ones,
    frozen_trunks,
    gradients_are_averaged,
    gradients_are_clipped_by_the_norm_of_all,
    label_smoothing_outside,
    half_precision,
    a_refusal_is_told,
    laws_hold,
):
    CASES[case.__name__] = lambda _, case=case: case()  # type: ignore[misc]
TOGETHER = {case.__name__: case for case in (training_goes_on, first_weights, checkpoints_are_whole)}  # in one folder
CASES |= TOGETHER


def process(rank: int, size: int, shared: str, names: list[str]) -> None:
    """Run cases, one after the other, and write what failed and what was told."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    failed, told = {}, {}
    dist.init_process_group("gloo", init_method=f"file://{shared}/meeting-{size}", rank=rank, world_size=size)
    for name in names:
        begin = time.perf_counter()
        try:
            told |= CASES[name](Path(shared)) or {}
        except Exception:
            failed[name] = traceback.format_exc()
            break  # the others wait for this rank, or will
        finally:
            told[f"{name}: seconds"] = time.perf_counter() - begin
    Path(shared, f"said-{size}-{rank}.json").write_text(json.dumps({"failed": failed, "told": told}))
    if not failed:
        leave()
