import hashlib
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock

from softmaxes.lab import InputError
from softmaxes.lab.data import download as download_module
from softmaxes.lab.data.download import CHUNK_BYTES, download

CONTENT = np.random.default_rng(0).bytes(300_000)
MD5 = f"md5:{hashlib.md5(CONTENT).hexdigest()}"  # noqa: S324  # the official addresses publish md5
SHA256 = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"


class Server(ThreadingHTTPServer):
    """Serves CONTENT and keeps the Range header of every request; how it misbehaves is set by its attributes."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.ranges: list[str | None] = []
        self.cuts: list[int] = []  # after how many bytes each of the next answers breaks off
        self.knows_range = True
        self.shift = 0  # how far beside what was asked for it answers
        self.leads_to: str | None = None  # another address
        self.statuses: list[int] = []  # of the next answers, instead of the file
        self.size: str | None = str(len(CONTENT))  # as it is stated, if it is

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/data/file.tar.gz?key=1"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:  # the name that http.server calls
        wanted = self.headers.get("Range")
        self.server.ranges.append(wanted)
        if self.server.leads_to:
            self.send_response(302)
            self.send_header("Location", self.server.leads_to)
            self.end_headers()
            return
        if self.server.statuses:
            self.send_error(self.server.statuses.pop(0))
            return
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and self.server.knows_range else 0
        if start >= len(CONTENT):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(CONTENT)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if wanted and self.server.knows_range:
            start += self.server.shift
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(CONTENT) - 1}/{self.server.size or '*'}")
        else:
            self.send_response(200)
        if self.server.size == str(len(CONTENT)):
            self.send_header("Content-Length", str(len(CONTENT) - start))
        elif self.server.size:
            self.send_header("Content-Length", self.server.size)
        self.end_headers()
        stop = start + self.server.cuts.pop(0) if self.server.cuts else len(CONTENT)
        self.wfile.write(CONTENT[start:stop])


@contextmanager
def running(server: Server) -> Iterator[Server]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def server(monkeypatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with running(Server()) as started:
        yield started


def visible(folder: Path) -> list[str]:
    """The files in the folder but for the lock, which stays."""
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock")


@pytest.mark.parametrize("checksum", [MD5, SHA256, SHA256.upper().replace("SHA256", "sha256")])
def test_a_file_is_downloaded_once(tmp_path, server, checksum):
    folder = tmp_path / "new" / "cache"
    for _ in range(2):
        path = download(server.address, folder, checksum=checksum)
        assert path == folder / "file.tar.gz"
        assert path.read_bytes() == CONTENT
    assert server.ranges == [None]
    assert visible(folder) == ["file.tar.gz"]


def test_a_file_that_is_there_needs_no_place_to_write(tmp_path, server):
    (tmp_path / "file.tar.gz").write_bytes(CONTENT)
    (tmp_path / "file.tar.gz.lock").mkdir()  # no lock can be made
    assert download(server.address, tmp_path, checksum=MD5).read_bytes() == CONTENT
    assert server.ranges == []


def test_a_file_of_another_checksum_is_replaced(tmp_path, server):
    (tmp_path / "file.tar.gz").write_bytes(b"an older file")
    assert download(server.address, tmp_path, checksum=MD5).read_bytes() == CONTENT
    assert server.ranges == [None]


def test_a_cut_connection_is_resumed_where_it_broke_off(tmp_path, server):
    server.cuts = [2 * CHUNK_BYTES, CHUNK_BYTES]
    assert download(server.address, tmp_path, checksum=MD5, delay=0).read_bytes() == CONTENT
    assert server.ranges == [None, f"bytes={2 * CHUNK_BYTES}-", f"bytes={3 * CHUNK_BYTES}-"]
    assert visible(tmp_path) == ["file.tar.gz"]


def test_a_later_call_goes_on_with_the_part_of_an_earlier_one(tmp_path, server):
    server.cuts = [2 * CHUNK_BYTES]
    with pytest.raises(InputError, match="got a connection that broke off after 1 try;"):
        download(server.address, tmp_path, checksum=MD5, retries=0)
    assert visible(tmp_path) == ["file.tar.gz.part"]
    assert download(server.address, tmp_path, checksum=MD5).read_bytes() == CONTENT
    assert server.ranges == [None, f"bytes={2 * CHUNK_BYTES}-"]


def test_a_server_that_ignores_range_starts_anew(tmp_path, server):
    server.knows_range = False
    server.cuts = [2 * CHUNK_BYTES]
    assert download(server.address, tmp_path, checksum=MD5, delay=0).read_bytes() == CONTENT
    assert server.ranges == [None, f"bytes={2 * CHUNK_BYTES}-"]


def test_a_server_that_answers_another_range_is_asked_anew(tmp_path, server):
    server.cuts, server.shift = [2 * CHUNK_BYTES], 7
    assert download(server.address, tmp_path, checksum=MD5, delay=0).read_bytes() == CONTENT
    assert server.ranges == [None, f"bytes={2 * CHUNK_BYTES}-", None]


def test_a_part_that_is_whole_already_is_kept(tmp_path, server):
    (tmp_path / "file.tar.gz.part").write_bytes(CONTENT)
    assert download(server.address, tmp_path, checksum=MD5, retries=0).read_bytes() == CONTENT
    assert server.ranges == [f"bytes={len(CONTENT)}-"]


def test_a_part_that_is_too_long_is_dropped(tmp_path, server):
    (tmp_path / "file.tar.gz.part").write_bytes(CONTENT + b"more")
    assert download(server.address, tmp_path, checksum=MD5, delay=0).read_bytes() == CONTENT
    assert server.ranges == [f"bytes={len(CONTENT) + 4}-", None]


@pytest.mark.parametrize("name", ["file.tar.gz", "file.tar.gz.part"])
def test_a_file_that_is_none_is_named_and_not_waited_for(tmp_path, server, name):
    os.mkfifo(tmp_path / name)
    with pytest.raises(InputError, match=rf"/{name}: expected a regular file, got a pipe"):
        download(server.address, tmp_path, checksum=MD5)
    assert server.ranges == []


@pytest.mark.parametrize("stated", [True, False])
def test_a_download_that_is_too_large_is_stopped_and_removed(tmp_path, server, monkeypatch, stated):
    monkeypatch.setattr(download_module, "MOST_BYTES", 3 * CHUNK_BYTES)
    if not stated:
        server.size = None
    (tmp_path / "file.tar.gz.part").write_bytes(CONTENT[: 2 * CHUNK_BYTES])
    with pytest.raises(InputError, match=r"expected a file of at most 196,608 bytes, got more; it was removed\.$"):
        download(server.address, tmp_path, checksum=MD5, delay=0)
    assert len(server.ranges) == 1
    assert visible(tmp_path) == []


@pytest.mark.parametrize("part", [b"", CONTENT[:CHUNK_BYTES]])
def test_a_size_of_thousands_of_digits_is_none(tmp_path, server, part):
    server.size = "9" * 5000
    (tmp_path / "file.tar.gz.part").write_bytes(part)
    assert download(server.address, tmp_path, checksum=MD5, delay=0).read_bytes() == CONTENT


def test_a_wrong_checksum_is_refused_and_the_file_removed(tmp_path, server):
    wrong = f"md5:{'0' * 32}"
    with pytest.raises(InputError) as caught:
        download(server.address, tmp_path, checksum=wrong)
    assert str(caught.value) == (
        f"{server.address}: expected a file with md5 {'0' * 32}, got {MD5.removeprefix('md5:')}; "
        "the download was removed."
    )
    assert visible(tmp_path) == []


def test_a_missing_file_is_not_asked_for_again(tmp_path, server):
    server.statuses = [404]
    with pytest.raises(InputError, match=r"expected a download, got status 404 Not Found; .* --data-dir\.$"):
        download(server.address, tmp_path, checksum=MD5, delay=0)
    assert len(server.ranges) == 1
    assert visible(tmp_path) == []


def test_a_busy_server_is_asked_again(tmp_path, server):
    server.statuses = [503, 429]
    assert download(server.address, tmp_path, checksum=MD5, delay=0).read_bytes() == CONTENT
    assert len(server.ranges) == 3


def test_retries_are_counted_and_wait_twice_as_long_each_time(tmp_path, server, monkeypatch):
    waits = []
    monkeypatch.setattr("time.sleep", waits.append)
    server.statuses = [503] * 10
    with pytest.raises(InputError, match="got status 503 Service Unavailable after 6 tries"):
        download(server.address, tmp_path, checksum=MD5)
    assert len(server.ranges) == 6
    assert [wait for wait in waits if wait >= 1] == [1, 2, 4, 8, 16]


def test_no_network_says_what_to_do_instead(tmp_path, server):
    with running(Server()) as gone:
        address = gone.address
    with pytest.raises(InputError) as caught:
        download(address, tmp_path, checksum=MD5, retries=1, delay=0)
    assert str(caught.value) == (
        f"{address}: expected a download, got no connection after 2 tries; "
        "fetch the file some other way and pass it with --data-dir."
    )


NO_ADDRESSES = ["gopher://127.0.0.1/file", "http://[1/file", "http://127.0.0.1:nine/file"]


@pytest.mark.parametrize("address", ["nonsense/file", "http:///file", *NO_ADDRESSES])
def test_an_address_that_is_none_is_refused(tmp_path, address):
    with pytest.raises(InputError, match="got an address that is none"):
        download(address, tmp_path, checksum=MD5, delay=0)


@pytest.mark.parametrize("address", NO_ADDRESSES)
def test_a_server_that_leads_to_no_address_is_refused(tmp_path, server, address):
    server.leads_to = address
    with pytest.raises(InputError, match=f"{server.server_port}/data/file.*got an address that is none"):
        download(server.address, tmp_path, checksum=MD5, delay=0)


def test_a_link_in_the_place_of_a_part_is_not_followed(tmp_path, server):
    (tmp_path / "mine.txt").write_text("mine")
    (tmp_path / "file.tar.gz.part").symlink_to(tmp_path / "mine.txt")
    with pytest.raises(InputError, match=r"file\.tar\.gz\.part: expected a file or none, got a link"):
        download(server.address, tmp_path, checksum=MD5)
    assert (tmp_path / "mine.txt").read_text() == "mine"


def test_a_cache_that_cannot_be_written_is_named(tmp_path, server):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(InputError, match=r"file: expected a place to keep the download file\.tar\.gz, got: "):
        download(server.address, tmp_path / "file", checksum=MD5)


def test_downloads_at_once_share_one_file(tmp_path, server):
    with ThreadPoolExecutor(4) as pool:
        paths = list(pool.map(lambda _: download(server.address, tmp_path, checksum=MD5), range(4)))
    assert [path.read_bytes() for path in paths] == [CONTENT] * 4
    assert server.ranges == [None]


def test_another_process_is_waited_for(tmp_path, server, capsys):
    held = threading.Event()

    def hold() -> None:
        with FileLock(tmp_path / "file.tar.gz.lock"):
            held.set()
            time.sleep(0.2)
            (tmp_path / "file.tar.gz").write_bytes(CONTENT)

    with ThreadPoolExecutor(1) as pool:
        holding = pool.submit(hold)
        held.wait()
        download(server.address, tmp_path, checksum=MD5)
        holding.result()
    assert server.ranges == []  # the other one had got it
    assert "Waiting for another process that downloads file.tar.gz." in capsys.readouterr().err
