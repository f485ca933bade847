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

from softmaxes.files import check_out
from softmaxes.lab import InputError, compare
from softmaxes.lab.data.batches import laid_out, lay_out
from softmaxes.lab.data.cache import cache_dir
from softmaxes.lab.data.dataset import Data
from softmaxes.lab.data.long_tail import long_tail
from softmaxes.lab.data.sheet import MARK, write_sheet
from softmaxes.lab.data.sources import load_data
from softmaxes.lab.store import Store
from toy import toy_data, toy_run

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
        ({"class_names": [*"abcde", "f\x1b[31m"]}, r"expected class names of printable characters, got 'f\\x1b\[31m'"),
        ({"class_names": [*"abcde", "\ud800" * 300]}, r"class names of printable characters, got '\\ud800[^.]{,60}\.$"),
        ({"group_names": [*"ab", "c\nd"]}, r"expected group names of printable characters, got 'c\\nd'"),
        ({"name": "\u202egnp"}, r"expected a name of printable characters, got '\\u202egnp'"),
        ({"class_names": [*"abcde", 5]}, r"expected class names as strings, got int\.$"),
        ({"train_inputs": DATA.train_inputs.numpy()}, r"expected train_inputs as a tensor, got ndarray\.$"),
        ({"test_labels": DATA.test_labels.tolist()}, r"expected test_labels as a tensor, got list\.$"),
        ({"validation": DATA.train_labels.numpy() == 1}, r"expected validation as a tensor, got ndarray\.$"),
        ({"group_names": None}, "expected group names and groups of classes together"),
        ({"group_of_class": [0, 1, 2]}, "expected a group for each of 6 classes, got 3"),
        ({"group_of_class": [0, 1, 0, 1, 0, 1]}, r"expected every group 0..2 to have a class"),
    ],
)
def test_what_does_not_fit_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=f"^(toy|\ufffdgnp): .*{message}"):
        dataclasses.replace(DATA, **changes)


def test_classes_of_one_name_are_refused() -> None:
    data = dataclasses.replace(DATA, class_names=[*"abcdeb"])
    with pytest.raises(InputError, match=r"^toy: expected class names that differ, got 'b' for classes 1 and 5\.$"):
        data.check_distinct()
    with pytest.raises(InputError, match=r"^toy: expected class names that differ"):
        compare(data, heads=["softmax"])


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
    assert check_out(path, MARK) == path  # it is known as one
    with Image.open(path) as image:
        pixels = torch.from_numpy(np.array(image.convert("RGB")))
    for row, first in enumerate(range(6)):  # the first image of a class is the first of its row
        cell = pixels[4 + row * 52 : 52 + row * 52 : 3, 260:308:3]
        assert torch.equal(cell.permute(2, 0, 1), DATA.train_inputs[first])


@pytest.mark.parametrize("classes", ["9" * 5000, "9" * 4000, "1" * 10, "-1", "+5", "1_0", "١٢", "²", "1.5", "al", " 5"])
def test_a_number_of_glyphs_is_a_few_digits(classes: str) -> None:
    message = r"^--data: expected glyphs or glyphs:CLASSES, e\.g\. glyphs:1000 or glyphs:all, got glyphs:.{1,80}\.$"
    with pytest.raises(InputError, match=message):
        load_data(f"glyphs:{classes}")


def test_the_cache_can_be_moved(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SOFTMAXES_CACHE", str(tmp_path))
    assert cache_dir() == tmp_path
    monkeypatch.delenv("SOFTMAXES_CACHE")
    assert cache_dir().name == "softmaxes"


def numbered(counts: list[int]) -> Data:
    """Vectors of one number each, which is their row."""
    labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    labels = labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(1))]
    return dataclasses.replace(
        DATA,
        train_inputs=torch.arange(len(labels)).float().unsqueeze(1),
        train_labels=labels,
        test_inputs=torch.arange(len(counts)).float().unsqueeze(1),
        test_labels=torch.arange(len(counts)),
        class_names=list(map(str, range(len(counts)))),
        group_names=None,
        group_of_class=None,
    )


