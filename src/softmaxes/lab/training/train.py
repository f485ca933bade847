"""One training, from a run to its result: a function to read from top to bottom."""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from safetensors.torch import save
from torch import Tensor

from softmaxes import metrics
from softmaxes.files import write_bytes
from softmaxes.lab.bits import packed
from softmaxes.lab.data.batches import Examples, laid_out
from softmaxes.lab.devices import ONE, Devices
from softmaxes.lab.heads.registry import entry_of
from softmaxes.lab.machine import machine, now, peak_memory
from softmaxes.lab.recipe import draw, learning_rate
from softmaxes.lab.records import DataCard, Epoch, LossPoint, Result, Run, TrainedTree
from softmaxes.lab.seeds import stream
from softmaxes.lab.store import Store
from softmaxes.lab.training.classifier import Classifier, build, grow, means_of_classes
from softmaxes.lab.training.judge import Judge
from softmaxes.lab.training.places import Place, place_of

LOSS_EVERY = 500  # batches
SCORING = 0.1  # of the first epoch's training time, that the test after it may take where there are many examples


class Progress(NamedTuple):
    """What a running training tells those who watch it."""

    step: int  # batches so far, over all epochs
    epoch: Epoch | None = None  # the epoch that has just been tested, if one has
    loss: LossPoint | None = None  # the one that has just been noted


