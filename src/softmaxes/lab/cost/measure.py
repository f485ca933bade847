"""Measures what heads cost: each cell in a process of its own, with a limit of time and of memory."""

import ctypes
import gc
import re
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from math import isqrt
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from torch import Tensor

from softmaxes import Head
from softmaxes.files import InputError
from softmaxes.lab.comparison.processes import fresh_processes
from softmaxes.lab.cost.records import CLOCK, TOPK, Cell, Cost, Failure, Limits, Phase, Table, Timing
from softmaxes.lab.heads.registry import entry_of
from softmaxes.lab.machine import limit_memory, machine, now, of_process, too_little
from softmaxes.lab.recipe import Recipe, make_optimizer
from softmaxes.lab.starting import without_script
from softmaxes.lab.stopping import follow_parent, uninterrupted
from softmaxes.lab.store import Store, read_record, write_record

Found = TypeVar("Found")
LEARNING_RATE = 0.1
EXAMPLES = 20  # of a class on average, in the counts that a head is told
MEASURED_SECONDS = 2.0  # of the rounds of a phase together, where three do not take longer
LEAST_ROUNDS, MOST_ROUNDS = 3, 200
SURE = (
    30.0  # features are multiplied by this, so that random weights are as confident as trained ones; searches need it
)
WARM_CLASSES = 100  # of the small head that makes the libraries take what they take once
NEEDED = re.compile(r"allocate (\d+) bytes|allocate ([\d.]+) ([KMG]iB)")


@dataclass(frozen=True)
class Known:
    """What a head is told of classes that nobody has named; see `softmaxes.lab.heads.Classes`."""

    class_names: range
    train_counts: Tensor
    group_of_class: Tensor
    coarser_groups: tuple[()] = ()
    name: str = "random classes"


class Labels(NamedTuple):
    """Classes and how often each comes."""

    known: Known
    cumulative: Tensor | None  # (C,) of the probabilities; none where all are alike

    def draw(self, number: int) -> Tensor:
        """So many targets."""
        classes = len(self.known.class_names)
        if self.cumulative is None:
            return torch.randint(classes, (number,))
        return torch.searchsorted(self.cumulative, torch.rand(number, dtype=torch.float64)).clamp(max=classes - 1)


def labels(cell: Cell) -> Labels:
    """The classes of a cell: *uniform*, or *zipf*: the r-th most frequent with probability in proportion to 1/r."""
    classes = cell.classes
    groups = torch.arange(classes) // isqrt(classes)
    if cell.labels == "uniform":
        return Labels(Known(range(classes), torch.full((classes,), EXAMPLES), groups), None)
    rank = torch.randperm(classes, generator=torch.Generator().manual_seed(0))
    probability = 1 / (rank.double() + 1)
    probability /= probability.sum()
    counts = (probability * EXAMPLES * classes).long().clamp(min=1)
    return Labels(Known(range(classes), counts, groups), probability.cumsum(0))


def build(cell: Cell, known: Known) -> Head:
    """The head of a cell; its gradients are sparse where it can have such."""
    entry = entry_of(cell.head)
    if entry.hidden:
        raise ValueError(f"{cell.head}: expected a head without a hidden layer, whose cost is D^2 at any C.")
    head = (entry.sparse or entry.build)(cell.features, known)
    return head.to(cell.device)


def measure(cell: Cell) -> Iterator[tuple[Phase, dict[str, Any]]]:
    """Measure a cell in this process; a phase is told when it begins, with nothing, and whenever it has something."""
    torch.manual_seed(0)
    small = cell.model_copy(update={"classes": WARM_CLASSES})
    few = labels(small)
    _step(build(small, few.known), small)(few)
    yield "build", {}
    known = labels(cell)
    head = build(cell, known.known)
    yield "build", {"parameters": sum(parameter.numel() for parameter in head.parameters())}
    if (refresh := entry_of(cell.head).refresh) is not None:
        yield "refresh", {}
        begin = now(torch.device(cell.device))
        refresh(head)
        yield "refresh", {"refresh": max(now(torch.device(cell.device)) - begin, CLOCK)}
    yield "step", {}
    yield from (("step", found) for found in _training(head, cell, known))
    head.eval()
    with torch.no_grad():
        yield "log_prob", {}
        before = _fresh_peak(cell)
        _timed(cell, head.log_prob)
        yield "log_prob", {"log_prob_memory": _grown(cell, before)}
        yield "log_prob", {"log_prob": _timing(_rounds(lambda: _timed(cell, head.log_prob)))}
        yield "topk", {}
        search = partial(_best, head)
        _timed(cell, search)
        yield "topk", {"topk": _timing(_rounds(lambda: _timed(cell, search)))}


