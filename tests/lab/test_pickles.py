"""Pickles as data: what every protocol writes is read, nothing is run, and nothing costs more than the file holds."""

import pickle
import re
import tracemalloc
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from softmaxes.lab import InputError
from softmaxes.lab.data import pickles
from softmaxes.lab.data.pickles import integers, read_pickle

Array = npt.NDArray[np.integer]
IMAGES = np.arange(240, dtype=np.uint8).reshape(4, 60)
READ_ONLY = IMAGES.copy()
READ_ONLY.flags.writeable = False
ARRAYS = {
    "plain": IMAGES,
    "read-only": READ_ONLY,
    "column-major": np.asfortranarray(IMAGES),
    "part": IMAGES[::2, 1::3],
    "turned": IMAGES.reshape(4, 5, 12).transpose(1, 0, 2),
    "big-endian": IMAGES.astype(">i8"),
    "empty": IMAGES[:0],
}
PLAIN = {
    "numbers": [0, 1, -1, 255, 256, 65536, -(2**31), 2**40, -(2**70), True, False],
    "texts": ["", "a", "é\n\\\r\0\x1a", "丗😀", "b" * 300],
    "bytes": [b"", b"\0\xff\n'\"\\", b"c" * 300],
    "others": [None, 0.5, -1e300, (), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4), [], {}, {"key": {"key": ["value"]}}],
}


def failure(content: bytes, key: str) -> str | None:
    """What is said of a pickle that cannot be read, or whose `key` is no array; any other error is raised."""
    try:
        integers(read_pickle(content, "here", "images").get(key), "data", "here")
    except InputError as error:
        return str(error)
    return None


def refused(content: bytes, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        read_pickle(content, "here", "images")
    assert str(caught.value).startswith("here: expected ")
    assert len(str(caught.value)) < 200
    assert "\n" not in str(caught.value)


# What is read


def by_numpy(content: bytes, core: str, protocol: int) -> bytes:
    """The pickle as a numpy would write it whose modules lie in `core`."""

    def rename(match: re.Match[bytes]) -> bytes:
        name = f"numpy.{core}.".encode() + match[2]
        return (match[1] if protocol < 4 else bytes([len(name)])) + name

    return re.sub(rb"(?s)(.)numpy\._?core\.(multiarray|numeric)", rename, content)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("core", ["core", "_core"])
def test_arrays_are_read_as_any_protocol_of_any_numpy_writes_them(protocol: int, core: str) -> None:
    record = read_pickle(by_numpy(pickle.dumps(ARRAYS, protocol=protocol), core, protocol), "here", "arrays")
    assert record.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        found = integers(record[name], name, "here")
        np.testing.assert_array_equal(found, array)
        assert found.dtype.itemsize == array.dtype.itemsize


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("dumps", [pickle.dumps, pickle._dumps])
def test_plain_values_are_read_as_pickle_reads_them(protocol: int, dumps: Callable[..., bytes]) -> None:
    content = dumps(PLAIN, protocol=protocol)
    assert read_pickle(content, "here", "values") == PLAIN


def test_keys_may_be_bytes() -> None:
    assert read_pickle(pickle.dumps({b"data": [1], "other": b"x"}), "here", "values") == {"data": [1], "other": b"x"}


# What is refused


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"}P0\n0.", "the instruction PERSID"),
        (b"\x80\x02}\x82\x01.", "the instruction EXT1"),
        (b"\x80\x04\x8f.", "the instruction EMPTY_SET"),
        (b"\x80\x02}2.", "the instruction DUP"),
        (b"\x80\x02cnumpy\nndarray\n)\x81.", "the instruction NEWOBJ"),
        (b"(inumpy\nndarray\n.", "the instruction INST"),
        (b"\x80\x05\x97.", "the instruction NEXT_BUFFER"),  # its bytes would lie elsewhere
        (b"\x80\x02}\xff.", r"the instruction b'\\xff'"),
        (b"\x80\x06}.", "protocol 6"),
        (b"}.}.", "2 bytes after its end"),
        (b"}h\x07.", "a value that it never kept"),
        (b"}e.", "an instruction without what it needs"),
        (b"}(0.", "the instruction POP"),
        (b"}(\x85.", "an instruction without what it needs"),
        (b"N)R.", "a call of nonetype"),
        (b"cnumpy\ndtype\nNR.", "a call of function"),
        (b"}}b.", "a state for dict"),
        (b"}](NNu.", "keys and values for list"),
        (b"}(Nu.", "keys and values for dict"),
        (b"}Na.", "items for dict"),
        (b"I" + b"9" * 5000 + b"\n.", "cannot be read"),
        (b"S'half\n.", "a string without quotes"),
        (b"}](I1\nI2\nlI3\ns.", "keys and values for list"),
        (b"}(I1\nlI3\ns.", "expected names as text, got list"),
        (b"}(" + b"".join(b"L%dL\nN" % (place * (2**61 - 1)) for place in range(9)) + b"u.", "names as text, got int"),
        (b"c" + b"a" * 10_000 + b"\n" + b"b" * 10_000 + b"\n.", "got a call of aaa"),
        (b"\x80\x04\x95" + b"\xff" * 8 + b"}", "the file ends after 12 bytes"),
        (b"\x8e" + b"\xff" * 8, "the file ends after 9 bytes"),
    ],
)
def test_what_is_no_dictionary_of_plain_things_is_refused_in_one_line(content: bytes, message: str) -> None:
    refused(content, message)


