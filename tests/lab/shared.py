"""What processes that share a run do, for the test of several devices."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from safetensors.torch import load_file

from leaving import leave
from softmaxes.lab.data.batches import lay_out
from softmaxes.lab.data.dataset import Data
from softmaxes.lab.devices import Devices, Strategy
from softmaxes.lab.records import Run
from softmaxes.lab.store import Store
from softmaxes.lab.training.places import meet
from softmaxes.lab.training.train import Progress, train
from toy import numbers, texts, toy_data, toy_run, vectors

RECIPE: dict[str, Any] = {
    "precision": "64-true",  # so that all that differs is seen
    "batch_size": 17,  # the last batch of 103 examples has one
    "validation": 0.15,
    "label_smoothing": 0.1,
    "flips": True,
    "crops": 1,
    "epochs": 2,
}
TOLERANCE = 1e-7
DATA: dict[str, Callable[[], Data]] = {
    "images": toy_data,
    "vectors": lambda: vectors(toy_data()),
    "texts": lambda: texts(toy_data()),
}
PLAIN = {name: value for name, value in RECIPE.items() if name not in ("flips", "crops")} | {"channels": 10}  # default
OF: dict[str, dict[str, Any]] = {
    "images": RECIPE,
    "vectors": PLAIN,
    "texts": PLAIN | {"optimizer": "adagrad", "lr": 0.5, "initial_accumulator": 1e-7},
}


class Case(NamedTuple):
    """A run, and how several devices share it."""

    strategy: Strategy
    head: str
    data: str = "images"
    optimizer: str | None = None

    @property
    def name(self) -> str:
        """As a folder is called."""
        return f"{self.strategy}-{self.head.replace(':', '-')}-{self.data}-{self.optimizer}"

    def run(self) -> Run:
        """What is trained."""
        other: dict[str, Any] = {} if self.optimizer is None else {"optimizer": self.optimizer, "lr": 0.01}
        other |= {"epochs": 4} if "grown" in self.head else {}  # it learns its tree between them
        return toy_run(DATA[self.data](), self.head, **OF[self.data] | other)


CASES = [
    *(Case("ddp", head) for head in ("softmax", "gumbel", "hierarchical", "adaptive", "sampled", "neighbor-sampled")),
    *(Case("ddp", head) for head in ("hierarchical-grown", "softmax-hidden", "arcface")),
    *(Case("sharded-head", head) for head in ("softmax", "cosface", "adaptive", "sampled", "hierarchical", "nce")),
    *(Case("fsdp", head) for head in ("softmax", "hierarchical", "gumbel", "adaptive")),
    *(Case(strategy, "softmax", "texts") for strategy in ("ddp", "sharded-head")),
    *(Case(strategy, "hierarchical", "vectors") for strategy in ("ddp", "sharded-head", "fsdp")),
    *(Case(strategy, "softmax", "images", "adamw") for strategy in ("ddp", "sharded-head", "fsdp")),
]


class CutError(Exception):
    """Training is cut off."""


def cut_off(progress: Progress) -> None:
    """Cut a run off in its second epoch."""
    if progress.step == 10:
        raise CutError


def folder_of(folder: Path, case: Case, size: int, what: str = "") -> Store:
    """Where the run of a case is stored, with its data laid out by whom it is asked."""
    return Store(folder / f"{case.name}-{size}{what}")


def laid(store: Store, case: Case) -> Store:
    """The store, with the data in it."""
    lay_out(DATA[case.data](), store)
    return store


def same(found: Store, expected: Store, case: Case) -> None:
    """Refuse a run whose record or weights differ by more than rounding."""
    run = case.run()
    (one, other) = (store.result(run) for store in (found, expected))
    assert one is not None
    assert other is not None
    _close(numbers(one), numbers(other), case.name)
    weights, others = (load_file(store.weights(run)) for store in (found, expected))
    assert weights.keys() == others.keys()
    for name, tensor in weights.items():
        torch.testing.assert_close(
            tensor, others[name], rtol=1e-6, atol=TOLERANCE, msg=f"{case.name}: {name}: {tensor} {others[name]}"
        )


def _close(found: object, expected: object, where: str) -> None:
    if isinstance(found, dict) and isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for key, value in found.items():
            _close(value, expected[key], f"{where}.{key}")
    elif isinstance(found, list) and isinstance(expected, list):
        assert len(found) == len(expected), where
        for place, (one, other) in enumerate(zip(found, expected, strict=True)):
            _close(one, other, f"{where}[{place}]")
    elif isinstance(found, float) and isinstance(expected, float):
        relative = 1e-3 if ".scaled." in where else 1e-6  # a temperature is fitted, to some digits
        assert abs(found - expected) <= relative * abs(expected) + TOLERANCE, (where, found, expected)
    else:
        assert found == expected, (where, found, expected)


def of_size(size: int) -> list[Case]:
    """The cases that are tried with a number of devices: all of them with two."""
    return CASES if size == 2 else CASES[1::4]


def process(rank: int, size: int, folder: str, meeting: str) -> None:
    """Train cases, as one of several devices; half of them are cut off and go on."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    meet(Devices("cpu", size), rank, meeting)
    for place, case in enumerate(of_size(size)):
        store, card = folder_of(Path(folder), case, size), DATA[case.data]().card()
        devices = Devices("cpu", size, case.strategy)
        if rank == 0:
            laid(store, case)
        dist.barrier()
        if place % 2 or case.optimizer is not None:
            try:
                train(case.run(), card, store, devices, watch=cut_off)
            except CutError:
                dist.barrier()
        assert (train(case.run(), card, store, devices) is None) == (rank > 0)
    leave()
