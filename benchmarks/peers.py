"""A hierarchical softmax beside the other packages that train one, and beside torch's own layers.

    python benchmarks/peers.py
    python benchmarks/peers.py --classes 1000 10000 --rounds 20 --task-classes --out steps.csv
    python benchmarks/peers.py --classes --task-classes 1000 --task-out tasks.csv

The packages are fasttext (or fasttext-wheel), gensim, hierarchicalsoftmax, napkinxc and omikuji; softmaxes needs none
of them. A row says "not installed" where one is missing. All is on one thread of one machine, in one run. Before
anything is timed it is checked that the same trees and weights give the same losses.

STEPS: what a training example costs: forward, backward and update, D features, C classes that are equally frequent.
Printed are microseconds an example, the median with its 20 % and 80 % quantiles, and the three over the median of
`tree`. Every tree is binary and as deep as C allows: ours is the balanced one, fastText and gensim make Huffman's of
equal counts; the mean number of decisions on a path of each is printed. The methods in torch take batches of 256 random
features, `tree` and `tree, SGD` in turn, and the rest in turn; those that take longer than --slow seconds a batch have
three rounds, and are left out at more classes.

    tree                    softmaxes.HierarchicalSoftmax(sparse=True, bias=False) with SGDInBackward
    tree, SGD               the same with torch.optim.SGD
    fastText                its supervised hierarchical softmax, in C++. An example is a line of one word, read as text
                            each time; its features are the mean of the word's row and the line end's, which are
                            updated too.
    gensim                  Word2Vec(sg=1, hs=1, negative=0), in Cython. An example is a pair of words: the features are
                            the row of one, which is updated too, the path is the other's. Sentences are of two words,
                            so each is two examples; another thread prepares them meanwhile. It skips a decision whose
                            logit is above 6, which none is here.
    hierarchicalsoftmax     its HierarchicalSoftmaxLinear and HierarchicalSoftmaxLoss as documented, torch.optim.SGD.
                            Two logits a decision, and a bias, without which it fails. It computes the logits of the
                            paths alone, but for each node on them a gradient as large as all the weights.
    hierarchicalsoftmax *   its loss on the logits of an nn.Linear without a bias, which computes all of them
    flat                    nn.Linear and F.cross_entropy, torch.optim.SGD
    linear_cross_entropy    F.linear_cross_entropy with its default options, torch.optim.SGD
    adaptive                nn.AdaptiveLogSoftmaxWithLoss, cut-offs at a hundredth and a tenth, torch.optim.SGD; it is
                            made for classes that are not equally frequent

Not equal: fastText and gensim update after each example and return no loss; ours returns the loss of each and the
gradient by the features, which a network below would need, and updates after the batch. They are timed as the
difference between trainings of three epochs and of one, three times, so that start-up cancels.

TASKS: a classification to the end. The centre of a class is that of its group of 20 classes plus a direction of its
own, both standard normal; an example is the centre plus --noise times a standard normal vector, scaled to length one,
as napkinxc and omikuji do by themselves. There are 20 examples a class to train on, and 5 to be judged by. Printed are
seconds of training, how many of the held-out examples are right (precision at 1), MiB of what is saved, and
microseconds a prediction of the best class, the median of three passes.

    tree                    HierarchicalSoftmax over Tree.clustered of the classes' means, binary, with SGDInBackward:
                            --epochs epochs in batches of 256, the learning rate falling from 30 to 0. The seconds are
                            with the means and the tree. Predictions are exact, in batches of 256.
    tree, 32 children       the same over Tree.clustered(arity=32)
    flat                    softmaxes.Softmax, torch.optim.SGD, the same epochs, the learning rate falling from 100 to 0
    napkinxc HSM            a tree by k-means, two children a node and up to 100 classes under the last. Each classifier
                            is trained apart, by LIBLINEAR's logistic regression, to a tolerance: one for two children,
                            else each child against the rest, and a softmax of them to predict; weights below 0.1
                            become 0. The seconds are with writing the model. Predictions are exact, all in one call.
    napkinxc PLT            the same for labels that need not exclude one another: a sigmoid for each node
    omikuji                 three trees as Parabel's, similar to PLT's, but with linear SVMs (squared hinge). The
                            seconds are with reading the data from a file. Predictions are a beam of ten nodes, one
                            example at a time, from Python lists.

Not equal: the others have their default settings and minimise a loss with a penalty, node by node, on sparse matrices
that are full here; they are made for very many sparse features. Ours minimises the likelihood of all decisions
together, by stochastic gradients, and stops when the epochs are over; its learning rates were chosen by hand, on tasks
of another seed. The true centre that is nearest to an example is what all of them estimate: how often it is right is
printed above the table. fastText and gensim take words, not features, so they have no row.
"""

