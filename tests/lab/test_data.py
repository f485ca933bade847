"""What every data set must keep, and the card that the report reads."""

import base64
import dataclasses
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from softmaxes.lab import InputError
from softmaxes.lab.data import cache_dir
from softmaxes.lab.data.sheet import write_sheet
from toy import toy_data

DATA = toy_data()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train_inputs": DATA.train_inputs.float()}, "expected train images as uint8 .* got torch.float32"),
        (
            {"test_inputs": DATA.test_inputs[:, :1]},
            r"expected test images as uint8 .* got torch.uint8 \(30, 1, 16, 16\)",
        ),
        ({"train_labels": DATA.train_labels[:-1]}, r"expected 120 int64 train labels, got torch.int64 \(119,\)"),
        ({"train_labels": DATA.train_labels.int()}, "expected 120 int64 train labels, got torch.int32"),
        ({"test_labels": DATA.test_labels - 1}, r"expected test labels in 0..5, got -1"),
        ({"class_names": DATA.class_names[:5]}, r"expected train labels in 0..4, got 5"),
        (
            {"test_inputs": DATA.test_inputs[:0], "test_labels": DATA.test_labels[:0]},
            "expected at least one test image",
        ),
        ({"test_inputs": DATA.test_inputs[:, :, :8]}, r"training images' shape \(3, 16, 16\), got \(3, 8, 16\)"),
        ({"group_names": None}, "expected group names and groups of classes together"),
        ({"group_of_class": [0, 1, 2]}, "expected a group for each of 6 classes, got 3"),
        ({"group_of_class": [0, 1, 0, 1, 0, 1]}, r"expected every group 0..2 to have a class"),
    ],
)
def test_what_does_not_fit_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=f"made by the test: .*{message}"):
        dataclasses.replace(DATA, **changes)


def test_one_class_is_refused() -> None:
    images, labels = DATA.train_inputs[:1], DATA.train_labels[:1]
    with pytest.raises(InputError, match="expected at least 2 classes, got 1"):
        dataclasses.replace(
            DATA,
            train_inputs=images,
            test_inputs=images,
            train_labels=labels,
            test_labels=labels,
            class_names=["a"],
            group_names=None,
            group_of_class=None,
        )


def test_the_fingerprint_is_of_every_image_and_label() -> None:
    assert toy_data().fingerprint == DATA.fingerprint
    pixel = DATA.test_inputs.clone()
    pixel[-1, -1, -1, -1] += 1
    label = DATA.train_labels.clone()
    label[0] = 1
    others: list[dict[str, Any]] = [
        {"test_inputs": pixel},
        {"train_labels": label},
        {"class_names": [*DATA.class_names[:5], "other"]},
        {"group_names": ["red", "green", "other"]},
        {"group_of_class": [0, 0, 0, 1, 1, 2]},
    ]
    assert len({dataclasses.replace(DATA, **change).fingerprint for change in others} | {DATA.fingerprint}) == 6


def test_samples_are_of_as_many_classes_as_can_be() -> None:
    assert sorted(DATA.test_labels[DATA.samples()].tolist()) == sorted(2 * list(range(6)))
    assert sorted(DATA.test_labels[DATA.samples(4)].unique().tolist()) == sorted(
        DATA.test_labels[DATA.samples(4)].tolist()
    )
    assert DATA.samples().tolist() == toy_data().samples().tolist()
    assert len(set(DATA.samples(100).tolist())) == 30


def test_the_card() -> None:
    card = dataclasses.replace(DATA, source="/home/someone/images").card()
    assert card.source == "images"
    assert dataclasses.replace(DATA, source="https://host/data.tar.gz").card().source == "https://host/data.tar.gz"
    assert card.train_counts == (20,) * 6
    assert card.test_counts == (5,) * 6
    assert card.image_shape == (3, 16, 16)
    for sample, index in zip(card.samples, DATA.samples().tolist(), strict=True):
        assert sample.target == DATA.test_labels[index]
        with Image.open(io.BytesIO(base64.b64decode(sample.png))) as image:
            assert torch.equal(torch.from_numpy(np.array(image)).permute(2, 0, 1), DATA.test_inputs[index])


def test_the_sheet_shows_images_of_each_class(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "sheet.png"
    write_sheet(DATA, path)
    with Image.open(path) as image:
        pixels = torch.from_numpy(np.array(image.convert("RGB")))
    for row, first in enumerate(range(6)):  # the first image of a class is the first of its row
        cell = pixels[4 + row * 52 : 52 + row * 52 : 3, 260:308:3]
        assert torch.equal(cell.permute(2, 0, 1), DATA.train_inputs[first])


def test_the_cache_can_be_moved(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SOFTMAXES_CACHE", str(tmp_path))
    assert cache_dir() == tmp_path
    monkeypatch.delenv("SOFTMAXES_CACHE")
    assert cache_dir().name == "softmaxes"
