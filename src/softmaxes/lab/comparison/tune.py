"""The learning rate, and the one setting more that a head may declare, chosen with the same effort for every head."""

import math
from collections.abc import Iterable
from typing import NamedTuple

from rich.console import Console
from scipy.stats import qmc

from softmaxes.lab.comparison.execute import execute
from softmaxes.lab.data.dataset import Data
from softmaxes.lab.devices import Devices
from softmaxes.lab.heads.registry import entry_of
from softmaxes.lab.records import Result, Run, Study, Tried, Tuning
from softmaxes.lab.store import Store

RATES = (0.02, 2.0)  # learning rates that are tried, evenly on a logarithmic scale
FIRST = 0.4  # of a head's epochs, that every setting is trained for


class Setting(NamedTuple):
    """What is tried of a head."""

    lr: float
    knob: float | None


def settings(head: str, trials: int) -> list[Setting]:
    """The settings of a head that are tried, in order: as many for each head, whatever it has to tune.

    `RATES` is cut into equal parts on a logarithmic scale, one a trial; the learning rates are their middles. Where a
    head declares a setting of its own, the pairs are the first points of Halton's sequence in the unit square (its
    learning rates from powers of 1/2, its other settings from powers of 1/3), spread over both ranges on logarithmic
    scales.
    """
    knob = entry_of(head).knob
    if knob is None:
        return [Setting(_between(*RATES, (trial + 0.5) / trials), None) for trial in range(trials)]
    points = qmc.Halton(d=2, scramble=False).random(trials + 1)[1:]  # the first is the corner
    return [Setting(_between(*RATES, float(x)), _between(knob.low, knob.high, float(y))) for x, y in points]


def _between(low: float, high: float, share: float) -> float:
    return float(f"{low * (high / low) ** share:.4g}")


def choose(
    study: Study,
    data: Data,
    store: Store,
    jobs: int | None,
    devices: Devices,
    console: Console,
    cluster: str | None = None,
) -> Study:
    """Choose the settings of each head of a study, by runs of their own, and give the study with them.

    Every setting is trained for two fifths of the head's epochs, and the best of each head for all of them; each such
    run is whole in itself, its learning rate falling to the end as a longer one's would. What counts is the accuracy
    after the last epoch on the examples that the study holds out; of equals the lower NLL. Nothing of the test set is
    read. The runs lie in the folder ``tuning`` of the store; those that are there are not run again.

    Args:
        study: what is to be compared; `Study.tuning` says how hard to try.
        data: what it is trained on.
        store: of the study; the caller has its lock.
        jobs: as `execute` has it, and so `devices` and `cluster`.
        devices: see there.
        console: told what is chosen.
        cluster: see there.

    Raises:
        InputError: as `execute`.
    """
    plan = study.tuning
    if plan is None or any(run.validation == 0 for run in study.runs):
        raise ValueError("expected a study with a tuning and examples held out, got one without.")
    heads = list(dict.fromkeys(run.head for run in study.runs))
    whole = {head: next(run for run in study.runs if run.head == head) for head in heads}
    least = max((entry_of(head).least_epochs for head in heads), default=1)
    first = {head: min(run.epochs, max(least, math.ceil(FIRST * run.epochs))) for head, run in whole.items()}
    runs = [
        _trial(whole[head], setting, plan, first[head])
        for trial in range(plan.trials)  # trial by trial, so that a cut shows all heads
        for head in heads
        for setting in settings(head, plan.trials)[trial : trial + 1]
    ]
    trial_store = Store(store.directory / "tuning")
    trials = Study(
        name=f"{study.name}-tuning",
        title=f"Tuning: {study.title}",
        description="Settings that were tried, scored on training examples that are held out.",
        runs=tuple(runs),
    )
    with trial_store.lock():
        results = execute(trials, data, trial_store, jobs, devices, console, cluster)
        best = _best(results, plan.finalists)
        last = [run.model_copy(update={"epochs": whole[run.head].epochs}) for head in heads for run in best[head]]
        trials = trials.model_copy(update={"runs": tuple(dict.fromkeys([*runs, *last]))})
        results = execute(trials, data, trial_store, jobs, devices, console, cluster)
    diverged = set(heads) - {result.run.head for result in results if result.epochs[-1].scores is not None}
    chosen = {head: runs[0] for head, runs in _best([r for r in results if r.run in last], 1).items()}
    for head, run in chosen.items():
        knob = entry_of(head).knob
        own = f", {knob.name} {run.knob:g}" if knob is not None and run.knob is not None else ""
        lost = " (every setting that was tried diverged)" if head in diverged else ""
        console.print(f"{head}: learning rate {run.lr:g}{own}{lost}", highlight=False, markup=False)
    return study.model_copy(
        update={
            "runs": tuple(
                run.model_copy(update={"lr": chosen[run.head].lr, "knob": chosen[run.head].knob}) for run in study.runs
            ),
            "tuning": plan.model_copy(update={"tried": tuple(_tried(result) for result in results)}),
        }
    )


def _trial(run: Run, setting: Setting, plan: Tuning, epochs: int) -> Run:
    return run.model_copy(update={"seed": plan.seed, "scored_on": "validation", "epochs": epochs, **setting._asdict()})


def _best(results: Iterable[Result], number: int) -> dict[str, list[Run]]:
    """Of each head the runs that came to most, the best first."""
    by_head: dict[str, list[Result]] = {}
    for result in results:
        by_head.setdefault(result.run.head, []).append(result)
    return {head: [one.run for one in sorted(own, key=_rank)[:number]] for head, own in by_head.items()}


def _rank(result: Result) -> tuple[float, float]:
    scores = result.epochs[-1].scores
    return (math.inf, math.inf) if scores is None else (-scores.accuracy, scores.nll)


def _tried(result: Result) -> Tried:
    scores = result.epochs[-1].scores
    run = result.run
    return Tried(
        head=run.head, lr=run.lr, knob=run.knob, epochs=run.epochs, accuracy=None if scores is None else scores.accuracy
    )
