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
    """A setting of a head that is tuned beside the learning rate, on a logarithmic scale."""

    name: str  # the argument of the head
    low: float
    high: float
    build: Callable[[int, Classes, float], Head]


class Entry(NamedTuple):
    """How the lab makes a head, and what `softmaxes heads` says of it."""

    build: Callable[[int, Classes], Head]  # from the size of the features and what is known of the classes
    cost: str = ""  # of the loss of one example, in features D and classes C
    summary: str = ""
    tree: Callable[[Classes], Tree] | None = None  # of a head over one tree
    growth: Growth | None = None  # of a head that learns its tree: `build` makes the head until then
    sparse: Callable[[int, Classes], Head] | None = None  # `build` with sparse gradients, of a head that can have them
    hidden: bool = False  # whether the head sees the features through a hidden layer of its own, as wide as they are
    most_classes: int | None = None
    knob: Knob | None = None
    refresh: Callable[[Head], None] | None = None  # done at each quarter of the first epoch, then before every one

    @property
    def alone(self) -> bool:
        """Whether `build` gives the whole head: it learns no tree later, and no layer comes before it."""
        return self.growth is None and not self.hidden

    @property
    def least_epochs(self) -> int:
        """The fewest epochs of a run."""
        return 1 if self.growth is None else self.growth.least_epochs
