"""The campaign's command line: makes the cases, runs them, says what was found."""

import argparse
import os
import shlex
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from campaign import host, judge
from campaign.bases import Bases
from campaign.case import Case, Command, Ended, Fault, Place, Script
from campaign.kinds import KINDS

HELP = """Bad input, odd surroundings and kills, tried on every reader and verb of softmaxes.

Every case must end in success, or in one line that says what was expected and exit code 2, within 10 seconds of
processor time (60 where runs are trained, for each imports torch anew) and 1 GiB, with nothing lost and nothing
executed. A kill must leave a folder with which the same command ends as if it had never been killed. What is tried
depends on the seed alone: a case has the same name and content at every number of cases and jobs.
"""
EXAMPLES = """examples:
  make campaign                                     all of it: some minutes
  make campaign ARGS="--cases 100 --kills 5"        a short one
  make campaign ARGS="--only npz --only trees"      some kinds alone
  make campaign ARGS="--seed 1"                     other cases
  make campaign ARGS="--case npz-17"                one case alone: its command, what it said, what is wrong;
                                                    its folder is kept, to try by hand
"""


@dataclass
class Trial:
    """A case that is under way."""

    name: str
    place: Place
    case: Case
    before: judge.Seen
    script: Script | None = None
    running: host.Running | None = None
    ends: list[tuple[Command, Ended]] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)

    @property
    def kind(self) -> str:
        """The kind of input."""
        return self.name.rpartition("-")[0]


@dataclass
class Campaign:
    """Makes cases and runs some at a time."""

    seed: int
    folder: Path
    jobs: int

    def __post_init__(self) -> None:
        self.bases = Bases(self.folder / "bases", self._call)

    def make(self, name: str) -> Trial:
        """A case by its name, with its folder laid out."""
        kind, _, number = name.rpartition("-")
        place = Place(self.folder / name, Random(f"{self.seed} {name}"), name)
        case = KINDS[kind].make(place, self.bases, int(number))
        trial = Trial(name, place, case, judge.Seen.of(place))
        if case.script is not None:
            trial.script = case.script(place)
        return trial

    def run(self, names: list[str], keep: bool, done: Callable[[Trial], object]) -> None:
        """Run cases; each is told of when it is done."""
        waiting = iter(names)
        trials: list[Trial] = []
        try:
            while True:
                while len(trials) < self.jobs and (name := next(waiting, None)):
                    trials.append(self.make(name))
                    self._begin(trials[-1])
                if not trials:
                    return
                for trial in list(trials):
                    if self._went_on(trial):
                        trials.remove(trial)
                        done(trial)
                        if not keep:
                            _remove(trial.place.folder)
                time.sleep(0.02)
        finally:
            for trial in trials:
                if trial.running is not None:
                    host.stop(trial.running)

    def _begin(self, trial: Trial) -> None:
        command = trial.case.command if trial.script is None else next(trial.script)
        trial.running = host.start(command, trial.place, len(trial.ends))

    def _went_on(self, trial: Trial) -> bool:
        """Whether the case is done."""
        assert trial.running is not None
        ended = host.poll(trial.running)
        if ended is None:
            return False
        trial.ends.append((trial.running.command, ended))
        trial.running = None
        if trial.script is None:
            trial.faults = judge.faults(trial.case, trial.place, trial.before, ended)
            return True
        try:
            command = trial.script.send(ended)
        except StopIteration as end:
            trial.faults = end.value
            return True
        trial.running = host.start(command, trial.place, len(trial.ends))
        return False

    def _call(
        self,
        words: list[str],
        folder: Path,
        until: Callable[[], bool] | None,
        before: Callable[[], None] | None = None,
    ) -> None:
        """Run a verb to make a valid input: to its end, or until something is there."""
        place = Place(folder, Random(0), folder.name)
        for path in folder.iterdir():
            if path not in (place.work, place.cache, place.home, folder / "tmp"):
                path.rename(place.work / path.name)
        running = host.start(Command(words, before=before, valid=True), place)
        while (ended := host.poll(running)) is None:
            if until is not None and until():
                host.stop(running)
                return
            time.sleep(0.02)
        if ended.code != 0:
            sys.exit(
                f"campaign: {shlex.join(words)} was to make a valid input, and ended with {ended.code}: {ended.err}"
            )


def _remove(folder: Path) -> None:
    for parent, folders, _ in os.walk(folder):
        for name in folders:
            with suppress(OSError):
                os.chmod(Path(parent, name), 0o700)  # noqa: PTH101
    shutil.rmtree(folder, ignore_errors=True)


def names_of(cases: int | None, kills: int, only: list[str]) -> list[str]:
    """The names of the cases: of each kind its share."""
    chosen = {name: kind for name, kind in KINDS.items() if not only or name in only}
    whole = sum(kind.share for kind in chosen.values() if not kind.kills) or 1
    names = []
    for name, kind in chosen.items():
        wanted = kills if kind.kills else max(1, round((cases or whole) * kind.share / whole))
        names += [f"{name}-{number}" for number in range(wanted)]
    return names


def show(trial: Trial, console: Console) -> None:
    """All of one case: what was typed where, what it said, and what is wrong."""
    console.print(f"{trial.name}: {trial.case.about}", markup=False, highlight=False)
    for command, ended in trial.ends:
        for name, value in command.environment.items():
            console.print(f"  {name}={value!a}", markup=False, highlight=False)
        typed = " ".join(("softmaxes", *map(_quoted, command.words)))
        console.print(f"$ cd {trial.place.work} && {typed}", markup=False, highlight=False, soft_wrap=True)
        for text in (ended.out, ended.err):
            shown = "".join(
                letter if letter.isprintable() or letter in "\n\t" else ascii(letter)[1:-1] for letter in text
            )
            if shown:
                console.print(shown[-6000:].rstrip("\n"), markup=False, highlight=False, soft_wrap=True)
        console.print(
            f"exit code {ended.code}, {ended.processor:.1f} s of processor time, {ended.took:.1f} s, "
            f"{ended.grown / 2**20:.0f} MiB {ended.stopped}",
            highlight=False,
        )
    for fault in trial.faults:
        console.print(f"FAULT {fault.sort}: {fault.detail}", markup=False, highlight=False, soft_wrap=True)
    if not trial.faults:
        console.print("no fault", highlight=False)


