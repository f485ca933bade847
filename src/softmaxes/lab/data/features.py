"""The user's own feature vectors and labels: what their network gives its last layer, from .npz, .npy or parquet files.

No code in these files is run: arrays of objects, which numpy would unpickle, are refused.
"""

import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console
from rich.progress import Progress
from torch import Tensor

from softmaxes.files import InputError, write_whole
from softmaxes.lab.data.converted import (
    Conversion,
    check_columns,
    check_pyarrow,
    columns_of,
    converted,
    is_strings,
    open_parquet,
)
from softmaxes.lab.data.dataset import CHUNK, Data, check_memory
from softmaxes.lab.data.npy import Array, Stored, check_unfolded, map_in, npy, npz, save_whole

Integers = npt.NDArray[np.int64]

PARTS = ("train", "test")
# What people call the arrays: the part may stand before or behind, as in train_features and X_train.
_NAMED = re.compile(
    r"(?:(?P<before>train|test)[_-]?)?(?:(?P<features>features?|embeddings?|vectors?|x)|(?P<labels>labels?|targets?|y))"
    r"(?:[_-]?(?P<behind>train|test))?",
    re.IGNORECASE,
)
WANTED = "train_features, train_labels, test_features, test_labels, or features and labels"
# A larger label is a mistake, such as the number of a customer: every class costs memory, seen or not.
MOST_CLASSES = 20_000_000
MOST_UNSEEN = 100_000  # classes that there may be whatever the examples
MOST_OF_AN_EXAMPLE = 10  # more classes for each example
MOST_NAME = 1000  # characters of a class's name
CONVERTED = r"(features|labels)\.npy|names\.json"  # the files of a converted one
RECIPE = 1  # of the files in the cache: another number has parquet files converted anew


def load_features(path: Path, *, seed: int = 0) -> Data:
    """Reads vectors and labels, each part of a kind that is known by the names of its files.

    - a file ``.npz`` with the arrays ``train_features`` (N, D), ``train_labels`` (N,), ``test_features`` and
      ``test_labels``; or with ``features`` and ``labels``, of which a tenth is held out as the test set. It is read
      whole.
    - a folder with these as ``.npy`` files. Where there are parts, the features stay in their files, from which
      training reads the rows of each batch: they may be larger than the memory.
    - a folder with ``train.parquet`` and ``test.parquet``, with the columns ``features`` (lists of numbers) and
      ``label`` (integers, or strings as class names); or one file ``.parquet``, of which a tenth is held out. They are
      converted once to .npy files in `cache_dir`. It needs the extra: ``pip install 'softmaxes[parquet]'``.

    Arrays may have other usual names: ``X`` or ``embeddings``, ``y`` or ``targets``, ``X_train`` and so on.

    Features are float16, float32 or float64. Labels are integers from 0, or strings, which are the names of the
    classes. With integers there are as many classes as the largest label says, or as ``class_names`` has, an array of
    strings that may lie beside the others; at most `MOST_UNSEEN` and `MOST_OF_AN_EXAMPLE` more for each example, and at
    most `MOST_CLASSES`. What the files say of themselves is compared before the numbers are read.

    Args:
        path: the file or the folder.
        seed: of the choice of what is held out, where there is one set alone.

    Raises:
        InputError: something is missing, broken or does not fit; the message says which file.
    """
    if not path.exists():
        raise InputError(f"{path}: expected a file .npz or a folder with vectors, got none of that name.")
    if not path.is_dir():
        if path.suffix == ".parquet":
            return _from_one_parquet(path, seed)
        if path.suffix != ".npz":
            raise InputError(
                f"{path}: expected a file .npz or .parquet, or a folder of .npy or parquet files, got another file."
            )
        return _from_npz(path, seed)
    arrays = sorted(file for file in path.glob("*.npy") if role(file.stem) is not None)
    tables = [path / f"{part}.parquet" for part in PARTS]
    there = [file for file in tables if file.exists()]
    if arrays and there:
        raise InputError(f"{path}: expected .npy files or parquet files, got both: {arrays[0].name}, {there[0].name}.")
    if arrays:
        return _from_arrays(path, arrays, seed)
    if len(there) == 1:
        (missing,) = set(tables) - set(there)
        raise InputError(f"{path}: expected train.parquet and test.parquet, got no {missing.name}.")
    if not there:
        raise InputError(f"{path}: expected {WANTED} as .npy files, or train.parquet and test.parquet, got none.")
    return _from_parquet(path)


