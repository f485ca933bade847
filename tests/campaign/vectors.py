"""Bad files of feature vectors: .npz, .npy and parquet."""

import io
import pickle
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from campaign import bases, mutate
from campaign.bases import Bases
from campaign.case import Case, Command, Place

NAMES = ("train_features", "train_labels", "test_features", "test_labels")


class Runs:
    """An object whose pickle makes a file when it is read."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (str(self.canary), "w")


def _read(place: Place, path: str) -> list[str]:
    """Words that read vectors at a path."""
    verbs = [["data", "features", "--data-dir", path]] * 4 + [["data", path], ["data", path, "--long-tail", "2"]]
    return place.random.choice(verbs)


def _swapped(random: Any, arrays: Mapping[str, Any]) -> tuple[dict[str, bytes], str]:
    """The arrays as numpy saves them, one of them changed, and what was done."""
    files = {name: bases.npy(array) for name, array in arrays.items()}
    name = random.choice(NAMES)
    array = arrays[name]
    features = name.endswith("features")
    width = "(24, 4)" if features else "(24,)"
    kind = "<f4" if features else "<i8"
    holes = array.copy()
    holes[3] = np.nan if features else -1
    large = array.copy()
    large[-1] = 3e38 if features else 19_999_999
    changes: list[tuple[bytes, str]] = [
        (bases.npy(array[:-1]), "one too few"),
        (bases.npy(array[:0]), "none"),
        (bases.npy(array[:1]), "one alone"),
        (bases.npy(array[None]), "a dimension too many"),
        (bases.npy(np.array(1.0)), "no dimension"),
        (bases.npy(array.astype(np.float64) * 1e300), "numbers of 1e300"),
        (bases.npy(array.astype(np.float16)), "half floats"),
        (bases.npy(array.astype(np.longdouble)), "long doubles"),
        (bases.npy(array.astype(complex)), "complex numbers"),
        (bases.npy(array.astype("U9")), "strings"),
        (bases.npy(array.astype("S9")), "bytes"),
        (bases.npy(array.astype("datetime64[D]") if not features else array > 0), "days or truths"),
        (bases.npy(array.astype(np.uint64 if not features else ">f4")), "other numbers"),
        (bases.npy(np.asfortranarray(array)), "columns first"),
        (bases.npy(holes), "a hole"),
        (bases.npy(large), "a large number"),
        (bases.npy(np.where(holes < 0, 2**62, array) if not features else array * np.inf), "numbers too large"),
        (bases.npy(np.full(array.shape, 2**64 - 1, dtype=np.uint64)), "numbers of 64 bits"),
        (bases.npy(np.full(array.shape, 30_000)), "a label of 30,000 alone"),
        (bases.npy(np.zeros(24, dtype=[("a", "f4"), ("b", "f4")])), "records"),
        (bases.npy(array[:, :0] if features else array[:0]), "no columns"),
        (bases.npy(array[:, :2] if features else array), "fewer columns"),
        (bases.npy_of(f"{{'descr': '{kind}', 'fortran_order': False, 'shape': (10**12, 4), }}"), "an expression"),
        (
            bases.npy_of(f"{{'descr': '{kind}', 'fortran_order': False, 'shape': (1000000000000, 4), }}"),
            "16 TB announced",
        ),
        (bases.npy_of(f"{{'descr': '{kind}', 'fortran_order': False, 'shape': (800000000,), }}"), "6 GB announced"),
        (bases.npy_of(f"{{'descr': '{kind}', 'fortran_order': False, 'shape': (-1, 4), }}"), "a length below zero"),
        (
            bases.npy_of(f"{{'descr': '{kind}', 'fortran_order': False, 'shape': (0, 9223372036854775807), }}"),
            "0 x 2^63",
        ),
        (bases.npy_of(f"{{'descr': '{kind}', 'fortran_order': False, 'shape': ({'9' * 5000},), }}"), "a long length"),
        (
            bases.npy_of(f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {width}, " + "'a': 1, " * 2000 + "}"),
            "keys",
        ),
        (bases.npy_of("{'descr': '<V999999999999', 'fortran_order': False, 'shape': (1,), }"), "a wide type"),
        (
            bases.npy_of(
                "{'descr': " + "[('a', " * 500 + "'<f4'" + ")]" * 500 + ", 'fortran_order': False, 'shape': (1,), }"
            ),
            "a nested type",
        ),
        (bases.npy_of("(" * 2000), "brackets for a header"),
        (bases.npy_of("'''"), "a quote for a header"),
        (bases.npy_of("{'descr': '<f4', 'fortran_order': False, 'shape': (2,3),\x00}"), "NUL in the header"),
        (bases.npy_of("  \\\n{'descr': '<f4'"), "a header that does not end"),
        (bases.npy_of("{'descr': '|O', 'fortran_order': False, 'shape': (1,), }", b"\x80\x04."), "objects"),
        (bases.npy_of("{" + "-" * 9000 + "1:1}"), "9,000 minus signs"),
        (bases.npy_of("1+" * 4000 + "1"), "a long sum"),
        (b"\x93NUMPY\x02\x00" + struct.pack("<I", 2**31) + b"{", "a header of 2 GiB announced"),
        (b"\x93NUMPY\x09\x00" + b"\x10\x00" + b" " * 16, "version 9"),
    ]
    if random.random() < 0.35:
        files[name], about = mutate.change_bytes(random, files[name])
    else:
        files[name], about = random.choice(changes)
    return files, f"{name}: {about}"


def _objects(place: Place) -> bytes:
    """An array whose reading would execute something, if its objects were unpickled."""
    return bases.npy(np.array([Runs(place.canary)], dtype=object), allow_pickle=True)


def npz(place: Place, known: Bases, number: int) -> Case:
    """A zip file of arrays."""
    random = place.random
    good = {f"{name}.npy": bases.npy(array) for name, array in bases.arrays().items()}
    must_refuse = ""
    compressed = random.random() < 0.5
    how = random.random()
    if number < 14:
        content, about = _special_npz(place, good, number)
    elif how < 0.35:
        content, about = mutate.change_bytes(random, bases.npz(good, compressed))
        must_refuse = _wrong_checksum(content)
    elif how < 0.45:
        content = mutate.flip(random, bases.npz(good, compressed))
        about, must_refuse = "a bit flipped", _wrong_checksum(content)
    elif how < 0.6:
        files = dict(good)
        name = random.choice(list(files))
        change = random.choice(("drop", "rename", "names", "object"))
        if change == "drop":
            del files[name]
        elif change == "rename":
            files[random.choice(mutate.NAMES).replace("\ud800", "?").replace("\0", "?")] = files.pop(name)
        elif change == "object":
            files[name] = _objects(place)
        else:
            change = random.choice(mutate.NAMES).replace("\ud800", "?").replace("\0", "?")
            files["class_names.npy"] = bases.npy(np.array([change, "b", "c"][: random.randint(1, 3)]))
        content, about = bases.npz(files, compressed), f"{name}: {change[:30]!a}"
    else:
        files, about = _swapped(random, bases.arrays())
        content = bases.npz({f"{name}.npy": data for name, data in files.items()}, compressed)
    (place.work / "vectors.npz").write_bytes(content)
    return Case(f"vectors.npz: {about}", Command(_read(place, "vectors.npz")), must_refuse=must_refuse)


def _wrong_checksum(content: bytes) -> str:
    """Why a zip file cannot be taken: an array that is needed has another checksum than is stored."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for name in NAMES:
                archive.read(f"{name}.npy")
    except Exception as error:  # whatever a broken one leads to
        return f"zipfile does not read it: {error}"
    return ""