def _best(head: Head, input: Tensor) -> Tensor:
    return head.topk(SURE * input, TOPK)[1]


def _training(head: Head, cell: Cell, known: Labels) -> Iterator[dict[str, Any]]:
    """The memory and the times of training steps."""
    step = _step(head, cell)
    before = _fresh_peak(cell)
    for _ in range(LEAST_ROUNDS):
        if sum(step(known)) > 1:
            break  # slow: one will do to warm up
    yield {"step_memory": _grown(cell, before)}
    rounds = _rounds(lambda: step(known))
    parts = dict(zip(("forward", "backward", "update"), map(_timing, zip(*rounds, strict=True)), strict=True))
    yield {**parts, "step": _timing([sum(seconds) for seconds in rounds])}


def _step(head: Head, cell: Cell) -> Callable[[Labels], tuple[float, float, float]]:
    """A training step on new examples: seconds of forward, backward and update."""
    optimiser = make_optimizer(Recipe(optimizer=cell.optimizer, lr=LEARNING_RATE), head.parameters(), by_row=True)

    def step(known: Labels) -> tuple[float, float, float]:
        input = torch.randn(cell.batch_size, cell.features, device=cell.device, requires_grad=True)
        target = known.draw(cell.batch_size).to(cell.device)
        begin = now(torch.device(cell.device))
        loss = head(input, target).mean()
        after_forward = now(torch.device(cell.device))
        loss.backward()
        after_backward = now(torch.device(cell.device))
        optimiser.step()
        optimiser.zero_grad()
        return after_forward - begin, after_backward - after_forward, now(torch.device(cell.device)) - after_backward

    return step


def _timed(cell: Cell, function: Callable[[Tensor], object]) -> float:
    """Seconds of a function of features that are new."""
    input = torch.randn(cell.test_batch, cell.features, device=cell.device)
    begin = now(torch.device(cell.device))
    function(input)
    return now(torch.device(cell.device)) - begin


def _rounds(one: Callable[[], Found]) -> list[Found]:
    """The results of some rounds: as many as fit in `MEASURED_SECONDS`, within the bounds above."""
    results: list[Found] = []
    begin = time.perf_counter()
    while len(results) < LEAST_ROUNDS or (
        len(results) < MOST_ROUNDS and time.perf_counter() - begin < MEASURED_SECONDS
    ):
        results.append(one())
    return results


def _timing(seconds: Sequence[float]) -> Timing:
    seconds = [max(one, CLOCK) for one in seconds]
    fifths = statistics.quantiles(seconds, n=5, method="inclusive")
    return Timing(median=statistics.median(seconds), low=fifths[0], high=fifths[-1], rounds=len(seconds))


def _fresh_peak(cell: Cell) -> float | None:
    """Let the peak of memory begin anew; what is taken now, in MiB, or none where the system does not tell."""
    gc.collect()
    if cell.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated() / 2**20
    try:
        ctypes.CDLL(None).malloc_trim(0)  # give back what is free
        Path("/proc/self/clear_refs").write_text("5", "utf-8")
        return _resident()
    except (AttributeError, OSError):
        return None


def _grown(cell: Cell, before: float | None) -> float | None:
    """How far the peak has grown since, in MiB."""
    if before is None:
        return None
    return max(0.0, (torch.cuda.max_memory_allocated() / 2**20 if cell.device == "cuda" else _resident()) - before)


def _resident() -> float:
    """The peak of this process's memory, in MiB."""
    return of_process("VmHWM") / 1024


# A cell in a process of its own


