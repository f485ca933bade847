"""What is tried, and what came of it."""

import random
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Stdout = Literal["file", "closed", "broken", "full", "away"]


@dataclass(frozen=True)
class Command:
    """One call of the command line.

    Attributes:
        words: what is typed after ``softmaxes``.
        environment: variables that are set; none takes one away.
        stdout: a file, nothing at all, a pipe that nobody reads, a full device, or one that takes all.
        fresh: whether Python is started anew; otherwise a copy of one that has imported the lab already.
        module: of a fresh one, the words between ``python`` and the rest; the installed command if there are none.
        before: is called in the process just before the verb.
        kill: a signal, and after how many seconds it comes.
        valid: whether its input is valid: then its work may take longer than a bad input.
    """

    words: Sequence[str]
    environment: Mapping[str, str | None] = field(default_factory=dict)
    stdout: Stdout = "file"
    fresh: bool = False
    module: tuple[str, ...] = ()
    before: Callable[[], None] | None = None
    kill: tuple[int, float] | None = None
    valid: bool = False


@dataclass(frozen=True)
class Ended:
    """How a call ended.

    Attributes:
        code: the exit code; of a signal its number, negative.
        out: what it printed.
        err: what it said on standard error.
        processor: seconds of processor time, of all its processes.
        took: seconds on the clock.
        grown: bytes by which a process grew beyond what an idle one has.
        stopped: why the campaign stopped it, if it did: it hung, or took too much memory.
        left: processes that outlived it.
    """

    code: int
    out: str
    err: str
    processor: float
    took: float
    grown: int
    stopped: str = ""
    left: tuple[str, ...] = ()


@dataclass(frozen=True)
class Fault:
    """What was wrong with an end, by its sort, and what shows that two faults are one."""

    sort: str
    detail: str


@dataclass
class Place:
    """Where a case lives: a folder of its own, with what the verb needs, and the folder in which it is typed."""

    folder: Path
    random: random.Random
    case: str

    def __post_init__(self) -> None:
        for part in (self.work, self.cache, self.folder / "tmp", self.home):
            part.mkdir(parents=True, exist_ok=True)
        (self.cache / "notes.txt").write_text("of the user\n")

    @property
    def work(self) -> Path:
        """The folder in which the command is typed."""
        return self.folder / "work"

    @property
    def cache(self) -> Path:
        """The folder of the cache."""
        return self.folder / "cache"

    @property
    def home(self) -> Path:
        """The user's home."""
        return self.folder / "home"

    @property
    def canary(self) -> Path:
        """A file that appears only where something of the input was executed."""
        return self.folder / "canary"


@dataclass(frozen=True)
class Case:
    """A bad input and a call that reads it.

    Attributes:
        about: what is bad, in words.
        command: what is typed.
        writes: names at the top of the folder in which it is typed that the verb may write to when it succeeds.
        must_refuse: why it cannot be taken, where that is sure.
        must_succeed: why it cannot be refused, where that is sure.
        keeps: whether what was done before the refusal may stay, as the runs of a comparison do.
        check: says what is wrong with an end that only this case can know, if something is: its sort, colon, words.
        script: what is done in place of one call: it yields commands, is sent their ends, and returns the faults.
    """

    about: str
    command: Command
    writes: Sequence[str] = ()
    must_refuse: str = ""
    must_succeed: str = ""
    keeps: bool = False
    check: Callable[[Place, Ended], str] | None = None
    script: Callable[[Place], "Script"] | None = None


Script = Generator[Command, Ended, list[Fault]]
