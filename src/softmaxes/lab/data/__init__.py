"""Data sets for the lab: each source gives images or vectors, checked labels, names, counts, and groups if known."""

import base64
import hashlib
import io
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from softmaxes.lab import InputError
from softmaxes.lab.run import DataCard, Drawing, Sample
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


def load(name: str, data_dir: Path | None = None, image_size: int = 32, drawing: Drawing | None = None) -> Data:
    """A data set by the name that the command line takes.

    Args:
        name: ``glyphs``, ``glyphs:C`` or ``glyphs:all``; ``cifar10`` or ``cifar100``; ``folder`` or ``features``; or
            the path of a folder of images, or of vectors.
        data_dir: where the data lies, a file or a folder: may be given for CIFAR, must be for ``folder`` and
            ``features``.
        image_size: side to which the images of a folder are brought, in pixels.
        drawing: how glyphs are drawn; its fields may be given for glyphs alone.

    Returns:
        The data.

    Raises:
        InputError: there is no such data, or it is broken.
    """
    kind, _, classes = name.partition(":")
    if kind == "glyphs":
        if data_dir is not None:
            raise InputError(f"--data-dir: expected none with --data {name}, which is rendered, got {data_dir}.")
        if classes and classes != "all" and not re.fullmatch("[0-9]{1,9}", classes):
            raise InputError(
                f"--data: expected glyphs or glyphs:CLASSES, e.g. glyphs:1000 or glyphs:all, got {clip(name)}."
            )
        from softmaxes.lab.data.glyphs import load_glyphs

        number = None if classes == "all" else int(classes or 100)
        return load_glyphs(number, **dict(drawing or Drawing()))
    for field in () if drawing is None else sorted(drawing.model_fields_set):
        option, value = field.replace("_", "-"), getattr(drawing, field)
        raise InputError(f"--{option}: expected none with --data {name}, which is not drawn from fonts, got {value}.")
    if name in ("cifar10", "cifar100"):
        from softmaxes.lab.data.cifar import load_cifar

        return load_cifar("cifar10" if name == "cifar10" else "cifar100", data_dir)
    from softmaxes.lab.data.features import holds_features, load_features

    if name == "features":
        if data_dir is None:
            raise InputError("--data features: expected --data-dir with the vectors, got none.")
        return load_features(data_dir)
    if name not in ("", "folder") and holds_features(Path(name)):
        if data_dir is not None:
            raise InputError(f"--data-dir: expected none with --data {name}, where vectors lie, got {data_dir}.")
        return load_features(Path(name))
    from softmaxes.lab.data.folder import load_folder

    if name == "folder":
        if data_dir is None:
            raise InputError("--data folder: expected --data-dir with the folder of images, got none.")
        return load_folder(data_dir, image_size=image_size)
    if name and Path(name).is_dir():  # nothing would be the folder in hand
        if data_dir is not None:
            raise InputError(f"--data-dir: expected none with --data {name}, a folder itself, got {data_dir}.")
        return load_folder(Path(name), image_size=image_size)
    raise InputError(
        "--data: expected glyphs, glyphs:CLASSES, glyphs:all, cifar10, cifar100, features, or a folder with images, "
        f"got {clip(name)}."
    )


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def free_memory() -> int | None:
    """Bytes that this process may still take, as far as Linux says; none where nobody does."""
    try:
        lines = Path("/proc/meminfo").read_text("utf-8").splitlines()
        free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        return None
    group = Path("/sys/fs/cgroup")  # of a container, if there is one
    try:
        limit, used = (int((group / f"memory.{name}").read_text("utf-8")) for name in ("max", "current"))
        lines = (group / "memory.stat").read_text("utf-8").splitlines()
        given_back = next(int(line.split()[1]) for line in lines if line.startswith("inactive_file "))
    except (OSError, ValueError, StopIteration):  # none, or without a limit
        return free
    return max(min(free, limit - used + given_back), 0)


def check_memory(size: int, where: str, what: str, advice: str = "") -> None:
    """Examples of so many bytes must fit before minutes are spent on them."""
    needed, free = COPIES * size, free_memory()
    if free is not None and needed > free:
        raise InputError(
            f"{where}: expected {needed / 2**30:.1f} GiB of free memory for {what}, got {free / 2**30:.1f} GiB{advice}."
        )


def cache_dir() -> Path:
    """Where rendered and downloaded data is kept: ``$SOFTMAXES_CACHE``, or ``softmaxes`` in the user's cache folder."""
    if chosen := os.environ.get("SOFTMAXES_CACHE"):
        return Path(chosen)
    from platformdirs import user_cache_path

    return user_cache_path("softmaxes")
