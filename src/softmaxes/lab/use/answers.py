"""What a classifier says of inputs, and how that is written: as a table, as CSV, or as lines of JSON."""

import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import zip_longest
from typing import Any, NamedTuple

import torch
from rich.table import Table
from rich.text import Text
from torch import Tensor

from softmaxes.lab.tables import csv_lines
from softmaxes.lab.use.inputs import Batch, Inputs
from softmaxes.lab.use.loading import Step, Trained
from softmaxes.names import printable

SHOWN = 80  # characters of an input in a table

COLUMNS = ("input", "rank", "class", "probability", "path")
MARK = ",".join(COLUMNS).encode()  # the beginning of a CSV file of ours
JSON_MARK = b'{"input": '
NBSP = "\N{NO-BREAK SPACE}"
LISTED = 20  # broken inputs that are told one by one


class Answer(NamedTuple):
    """What is said of one input.

    Attributes:
        input: what it is called.
        classes: names of the most probable classes, most probable first; none that is impossible.
        probabilities: of these.
        path: the decisions on the way to the first of them, where a tree decides.
    """

    input: str
    classes: list[str]
    probabilities: list[float]
    path: list[Step]


def answers(classifier: Trained, inputs: Inputs, k: int) -> Iterator[tuple[Batch, list[Answer]]]:
    """The k most probable classes of each input that can be read, batch by batch.

    Args:
        classifier: the classifier.
        inputs: what it is asked about.
        k: how many classes; all if there are fewer.
    """
    for batch in inputs:
        yield batch, answers_of(classifier, batch.names, batch.input, k) if batch.names else []


@torch.no_grad()
def answers_of(classifier: Trained, names: Sequence[str], input: Tensor, k: int) -> list[Answer]:
    """The same of some inputs, N of them and their names."""
    input = input.to(next(classifier.parameters()).device)
    values, classes = classifier.topk(input, min(k, len(classifier.class_names)))
    paths = classifier.paths(input, classes[:, 0])
    said = []
    for name, row, some, path in zip(names, values.tolist(), classes.tolist(), paths, strict=True):
        possible = [(one, min(math.exp(value), 1.0)) for one, value in zip(some, row, strict=True) if value > -math.inf]
        found = [classifier.class_names[one] for one, _ in possible]
        said.append(Answer(name, found, [share for _, share in possible], path))
    return said


def as_table(said: Iterable[Answer]) -> Table:
    """Inputs and their classes, a line each, for a terminal; with the path to the first where all nodes have names."""
    rows = list(said)
    named = all(step.name for one in rows for step in one.path) and any(len(one.path) > 1 for one in rows)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in ("input", "probability", "class", *(["path to the first"] if named else [])):
        table.add_column(column, overflow="fold", justify="right" if column == "probability" else "left")
    for one in rows:
        guesses = [
            (_percent(share), printable(name)) for name, share in zip(one.classes, one.probabilities, strict=True)
        ]
        steps = [in_words([step]) for step in one.path] if named else []
        for rank, (guess, step) in enumerate(zip_longest(guesses, steps, fillvalue=None)):  # a step a line
            path = [f"› {step}" if step else ""] if named else []
            cells = ("" if rank else printable(one.input, SHOWN), *(guess or ("", "")), *path)
            table.add_row(*map(Text, cells), style="" if rank else "bold")
    return table


def csv_rows(said: Iterable[Answer]) -> str:
    """A line for each class of each answer; the path stands beside the first class."""
    return csv_lines(
        (one.input, rank, name, share, in_words(one.path) if rank == 1 else "")
        for one in said
        for rank, (name, share) in enumerate(zip(one.classes, one.probabilities, strict=True), 1)
    )


def json_rows(said: Iterable[Answer]) -> str:
    """A line of JSON for each answer."""
    return "".join(f"{json.dumps(as_record(one))}\n" for one in said)


def as_record(one: Answer) -> dict[str, Any]:
    """An answer as JSON has it."""
    classes = [
        {"class": name, "probability": share} for name, share in zip(one.classes, one.probabilities, strict=True)
    ]
    path = [
        {"node": step.node, **({"name": step.name} if step.name else {}), "probability": step.probability}
        for step in one.path
    ]
    return {"input": one.input, "classes": classes, **({"path": path} if path else {})}


def in_words(path: Iterable[Step]) -> str:
    """A path: each node with its probability below the one before."""
    return " › ".join(f"{printable(step.name) or f'node {step.node}'} {_percent(step.probability)}" for step in path)


def _percent(share: float) -> str:
    return f"{100 * share:.0f}{NBSP}%" if share >= 0.0995 else f"{100 * share:.1f}{NBSP}%"


FORMATS: dict[str, Callable[[Iterable[Answer]], str]] = {"csv": csv_rows, "jsonl": json_rows}
