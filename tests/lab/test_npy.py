"""Arrays in files: read as numpy reads them, and what is none is known by its first bytes and refused in one line."""

import io
import random
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from softmaxes.files import InputError
from softmaxes.lab.data import npy as source
from softmaxes.lab.data.npy import npy, npz

ARRAYS = [
    np.arange(6.0).reshape(2, 3),
    np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3)),
    np.arange(5, dtype=">i2"),
    np.arange(300_000, dtype=np.int64),
    np.array(["é", "zebra"]),
    np.array(3.5),
    np.zeros((0, 3), dtype=np.float16),
    np.zeros((2, 3, 4), dtype=np.uint8),
    np.array([True, False]),
]


def saved(array: npt.NDArray[Any], version: tuple[int, int] | None = None) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array(file, array, version)
    return file.getvalue()


@pytest.mark.parametrize("array", ARRAYS, ids=str)
def test_arrays_are_those_that_numpy_saved(array: npt.NDArray[Any], tmp_path: Path) -> None:
    for version in ((1, 0), (2, 0), (3, 0)):
        (tmp_path / "one.npy").write_bytes(saved(array, version))
        found = npy(tmp_path / "one.npy")
        assert (found.dtype, found.shape, found.bytes) == (array.dtype, array.shape, array.nbytes)
        np.testing.assert_array_equal(found.read(), array)
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "some.npz", one=array, other=array[..., :1] if array.ndim else array)
        with npz(tmp_path / "some.npz") as members:
            assert list(members) == ["one", "other"]
            np.testing.assert_array_equal(members["one"]().read(), array)


def header(text: str, length: int | None = None) -> bytes:
    return b"\x93NUMPY\x01\x00" + (len(text) if length is None else length).to_bytes(2, "little") + text.encode()


WHOLE = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }\n"


@pytest.mark.parametrize(
    "text", [WHOLE, WHOLE.replace(" ", ""), "{'shape': (2L, 3L), 'fortran_order': False, 'descr': '<f4'}"]
)
def test_headers_of_other_writers(text: str, tmp_path: Path) -> None:
    (tmp_path / "one.npy").write_bytes(header(text) + bytes(24))
    assert npy(tmp_path / "one.npy").read().tolist() == [[0] * 3] * 2


NOT_ARRAYS = {
    "nothing": (b"", "a file that does not begin as one"),
    "another file": (b"PK\x03\x04" + bytes(100), "a file that does not begin as one"),
    "version 4": (b"\x93NUMPY\x04\x00" + bytes(100), "a file that does not begin as one"),
    "no header": (header("", 0) + bytes(9), "a header of 0 bytes"),
    "a long header": (b"\x93NUMPY\x02\x00\xff\xff\xff\x7f" + bytes(50), "a header of 2,147,483,647 bytes"),
    "a header that breaks off": (header(WHOLE, 5000), "the header b"),
    "a bracket that is not closed": (header(WHOLE.replace("(2, 3)", "(" * 5000)), "the header b"),
    "brackets in brackets": (header(WHOLE.replace("(2, 3)", "(" * 4000 + ")" * 4000)), "the header b"),
    "a string that is not closed": (header(WHOLE.replace("'<f4'", "'<f4")), "the header b"),
    "three quotes": (header(WHOLE.replace("'<f4'", '"""<f4')), "the header b"),
    "an expression": (header(WHOLE.replace("(2, 3)", "(2, 3)*10**9")), "the header b"),
    "a call": (header(WHOLE.replace("(2, 3)", "print(1)")), "the header b"),
    "indented": (header(WHOLE.replace("{", "{\n  \t\n")), "bytes where the header"),
    "NUL": (header(WHOLE.replace("{", "{\0")), "the header b"),
    "negative": (header(WHOLE.replace("(2, 3)", "(-2, 3)")), "the header b"),
    "huge": (header(WHOLE.replace("(2, 3)", f"({10**17}, {10**17})")), "bytes where the header, float32 "),
    "thousands of digits": (header(WHOLE.replace("(2, 3)", f"({'9' * 5000}, 3)")), "the header b"),
    "a key twice": (header(WHOLE.replace("}", "'shape': (1,)}")), "the header b"),
    "a key too few": (header(WHOLE.replace("'fortran_order': False, ", "")), "the header b"),
    "columns": (header(WHOLE.replace("'<f4'", "[('a', '<f4')]")), "the header b"),
    "objects": (header(WHOLE.replace("<f4", "|O")), "Python objects, which are not unpickled"),
    "no type": (header(WHOLE.replace("<f4", "<f9")), "the type '<f9'"),
    "a type of no bytes": (header(WHOLE.replace("<f4", "<U0")), "bytes where the header, <U0"),
    "a type of gigabytes": (header(WHOLE.replace("<f4", "<U999999999")), "bytes where the header|the type"),
    "a byte too few": (header(WHOLE) + bytes(23), "93 bytes where the header, float32 .2, 3., says 94"),
    "a byte too many": (header(WHOLE) + bytes(25), "95 bytes where the header, float32 .2, 3., says 94"),
}