def test_the_number_of_instructions_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pickles, "MOST_STEPS", 1000)
    refused(b"(" + b"N" * 1000 + b"l.", "expected a pickle of at most 1,000 instructions, got more")


@pytest.mark.slow
@pytest.mark.parametrize(
    "nested",
    [
        b")" + b"\x85" * 200_000,
        b"]" * 200_000 + b"a" * 199_999,
        b"N" + b"q\x000(h\x00l" * 100,
        b"}" + b"U\x01a}" * 100_000 + b"s" * 100_000,
        b"cnumpy\ndtype\nq\x00" + b"h\x00NNN\x87R" * 100_000 + b"b" * 99_999,
    ],
)
@pytest.mark.parametrize(
    "around", [b"%b", b"}U\1k%bs", b"}%bNs", b"}U\1kcnumpy.core.multiarray\n_reconstruct\n)R(K\1%btbs"]
)
def test_nothing_is_followed_into_the_depth(nested: bytes, around: bytes) -> None:
    """Neither as a value, nor as a key, nor as what an array says of itself."""
    said = failure(b"\x80\x02" + around % nested + b".", "k")
    assert said is None or (len(said) < 200 and "\n" not in said)


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x02}r\xff\xff\xff\x08.",
        b"\x80\x02}r\xff\xff\xff\xff.",
        b"}p999999999\n.",
        b"\x80\x04\x95" + b"\xff" * 8 + b"}.",
        b"\x80\x05}\x96" + b"\xff\xff\xff\x7f\0\0\0\0.",
        b"\x80\x02}T\xff\xff\xff\x7f.",
        b"\x80\x02c_codecs\nencode\nq\0X\xa0\x86\1\0"
        + b"a" * 100_000
        + b"U\6latin1\x86q\1("
        + b"h\0h\1R" * 900
        + b"l.",
        b"\x80\x02cnumpy._core.numeric\n_frombuffer\n(U\x01acnumpy\ndtype\nU\2u1\x85RJ\xff\xff\xff\x7f\x85U\1CtR.",
    ],
)
def test_a_pickle_makes_no_more_than_it_holds(content: bytes) -> None:
    tracemalloc.start()
    try:
        assert failure(content, "data") is not None
        assert tracemalloc.get_traced_memory()[1] < 2**20 + 10 * len(content)
    finally:
        tracemalloc.stop()


@pytest.mark.slow
def test_no_broken_pickle_ends_in_another_error() -> None:
    generator = np.random.default_rng(0)
    written = [pickle.dumps(ARRAYS | PLAIN, protocol=protocol) for protocol in range(6)]
    for place in range(1200):
        broken = bytearray(written[place % 6])
        for _ in range(generator.integers(1, 4)):
            at = generator.integers(len(broken))
            match generator.integers(4):
                case 0:
                    broken[at] = generator.integers(256)
                case 1:
                    broken[at : at + 4] = b"\xff" * 4
                case 2:
                    del broken[at : at + 3]
                case _:
                    broken = broken[:at] if at > 50 else broken
        said = failure(bytes(broken), "plain")
        assert said is None or (len(said) < 300 and "\n" not in said)
