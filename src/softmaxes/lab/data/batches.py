"""Batches: a data set laid out for the processes that train, which examples are held out, and how rows become a batch.

Images lie with their channels last, as convolutions take them; here alone is the order of channels changed.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from softmaxes.files import write_whole
from softmaxes.lab.data.dataset import Data, first_rows
from softmaxes.lab.data.features import mapped
from softmaxes.lab.data.npy import mapped_items
from softmaxes.lab.data.ragged import LabelSets, Ragged, SparseVectors, Texts
from softmaxes.lab.recipe import Draws
from softmaxes.lab.records import Run
from softmaxes.lab.seeds import stream
from softmaxes.lab.store import Store

Inputs = Tensor | Texts | SparseVectors

TEST_BATCH = 500  # examples of a batch at most, where nothing is trained


@dataclass(frozen=True)
class Examples:
    """Inputs with their labels, and the rows of them that are used.

    Attributes:
        inputs: images, uint8 (N, height, width, channels), or vectors (N, D), on any device; or texts or sparse
            vectors. All but images may be mapped from a file.
        labels: (N,), on the device that batches are brought to.
        rows: numbers of the examples that are used, (R,), on that device.
        label_sets: all labels of each example, where some have several and all count.
    """

    inputs: Inputs
    labels: Tensor
    rows: Tensor
    label_sets: LabelSets | None = None

    @classmethod
    def of(cls, inputs: Inputs, labels: Tensor) -> "Examples":
        """All examples: images as (N, channels, height, width), vectors or texts."""
        return cls(channels_last(inputs), labels, torch.arange(len(labels), device=labels.device))

    def __len__(self) -> int:
        return len(self.rows)

    def only(self, rows: Tensor) -> "Examples":
        """The same inputs, of which other rows are used."""
        return replace(self, rows=rows)

    def batch(self, rows: Tensor, draws: Draws | None = None) -> Tensor:
        """Some inputs by their rows, (B,); images as (B, channels, height, width), changed as was drawn for them.

        Texts are their bytes, (B, L), with zeros after each; sparse vectors a sparse matrix, (B, D).
        """
        if isinstance(self.inputs, Ragged):
            return self.inputs.batch(rows.cpu()).to(rows.device)
        some = rows.to(self.inputs.device)
        whole = self.inputs.flatten(1)  # an example is a row of memory, which is quickest to copy
        taken = whole.index_select(0, some).view(-1, *self.inputs.shape[1:]).to(rows.device)
        return (
            taken if taken.dim() == 2 else (taken if draws is None else draws.images(taken, rows)).permute(0, 3, 1, 2)
        )

    def all_labels(self, rows: Tensor) -> Tensor | None:
        """All labels of some examples, (B, L), with -1 after each; none where all examples have one."""
        return None if self.label_sets is None else self.label_sets.batch(rows.cpu()).to(rows.device)

    def batches(self, size: int = TEST_BATCH) -> Iterator[tuple[Tensor, Tensor]]:
        """Inputs and labels of all rows, in their order."""
        for some in torch.split(self.rows, size):
            yield self.batch(some), self.labels[some]

    def shuffled(self, run: Run, epoch: int) -> tuple[Tensor, ...]:
        """The rows of each batch of an epoch. Their order depends on the seed and never on the head."""
        order = torch.randperm(len(self), generator=torch.Generator().manual_seed(stream(run.seed, "order", epoch)))
        return torch.split(self.rows[order.to(self.rows.device)], run.batch_size)


class Parts(NamedTuple):
    """A data set as a run sees it."""

    train: Examples
    held_out: Examples  # of the training set; none are trained on
    test: Examples
    samples: Tensor  # rows of the test set that the report shows


def channels_last(inputs: Inputs) -> Inputs:
    """Images, (N, channels, height, width), as (N, height, width, channels); all others as they are."""
    return inputs.permute(0, 2, 3, 1).contiguous() if isinstance(inputs, Tensor) and inputs.dim() == 4 else inputs


def lay_out(data: Data, store: Store) -> None:
    """Put a data set where `laid_out` reads it; of inputs that are mapped from files only the files' names."""
    tensors = {"train_labels": data.train_labels, "test_labels": data.test_labels, "samples": data.samples()}
    for part, inputs in (("train", data.train_inputs), ("test", data.test_inputs)):
        laid = channels_last(inputs) if data.files is None else inputs
        if isinstance(laid, Ragged):
            tensors |= {f"{part}_{name}": places for name, places in laid.places.items()}
            laid = laid.items
        if data.files is None:
            tensors[f"{part}_inputs"] = laid
    if (sets := data.test_label_sets) is not None:
        tensors |= {"sets_classes": sets.classes} | {f"sets_{name}": places for name, places in sets.places.items()}
    for name in ("validation", "train_examples"):
        if (part_of := getattr(data, name)) is not None:
            tensors[name] = part_of
    files = {f"{part}_inputs": str(path) for part, path in (data.files or {}).items()}
    seen: set[int] = set()
    for name, tensor in tensors.items():  # the file wants each to lie apart; two parts may be one tensor
        place = tensor.untyped_storage().data_ptr()
        tensors[name] = tensor.clone() if place in seen else tensor.contiguous()
        seen.add(place)
    write_whole(store.tensors(), lambda part: save_file(tensors, part, files))