def train(
    run: Run,
    card: DataCard,
    store: Store,
    devices: Devices = ONE,
    jobs: int = 1,
    watch: Callable[[Progress], None] = lambda progress: None,
) -> Result | None:
    """Train a head on a data set, test it after every epoch, and store what came of it.

    A run that was cut off goes on after its last whole epoch, with the same numbers as one that was not: the order of
    examples, the noise and all other draws are functions of seed and epoch, all else is in the checkpoint. Several
    devices have a process each, which all call this: they share every batch, and the first one writes.

    Args:
        run: what to train.
        card: what is known of the data.
        store: holds the data's tensors, and takes checkpoint, weights and result.
        devices: what it is trained on; the processes of several have met.
        jobs: how many runs share the machine; noted in the result.
        watch: called after every batch and epoch.

    Returns:
        The result, which has been stored; none in processes that are not the first.

    Raises:
        InputError: a file of the store is broken.
    """
    place = place_of(devices, run.precision)
    fabric = place.fabric
    data = laid_out(run, store, fabric.device)
    on_test = run.scored_on == "test"
    judge = Judge(fabric, card, data.test if on_test else data.held_out)
    classifier = build(run, card, data.train.inputs, devices)
    model, optimiser = place.set_up(run, classifier)
    entry = entry_of(run.head)
    growth = entry.growth
    learning = () if growth is None else growth.epochs(run.epochs)
    tree = entry.tree(card) if entry.tree else None
    vectors: Tensor | None = None  # of the classes, from which a tree was learned
    tree_seconds = 0.0

    epochs: list[Epoch] = []
    losses: list[LossPoint] = []
    window = torch.zeros((), dtype=torch.float64, device=fabric.device)  # sum of the losses since the last LossPoint
    if place.has(path := store.checkpoint(run)):
        with place.opened(path) as saved:
            epochs = [Epoch.model_validate_json(text) for text in saved["epochs"]]
            losses = [LossPoint.model_validate_json(text) for text in saved["losses"]]
            window += saved["window"] if place.rank == 0 else 0
            vectors, tree_seconds = saved["vectors"], saved["tree_seconds"]
            if vectors is not None:
                tree = grow(run, classifier, vectors, devices)
                model, optimiser = place.set_up(run, classifier)
            place.load(saved, classifier, optimiser)
    steps_per_epoch = run.steps_per_epoch(len(data.train))
    step = len(epochs) * steps_per_epoch
    _warm_up(place, classifier, data.train, run.batch_size)

    judged: metrics.Judged | None = None
    for number in range(len(epochs) + 1, run.epochs + 1):
        started = now(fabric.device)
        if growth is not None and number - 1 in learning:
            if number - 1 == learning[0] and not growth.from_means:
                vectors = classifier.head.get_parameter("weight").detach().clone()
            else:
                vectors = means_of_classes(fabric, classifier, data.train)
            vectors = fabric.broadcast(vectors)
            tree = grow(run, classifier, vectors, devices)
            model, optimiser = place.set_up(run, classifier)
            tree_seconds += now(fabric.device) - started
        torch.manual_seed(stream(run.seed, "noise", number))
        model.train()
        draws = draw(run, number, data.train.labels, len(card.class_names))
        total = torch.zeros_like(window)
        batches = data.train.shuffled(run, number)
        refreshed = {len(batches) * quarter // 4 for quarter in (1, 2, 3)} if number == 1 else {0}
        for which, batch in enumerate(batches):
            if entry.refresh is not None and which in refreshed:
                entry.refresh(classifier.head)
            own, first = place.part(batch)
            rows = own if len(own) > 0 else batch[:1]  # with a loss that counts nothing
            with place.noise_of(first if len(own) > 0 else 0, len(batch)):
                loss = model(data.train.batch(rows, draws), draws.targets[rows])
            loss = loss if len(own) > 0 else 0 * loss
            fabric.backward(loss.mean() if place.size == 1 else loss.sum() * (place.size / len(batch)))
            optimiser.param_groups[0]["lr"] = learning_rate(run, step, run.epochs * steps_per_epoch)
            optimiser.step()
            optimiser.zero_grad()
            summed = loss.detach().double().sum()
            total += summed
            window += summed / len(batch)
            step += 1
            point = None
            if step % LOSS_EVERY == 0:
                losses.append(point := LossPoint(step=step, loss=place.sum(window).item() / LOSS_EVERY))
                window.zero_()
            watch(Progress(step, loss=point))
        trained = now(fabric.device)
        train_loss = place.sum(total).item() / len(data.train)
        judged = None
        if math.isfinite(train_loss):
            if number == run.epochs:
                judged = judge.judge(model)
            else:
                some = run.score or (epochs[0].scored or len(judge) if epochs else None)
                judged = judge.judge_some(model, some, SCORING * (trained - started))
        epoch = Epoch(
            epoch=number,
            train_loss=train_loss,
            scores=None if judged is None else judge.scores(judged),
            scored=None if judged is None or len(judged.target) == len(judge) else len(judged.target),
            train_seconds=trained - started,
            test_seconds=now(fabric.device) - trained,
        )
        epochs.append(epoch)
        watch(Progress(step, epoch))
        if judged is None:
            break
        if number < run.epochs:
            state = {
                "epochs": [epoch.model_dump_json() for epoch in epochs],
                "losses": [loss.model_dump_json() for loss in losses],
                "window": place.sum(window).item(),
                "vectors": vectors,
                "tree_seconds": tree_seconds,
                "device": fabric.device.type,
            }
            place.save(path, classifier, optimiser, state)

    whole = place.whole(run, card, tree, path, classifier)
    searched = None if judged is None or whole is None else judge.searched(whole, judged)
    guesses = judge.guesses(model, whole, data.samples) if judged is not None and on_test else ()
    peak = peak_memory(fabric.device)  # before what is no part of training and testing
    calibration = None
    if judged is not None:
        calibration = judge.calibration(model, judged, data.held_out if on_test else None)
    if whole is None or place.rank > 0:
        return None
    trained_tree = None
    if tree is not None:
        trained_tree = TrainedTree(
            parent=tuple(tree.parent.tolist()),
            learned_after=learning,
            from_means=growth is not None and growth.from_means,
            seconds=tree_seconds,
            searched=searched,
        )
    result = Result(
        run=run,
        epochs=tuple(epochs),
        losses=tuple(losses),
        confusion=() if judged is None else judge.confusion(judged),
        guesses=guesses,
        tree=trained_tree,
        parameters=sum(parameter.numel() for parameter in whole.parameters()),
        head_parameters=whole.head_parameters(),
        correct=None if judged is None else packed((judged.rank == 0).cpu().numpy()),
        calibration=calibration,
        peak_memory_mib=peak,
        machine=machine(fabric.device, jobs, devices),
    )
    weights = {name: tensor.contiguous().cpu() for name, tensor in whole.state_dict().items()}
    content = save(weights, metadata={"run": run.model_dump_json()})
    write_bytes(store.weights(run), content)
    store.save_result(result)
    return result


def _warm_up(place: Place, classifier: Classifier, examples: Examples, batch_size: int) -> None:
    """Let the libraries choose their kernels outside the timer, on a copy, so that nothing of the run is touched."""
    twin = place.twin(classifier)
    if twin is None:
        return
    rows = examples.rows[:batch_size]
    rows = rows[: -(-len(rows) // place.size)]  # as many on every rank
    for _ in range(3):
        with place.fabric.autocast():
            loss = twin(examples.batch(rows), examples.labels[rows])
        place.fabric.backward(loss.mean())
