import io
import os
import pickle
import shutil
import struct
import tarfile
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from softmaxes.lab import InputError
from softmaxes.lab.data import cifar, official, pickles
from softmaxes.lab.data.cifar import load_cifar
from softmaxes.lab.data.dataset import Data

CLASSES = ["apple", "boat", "pear", "tram"]
GROUPS = ["fruit", "vehicle"]
GROUP_OF_CLASS = [0, 1, 0, 1]
CIFAR10 = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
# The folder cifar-100-python of the real data, which no test downloads.
OFFICIAL_FILES = Path(os.environ.get("SOFTMAXES_CIFAR100", "not-here"))
with_the_official_files = pytest.mark.skipif(
    not OFFICIAL_FILES.is_dir(), reason="set SOFTMAXES_CIFAR100 to the folder cifar-100-python of the real data"
)


@dataclass
class Part:
    images: np.ndarray  # uint8, (N, 3, 32, 32)
    labels: list[int]
    groups: list[int]

    @property
    def rows(self) -> np.ndarray:
        return self.images.reshape(len(self.images), -1)

    def record(self) -> dict[str, object]:
        return {
            "filenames": [f"{row}.png" for row in range(len(self.labels))],
            "batch_label": "batch 1 of 1",
            "fine_labels": self.labels,
            "coarse_labels": self.groups,
            "data": self.rows,
        }

    def records(self) -> bytes:
        labels = np.array([self.groups, self.labels], dtype=np.uint8).T
        return np.hstack([labels, self.rows]).tobytes()


def make_part(seed: int, per_class: int) -> Part:
    generator = np.random.default_rng(seed)
    labels = generator.permutation(np.repeat(np.arange(len(CLASSES)), per_class)).tolist()
    images = generator.integers(0, 256, (len(labels), 3, 32, 32), dtype=np.uint8)
    return Part(images, labels, [GROUP_OF_CLASS[label] for label in labels])


TRAIN, TEST = make_part(0, 3), make_part(1, 2)


def python_files(train: Part = TRAIN, test: Part = TEST) -> dict[str, bytes]:
    meta = {"fine_label_names": CLASSES, "coarse_label_names": GROUPS}
    return {
        name: pickle.dumps(record, protocol=2)
        for name, record in (("train", train.record()), ("test", test.record()), ("meta", meta))
    }


def binary_files(train: Part = TRAIN, test: Part = TEST) -> dict[str, bytes]:
    return {
        "train.bin": train.records(),
        "test.bin": test.records(),
        "fine_label_names.txt": "\n".join(CLASSES).encode() + b"\n",
        "coarse_label_names.txt": "\n".join(GROUPS).encode() + b"\n",
    }


