import os
import signal
from pathlib import Path

import pytest

from softmaxes.files import InputError, check_json, check_regular, open_regular, read_whole, write_whole

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