@pytest.mark.parametrize(("content", "got"), NOT_ARRAYS.values(), ids=NOT_ARRAYS)
def test_what_is_no_array_is_refused_by_its_header(content: bytes, got: str, tmp_path: Path) -> None:
    path = tmp_path / "one.npy"
    path.write_bytes(content)
    with pytest.raises(InputError, match=f"^{path}: expected arrays of numbers as numpy saves them, got .*{got}"):
        npy(path)
    with zipfile.ZipFile(tmp_path / "some.npz", "w") as file:
        file.writestr("one.npy", content)
    with (
        npz(tmp_path / "some.npz") as members,
        pytest.raises(InputError, match=f"^{tmp_path / 'some.npz'}, one: expected arrays of numbers .*{got}"),
    ):
        members["one"]()


def test_bytes_that_are_changed_are_an_array_or_one_line(tmp_path: Path) -> None:
    chance = random.Random(0)
    path = tmp_path / "one.npy"
    numbers = [b"-1", b"99999999999999999999", b"1e308", b"nan", b"0x1", b"(", b"'", b"\n", b"\\"]
    refused = 0
    for _ in range(600):
        content = bytearray(saved(chance.choice(ARRAYS[:3])))
        for _ in range(chance.randint(1, 3)):
            place = chance.randrange(min(len(content), 90))
            content[place : place + chance.randrange(3)] = chance.choice([*numbers, bytes([chance.randrange(256)])])
        path.write_bytes(content)
        try:
            npy(path).read()
        except InputError as error:
            refused += 1
            assert str(error).startswith(f"{path}: expected arrays of numbers as numpy saves them, got ")  # noqa: PT017
            assert len(str(error)) < len(str(path)) + 400  # noqa: PT017
    assert refused > 400


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_one_bit_that_is_flipped_in_an_array_is_seen(save: Any, tmp_path: Path) -> None:
    path = tmp_path / "some.npz"
    save(path, one=np.random.default_rng(0).standard_normal((50, 4)))
    whole, chance = path.read_bytes(), random.Random(0)
    for _ in range(60):
        content = bytearray(whole)
        content[chance.randrange(300, 1500)] ^= 1 << chance.randrange(8)
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"some\.npz, one: expected arrays of numbers"), npz(path) as members:
            members["one"]().read()


@pytest.mark.parametrize("kind", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_only_what_numpy_compresses_is_unfolded(kind: int, tmp_path: Path) -> None:
    """The header of LZMA alone may ask for 4 GiB."""
    with zipfile.ZipFile(tmp_path / "some.npz", "w", kind) as file:
        file.writestr("one.npy", saved(ARRAYS[0]))
    with (
        npz(tmp_path / "some.npz") as members,
        pytest.raises(InputError, match=f"some.npz, one: expected an array stored or deflated, got compression {kind}"),
    ):
        members["one"]()


def test_the_list_of_what_a_zip_file_holds_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "some.npz"
    np.savez(path, **{f"array-{place}": ARRAYS[0] for place in range(40)})
    monkeypatch.setattr(source, "MOST_DIRECTORY", 1000)
    with pytest.raises(InputError, match=r"some\.npz: expected .* a list of files of more than 1000 bytes"), npz(path):
        pass
