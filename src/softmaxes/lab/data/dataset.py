"""A data set for the lab: images or vectors, checked labels, names, counts, and groups if known."""

import base64
import hashlib
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from softmaxes.files import InputError
from softmaxes.lab.machine import free_memory
from softmaxes.lab.records import DataCard, Sample
from softmaxes.names import printable

if TYPE_CHECKING:
    from PIL import Image


CHUNK = 2**22  # numbers that are looked at together where there may be more than the memory holds
COPIES = 2  # of all examples that are in memory at a time: training takes images with their channels last
SHOWN = 80  # characters of a stranger's text in a message
VECTOR_TYPES = (torch.float16, torch.float32, torch.float64)


@dataclass(frozen=True)
class Data:
    """A classification data set in memory, or mapped into it from files, checked when it is made.

    Attributes:
        name: what tables call it, e.g. ``glyphs`` or ``standin-100``.
        description: one sentence for the report.
        source: where it came from: a path, an address, or ``rendered``.
        train_inputs: images, uint8 (N, channels, height, width); or vectors, floating point (N, D), finite in float32.
        train_labels: int64, (N,), in ``0..num_classes - 1``.
        test_inputs: as `train_inputs`.
        test_labels: as `train_labels`.
        class_names: one a class.
        group_names: super-classes, if the data knows them.
        group_of_class: for each class the index of its super-class, derived from the data's own labels.
        files: the .npy files of ``train`` and ``test`` that the inputs are mapped from, if they are: the processes that
            train read them where they lie.
    """

    name: str
    description: str
    source: str
    train_inputs: Tensor
    train_labels: Tensor
    test_inputs: Tensor
    test_labels: Tensor
    class_names: Sequence[str]
    group_names: Sequence[str] | None = None
    group_of_class: Sequence[int] | None = None
    files: Mapping[str, Path] | None = None

    def __post_init__(self) -> None:
        self._check_names()
        example = "vector" if self.of_vectors else "image"
        for part in ("train", "test"):
            inputs, labels = getattr(self, f"{part}_inputs"), getattr(self, f"{part}_labels")
            if self.of_vectors and (inputs.dtype not in VECTOR_TYPES or inputs.dim() != 2 or inputs.shape[1] < 1):
                raise InputError(
                    f"{self._place(part)}: expected {part} vectors as float16, float32 or float64 (N, D), "
                    f"got {inputs.dtype} {tuple(inputs.shape)}."
                )
            if not self.of_vectors and (inputs.dtype != torch.uint8 or inputs.dim() != 4 or inputs.shape[1] != 3):
                raise InputError(
                    f"{self.source}: expected {part} images as uint8 (N, 3, height, width), "
                    f"got {inputs.dtype} {tuple(inputs.shape)}."
                )
            if labels.dtype != torch.int64 or labels.shape != inputs.shape[:1]:
                raise InputError(
                    f"{self.source}: expected {len(inputs)} int64 {part} labels, "
                    f"got {labels.dtype} {tuple(labels.shape)}."
                )
            if len(inputs) == 0:
                raise InputError(f"{self.source}: expected at least one {part} {example}, got none.")
            low, high = int(labels.min()), int(labels.max())
            if low < 0 or high >= self.num_classes:
                raise InputError(
                    f"{self.source}: expected {part} labels in 0..{self.num_classes - 1}, "
                    f"got {low if low < 0 else high}."
                )
        if self.num_classes < 2:
            raise InputError(f"{self.source}: expected at least 2 classes, got {self.num_classes}.")
        if self.train_inputs.shape[1:] != self.test_inputs.shape[1:]:
            raise InputError(
                f"{self.source}: expected test {example}s of the training {example}s' shape "
                f"{tuple(self.train_inputs.shape[1:])}, got {tuple(self.test_inputs.shape[1:])}."
            )
        for part in ("train", "test") if self.of_vectors else ():
            self._check_finite(part)
        if (self.group_names is None) != (self.group_of_class is None):
            raise InputError(f"{self.source}: expected group names and groups of classes together, got one of them.")
        if self.group_names is not None and self.group_of_class is not None:
            if len(self.group_of_class) != self.num_classes:
                raise InputError(
                    f"{self.source}: expected a group for each of {self.num_classes} classes, "
                    f"got {len(self.group_of_class)}."
                )
            if set(self.group_of_class) != set(range(len(self.group_names))):
                raise InputError(f"{self.source}: expected every group 0..{len(self.group_names) - 1} to have a class.")

    def _check_names(self) -> None:
        """Refuse a name that a table or a terminal cannot show."""
        named = {"a name": (self.name,), "class names": self.class_names, "group names": self.group_names or ()}
        named["a source"] = (self.source if "://" in self.source else Path(self.source).name,)
        for what, names in named.items():
            for name in names:
                if not name.isprintable():
                    raise InputError(
                        f"{self.source}: expected {what} of printable characters, got {printable(ascii(name), 60)}."
                    )

    def _place(self, part: str) -> str:
        """Where the inputs of ``train`` or ``test`` are from."""
        return self.source if self.files is None else str(self.files[part])

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

    @property
    def of_vectors(self) -> bool:
        """Whether the inputs are vectors and not images."""
        return self.train_inputs.dim() == 2

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
        digest = hashlib.sha256("\n".join(names).encode())
        for tensor in (self.train_inputs, self.train_labels, self.test_inputs, self.test_labels):
            digest.update(repr(tuple(tensor.shape)).encode())
            for rows in chunks(tensor):
                digest.update(rows.contiguous().numpy().data)
        return digest.hexdigest()[:16]

    def samples(self, number: int = 12) -> Tensor:
        """Indices of test images to show, of as many classes as can be, (S,); the same ones at every call."""
        if self.of_vectors:
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
            png = base64.b64encode(encode_png(self.test_inputs[index])).decode()
            samples.append(Sample(target=int(self.test_labels[index]), png=png))
        channels, *size = self.train_inputs.shape[1:]
        return DataCard(
            name=self.name,
            description=self.description,
            source=self.source if "://" in self.source else Path(self.source).name,  # a report is sent to others
            fingerprint=self.fingerprint,
            class_names=tuple(self.class_names),
            group_names=None if self.group_names is None else tuple(self.group_names),
            group_of_class=None if self.group_of_class is None else tuple(self.group_of_class),
            image_shape=None if self.of_vectors else (channels, size[0], size[1]),
            vector_size=channels if self.of_vectors else None,
            train_counts=tuple(self.counts(self.train_labels).tolist()),
            test_counts=tuple(self.counts(self.test_labels).tolist()),
            samples=tuple(samples),
        )


def chunks(tensor: Tensor) -> Iterator[Tensor]:
    """A tensor as views of some rows each, in order, so that little of what is mapped from a file is held at a time."""
    yield from torch.split(tensor, max(1, CHUNK // max(1, tensor[:1].numel())))


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