def write_folder(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def write_archive(path: Path, files: dict[str, bytes], folder: str, mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(f"{folder}/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def check_is_the_set(data: Data) -> None:
    assert list(data.class_names) == CLASSES
    assert list(data.group_names) == GROUPS
    assert list(data.group_of_class) == GROUP_OF_CLASS
    for part, images, labels in (
        (TRAIN, data.train_inputs, data.train_labels),
        (TEST, data.test_inputs, data.test_labels),
    ):
        np.testing.assert_array_equal(images.numpy(), part.images)
        assert labels.tolist() == part.labels
        assert (images.dtype, labels.dtype) == (torch.uint8, torch.int64)


# Both layouts, wherever they lie


@pytest.mark.parametrize(
    ("files", "usual"), [(python_files(), "cifar-100-python"), (binary_files(), "cifar-100-binary")]
)
def test_folder_nested_folder_and_archive_hold_the_same_pixels(tmp_path, files, usual):
    places = [
        write_folder(tmp_path / "plain", files),
        write_folder(tmp_path / "nested" / usual, files).parent,
        write_archive(tmp_path / "packed.tar.gz", files, usual),
        write_archive(tmp_path / "packed.tgz", files, f"./somewhere/{usual}"),
        write_archive(tmp_path / "packed.tar", files, f"/{usual}", "w"),
        write_archive(write_folder(tmp_path / "holder", {}) / f"{usual}.tar.gz", files, usual).parent,
    ]
    for place in places:
        data = load_cifar("cifar100", place)
        check_is_the_set(data)
        assert data.source == str(place)


def test_an_archive_is_not_unpacked(tmp_path, monkeypatch):
    for method in ("extract", "extractall", "makefile"):
        monkeypatch.setattr(tarfile.TarFile, method, None)
    archive = write_archive(tmp_path / "mine.tar.gz", python_files(), "../../cifar-100-python")
    check_is_the_set(load_cifar("cifar100", archive))
    assert [path.name for path in tmp_path.iterdir()] == ["mine.tar.gz"]


def test_links_in_an_archive_are_not_followed(tmp_path):
    secret = write_folder(tmp_path / "elsewhere", binary_files()) / "test.bin"
    files = binary_files()
    del files["test.bin"]
    archive = write_archive(tmp_path / "mine.tar", files, "cifar-100-binary", "w")
    with tarfile.open(archive, "a") as opened:
        link = tarfile.TarInfo("cifar-100-binary/test.bin")
        link.type, link.linkname = tarfile.SYMTYPE, str(secret)
        opened.addfile(link)
    with pytest.raises(InputError, match=r"expected the files train\.bin, test\.bin, .*, got no test\.bin\.$"):
        load_cifar("cifar100", archive)


def cifar10_files(pickled: bool, per_class: int = 1) -> tuple[dict[str, bytes], np.ndarray]:
    generator = np.random.default_rng(2)
    images = generator.integers(0, 256, (6, 10 * per_class, 3072), dtype=np.uint8)
    labels = np.tile(np.arange(10, dtype=np.uint8), per_class)
    names = [f"data_batch_{batch}" for batch in range(1, 6)] + ["test_batch"]
    if pickled:
        records = [{"data": batch, "labels": labels.tolist()} for batch in images]
        files = {name: pickle.dumps(record, protocol=2) for name, record in zip(names, records, strict=True)}
        return files | {"batches.meta": pickle.dumps({"label_names": CIFAR10}, protocol=2)}, images
    files = {
        f"{name}.bin": np.hstack([labels[:, None], batch]).tobytes() for name, batch in zip(names, images, strict=True)
    }
    return files | {"batches.meta.txt": ("\n".join(CIFAR10) + "\n\n").encode()}, images


@pytest.mark.parametrize("pickled", [True, False])
def test_cifar10_joins_its_batches_in_order(tmp_path, pickled):
    files, images = cifar10_files(pickled)
    data = load_cifar("cifar10", write_folder(tmp_path / "ten", files))
    np.testing.assert_array_equal(data.train_inputs.numpy(), images[:5].reshape(-1, 3, 32, 32))
    np.testing.assert_array_equal(data.test_inputs.numpy(), images[5].reshape(-1, 3, 32, 32))
    assert data.train_labels.tolist() == list(range(10)) * 5
    assert list(data.class_names) == CIFAR10
    assert data.group_names is None
    assert data.group_of_class is None
    assert data.name == "ten"


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickles_of_every_protocol_are_the_same_data(tmp_path, protocol):
    """The fifth writes arrays by another function, and their bytes as a bytearray."""
    meta = {"fine_label_names": CLASSES, "coarse_label_names": [name.encode() for name in GROUPS]}
    records = {"train": TRAIN.record(), "test": TEST.record() | {"batch_label": b""}, "meta": meta}
    files = {name: pickle.dumps(record, protocol=protocol) for name, record in records.items()}
    check_is_the_set(load_cifar("cifar100", write_folder(tmp_path / "mine", files)))


# What is no file to read


@pytest.mark.parametrize("make_files", [python_files, binary_files])
@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("pipe", "expected a regular file, got a pipe"),
        ("folder", "expected a regular file, got a folder"),
        ("device", "expected a regular file, got a device"),
        ("large", "expected a file of at most [0-9,]+ bytes, got 1,099,511,627,776"),
        ("loop", "expected the files .*, got no "),
        ("lost", "expected the files .*, got no "),
    ],
)
def test_a_file_that_is_none_is_named_and_not_waited_for(tmp_path, make_files, kind, message):
    for number, name in enumerate(make_files()):
        folder = write_folder(tmp_path / str(number), make_files())
        make_odd(folder / name, kind)
        with pytest.raises(InputError, match=message):
            load_cifar("cifar100", folder)


def make_odd(path: Path, kind: str) -> None:
    path.unlink(missing_ok=True)
    match kind:
        case "pipe":
            os.mkfifo(path)
        case "folder":
            path.mkdir()
        case "large":
            path.touch()
            os.truncate(path, 2**40)
        case _:
            path.symlink_to({"device": "/dev/zero", "loop": path.name, "lost": "nowhere"}[kind])


def test_an_archive_that_is_no_file_is_named_and_not_waited_for(tmp_path):
    make_odd(tmp_path / "cifar-100-python.tar.gz", "pipe")
    for path in (tmp_path, tmp_path / "cifar-100-python.tar.gz"):
        with pytest.raises(InputError, match=r"/cifar-100-python\.tar\.gz: expected a regular file, got a pipe"):
            load_cifar("cifar100", path)


def test_names_are_bounded(tmp_path, monkeypatch):
    files = binary_files() | {"fine_label_names.txt": b"a" * 257}
    with pytest.raises(InputError, match=r"expected names of at most 256 characters, got a{79}…\.$"):
        load_cifar("cifar100", write_folder(tmp_path / "long", files))
    for files in (python_files(), binary_files()):
        monkeypatch.setattr(official, "LARGEST_NAMES", 5)
        with pytest.raises(InputError, match=r"(meta|fine_label_names\.txt): expected a file of at most 5 bytes"):
            load_cifar("cifar100", write_folder(tmp_path / f"many{len(files)}", files))
        with pytest.raises(InputError, match=r"(meta|fine_label_names\.txt): expected at most 5 bytes"):
            load_cifar("cifar100", write_archive(tmp_path / f"many{len(files)}.tar", files, "cifar-100", "w"))


# Pickles


def python2_pickle(record: dict[str, object]) -> bytes:
    """As Python 2 wrote them: byte strings throughout, no helper for bytes."""

    def dump(value: object) -> bytes:
        match value:
            case str():
                return b"U" + bytes([len(value)]) + value.encode()
            case int():
                return b"J" + struct.pack("<i", value)
            case list():
                return b"](" + b"".join(dump(item) for item in value) + b"e"
            case np.ndarray():
                content = value.tobytes()
                return (
                    b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R("
                    + b"K\x01("
                    + b"".join(dump(length) for length in value.shape)
                    + b"tcnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
                    + b"I00\nT"
                    + struct.pack("<i", len(content))
                    + content
                    + b"tb"
                )
        raise TypeError(value)

    return b"\x80\x02}(" + b"".join(dump(key) + dump(value) for key, value in record.items()) + b"u."


def test_python_2_pickles_are_read(tmp_path):
    records = {"train": TRAIN.record(), "test": TEST.record()}
    records["meta"] = {"fine_label_names": CLASSES, "coarse_label_names": GROUPS}
    files = {name: python2_pickle(record) for name, record in records.items()}
    np.testing.assert_array_equal(pickle.loads(files["train"], encoding="bytes")[b"data"], TRAIN.rows)
    check_is_the_set(load_cifar("cifar100", write_folder(tmp_path / "mine", files)))


@pytest.mark.parametrize("module", [b"numpy.core.multiarray", b"numpy._core.multiarray"])
def test_keys_may_be_bytes_and_numpy_may_be_old_or_new(tmp_path, module):
    files = {}
    for name, part in (("train", TRAIN), ("test", TEST)):
        record = {key.encode(): value for key, value in part.record().items()}
        written = pickle.dumps(record, protocol=2)
        assert b"numpy._core.multiarray" in written or b"numpy.core.multiarray" in written
        files[name] = written.replace(b"numpy._core.multiarray", module).replace(b"numpy.core.multiarray", module)
    meta = {b"fine_label_names": [name.encode() for name in CLASSES], b"coarse_label_names": GROUPS}
    files["meta"] = pickle.dumps(meta, protocol=2)
    check_is_the_set(load_cifar("cifar100", write_folder(tmp_path / "mine", files)))


def test_arrays_may_be_column_major_and_labels_arrays_of_any_integers(tmp_path):
    files = python_files()
    record = TRAIN.record() | {
        "data": np.asfortranarray(TRAIN.rows),
        "fine_labels": np.array(TRAIN.labels, dtype=">i2"),
        "coarse_labels": np.array(TRAIN.groups, dtype=np.uint64),
    }
    files["train"] = pickle.dumps(record, protocol=2)
    check_is_the_set(load_cifar("cifar100", write_folder(tmp_path / "mine", files)))


def hostile(global_name: str, argument: str) -> bytes:
    module, _, name = global_name.rpartition(".")
    return (
        b"\x80\x02c"
        + module.encode()
        + b"\n"
        + name.encode()
        + b"\nX"
        + struct.pack("<I", len(argument))
        + (argument.encode() + b"\x85R.")
    )


@pytest.mark.parametrize(
    "called",
    [
        "posix.system",
        "os.system",
        "nt.system",
        "builtins.eval",
        "builtins.exec",
        "builtins.getattr",
        "__builtin__.getattr",
        "operator.attrgetter",
        "functools.partial",
        "importlib.import_module",
        "numpy.load",
        "numpy.save",
        "numpy.fromfile",
        "numpy.memmap",
        "numpy.core.multiarray.scalar",
        "numpy.frombuffer",
        "numpy._core.numeric.fromfunction",
        "numpy.testing._private.utils.runstring",
        "_codecs.decode",
        "codecs.encode",
        "softmaxes.lab.data.pickles._encode",
    ],
)
def test_a_pickle_that_calls_anything_is_refused(tmp_path, called):
    marker = tmp_path / "marker"
    files = python_files() | {"train": hostile(called, f"touch {marker}")}
    with pytest.raises(InputError) as caught:
        load_cifar("cifar100", write_folder(tmp_path / "mine", files))
    assert str(caught.value) == (
        f"{tmp_path / 'mine'}/train: expected only arrays, strings and numbers, got a call of {called}."
    )
    assert not marker.exists()


def test_a_dotted_name_does_not_reach_through_an_allowed_module(tmp_path):
    content = b"\x80\x04\x8c\x05numpy\x8c\x0endarray.tofile\x93."
    files = python_files() | {"train": content}
    with pytest.raises(InputError, match=r"got a call of numpy\.ndarray\.tofile\.$"):
        load_cifar("cifar100", write_folder(tmp_path / "mine", files))


RECONSTRUCT = b"cnumpy.core.multiarray\n_reconstruct\n"
DTYPE_U1 = b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R"
DTYPE_OBJECT = b"cnumpy\ndtype\nU\x02O8K\x00K\x01\x87R"


def image_array(shape: bytes, dtype: bytes, content: bytes) -> bytes:
    """A record whose data is an array of this description."""
    array = RECONSTRUCT + b"cnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01" + shape + dtype + b"I00\n" + content + b"tb"
    return b"\x80\x02}(U\x04data" + array + b"u."


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (image_array(b"(K\x01M\x00\x0ct", DTYPE_OBJECT, b"](K\x01K\x02e"), "got an array without shape"),
        (image_array(b"(K\x01M\x00\x0ct", DTYPE_OBJECT, b"U\x04abcd"), "elements of type 'O8'"),
        (image_array(b"(J\xff\xff\xff\x7fM\x00\x0ct", DTYPE_U1, b"U\x04abcd"), "cannot reshape array of size 4"),
        (image_array(b"(J\xff\xff\xff\xffM\x00\x0ct", DTYPE_U1, b"U\x04abcd"), "a shape that is none"),
        (image_array(b"K\x04", DTYPE_U1, b"U\x04abcd"), "without shape"),
        (image_array(b"(K\x02K\x02t", DTYPE_U1, b"U\x04abcd"), r"uint8 \(N, 3072\), got uint8 \(2, 2\)"),
        (image_array(b"(K\x00M\x00\x0ct", DTYPE_U1, b"U\x00"), r"uint8 \(N, 3072\), got uint8 \(0, 3072\)"),
        (b"\x80\x02}U\x04data" + RECONSTRUCT + b")Rs.", "without shape"),
        (b"\x80\x02}U\x04datacnumpy\nndarray\ns.", "expected data as a list, got function"),
        (b"\x80\x02cnumpy\nndarray\n)\x81.", "the instruction NEWOBJ"),
        (b"\x80\x02Pposix.system\n.", "the instruction PERSID"),
        (b"\x80\x02\x82\x01.", "the instruction EXT1"),
        (b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aU\x06rot_13\x86R.", "bytes in an unknown encoding"),
        (b"\x80\x02]q\x00.", "expected a pickled dictionary, got list"),
        (b"\x80\x02}.", "expected the key data"),
        (b"\x80\x02}K\x01K\x02s.", "expected names as text, got int"),
        (b"no pickle at all", "cannot be read"),
        (b"", "the file ends after 0 bytes"),
    ],
)
def test_a_pickle_of_something_else_is_refused_in_one_line(tmp_path, content, message):
    files = python_files() | {"train": content}
    with pytest.raises(InputError, match=message) as caught:
        load_cifar("cifar100", write_folder(tmp_path / "mine", files))
    assert str(caught.value).startswith(f"{tmp_path / 'mine'}/train: expected ")
    assert "\n" not in str(caught.value)


def test_a_pickle_cannot_change_the_reader(tmp_path):
    """BUILD sets attributes of what lies on the stack: here, of the function that stands for _codecs.encode."""
    attack = b"\x80\x02c_codecs\nencode\nN}U\x0c__defaults__K\x05\x85s\x86b."
    before = pickles._encode.__defaults__
    with pytest.raises(InputError):
        load_cifar("cifar100", write_folder(tmp_path / "mine", python_files() | {"train": attack}))
    assert pickles._encode.__defaults__ == before
    check_is_the_set(load_cifar("cifar100", write_folder(tmp_path / "good", python_files())))


@pytest.mark.parametrize(
    ("file", "what"), [("train", "50000 images"), ("test", "10000 images"), ("meta", "label names")]
)
@pytest.mark.parametrize("share", [0.02, 0.5, 0.99])
def test_a_truncated_pickle_is_named(tmp_path, file, what, share):
    files = python_files()
    files[file] = files[file][: int(len(files[file]) * share)]
    size = len(files[file])
    with pytest.raises(InputError) as caught:
        load_cifar("cifar100", write_folder(tmp_path / "mine", files))
    assert str(caught.value) == (
        f"{tmp_path / 'mine'}/{file}: expected a whole pickle of {what}, the file ends after {size} bytes."
    )


@with_the_official_files
@pytest.mark.slow
def test_the_official_files_are_cifar100(tmp_path):
    archive = tmp_path / "mine.tar.gz"
    with tarfile.open(archive, "w:gz", compresslevel=1) as opened:
        opened.add(OFFICIAL_FILES, "cifar-100-python")
    for place in (OFFICIAL_FILES, archive):
        data = load_cifar("cifar100", place)
        assert data.name == "cifar100"
        assert (len(data.train_inputs), len(data.test_inputs)) == (50_000, 10_000)
        assert Counter(data.group_of_class) == dict.fromkeys(range(20), 5)
        assert data.group_names[data.group_of_class[data.class_names.index("otter")]] == "aquatic_mammals"
        assert set(data.train_labels.bincount().tolist()) == {500}


@with_the_official_files
@pytest.mark.slow
@pytest.mark.parametrize("file", ["train", "test", "meta"])
def test_official_files_that_break_off_are_refused(tmp_path, file):
    shutil.copytree(OFFICIAL_FILES, tmp_path / "mine")
    (tmp_path / "mine" / file).chmod(0o644)
    os.truncate(tmp_path / "mine" / file, (OFFICIAL_FILES / file).stat().st_size // 2)
    with pytest.raises(InputError, match=f"mine/{file}: expected a whole pickle of .*, the file ends after"):
        load_cifar("cifar100", tmp_path / "mine")


# Broken data


def test_a_binary_file_of_another_size_is_refused(tmp_path):
    files = binary_files()
    files["train.bin"] = files["train.bin"][:-100]
    with pytest.raises(InputError) as caught:
        load_cifar("cifar100", write_folder(tmp_path / "mine", files))
    assert str(caught.value) == (
        f"{tmp_path / 'mine'}/train.bin: expected whole records of 3074 bytes (2 for labels, 3072 for pixels), "
        "got 36788 bytes: 11 records and 2974 bytes."
    )


def test_a_truncated_archive_is_refused(tmp_path):
    for mode, suffix in (("w:gz", "tar.gz"), ("w", "tar")):
        archive = write_archive(tmp_path / f"mine.{suffix}", binary_files(), "cifar-100-binary", mode)
        archive.write_bytes(archive.read_bytes()[:20_000])
        with pytest.raises(
            InputError, match=rf"mine\.{suffix}: expected a whole tar archive .* got 20000 bytes"
        ) as caught:
            load_cifar("cifar100", archive)
        assert "\n" not in str(caught.value)


def test_a_file_that_is_no_archive_is_refused(tmp_path):
    (tmp_path / "mine.tar.gz").write_bytes(b"<html>not found</html>")
    with pytest.raises(InputError, match=r"expected a whole tar archive .* got 22 bytes") as caught:
        load_cifar("cifar100", tmp_path / "mine.tar.gz")
    assert "\n" not in str(caught.value)


def test_missing_files_are_named(tmp_path):
    files = python_files()
    del files["meta"]
    with pytest.raises(InputError, match=r"mine: expected the files train, test, meta, got no meta\.$"):
        load_cifar("cifar100", write_folder(tmp_path / "mine", files))
    with pytest.raises(InputError, match=r"mine: expected cifar10's files data_batch_1, .* got none of them\.$"):
        load_cifar("cifar10", tmp_path / "mine")
    with pytest.raises(InputError, match=r"nowhere: expected an archive or folder .*, got nothing of that name\.$"):
        load_cifar("cifar100", tmp_path / "nowhere")


def test_an_archive_of_another_name_in_a_folder_is_pointed_out(tmp_path):
    archive = write_archive(tmp_path / "standin.tar.gz", binary_files(), "cifar-100-binary")
    with pytest.raises(InputError, match=f"an archive is given by its own name, such as {archive}"):
        load_cifar("cifar100", tmp_path)


@pytest.mark.parametrize("make_files", [python_files, binary_files])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": [4, *TRAIN.labels[1:]]}, r"/train\S*: expected labels in 0\.\.3, one for each name, got 4\.$"),
        ({"groups": [2, *TRAIN.groups[1:]]}, r"/train\S*: expected coarse labels in 0\.\.1, .*, got 2\.$"),
        (
            {"labels": [0 if label == 2 else label for label in TRAIN.labels], "groups": [0] * 12},
            "expected training images of every class, got none of pear",
        ),
    ],
)
def test_labels_are_checked_against_the_names(tmp_path, make_files, change, message):
    with pytest.raises(InputError, match=message):
        load_cifar("cifar100", write_folder(tmp_path / "mine", make_files(train=replace(TRAIN, **change))))