def laid_out(run: Run, store: Store, device: torch.device) -> Parts:
    """What `lay_out` put there, for a run, on its device.

    Inputs that are mapped from files stay there, as they may be more than the memory holds: the rows of a batch are
    read when they are needed. Texts and sparse vectors stay in the memory of the host.
    """
    with safe_open(store.tensors(), framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        files = file.metadata() or {}
    known = (tensors.get(name) for name in ("validation", "train_examples"))
    kept, held_out = held_out_rows(run, tensors["train_labels"], *known)
    inputs: dict[str, Inputs] = {}
    for part in ("train", "test"):
        name = f"{part}_inputs"
        path = Path(files[name]) if name in files else None
        ends, begins, size = (tensors.get(f"{part}_{what}") for what in ("ends", "begins", "size"))
        if ends is None:
            inputs[part] = tensors[name].to(device) if path is None else mapped(path)
            continue
        kind = Texts if size is None else SparseVectors
        items = tensors[name] if path is None else mapped_items(path, kind.ITEMS)
        inputs[part] = Texts(items, ends, begins) if size is None else SparseVectors(items, ends, int(size), begins)
    sets = None
    if "sets_classes" in tensors:
        sets = LabelSets(tensors["sets_classes"], tensors["sets_ends"], tensors.get("sets_begins"))
    labels = {part: tensors[f"{part}_labels"].to(device) for part in ("train", "test")}
    train = Examples(inputs["train"], labels["train"], kept.to(device))
    every = torch.arange(len(labels["test"]), device=device)
    test = Examples(inputs["test"], labels["test"], every, sets)
    return Parts(train, train.only(held_out.to(device)), test, tensors["samples"])


def held_out_rows(
    run: Run, labels: Tensor, validation: Tensor | None = None, examples: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The rows of the training set to train on, and those that are held out; the same for every head and seed.

    An example of several labels is held out whole: no row of it is trained on, and its first label is asked for, as in
    the test.

    Args:
        run: says which share of each class is held out.
        labels: of the training set, (N,).
        validation: the rows that the data bring as a validation part, (N,) bool: these are held out and no others.
        examples: the example that each row is of, (N,), where some have several labels.
    """
    if validation is not None:
        return (~validation).nonzero().flatten(), validation.nonzero().flatten()
    if examples is not None:
        first = first_rows(examples)
        kept, held_out = held_out_rows(run, labels[first])
        whole = torch.zeros(len(first), dtype=torch.bool).index_fill(0, kept, True)
        return whole[examples].nonzero().flatten(), first[held_out]
    shuffled = torch.randperm(len(labels), generator=torch.Generator().manual_seed(stream("validation")))
    by_class = shuffled[labels[shuffled].argsort(stable=True)]
    counts = labels.bincount()
    most = torch.tensor([run.held_out(count) for count in counts.tolist()])
    place = torch.arange(len(labels)) - (counts.cumsum(0) - counts).repeat_interleave(counts)  # within its class
    held_out = place < most.repeat_interleave(counts)
    return by_class[~held_out].sort().values, by_class[held_out].sort().values
