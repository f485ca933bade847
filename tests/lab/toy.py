"""A small data set that a head can learn in a second: colour decides the group, brightness the class."""

import torch

from softmaxes.lab.data.dataset import Data
from softmaxes.lab.records import Run


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