@pytest.mark.parametrize("part", ["train", "test"])
def test_a_class_in_two_groups_is_named(tmp_path, part):
    original = {"train": TRAIN, "test": TEST}[part]
    row = original.labels.index(1)
    groups = [0 if index == row else group for index, group in enumerate(original.groups)]
    with pytest.raises(InputError, match=r"every image of class boat in one group, got fruit and vehicle\.$"):
        load_cifar(
            "cifar100", write_folder(tmp_path / "mine", python_files(**{part: replace(original, groups=groups)}))
        )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fine_labels": TRAIN.labels[1:]}, r"expected 12 fine_labels, one an image, got \(11,\)"),
        ({"fine_labels": [0.5] * 12}, "expected fine_labels as an array or list of integers"),
        ({"fine_labels": [2**70] * 12}, "expected fine_labels as an array or list of integers"),
        ({"fine_labels": "0123"}, "expected fine_labels as a list, got str"),
        ({"data": TRAIN.rows.astype(np.int64)}, r"expected data as uint8 \(N, 3072\), got int64"),
        (
            {"data": TRAIN.rows.astype(np.float32)},
            "expected data as an array or list of integers, got elements of type",
        ),
    ],
)
def test_a_pickled_batch_is_checked(tmp_path, change, message):
    files = python_files() | {"train": pickle.dumps(TRAIN.record() | change, protocol=2)}
    with pytest.raises(InputError, match=message):
        load_cifar("cifar100", write_folder(tmp_path / "mine", files))


