"""What several devices hold and send, by how they share a head: the counts of `softmaxes.sharded`, in float32."""

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch

from softmaxes import Head, HierarchicalSoftmax
from softmaxes.lab.cost.forecast import MARGIN, Forecast
from softmaxes.lab.cost.measure import EXAMPLES, Known
from softmaxes.lab.heads import registry
from softmaxes.lab.heads.entry import Entry
from softmaxes.sharded.cut import PIECES
from softmaxes.sharded.shard import KINDS

BYTES = 4  # of a number
TOP = PIECES - 1  # decisions of a binary tree that all devices have
CLASSES, FEATURES = 100, 4  # of a head that is built to see what it is

Way = Literal["ddp", "sharded-head"]


def sent_by_copies(numbers: float, devices: int) -> float:
    """Bytes that a device sends in a step where each has a copy: the gradient of all numbers, in a ring."""
    return BYTES * numbers * 2 * (devices - 1) / devices


def sent_by_rows(examples: float, features: int, devices: int) -> float:
    """Bytes that a device sends where each has a part of the rows: features to all, and their gradient back.

    Args:
        examples: of each device.
        features: size of a feature vector.
        devices: how many there are.
    """
    return BYTES * examples * features * 2 * (devices - 1)


def sent_by_subtrees(examples: float, features: int, classes: float, devices: int) -> float:
    """Bytes that a device sends where each has some subtrees: features to one, and the top's gradient to all."""
    top = sent_by_copies(min(TOP, classes - 1) * features, devices)
    return sent_by_rows(examples, features, devices) / devices + top


class Shared(NamedTuple):
    """What each of several devices has of a head, and sends in a step."""

    way: Way
    memory: float  # MiB
    sent: float  # bytes
    at_most: bool = False  # whether it may be less: of copies with sparse gradients


def shared(one: Forecast, classes: int, features: int, batch_size: int, devices: int) -> list[Shared]:
    """How several devices can share a head that was foretold for one.

    Args:
        one: the head's forecast for one device.
        classes: number of classes.
        features: size of a feature vector.
        batch_size: examples of a step, of all devices together.
        devices: number of devices.

    Returns:
        A copy on each; and a part of the classes on each, if the head can be split.
    """
    entry = registry.entry_of_ours(one.head)
    sparse = entry is not None and entry.sparse is not None
    ways = [Shared("ddp", one.total, sent_by_copies(one.parameters, devices), sparse)]
    kind = None if entry is None or not entry.alone else _kind(entry)
    if kind is not None and kind in KINDS:
        each = math.ceil(batch_size / devices)
        by_subtree = issubclass(kind, HierarchicalSoftmax)
        sent = sent_by_rows(each, features, devices)
        if by_subtree:
            sent = sent_by_subtrees(each, features, classes, devices)
        ways.append(Shared("sharded-head", one.total / devices, sent))
    return ways


def _kind(entry: Entry) -> type[Head]:
    """The class of a head."""
    few = torch.arange(CLASSES)
    return type(entry.build(FEATURES, Known(range(CLASSES), torch.full((CLASSES,), EXAMPLES), few // 10)))


def in_bytes(number: float) -> str:
    """A number of bytes for people, in powers of 1000."""
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return f"{number:.0f} B"


def that_fits(ways: Sequence[Shared], memory: float) -> Shared | None:
    """The first way that leaves memory free, of a device's MiB; none if none does."""
    return next((one for one in ways if one.memory <= MARGIN * memory), None)
