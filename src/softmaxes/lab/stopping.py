"""Signals that ask to stop: all end a command as Ctrl-C does, and leave no process behind."""

import os
import signal
import sys
import threading
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

STOPPING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
LATER = (signal.SIGALRM,) if hasattr(signal, "setitimer") else ()  # by which to raise what may be lost now
AGAIN = 0.02  # seconds until then
PATIENCE = 1.0  # seconds in all; then it is raised wherever that is, until it is not lost

_came: list[int] | None = None  # while a command can be stopped: the signals that came
_waits = False  # whether one of them is still to be raised


@contextmanager
def stoppable(last: bool = False) -> Iterator[list[int]]:
    """SIGTERM and SIGHUP raise KeyboardInterrupt as Ctrl-C does. Those that are ignored, as under nohup, stay so.

    Args:
        last: whether the process ends afterwards; then all is done, and signals have nothing to stop.

    Yields:
        The numbers of the signals that came; within another one those of that one.
    """
    global _came
    if _came is not None:
        yield _came
        return
    came: list[int] = []
    patient_until = 0.0

    def stop(number: int, frame: FrameType | None) -> None:
        global _waits
        nonlocal patient_until
        if number in STOPPING:
            came.append(number)
            patient_until = time.monotonic() + PATIENCE
        if _swallows(frame) and set(LATER) & set(taken):
            patient = time.monotonic() < patient_until
            _waits = True
            signal.setitimer(signal.ITIMER_REAL, AGAIN if patient else PATIENCE)
            if patient:
                return
        raise KeyboardInterrupt

    before = {number: signal.getsignal(number) for number in (*STOPPING, *LATER)}
    taken = [number for number in before if before[number] in (signal.SIG_DFL, signal.default_int_handler)]
    if threading.current_thread() is not threading.main_thread():  # which may not say what becomes of signals
        taken = []
    try:
        _came = came
        for number in taken:
            signal.signal(number, stop)
        yield came
    finally:
        _calm()
        _came = None
        for number in taken:
            signal.signal(number, signal.SIG_IGN if last else before[number])


def _calm() -> None:
    """Raise nothing more of signals that came."""
    global _waits
    if _waits:
        _waits = False
        signal.setitimer(signal.ITIMER_REAL, 0)


def _swallows(frame: FrameType | None) -> bool:
    """Whether an exception that is raised here may be lost: while something is imported, or let go of."""
    while frame is not None:
        if frame.f_code.co_name == "__del__" or frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def farewell(came: Sequence[int]) -> int:
    """Say how a command that was stopped goes on.

    Returns:
        The exit code: 128 and the number of the signal, as a shell has it; 130 of Ctrl-C.
    """
    _calm()
    with suppress(OSError):  # a terminal that was closed
        print(
            "softmaxes: stopped; the same command goes on from the last whole epoch of each run, and from what else "
            "is whole.",
            file=sys.stderr,
        )
    return 128 + (came[0] if came else signal.SIGINT)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Signals that stop wait, so that what is done in here is done whole: no process or file is left behind."""
    came: list[int] = []
    raising = {number: handler for number in (*STOPPING, *LATER) if callable(handler := signal.getsignal(number))}
    if threading.current_thread() is not threading.main_thread():
        raising = {}
    for number in raising:
        signal.signal(number, lambda number, _: came.append(number))
    try:
        yield
    finally:
        for number, handler in raising.items():
            signal.signal(number, handler)
        if came:
            raising[came[0]](came[0], sys._getframe())


@contextmanager
def held_back(numbers: Collection[int] = STOPPING) -> Iterator[None]:
    """Signals wait; of processes that are started meanwhile they are held back for good: they are for the parent."""
    if sys.platform == "win32":  # which sends none to others
        yield
        return
    from multiprocessing import resource_tracker

    with uninterrupted():  # the mask is this thread's: in a process with others one of them hears of the signal
        before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
        try:
            resource_tracker.ensure_running()  # which no signal may end; without this the first process starts it
            signal.pthread_sigmask(signal.SIG_SETMASK, {*before, *numbers})
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def handlers_kept() -> Iterator[None]:
    """What somebody else's library makes of signals is undone; where its own handler ends this process, ours does."""
    before = {number: signal.getsignal(number) for number in STOPPING}
    try:
        yield
    except SystemExit:
        signal.signal(signal.SIGTERM, before[signal.SIGTERM])
        signal.raise_signal(signal.SIGTERM)
        raise
    finally:
        for number, handler in before.items():
            if signal.getsignal(number) is not handler:
                signal.signal(number, handler)


def follow_parent(left_to_it: Collection[int] = STOPPING, alive: "Connection | None" = None) -> None:
    """In a process that works for another one: it ends when that one is gone, however that ended.

    Args:
        left_to_it: signals that are for the parent alone, which then decides what becomes of this process.
        alive: a connection which the parent closes when this process is to end, if it does not wait for that.
    """
    from multiprocessing import parent_process
    from multiprocessing.connection import wait

    for number in left_to_it:
        signal.signal(number, signal.SIG_IGN)
    parent = parent_process()
    awaited = alive if alive is not None or parent is None else parent.sentinel
    if awaited is None:
        return

    def follow() -> None:
        wait([awaited])
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