def test_names_are_printable_text(tmp_path):
    files = binary_files() | {"fine_label_names.txt": b"\xff\xfe\nboat\npear\ntram\n"}
    with pytest.raises(InputError, match=r"fine_label_names\.txt: expected names in UTF-8"):
        load_cifar("cifar100", write_folder(tmp_path / "bytes", files))
    files = binary_files() | {"fine_label_names.txt": b"ap\x1b[31mple\nboat\npear\ntram\n"}
    with pytest.raises(InputError, match=r"expected names of printable characters, got 'ap\\x1b\[31mple'"):
        load_cifar("cifar100", write_folder(tmp_path / "control", files))


# Names


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("standin-100-binary.tar.gz", "standin-100"),
        ("standin-100-python.tgz", "standin-100"),
        ("birds.v2.tar", "birds.v2"),
        ("cifar-100-binary.tar.gz", "cifar-100-unofficial"),
        ("CIFAR100.tar.gz", "CIFAR100-unofficial"),
        ("cifar10.tar.gz", "cifar10-unofficial"),
    ],
)
def test_other_data_is_named_after_its_file(tmp_path, file, name):
    mode = "w" if file.endswith(".tar") else "w:gz"
    data = load_cifar("cifar100", write_archive(tmp_path / file, binary_files(), "cifar-100-binary", mode))
    assert data.name == name
    assert data.description == "Colour images in the layout of CIFAR-100."