def _special_npz(place: Place, good: dict[str, bytes], number: int) -> tuple[bytes, str]:
    header = bases.npy_of("{'descr': '<f4', 'fortran_order': False, 'shape': (200000000, 4), }")
    if number == 0:
        return _bomb(good, "train_features.npy", header), "3 GiB of zeros in 3 MB"
    if number == 1:
        return _bomb(good, "class_names.npy", header), "3 GiB of zeros for class names"
    if number == 2:
        return _bomb(good, "unasked.npy", header), "3 GiB of zeros in an array that nobody asks for"
    labels = bases.arrays()["train_labels"]
    lone = labels.copy()
    lone[0] = 19_999_999
    specials: list[tuple[dict[str, bytes], str]] = [
        ({**good, "train_labels.npy": bases.npy(lone)}, "a label of 19,999,999"),
        ({**good, "train_labels.npy": bases.npy(lone - 17_999_999 * (lone > 5))}, "a label of 2,000,000"),
        ({**good, "train_features.npy": _objects(place)}, "objects that execute"),
        ({**good, "class_names.npy": _objects(place)}, "class names that execute"),
        ({**good, "train_features.npy": pickle.dumps(Runs(place.canary))}, "a pickle for an array"),
        ({"features.npy": good["train_features.npy"], "labels.npy": good["train_labels.npy"][:-8]}, "labels cut off"),
        ({"features.npy": bases.npy(np.zeros((1, 4), np.float32)), "labels.npy": bases.npy(labels[:1])}, "one vector"),
        ({**good, "class_names.npy": bases.npy(np.array(["a"] * 3))}, "one name thrice"),
        ({**good, "class_names.npy": bases.npy(np.array(["a" * 100_000, "b", "c"]))}, "a name of 100,000 letters"),
        ({**good, "class_names.npy": bases.npy(np.array([], dtype="U1"))}, "no names"),
        ({**good, "class_names.npy": bases.npy(np.arange(3))}, "numbers for names"),
    ]
    files, about = specials[number - 3]
    return bases.npz(files, compressed=True), about