def _quoted(word: str) -> str:
    return shlex.quote(word) if word.isprintable() and len(word) < 300 else ascii(word[:300])


def report(trials: list[Trial], seed: int, seconds: float, console: Console) -> None:
    """The table by kind, and every fault that differs from the others with the command that shows it."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    found: dict[tuple[str, str, str], list[Trial]] = defaultdict(list)
    for trial in trials:
        ended = trial.ends[-1][1]
        counts[trial.kind]["cases"] += 1
        counts[trial.kind]["faults" if trial.faults else "succeeded" if ended.code == 0 else "refused"] += 1
        for fault in trial.faults:
            found[fault.sort, "" if fault.sort == "traceback" else trial.kind, fault.detail].append(trial)
    columns = ("cases", "succeeded", "refused", "faults")
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for title in ("kind", *columns, "of these"):
        table.add_column(title, justify="right" if title in columns else "left")
    for kind, of_kind in counts.items():
        sorts = _by_sort(trial for trial in trials if trial.kind == kind)
        table.add_row(kind, *(str(of_kind[column] or "") for column in columns), sorts)
    totals = [sum(of_kind[column] for of_kind in counts.values()) for column in columns]
    table.add_row("all", *map(str, totals), _by_sort(trials), style="bold")
    for (sort, _, detail), of_fault in sorted(found.items()):
        first = of_fault[0]
        console.print(f"{sort} ({len(of_fault)}): {detail}", markup=False, highlight=False, soft_wrap=True)
        console.print(f"    {first.case.about}", markup=False, highlight=False, soft_wrap=True)
        console.print(f'    make campaign ARGS="--seed {seed} --case {first.name}"', markup=False, highlight=False)
    console.print(table)
    console.print(
        f"{len(trials)} cases in {seconds:.0f} s, seed {seed}: {totals[3]} with a fault, of {len(found)} kinds.",
        highlight=False,
    )


def _by_sort(trials: Iterable[Trial]) -> str:
    found = Counter(fault.sort for trial in trials for fault in trial.faults)
    return ", ".join(f"{number} {sort}" for sort, number in found.most_common())


def main() -> int:
    """Run the campaign; 1 where it found a fault."""
    parser = argparse.ArgumentParser(
        "make campaign", description=HELP, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    every = sum(kind.share for kind in KINDS.values())
    kinds = "; ".join(f"{name}: {kind.about}" for name, kind in KINDS.items())
    parser.add_argument("--seed", type=int, default=0, help="decides what is tried (%(default)s)")
    parser.add_argument("--cases", type=int, metavar="N", help=f"how many bad inputs ({every}, or what --only has)")
    parser.add_argument("--kills", type=int, default=50, metavar="N", help="how many kills (%(default)s)")
    parser.add_argument("--only", action="append", choices=list(KINDS), metavar="KIND", help=f"one kind alone: {kinds}")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)), help="cases at a time (%(default)s)")
    parser.add_argument("--case", action="append", metavar="NAME", help="one case alone, shown whole")
    parser.add_argument("--keep", action="store_true", help="keep the folders of the cases")
    given = parser.parse_args()
    if not Path("/proc/self/status").exists():
        parser.error("expected Linux, whose /proc says what processes do, got another system")
    names = given.case or names_of(given.cases, given.kills, given.only or [])
    for name in given.case or ():
        if name.rpartition("-")[0] not in KINDS or not name.rpartition("-")[2].isdecimal():
            parser.error(f"--case: expected a kind and a number such as npz-17, got {name}")
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 160)
    keep = given.keep or bool(given.case)
    folder = Path(tempfile.mkdtemp(prefix="campaign-"))
    folder.chmod(0o755)
    trials: list[Trial] = []
    begun = time.monotonic()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # which ends it with what was found, too
    try:
        host.warm_up()
        campaign = Campaign(given.seed, folder, given.jobs)
        if given.case:
            campaign.run(names, keep, lambda trial: (trials.append(trial), show(trial, console)))
        else:
            _run_under_a_bar(campaign, names, keep, trials, console)
    except KeyboardInterrupt:
        console.print("campaign: stopped; what was found until now:")
    finally:
        if not keep:
            _remove(folder)
    if not given.case and trials:
        report(trials, given.seed, time.monotonic() - begun, console)
    return int(any(trial.faults for trial in trials))


def _run_under_a_bar(campaign: Campaign, names: list[str], keep: bool, trials: list[Trial], console: Console) -> None:
    """Run the cases under a bar; nothing but their ends moves it, for a process with threads is not to be copied."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    progress = Progress(
        *columns, TimeRemainingColumn(), console=console, auto_refresh=False, disable=not console.is_terminal
    )
    with progress:
        bar = progress.add_task("campaign", total=len(names))

        def end(trial: Trial) -> None:
            trials.append(trial)
            faulty = sum(bool(one.faults) for one in trials)
            progress.update(bar, advance=1, description=f"{trial.kind}: {faulty} faults", refresh=True)
            for fault in trial.faults:
                console.print(f"{trial.name}: {fault.sort}: {fault.detail}", markup=False, soft_wrap=True)

        campaign.run(names, keep, end)


if __name__ == "__main__":
    sys.exit(main())