def holds_features(path: Path) -> bool:
    """Whether a path is one of vectors: a file .npz, or a folder with files that `load_features` knows."""
    if path.is_dir():
        known = {role(file.stem) for file in path.glob("*.npy")}
        return any((part, "features") in known for part in ("", *PARTS)) or any(
            (path / f"{part}.parquet").is_file() for part in PARTS
        )
    return path.suffix == ".npz"


def role(name: str) -> tuple[str, str] | None:
    """Of an array's name the part, ``train``, ``test`` or none, and whether it has features or labels."""
    found = _NAMED.fullmatch(name)
    if found is None or (found["before"] and found["behind"]):
        return None
    return (found["before"] or found["behind"] or "").lower(), "features" if found["features"] else "labels"


def _roles(where: Path, names: Iterable[str]) -> dict[str, dict[str, str]]:
    """For each part the names of its features and labels; the part is empty where there is one set alone.

    Raises:
        InputError: one is missing, or there are two for one.
    """
    found: dict[tuple[str, str], str] = {}
    every = list(names)
    for name in every:
        if (known := role(name)) is not None:
            if known in found:
                raise InputError(
                    f"{where}: expected one array of {' '.join(known).strip()}, got {found[known]} and {name}."
                )
            found[known] = name
    split = any(part for part, _ in found)
    parts = PARTS if split else ("",)
    for part in parts:
        for what in ("features", "labels"):
            if (part, what) not in found:
                name = f"{part}_{what}" if part else "train_features" if not found else what
                got = ", ".join(map(repr, every[:10])) or "none"
                raise InputError(f"{where}: expected arrays {WANTED}, got no {name} among {got}.")
    return {part: {what: found[part, what] for what in ("features", "labels")} for part in parts}


def mapped(path: Path) -> Tensor:
    """The vectors of a .npy file where they lie: what is read of them is in memory only as long as there is room.

    Raises:
        InputError: it is no file of numbers (N, D) that can be mapped.
    """
    stored = npy(path)
    _check_vectors(stored)
    return map_in(path, stored)


def most_classes(examples: int) -> int:
    """The most classes that there can be, from the number of examples."""
    return min(MOST_CLASSES, MOST_UNSEEN + MOST_OF_AN_EXAMPLE * examples)


def read_vectors(stored: Stored) -> Array:
    """Vectors, (N, D), in memory, in this machine's order of bytes.

    Raises:
        InputError: they are no numbers (N, D), or the file is broken.
    """
    _check_vectors(stored)
    return np.ascontiguousarray(stored.read(), dtype=stored.dtype.newbyteorder("="))


# Arrays


def _from_npz(path: Path, seed: int) -> Data:
    with npz(path) as members:
        roles = _roles(path, members)
        parts = {part: {what: members[name]() for what, name in names.items()} for part, names in roles.items()}
        named = members["class_names"]() if "class_names" in members else None
        _check_fit(list(parts.values()), named)
        stored = [one for part in parts.values() for one in part.values()]
        unfolded = sum(one.bytes for one in (*stored, *([] if named is None else [named])))
        check_unfolded(str(path), unfolded, path.stat().st_size, "save them with np.savez")
        labels, class_names = _labels_of({part: arrays["labels"] for part, arrays in parts.items()}, named)
        vectors = {part: read_vectors(arrays["features"]) for part, arrays in parts.items()}
    return _in_memory(path, path.stem, "Feature vectors from a file", vectors, labels, class_names, seed)


