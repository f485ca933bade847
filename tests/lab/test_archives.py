"""Archives: what they hold, that every byte of them is checked, and that no header makes them cost more."""

import bz2
import gzip
import io
import lzma
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from softmaxes.lab import InputError
from softmaxes.lab.data import archives
from softmaxes.lab.data.archives import read_archive

CONTENT = {"train.bin": np.random.default_rng(0).bytes(5000), "test.bin": b"test" * 700, "other.txt": b"not asked for"}
WANTED = dict.fromkeys(("train.bin", "test.bin"), 10_000)
COMPRESS: dict[str, Callable[[bytes], bytes]] = {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}


def write_tar(files: dict[str, bytes], folder: str = "data", kind: int = tarfile.PAX_FORMAT) -> bytes:
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w", format=kind) as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(f"{folder}/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return written.getvalue()


def header(name: str = "x", size: int = 0, kind: bytes = tarfile.REGTYPE) -> bytes:
    member = tarfile.TarInfo(name)
    member.size, member.type = size, kind
    return member.tobuf(tarfile.GNU_FORMAT)


def read(path: Path, content: bytes) -> dict[str, bytes]:
    """The wanted files of an archive, whatever folder they are in."""
    path.write_bytes(content)
    return {name: held for files in read_archive(path, WANTED).values() for name, held in files.items()}


def failure(path: Path, content: bytes) -> str | None:
    """What is said of an archive that cannot be read; any other error is raised."""
    try:
        read(path, content)
    except InputError as error:
        return str(error)
    return None


