"""One wall-clock budget for all heads: how many epochs of each fit, by a measurement beforehand."""

import statistics
import time

import torch
from lightning_fabric import Fabric
from rich.console import Console

from softmaxes.lab.data import Data
from softmaxes.lab.recipe import draw
from softmaxes.lab.run import DataCard, Run, Study
from softmaxes.lab.study import check
from softmaxes.lab.train import Classifier, build, least_epochs, set_up, take_over, tree_epochs

WARM_UP = 3  # steps
LEAST_STEPS = 10  # that are measured
FLAT = 0.2  # of the epochs of a head that learns its tree are flat; see `tree_epochs`
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
    for run in study.runs:
        if _setting(run) in known:
            continue
        least = least_epochs([run.head])
        shortest = run.model_copy(update={"epochs": least})
        check(shortest, data, card)
        seconds = _epoch_seconds(shortest, data, card, device)
        known[_setting(run)] = max(least, int(study.budget / seconds))
        console.print(
            f"{run.head}: an epoch takes {seconds:.3g} s, {known[_setting(run)]} fit",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )
    runs = tuple(run.model_copy(update={"epochs": known[_setting(run)]}) for run in study.runs)
    return study.model_copy(update={"runs": runs})


def _setting(run: Run) -> str:
    """A run but for its seed and epochs, and for what is tuned."""
    return run.model_dump_json(exclude={"seed", "epochs", "lr", "knob"})


def _epoch_seconds(run: Run, data: Data, card: DataCard, device: str) -> float:
    """Seconds that a training epoch should take, in one thread, by some steps of it; the test is not counted.

    Of a head with a learned tree the steps before and after that are measured, and weighed by their epochs.
    """
    fabric = Fabric(accelerator=device, devices=1, precision=run.precision)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as the runs have
    try:
        classifier = build(run, card, data.train_inputs, device)
        step = _step_seconds(fabric, run, classifier, data)
        if tree_epochs(run):
            take_over(run, classifier, torch.randn(classifier.head.num_classes, classifier.head.in_features))
            tree_step = _step_seconds(fabric, run, classifier, data)
            step = FLAT * step + (1 - FLAT) * tree_step
        return step * run.steps_per_epoch(card.train_counts)
    finally:
        torch.set_num_threads(threads)


def _step_seconds(fabric: Fabric, run: Run, classifier: Classifier, data: Data) -> float:
    device = fabric.device
    model, optimiser = set_up(fabric, run, classifier)
    model.train()
    generator = torch.Generator().manual_seed(0)
    draws = draw(run, 1, data.train_labels.to(device), classifier.head.num_classes)
    took: list[float] = []
    while len(took) < WARM_UP + LEAST_STEPS or sum(took[WARM_UP:]) < MEASURED_SECONDS:
        batch = torch.randint(len(data.train_labels), (run.batch_size,), generator=generator)
        input, batch = data.train_inputs[batch].to(device), batch.to(device)
        begin = _now(device.type)
        fabric.backward(model(draws.images(input, batch), draws.targets[batch]).mean())
        optimiser.step()
        optimiser.zero_grad()
        took.append(_now(device.type) - begin)
    return statistics.median(took[WARM_UP:])


def _now(device: str) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()