import argparse
import contextlib
import gc
import math
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from softmaxes import Head, HierarchicalSoftmax, SGDInBackward, Softmax, Tree
from softmaxes.heads.hierarchical import compiled
from timing import (
    OTHERS,
    Step,
    equally_often,
    fasttext_seconds,
    spread,
    take_turns,
    tree_steps,
    update,
    version_of,
    write_csv,
)

REPEATS = 3  # of trainings that are timed as a whole, and of passes over the held-out examples
EPOCHS = (1, 3)  # of the two trainings whose difference is timed
GROUP = 20  # classes with a centre in common
EXAMPLES, HELD_OUT = 20, 5  # a class
BATCH = 256  # of a task
TREE_RATE, FLAT_RATE = 30.0, 100.0


# Steps


def decisions(tree: Tree) -> float:
    """How many nodes on a class's path decide, in the mean over the classes."""
    node, decides = torch.arange(tree.num_classes), (tree.num_children > 1).double()
    total = 0.0
    for _ in range(tree.depth):
        above = tree.parent[node]
        total += float((decides[above] * (above >= 0)).mean())
        node = above.where(above >= 0, node)
    return total


class TheirTree(NamedTuple):
    """A head's tree as hierarchicalsoftmax has it."""

    root: Any
    target: Tensor  # (C,) their number of each class
    weight: Tensor  # (their logits, D) the head's weights, in their places

    @classmethod
    def of(cls, head: HierarchicalSoftmax) -> "TheirTree":
        """Make it."""
        from hierarchicalsoftmax import SoftmaxNode

        tree = head.tree
        nodes, waiting = {tree.root: SoftmaxNode("root")}, [tree.root]
        for node in waiting:
            for child in tree.children_of(node):
                nodes[child] = SoftmaxNode(str(child), parent=nodes[node])
                waiting.append(child)
        root = nodes[tree.root]
        root.set_indexes()
        target = torch.tensor(root.get_node_ids([nodes[c] for c in range(tree.num_classes)]))
        rows = torch.cat([head.weight.detach(), torch.zeros(1, head.in_features)])  # the last is of the fixed logit
        weight = torch.zeros(root.layer_size, head.in_features)
        for number, node in nodes.items():
            if number != tree.root and node.index_in_softmax_layer is not None:  # that of an only child
                weight[node.index_in_softmax_layer] = rows[head.row[number]]
        return cls(root, target, weight)

    def losses(self) -> dict[str, tuple[nn.Module, Callable[[Tensor, Tensor], Tensor]]]:
        """A layer with these weights, and the mean loss of a batch: theirs, and their loss on a layer of torch's."""
        from hierarchicalsoftmax import HierarchicalSoftmaxLinear, HierarchicalSoftmaxLoss

        features = self.weight.shape[1]
        loss = HierarchicalSoftmaxLoss(self.root)
        own = HierarchicalSoftmaxLinear(root=self.root, in_features=features)
        torchs = nn.Linear(features, self.root.layer_size, bias=False)
        with torch.no_grad():
            own.bias.zero_()
            own.weight.copy_(self.weight)
            torchs.weight.copy_(self.weight)

        def loss_of(layer: nn.Module) -> Callable[[Tensor, Tensor], Tensor]:
            return lambda x, y: loss(layer(x), self.target[y])

        return {"": (own, loss_of(own)), " *": (torchs, loss_of(torchs))}


def hierarchicalsoftmax(which: str, features: int, classes: int) -> Step:
    theirs = TheirTree.of(HierarchicalSoftmax(features, Tree.balanced(classes), bias=False))
    layer, loss = theirs.losses()[which]
    return update(list(layer.parameters()), loss)


def linear_cross_entropy(features: int, classes: int) -> Step:
    linear = nn.Linear(features, classes, bias=False)
    return update(list(linear.parameters()), lambda x, y: F.linear_cross_entropy(x, linear.weight, y))