def refused(path: Path, content: bytes, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        read(path, content)
    assert str(caught.value).startswith(f"{path}: expected ")
    assert "\n" not in str(caught.value)


# What archives hold


@pytest.mark.parametrize("kind", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("folder", ["data", "deep/" * 15 + "data", "deep/" * 25 + "data", "dé/tä", "/data"])
def test_names_of_any_length_and_letters_are_read_as_tarfile_reads_them(tmp_path: Path, kind: int, folder: str) -> None:
    path = tmp_path / "some.tar"
    path.write_bytes(write_tar(CONTENT, folder, kind))
    with tarfile.open(path) as archive:
        (place,) = {member.name.rpartition("/")[0] for member in archive}
    held = {name: CONTENT[name] for name in WANTED}
    assert read_archive(path, WANTED) == {f"{path}/{place}": held}


@pytest.mark.parametrize("suffix", COMPRESS)
def test_a_compressed_archive_may_come_in_several_streams(tmp_path: Path, suffix: str) -> None:
    whole, compress = write_tar(CONTENT), COMPRESS[suffix]
    two = compress(whole[:3000]) + compress(whole[3000:])
    assert read(tmp_path / "some", two) == {name: CONTENT[name] for name in WANTED}


# That every byte is checked


@pytest.mark.parametrize("suffix", COMPRESS)
def test_a_flipped_bit_of_a_compressed_archive_is_never_read_as_data(tmp_path: Path, suffix: str) -> None:
    whole = COMPRESS[suffix](write_tar(CONTENT))
    good = read(tmp_path / "some", whole)
    generator = np.random.default_rng(0)
    refusals = 0
    for place in generator.choice(len(whole) - 8, 100, replace=False):
        broken = bytearray(whole)
        broken[place] ^= 1 << generator.integers(8)
        if failure(tmp_path / "some", bytes(broken)) is None:
            assert read(tmp_path / "some", bytes(broken)) == good  # such as the time when it was made
        else:
            refusals += 1
    assert refusals > 90


@pytest.mark.parametrize("suffix", COMPRESS)
@pytest.mark.parametrize("lacking", [1, 4, 8, 100])
def test_a_compressed_archive_without_its_end_is_refused(tmp_path: Path, suffix: str, lacking: int) -> None:
    refused(tmp_path / "some", COMPRESS[suffix](write_tar(CONTENT))[:-lacking], "expected a whole tar archive")


def test_a_wrong_checksum_after_all_files_is_found(tmp_path: Path) -> None:
    whole = bytearray(gzip.compress(write_tar(CONTENT)))
    whole[-6] ^= 1
    refused(tmp_path / "some", bytes(whole), "CRC check failed")
    refused(tmp_path / "some", gzip.compress(write_tar(CONTENT)) + b"<html>", "expected a whole tar archive")


# What they may cost


@pytest.mark.slow
def test_what_an_archive_unfolds_to_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "ANY_BYTES", 2**20)
    message = "at most 1,048,576 bytes when it is unfolded, got more"
    refused(tmp_path / "some", gzip.compress(write_tar({"readme": bytes(2**22)})), message)
    for compress in COMPRESS.values():
        refused(tmp_path / "some", compress(write_tar(CONTENT) + bytes(2**22)), message)  # after its end
    refused(tmp_path / "some", header("readme", 2**40), message)
    noise = np.random.default_rng(0).bytes(2**22)  # takes what it unfolds to
    assert read(tmp_path / "some", gzip.compress(write_tar({"readme": noise} | CONTENT), 1))


def test_a_file_in_an_archive_is_bounded(tmp_path: Path) -> None:
    (tmp_path / "some").write_bytes(header("data/train.bin", 10_001))
    with pytest.raises(InputError, match=r"some/data/train\.bin: expected at most 10,000 bytes, got 10,001\.$"):
        read_archive(tmp_path / "some", WANTED)


def test_a_large_or_endless_file_is_refused_before_it_is_read(tmp_path: Path) -> None:
    (tmp_path / "large").touch()
    os.truncate(tmp_path / "large", 2**40)
    with pytest.raises(InputError, match=r"large: expected a file of at most 2,147,483,648 bytes, got 1,099,"):
        read_archive(tmp_path / "large", WANTED)
    with pytest.raises(InputError, match="expected a regular file, got a device"):
        read_archive(Path("/dev/zero"), WANTED)


PAX = tarfile.XHDTYPE
NEGATIVE = bytearray(header())
NEGATIVE[124:136] = b"\xff" * 12
NEGATIVE[148:156] = b" " * 8
NEGATIVE[148:156] = b"%06o\0 " % sum(NEGATIVE)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "an empty file"),
        (b"<html>not found</html>".ljust(512), "cannot be read as one"),
        (bytes(NEGATIVE), "a file of -1 bytes"),
        (header() * 10_001, "at most 10,000 files"),
        ((header(size=10, kind=PAX) + b"10 aaa=bb\n".ljust(512, b"\0")) * 10_001, "at most 10,000 files"),
        (header(size=2**20, kind=PAX) + bytes(2**20), "a header of 1048576 bytes"),
        (header(size=2**20, kind=tarfile.GNUTYPE_LONGNAME) + bytes(2**20), "a header of 1048576 bytes"),
        (header(size=5004, kind=PAX) + b"9" * 5000 + b" a=b" + bytes(116), "cannot be read as one"),
        (header(size=512, kind=PAX) + b"0 a=b\n".ljust(512, b"\0"), "a record of 0 bytes"),
        (header(size=512, kind=PAX) + b"600 a=b\n".ljust(512, b"\0"), "a record of 600 bytes"),
        (header(size=512, kind=PAX) + b"12 size=-9\n\0".ljust(512, b"\0") + header(), "a file of -9 bytes"),
        (header(size=512, kind=tarfile.GNUTYPE_SPARSE), "a file with holes"),
        (header("train.bin", 5000) + b"less", "it ends within a file"),
        (header("readme", 5000) + b"less", "it ends within a file"),
    ],
)
def test_a_broken_header_is_refused_in_one_line(tmp_path: Path, content: bytes, message: str) -> None:
    refused(tmp_path / "some", content, message)


def test_no_broken_archive_ends_in_another_error(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    extremes = [b"\xff" * 12, b"\x80" + b"\0" * 11, b"7" * 11, b"9" * 30, b"\0" * 8, b"-1"]
    whole = write_tar(CONTENT, "deep/" * 25 + "data")
    for place in range(300):
        broken = bytearray(whole)
        for _ in range(generator.integers(1, 4)):
            at = generator.integers(2000)
            extreme = extremes[generator.integers(len(extremes))]
            broken[at : at + len(extreme)] = extreme
        if place % 2:  # the header's own checksum is right
            broken[148:156] = b" " * 8
            broken[148:156] = b"%06o\0 " % sum(broken[:512])
        said = failure(tmp_path / "some", bytes(broken))
        assert said is None or "\n" not in said
