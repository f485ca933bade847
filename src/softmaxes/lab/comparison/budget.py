"""One wall-clock budget for all heads: how many epochs of each fit, by a measurement beforehand."""

import statistics

import torch
from rich.console import Console

from softmaxes.lab.comparison.execute import check
from softmaxes.lab.data.batches import Examples
from softmaxes.lab.data.dataset import Data
from softmaxes.lab.devices import Devices
from softmaxes.lab.heads.registry import entry_of
from softmaxes.lab.machine import now
from softmaxes.lab.recipe import draw
from softmaxes.lab.records import DataCard, Run, Study
from softmaxes.lab.training.classifier import Classifier, build, grow, set_up
from softmaxes.lab.training.fabric import Fabric

WARM_UP = 3  # steps
LEAST_STEPS = 10  # that are measured
MEASURED_SECONDS = 3.0  # or as many steps as take so long


def fit(study: Study, data: Data, device: str, before: Study | None, console: Console) -> Study:
    """The study with as many epochs of each head as take `study.budget` seconds of training here and now, at least one.

    Args:
        study: what is to be trained; its runs' epochs are not looked at.
        data: what it is trained on.
        device: ``cpu`` or ``cuda``.
        before: what the folder of the results was made for, if it was: its numbers of epochs are kept, so that what is
            trained goes on.
        console: told what is measured.

    Raises:
        InputError: a head or the network does not fit the data.
    """
    if study.budget is None:
        raise ValueError("expected a study with a budget, got one without.")
    known = {_setting(run): run.epochs for run in before.runs} if before and before.budget == study.budget else {}
    card = data.card()
    examples: Examples | None = None  # one copy of the images for all heads
    for run in study.runs:
        if _setting(run) in known:
            continue
        entry = entry_of(run.head)
        shortest = run.model_copy(update={"epochs": entry.least_epochs})
        check(shortest, data, card)
        examples = examples or Examples.of(data.train_inputs, data.train_labels.to(device))
        before_tree, seconds = _epoch_seconds(shortest, examples, card, device)
        if entry.growth is None:
            most, took = max(1, int(study.budget / seconds)), f"{seconds:.3g} s"
        else:
            most = entry.growth.most_epochs(before_tree, seconds, study.budget)
            took = f"{before_tree:.3g} s before its tree is learned, {seconds:.3g} s after"
        known[_setting(run)] = most
        console.print(
            f"{run.head}: an epoch takes {took}; {most} fit",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )
    runs = tuple(run.model_copy(update={"epochs": known[_setting(run)]}) for run in study.runs)
    return study.model_copy(update={"runs": runs})


def _setting(run: Run) -> str:
    """A run but for its seed and epochs, and for what is tuned."""
    return run.model_dump_json(exclude={"seed", "epochs", "lr", "knob"})


def _epoch_seconds(run: Run, examples: Examples, card: DataCard, device: str) -> tuple[float, float]:
    """Seconds of a training epoch at the start and at the end of a run, in one thread, estimated from some steps.

    The two differ for a head that learns its tree. The test is not counted.
    """
    fabric = Fabric(accelerator=device, devices=1, precision=run.precision)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as the runs have
    try:
        classifier = build(run, card, examples.inputs, Devices(device))
        first = last = _step_seconds(fabric, run, classifier, examples)
        if entry_of(run.head).growth is not None:
            grow(run, classifier, torch.randn(classifier.head.num_classes, classifier.head.in_features))
            last = _step_seconds(fabric, run, classifier, examples)
        steps = run.steps_per_epoch(card.trained_on(run))
        return first * steps, last * steps
    finally:
        torch.set_num_threads(threads)


def _step_seconds(fabric: Fabric, run: Run, classifier: Classifier, examples: Examples) -> float:
    device = fabric.device
    model, optimiser = set_up(fabric, run, classifier)
    model.train()
    generator = torch.Generator().manual_seed(0)
    draws = draw(run, 1, examples.labels, classifier.head.num_classes)
    took: list[float] = []
    while len(took) < WARM_UP + LEAST_STEPS or sum(took[WARM_UP:]) < MEASURED_SECONDS:
        rows = torch.randint(len(examples), (run.batch_size,), generator=generator).to(device)
        begin = now(device)
        fabric.backward(model(examples.batch(rows, draws), draws.targets[rows]).mean())
        optimiser.step()
        optimiser.zero_grad()
        took.append(now(device) - begin)
    return statistics.median(took[WARM_UP:])
