"""The data sets of `OFFICIAL`, and other images in their file layouts, read from a folder or from an archive."""

import hashlib
import re
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from softmaxes.files import InputError, read_whole
from softmaxes.lab.data.archives import SUFFIXES, read_archive
from softmaxes.lab.data.cache import cache_dir
from softmaxes.lab.data.dataset import Data, clip
from softmaxes.lab.data.download import download
from softmaxes.lab.data.official import OFFICIAL, Layout, Official
from softmaxes.lab.data.pickles import integers, read_pickle, text, values

Bytes = npt.NDArray[np.uint8]
Integers = npt.NDArray[np.int64]

SIDE = 32
PIXELS = 3 * SIDE * SIDE
LONGEST_NAME = 256  # characters of one of them


@dataclass(frozen=True)
class _Part:
    """The images and labels of one file, or of several joined."""

    images: Bytes  # (N, 3072)
    labels: Integers  # (N,)
    groups: Integers  # (N,), empty where the data has none


def load_cifar(name: str, data_dir: Path | None = None) -> Data:
    """Reads a data set of `OFFICIAL`, or other 32x32 images laid out as one of them.

    The pickles of the python layout are read without running what they ask for, and an archive without unpacking it.

    Args:
        name: whose layout the files are in.
        data_dir: an archive, a folder with the files, or a folder with the usual folder or archive in it. None
            downloads the official archive into the cache.

    Returns:
        The data, named as in `OFFICIAL` only if it is the official one; otherwise named after the archive or folder.

    Raises:
        InputError: the files are missing, cut off, of another layout, or contradict themselves.
    """
    official = OFFICIAL[name]
    if data_dir is None:
        path = download(official.address, cache_dir() / "downloads", checksum=official.checksum)
        source = official.address
    else:
        path, source = data_dir, str(data_dir)
    place, layout, contents = _find(name, path)
    class_names, group_names = _read_names(contents, place, layout, official)

    def read(files: Sequence[str]) -> _Part:
        parts = []
        for file in files:
            where = f"{place}/{file}"
            if layout.pickled:
                parts.append(_read_pickle(contents.pop(file), where, official, official.images_per_pickle[file]))
            else:
                parts.append(_read_records(contents.pop(file), where, official))
            _check_range(parts[-1].labels, len(class_names), "labels", where)
            _check_range(parts[-1].groups, len(group_names), "coarse labels", where)
        return _Part(
            np.concatenate([part.images for part in parts]),
            np.concatenate([part.labels for part in parts]),
            np.concatenate([part.groups for part in parts]),
        )

    train, test = read(layout.train), read(layout.test)
    train_counts, test_counts = (np.bincount(part.labels, minlength=len(class_names)) for part in (train, test))
    if absent := [class_names[index] for index in np.flatnonzero(train_counts == 0)]:
        others = f" and {len(absent) - 1} more" if len(absent) > 1 else ""
        raise InputError(f"{place}: expected training images of every class, got none of {absent[0]}{others}.")

    is_official = (
        hashlib.sha256("\n".join(class_names).encode()).hexdigest() == official.names_sha256
        and bool((train_counts == official.train_per_class).all())
        and bool((test_counts == official.test_per_class).all())
    )
    title = name if is_official else _unofficial_name(name, path)
    return Data(
        name=title,
        description=f"Colour images{'' if is_official else ' in the layout'} of {official.title}.",
        source=source,
        train_inputs=torch.from_numpy(train.images.reshape(-1, 3, SIDE, SIDE)),
        train_labels=torch.from_numpy(train.labels),
        test_inputs=torch.from_numpy(test.images.reshape(-1, 3, SIDE, SIDE)),
        test_labels=torch.from_numpy(test.labels),
        class_names=class_names,
        group_names=group_names if official.grouped else None,
        group_of_class=_group_of_class(train, test, class_names, group_names, place) if official.grouped else None,
    )


def _unofficial_name(name: str, path: Path) -> str:
    """A name from the archive's or folder's, never one that the official data goes by."""
    stem = path.resolve().name
    for suffix in SUFFIXES:
        stem = stem.removesuffix(suffix)
    stem = re.sub("-(binary|python|batches-py|batches-bin)$", "", stem)
    if re.sub("[-_ ]", "", stem.lower()) in {"", *OFFICIAL}:
        return f"{stem or name}-unofficial"
    return stem


# Finding the files


def _find(name: str, path: Path) -> tuple[str, Layout, dict[str, bytes]]:
    """The place, layout and contents of the files at `path`."""
    layouts = OFFICIAL[name].layouts
    if not path.is_dir():
        try:
            contents_at = read_archive(path, {file: layout.most(file) for layout in layouts for file in layout.files})
        except (FileNotFoundError, NotADirectoryError):
            raise InputError(
                f"{path}: expected an archive or folder with {name}'s files, got nothing of that name."
            ) from None
        return _choose(name, path, contents_at)
    folders = (path, *(path / layout.folder for layout in layouts))
    for layout in layouts:
        for folder in folders:
            if all((folder / file).exists() for file in layout.files):
                contents = {file: read_whole(folder / file, layout.most(file)) for file in layout.files}
                return str(folder), layout, contents
    for layout in layouts:
        for suffix in SUFFIXES:
            if (archive := path / f"{layout.archive}{suffix}").exists():
                return _find(name, archive)
    known = {file for layout in layouts for file in layout.files}
    return _choose(name, path, {str(folder): _list_files(folder, known) for folder in folders if folder.is_dir()})


