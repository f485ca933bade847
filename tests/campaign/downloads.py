"""Downloads from servers that misbehave. The server is a process of this machine, and no other machine is asked."""

import hashlib
import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from random import Random
from typing import Any
from urllib.parse import urlsplit

from campaign import bases, mutate
from campaign.bases import Bases
from campaign.case import Case, Command, Place

PATIENCE = 1.0  # seconds without an answer after which a try is broken, in place of thirty
DELAY = 0.02  # seconds before the first retry, in place of one


@cache
def content() -> bytes:
    """What is downloaded: an archive in the layout of CIFAR-10, large enough to break off."""
    return bases.tar({**bases.cifar_pickles("cifar10"), "more": Random(0).randbytes(500_000)}, "gz")


@dataclass(frozen=True)
class Answer:
    """How the server answers.

    Attributes:
        about: in words.
        send: sends it; is given the handler and where the client wants to go on, 0 if it does not say.
        fine: whether the download must succeed, after retries perhaps.
    """

    about: str
    send: Callable[["Handler", int], None]
    fine: bool = False


def _whole(handler: "Handler", start: int) -> None:
    if start >= len(content()):
        handler.head(416, {"Content-Range": f"bytes */{len(content())}", "Content-Length": "0"})
        return
    code = 206 if start else 200
    headers = {"Content-Length": str(len(content()) - start)}
    if start:
        headers["Content-Range"] = f"bytes {start}-{len(content()) - 1}/{len(content())}"
    handler.head(code, headers)
    handler.wfile.write(content()[start:])


def _with(code: int, headers: dict[str, str], body: bytes = b"") -> Callable[["Handler", int], None]:
    def send(handler: "Handler", start: int) -> None:
        handler.head(code, {"Content-Length": str(len(body))} | headers)
        handler.wfile.write(body)

    return send


def _raw(data: bytes) -> Callable[["Handler", int], None]:
    def send(handler: "Handler", start: int) -> None:
        handler.wfile.write(data)
        handler.close_connection = True

    return send


def _breaks_off(handler: "Handler", start: int) -> None:
    """Sends a third at a time."""
    part = len(content()) // 3 + 1
    handler.head(
        206 if start else 200,
        {
            "Content-Length": str(len(content()) - start),
            "Content-Range": f"bytes {start}-{len(content()) - 1}/{len(content())}",
        },
    )
    handler.wfile.write(content()[start : start + part])
    handler.close_connection = True


def _endless(handler: "Handler", start: int) -> None:
    """Sends more than there is, without an end."""
    handler.head(200, {})
    block = bytes(2**20)
    for _ in range(12_000):
        handler.wfile.write(block)
        time.sleep(0.001)


def _slow(handler: "Handler", start: int) -> None:
    handler.head(200, {"Content-Length": str(len(content()))})
    handler.wfile.write(content()[:100])
    handler.wfile.flush()
    threading.Event().wait(60)


def _slowly(handler: "Handler", start: int) -> None:
    """Sends all of it, in two seconds."""
    part = len(content()) // 20 + 1
    headers = {"Content-Length": str(len(content()) - start)}
    if start:
        headers["Content-Range"] = f"bytes {start}-{len(content()) - 1}/{len(content())}"
    handler.head(206 if start else 200, headers)
    for at in range(start, len(content()), part):
        handler.wfile.write(content()[at : at + part])
        handler.wfile.flush()
        time.sleep(0.1)


def _silent(handler: "Handler", start: int) -> None:
    threading.Event().wait(60)


