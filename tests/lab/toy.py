"""A small data set that a head can learn in a second: colour decides the group, brightness the class. And its runs."""

from pathlib import Path
from typing import Any

import torch

from softmaxes.lab.data.batches import lay_out
from softmaxes.lab.data.dataset import Data
from softmaxes.lab.data.ragged import Texts
from softmaxes.lab.records import Result, Run, Study
from softmaxes.lab.store import Store
from softmaxes.lab.training.train import train


def toy_data(classes: int = 6, train_per_class: int = 20, test_per_class: int = 5, seed: int = 0) -> Data:
    generator = torch.Generator().manual_seed(seed)

    def part(per_class: int) -> tuple[torch.Tensor, torch.Tensor]:
        labels = torch.arange(classes).repeat(per_class)
        images = torch.randint(0, 40, (len(labels), 3, 16, 16), generator=generator)
        for index, label in enumerate(labels.tolist()):
            images[index, label % 3] += 60 + 60 * (label // 3)
        return images.to(torch.uint8), labels

    train_inputs, train_labels = part(train_per_class)
    test_inputs, test_labels = part(test_per_class)
    return Data(
        name="toy",
        description=f"{classes} classes of coloured noise.",
        source="made by the test",
        train_inputs=train_inputs,
        train_labels=train_labels,
        test_inputs=test_inputs,
        test_labels=test_labels,
        class_names=[f"class {c}" for c in range(classes)],
        group_names=["red", "green", "blue"],
        group_of_class=[c % 3 for c in range(classes)],
    )


def toy_run(data: Data, head: str = "softmax", **fields: object) -> Run:
    setting = {"epochs": 3, "lr": 0.05, "channels": 4, "seed": 0} | fields
    return Run.model_validate({"head": head, "data": data.name, "fingerprint": data.fingerprint} | setting)


def trained(data: Data, folder: Path, *runs: Run) -> list[Result]:
    """Runs that are trained and kept as a comparison keeps them, its data set gone."""
    store, card = Store(folder), data.card()
    lay_out(data, store)
    store.save_study(Study(name="one", title="One", description="One.", runs=runs), card)
    results = [train(run, card, store) for run in runs]
    store.tensors().unlink()
    return results


def vectors(data: Data) -> Data:
    def flat(inputs: torch.Tensor) -> torch.Tensor:
        return inputs.float().mean((2, 3))

    fields = {name: flat(getattr(data, name)) for name in ("train_inputs", "test_inputs")}  # type: ignore[arg-type]
    return Data(**{**vars(data), **fields})


def texts(data: Data) -> Data:
    def words(labels: torch.Tensor) -> Texts:
        return Texts.of([f"{['red', 'green', 'blue'][label % 3]} {label} thing" for label in labels.tolist()])

    fields = {f"{part}_inputs": words(getattr(data, f"{part}_labels")) for part in ("train", "test")}
    return Data(**{**vars(data), **fields})


def numbers(result: Result) -> dict[str, Any]:
    """What must be the same at a repetition: all but times, memory and the machine."""
    fields = result.model_dump(mode="json", exclude={"peak_memory_mib", "machine"})
    for epoch in fields["epochs"]:
        del epoch["train_seconds"], epoch["test_seconds"]
    if fields["tree"] is not None:
        del fields["tree"]["seconds"]
    return fields


# What the study is made of that is trained once for all tests that only read one: the fixture `finished`.
FINISHED_DATA = ["--data", "glyphs:3", "--train-per-class", "10", "--test-per-class", "4"]
FINISHED_TRAINING = ["--epochs", "2", "--channels", "2"]