def _bomb(good: dict[str, bytes], name: str, header: bytes) -> bytes:
    """A zip file in which one array unfolds to 3 GiB."""
    stream, checksum, size = bases.deflated([header, 3 * 1024])
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for other, data in good.items():
            if other != name:
                archive.writestr(other, data)
        entry = zipfile.ZipInfo(name)
        entry.compress_type, entry.CRC = zipfile.ZIP_DEFLATED, checksum
        entry.file_size, entry.compress_size = size, len(stream)
        entry.header_offset = content.tell()
        content.write(entry.FileHeader(zip64=False) + stream)
        archive.filelist.append(entry)
        archive.NameToInfo[name] = entry
        archive.start_dir = content.tell()
        archive._didModify = True  # type: ignore[attr-defined]
    return content.getvalue()


def npy(place: Place, known: Bases, number: int) -> Case:
    """A folder of arrays."""
    arrays = bases.arrays()
    if number < 8:
        files = {name: bases.npy(array) for name, array in arrays.items()}
        about = _special_npy(place, files, number)
    else:
        files, about = _swapped(place.random, arrays)
        if place.random.random() < 0.15:
            name = place.random.choice(mutate.NAMES).replace("\ud800", "?")
            files["class_names"] = bases.npy(np.array([name, "b", "c"]))
            about += f", a class called {name[:20]!a}"
    bases.lay(place.work / "vectors", {f"{name}.npy": data for name, data in files.items()})
    if number == 7:
        with (place.work / "vectors" / "train_features.npy").open("r+b") as file:
            file.truncate(20 * 2**30)
    return Case(f"vectors: {about}", Command(_read(place, "vectors")))


def _special_npy(place: Place, files: dict[str, bytes], number: int) -> str:
    labels = bases.arrays()["train_labels"]
    lone = labels.copy()
    lone[0] = 19_999_999
    if number == 0:
        files["train_labels"] = bases.npy(lone)
        return "a label of 19,999,999"
    if number == 1:
        files["train_features"] = _objects(place)
        return "objects that execute"
    if number == 2:
        files["class_names"] = _objects(place)
        return "class names that execute"
    if number == 3:
        files["train_labels"] = bases.npz({"a.npy": bases.npy(labels)})
        return "a zip file for labels"
    if number == 4:
        files["train_features"] = bases.npz({"a.npy": files["train_features"]})
        return "a zip file for features"
    if number == 5:
        del files[place.random.choice(NAMES)]
        return "a file that is missing"
    if number == 6:
        files["train"] = b""
        files["train_labels"] = files["train_labels"][:-1]
        return "labels whose last byte is missing"
    return "features in a file of 20 GiB, most of it a hole"


