"""The user's own feature vectors and labels: what their network gives its last layer, from .npz, .npy or parquet files.

No code in these files is run: arrays of objects, which numpy would unpickle, are refused.
"""

import hashlib
import json
import lzma
import struct
import warnings
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from filelock import FileLock
from rich.console import Console
from rich.progress import Progress
from torch import Tensor

from softmaxes.files import remove_parts, write_whole
from softmaxes.lab import InputError
from softmaxes.lab.data import CHUNK, Data, cache_dir

Integers = npt.NDArray[np.int64]
Array = npt.NDArray[Any]

PARTS = ("train", "test")
MOST_CLASSES = 20_000_000  # a larger label is a mistake, such as the number of a customer
RECIPE = 1  # of the files in the cache: another number has parquet files converted anew
UNREADABLE = (  # what numpy raises on files that are broken, or none of its own
    ValueError,
    OSError,
    EOFError,
    LookupError,
    OverflowError,
    RuntimeError,
    SyntaxError,
    TypeError,
    lzma.LZMAError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)


def load_features(path: Path, *, seed: int = 0) -> Data:
    """Reads vectors and labels, each part of a kind that is known by the names of its files.

    - a file ``.npz`` with the arrays ``train_features`` (N, D), ``train_labels`` (N,), ``test_features`` and
      ``test_labels``; or with ``features`` and ``labels``, of which a tenth is held out as the test set. It is read
      whole.
    - a folder with ``train_features.npy``, ``train_labels.npy``, ``test_features.npy`` and ``test_labels.npy``. The
      features stay in their files, from which training reads the rows of each batch: they may be larger than the
      memory.
    - a folder with ``train.parquet`` and ``test.parquet``, with the columns ``features`` (lists of numbers) and
      ``label`` (integers, or strings as class names). They are converted once to .npy files in `cache_dir`. It needs
      the extra: ``pip install 'softmaxes[parquet]'``.

    Features are float16, float32 or float64, labels integers from 0. There are as many classes as the largest label
    says, or as ``class_names`` has, an array of strings that may lie beside the others.

    Args:
        path: the file or the folder.
        seed: of the choice of what is held out, where the file has one set alone.

    Raises:
        InputError: something is missing, broken or does not fit; the message says which file.
    """
    if not path.exists():
        raise InputError(f"{path}: expected a file .npz or a folder with vectors, got none of that name.")
    if not path.is_dir():
        if path.suffix != ".npz":
            raise InputError(f"{path}: expected a file .npz, or a folder of .npy or parquet files, got another file.")
        return _from_npz(path, seed)
    arrays = [path / f"{part}_{what}.npy" for part in PARTS for what in ("features", "labels")]
    tables = [path / f"{part}.parquet" for part in PARTS]
    found = [[file for file in files if file.is_file()] for files in (arrays, tables)]
    if all(found):
        raise InputError(
            f"{path}: expected .npy files or parquet files, got both: {found[0][0].name}, {found[1][0].name}."
        )
    wanted = arrays if found[0] else tables
    if missing := [file.name for file in wanted if not file.is_file()]:
        if not any(found):
            raise InputError(
                f"{path}: expected {', '.join(file.name for file in arrays)}, or train.parquet and test.parquet, "
                "got none."
            )
        raise InputError(f"{path}: expected {' and '.join(file.name for file in wanted)}, got no {missing[0]}.")
    return _from_arrays(path) if found[0] else _from_parquet(path)


def holds_features(path: Path) -> bool:
    """Whether a path is one of vectors: a file .npz, or a folder with files that `load_features` knows."""
    if path.is_dir():
        return any((path / f"{part}{end}").is_file() for part in PARTS for end in ("_features.npy", ".parquet"))
    return path.suffix == ".npz"