def test_other_data_in_a_folder_is_named_after_the_folder_given(tmp_path, monkeypatch):
    outer = write_folder(tmp_path / "mine" / "cifar-100-python", python_files()).parent
    assert load_cifar("cifar100", outer).name == "mine"
    assert load_cifar("cifar100", outer / "cifar-100-python").name == "cifar-100-unofficial"
    monkeypatch.chdir(outer)
    assert load_cifar("cifar100", Path()).name == "mine"


def test_only_the_official_counts_and_names_make_it_cifar10(tmp_path, monkeypatch):
    files, _ = cifar10_files(pickled=False)
    folder = write_folder(tmp_path / "cifar-10-batches-bin", files)
    assert load_cifar("cifar10", folder).name == "cifar-10-unofficial"
    for train, test in ((4, 1), (5, 2), (5, 1)):
        known = replace(cifar.OFFICIAL["cifar10"], train_per_class=train, test_per_class=test)
        monkeypatch.setitem(cifar.OFFICIAL, "cifar10", known)
        if (train, test) != (5, 1):
            assert load_cifar("cifar10", folder).name == "cifar-10-unofficial"
    assert load_cifar("cifar10", folder).name == "cifar10"
    (folder / "batches.meta.txt").write_text("\n".join([*CIFAR10[:-1], "lorry"]))
    assert load_cifar("cifar10", folder).name == "cifar-10-unofficial"


def test_the_official_counts_are_known():
    assert [(known.train_per_class, known.test_per_class) for known in cifar.OFFICIAL.values()] == [
        (5000, 1000),
        (500, 100),
    ]


# The download


def test_without_a_folder_the_official_archive_is_downloaded_and_read(tmp_path, monkeypatch):
    archive = write_archive(tmp_path / "cifar-100-python.tar.gz", python_files(), "cifar-100-python")
    asked = []

    def download(address: str, folder: Path, *, checksum: str) -> Path:
        asked.append((address, folder, checksum))
        return Path(shutil.copy(archive, tmp_path / "copy.tar.gz"))

    monkeypatch.setattr(cifar, "download", download)
    monkeypatch.setenv("SOFTMAXES_CACHE", str(tmp_path / "cache"))
    data = load_cifar("cifar100")
    check_is_the_set(data)
    address = "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz"
    assert data.source == address
    assert asked == [(address, tmp_path / "cache" / "downloads", "md5:eb9058c3a382ffc7106e4002c42a8d85")]
