"""A data set for the lab: images, vectors or texts, checked labels, names, counts, and groups if known."""

import base64
import hashlib
import io
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from softmaxes.files import InputError
from softmaxes.lab.data.ragged import LabelSets, Ragged, SparseVectors, Texts
from softmaxes.lab.machine import free_memory
from softmaxes.lab.records import DataCard, Sample, level_sizes
from softmaxes.names import printable

if TYPE_CHECKING:
    from PIL import Image


CHUNK = 2**22  # numbers that are looked at together where there may be more than the memory holds
COPIES = 2  # of all examples that are in memory at a time: training takes images with their channels last
SHOWN = 80  # characters of a stranger's text in a message
TENSORS = {  # the fields that are tensors, and what else they may be
    "train_inputs": (Tensor, Texts, SparseVectors),
    "train_labels": (Tensor,),
    "test_inputs": (Tensor, Texts, SparseVectors),
    "test_labels": (Tensor,),
    "validation": (Tensor,),
    "train_examples": (Tensor,),
}
VECTOR_TYPES = (torch.float16, torch.float32, torch.float64)


@dataclass(frozen=True)
class Data:
    """A classification data set in memory, or mapped into it from files, checked when it is made.

    Attributes:
        name: what tables call it, e.g. ``glyphs`` or ``standin-100``.
        description: one sentence for the report.
        source: where it came from: a path, an address, or ``rendered``.
        train_inputs: images, uint8 (N, channels, height, width); or vectors, floating point (N, D), finite in float32;
            or texts, or sparse vectors of numbers that are finite.
        train_labels: int64, (N,), in ``0..num_classes - 1``.
        test_inputs: as `train_inputs`.
        test_labels: as `train_labels`.
        class_names: one a class.
        group_names: super-classes, if the data knows them.
        group_of_class: for each class the index of its super-class, derived from the data's own labels.
        coarser_groups: levels above the groups, from fine to coarse: for each group of the level below the number of
            its own one.
        coarser_names: the names of the groups of each of these levels.
        files: the .npy files of ``train`` and ``test`` that the inputs are mapped from, if they are: the processes that
            train read them where they lie. Of texts they hold the bytes, of sparse vectors the pairs.
        test_label_sets: all labels of each test example, its target first, where some examples have several.
        validation: which rows of the training set are a validation part that the data bring, (N,) bool: no run is
            trained on them.
        train_examples: the example that each row of the training set is of, (N,) int64, ascending from 0, where some
            examples have several labels and are as many rows, the first label's first.
        class_pictures: of each class the character that its name begins with, as a PNG file whose opacity draws it.
        next_word: whether the class of a text is the word after it.
    """

    name: str
    description: str
    source: str
    train_inputs: Tensor | Texts | SparseVectors
    train_labels: Tensor
    test_inputs: Tensor | Texts | SparseVectors
    test_labels: Tensor
    class_names: Sequence[str]
    group_names: Sequence[str] | None = None
    group_of_class: Sequence[int] | None = None
    coarser_groups: Sequence[Sequence[int]] = ()
    coarser_names: Sequence[Sequence[str]] = ()
    files: Mapping[str, Path] | None = None
    test_label_sets: LabelSets | None = None
    class_pictures: Sequence[bytes] = ()
    validation: Tensor | None = None
    train_examples: Tensor | None = None
    next_word: bool = False

    def __post_init__(self) -> None:
        self._check_types()
        self._check_names()
        for part in ("train", "test"):
            inputs, labels = getattr(self, f"{part}_inputs"), getattr(self, f"{part}_labels")
            if any(isinstance(inputs, one) is not isinstance(self.train_inputs, one) for one in (Texts, SparseVectors)):
                raise InputError(f"{self._place(part)}: expected {part} {self.kind}s, as for training, got others.")
            self._check_inputs(part, inputs)
            if labels.dtype != torch.int64 or labels.shape != (len(inputs),):
                raise InputError(
                    f"{self._where}: expected {len(inputs)} int64 {part} labels, "
                    f"got {labels.dtype} {tuple(labels.shape)}."
                )
            if len(inputs) == 0:
                raise InputError(f"{self._where}: expected at least one {part} {self.kind}, got none.")
            low, high = int(labels.min()), int(labels.max())
            if low < 0 or high >= self.num_classes:
                raise InputError(
                    f"{self._where}: expected {part} labels in 0..{self.num_classes - 1}, "
                    f"got {low if low < 0 else high}."
                )
        if self.num_classes < 2:
            raise InputError(f"{self._where}: expected at least 2 classes, got {self.num_classes}.")
        shapes = [
            (one.size,) if isinstance(one, SparseVectors) else tuple(one.shape[1:])
            for one in (self.train_inputs, self.test_inputs)
            if not isinstance(one, Texts)
        ]
        if len(set(shapes)) > 1:
            raise InputError(
                f"{self._where}: expected test {self.kind}s of the training {self.kind}s' shape {shapes[0]}, "
                f"got {shapes[1]}."
            )
        self._check_label_sets()
        self._check_parts()
        if len(self.class_pictures) not in (0, self.num_classes):
            raise InputError(
                f"{self._where}: expected a picture for each of {self.num_classes} classes, "
                f"got {len(self.class_pictures)}."
            )
        for part in ("train", "test") if self.kind == "vector" else ():
            self._check_finite(part)
        if (self.group_names is None) != (self.group_of_class is None):
            raise InputError(f"{self._where}: expected group names and groups of classes together, got one of them.")
        if self.group_names is not None and self.group_of_class is not None:
            if len(self.group_of_class) != self.num_classes:
                raise InputError(
                    f"{self._where}: expected a group for each of {self.num_classes} classes, "
                    f"got {len(self.group_of_class)}."
                )
            if set(self.group_of_class) != set(range(len(self.group_names))):
                raise InputError(f"{self._where}: expected every group 0..{len(self.group_names) - 1} to have a class.")
        try:
            sizes = level_sizes(len(self.group_names or ()), self.coarser_groups)
        except ValueError as error:
            raise InputError(f"{self._where}: {error}.") from None
        if [len(names) for names in self.coarser_names] != sizes:
            raise InputError(f"{self._where}: expected a name for each group of each coarser level.")

    def _check_types(self) -> None:
        """Refuse what is no tensor, as an array, or no text."""
        for field in ("name", "description", "source"):
            if not isinstance(value := getattr(self, field), str):
                raise InputError(f"Data: expected {field} as a string, got {type(value).__name__}.")
        for field, kinds in TENSORS.items():
            value = getattr(self, field)
            if not isinstance(value, kinds) and not (value is None and field in ("validation", "train_examples")):
                raise InputError(f"{self._where}: expected {field} as a tensor, got {type(value).__name__}.")

    def _check_names(self) -> None:
        """Refuse a name that a table or a terminal cannot show."""
        named = {"a name": (self.name,), "class names": self.class_names, "group names": self.group_names or ()}
        named["names of coarser groups"] = tuple(chain.from_iterable(self.coarser_names))
        named["a source"] = (self.source if "://" in self.source else Path(self.source).name,)
        for what, names in named.items():
            for name in names:
                if not isinstance(name, str):
                    raise InputError(f"{self._where}: expected {what} as strings, got {type(name).__name__}.")
                if not name.isprintable():
                    raise InputError(
                        f"{self._where}: expected {what} of printable characters, got {printable(ascii(name), 60)}."
                    )

    def check_distinct(self) -> None:
        """Refuse classes of one name, in data of the user's own; two cities of *geonames* may have one."""
        class_of: dict[str, int] = {}
        for number, name in enumerate(self.class_names):
            if (other := class_of.setdefault(name, number)) != number:
                raise InputError(
                    f"{self._where}: expected class names that differ, got {printable(repr(name), SHOWN)} for classes "
                    f"{other} and {number}."
                )

    def _check_inputs(self, part: str, inputs: Tensor | Texts) -> None:
        """Refuse inputs of another type or shape than their kind has."""
        if isinstance(inputs, Texts):
            if inputs.bytes.dtype != torch.uint8 or not _fit(inputs, least=1):
                raise InputError(
                    f"{self._place(part)}: expected {part} texts that are not empty and end where their bytes end, "
                    f"got others."
                )
            return
        if isinstance(inputs, SparseVectors):
            pairs = inputs.pairs
            if pairs.dtype != torch.int32 or pairs.dim() != 2 or pairs.shape[1] != 2 or not _fit(inputs, least=0):
                raise InputError(
                    f"{self._place(part)}: expected {part} sparse vectors as int32 (M, 2) that end where their pairs "
                    "end, got others."
                )
            for some in chunks(pairs):
                if not bool(((some[:, 0] >= 0) & (some[:, 0] < inputs.size)).all()):
                    raise InputError(
                        f"{self._place(part)}: expected {part} sparse vectors of indices in 0..{inputs.size - 1}, "
                        f"got {int(some[:, 0].min())} to {int(some[:, 0].max())}."
                    )
                if not bool(some[:, 1].contiguous().view(torch.float32).isfinite().all()):
                    raise InputError(
                        f"{self._place(part)}: expected {part} sparse vectors of finite numbers, got others."
                    )
            return
        if self.kind == "vector" and (inputs.dtype not in VECTOR_TYPES or inputs.dim() != 2 or inputs.shape[1] < 1):
            raise InputError(
                f"{self._place(part)}: expected {part} vectors as float16, float32 or float64 (N, D), "
                f"got {inputs.dtype} {tuple(inputs.shape)}."
            )
        if self.kind == "image" and (inputs.dtype != torch.uint8 or inputs.dim() != 4 or inputs.shape[1] != 3):
            raise InputError(
                f"{self._where}: expected {part} images as uint8 (N, 3, height, width), "
                f"got {inputs.dtype} {tuple(inputs.shape)}."
            )

    def _check_label_sets(self) -> None:
        """Refuse sets of labels that are none of the test examples'."""
        sets = self.test_label_sets
        if sets is None:
            return
        fit = len(sets) == len(self.test_labels) and sets.classes.dtype == torch.int64 and _fit(sets, least=1)
        fit = fit and int(sets.classes.min()) >= 0 and int(sets.classes.max()) < self.num_classes
        if not fit or not torch.equal(sets.first, self.test_labels):
            raise InputError(
                f"{self._where}: expected the labels of each test example as classes, its test label first, got others."
            )

    def _check_parts(self) -> None:
        """Refuse a validation part, or examples of several labels, that are none of the training set's."""
        own, of = self.validation, self.train_examples
        if own is not None and (
            own.dtype != torch.bool or own.shape != self.train_labels.shape or bool(own.all()) or not bool(own.any())
        ):
            raise InputError(f"{self._where}: expected a validation part of some training {self.kind}s, got another.")
        if of is not None and (
            of.dtype != torch.int64
            or of.shape != self.train_labels.shape
            or int(of[0]) != 0
            or not bool(((of.diff() == 0) | (of.diff() == 1)).all())
        ):
            raise InputError(
                f"{self._where}: expected the examples of the training rows, ascending from 0, got others."
            )

    def _place(self, part: str) -> str:
        """Where the inputs of ``train`` or ``test`` are from."""
        return self._where if self.files is None else str(self.files[part])

    @property
    def _where(self) -> str:
        """What an error begins with: the file or folder that the data are from, or their name."""
        return self.source if os.path.exists(self.source) else printable(self.name, SHOWN)  # noqa: PTH110

    def _check_finite(self, part: str) -> None:
        row = 0
        for rows in chunks(getattr(self, f"{part}_inputs")):
            finite = rows.float().isfinite()  # in the type that they are trained in
            if not bool(finite.all()):
                place, column = (~finite).nonzero()[0].tolist()
                raise InputError(
                    f"{self._place(part)}: expected {part} vectors of numbers that are finite in float32, "
                    f"got {rows[place, column].item()} in row {row + place}, column {column}."
                )
            row += len(rows)

    def check_in_memory(self, option: str) -> None:
        """Refuse inputs that are mapped from files, as an option does that needs them in memory."""
        if self.files is not None:
            advice = "; save the vectors as .npz" if self.kind == "vector" else ""
            raise InputError(
                f"{option}: expected data that are read into memory, got {self.files['train']}, which is mapped"
                f"{advice}."
            )

    @property
    def kind(self) -> Literal["image", "vector", "text", "sparse vector"]:
        """What an input is."""
        if isinstance(self.train_inputs, Texts):
            return "text"
        if isinstance(self.train_inputs, SparseVectors):
            return "sparse vector"
        return "vector" if self.train_inputs.dim() == 2 else "image"

    @property
    def num_classes(self) -> int:
        """How many classes there are, named or not seen."""
        return len(self.class_names)

    def counts(self, labels: Tensor) -> Tensor:
        """Examples of each class among `labels`, (C,) int64."""
        return torch.bincount(labels, minlength=self.num_classes)

    @cached_property
    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits over all inputs, labels, names and groups: other data have other ones."""
        names = [*self.class_names, "", *(self.group_names or ()), "", *map(str, self.group_of_class or ())]
        for level, of_level in zip(self.coarser_groups, self.coarser_names, strict=True):
            names += ["", *map(str, level), "", *of_level]
        digest = hashlib.sha256("\n".join(names).encode())
        parts: list[Tensor | Ragged] = [self.train_inputs, self.train_labels, self.test_inputs, self.test_labels]
        parts += [] if self.test_label_sets is None else [self.test_label_sets]
        parts += [] if self.validation is None else [self.validation]
        for part in parts:
            for tensor in (part.items, *part.places.values()) if isinstance(part, Ragged) else (part,):
                digest.update(repr(tuple(tensor.shape)).encode())
                for rows in chunks(tensor):
                    digest.update(rows.contiguous().numpy().data)
        return digest.hexdigest()[:16]

    def samples(self, number: int = 12) -> Tensor:
        """Indices of test images to show, of as many classes as can be, (S,); the same ones at every call."""
        if self.kind in ("vector", "sparse vector"):
            return torch.zeros(0, dtype=torch.int64)
        shuffled = torch.randperm(len(self.test_labels), generator=torch.Generator().manual_seed(0))
        labels = self.test_labels[shuffled]
        earlier = torch.zeros(len(labels), dtype=torch.int64)  # how many of its class come before it
        earlier[labels.argsort(stable=True)] = torch.cat(
            [torch.arange(int(count)) for count in self.counts(self.test_labels)]
        )
        return shuffled[earlier.argsort(stable=True)[:number]]

    def card(self) -> DataCard:
        """What the report needs to know, without the inputs but for some sample images."""
        samples = []
        for index in self.samples().tolist():
            target = int(self.test_labels[index])
            if isinstance(self.test_inputs, Texts):
                samples.append(Sample(target=target, text=printable(self.test_inputs.text(index), SHOWN)))
            elif isinstance(self.test_inputs, Tensor):
                png = base64.b64encode(encode_png(self.test_inputs[index])).decode()
                samples.append(Sample(target=target, png=png))
        image_shape = vector_size = text_size = sparse_size = None
        own, of = self.validation, self.train_examples
        if isinstance(self.train_inputs, Texts):
            text_size = max(int(self.train_inputs.lengths().max()), int(self.test_inputs.lengths().max()))  # type: ignore[union-attr]
        elif isinstance(self.train_inputs, SparseVectors):
            sparse_size = self.train_inputs.size
        elif self.kind == "vector":
            vector_size = self.train_inputs.shape[1]
        else:
            channels, height, width = self.train_inputs.shape[1:]
            image_shape = (channels, height, width)
        return DataCard(
            name=self.name,
            description=self.description,
            source=self.source if "://" in self.source else Path(self.source).name,  # a report is sent to others
            fingerprint=self.fingerprint,
            class_names=tuple(self.class_names),
            group_names=None if self.group_names is None else tuple(self.group_names),
            group_of_class=None if self.group_of_class is None else tuple(self.group_of_class),
            coarser_groups=tuple(tuple(level) for level in self.coarser_groups),
            coarser_names=tuple(tuple(names) for names in self.coarser_names),
            image_shape=image_shape,
            vector_size=vector_size,
            text_size=text_size,
            sparse_size=sparse_size,
            next_word=self.next_word,
            train_counts=tuple(self.counts(self.train_labels if own is None else self.train_labels[~own]).tolist()),
            validation_counts=None if own is None else tuple(self.counts(self.train_labels[own]).tolist()),
            example_counts=None if of is None else tuple(self.counts(self.train_labels[first_rows(of)]).tolist()),
            test_counts=tuple(self.counts(self.test_labels).tolist()),
            samples=tuple(samples),
            class_pictures=tuple(base64.b64encode(one).decode() for one in self.class_pictures),
        )


def first_rows(examples: Tensor) -> Tensor:
    """The first row of each example, (N,), by the example that each row is of."""
    return examples.diff(prepend=examples.new_full((1,), -1)).nonzero().flatten()


def chunks(tensor: Tensor) -> Iterator[Tensor]:
    """A tensor as views of some rows each, in order, so that little of what is mapped from a file is held at a time."""
    yield from torch.split(tensor, max(1, CHUNK // max(1, tensor[:1].numel())))


def _fit(rows: Ragged, least: int) -> bool:
    """Whether rows lie among their items, to the last one of these, each with so many at least."""
    if rows.ends.dtype != torch.int64 or len(rows) == 0:
        return rows.ends.dtype == torch.int64
    inside = int(rows.starts().min()) >= 0 and int(rows.ends.max()) == len(rows.items)
    return inside and int(rows.lengths().min()) >= least


def picture(image: Tensor) -> "Image.Image":
    """An image, uint8 (3, height, width), for Pillow."""
    from PIL import Image

    return Image.fromarray(image.permute(1, 2, 0).contiguous().numpy())


def encode_png(image: Tensor) -> bytes:
    """An image, uint8 (3, height, width), as a PNG file."""
    file = io.BytesIO()
    picture(image).save(file, format="PNG", optimize=True)
    return file.getvalue()


def clip(text: str) -> str:
    """Text from a stranger, cut to what one line has room for."""
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 1]}…"


def check_memory(size: int, where: str, what: str, advice: str = "") -> None:
    """Refuse examples of `size` bytes that do not fit, before minutes are spent on them."""
    needed, free = COPIES * size, free_memory()
    if free is not None and needed > free:
        raise InputError(
            f"{where}: expected {needed / 2**30:.1f} GiB of free memory for {what}, got {free / 2**30:.1f} GiB{advice}."
        )
