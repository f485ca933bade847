import errno
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import save_file

from softmaxes.files import (
    InputError,
    check_json,
    check_out,
    check_regular,
    open_regular,
    read_whole,
    remove_parts,
    said,
    write_whole,
)

READERS = [open_regular, check_regular, read_whole]


@pytest.fixture(autouse=True)
def _no_hang():
    """A reader that waits for a pipe's writer would wait for ever."""
    signal.alarm(20)
    yield
    signal.alarm(0)


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize(("kind", "said"), [("pipe", "a pipe"), ("folder", "a folder"), ("device", "a device")])
def test_what_is_no_regular_file_is_refused(tmp_path: Path, read, kind, said):
    path = tmp_path / "one"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path = Path("/dev/zero")
    with pytest.raises(InputError, match=f"expected a regular file, got {said}"):
        read(path)


@pytest.mark.parametrize("read", READERS)
def test_a_file_has_at_most_so_many_bytes(tmp_path: Path, read):
    path = tmp_path / "one"
    path.write_bytes(b"12345")
    with pytest.raises(InputError, match="one: expected a file of at most 4 bytes, got 5"):
        read(path, 4)
    found = read(path, 5)
    if read is open_regular:
        with found:
            found = found.read()
    assert found in (5, b"12345")


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="another system")
def test_what_cannot_be_read_is_named(tmp_path: Path):
    """It can be opened, and has nothing at its beginning."""
    (tmp_path / "one").symlink_to("/proc/self/mem")
    with pytest.raises(OSError, match="Input/output error") as caught:
        read_whole(tmp_path / "one")
    assert caught.value.filename == str(tmp_path / "one")


def test_a_link_to_a_regular_file_is_read(tmp_path: Path):
    (tmp_path / "one").write_bytes(b"1")
    (tmp_path / "two").symlink_to(tmp_path / "one")
    assert read_whole(tmp_path / "two") == b"1"


def test_a_writer_that_fails_leaves_what_was_there(tmp_path: Path):
    path = tmp_path / "one"
    path.write_bytes(b"old")

    def fails(part: Path) -> None:
        part.write_bytes(b"half")
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError):
        write_whole(path, fails)
    assert [file.name for file in tmp_path.iterdir()] == ["one"]
    assert path.read_bytes() == b"old"


def test_json_has_at_most_so_many_values():
    text = b'{"a": [1, 2, {}]}'
    check_json("one", text, values=2, containers=3)
    with pytest.raises(InputError, match=r"^one: expected JSON of at most 1 values, got 2"):
        check_json("one", text, values=1, containers=3)
    with pytest.raises(InputError, match=r"^one: expected JSON of at most 2 lists and dictionaries, got 3"):
        check_json("one", text, values=2, containers=2)


def full(part: Path) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def full_as_numpy_says_it(part: Path) -> None:
    part.write_bytes(b"half")
    raise OSError("1000000 requested and 131056 written")


def full_as_torch_says_it(part: Path) -> None:
    part.write_bytes(b"half")
    raise RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 576 vs 534")


def full_as_safetensors_says_it(part: Path) -> None:
    raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")


WRITERS = [full, full_as_numpy_says_it, full_as_torch_says_it, full_as_safetensors_says_it]


@pytest.fixture
def full_disk():
    """No file may have more than some bytes: as on a full disk, but for the number of the error."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("write", WRITERS, ids=lambda write: write.__name__)
def test_want_of_space_names_the_file_whatever_the_writer_says(tmp_path: Path, write, full_disk):
    path = tmp_path / "one"
    path.write_bytes(b"old")
    with pytest.raises(OSError, match=r"No space left on device|File too large") as caught:
        write_whole(path, write)
    assert caught.value.filename == str(path)
    assert said(caught.value) in (f"{path}: No space left on device", f"{path}: File too large")
    assert [file.name for file in tmp_path.iterdir()] == ["one"]
    assert path.read_bytes() == b"old"


@pytest.mark.parametrize(
    "write",
    [
        lambda part: torch.save(torch.zeros(100_000), part),
        lambda part: save_file({"a": torch.zeros(100_000)}, part),
        lambda part: np.arange(100_000).tofile(part),
        lambda part: part.write_text("a" * 100_000),
        lambda part: Image.effect_noise((500, 500), 90).save(part, format="PNG"),
    ],
    ids=["torch", "safetensors", "numpy", "text", "picture"],
)
def test_real_writers_want_space(tmp_path: Path, write, full_disk):
    with pytest.raises(OSError, match="File too large") as caught:
        write_whole(tmp_path / "new" / "one", write)
    assert caught.value.filename == str(tmp_path / "new" / "one")
    assert list((tmp_path / "new").iterdir()) == []


def test_what_is_no_want_of_space_stays_what_it_is(tmp_path: Path):
    def read_another(part: Path) -> None:
        (tmp_path / "none").read_bytes()

    def fail(part: Path) -> None:
        raise OSError("Couldn't deserialize thrift")

    with pytest.raises(FileNotFoundError) as caught:
        write_whole(tmp_path / "one", read_another)
    assert caught.value.filename == str(tmp_path / "none")
    with pytest.raises(OSError, match=r"^Couldn't deserialize thrift$"):
        write_whole(tmp_path / "one", fail)


@pytest.mark.parametrize(("kind", "got"), [("pipe", "a pipe"), ("folder", "a folder"), ("device", "a device")])
def test_nothing_is_put_in_place_of_what_is_no_file(tmp_path: Path, kind, got):
    path = tmp_path / "one"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/null")
    for refuse in (lambda: write_whole(path, lambda part: part.touch()), lambda: check_out(path, b"mark")):
        with pytest.raises(InputError, match=f": expected a regular file or none, got {got}"):
            refuse()
    assert [file.name for file in tmp_path.iterdir()] == ["one"]


def test_of_parts_only_ones_own_are_removed(tmp_path: Path):
    (tmp_path / "below").mkdir()
    (tmp_path / "elsewhere").touch()
    own = [".a.json.12.part", ".b.json.7.part"]
    others = [".movie.mkv.part", ".c.json.12.part", "a.json.12.part", ".a.json.part", "below/.a.json.12.part"]
    for name in own + others:
        (tmp_path / name).touch()
    (tmp_path / ".a.json.13.part").symlink_to(tmp_path / "elsewhere")
    (tmp_path / ".a.json.14.part").mkdir()
    remove_parts(tmp_path, r"[ab]\.json")
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")}
    assert left == {*others, "below", "elsewhere", ".a.json.13.part", ".a.json.14.part"}


def test_a_file_is_replaced_if_nothing_is_lost(tmp_path: Path):
    path, link = tmp_path / "one", tmp_path / "link"
    link.symlink_to(path)
    for content in (None, b"", b"same content", b"so a mark is in the beginning"):
        if content is not None:
            path.write_bytes(content)
        assert check_out(path, b"mark", b"same content") == path
        assert check_out(link, b"mark", b"same content") == path  # a link stays one
    for other in (b"the user's", b"same", b"same content and more", bytes(5000) + b"mark"):
        path.write_bytes(other)
        for mark, told in (
            (b"mark", ", or one that this command wrote, got another"),
            (b"", ", got one that is there"),
        ):
            with pytest.raises(InputError, match=f"expected no file{told}; move it away first"):
                check_out(path, mark, b"same content")
        assert path.read_bytes() == other
