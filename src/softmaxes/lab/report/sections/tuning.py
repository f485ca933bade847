"""How each head's setting was chosen: what was tried, and what it came to on the held-out examples."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from softmaxes.lab.records import DataCard, Run, Study, Tried
from softmaxes.lab.report.grid import Cell, Column, Grid
from softmaxes.lab.report.summary import ACCURACY
from softmaxes.lab.report.wording import NBSP, listed, number
from softmaxes.lab.tables import as_csv
from softmaxes.names import plural


@dataclass(frozen=True)
class Choice:
    """A head's setting and those that it was chosen from."""

    head: str
    knob: str | None  # what the head's own setting is called
    chosen: Tried
    tried: Sequence[Tried]  # for the first part of the epochs, by learning rate
    at_edge: bool  # whether the chosen learning rate is the lowest or the highest that was tried


def _percent(one: Tried) -> str:
    return "diverged" if one.accuracy is None else number(one.accuracy, ACCURACY)


def choices(study: Study) -> list[Choice]:
    """The choice of each head of a study that was tuned; none of one that was not."""
    if study.tuning is None:
        return []
    from softmaxes.lab.heads.registry import entry_of_ours

    found = []
    for head in dict.fromkeys(run.head for run in study.runs):
        own = [one for one in study.tuning.tried if one.head == head]
        run = next(run for run in study.runs if run.head == head)
        taken = [one for one in own if (one.lr, one.knob) == (run.lr, run.knob)]
        if not taken:
            continue
        chosen = max(taken, key=lambda one: one.epochs)
        least = min(one.epochs for one in own)
        tried = sorted((one for one in own if one.epochs == least), key=lambda one: (one.lr, one.knob or math.nan))
        entry = entry_of_ours(head)
        knob = None if entry is None else entry.knob
        name = None if chosen.knob is None else "its own setting" if knob is None else knob.name
        rates = [one.lr for one in own]
        found.append(Choice(head, name, chosen, tried, chosen.lr in (min(rates), max(rates))))
    return found


def table(found: Sequence[Choice]) -> Grid:
    """A line for each head: its setting, what it came to after all epochs, and what else was tried."""
    rates = [Cell(f"{one.chosen.lr:g}") for one in found]
    own = [Cell() if one.chosen.knob is None else Cell(f"{one.knob} {one.chosen.knob:g}") for one in found]
    accuracies = [Cell(_percent(one.chosen)) for one in found]
    tried = [Cell(", ".join(f"{_setting(each)}: {_percent(each)}" for each in one.tried)) for one in found]
    first = f"Tried at first: learning rate (and own setting), held-out accuracy,{NBSP}%"
    columns = [
        Column(rates, "Learning rate", "learning rate"),
        Column(own, "Its own setting", "its own setting"),
        Column(accuracies, f"Held-out accuracy,{NBSP}%", "held-out accuracy, %"),
        Column(tried, first, look="words"),
    ]
    return Grid([Cell(one.head) for one in found], columns)


def _setting(one: Tried) -> str:
    return f"{one.lr:g}" if one.knob is None else f"{one.lr:g} and {one.knob:g}"


def explained(study: Study, found: Sequence[Choice], card: DataCard) -> str:
    """The rule by which settings were chosen, and where it came to its limits."""
    plan, run = study.tuning, study.runs[0]
    if plan is None or not found:
        return ""
    first, all_of_them = (
        sorted({which(one.epochs for one in plan.tried if one.head == choice.head) for choice in found})
        for which in (min, max)
    )
    text = (
        f"{plan.trials} settings of each head were trained for {_span(first)} of {_span(all_of_them)} epochs, the best "
        f"{plan.finalists} for all, at a seed of their own ({plan.seed}). What counts is the accuracy after the last "
        f"epoch on {_part(run, card)}, which no run is trained on. Nothing of the test set was read for it."
    )
    lost = [one.head for one in found if one.chosen.accuracy is None]
    if lost:
        text += f" Every setting of {listed(lost)} diverged; the first that was tried stands for it."
    edges = [one.head for one in found if one.at_edge and one.chosen.accuracy is not None]
    if edges:
        text += f" The best learning rate of {listed(edges)} is the lowest or highest that was tried."
    return text


def _part(run: Run, card: DataCard) -> str:
    if card.validation_counts is not None:
        return f"the {plural(sum(card.validation_counts), f'validation {card.example}')} of the data"
    return f"{100 * run.validation:g}\N{NO-BREAK SPACE}% of the training examples of each class"


def _span(numbers: Sequence[int]) -> str:
    return f"{numbers[0]}" if len(numbers) == 1 else f"{numbers[0]} to {numbers[-1]}"


def csv(study: Study) -> str:
    """Everything that was tried as CSV, every digit kept."""
    tried = study.tuning.tried if study.tuning else ()
    rows = [[one.head, one.lr, one.knob, one.epochs, one.accuracy] for one in tried]
    return as_csv(["head", "lr", "knob", "epochs", "held_out_accuracy"], rows)
