"""The campaign's judge can fail: each sort of fault is done on purpose, and must be found."""

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from campaign import host, judge
from campaign.bases import Bases
from campaign.case import Case, Command, Ended, Place
from campaign.kinds import KINDS

pytestmark = [
    pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork"),
    pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning"),
]
REFUSAL = "softmaxes: tree.json: expected a tree, got none.\n"


def end(code: int, said: str = "", printed: str = "") -> None:
    """End this process as a verb would."""
    os.write(1, printed.encode())
    os.write(2, said.encode())
    os._exit(code)


def a_traceback() -> None:
    raise RuntimeError("on purpose")


def a_hang() -> None:
    time.sleep(60)


def a_loop() -> None:
    while True:
        pass


def a_blow_up() -> None:
    kept = bytearray(96 * 2**20)
    kept[::4096] = b"1" * len(kept[::4096])
    end(0)


def a_loss() -> None:
    Path("mine.txt").unlink()
    end(0)


def an_orphan() -> None:
    if os.fork() == 0:
        time.sleep(60)
    end(0)


def half_a_file() -> None:
    Path(".out.json.1.part").write_text("{")
    end(0)


def a_file_after_a_refusal() -> None:
    Path("out.json").write_text("{}")
    end(2, REFUSAL)


def a_file_elsewhere() -> None:
    Path("elsewhere").write_text("")
    end(0)


def a_formula() -> None:
    Path("out.csv").write_text("head\n=1+1\n")
    end(0)


FAULTS: dict[str, tuple[str, Callable[[], None]]] = {
    "a traceback": ("traceback", a_traceback),
    "a crash": ("crash", lambda: os.kill(os.getpid(), signal.SIGSEGV)),
    "a hang": ("hang", a_hang),
    "a loop": ("hang", a_loop),
    "a blow-up": ("memory", a_blow_up),
    "an exit code": ("exit code", lambda: end(3, "softmaxes: tree.json: expected another code.\n")),
    "no word": ("silent", lambda: end(2)),
    "two lines": ("several lines", lambda: end(2, REFUSAL + REFUSAL)),
    "another line": ("several lines", lambda: end(2, "something went wrong\n")),
    "a long line": ("unclear", lambda: end(2, f"softmaxes: tree.json: expected {'x' * 2000}.\n")),
    "no file": ("unclear", lambda: end(2, "softmaxes: expected something else.\n")),
    "no sense": ("unclear", lambda: end(2, "softmaxes: tree.json: index 3\n")),
    "a warning": ("warning", lambda: end(0, "module.py:7: UserWarning: careful\n")),
    "an escape": ("raw control", lambda: end(0, printed="\x1b[31mred\n")),
    "a loss": ("lost", a_loss),
    "an orphan": ("left running", an_orphan),
    "half a file": ("left behind", half_a_file),
    "a file after a refusal": ("left behind", a_file_after_a_refusal),
    "a file elsewhere": ("elsewhere", a_file_elsewhere),
    "a formula": ("injected", a_formula),
}


@pytest.fixture
def place(tmp_path: Path) -> Place:
    made = Place(tmp_path / "case", Random(0), "case")
    (made.work / "mine.txt").write_text("of the user")
    return made


# Short limits for the fault that is meant to reach them: on a busy machine any other would reach them, too.
LIMITS: dict[str, dict[str, float]] = {
    "hang": {"ASLEEP_SECONDS": 0.3, "PROCESSOR_SECONDS": 0.5, "EVERY": 0.05},
    "memory": {"MEMORY": 2**26},
    "left running": {"LINGERING": 0.1, "EVERY": 0.05},
}


def run(command: Command, place: Place) -> Ended:
    running = host.start(command, place)
    while (ended := host.poll(running)) is None:
        time.sleep(0.005)
    return ended


def sorts(case: Case, place: Place) -> set[str]:
    before = judge.Seen.of(place)
    return {fault.sort for fault in judge.faults(case, place, before, run(case.command, place))}


@pytest.mark.parametrize("name", FAULTS)
def test_each_sort_of_fault_is_found(name: str, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    sort, verb = FAULTS[name]
    for limit, value in LIMITS.get(sort, {}).items():
        monkeypatch.setattr(host, limit, value)
    case = Case(name, Command(["tree", "show", "tree.json"], before=verb), writes=("out.json", "out.csv"))
    assert sorts(case, place) == {sort}


def test_what_is_executed_is_found(place: Place) -> None:
    def execute() -> None:
        place.canary.touch()
        end(2, REFUSAL)

    assert sorts(Case("", Command(["tree", "show", "tree.json"], before=execute)), place) == {"executed"}


def test_what_cannot_be_taken_and_is_or_can_be_and_is_not_is_found(place: Place) -> None:
    taken = Case("", Command(["tree", "show", "tree.json"], before=lambda: end(0)), must_refuse="a flipped bit")
    refused = Case(
        "", Command(["tree", "show", "tree.json"], before=lambda: end(2, REFUSAL)), must_succeed="it is whole"
    )
    assert sorts(taken, place) == {"silently taken"}
    assert sorts(refused, place) == {"wrongly refused"}


@pytest.mark.slow
def test_a_success_and_a_clear_refusal_are_no_faults(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PROCESSOR_SECONDS", "ASLEEP_SECONDS", "MEMORY"):
        monkeypatch.setattr(host, name, 2**30)  # of what is imported
    words = ["tree", "show", "tree.json"]
    for verb in (lambda: end(0, printed="a tree\n"), lambda: end(2, REFUSAL)):
        assert sorts(Case("", Command(words, before=verb)), place) == set()
    refused = run(Command(["heads", "--no-such"]), place)  # the command line itself
    assert refused.code == 2
    assert "--no-such" in refused.err


@pytest.mark.slow
def test_a_killed_command_is_told_from_one_that_ended(place: Place) -> None:
    ended = run(Command(["train"], before=a_hang, kill=(signal.SIGTERM, 0.05)), place)
    assert ended.code == 128 + signal.SIGTERM
    assert "softmaxes: stopped" in ended.err
    assert not ended.stopped


@pytest.mark.parametrize("name", ["cifar-3", "pickles-0", "archives-20", "npz-20", "npy-9", "trees-70", "tables-6"])
def test_a_case_is_the_same_at_every_time(name: str, tmp_path: Path) -> None:
    def made() -> tuple[object, ...]:
        folder = tmp_path / "case"
        place = Place(folder, Random(f"0 {name}"), name)
        kind, _, number = name.rpartition("-")
        case = KINDS[kind].make(place, Bases(tmp_path / "bases", lambda *_: sys.exit("no base is needed")), int(number))
        seen = judge.Seen.of(place)
        folder.rename(tmp_path / f"case{len(list(tmp_path.iterdir()))}")
        return case.about, case.command.words, seen

    assert made() == made()
