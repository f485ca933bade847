"""Runs commands in processes of their own and watches them: time, memory, what they leave behind.

The campaign's own process has imported the lab; each command is a copy of it (a fork), so that a case takes a tenth of
a second and not three. A crash, a hang or a blow-up of memory ends the copy alone.
"""

import atexit
import contextlib
import os
import resource
import signal
import sys
import threading
import time
import traceback
import types
from dataclasses import dataclass, field
from pathlib import Path

from campaign.case import Command, Ended, Place
from softmaxes.lab.stopping import STOPPING, farewell, stoppable

PROCESSOR_SECONDS = 10.0  # a bad input may take
TRAINING_SECONDS = 60.0  # so may one that is found where every run has imported torch anew
ASLEEP_SECONDS = 10.0  # in which no process of it does anything: it waits for what never comes
LONGEST = 300.0  # on the clock, on a machine that may be busy
MEMORY = 2**30  # bytes beyond what an idle process has
LINGERING = 10.0  # seconds in which processes of a command that ended may end, too
EVERY = 0.25  # seconds all processes of a command are looked at
SPOKEN = 2**20  # bytes of its words that are looked at
TRAINING = ("compare", "train", "repeat", "scale")
TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")
INSTALLED = ("-c", "import sys; from softmaxes.lab import main; sys.exit(main())")
FAMILIAR = (  # what the verbs import when they need it
    "torch",
    "matplotlib.figure",
    "pyarrow.parquet",
    "scipy.stats",
    "softmaxes.lab.comparison.budget",
    "softmaxes.lab.cli.main",
    "softmaxes.lab.data.cifar",
    "softmaxes.lab.data.features",
    "softmaxes.lab.data.folder",
    "softmaxes.lab.data.glyphs",
    "softmaxes.lab.data.long_tail",
    "softmaxes.lab.data.sheet",
    "softmaxes.lab.data.text_files",
    "softmaxes.lab.report",
    "softmaxes.lab.report.page",
    "softmaxes.lab.cost.report",
    "softmaxes.lab.report.tree",
    "softmaxes.lab.cost.measure",
    "softmaxes.lab.studies",
    "softmaxes.lab.comparison.execute",
    "softmaxes.lab.comparison.tune",
    "softmaxes.trees.io",
)


def warm_up() -> None:
    """Import what the verbs need, once for all cases."""
    import importlib

    for name in FAMILIAR:
        importlib.import_module(name)
    from PIL import Image

    Image.init()


@dataclass
class Running:
    """A command that runs."""

    process: int
    command: Command
    place: Place
    number: int  # of the command in its case
    idle: tuple[int, int]  # bytes of memory of a process that does nothing: all, and those that are its own
    begun: float = field(default_factory=time.monotonic)
    looked: float = 0.0
    busy: float = field(default_factory=time.monotonic)  # when it last did something
    processor: float = 0.0
    used: float = 0.0  # of the processor, in the end
    grown: int = 0
    stopped: str = ""
    code: int | None = None
    ended: float = 0.0
    killed: bool = False

    @property
    def words(self) -> tuple[Path, Path]:
        """The files with what it says."""
        return tuple(self.place.folder / f"{name}{self.number}" for name in ("out", "err"))  # type: ignore[return-value]


def start(command: Command, place: Place, number: int = 0) -> Running:
    """Start a command; it is seen to by `poll`."""
    idle = _memory(os.getpid(), "VmRSS"), _memory(os.getpid(), "RssAnon")
    sys.stdout.flush()
    sys.stderr.flush()
    heard = signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)  # a kill that comes too soon waits for the command
    process = os.fork()
    if process == 0:
        try:
            _become(command, place, number, heard)
        finally:
            os._exit(70)  # nothing of the campaign itself goes on here
    signal.pthread_sigmask(signal.SIG_SETMASK, heard)
    return Running(process, command, place, number, idle)


def poll(running: Running) -> Ended | None:
    """How the command ended, or none while it or what it started runs."""
    now = time.monotonic()
    if running.code is None:
        found, status, used = os.wait4(running.process, os.WNOHANG)
        if found == 0:
            _watch(running, now)
            return None
        running.code, running.ended = os.waitstatus_to_exitcode(status), now
        running.used = max(running.processor, used.ru_utime + used.ru_stime)
        running.grown = max(running.grown, used.ru_maxrss * 1024 - running.idle[0])
        if not running.stopped and running.grown > MEMORY:
            running.stopped = f"memory: {running.grown / 2**30:.1f} GiB"
    left = _session(running.process)
    if left and not running.stopped and not _lingers(running, now):
        return None
    for process in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    out, err = (_read(path) for path in running.words)
    return Ended(
        code=running.code,
        out=out,
        err=err,
        processor=running.used,
        took=running.ended - running.begun,
        grown=running.grown,
        stopped=running.stopped,
        left=() if running.stopped else tuple(left.values()),
    )


def stop(running: Running) -> None:
    """End a command and all that it started."""
    for process in _session(running.process):
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    with contextlib.suppress(ChildProcessError):
        os.waitpid(running.process, 0)


