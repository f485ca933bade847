"""Tiny and valid inputs of every kind, from which the bad ones are made."""

import io
import json
import pickle
import shutil
import tarfile
import time
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from random import Random
from typing import Any, NamedTuple, Protocol

import numpy as np

from campaign.case import Place

PARTS = ("train", "test")
PIXELS = 3 * 32 * 32
CLASSES, GROUPS, OF_GROUP = ("rose", "oak", "cat", "dog"), ("plant", "pet"), (0, 0, 1, 1)
CIFAR10_CLASSES = ("plane", "car", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
COMPRESSIONS = {".tar": "", ".tar.gz": "gz", ".tgz": "gz", ".tar.bz2": "bz2", ".tar.xz": "xz"}

Files = Mapping[str, bytes]


class Call(Protocol):
    """Runs words in a folder, to the end or until something is there."""

    def __call__(
        self,
        words: list[str],
        folder: Path,
        until: Callable[[], bool] | None,
        before: Callable[[], None] | None = None,
    ) -> None:
        """Run them, after something that is called in their process."""


class Finished(NamedTuple):
    """What a command left that nobody stopped."""

    place: Place
    seconds: float


class Bases:
    """The valid inputs; what takes a verb to make is made once, in a folder of its own.

    Args:
        folder: where they lie.
        call: runs words in a folder.
    """

    def __init__(self, folder: Path, call: Call) -> None:
        self.folder = folder
        self._call = call
        self._finished: dict[str, Finished] = {}

    def _made(self, name: str, words: list[str], until: Callable[[Path], bool] | None = None) -> Path:
        place = self.folder / name
        place.mkdir(parents=True)
        np.savez(place / "vectors.npz", **arrays())
        self._call(words, place, None if until is None else lambda: until(place))
        return place

    def undisturbed(self, name: str, words: list[str], lay: Callable[[Place], Callable[[], None] | None]) -> "Finished":
        """What a command leaves when nobody stops it, and the seconds that it takes."""
        if name not in self._finished:
            place = Place(self.folder / name, Random(0), name)
            before = lay(place)
            begun = time.monotonic()
            self._call(words, place.folder, None, before)
            self._finished[name] = Finished(place, time.monotonic() - begun)
        return self._finished[name]

    @cached_property
    def comparison(self) -> Path:
        """A folder with ``photos``, in groups, and ``out``, a comparison of three heads on them."""
        place = self.folder / "comparison"
        lay(place / "photos", photos(each=10))
        words = "compare --data photos --image-size 16 --heads softmax hierarchical hierarchical-groups --seeds 2"
        self._call(
            f"{words} --epochs 2 --validation 0.3 --batch-size 4 --channels 2 --out out --jobs 1".split(), place, None
        )
        return place

    @cached_property
    def cut_off(self) -> Path:
        """A folder with ``vectors.npz`` and ``out``, a comparison that was killed with a checkpoint in hand."""
        return self._made("cut_off", LONG_RUN, lambda place: any(place.glob("work/out/runs/*.checkpoint")))

    @cached_property
    def scale(self) -> Path:
        """A folder with ``out``, a measurement of two heads at two sizes."""
        return self._made("scale", SCALE)

    @cached_property
    def font(self) -> bytes:
        """A font of a few letters."""
        import matplotlib
        from fontTools import subset
        from fontTools.ttLib import TTFont

        path = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
        with TTFont(path) as font:
            chosen = subset.Subsetter(subset.Options(layout_features=[], name_IDs=[1, 2], drop_tables=["FFTM"]))
            chosen.populate(text="ABCDEFGHKLMNPRSTXZ")
            chosen.subset(font)
            file = io.BytesIO()
            font.save(file)
        return file.getvalue()

    @cached_property
    def glyphs(self) -> Path:
        """A folder with ``cache``, in which four kinds of glyphs lie."""
        place = self.folder / "glyphs"
        place.mkdir(parents=True)
        self._call([*GLYPHS, "--out", "sheet.png"], place, None)
        return place


GLYPHS = ["data", "glyphs:4", "--train-per-class", "4", "--test-per-class", "2"]
LONG_RUN = ["train", "--data", "vectors.npz", "--epochs", "200", "--batch-size", "4", "--out", "out"]
SCALE = ["scale", "--heads", "softmax", "hierarchical", "--classes", "10", "20", "--features", "4", "--batch-size", "4"]
SCALE += ["--memory", "2G", "--out", "out"]


def lay(folder: Path, files: Files) -> None:
    """Write files below a folder."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def copy(source: Path, target: Path) -> None:
    """Copy a folder to a place where there is none, or only folders of the same name."""
    shutil.copytree(source, target, symlinks=True, dirs_exist_ok=True)


def as_json(text: str) -> str:
    """A text as JSON writes it."""
    return json.dumps(text)


# CIFAR


def _images(count: int) -> Any:
    return np.random.default_rng(0).integers(0, 256, (count, PIXELS), dtype=np.uint8)


def cifar_records(name: str) -> dict[str, dict[Any, Any]]:
    """The dictionaries of the pickled layout, by file."""
    if name == "cifar10":
        labels = [list(range(10))[batch * 2 : batch * 2 + 2] for batch in range(5)]
        records: dict[str, dict[Any, Any]] = {
            f"data_batch_{batch}": {b"data": _images(2), b"labels": labels[batch - 1]} for batch in range(1, 6)
        }
        records["test_batch"] = {b"data": _images(10), b"labels": list(range(10))}
        records["batches.meta"] = {b"label_names": [word.encode() for word in CIFAR10_CLASSES]}
        return records
    fine = [0, 1, 2, 3, 0, 1, 2, 3]
    part = {b"data": _images(8), b"fine_labels": fine, b"coarse_labels": [OF_GROUP[label] for label in fine]}
    meta = {
        b"fine_label_names": [word.encode() for word in CLASSES],
        b"coarse_label_names": [word.encode() for word in GROUPS],
    }
    return {"train": part, "test": dict(part), "meta": meta}


def cifar_pickles(name: str, protocol: int = 2) -> dict[str, bytes]:
    """The files of the pickled layout."""
    return {file: pickle.dumps(record, protocol) for file, record in cifar_records(name).items()}


def cifar_binary(name: str) -> dict[str, bytes]:
    """The files of the binary layout."""
    pixels = [image.tobytes() for image in _images(10)]
    if name == "cifar10":
        files = {
            f"data_batch_{batch}.bin": b"".join(
                bytes([label]) + pixels[label] for label in (2 * batch - 2, 2 * batch - 1)
            )
            for batch in range(1, 6)
        }
        files["test_batch.bin"] = b"".join(bytes([label]) + pixels[label] for label in range(10))
        return files | {"batches.meta.txt": "\n".join(CIFAR10_CLASSES).encode() + b"\n"}
    part = b"".join(bytes([OF_GROUP[label], label]) + pixels[label] for label in (0, 1, 2, 3, 0, 1, 2, 3))
    names = {"fine_label_names.txt": "\n".join(CLASSES), "coarse_label_names.txt": "\n".join(GROUPS)}
    return {"train.bin": part, "test.bin": part} | {file: f"{text}\n".encode() for file, text in names.items()}


def tar(files: Files, compression: str = "", folder: str = "data") -> bytes:
    """An archive with files in a folder."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode=f"w:{compression}") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(f"{folder}/{name}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return content.getvalue()


# Images


def png(size: int = 16, colour: int = 0) -> bytes:
    """A picture."""
    return picture("PNG", size, colour)


def picture(kind: str, size: int = 16, colour: int = 0) -> bytes:
    """A picture in one of Pillow's formats."""
    from PIL import Image

    pixels = np.random.default_rng(colour).integers(0, 60, (size, size, 3), dtype=np.uint8)
    pixels[..., colour % 3] += np.uint8(100)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def photos(grouped: bool = True, split: bool = False, each: int = 5) -> dict[str, bytes]:
    """Pictures of four classes, in groups or not, split into training and test or not."""
    files = {}
    for label, name in enumerate(CLASSES):
        folder = f"{GROUPS[OF_GROUP[label]]}/{name}" if grouped else name
        for part in ("train/", "test/") if split else ("",):
            for number in range(each):
                files[f"{part}{folder}/{number}.png"] = png(20, label * 10 + number)
    return files


# Vectors


def arrays(count: int = 24) -> dict[str, Any]:
    """Vectors and labels of three classes."""
    generator = np.random.default_rng(0)
    found = {}
    for part in ("train", "test"):
        labels = np.arange(count) % 3
        found[f"{part}_features"] = (generator.normal(size=(count, 4)) + 2 * labels[:, None]).astype(np.float32)
        found[f"{part}_labels"] = labels.astype(np.int64)
    return found


def npy(array: Any, allow_pickle: bool = False) -> bytes:
    """An array as numpy saves it."""
    file = io.BytesIO()
    np.save(file, array, allow_pickle=allow_pickle)
    return file.getvalue()


def npy_of(header: str, content: bytes = b"", version: int = 1) -> bytes:
    """An array with a header of one's own."""
    text = header.encode("latin-1")
    text += b" " * (-(len(text) + 11) % 64) + b"\n"
    return b"\x93NUMPY" + bytes([version, 0]) + len(text).to_bytes(2 if version == 1 else 4, "little") + text + content


def npz(files: Files, compressed: bool = False) -> bytes:
    """A zip file of arrays that are given as numpy saves them."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED) as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name), data, compress_type=archive.compression)
    return content.getvalue()


def parquet(table: Mapping[str, Any], **options: Any) -> bytes:
    """A table as a parquet file."""
    import pyarrow
    from pyarrow import parquet as file_of

    file = io.BytesIO()
    file_of.write_table(pyarrow.table(table), file, **options)
    return file.getvalue()


def table_of(part: str) -> dict[str, Any]:
    """The columns of a part of the vectors."""
    found = arrays()
    return {"features": [row.tolist() for row in found[f"{part}_features"]], "label": found[f"{part}_labels"].tolist()}


def deflated(parts: Sequence[bytes | int]) -> tuple[bytes, int, int]:
    """A raw deflate stream of bytes, and of MiB of zeros where a number stands; its CRC and its size unfolded."""
    block = bytes(2**20)
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    zeros = deflate.compress(block) + deflate.flush(zlib.Z_FULL_FLUSH)  # which can stand anywhere in a stream
    stream, checksum, size = [], 0, 0
    for part in parts:
        if isinstance(part, int):
            stream.append(zeros * part)
            for _ in range(part):
                checksum = zlib.crc32(block, checksum)
            size += part * len(block)
        else:
            deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
            stream.append(deflate.compress(part) + deflate.flush(zlib.Z_FULL_FLUSH))
            checksum = zlib.crc32(part, checksum)
            size += len(part)
    return b"".join(stream) + zlib.compressobj(9, zlib.DEFLATED, -15).flush(), checksum, size