def mapped(path: Path) -> Tensor:
    """The vectors of a .npy file where they lie: what is read of them is in memory only as long as there is room.

    Raises:
        InputError: it is no file of numbers (N, D) that can be mapped.
    """
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except UNREADABLE as error:
        raise _unreadable(path, error) from None
    _check_vectors(array, str(path))
    if not array.dtype.isnative or not array.flags.c_contiguous:
        order = "the bytes of a number the other way round" if not array.dtype.isnative else "columns first"
        raise InputError(
            f"{path}: expected vectors one after the other in this machine's order of bytes, got {order}; "
            "save np.ascontiguousarray of them."
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that it cannot be written to, which nobody does
        return torch.from_numpy(array)


# Arrays


def _from_npz(path: Path, seed: int) -> Data:
    whole, halves = ("features", "labels"), tuple(f"{part}_{what}" for part in PARTS for what in ("features", "labels"))
    try:
        with ExitStack() as stack:
            file = np.load(stack.enter_context(path.open("rb")), allow_pickle=False)
            if not isinstance(file, np.lib.npyio.NpzFile):
                raise ValueError("no zip file")
            stack.enter_context(file)
            wanted = whole if set(whole) <= set(file.files) and not set(halves) & set(file.files) else halves
            if missing := [name for name in wanted if name not in file.files]:
                got = ", ".join(map(repr, file.files[:10])) or "none"
                raise InputError(
                    f"{path}: expected arrays {', '.join(halves)}, or features and labels, "
                    f"got no {missing[0]} among {got}."
                )
            arrays = {name: file[name] for name in wanted}
            names = file["class_names"] if "class_names" in file.files else None
    except InputError:
        raise
    except UNREADABLE as error:
        raise _unreadable(path, error) from None
    vectors, labels = {}, {}
    for name in wanted:
        where, part = f"{path}, {name}", name.rpartition("_")[0]
        if name.endswith("features"):
            _check_vectors(arrays[name], where)
            native = arrays[name].dtype.newbyteorder("=")
            vectors[part] = np.ascontiguousarray(arrays[name], dtype=native)
        else:
            labels[part] = _labels(arrays[name], where)
    description = "Feature vectors from a file"
    if wanted == whole:
        if len(vectors[""]) != len(labels[""]):
            raise InputError(f"{path}, labels: expected {len(vectors[''])}, one a vector, got {len(labels[''])}.")
        shuffled = np.random.default_rng(seed).permutation(len(labels[""]))
        held_out = max(1, len(shuffled) // 10)
        for part, rows in (("test", np.sort(shuffled[:held_out])), ("train", np.sort(shuffled[held_out:]))):
            vectors[part], labels[part] = vectors[""][rows], labels[""][rows]
        description += f", a tenth of them held out as test examples at seed {seed}"
    return _data(
        path.stem,
        f"{description}.",
        path,
        {part: torch.from_numpy(vectors[part]) for part in PARTS},
        labels,
        None if names is None else _names(names, f"{path}, class_names"),
    )


def _from_arrays(folder: Path) -> Data:
    files = {part: (folder / f"{part}_features.npy").absolute() for part in PARTS}
    names = folder / "class_names.npy"
    return _data(
        folder.resolve().name or "features",
        "Feature vectors from files.",
        folder,
        {part: mapped(files[part]) for part in PARTS},
        {part: _labels(_read(path := folder / f"{part}_labels.npy"), str(path)) for part in PARTS},
        _names(_read(names), str(names)) if names.exists() else None,
        files,
    )


def _data(
    name: str,
    description: str,
    path: Path,
    vectors: dict[str, Tensor],
    labels: dict[str, Integers],
    class_names: Sequence[str] | None,
    files: dict[str, Path] | None = None,
) -> Data:
    if class_names is None:
        largest = max((int(labels[part].max()) for part in PARTS if len(labels[part])), default=0)
        class_names = list(map(str, range(largest + 1)))
    return Data(
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


def _read(path: Path) -> Array:
    try:
        array: Array = np.load(path, allow_pickle=False)
    except UNREADABLE as error:
        raise _unreadable(path, error) from None
    return array


def _unreadable(path: Path, error: BaseException) -> InputError:
    said = " ".join(str(error).split()).rstrip(".")
    return InputError(f"{path}: expected arrays of numbers as numpy saves them, got {type(error).__name__}: {said}.")


def _check_vectors(array: Array, where: str) -> None:
    if not isinstance(array, np.ndarray) or array.ndim != 2 or array.dtype.kind != "f" or array.dtype.itemsize > 8:
        got = f"{array.dtype} {array.shape}" if isinstance(array, np.ndarray) else "several arrays"
        raise InputError(f"{where}: expected vectors as float16, float32 or float64 (N, D), got {got}.")


def _labels(array: Array, where: str) -> Integers:
    if not isinstance(array, np.ndarray) or array.ndim != 1 or array.dtype.kind not in "iu":
        got = f"{array.dtype} {array.shape}" if isinstance(array, np.ndarray) else "several arrays"
        raise InputError(f"{where}: expected labels as integers (N,), got {got}.")
    if len(array) > 0 and not 0 <= int(array.min()) <= int(array.max()) < MOST_CLASSES:
        wrong = int(array.min()) if int(array.min()) < 0 else int(array.max())
        raise InputError(f"{where}: expected labels in 0..{MOST_CLASSES - 1}, got {wrong}.")
    return array.astype(np.int64)


def _names(array: Array, where: str) -> list[str]:
    if not isinstance(array, np.ndarray) or array.ndim != 1 or array.dtype.kind != "U":
        got = f"{array.dtype} {array.shape}" if isinstance(array, np.ndarray) else "several arrays"
        raise InputError(f"{where}: expected class names as strings (C,), got {got}.")
    return _printable([str(name) for name in array], where)


def _printable(names: list[str], where: str) -> list[str]:
    for name in names:
        if not name.isprintable():
            raise InputError(f"{where}: expected class names of printable characters, got {name!a}.")
    return names


# Parquet


def _from_parquet(folder: Path) -> Data:
    converted = {part: _converted(folder / f"{part}.parquet") for part in PARTS}
    labels = {part: _labels(_read(path := converted[part] / "labels.npy"), str(path)) for part in PARTS}
    named = {part: (converted[part] / "names.json").exists() for part in PARTS}
    class_names = None
    if any(named.values()):
        if not all(named.values()):
            whole, strings = sorted(PARTS, key=lambda part: named[part])
            raise InputError(
                f"{folder / f'{whole}.parquet'}: expected labels as strings, as in {strings}.parquet, got integers."
            )
        names = {part: json.loads((converted[part] / "names.json").read_text(encoding="utf-8")) for part in PARTS}
        class_names = _printable(sorted({*names["train"], *names["test"]}), str(folder))
        place = {name: label for label, name in enumerate(class_names)}
        for part in PARTS:
            labels[part] = np.array([place[name] for name in names[part]], dtype=np.int64)[labels[part]]
    files = {part: converted[part] / "features.npy" for part in PARTS}
    vectors = {part: mapped(files[part]) for part in PARTS}
    name = folder.resolve().name or "features"
    return _data(name, "Feature vectors from parquet files.", folder, vectors, labels, class_names, files)


def _converted(path: Path) -> Path:
    """The folder in the cache with the file as ``features.npy``, ``labels.npy`` and perhaps ``names.json``."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ModuleNotFoundError:
        raise InputError(
            f"{path}: expected the package pyarrow, which reads parquet, got none; install it: "
            "pip install 'softmaxes[parquet]'."
        ) from None
    status = path.stat()
    known = f"{path.resolve()}/{status.st_size}/{status.st_mtime_ns}/{RECIPE}"
    folder = (cache_dir() / "features" / hashlib.sha256(known.encode()).hexdigest()[:16]).absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: expected a folder that can be made, got {error.strerror}.") from None
    with FileLock(folder / ".lock"):
        if not (folder / "labels.npy").exists():  # which is written last
            remove_parts(folder, r"(features|labels)\.npy|names\.json")  # of one that was killed
            try:
                _convert(path, folder)
            except pyarrow.ArrowException as error:
                said = " ".join(str(error).split()).rstrip(".")
                raise InputError(f"{path}: expected a parquet file, got {type(error).__name__}: {said}.") from None
    return folder


def _convert(path: Path, folder: Path) -> None:
    """Write a parquet file's columns as .npy files, holding some thousand rows at a time."""
    from pyarrow import parquet, types

    with parquet.ParquetFile(path) as file:
        schema, number = file.schema_arrow, file.metadata.num_rows
        for name in ("features", "label"):
            if schema.names.count(name) != 1:
                got = ", ".join(map(repr, schema.names[:10])) or "none"
                raise InputError(f"{path}: expected columns features and label, got no {name} among {got}.")
        column, label = schema.field("features").type, schema.field("label").type
        lists = types.is_list(column) or types.is_large_list(column) or types.is_fixed_size_list(column)
        if not lists or not types.is_floating(column.value_type):
            raise InputError(f"{path}: expected features as lists of floating-point numbers, got {column}.")
        kind = label.value_type if types.is_dictionary(label) else label
        strings = types.is_string(kind) or types.is_large_string(kind)
        if not strings and not types.is_integer(kind):
            raise InputError(f"{path}: expected label as integers or strings, got {label}.")
        if number == 0:
            raise InputError(f"{path}: expected at least one row, got none.")
        size = column.list_size if types.is_fixed_size_list(column) else None
        codes: dict[str, int] = {}
        labels = np.empty(number, dtype=np.int64)

        def write(part: Path) -> None:
            batches = file.iter_batches(
                min(8192, max(1, CHUNK // (size or 1024))), columns=["features", "label"], use_threads=False
            )
            first = next(batches)
            row = 0
            console = Console(stderr=True)
            with (
                Progress(console=console, transient=True, disable=not console.is_terminal) as progress,
                part.open("wb") as out,
            ):
                width = size or len(first.column("features")[0].as_py() or ())
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
                        list(_codes(of_batch, codes)) if strings else _whole(of_batch, path)
                    )
                    row += len(batch)
                    progress.advance(task, len(batch))
            if row != number:
                raise InputError(f"{path}: expected {number} rows, as the file says, got {row}.")

        write_whole(folder / "features.npy", write)
    if strings:
        text = json.dumps(list(codes))
        write_whole(folder / "names.json", lambda part: part.write_text(text, encoding="utf-8"))

    def write_labels(part: Path) -> None:
        with part.open("wb") as out:
            np.save(out, labels)

    write_whole(folder / "labels.npy", write_labels)


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


def _codes(column: Any, codes: dict[str, int]) -> Iterator[int]:
    """A number for each string of a column: the place at which it was first seen."""
    for name in column.to_pylist():
        yield codes.setdefault(name, len(codes))
