"""One training, from a run to its result: a function to read from top to bottom."""

import copy
import math
import os
import platform
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from pickle import UnpicklingError  # the name alone: nothing is unpickled here
from typing import Any, NamedTuple, cast

import torch
from lightning_fabric import Fabric
from safetensors import safe_open
from safetensors.torch import save, save_file
from torch import Tensor, nn

from softmaxes import Head, HierarchicalSoftmax, Tree, TreeSampledSoftmax, metrics
from softmaxes.files import write_whole
from softmaxes.heads.hierarchical import search
from softmaxes.lab import InputError
from softmaxes.lab.backbones import trunk_for
from softmaxes.lab.bits import packed
from softmaxes.lab.data import Data
from softmaxes.lab.data.features import mapped
from softmaxes.lab.heads import HEADS
from softmaxes.lab.recipe import draw, learning_rate, stream
from softmaxes.lab.run import (
    Branch,
    Calibration,
    DataCard,
    Epoch,
    Guess,
    LossPoint,
    Machine,
    Reliability,
    Result,
    Run,
    Scores,
    Searched,
    Temperature,
    TrainedTree,
    TreeScores,
)
from softmaxes.lab.store import Store

LOSS_EVERY = 500  # batches
TEST_BATCH = 500  # examples at most
# Log-probabilities of a test batch at most: of 17,000 classes and more it has fewer examples. On a CPU that is faster
# too: at 100,000 classes 0.8 ms an example instead of 2 at four times as many, as arrays of 32 MiB are used again.
TEST_NUMBERS = 2**23
# Heads that can have sparse gradients do where classes times features are so many. Measured on a CPU for 1,000 to a
# million classes, 64 and 256 features, batches of 32: hardly a gain at a fifth of it, steps 2 to 8 times as fast at
# twice as many.
SPARSE = 2**20
# Log-probabilities that a temperature is fitted to at most, 64 MiB of them: of 10,000 classes 1,677 examples.
FIT_NUMBERS = 2**24
BEAM = 4  # nodes that go on, of the search that is set beside the exact one


class UnfitError(InputError):
    """A head that the data cannot serve; the message says why."""


class Progress(NamedTuple):
    """What a running training tells those who watch it."""

    step: int  # batches so far, over all epochs
    epoch: Epoch | None = None  # the epoch that has just been tested, if one has
    loss: LossPoint | None = None  # the one that has just been noted