def execute(table: Table, store: Store, limits: Limits, console: Console) -> list[Cost]:
    """Measure every cell that the store does not hold, one after the other.

    What did not fit is kept with the reason, and tried again where the limits are larger than they were. A head that
    did not fit at one size is not tried at larger ones.

    Args:
        table: the cells.
        store: holds and takes the costs; the caller has its lock.
        limits: of a cell.
        console: shows a bar; lines where it is not a terminal.

    Returns:
        The costs of all cells, in the table's order.

    Raises:
        InputError: a head is not one that can be measured so.
        KeyboardInterrupt: stopped by the user; nothing is lost but the cell in hand.
    """
    for cell in table.cells:
        if entry_of(cell.head).growth is not None:
            raise InputError(
                f"--heads: expected heads that are there from the first step on, got {cell.head}, whose tree is "
                "learned in training; its steps cost what those of hierarchical or tree-sampled do, and first perhaps "
                "of softmax."
            )
    write_record(store.directory / "scale.json", table)
    costs: list[Cost] = []
    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        disable=not console.is_terminal,
    )
    with progress:
        bar = progress.add_task("", total=len(table.cells))
        for cell in table.cells:
            progress.update(bar, description=f"{cell.head}, {cell.classes:,} classes")
            cost = held(cell, store)
            if cost is None or (cost.failures and cost.limits is not None and limits.beyond(cost.limits)):
                cost = _too_large(cell, limits, costs) or _in_process(cell, limits)
                write_record(store.directory / "cells" / f"{cell.key}.json", cost)
                if not console.is_terminal:
                    said = f"step {1e3 * cost.step.median:.3g} ms" if cost.step else cost.unfit
                    console.print(f"{cell.head}, {cell.classes:,} classes: {said}", highlight=False, soft_wrap=True)
            costs.append(cost)
            progress.advance(bar)
    return costs


def held(cell: Cell, store: Store) -> Cost | None:
    """The cost of a cell that was measured before, or none."""
    path = store.directory / "cells" / f"{cell.key}.json"
    if not path.exists():
        return None
    cost = read_record(path, Cost)
    if cost.cell != cell:
        raise InputError(f"{path}: expected the cost of cell {cell.key}, got {cost.cell.key}'s.")
    return cost


def _too_large(cell: Cell, limits: Limits, costs: Sequence[Cost]) -> Cost | None:
    """What is known of a cell without trying, because a smaller one of its head did not fit."""
    for smaller in costs:
        same = smaller.cell.model_copy(update={"classes": cell.classes}) == cell
        if same and smaller.cell.classes < cell.classes and smaller.unfit:
            reason = smaller.unfit
            if not reason.startswith("not tried"):
                reason = f"not tried: with {smaller.cell.classes:,} classes it {reason}"
            return Cost(cell=cell, failures=(Failure(phase="build", reason=reason),), limits=limits)
    return None


def _in_process(cell: Cell, limits: Limits) -> Cost:
    context = fresh_processes()
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(cell, limits, sender), daemon=True)
    found: dict[str, Any] = {}
    failures: list[Failure] = []
    phase: Phase = "build"
    deadline = time.monotonic() + limits.seconds
    try:
        with uninterrupted(), without_script():
            process.start()
        sender.close()
        while receiver.poll(max(0.0, deadline - time.monotonic())):
            try:
                message = receiver.recv()
            except EOFError:
                process.join()
                if process.exitcode != 0:
                    failures.append(Failure(phase=phase, reason=f"ended with code {process.exitcode}"))
                break
            if isinstance(message, Failure):
                failures.append(message)
            else:
                phase, parts = message
                found |= parts
        else:
            failures.append(Failure(phase=phase, reason=f"took more than {limits.seconds:g} s"))
    finally:
        if process.pid is not None:
            with uninterrupted():
                process.kill()
                process.join()
    return Cost(cell=cell, failures=tuple(failures), limits=limits, **found)


def _work(cell: Cell, limits: Limits, sender: Connection) -> None:
    """Measure a cell; a phase for which there is too little memory ends it."""
    follow_parent()
    torch.set_num_threads(1)
    limit_memory(int(limits.memory * 2**30))
    sender.send(("build", {"machine": machine(torch.device(cell.device), 1)}))
    phase: Phase = "build"
    try:
        for phase, parts in measure(cell):
            sender.send((phase, parts))
    except (MemoryError, RuntimeError) as error:
        if not too_little(error):
            raise
        needed = _amount(" ".join(str(error).split()))
        sender.send(Failure(phase=phase, reason=f"needs more than {limits.memory:g} GiB of memory{needed}"))
    except ValueError as error:
        sender.send(Failure(phase=phase, reason=f"cannot be: {' '.join(str(error).split())}"))


def _amount(text: str) -> str:
    """How much was asked for when there was no more."""
    asked = NEEDED.search(text)
    if asked is None:
        return ""
    size = float(asked[1]) / 2**30 if asked[1] else float(asked[2]) / {"KiB": 2**20, "MiB": 2**10, "GiB": 1}[asked[3]]
    return f", {size:.2g} GiB in one piece"