def _watch(running: Running, now: float) -> None:
    if running.command.kill is not None and not running.killed:
        number, after = running.command.kill
        if now - running.begun >= after:
            running.killed = True
            together = number in (signal.SIGINT, signal.SIGHUP)  # a terminal tells the whole group
            with contextlib.suppress(ProcessLookupError):
                (os.killpg if together else os.kill)(running.process, number)
    for name, idle in zip(("VmHWM", "RssAnon"), running.idle, strict=True):
        running.grown = max(running.grown, _memory(running.process, name) - idle)
    if now - running.looked > EVERY:
        used, awake = _processor(running.process)
        if used > running.processor or awake or now - running.looked > ASLEEP_SECONDS / 2:  # nobody looked in between
            running.busy = now
        running.looked = now
        running.processor = max(running.processor, used)
    long = running.command.words[0] in TRAINING or running.command.valid
    most = TRAINING_SECONDS if long else PROCESSOR_SECONDS
    if running.grown > MEMORY:
        running.stopped = f"memory: {running.grown / 2**30:.1f} GiB and more"
    elif running.processor > most:
        running.stopped = f"hang: {running.processor:.0f} s of processor time and more"
    elif now - running.busy > ASLEEP_SECONDS:
        running.stopped = f"hang: nothing done in {ASLEEP_SECONDS:.0f} s"
    elif now - running.begun > LONGEST:
        running.stopped = f"hang: {LONGEST:.0f} s and more"
    if running.stopped:
        for process in _session(running.process):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)


def _lingers(running: Running, now: float) -> bool:
    """Whether what outlived a command has had its time: to end, where it still does something."""
    if now - running.looked > EVERY:
        used, _ = _processor(running.process)
        if used != running.processor:
            running.busy = now
        running.looked, running.processor = now, used
    return now - max(running.busy, running.ended) > LINGERING or now - running.ended > 6 * LINGERING


def _read(path: Path) -> str:
    if not path.exists():
        return ""
    with path.open("rb") as file:
        return file.read(SPOKEN).decode("utf-8", "surrogateescape")


# What the system says of processes


def _memory(process: int, name: str) -> int:
    try:
        lines = Path(f"/proc/{process}/status").read_text(errors="replace").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(name)), 0)


def _stat(process: int | str) -> list[str]:
    """What stands behind the process's name in its line: state, parent, group, session and so on."""
    try:
        return Path(f"/proc/{process}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return []


def _session(leader: int) -> dict[int, str]:
    """The processes of a command that live, and their words."""
    found = {}
    for entry in (path.name for path in Path("/proc").iterdir()):
        if entry.isdigit() and len(known := _stat(entry)) > 3 and known[3] == str(leader) and known[0] not in "ZX":
            with contextlib.suppress(OSError):
                words = Path(f"/proc/{entry}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                found[int(entry)] = words.strip()[:200]
    return found


def _processor(leader: int) -> tuple[float, bool]:
    """Seconds of processor time of all processes of a command, and whether one of them runs or waits for a disk."""
    ticks, awake = 0, False
    for process in _session(leader):
        if len(known := _stat(process)) > 14:
            ticks += sum(map(int, known[11:15]))
            awake |= known[0] in "RD"
    return ticks / TICKS, awake


# In the copy


def _become(command: Command, place: Place, number: int, heard: set[signal.Signals]) -> None:
    """Be the command, to its end; signals are `heard` again once it can be stopped."""
    os.setsid()
    _redirect(command, place, number)
    os.chdir(place.work)
    for name, value in _environment(command, place).items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if command.fresh:
        if command.before is not None:
            command.before()
        start = command.module or INSTALLED
        words = [os.fsencode(word) for word in (sys.executable, *start, *command.words)]
        signal.pthread_sigmask(signal.SIG_SETMASK, heard)
        os.execv(sys.executable, words)  # noqa: S606
    import tempfile

    tempfile.tempdir = None
    sys.argv = ["softmaxes", *command.words]
    sys.modules["__main__"] = types.ModuleType("__main__")
    code = 1
    try:
        with stoppable(last=True) as came:  # as the command itself is, from its first line to its last
            try:
                signal.pthread_sigmask(signal.SIG_SETMASK, heard)
                if command.before is not None:
                    command.before()
                from softmaxes.lab.cli.main import main

                code = main(list(command.words))
            except KeyboardInterrupt:
                code = farewell(came)
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException:
        traceback.print_exc()
    try:
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        sys.stdout.flush()
    except BaseException:
        traceback.print_exc()
        code = 120
    os._exit(code)


def _environment(command: Command, place: Place) -> dict[str, str | None]:
    return {
        "COLUMNS": "120",
        "HOME": str(place.home),
        "NO_PROXY": "127.0.0.1",
        "OMP_NUM_THREADS": "1",
        "SOFTMAXES_CACHE": str(place.cache),
        "TERM": "dumb",
        "TMPDIR": str(place.folder / "tmp"),
        **command.environment,
    }


def _redirect(command: Command, place: Place, number: int) -> None:
    out, err = (place.folder / f"{name}{number}" for name in ("out", "err"))
    nothing = os.open(os.devnull, os.O_RDONLY)
    said = os.open(err, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    if command.stdout in ("full", "away"):
        printed = os.open("/dev/full" if command.stdout == "full" else os.devnull, os.O_WRONLY)
    elif command.stdout == "broken":
        reader, printed = os.pipe()
        os.close(reader)
    else:
        printed = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    for number, descriptor in enumerate((nothing, printed, said)):
        os.dup2(descriptor, number)
    os.closerange(3, 4096)
    if command.stdout == "closed":
        os.close(1)
    if not command.fresh:
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