class Pairs:
    """A training of gensim's hierarchical softmax on sentences of two words, each of them two examples."""

    def __init__(self, features: int, labels: Tensor, rate: float) -> None:
        from gensim.models import Word2Vec

        words = [str(label) for label in labels.tolist()]
        self.sentences = [words[start : start + 2] for start in range(0, len(words), 2)]
        self.model = Word2Vec(
            sg=1,
            hs=1,
            negative=0,
            window=1,
            sample=0,
            min_count=1,
            workers=1,
            seed=0,
            vector_size=features,
            alpha=rate,
            min_alpha=rate,
        )
        self.model.build_vocab(self.sentences)
        ours = Tree.huffman(labels.bincount())
        theirs = torch.tensor([len(self.model.wv.get_vecattr(str(c), "code")) for c in range(ours.num_classes)])
        # Which of two equal counts is deeper may differ.
        assert torch.equal(theirs.sort().values, ours.node_depth[: ours.num_classes].sort().values)

    def train(self, epochs: int, with_loss: bool = False) -> int:
        """The number of examples."""
        examples, _ = self.model.train(
            self.sentences, total_examples=len(self.sentences), epochs=epochs, compute_loss=with_loss
        )
        assert examples == 2 * len(self.sentences) * epochs  # words that are trained: each is in one pair as its path
        return int(examples)


def gensim_seconds(features: int, classes: int) -> list[float]:
    """What gensim takes for an example: two trainings, of which one reads each example twice more."""
    pairs = Pairs(features, equally_often(classes), rate=0.001)  # so low that it learns few of the pairs by heart
    pairs.train(1)  # to warm up
    found = []
    for _ in range(REPEATS):
        took, examples = [], []
        for epochs in EPOCHS:
            start = time.perf_counter()
            examples.append(pairs.train(epochs))
            took.append(time.perf_counter() - start)
        found.append((took[1] - took[0]) / (examples[1] - examples[0]))
    some = pairs.sentences[:1000]
    for one, other in some:
        nodes = pairs.model.wv.get_vecattr(one, "point").astype(int)
        assert abs(pairs.model.syn1[nodes] @ pairs.model.wv[other]).max() < 6  # it would skip these
    return found


def check() -> list[str]:
    """What must be equal, before anything is timed: a line for each that is."""
    torch.manual_seed(0)
    said = []
    head = HierarchicalSoftmax(16, Tree.balanced(100), bias=False, sparse=True)
    input, target = torch.randn(32, 16, requires_grad=True), torch.randint(100, (32,))

    def value(loss: Tensor) -> list[Tensor]:
        return [loss, torch.autograd.grad(loss, input)[0]]

    close = partial(torch.testing.assert_close, rtol=1e-5, atol=1e-6)
    ours = value(head(input, target).mean())
    before = head.weight.detach().clone()
    changed = []
    for step in tree_steps(head).values():
        with torch.no_grad():
            head.weight.copy_(before)
        step.prepare(input, target)  # type: ignore[attr-defined]
        step(input, target)
        changed.append(head.weight.detach().clone())
    assert not torch.equal(changed[0], before)
    close(changed[0], changed[1])
    said.append("both updates of the tree leave the same weights")
    if version_of("hierarchicalsoftmax"):
        with torch.no_grad():
            head.weight.copy_(before)
        for _, loss in TheirTree.of(head).losses().values():
            close(value(loss(input, target)), ours)
        said.append("hierarchicalsoftmax has the same loss and gradient on the same tree and weights")
    weight = torch.randn(100, 16)
    torchs = value(F.cross_entropy(F.linear(input, weight), target))
    close(value(F.linear_cross_entropy(input, weight, target)), torchs)
    said.append("linear_cross_entropy has flat's loss and gradient")
    if version_of("gensim"):
        # All weights of the decisions are as good as zero, where its table of sigmoids has that of -0.024.
        pairs = Pairs(16, torch.arange(1024), rate=1e-30)
        examples = pairs.train(1, with_loss=True)
        expected = examples * 10 * math.log1p(math.exp(0.024))
        assert examples == 1024
        assert math.isclose(pairs.model.get_latest_training_loss(), expected, rel_tol=1e-3)
        said.append("gensim takes one path an example, as deep as ours")
    return said