def parquet(place: Place, known: Bases, number: int) -> Case:
    """Two parquet files."""
    import pyarrow

    random = place.random
    tables = {part: bases.table_of(part) for part in ("train", "test")}
    files = {f"{part}.parquet": bases.parquet(table) for part, table in tables.items()}
    part = random.choice(("train", "test"))
    table = dict(tables[part])
    rows = len(table["label"])
    vectors = table["features"]
    labels = table["label"]
    odd = random.choice(mutate.NAMES).replace("\ud800", "?")
    changes: list[tuple[dict[str, Any], str]] = [
        ({"features": vectors}, "no labels"),
        ({"label": labels}, "no features"),
        ({"features": vectors, "Label": labels}, "a column of another case"),
        ({**table, "label": [None, *labels[1:]]}, "a label that is missing"),
        ({**table, "features": [None, *vectors[1:]]}, "a vector that is missing"),
        ({**table, "features": [[], *vectors[1:]]}, "an empty vector"),
        ({**table, "features": [[]] * rows}, "empty vectors"),
        ({**table, "features": [[None, 1.0, 2.0, 3.0], *vectors[1:]]}, "a number that is missing"),
        ({**table, "features": [[1.0], *vectors[1:]]}, "a shorter vector"),
        ({**table, "features": [[float("nan")] * 4, *vectors[1:]]}, "NaN"),
        ({**table, "features": [[1e300] * 4, *vectors[1:]]}, "1e300"),
        ({**table, "features": [[[1.0]]] * rows}, "lists of lists"),
        ({**table, "features": [str(vector) for vector in vectors]}, "strings for vectors"),
        ({**table, "features": [[1, 2]] * rows}, "whole numbers"),
        ({**table, "features": pyarrow.array(np.arange(rows) / 2)}, "a number for a vector"),
        ({**table, "features": pyarrow.array([[1.0, 2.0]] * rows, pyarrow.list_(pyarrow.float16()))}, "half floats"),
        ({**table, "features": pyarrow.array([[1.0, 2.0]] * rows, pyarrow.list_(pyarrow.float64(), 2))}, "fixed lists"),
        (
            {**table, "features": pyarrow.array([[1.0] * 4] * rows, pyarrow.large_list(pyarrow.float32()))},
            "large lists",
        ),
        ({**table, "label": [2**62, *labels[1:]]}, "a label of 2^62"),
        ({**table, "label": [19_999_999, *labels[1:]]}, "a label of 19,999,999"),
        ({**table, "label": [-1, *labels[1:]]}, "a label of -1"),
        ({**table, "label": [float(label) for label in labels]}, "labels as floats"),
        ({**table, "label": [f"c{label}" for label in labels]}, "strings in one of the parts"),
        ({**table, "label": pyarrow.array(labels, pyarrow.uint8())}, "labels of a byte"),
        ({**table, "label": pyarrow.array([b"\xff"] * rows)}, "bytes for labels"),
        ({**table, "label": pyarrow.array([True] * rows)}, "truths for labels"),
        ({**table, "label": pyarrow.array(["a"] * rows).dictionary_encode()}, "labels of a dictionary"),
        ({**table, "label": pyarrow.array(labels).dictionary_encode()}, "numbers of a dictionary"),
        ({"features": vectors[:0], "label": labels[:0]}, "no rows, of no type"),
        ({"features": vectors[:1], "label": labels[:1]}, "one row"),
    ]
    how = random.random()
    name = f"{part}.parquet"
    if how < 0.5:
        files[name], about = mutate.change_bytes(random, files[name])
    elif how < 0.62:
        for which, other in tables.items():
            names = [f"{odd}{label}" for label in other["label"]]
            files[f"{which}.parquet"] = bases.parquet({**other, "label": names})
        about = f"classes called {odd[:20]!a}"
    elif how < 0.68:
        schema = pyarrow.schema(
            [
                pyarrow.field(
                    "features",
                    pyarrow.list_(pyarrow.float32()),
                    metadata={
                        "ARROW:extension:name": "arrow.py_extension_type",
                        "ARROW:extension:metadata": pickle.dumps(Runs(place.canary), 0),
                    },
                ),
                pyarrow.field("label", pyarrow.int64()),
            ]
        )
        file = io.BytesIO()
        from pyarrow import parquet as file_of

        file_of.write_table(pyarrow.table(table, schema=schema), file)
        files[name], about = file.getvalue(), "a type that executes"
    else:
        changed, about = random.choice(changes)
        files[name] = bases.parquet(changed)
    bases.lay(place.work / "vectors", files)
    return Case(f"{name}: {about}", Command(_read(place, "vectors")))