@pytest.mark.parametrize(
    ("classes", "each", "ratio", "examples", "rarest"),
    [(100, 500, 100, 10_847, 5), (100, 500, 50, 12_608, 10), (10, 5000, 100, 12_406, 50), (10, 50, 1000, 95, 1)],
)
def test_a_long_tail_has_the_published_counts(
    classes: int, each: int, ratio: float, examples: int, rarest: int
) -> None:
    """Those of CIFAR-100-LT and CIFAR-10-LT; and where the law leaves less than one example, one."""
    data = numbered([each] * classes)
    tail = long_tail(data, ratio)
    counts = sorted(tail.card().train_counts, reverse=True)
    assert (len(tail.train_labels), counts[0], counts[-1]) == (examples, each, rarest)
    assert counts == [max(1, int(each / ratio ** (rank / (classes - 1)))) for rank in range(classes)]
    assert list(tail.card().train_counts) != counts  # the ranks are drawn
    assert torch.equal(tail.test_inputs, data.test_inputs)
    assert torch.equal(tail.test_labels, data.test_labels)


def test_a_long_tail_is_the_same_at_every_repetition_and_under_a_name_of_its_own() -> None:
    data = numbered([50] * 10)
    tail = long_tail(data, 20)
    assert (tail.name, tail.card().name) == ("toy:tail-20", "toy:tail-20")
    again = long_tail(numbered([50] * 10), 20)
    assert again.fingerprint == tail.fingerprint
    assert torch.equal(again.train_inputs, tail.train_inputs)
    others = [data, long_tail(data, 20, seed=1), long_tail(data, 21)]
    assert len({other.fingerprint for other in (tail, *others)}) == 4
    rows = tail.train_inputs.squeeze(1).long()
    assert torch.equal(tail.train_labels, data.train_labels[rows])  # an example keeps its label
    assert torch.equal(rows, rows.unique())  # none is taken twice, all stay in order
    assert set(rows.tolist()) < set(long_tail(data, 5).train_inputs.squeeze(1).long().tolist())


def test_a_long_tail_of_uneven_classes_is_a_share_of_each() -> None:
    before = [100, 1, 0, 30, 7, 100, 100, 3]
    tail = long_tail(numbered(before), 10)
    order = torch.randperm(8, generator=torch.Generator().manual_seed(0)).tolist()
    expected = [max(min(count, 1), int(count / 10 ** (rank / 7))) for count, rank in zip(before, order, strict=True)]
    assert list(tail.card().train_counts) == expected
    assert expected[order.index(0)] == before[order.index(0)]


@pytest.mark.parametrize("ratio", [1, 0.5, -3, torch.nan, torch.inf])
def test_no_long_tail_without_a_ratio(ratio: float) -> None:
    with pytest.raises(InputError, match=f"--long-tail: expected a number above 1, got {ratio:g}"):
        long_tail(DATA, ratio)


def test_no_long_tail_of_mapped_files() -> None:
    data = dataclasses.replace(numbered([5, 5]), files={"train": Path("a.npy"), "test": Path("b.npy")})
    with pytest.raises(InputError, match=r"--long-tail: expected data that are read into memory, got a\.npy, which"):
        long_tail(data, 2)


def test_parts_that_share_their_memory_are_laid_out(tmp_path: Path) -> None:
    """The same tensors to train and to test on, or parts of one."""
    data = toy_data()
    whole = torch.randn(200, 5)
    labels = torch.arange(200) % 6
    store = Store(tmp_path)
    for train_inputs, test_inputs in ((whole, whole), (whole[:150], whole[150:]), (whole[:, :3], whole[:, 2:])):
        part = dataclasses.replace(
            data,
            train_inputs=train_inputs,
            test_inputs=test_inputs,
            train_labels=labels[: len(train_inputs)],
            test_labels=labels[: len(test_inputs)],
        )
        lay_out(part, store)
        found = laid_out(toy_run(part), store, torch.device("cpu"))
        assert found.train.inputs.equal(train_inputs)
        assert found.test.inputs.equal(test_inputs)
        assert found.test.labels.equal(part.test_labels)
