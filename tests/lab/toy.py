"""A small data set that a head can learn in a second: colour decides the group, brightness the class. And its runs."""

from typing import Any

import torch

from softmaxes.lab.data.dataset import Data
from softmaxes.lab.records import Result, Run


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
