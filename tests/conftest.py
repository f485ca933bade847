"""One thread: tests are small, and the machine may be shared. Signals do what they do at a terminal, in every test.

A test that starts a Python of its own waits seconds for it. Each such test is marked `slow`, or fails.
"""

import gc
import multiprocessing.context
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

torch.set_num_threads(1)
HANDLERS = {  # nohup and a shell's background jobs ignore some of them
    number: signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
    for name in ("SIGINT", "SIGTERM", "SIGHUP")
    if (number := getattr(signal, name, None)) is not None
}
START = subprocess.Popen.__init__
FRESH = [getattr(multiprocessing.context, f"{how}Process", None) for how in ("Spawn", "ForkServer")]
SLOW_FIXTURES = {"browser", "finished", "installed", "many_report", "report", "whole"}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test is slow by what it needs: a fixture, the training of a page, a Python that tells imports."""
    for item in items:
        needs = not SLOW_FIXTURES.isdisjoint(getattr(item, "fixturenames", ()))
        page = item.path.suffix == ".md"
        if needs or page or item.name.endswith("imports_no_torch"):
            item.add_marker("slow")


def _refuse(*_: object, **__: object) -> None:
    pytest.fail("expected no new Python in a test that is not marked with pytest.mark.slow")


def _start(self: Any, command: Any, *rest: Any, **options: Any) -> None:
    program = command if isinstance(command, str | Path) else command[0]
    if Path(program).name.startswith("python"):
        _refuse()
    START(self, command, *rest, **options)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Fixtures that several tests share are watched, too."""
    with pytest.MonkeyPatch.context() as patch:
        if item.get_closest_marker("slow") is None:
            patch.setattr(subprocess.Popen, "__init__", _start)
            for process in filter(None, FRESH):
                patch.setattr(process, "_Popen", _refuse)
        return (yield)


@pytest.fixture(autouse=True)
def _signals() -> None:
    """A test of the command as a whole process ignores signals at its end, as the last thing of the process."""
    for number, handler in HANDLERS.items():
        if signal.getsignal(number) is not handler:
            signal.signal(number, handler)


@pytest.fixture(autouse=True, scope="module")
def _settled() -> None:
    """What is there before a module stays to the end: a full garbage collection in its tests need not look at it."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages without their figures, which take seconds to draw, in tests that look at something else."""
    monkeypatch.setattr("softmaxes.lab.report.figures.draw", lambda summary, forms=(): {})