def _in_memory(
    path: Path,
    name: str,
    description: str,
    vectors: Mapping[str, Array],
    labels: Mapping[str, Integers],
    class_names: Sequence[str] | None,
    seed: int,
) -> Data:
    """Data of two parts; of one set alone a tenth is held out."""
    if "" in vectors:
        shuffled = np.random.default_rng(seed).permutation(len(labels[""]))
        held_out = max(1, len(shuffled) // 10)
        rows = {"test": np.sort(shuffled[:held_out]), "train": np.sort(shuffled[held_out:])}
        vectors = {part: vectors[""][some] for part, some in rows.items()}
        labels = {part: labels[""][some] for part, some in rows.items()}
        description += f", a tenth of them held out as test examples at seed {seed}"
    tensors = {part: torch.from_numpy(vectors[part]) for part in PARTS}
    return _data(name, f"{description}.", path, tensors, labels, class_names)


def _from_arrays(folder: Path, files: Sequence[Path], seed: int) -> Data:
    roles = _roles(folder, (file.stem for file in files))
    parts = {part: {what: npy(folder / f"{name}.npy") for what, name in names.items()} for part, names in roles.items()}
    named = npy(path) if (path := folder / "class_names.npy").exists() else None
    _check_fit(list(parts.values()), named)
    labels, class_names = _labels_of({part: arrays["labels"] for part, arrays in parts.items()}, named)
    name = folder.resolve().name or "features"
    if "" in parts:
        features = parts[""]["features"]
        check_memory(features.bytes, features.where, "vectors")
        return _in_memory(
            folder, name, "Feature vectors from files", {"": read_vectors(features)}, labels, class_names, seed
        )
    places = {part: (folder / f"{roles[part]['features']}.npy").absolute() for part in PARTS}
    tensors = {part: mapped(places[part]) for part in PARTS}
    return _data(name, "Feature vectors from files.", folder, tensors, labels, class_names, places)


def _labels_of(stored: Mapping[str, Stored], named: Stored | None) -> tuple[dict[str, Integers], Sequence[str] | None]:
    """The labels of each part, and the names of the classes if there are some: strings are names themselves."""
    if all(one.dtype.kind != "U" for one in stored.values()):
        most = _most_classes(*({"labels": one} for one in stored.values()))
        labels = {part: _labels(one.read(), one.where, most) for part, one in stored.items()}
        return labels, None if named is None else _names(named)
    for one in stored.values():
        if one.dtype.kind != "U":
            raise InputError(f"{one.where}: expected labels as strings, as the others are, got {one}.")
    if named is not None:
        raise InputError(
            f"{named.where}: expected none beside labels that are strings, which name the classes, got {named}."
        )
    texts = {part: np.array(_names(one), dtype=object) for part, one in stored.items()}
    class_names, codes = np.unique(np.concatenate(list(texts.values())), return_inverse=True)
    ends = np.cumsum([len(one) for one in texts.values()])[:-1]
    return dict(zip(texts, np.split(codes.astype(np.int64), ends), strict=True)), class_names.tolist()


def _data(
    name: str,
    description: str,
    path: Path,
    vectors: dict[str, Tensor],
    labels: Mapping[str, Integers],
    class_names: Sequence[str] | None,
    files: dict[str, Path] | None = None,
) -> Data:
    if class_names is None:
        largest = max((int(labels[part].max()) for part in PARTS if len(labels[part])), default=0)
        class_names = list(map(str, range(largest + 1)))
    data = Data(
        name=name,
        description=description,
        source=str(path),
        train_inputs=vectors["train"],
        train_labels=torch.from_numpy(labels["train"]),
        test_inputs=vectors["test"],
        test_labels=torch.from_numpy(labels["test"]),
        class_names=class_names,
        files=files,
    )
    data.check_distinct()
    return data


def _check_fit(parts: Sequence[dict[str, Stored]], named: Stored | None) -> None:
    """Refuse arrays that do not fit each other, by what they say of themselves."""
    for part in parts:
        features, labels = part["features"], part["labels"]
        _check_vectors(features)
        if len(labels.shape) != 1 or labels.dtype.kind not in "iuU":
            raise InputError(f"{labels.where}: expected labels as integers or strings (N,), got {labels}.")
        if labels.shape != features.shape[:1]:
            raise InputError(
                f"{labels.where}: expected {features.shape[0]} labels, one a vector, got {labels.shape[0]}."
            )
        if features.shape[1] != parts[0]["features"].shape[1]:
            raise InputError(
                f"{features.where}: expected test vectors of the training vectors' "
                f"{parts[0]['features'].shape[1]} numbers, got {features.shape[1]}."
            )
    if named is not None:
        if len(named.shape) != 1 or named.dtype.kind != "U":
            raise InputError(f"{named.where}: expected class names as strings (C,), got {named}.")
        if named.shape[0] > (most := _most_classes(*parts)):
            raise InputError(f"{named.where}: expected at most {most} class names, got {named.shape[0]}.")


def _check_vectors(stored: Stored) -> None:
    if len(stored.shape) != 2 or stored.dtype.kind != "f" or stored.dtype.itemsize > 8:
        raise InputError(f"{stored.where}: expected vectors as float16, float32 or float64 (N, D), got {stored}.")
    if 0 in stored.shape:
        raise InputError(f"{stored.where}: expected at least one vector of at least one number, got {stored}.")


def _most_classes(*parts: dict[str, Stored]) -> int:
    return most_classes(sum(part["labels"].shape[0] for part in parts))


def _labels(array: Array, where: str, most: int = MOST_CLASSES) -> Integers:
    if array.dtype.kind not in "iu":
        raise InputError(f"{where}: expected labels as integers (N,), got {array.dtype} {array.shape}.")
    if len(array) > 0 and not 0 <= int(array.min()) <= int(array.max()) < most:
        wrong = int(array.min()) if int(array.min()) < 0 else int(array.max())
        why = "" if most == MOST_CLASSES else ", by the number of examples"
        raise InputError(f"{where}: expected labels in 0..{most - 1}{why}, got {wrong}.")
    return array.astype(np.int64, copy=False)


def _names(named: Stored) -> list[str]:
    letters = named.read()
    points = letters.view(np.dtype(np.uint32).newbyteorder(named.dtype.byteorder))
    if len(points) and int(points.max()) > sys.maxunicode:
        raise InputError(f"{named.where}: expected class names in Unicode, got the letter {int(points.max()):#x}.")
    return _printable([str(name) for name in letters], named.where)


def _printable(names: list[str], where: str) -> list[str]:
    for name in names:
        if not name.isprintable() or len(name) > MOST_NAME:
            raise InputError(
                f"{where}: expected class names of at most {MOST_NAME:,} printable characters, got {name[:40]!a}."
            )
    return names


# Parquet


def _from_parquet(folder: Path) -> Data:
    converted = {part: _converted(folder / f"{part}.parquet") for part in PARTS}
    stored = {part: {what: npy(converted[part] / f"{what}.npy") for what in ("features", "labels")} for part in PARTS}
    most = _most_classes(*stored.values())
    labels = {
        part: _labels(stored[part]["labels"].read(), f"{folder / f'{part}.parquet'}, label", most) for part in PARTS
    }
    named = {part: (converted[part] / "names.json").exists() for part in PARTS}
    class_names = None
    if any(named.values()):
        if not all(named.values()):
            whole, strings = sorted(PARTS, key=lambda part: named[part])
            raise InputError(
                f"{folder / f'{whole}.parquet'}: expected labels as strings, as in {strings}.parquet, got integers."
            )
        names = {part: json.loads((converted[part] / "names.json").read_text(encoding="utf-8")) for part in PARTS}
        labels, class_names = _by_name(names, labels, str(folder))
    files = {part: converted[part] / "features.npy" for part in PARTS}
    vectors = {part: mapped(files[part]) for part in PARTS}
    name = folder.resolve().name or "features"
    return _data(name, "Feature vectors from parquet files.", folder, vectors, labels, class_names, files)


def _by_name(
    names: Mapping[str, list[str]], labels: Mapping[str, Integers], where: str
) -> tuple[dict[str, Integers], list[str]]:
    """The labels of each part, which are places among its own names, by the sorted names of all parts; and those."""
    class_names = _printable(sorted({name for some in names.values() for name in some}), where)
    place = {name: label for label, name in enumerate(class_names)}
    return {
        part: np.array([place[name] for name in some], dtype=np.int64)[labels[part]] for part, some in names.items()
    }, class_names


def _from_one_parquet(path: Path, seed: int) -> Data:
    folder = _converted(path)
    features = npy(folder / "features.npy")
    check_memory(features.bytes, str(path), "vectors")
    stored = npy(folder / "labels.npy")
    labels = {"": _labels(stored.read(), f"{path}, label", _most_classes({"labels": stored}))}
    class_names = None
    if (named := folder / "names.json").exists():
        labels, class_names = _by_name({"": json.loads(named.read_text(encoding="utf-8"))}, labels, str(path))
    return _in_memory(
        path, path.stem, "Feature vectors from a parquet file", {"": features.read()}, labels, class_names, seed
    )


def _converted(path: Path) -> Path:
    """The folder in the cache with the file as ``features.npy``, ``labels.npy`` and perhaps ``names.json``."""
    check_pyarrow(path)
    return converted(
        path, Conversion("features", str(RECIPE), "a parquet file", CONVERTED, last="labels.npy", convert=_convert)
    )


def _convert(path: Path, folder: Path, console: Console) -> None:
    """Write a parquet file's columns as .npy files, holding some thousand rows at a time."""
    from pyarrow import compute, types

    labels_type = np.dtype(np.int64)

    with open_parquet(path) as file:
        schema, number = file.schema_arrow, file.metadata.num_rows
        check_columns(path, schema.names, ("features", "label"))
        column, label = schema.field("features").type, schema.field("label").type
        lists = types.is_list(column) or types.is_large_list(column) or types.is_fixed_size_list(column)
        if not lists or not types.is_floating(column.value_type):
            raise InputError(f"{path}: expected features as lists of floating-point numbers, got {column}.")
        kind = label.value_type if types.is_dictionary(label) else label
        strings = is_strings(kind)
        if not strings and not types.is_integer(kind):
            raise InputError(f"{path}: expected label as integers or strings, got {label}.")
        if number < 1:
            raise InputError(f"{path}: expected at least one row, got {number or 'none'}.")
        claimed = columns_of(file.metadata, "features")
        values = sum(chunk.num_values for chunk in claimed)
        unfolded = sum(chunk.total_uncompressed_size for chunk in claimed + columns_of(file.metadata, "label"))
        unfolded = max(unfolded, values * column.value_type.bit_width // 8 + number * labels_type.itemsize)
        check_unfolded(str(path), unfolded, path.stat().st_size, "save the vectors as .npy")
        size = column.list_size if types.is_fixed_size_list(column) else None
        codes: dict[str, int] = {}
        labels = np.empty(number, dtype=labels_type)

        def write(part: Path) -> None:
            rows = min(8192, max(1, CHUNK // max(1, size or values // number)))
            batches = file.iter_batches(rows, columns=["features", "label"], use_threads=False)
            first = next(batches)
            row = 0
            with (
                Progress(console=console, transient=True, disable=not console.is_terminal) as progress,
                part.open("wb") as out,
            ):
                width = size or compute.list_value_length(first.column("features"))[0].as_py() or 0
                if width < 1:
                    raise InputError(f"{path}: expected features of at least one number, got an empty list in row 0.")
                dtype = np.dtype(column.value_type.to_pandas_dtype())
                header = {
                    "descr": np.lib.format.dtype_to_descr(dtype),
                    "fortran_order": False,
                    "shape": (number, width),
                }
                np.lib.format.write_array_header_1_0(out, header)
                task = progress.add_task(f"Converting {path.name}", total=number)
                for batch in chain([first], batches):
                    out.write(_rows(batch.column("features"), width, f"{path}, features", row).data)
                    of_batch = batch.column("label")
                    if of_batch.null_count:
                        raise InputError(f"{path}: expected a label in every row, got none in rows from {row} on.")
                    labels[row : row + len(batch)] = (
                        list(_codes(of_batch, codes, f"{path}, label")) if strings else _whole(of_batch, path)
                    )
                    row += len(batch)
                    progress.advance(task, len(batch))
            if row != number:
                raise InputError(f"{path}: expected {number} rows, as the file says, got {row}.")

        write_whole(folder / "features.npy", write)
    if strings:
        text = json.dumps(list(codes))
        write_whole(folder / "names.json", lambda part: part.write_text(text, encoding="utf-8"))

    save_whole(folder / "labels.npy", labels)


def _rows(column: Any, width: int, where: str, row: int) -> Array:
    """A column of lists as an array, (N, D), checked."""
    from pyarrow import compute

    if column.null_count:
        raise InputError(f"{where}: expected a list in every row, got none in rows from {row} on.")
    lengths = compute.list_value_length(column).to_numpy(zero_copy_only=False)
    if (wrong := lengths != width).any():
        place = int(wrong.argmax())
        raise InputError(f"{where}: expected {width} numbers in every row, got {lengths[place]} in row {row + place}.")
    numbers = column.flatten()
    if numbers.null_count:
        raise InputError(f"{where}: expected numbers alone, got an empty place in rows from {row} on.")
    array: Array = np.ascontiguousarray(numbers.to_numpy(zero_copy_only=False)).reshape(-1, width)
    with np.errstate(over="ignore"):
        finite = np.isfinite(array.astype(np.float32))
    if not finite.all():
        place, number = np.argwhere(~finite)[0].tolist()
        raise InputError(
            f"{where}: expected numbers that are finite in float32, got {array[place, number]} in row {row + place}."
        )
    return array


def _whole(column: Any, path: Path) -> Integers:
    """A column of integers; dictionaries of them are looked up."""
    from pyarrow import types

    if types.is_dictionary(column.type):
        column = column.dictionary_decode()
    return _labels(column.to_numpy(zero_copy_only=False), f"{path}, label")


def _codes(column: Any, codes: dict[str, int], where: str) -> Iterator[int]:
    """A number for each string of a column: the place at which it was first seen."""
    for name in column.to_pylist():
        if name not in codes:
            codes[_printable([name], where)[0]] = len(codes)
        yield codes[name]