class Classifier(nn.Module):
    """Inputs to loss: standardised images or vectors through a trunk into a head, if it has one behind a layer."""

    mean: Tensor
    std: Tensor

    def __init__(self, trunk: nn.Module, hidden: nn.Module, head: Head, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        self.trunk = trunk
        self.hidden = hidden  # the head's own layer, or none
        self.head = head
        # As large as an input, for the arithmetic on images with their channels last is slow where shapes differ.
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Training loss of each example: uint8 (N, channels, height, width) or floating point (N, D), (N,) -> (N,)."""
        loss: Tensor = self.head(self.features(input), target)
        return loss

    def log_prob(self, input: Tensor) -> Tensor:
        """Log-probability of each class: uint8 (N, channels, height, width) or floating point (N, D) -> (N, C)."""
        return self.head.log_prob(self.features(input))

    def features(self, input: Tensor) -> Tensor:
        """What the head sees of images or vectors."""
        features: Tensor = self.hidden(self.trunk((input.float() - self.mean).div_(self.std)))
        return features

    def head_parameters(self) -> int:
        """How many numbers are the head's own, those of its hidden layer among them."""
        return sum(parameter.numel() for part in (self.hidden, self.head) for parameter in part.parameters())


def build(run: Run, card: DataCard, train_inputs: Tensor, device: str = "cpu") -> Classifier:
    """The untrained classifier of a run, for a device. Its trunk depends on the seed and never on the head.

    Raises:
        UnfitError: the data cannot serve the head.
        ValueError: the network does not fit the inputs.
    """
    mean, std = scale(train_inputs)
    torch.manual_seed(stream(run.seed, "trunk"))
    trunk = trunk_for(run, card)
    torch.manual_seed(stream(run.seed, "head"))
    entry, classes = HEADS[run.head], len(card.class_names)
    try:
        tree_epochs(run)
        if entry.most_classes is not None and classes > entry.most_classes:
            raise ValueError(f"{run.head}: expected at most {entry.most_classes:,} classes, got {classes:,}.")
        hidden: nn.Module = nn.Identity()
        if entry.hidden:
            hidden = nn.Sequential(nn.Linear(trunk.out_features, trunk.out_features), nn.ReLU())
        sparse = entry.sparse is not None and sparse_is_better(run, classes * trunk.out_features, device)
        if run.knob is None:
            head = (entry.sparse if entry.sparse is not None and sparse else entry.build)(trunk.out_features, card)
        elif entry.knob is not None:
            head = entry.knob.build(trunk.out_features, card, run.knob)
        else:
            raise ValueError(f"{run.head}: expected no knob, for it has none, got {run.knob:g}.")
    except ValueError as error:
        raise UnfitError(" ".join(str(error).split())) from error
    mean, std = (one.float().expand(1, *train_inputs.shape[1:]) for one in (mean, std))
    classifier = Classifier(trunk, hidden, head, mean.contiguous(), std.contiguous())
    return classifier.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def scale(inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each channel of images, or of each number of vectors, over some thousand of them.

    A number that hardly varies, or does not, is left at its scale.
    """
    some = (inputs if len(inputs) < 5000 else inputs[:: len(inputs) // 5000]).double()
    if some.dim() == 4:
        return some.mean((0, 2, 3), keepdim=True), some.std((0, 2, 3), keepdim=True).clamp(min=1)
    std = some.std(0, keepdim=True, correction=0)
    return some.mean(0, keepdim=True), std.where(std > 1e-6 * std.max(), 1.0)


def sparse_is_better(run: Run, numbers: int, device: str) -> bool:
    """Whether sparse gradients make the same step as dense ones, and sooner; on a GPU that was not measured."""
    return run.momentum == 0 and run.weight_decay == 0 and numbers >= SPARSE and device == "cpu"


def tree_epochs(run: Run) -> tuple[int, ...]:
    """The epochs after which a learned tree takes over; none of most heads.

    A fifth of all epochs, at least one; and half of them, if the head learns its tree again.

    Raises:
        ValueError: there are too few epochs.
    """
    entry, least = HEADS[run.head], least_epochs([run.head])
    if entry.learned is None:
        return ()
    if run.epochs < least:
        raise ValueError(
            f"{run.head}: expected at least {least} epochs, the first to learn a tree from, got {run.epochs}."
        )
    return (max(1, run.epochs // 5), *([run.epochs // 2] if entry.again else []))


def least_epochs(heads: Iterable[str]) -> int:
    """The epochs that each of some heads can do with: those that learn a tree need some to learn it from."""
    needed = (1 if HEADS[head].learned is None else 4 if HEADS[head].again else 2 for head in heads)
    return max(needed, default=1)


def take_over(run: Run, classifier: Classifier, vectors: Tensor) -> Tree:
    """Learn a tree from class vectors, (C, D), and put a head over it in place of the one that there was.

    A head that only draws from a tree stays, and draws from this one.
    """
    learned = HEADS[run.head].learned
    if learned is None:
        raise ValueError(f"{run.head}: expected a head whose tree is learned.")
    tree = learned(vectors.float().cpu())
    torch.manual_seed(stream(run.seed, "tree"))
    if isinstance(classifier.head, TreeSampledSoftmax):
        classifier.head.draw_from(tree)
    else:
        sparse = sparse_is_better(run, vectors.numel(), vectors.device.type)
        classifier.head = HierarchicalSoftmax(classifier.head.in_features, tree, sparse=sparse, device=vectors.device)
    return tree


def lay_out(data: Data, store: Store) -> None:
    """Put a data set where `train` reads it, pixels with their channels last, as the convolutions take them.

    Of inputs that are mapped from files only the files' names are put there.
    """
    tensors = {"train_labels": data.train_labels, "test_labels": data.test_labels, "samples": data.samples()}
    if data.files is None:
        for name, inputs in (("train_inputs", data.train_inputs), ("test_inputs", data.test_inputs)):
            tensors[name] = (inputs if data.of_vectors else inputs.permute(0, 2, 3, 1)).contiguous()
    files = {f"{part}_inputs": str(path) for part, path in (data.files or {}).items()}
    write_whole(store.tensors(), lambda part: save_file(tensors, part, files))


def laid_out(store: Store) -> tuple[dict[str, Tensor], bool]:
    """What `lay_out` put there, images as (N, channels, height, width), and whether the inputs lie in other files."""
    with safe_open(store.tensors(), framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        files = file.metadata() or {}
    for name in ("train_inputs", "test_inputs"):
        if name in files:
            tensors[name] = mapped(Path(files[name]))
        elif tensors[name].dim() == 4:
            tensors[name] = tensors[name].permute(0, 3, 1, 2)  # channels last in memory
    return tensors, bool(files)


def parts(run: Run, labels: Tensor) -> tuple[Tensor, Tensor]:
    """The rows of the training set to train on, and those that are held out; the same for every head and seed.

    Args:
        run: says which share of each class is held out.
        labels: of the training set, (N,).
    """
    shuffled = torch.randperm(len(labels), generator=torch.Generator().manual_seed(stream("validation")))
    by_class = shuffled[labels[shuffled].argsort(stable=True)]
    counts = labels.bincount()
    most = torch.tensor([run.held_out(count) for count in counts.tolist()])
    place = torch.arange(len(labels)) - (counts.cumsum(0) - counts).repeat_interleave(counts)  # within its class
    held_out = place < most.repeat_interleave(counts)
    return by_class[~held_out].sort().values, by_class[held_out].sort().values


def order(run: Run, epoch: int, examples: int) -> Tensor:
    """The order of the training examples in an epoch. It depends on the seed and never on the head."""
    return torch.randperm(examples, generator=torch.Generator().manual_seed(stream(run.seed, "order", epoch)))


def train(
    run: Run,
    card: DataCard,
    store: Store,
    device: str = "cpu",
    jobs: int = 1,
    watch: Callable[[Progress], None] = lambda progress: None,
) -> Result:
    """Train a head on a data set, test it after every epoch, and store what came of it.

    A run that was cut off goes on after its last whole epoch, with the same numbers as one that was not: the order of
    examples, the noise and all other draws are functions of seed and epoch, all else is in the checkpoint.

    Args:
        run: what to train.
        card: what is known of the data.
        store: holds the data's tensors, and takes checkpoint, weights and result.
        device: ``cpu`` or ``cuda``.
        jobs: how many runs share the machine; noted in the result.
        watch: called after every batch and epoch.

    Returns:
        The result, which has been stored.

    Raises:
        InputError: a file of the store is broken.
    """
    fabric = Fabric(accelerator=device, devices=1, precision=run.precision)
    tensors, in_files = laid_out(store)
    classifier = build(run, card, tensors["train_inputs"], device)
    model, optimiser = set_up(fabric, run, classifier)
    inputs, test_inputs = tensors["train_inputs"], tensors["test_inputs"]
    rows, held_out = (part.to(fabric.device) for part in parts(run, tensors["train_labels"]))
    if not in_files:  # they may be more than the memory holds: the rows of a batch are read when they are needed
        inputs, test_inputs = inputs.to(fabric.device), test_inputs.to(fabric.device)
    labels = tensors["train_labels"].to(fabric.device)
    test_labels = tensors["test_labels"].to(fabric.device)
    judged_rows = torch.arange(len(test_labels), device=fabric.device)
    if run.scored_on == "validation":
        test_inputs, test_labels, judged_rows = inputs, labels, held_out

    epochs: list[Epoch] = []
    losses: list[LossPoint] = []
    window = torch.zeros((), dtype=torch.float64, device=fabric.device)  # sum of the losses since the last LossPoint
    entry, learning = HEADS[run.head], tree_epochs(run)
    tree = entry.tree(card) if entry.tree else None
    judge = None if card.group_of_class is None else Tree.from_groups(card.group_of_class)
    vectors: Tensor | None = None  # of the classes, from which a tree was learned
    tree_seconds = 0.0
    if (path := store.checkpoint(run)).exists():
        with _checkpoint(fabric, path) as saved:
            epochs = [Epoch.model_validate_json(text) for text in saved["epochs"]]
            losses = [LossPoint.model_validate_json(text) for text in saved["losses"]]
            window += saved["window"]
            vectors, tree_seconds = saved["vectors"], saved["tree_seconds"]
            if vectors is not None:
                tree = take_over(run, classifier, vectors)
                model, optimiser = set_up(fabric, run, classifier)
            model.load_state_dict(saved["model"])
            optimiser.load_state_dict(saved["optimiser"])
    steps_per_epoch = run.steps_per_epoch(card.train_counts)
    step = len(epochs) * steps_per_epoch
    _warm_up(fabric, model, _chosen(inputs, rows[: run.batch_size]), labels[rows[: run.batch_size]])

    confused = torch.zeros(0, 3, dtype=torch.int64)
    searched: Searched | None = None
    for number in range(len(epochs) + 1, run.epochs + 1):
        started = _now(fabric)
        if number - 1 in learning:
            if number - 1 == learning[0] and not entry.from_means:
                vectors = classifier.head.get_parameter("weight").detach().clone()
            else:
                vectors = _class_means(fabric, classifier, inputs, labels, rows)
            tree = take_over(run, classifier, vectors)
            model, optimiser = set_up(fabric, run, classifier)
            tree_seconds += _now(fabric) - started
        torch.manual_seed(stream(run.seed, "noise", number))
        model.train()
        draws = draw(run, number, labels, len(card.class_names))
        total = torch.zeros_like(window)
        for batch in rows[order(run, number, len(rows)).to(fabric.device)].split(run.batch_size):  # type: ignore[no-untyped-call]
            loss = model(draws.images(_chosen(inputs, batch), batch), draws.targets[batch])
            fabric.backward(loss.mean())
            optimiser.param_groups[0]["lr"] = learning_rate(run, step, run.epochs * steps_per_epoch)
            optimiser.step()
            optimiser.zero_grad()
            summed = loss.detach().double().sum()
            total += summed
            window += summed / len(batch)
            step += 1
            point = None
            if step % LOSS_EVERY == 0:
                losses.append(point := LossPoint(step=step, loss=window.item() / LOSS_EVERY))
                window.zero_()
            watch(Progress(step, loss=point))
        trained = _now(fabric)
        train_loss = total.item() / len(rows)
        scores = None
        judged = None
        if math.isfinite(train_loss):
            judged = _judge(model, test_inputs, test_labels, judged_rows, len(card.class_names))
        if judged is not None:
            scores = score(judged, len(card.class_names), judge)
            confused = metrics.confusion(judged, len(card.class_names)).cpu()
        epoch = Epoch(
            epoch=number,
            train_loss=train_loss,
            scores=scores,
            train_seconds=trained - started,
            test_seconds=_now(fabric) - trained,
        )
        epochs.append(epoch)
        if isinstance(classifier.head, HierarchicalSoftmax) and judged is not None and number == run.epochs:
            searched = _search(fabric, classifier, test_inputs, test_labels, judged_rows, judged)
        watch(Progress(step, epoch))
        if scores is None:
            break
        if number < run.epochs:
            state = {
                "model": model.state_dict(),
                "optimiser": optimiser.state_dict(),
                "epochs": [epoch.model_dump_json() for epoch in epochs],
                "losses": [loss.model_dump_json() for loss in losses],
                "window": window.item(),
                "vectors": vectors,
                "tree_seconds": tree_seconds,
                "device": fabric.device.type,
            }
            write_whole(path, lambda part: torch.save(state, part))  # noqa: B023

    diverged = epochs[-1].scores is None
    guesses: tuple[Guess, ...] = ()
    if not diverged and run.scored_on == "test":
        samples = _chosen(test_inputs, tensors["samples"].to(fabric.device))
        guesses = _guess(model, samples)
    if isinstance(classifier.head, HierarchicalSoftmax) and guesses:
        guesses = _ways(fabric, classifier, samples, guesses)
    peak = _peak_memory(fabric)  # before what is no part of training and testing
    calibration = None
    if judged is not None:
        test, classes = (test_inputs, test_labels, judged_rows), len(card.class_names)
        part = (inputs, labels, held_out) if run.scored_on == "test" else None
        calibration = Calibration(reliability=_reliability(judged), scaled=part and _scaled(model, part, test, classes))
    result = Result(
        run=run,
        epochs=tuple(epochs),
        losses=tuple(losses),
        confusion=() if diverged else tuple(map(tuple, confused.tolist())),
        guesses=guesses,
        tree=None
        if tree is None
        else TrainedTree(
            parent=tuple(tree.parent.tolist()),
            learned_after=learning,
            from_means=entry.from_means,
            seconds=tree_seconds,
            searched=searched,
        ),
        parameters=sum(parameter.numel() for parameter in classifier.parameters()),
        head_parameters=classifier.head_parameters(),
        correct=None if judged is None else packed((judged.rank == 0).cpu().numpy()),
        calibration=calibration,
        peak_memory_mib=peak,
        machine=machine(fabric.device, jobs),
    )
    weights = {name: tensor.contiguous().cpu() for name, tensor in classifier.state_dict().items()}
    content = save(weights, metadata={"run": run.model_dump_json()})
    write_whole(store.weights(run), lambda part: part.write_bytes(content))
    store.save_result(result)
    return result


def score(judged: metrics.Judged, num_classes: int, judge: Tree | None) -> Scores:
    """All of the referee's scores, those by a tree if there is one that judges."""
    precision, recall, f1 = metrics.macro_scores(judged, num_classes)
    return Scores(
        accuracy=metrics.accuracy(judged),
        top5=metrics.topk_accuracy(judged, 5),
        precision=precision,
        recall=recall,
        f1=f1,
        nll=metrics.nll(judged),
        calibration_error=metrics.calibration_error(judged),
        outside_support=metrics.outside_support(judged),
        tree=None if judge is None else _tree_scores(judged, judge),
    )


def _tree_scores(judged: metrics.Judged, judge: Tree) -> TreeScores:
    height = metrics.mean_lca_height(judged, judge)
    precision, recall, f1 = metrics.hierarchical_scores(judged, judge)
    return TreeScores(
        level_accuracy=tuple(metrics.level_accuracy(judged, judge)),
        lca_height=None if math.isnan(height) else height,
        precision=precision,
        recall=recall,
        f1=f1,
    )


def machine(device: torch.device, jobs: int) -> Machine:
    """Where this process runs."""
    processor = platform.processor() or platform.machine()
    if (cpuinfo := Path("/proc/cpuinfo")).exists():
        names = [
            line.partition(":")[2].strip()
            for line in cpuinfo.read_text("utf-8", "replace").splitlines()
            if "model name" in line
        ]
        processor = names[0] if names else processor
    return Machine(
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        processor=processor,
        cores=os.cpu_count() or 1,
        jobs=jobs,
        python=platform.python_version(),
        torch=torch.__version__,
        softmaxes=version("softmaxes"),
    )


def _chosen(inputs: Tensor, rows: Tensor) -> Tensor:
    """Some of the inputs, brought to where their numbers are if they are elsewhere; images as they lie in memory."""
    some = rows.to(inputs.device)
    if inputs.dim() == 2:
        return inputs.index_select(0, some).to(rows.device)
    whole = inputs.permute(0, 2, 3, 1)  # channels last: an image is a row of memory, which is quicker to copy
    return whole.flatten(1).index_select(0, some).view(-1, *whole.shape[1:]).permute(0, 3, 1, 2).to(rows.device)


def _batches(inputs: Tensor, labels: Tensor, rows: Tensor, size: int = TEST_BATCH) -> Iterator[tuple[Tensor, Tensor]]:
    """Some of the inputs and their labels, on the device of the labels."""
    for some in torch.split(rows, size):
        yield _chosen(inputs, some), labels[some]


@torch.no_grad()
def _judge(
    model: Any, inputs: Tensor, labels: Tensor, rows: Tensor, classes: int, temperature: float | None = None
) -> metrics.Judged | None:
    """What the scores need of some examples, or none where the head says something that is no number."""
    model.eval()
    parts = []
    for input, label in _batches(inputs, labels, rows, max(1, min(TEST_BATCH, TEST_NUMBERS // classes))):
        log_prob = model.log_prob(input)
        if bool(log_prob.isnan().any()):
            return None
        if temperature is not None:
            log_prob = metrics.at_temperature(log_prob, temperature)
        parts.append(metrics.judge(log_prob, label))
    return metrics.join(parts)


@torch.no_grad()
def _scaled(
    model: Any, held_out: tuple[Tensor, Tensor, Tensor], test: tuple[Tensor, Tensor, Tensor], classes: int
) -> Temperature | None:
    """The temperature that suits the held-out examples, of very many classes some of them, and the scores after it.

    Each part is inputs, labels and rows. None where nothing is held out, where no held-out target has a probability,
    and where the head says something that is no number.
    """
    model.eval()
    inputs, labels, rows = held_out
    if len(rows) * classes > FIT_NUMBERS:
        mixed = torch.randperm(len(rows), generator=torch.Generator().manual_seed(stream("temperature")))
        rows = rows[mixed[: max(1, FIT_NUMBERS // classes)].to(rows.device)]
    size = max(1, min(TEST_BATCH, TEST_NUMBERS // classes))
    found = [model.log_prob(input) for input, _ in _batches(inputs, labels, rows, size)]
    if len(rows) == 0 or any(bool(log_prob.isnan().any()) for log_prob in found):
        return None
    temperature = metrics.fit_temperature(torch.cat(found), labels[rows])
    if temperature is None or (judged := _judge(model, *test, classes, temperature)) is None:
        return None
    return Temperature(
        temperature=temperature,
        fitted_on=len(rows),
        nll=metrics.nll(judged),
        calibration_error=metrics.calibration_error(judged),
        reliability=_reliability(judged),
    )


def _reliability(judged: metrics.Judged) -> Reliability:
    return Reliability(
        **{name: tuple(column.tolist()) for name, column in metrics.reliability(judged)._asdict().items()}
    )


@torch.no_grad()
def _class_means(fabric: Fabric, classifier: Classifier, inputs: Tensor, labels: Tensor, rows: Tensor) -> Tensor:
    """The mean features of each class, (C, D); of a class without examples the mean of all."""
    classifier.eval()
    classes = classifier.head.num_classes
    total = torch.zeros(classes, classifier.head.in_features, device=labels.device)
    with fabric.autocast():
        for input, label in _batches(inputs, labels, rows):
            total.index_add_(0, label, classifier.features(input).float())
    counts = labels[rows].bincount(minlength=classes).unsqueeze(1)
    return torch.where(counts > 0, total / counts.clamp(min=1), total.sum(0) / len(rows))


@torch.no_grad()
def _search(
    fabric: Fabric, classifier: Classifier, inputs: Tensor, labels: Tensor, rows: Tensor, judged: metrics.Judged
) -> Searched:
    """How often going down the tree without looking at all classes ends elsewhere."""
    classifier.eval()
    head = cast(HierarchicalSoftmax, classifier.head)
    found: list[tuple[Tensor, Tensor]] = []
    with fabric.autocast():
        for input, _ in _batches(inputs, labels, rows):
            features = classifier.features(input)
            found.append((search.beam(head, features, 1, BEAM)[1].squeeze(1), search.greedy(head, features)[1]))
    beam, greedy = (torch.cat(classes) for classes in zip(*found, strict=True))

    def share(hits: Tensor) -> float:
        return hits.double().mean().item()

    return Searched(
        beam_width=BEAM,
        beam_differs=share(beam != judged.prediction),
        beam_accuracy=share(beam == judged.target),
        greedy_differs=share(greedy != judged.prediction),
        greedy_accuracy=share(greedy == judged.target),
    )


@torch.no_grad()
def _guess(model: Any, images: Tensor) -> tuple[Guess, ...]:
    model.eval()
    if len(images) == 0:
        return ()
    log_prob = model.log_prob(images)
    values, classes = log_prob.topk(min(5, log_prob.shape[1]))
    possible = (values > -math.inf).sum(1).tolist()  # of the impossible classes, which ones topk takes is chance
    rows = zip(classes.tolist(), values.exp().clamp(max=1).tolist(), possible, strict=True)
    return tuple(Guess(classes=tuple(row[:known]), probabilities=tuple(shares[:known])) for row, shares, known in rows)


@torch.no_grad()
def _ways(fabric: Fabric, classifier: Classifier, images: Tensor, guesses: tuple[Guess, ...]) -> tuple[Guess, ...]:
    """The guesses, each with the way through the tree to the first of its classes."""
    if not guesses:
        return ()
    first = torch.tensor([guess.classes[0] for guess in guesses], device=images.device)
    with fabric.autocast():
        turns, nodes = search.decisions(cast(HierarchicalSoftmax, classifier.head), classifier.features(images), first)
    return tuple(
        guess.model_copy(
            update={
                "path": tuple(
                    Branch(node=node, probability=min(share, 1.0))
                    for node, share in zip(path, shares, strict=True)
                    if node >= 0
                )
            }
        )
        for guess, path, shares in zip(guesses, nodes.tolist(), turns.exp().tolist(), strict=True)
    )


def _warm_up(fabric: Fabric, model: Any, inputs: Tensor, labels: Tensor) -> None:
    """Let the libraries choose their kernels outside the timer, on a copy, so that nothing of the run is touched."""
    twin = copy.deepcopy(model)
    for _ in range(3):
        fabric.backward(twin(inputs, labels).mean())


def set_up(fabric: Fabric, run: Run, classifier: Classifier) -> tuple[Any, Any]:
    """The model on its device, and an optimiser of all its parameters."""
    optimiser = torch.optim.SGD(
        classifier.parameters(), lr=run.lr, momentum=run.momentum, weight_decay=run.weight_decay
    )
    model, optimiser = fabric.setup(classifier, optimiser)
    model.mark_forward_method("log_prob")
    return model, optimiser


@contextmanager
def _checkpoint(fabric: Fabric, path: Path) -> Iterator[dict[str, Any]]:
    """What a checkpoint holds; whatever does not fit while it is put to use is an error that names the file."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's own, of a file that is refused below
            saved = fabric.load(path, weights_only=True)
        device = saved["device"]
        if device == fabric.device.type:
            yield saved
    except (
        RuntimeError,
        OSError,
        EOFError,
        LookupError,
        ValueError,
        TypeError,
        AttributeError,
        UnpicklingError,
    ) as error:
        raise InputError(
            f"{path}: expected a whole checkpoint of tensors and numbers, got a file that does not load as one "
            f"({type(error).__name__}); delete it to start the run anew."
        ) from None
    if device != fabric.device.type:
        raise InputError(
            f"{path}: expected to go on with --device {device}, on which the run began, got {fabric.device.type}; "
            "delete it to start the run anew."
        )


def _now(fabric: Fabric) -> float:
    if fabric.device.type == "cuda":
        torch.cuda.synchronize(fabric.device)
    return time.perf_counter()


def _peak_memory(fabric: Fabric) -> float:
    if fabric.device.type == "cuda":
        return torch.cuda.max_memory_allocated(fabric.device) / 2**20
    if sys.platform == "win32":
        return math.nan
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)