def report_steps(given: argparse.Namespace, classes: int, too_slow: set[str]) -> list[tuple[object, ...]]:
    """The table of a number of classes, printed row by row; the rows for the file."""
    torch.manual_seed(0)
    versions = {"tree": version_of("softmaxes")} | dict.fromkeys([*OTHERS, "linear_cross_entropy"], torch.__version__)
    head = HierarchicalSoftmax(given.features, Tree.balanced(classes), bias=False, sparse=True)
    huffman = Tree.huffman(torch.ones(classes, dtype=torch.int64))
    print(f"C = {classes:,}: {decisions(head.tree):.2f} decisions a class, {decisions(huffman):.2f} in Huffman's tree")
    assert math.isclose(decisions(head.tree), decisions(huffman), rel_tol=0.05)
    print(f"  {'':<22} {'version':<12} {'µs an example':>12}   {'20 % to 80 %':>18}   over tree", flush=True)
    rows: list[tuple[object, ...]] = []
    ours = 0.0

    def report(name: str, seconds: list[float], batch: int) -> None:
        nonlocal ours
        own = versions.get(name) or version_of(name.lower().removesuffix(" *"))
        low, middle, high = spread(seconds)
        ours = ours or middle
        between = f"{1e6 * low:.3g} to {1e6 * high:.3g}"
        over = f"{middle / ours:.3g} ({low / ours:.3g} to {high / ours:.3g})"
        print(f"  {name:<22} {own:<12} {1e6 * middle:>12.3g}   {between:>18}   {over}", flush=True)
        rows.append((classes, given.features, batch, name, own, middle, low, high, middle / ours))

    def absent(name: str) -> None:
        print(f"  {name:<22} not installed")

    def report_turns(steps: dict[str, Step]) -> None:
        for name, seconds in take_turns(steps, given, classes).items():
            report(name, [took / given.batch for took in seconds], given.batch)
            if min(seconds) >= given.slow:
                too_slow.add(name)

    versions["tree, SGD"] = versions["tree"]
    report_turns(tree_steps(head))
    del head, huffman
    gc.collect()
    if version_of("fasttext"):
        report("fastText", [fasttext_seconds(given.features, classes) for _ in range(REPEATS)], 1)
    else:
        absent("fastText")
    if version_of("gensim"):
        report("gensim", gensim_seconds(given.features, classes), 1)
    else:
        absent("gensim")
    gc.collect()
    makers: dict[str, Callable[[int, int], Step]] = {}
    if version_of("hierarchicalsoftmax"):
        makers = {f"hierarchicalsoftmax{which}": partial(hierarchicalsoftmax, which) for which in ("", " *")}
    else:
        absent("hierarchicalsoftmax")
    makers |= {"flat": OTHERS["flat"], "linear_cross_entropy": linear_cross_entropy, "adaptive": OTHERS["adaptive"]}
    for name in makers.keys() & too_slow:
        del makers[name]
    report_turns({name: make(given.features, classes) for name, make in makers.items()})
    return rows


# Tasks


class Task(NamedTuple):
    """Examples to train on, and to be judged by."""

    classes: int
    input: Tensor  # (N, D)
    target: Tensor  # (N,)
    held_input: Tensor
    held_target: Tensor
    bound: float  # how often the nearest true centre is right


class Trained(NamedTuple):
    """A model, and what it took."""

    seconds: float
    predict: Callable[[], Tensor]  # of all held-out examples, the best class
    save: Callable[[Path], object]  # into a folder


Method = Callable[[Task, argparse.Namespace, Path], Trained]


