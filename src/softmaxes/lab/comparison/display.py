"""Progress: bars on a terminal, lines elsewhere."""

from collections.abc import Collection

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from softmaxes.lab.heads.registry import entry_of_ours
from softmaxes.lab.records import DataCard, Run, Study
from softmaxes.lab.training.train import Progress as Step
from softmaxes.names import plural


def named(run: Run) -> str:
    """A run in a line of the log: a trial of tuning by the setting that is tried, any other by its seed."""
    if run.scored_on == "test":
        return f"{run.head}, seed {run.seed}"
    known = entry_of_ours(run.head)
    knob = known.knob.name if known is not None and known.knob is not None else "own setting"
    return f"{run.head}, learning rate {run.lr:g}" + ("" if run.knob is None else f", {knob} {run.knob:g}")


class Display:
    """Bars on a terminal: one a running run, one for all with the time left. Elsewhere a line an epoch."""

    def __init__(self, study: Study, waiting: Collection[Run], card: DataCard, console: Console) -> None:
        self.console = console
        self.steps = {run.key: run.epochs * run.steps_per_epoch(card.trained_on(run)) for run in waiting}
        self.done = dict.fromkeys(self.steps, 0)
        self.bars: dict[str, TaskID] = {}
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.percentage:>3.0f} %"),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        held = len(study.runs) - len(waiting)
        note = plural(len(waiting), "run") + (f", {held} done before" if held else "")
        self.overall = self.progress.add_task("[bold]all runs", total=sum(self.steps.values()), note=note)

    def __enter__(self) -> "Display":
        if not self.progress.disable:
            self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        if not self.progress.disable:
            self.progress.stop()

    def start(self, run: Run) -> None:
        """A run begins."""
        self.done[run.key] = 0
        name = named(run)
        self.bars[run.key] = self.progress.add_task(name, total=self.steps[run.key], note="")

    def show(self, run: Run, step: Step) -> None:
        """A run has come to a step, and perhaps through an epoch."""
        self.done[run.key] = step.step
        epoch = step.epoch
        self.progress.update(self.bars[run.key], completed=step.step)
        self.progress.update(self.overall, completed=sum(self.done.values()))
        if epoch is not None:
            scores = epoch.scores
            note = "diverged" if scores is None else f"{100 * scores.accuracy:.1f} %"
            self.progress.update(self.bars[run.key], note=f"epoch {epoch.epoch}/{run.epochs}, {note}")
            if not self.console.is_terminal:
                part = "test" if run.scored_on == "test" else "held-out"
                self.console.print(
                    f"{named(run)}: epoch {epoch.epoch}/{run.epochs}, {part} accuracy {note}, "
                    f"{epoch.train_seconds:.1f} s",
                    highlight=False,
                )

    def end(self, run: Run) -> None:
        """A run is over."""
        self.done[run.key] = self.steps[run.key]
        self.progress.update(self.overall, completed=sum(self.done.values()))
        self.progress.remove_task(self.bars.pop(run.key))
