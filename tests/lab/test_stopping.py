"""Signals that ask to stop: as Ctrl-C in all, and never lost."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from softmaxes.lab.cli.main import main
from softmaxes.lab.stopping import STOPPING, handlers_kept, held_back, stoppable, uninterrupted

NAMES = ["SIGINT", "SIGTERM", "SIGHUP"]

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="other signals")


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """Whatever a test does, the handlers are afterwards what they were before."""
    before = {number: signal.getsignal(number) for number in STOPPING}
    yield
    assert {number: signal.getsignal(number) for number in STOPPING} == before


def raising(number: int) -> Callable[..., None]:
    def verb(*_: object, **__: object) -> None:
        signal.raise_signal(number)
        pytest.fail("it went on")

    return verb


@pytest.mark.parametrize("name", NAMES)
def test_every_one_ends_a_command_with_the_line_and_its_code(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    number = getattr(signal, name)
    monkeypatch.setattr("softmaxes.lab.data.sources.load_source", raising(number))
    assert main(["data", "glyphs"]) == 128 + number
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("softmaxes: stopped; the same command goes on from the last whole epoch of each run")
    assert printed.err.count("\n") == 1


def test_one_that_is_ignored_stays_so(monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        with stoppable() as came:
            signal.raise_signal(signal.SIGHUP)
        assert came == []
    finally:
        signal.signal(signal.SIGHUP, before)


def test_what_it_leads_to_is_not_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Of what is cut off another error may come, and an exception may be lost in a library that takes every one."""

    def load(*_: object) -> None:
        try:
            signal.raise_signal(signal.SIGTERM)
        except KeyboardInterrupt:
            raise AttributeError("module 'numpy' has no attribute 'matrix'") from None

    monkeypatch.setattr("softmaxes.lab.data.sources.load_source", load)
    assert main(["data", "glyphs"]) == 143
    assert capsys.readouterr().err.startswith("softmaxes: stopped")


HALF = """
import signal
try:
    signal.raise_signal(signal.SIGTERM)
    whole = True
except BaseException:
    pass
"""


def test_while_something_is_imported_it_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For whoever imports may take every exception, and go on with half of a module."""
    (tmp_path / "half.py").write_text(HALF)
    monkeypatch.syspath_prepend(tmp_path)

    def run() -> None:
        import half  # type: ignore[import-not-found]

        assert half.whole
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            pass

    before = signal.signal(signal.SIGALRM, signal.SIG_DFL)  # which others may use in tests
    try:
        with stoppable() as came, pytest.raises(KeyboardInterrupt):
            run()
    finally:
        signal.signal(signal.SIGALRM, before)
    assert came == [signal.SIGTERM]


@pytest.mark.parametrize("name", NAMES)
def test_what_is_done_whole_is_done_first(name: str) -> None:
    number, done = getattr(signal, name), []

    def run() -> None:
        with uninterrupted():
            signal.raise_signal(number)
            done.append(True)
        pytest.fail("it went on")

    with stoppable(), pytest.raises(KeyboardInterrupt):
        run()
    assert done == [True]


def test_handlers_of_others_do_not_stay() -> None:
    def init() -> None:  # as ray.init does
        signal.signal(signal.SIGTERM, lambda number, _: sys.exit(number))

    def init_while_one_comes() -> None:
        with handlers_kept():
            init()
            signal.raise_signal(signal.SIGTERM)

    with stoppable() as came:
        with handlers_kept():
            init()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            init_while_one_comes()
    assert came == [signal.SIGTERM, signal.SIGTERM]


CHILD = """
import signal, sys
sys.stdout.write(" ".join(sorted(number.name for number in signal.pthread_sigmask(signal.SIG_BLOCK, []))))
"""


@pytest.mark.slow
@pytest.mark.parametrize("threads", [0, 1])
def test_what_is_started_meanwhile_never_hears_of_them(threads: int) -> None:
    """Whichever thread the system gives the signal to."""
    over = threading.Event()
    others = [threading.Thread(target=over.wait) for _ in range(threads)]
    for other in others:
        other.start()
    with stoppable() as came:

        def run() -> None:
            with held_back():
                os.kill(os.getpid(), signal.SIGTERM)
                done = subprocess.run([sys.executable, "-c", CHILD], capture_output=True, text=True, check=True)
                assert done.stdout.split() == sorted(NAMES)
            pytest.fail("it was lost")

        with pytest.raises(KeyboardInterrupt):
            run()
    over.set()
    for other in others:
        other.join()
    assert came == [signal.SIGTERM]


PARENT = """
import multiprocessing, sys, time
from softmaxes.lab.stopping import follow_parent

def work(sender):
    follow_parent()
    sender.send("begun")
    time.sleep(600)

if __name__ == "__main__":
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=work, args=(sender,))
    process.start()
    receiver.recv()
    print(process.pid, flush=True)
    time.sleep(600)
"""


@pytest.mark.slow
@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork")
def test_when_the_parent_is_killed_its_processes_end() -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        int(parent.stdout.readline())
        parent.kill()
        parent.stdout.read()  # ends when nobody holds it any more: the child had it too


@pytest.mark.slow
@pytest.mark.parametrize("verb", [["heads"], ["--version"]], ids=" ".join)
def test_nobody_reads_on(verb: list[str]) -> None:
    """As in a pipe to `head`: no traceback, and the code that a shell knows of SIGPIPE."""
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([sys.executable, "-m", "softmaxes", *verb], stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert done.stderr == ""
    assert done.returncode == 141


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="no full disk")
@pytest.mark.parametrize("words", [["--version"], ["heads"]])
def test_output_that_finds_no_room_is_a_line(words: list[str]) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "softmaxes", *words], stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert done.stderr == "softmaxes: standard output: No space left on device.\n"
    assert done.returncode == 2
