"""The data sets that ``--data`` names and that are downloaded: one entry of `OFFICIAL` each.

They are 32x32 colour images in CIFAR's layouts. This module imports no torch, so that ``softmaxes --help`` answers at
once.
"""

from collections.abc import Mapping
from dataclasses import dataclass

LARGEST_FILE = 2**30  # bytes: the largest official one has 155 MB
LARGEST_NAMES = 2**22  # bytes of a file with the names of classes or groups


@dataclass(frozen=True)
class Layout:
    """One of the two ways the data is laid out in files."""

    folder: str  # the folder's usual name
    archive: str  # the archive's usual name, without its suffix
    train: tuple[str, ...]
    test: tuple[str, ...]
    names: tuple[str, ...]  # the files that name the classes, and after them the groups
    pickled: bool

    @property
    def files(self) -> tuple[str, ...]:
        """Every file of the layout."""
        return (*self.train, *self.test, *self.names)

    def most(self, file: str) -> int:
        """Bytes that a file may have."""
        return LARGEST_NAMES if file in self.names else LARGEST_FILE


@dataclass(frozen=True)
class Official:
    """What is known of the official data, to tell it from other data in its layout."""

    title: str
    address: str
    checksum: str
    layouts: tuple[Layout, ...]
    grouped: bool
    names_sha256: str  # of the class names, one a line
    train_per_class: int
    test_per_class: int
    images_per_pickle: Mapping[str, int]


_BATCHES = tuple(f"data_batch_{batch}" for batch in range(1, 6))

OFFICIAL = {
    "cifar10": Official(
        title="CIFAR-10",
        address="https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
        checksum="md5:c58f30108f718f92721af3b95e74349a",
        layouts=(
            Layout("cifar-10-batches-py", "cifar-10-python", _BATCHES, ("test_batch",), ("batches.meta",), True),
            Layout(
                "cifar-10-batches-bin",
                "cifar-10-binary",
                tuple(f"{batch}.bin" for batch in _BATCHES),
                ("test_batch.bin",),
                ("batches.meta.txt",),
                False,
            ),
        ),
        grouped=False,
        names_sha256="bb3914949cecedee6d1257f7f5fdb8f43fa3b2c8095fd1763161caf1b873fe59",
        train_per_class=5000,
        test_per_class=1000,
        images_per_pickle=dict.fromkeys((*_BATCHES, "test_batch"), 10_000),
    ),
    "cifar100": Official(
        title="CIFAR-100",
        address="https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
        checksum="md5:eb9058c3a382ffc7106e4002c42a8d85",
        layouts=(
            Layout("cifar-100-python", "cifar-100-python", ("train",), ("test",), ("meta",), True),
            Layout(
                "cifar-100-binary",
                "cifar-100-binary",
                ("train.bin",),
                ("test.bin",),
                ("fine_label_names.txt", "coarse_label_names.txt"),
                False,
            ),
        ),
        grouped=True,
        names_sha256="fbe8ad23bbaf24969898a386833b49c3aaf6ad1119d43f7b41cdea1b3416d578",
        train_per_class=500,
        test_per_class=100,
        images_per_pickle={"train": 50_000, "test": 10_000},
    ),
}