def _choose(name: str, path: Path, contents_at: Mapping[str, dict[str, bytes]]) -> tuple[str, Layout, dict[str, bytes]]:
    """The place that holds every file of a layout; an error that says what is missing if none does."""
    layouts = OFFICIAL[name].layouts
    missing = {
        (place, layout): [file for file in layout.files if file not in contents]
        for layout in layouts
        for place, contents in contents_at.items()
    }
    for (place, layout), files in missing.items():
        if not files:
            return place, layout, contents_at[place]
    nearest = [(place, layout) for (place, layout), files in missing.items() if len(files) < len(layout.files)]
    if nearest:
        place, layout = min(nearest, key=lambda candidate: len(missing[candidate]))
        raise InputError(
            f"{place}: expected the files {', '.join(layout.files)}, got no {', '.join(missing[place, layout])}."
        )
    expected = " or ".join(f"{', '.join(layout.files)} (as in {layout.folder})" for layout in layouts)
    archives = [file for file in contents_at.get(str(path), ()) if file.endswith(SUFFIXES)]
    given = f"; an archive is given by its own name, such as {path / min(archives)}" if archives else ""
    raise InputError(f"{path}: expected {name}'s files {expected}, got none of them{given}.")


def _list_files(folder: Path, known: Container[str]) -> dict[str, bytes]:
    """The names of known files and of archives in `folder`, for an error; nothing is read."""
    named = (path for path in folder.iterdir() if path.name in known or path.name.endswith(SUFFIXES))
    return {path.name: b"" for path in named if path.exists()}


# Names and groups


def _read_names(
    contents: Mapping[str, bytes], place: str, layout: Layout, official: Official
) -> tuple[list[str], list[str]]:
    """The names of the classes and of the groups; no groups where the layout has none."""
    if layout.pickled:
        where = f"{place}/{layout.names[0]}"
        record = read_pickle(contents[layout.names[0]], where, "label names")
        keys = ("fine_label_names", "coarse_label_names") if official.grouped else ("label_names",)
        lists = [[text(name, where) for name in values(_value(record, key, where), key, where)] for key in keys]
    else:
        lists = []
        for file in layout.names:
            lines = text(contents[file], f"{place}/{file}").splitlines()
            lists.append([line.strip() for line in lines if line.strip()])
    for name in (name for names in lists for name in names):
        if not name or not name.isprintable():
            raise InputError(f"{place}: expected names of printable characters, got {clip(ascii(name))}.")
        if len(name) > LONGEST_NAME:
            raise InputError(f"{place}: expected names of at most {LONGEST_NAME} characters, got {clip(name)}.")
    class_names, group_names = lists if official.grouped else (*lists, [])
    return class_names, group_names


def _group_of_class(
    train: _Part, test: _Part, class_names: Sequence[str], group_names: Sequence[str], place: str
) -> list[int]:
    """For each class the one group its images are labelled with, in train and test together."""
    seen = np.zeros((len(class_names), len(group_names)), dtype=bool)
    for part in (train, test):
        seen[part.labels, part.groups] = True
    for index in np.flatnonzero(seen.sum(axis=1) > 1).tolist():
        first, second, *_ = (group_names[group] for group in np.flatnonzero(seen[index]).tolist())
        raise InputError(
            f"{place}: expected every image of class {class_names[index]} in one group, got {first} and {second}."
        )
    return [int(group) for group in seen.argmax(axis=1)]


def _check_range(labels: Integers, count: int, what: str, where: str) -> None:
    wrong = labels[(labels < 0) | (labels >= count)]
    if len(wrong):
        raise InputError(f"{where}: expected {what} in 0..{count - 1}, one for each name, got {wrong[0]}.")


# The binary layout


def _read_records(content: bytes, where: str, official: Official) -> _Part:
    """The records of a binary file: the label's byte, before it the group's if there are groups, then the pixels."""
    label_bytes = 2 if official.grouped else 1
    size = label_bytes + PIXELS
    rest = len(content) % size
    if rest or not content:
        raise InputError(
            f"{where}: expected whole records of {size} bytes ({label_bytes} for labels, {PIXELS} for pixels), "
            f"got {len(content)} bytes: {len(content) // size} records and {rest} bytes."
        )
    records = np.frombuffer(content, dtype=np.uint8).reshape(-1, size)
    labels = records[:, :label_bytes].astype(np.int64)
    return _Part(records[:, label_bytes:], labels[:, -1], labels[:, 0] if official.grouped else labels[:0, 0])


# The python layout


def _read_pickle(content: bytes, where: str, official: Official, count: int) -> _Part:
    """The images and labels of a pickled batch, which officially has `count` images."""
    record = read_pickle(content, where, f"{count} images")
    images = integers(_value(record, "data", where), "data", where)
    if images.dtype != np.uint8 or images.ndim != 2 or images.shape[1] != PIXELS or not len(images):
        raise InputError(f"{where}: expected data as uint8 (N, {PIXELS}), got {images.dtype} {images.shape}.")

    pixels = images.astype(np.uint8, copy=False)

    def labels_of(key: str) -> Integers:
        labels = integers(_value(record, key, where), key, where)
        if labels.shape != (len(images),):
            raise InputError(f"{where}: expected {len(images)} {key}, one an image, got {labels.shape}.")
        return labels.astype(np.int64)

    if official.grouped:
        return _Part(pixels, labels_of("fine_labels"), labels_of("coarse_labels"))
    return _Part(pixels, labels_of("labels"), np.empty(0, dtype=np.int64))


def _value(record: Mapping[str, object], key: str, where: str) -> object:
    if key not in record:
        raise InputError(f"{where}: expected the key {key}, got a dictionary without it.")
    return record[key]
