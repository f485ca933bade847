"""What becomes of runs whose process dies, wherever they are trained."""

import errno
import io
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from softmaxes.lab import InputError
from softmaxes.lab.cli.main import main
from softmaxes.lab.comparison import execute as execution
from softmaxes.lab.comparison import executor
from softmaxes.lab.comparison.display import Display
from softmaxes.lab.comparison.execute import check, run_all
from softmaxes.lab.comparison.executor import End, work
from softmaxes.lab.devices import Devices
from softmaxes.lab.machine import TOO_LITTLE
from softmaxes.lab.records import Run, Study
from softmaxes.lab.store import Store
from softmaxes.lab.training.train import Progress
from toy import toy_data, toy_run

DATA = toy_data()


class Scripted:
    """Trains nothing: each start of a run ends as it is written."""

    attempts = 3
    slots = 2

    def __init__(self, script: dict[str, list[End]]) -> None:
        self.script = script
        self.begun: list[str] = []
        self.most = 0
        self.closed = False
        self._running: deque[Run] = deque()

    @property
    def running(self) -> int:
        return len(self._running)

    def start(self, run: Run) -> None:
        self.begun.append(run.head)
        self._running.append(run)
        self.most = max(self.most, self.running)

    def news(self) -> Iterator[tuple[Run, Progress | End]]:
        run = self._running[0]
        yield run, Progress(1)
        self._running.popleft()
        yield run, self.script[run.head].pop(0)

    def close(self) -> None:
        self.closed = True


def played(script: dict[str, list[End]]) -> tuple[Scripted, str, str]:
    runs = [toy_run(DATA, head) for head in script]
    planned = Study(name="toy", title="toy", description="", runs=tuple(runs))
    said, failure = io.StringIO(), ""
    executor = Scripted(script)
    with Display(planned, runs, DATA.card(), Console(file=said)) as display:
        try:
            run_all(deque(runs), executor, display)
        except InputError as error:
            failure = str(error)
    assert executor.closed
    assert executor.running == 0
    assert not any(script.values())
    return executor, said.getvalue(), failure


LOST = End("gone", lost=True)


def test_a_lost_run_is_begun_again() -> None:
    executor, said, failure = played({"softmax": [LOST, LOST, End()], "gumbel": [End()], "nce": [End()]})
    assert failure == ""
    assert sorted(executor.begun) == ["gumbel", "nce", "softmax", "softmax", "softmax"]
    assert executor.most == 2
    assert said == 2 * "softmax, seed 0: gone; it is begun again\n"


def test_a_run_that_is_lost_too_often_is_named_and_the_others_end() -> None:
    executor, _, failure = played({"softmax": [LOST, LOST, LOST], "gumbel": [End()], "nce": [End()]})
    assert failure == "expected every run to end, got softmax, seed 0: gone"
    assert len(executor.begun) == 5


def test_a_run_that_fails_is_named_and_not_begun_again() -> None:
    executor, said, failure = played({"softmax": [End("no memory")], "gumbel": [LOST, End()], "nce": [End("no")]})
    assert failure == "expected every run to end, got softmax, seed 0: no memory; nce, seed 0: no"
    assert sorted(executor.begun) == ["gumbel", "gumbel", "nce", "softmax"]
    assert said == "gumbel, seed 0: gone; it is begun again\n"


def task_of(run: Run, folder: Path) -> executor.Task:
    """What trains a run on the toy data, into a folder."""
    return executor.Task(run, DATA.card(), Store(folder), Devices("cpu"), 1, executor.Parcel(b"", []))


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (
            OSError(errno.ENOSPC, "No space left on device", "runs/a.checkpoint"),
            "runs/a.checkpoint: No space left on device",
        ),
        (InputError("a.checkpoint: expected more"), "a.checkpoint: expected more"),
    ],
    ids=["full disk", "input"],
)
def test_what_the_system_refuses_a_run_is_told_in_a_line(
    error: Exception, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(executor, "train", fail)
    said: list[object] = []
    executor.work(task_of(toy_run(DATA), tmp_path), said.append)
    assert said == [told]
    assert capsys.readouterr().err == ""


def test_where_nothing_could_begin_nothing_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No cluster where there should be one."""

    def refuse(*_: object) -> None:
        raise InputError("--cluster: expected local or the address of a Ray cluster, got nowhere:1.")

    monkeypatch.setattr(execution, "_executor", refuse)
    given = Study(name="toy", title="toy", description="", runs=(toy_run(DATA),))
    with pytest.raises(InputError, match="got nowhere:1"):
        execution.execute(
            given, DATA, Store(tmp_path), 1, Devices("cpu"), Console(file=io.StringIO()), cluster="nowhere:1"
        )
    assert list(tmp_path.iterdir()) == []


def test_what_breaks_off_closes_the_executor() -> None:
    class Broken(Scripted):
        def news(self) -> Iterator[tuple[Run, Progress | End]]:
            raise KeyboardInterrupt

    run = toy_run(DATA)
    planned = Study(name="toy", title="toy", description="", runs=(run,))
    broken = Broken({})
    with (
        Display(planned, [run], DATA.card(), Console(file=io.StringIO())) as display,
        pytest.raises(KeyboardInterrupt),
    ):
        run_all(deque([run]), broken, display)
    assert broken.closed


NO_MORE = RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: 8 bytes")


def fail(*_: object, **__: object) -> None:
    raise NO_MORE


@pytest.mark.parametrize(
    "fields", [{"hidden_units": 10**7}, {"channels": 10**5}, {"backbone": "resnet", "channels": 10, "width": 9999}]
)
def test_a_network_that_no_memory_holds_is_refused_before_it_is_made(
    fields: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(execution, "free_memory", lambda: 2**30)
    monkeypatch.setattr(execution, "build", lambda *_: pytest.fail("made"))
    with pytest.raises(InputError, match=r"^softmax: expected a network that is trained in 1.0 GiB of memory, as are"):
        check(toy_run(DATA, **fields), DATA, DATA.card())


def test_memory_that_torch_does_not_get_is_a_line_and_no_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its failed allocation is a RuntimeError like that of shapes that do not fit."""
    with monkeypatch.context() as patched:
        patched.setattr(execution, "build", fail)
        with pytest.raises(InputError, match=r"^softmax: expected memory for the network and a batch, got too little"):
            check(toy_run(DATA), DATA, DATA.card())
    with monkeypatch.context() as patched:
        patched.setattr(executor, "train", fail)
        told: list[object] = []
        work(task_of(toy_run(DATA), tmp_path), told.append)
        assert told == [TOO_LITTLE]
    monkeypatch.setattr("softmaxes.lab.data.sources.load_source", fail)
    assert main(["data", "glyphs"]) == 2
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "softmaxes: expected enough memory for these data, got too little.\n")