def _flipped(handler: "Handler", start: int) -> None:
    changed = bytearray(content())
    changed[len(changed) // 2] ^= 1
    handler.head(200, {"Content-Length": str(len(changed))})
    handler.wfile.write(bytes(changed))


def _other_part(handler: "Handler", start: int) -> None:
    handler.head(206, {"Content-Length": "9", "Content-Range": f"bytes {start + 7}-{start + 15}/{len(content())}"})
    handler.wfile.write(b"012345678")


def _packed(handler: "Handler", start: int) -> None:
    """3 GiB of zeros that unfold on the way."""
    stream, checksum, size = _zeros()
    ending = checksum.to_bytes(4, "little") + (size % 2**32).to_bytes(4, "little")
    body = b"\x1f\x8b\x08\0\0\0\0\0\x02\xff" + stream + ending
    handler.head(200, {"Content-Encoding": "gzip", "Content-Length": str(len(body))})
    handler.wfile.write(body)


@cache
def _zeros() -> tuple[bytes, int, int]:
    return bases.deflated([3 * 1024])


def _loop(handler: "Handler", start: int) -> None:
    handler.head(302, {"Location": handler.path, "Content-Length": "0"})


ANSWERS = (
    Answer("all of it", _whole, True),
    Answer("all of it, slowly", _slowly, True),
    Answer("a third at a time", _breaks_off, True),
    Answer("more without an end", _endless),
    Answer("a beginning, then nothing", _slow),
    Answer("nothing", _silent),
    Answer("a bit flipped", _flipped),
    Answer("another part than asked for", _other_part),
    Answer("zeros that unfold", _packed),
    Answer("round and round", _loop),
    Answer("404", _with(404, {})),
    Answer("500", _with(500, {})),
    Answer("429", _with(429, {"Retry-After": "1" + "0" * 18})),
    Answer("204", _with(204, {})),
    Answer("an empty file", _with(200, {})),
    Answer("a page", _with(200, {"Content-Type": "text/html"}, b"<html>log in</html>")),
    Answer("a length of 10^18", _with(200, {"Content-Length": "1" + "0" * 18}, b"x")),
    Answer("a length of 5,000 digits", _with(200, {"Content-Length": "9" * 5000}, b"x")),
    Answer("a length below zero", _with(200, {"Content-Length": "-5"}, b"x")),
    Answer("a length that is none", _with(200, {"Content-Length": "many"}, b"x")),
    Answer("a length of another script", _with(200, {"Content-Length": "\u00b2"}, b"x")),
    Answer("a range of 5,000 digits", _with(206, {"Content-Range": f"bytes {'9' * 5000}-{'9' * 5000}/*"}, b"x")),
    Answer("a range that is none", _with(206, {"Content-Range": "bytes x-y/z"}, b"x")),
    Answer("416 at once", _with(416, {"Content-Range": "bytes */5"})),
    Answer("no HTTP", _raw(b"hello\r\n\r\n")),
    Answer("a status that is none", _raw(b"HTTP/1.1 9999999999999 \x1b[31m\r\n\r\n")),
    Answer("a reason with ESC", _raw(b"HTTP/1.1 404 \x1b[31mred\x07\r\nContent-Length: 0\r\n\r\n")),
    Answer("a long reason", _raw(b"HTTP/1.1 404 " + b"x" * 60_000 + b"\r\nContent-Length: 0\r\n\r\n")),
    Answer("headers without an end", _raw(b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 100_000)),
    Answer("a long header", _raw(b"HTTP/1.1 200 OK\r\nA: " + b"x" * 2_000_000 + b"\r\n\r\n")),
    Answer("wrong chunks", _raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n")),
    Answer("a chunk of 2^62", _raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3fffffffffffffff\r\nx")),
    Answer("a broken encoding", _raw(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc")),
    Answer("a redirect to a file", _with(302, {"Location": "file:///etc/passwd"})),
    Answer("a redirect to nowhere", _with(302, {"Location": "http://127.0.0.1:1/x.tar.gz"})),
    Answer("a redirect that is none", _with(302, {"Location": "http://[::1"})),
    Answer("a redirect without a place", _with(302, {})),
)


class Handler(BaseHTTPRequestHandler):
    """Answers as the first part of the path says."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Nothing is logged."""

    def head(self, code: int, headers: dict[str, str]) -> None:
        """Send the status and headers."""
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def do_GET(self) -> None:  # the name that http.server calls
        """Answer."""
        wanted = self.headers.get("Range", "")
        start = int(wanted.removeprefix("bytes=").removesuffix("-") or 0) if wanted else 0
        answer = ANSWERS[int(urlsplit(self.path).path.split("/")[1])]
        self.close_connection = True
        answer.send(self, start)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: Any) -> None:
        """A client that goes away is none of ours."""


@cache
def port() -> int:
    """Where the server listens; it is begun at the first call, and ends with the campaign."""
    content()
    server = _Server(("127.0.0.1", 0), Handler)
    ours = os.getpid()
    if os.fork() == 0:
        try:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            os.setsid()
            threading.Thread(target=_ends_with, args=(ours,), daemon=True).start()
            server.serve_forever()
        finally:
            os._exit(0)
    server.server_close()
    return server.server_port


def _ends_with(parent: int) -> None:
    """End this process when the campaign ends."""
    while os.getppid() == parent:
        threading.Event().wait(0.5)
    os._exit(0)


def asks(answer: int, name: str = "cifar-10-python.tar.gz", patience: float = PATIENCE) -> Callable[[], None]:
    """What makes a process download CIFAR-10 from the server, and lose patience sooner."""
    address = f"http://127.0.0.1:{port()}/{answer}/{name}"
    checksum = f"md5:{hashlib.md5(content()).hexdigest()}"  # noqa: S324  # as the official address publishes it

    def change() -> None:
        from softmaxes.lab.data import cifar, download

        official = replace(cifar.OFFICIAL["cifar10"], address=address, checksum=checksum)
        cifar.OFFICIAL["cifar10"] = official
        own = download.download
        cifar.download = lambda *words, **options: own(*words, delay=DELAY, timeout=patience, **options)  # type: ignore[attr-defined]

    return change


READ = ["data", "cifar10", "--out", "sheet.png"]


def downloads(place: Place, known: Bases, number: int) -> Case:
    """A server that misbehaves, or a cache that holds something else."""
    folder = place.cache / "downloads"
    name = "cifar-10-python.tar.gz"
    answer, about, must_succeed = number, "", ""
    if number < len(ANSWERS):
        about = ANSWERS[number].about
        must_succeed = "the whole file comes" if ANSWERS[number].fine else ""
    else:
        answer = 0
        what = (number - len(ANSWERS)) % 10
        folder.mkdir()
        target, part = folder / name, folder / f"{name}.part"
        changed, how = mutate.change_bytes(place.random, content())
        laid: tuple[tuple[str, Callable[[], object], bool], ...] = (
            (f"a part with {how}", lambda: part.write_bytes(changed[: len(changed) // 2]), False),
            (f"a file with {how}", lambda: target.write_bytes(changed), True),
            ("a part that is longer", lambda: part.write_bytes(content() + b"more"), True),
            ("a part that is whole", lambda: part.write_bytes(content()), True),
            ("a folder for a part", part.mkdir, False),
            ("a folder for the file", target.mkdir, False),
            ("a link for a part", lambda: (place.work / "mine").touch() or part.symlink_to(place.work / "mine"), False),
            ("a folder for the lock", (folder / f"{name}.lock").mkdir, False),
            ("a pipe for the file", lambda: os.mkfifo(target), False),
            ("a pipe for a part", lambda: os.mkfifo(part), False),
        )
        about, lay, fine = laid[what]
        lay()
        must_succeed = "it can be fetched anew" if fine else ""
    command = Command(READ, before=asks(answer))
    return Case(f"download: {about}", command, writes=("sheet.png",), must_succeed=must_succeed)
