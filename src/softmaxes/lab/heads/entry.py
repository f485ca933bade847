"""Entry: how the lab makes a head, and what it says of it."""

from collections.abc import Callable, Sequence, Sized
from typing import NamedTuple, Protocol

from torch import Tensor

from softmaxes import Head, Tree
from softmaxes.lab.heads.growth import Growth


class Classes(Protocol):
    """What a head may know of the classes; `DataCard` says it of a data set."""

    @property
    def name(self) -> str:
        """What the data are called."""

    @property
    def class_names(self) -> Sized:
        """As many as there are classes."""

    @property
    def train_counts(self) -> Tensor | Sequence[int]:
        """Training examples of each class."""

    @property
    def group_of_class(self) -> Tensor | Sequence[int] | None:
        """For each class the number of its group, if there are groups."""

    @property
    def coarser_groups(self) -> Sequence[Sequence[int]]:
        """Levels above the groups, from fine to coarse: for each group of the level below the number of its own one."""


class Knob(NamedTuple):
    """A setting of a head that is tuned beside the learning rate, on a logarithmic scale.

    Attributes:
        name: of the setting, by which the terminal and the page call it: the argument of the head.
        low: the least value that is tried, above 0.
        high: the greatest.
        build: makes the head, from the size of the features, what is known of the classes, and a value.

    An example is in ``docs/own-parts.md``, which is run.
    """

    name: str
    low: float
    high: float
    build: Callable[[int, Classes, float], Head]


class Entry(NamedTuple):
    """How the lab makes a head, and what `softmaxes heads` says of it.

    One of the user's own is given in `heads={"mine": Entry(...)}`, or is named on the command line, ``module:entry``.

    Attributes:
        build: makes the head, from the size of the features and what is known of the classes.
        cost: of the loss of one example, in features D and classes C.
        summary: the head in a line.
        tree: makes the tree, of a head over one tree.
        growth: of a head that learns its tree; `build` makes the head until then.
        sparse: `build` with sparse gradients, of a head that can have them.
        hidden: whether the head sees the features through a hidden layer of its own, as wide as they are.
        most_classes: that the head can have, if there is a limit.
        knob: a setting that ``--tune`` decides on beside the learning rate.
        refresh: done to the head at each quarter of the first epoch, then before every one.

    An example is in ``docs/own-parts.md``, which is run.
    """

    build: Callable[[int, Classes], Head]
    cost: str = ""
    summary: str = ""
    tree: Callable[[Classes], Tree] | None = None
    growth: Growth | None = None
    sparse: Callable[[int, Classes], Head] | None = None
    hidden: bool = False
    most_classes: int | None = None
    knob: Knob | None = None
    refresh: Callable[[Head], None] | None = None

    @property
    def alone(self) -> bool:
        """Whether `build` gives the whole head: it learns no tree later, and no layer comes before it."""
        return self.growth is None and not self.hidden

    @property
    def least_epochs(self) -> int:
        """The fewest epochs of a run."""
        return 1 if self.growth is None else self.growth.least_epochs