def make_task(given: argparse.Namespace, classes: int) -> Task:
    generator = torch.Generator().manual_seed(given.seed)
    draw = partial(torch.randn, generator=generator)
    groups = draw(math.ceil(classes / GROUP), given.features)
    centres = groups[torch.arange(classes) // GROUP] + draw(classes, given.features)
    # Neighbours in number have no more in common than others, so that no tree gets the groups as a present.
    centres = centres[torch.randperm(classes, generator=generator)]

    def examples(each: int) -> tuple[Tensor, Tensor]:
        target = torch.arange(classes).repeat(each)
        target = target[torch.randperm(len(target), generator=generator)]
        return F.normalize(centres[target] + given.noise * draw(len(target), given.features)), target

    input, target = examples(EXAMPLES)
    held_input, held_target = examples(HELD_OUT)
    nearest = in_batches(lambda rows: (rows @ F.normalize(centres).T).argmax(1), held_input)
    return Task(classes, input, target, held_input, held_target, right(nearest, held_target))


@torch.no_grad()
def in_batches(best: Callable[[Tensor], Tensor], input: Tensor) -> Tensor:
    return torch.cat([best(rows) for rows in input.split(BATCH)])


def right(predicted: Tensor, target: Tensor) -> float:
    return float((predicted == target).double().mean())


def train(head: Head, optimiser: torch.optim.Optimizer, task: Task, epochs: int) -> None:
    steps = epochs * math.ceil(len(task.input) / BATCH)
    fall = torch.optim.lr_scheduler.LinearLR(optimiser, start_factor=1.0, end_factor=0.0, total_iters=steps)
    for _ in range(epochs):
        for rows in torch.randperm(len(task.input)).split(BATCH):
            head(task.input[rows], task.target[rows]).mean().backward()
            optimiser.step()  # SGDInBackward's does nothing
            optimiser.zero_grad()
            fall.step()


def trained(head: Head, seconds: float, task: Task) -> Trained:
    def save(folder: Path) -> None:
        torch.save(head.state_dict(), folder / "head.pt")

    return Trained(seconds, lambda: in_batches(head.predict, task.held_input), save)


def our_tree(arity: int, task: Task, given: argparse.Namespace, folder: Path) -> Trained:
    start = time.perf_counter()
    means = torch.zeros(task.classes, given.features).index_add_(0, task.target, task.input) / EXAMPLES
    head = HierarchicalSoftmax(given.features, Tree.clustered(means, arity=arity), sparse=True)
    train(head, SGDInBackward(head.parameters(), lr=TREE_RATE), task, given.epochs)
    return trained(head, time.perf_counter() - start, task)


def our_flat(task: Task, given: argparse.Namespace, folder: Path) -> Trained:
    start = time.perf_counter()
    head = Softmax(given.features, task.classes)
    train(head, torch.optim.SGD(head.parameters(), lr=FLAT_RATE), task, given.epochs)
    return trained(head, time.perf_counter() - start, task)


def napkinxc(which: str, task: Task, given: argparse.Namespace, folder: Path) -> Trained:
    from napkinxc import models

    classes = task.target.tolist()
    labels = classes if which == "HSM" else [[c] for c in classes]
    input, held_input = task.input.numpy(), task.held_input.numpy()
    model = getattr(models, which)(str(folder), seed=given.seed, threads=1)
    start = time.perf_counter()
    model.fit(input, labels)  # writes the model into the folder
    seconds = time.perf_counter() - start
    model.load()

    def predict() -> Tensor:
        # Where all are pruned away there may be none.
        return torch.tensor([best[0] if best else -1 for best in model.predict(held_input, top_k=1)])

    return Trained(seconds, predict, lambda folder: None)


def omikuji(task: Task, given: argparse.Namespace, folder: Path) -> Trained:
    with tempfile.TemporaryDirectory() as elsewhere, silent():
        from omikuji import Model

        path = Path(elsewhere) / "task.txt"
        with path.open("w") as file:
            file.write(f"{len(task.input)} {given.features} {task.classes}\n")
            for row, c in zip(task.input.tolist(), task.target.tolist(), strict=True):
                file.write(f"{c} " + " ".join(f"{i}:{x:.7g}" for i, x in enumerate(row)) + "\n")
        start = time.perf_counter()
        model = Model.train_on_data(str(path), n_threads=1)
        seconds = time.perf_counter() - start
    model.init_prediction_thread_pool(1)
    pairs = [list(enumerate(row)) for row in task.held_input.tolist()]

    def predict() -> Tensor:
        found = [model.predict(row, top_k=1) for row in pairs]
        return torch.tensor([best[0][0] if best else -1 for best in found])

    def save(folder: Path) -> None:
        with silent():
            model.save(str(folder))

    return Trained(seconds, predict, save)


@contextlib.contextmanager
def silent() -> Iterator[None]:
    """Without what compiled code prints."""
    sys.stdout.flush()
    kept = [os.dup(1), os.dup(2)]
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        for stream in (1, 2):
            os.dup2(nowhere, stream)
        yield
    finally:
        for stream, own in zip((1, 2), kept, strict=True):
            os.dup2(own, stream)
            os.close(own)
        os.close(nowhere)


METHODS: dict[str, tuple[str, Method]] = {  # name -> its module, how it is trained
    "tree": ("softmaxes", partial(our_tree, 2)),
    "tree, 32 children": ("softmaxes", partial(our_tree, 32)),
    "flat": ("softmaxes", our_flat),
    "napkinxc HSM": ("napkinxc", partial(napkinxc, "HSM")),
    "napkinxc PLT": ("napkinxc", partial(napkinxc, "PLT")),
    "omikuji": ("omikuji", omikuji),
}


def report_task(given: argparse.Namespace, classes: int) -> list[tuple[object, ...]]:
    """The table of a number of classes, printed row by row; the rows for the file."""
    torch.manual_seed(given.seed)
    task = make_task(given, classes)
    print(
        f"C = {classes:,}: {len(task.input):,} examples, noise {given.noise}, {given.epochs} epochs; "
        f"the nearest true centre is right on {100 * task.bound:.1f} %"
    )
    print(f"  {'':<18} {'version':<12} {'training, s':>11} {'right, %':>9} {'saved, MiB':>11} {'prediction, µs':>15}")
    rows: list[tuple[object, ...]] = []
    for name, (module, method) in METHODS.items():
        own = version_of(module)
        if own is None:
            print(f"  {name:<18} not installed")
            continue
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            try:
                model = method(task, given, folder)
            except ImportError as error:
                print(f"  {name:<18} not installed: {error}")
                continue
            model.save(folder)
            saved = sum(file.stat().st_size for file in folder.rglob("*")) / 2**20
            took = []
            for _ in range(REPEATS):
                start = time.perf_counter()
                predicted = model.predict()
                took.append(time.perf_counter() - start)
        precision, each = right(predicted, task.held_target), statistics.median(took) / len(predicted)
        print(
            f"  {name:<18} {own:<12} {model.seconds:>11.3g} {100 * precision:>9.1f} {saved:>11.3g} {1e6 * each:>15.3g}",
            flush=True,
        )
        rows.append((classes, given.features, name, own, model.seconds, precision, saved, each))
        del model
        gc.collect()
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    number: dict[str, Any] = {"type": int, "metavar": "N"}
    add = parser.add_argument
    add("--classes", nargs="*", default=[10**p for p in range(3, 7)], help="of the steps; none: no steps", **number)
    add("--task-classes", nargs="*", default=[1000, 10_000], help="of the tasks; none: no tasks", **number)
    add("--features", default=128, help="D, of both", **number)
    add("--batch", default=256, help="examples of a step", **number)
    add("--rounds", default=100, help="steps that are timed", **number)
    add("--slow", type=float, default=1.0, metavar="SECONDS", help="a step that takes longer has three rounds")
    add("--epochs", default=10, help="of our training in a task", **number)
    add("--noise", type=float, default=1.5, metavar="X", help="of a feature in a task; that of a centre is 1.4")
    add("--seed", default=0, help="of the tasks", **number)
    add("--out", type=Path, metavar="FILE.csv", help="write the figures of the steps there too, seconds an example")
    add("--task-out", type=Path, metavar="FILE.csv", help="write the figures of the tasks there too")
    given = parser.parse_args()
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, Python {platform.python_version()}, one thread, D = {given.features}")
    print(compiled.MISSING or "the tree's step is compiled")
    print("\n".join(f"checked: {line}" for line in check()))
    if given.classes:
        print(f"\nSTEPS: batches of {given.batch}, {given.rounds} rounds")
    rows: list[tuple[object, ...]] = []
    too_slow: set[str] = set()
    header = "classes features batch method version median_seconds_per_example low high ratio_to_ours"
    for classes in given.classes:
        rows += report_steps(given, classes, too_slow)
        if given.out is not None:  # anew after each size, so that a run that is stopped has left something
            write_csv(given.out, header, rows)
    if given.task_classes:
        print("\nTASKS")
    rows = []
    header = "classes features method version training_seconds precision_at_1 saved_mib prediction_seconds"
    for classes in given.task_classes:
        rows += report_task(given, classes)
        if given.task_out is not None:
            write_csv(given.task_out, header, rows)


if __name__ == "__main__":
    main()
