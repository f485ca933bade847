"""Studies by name, each a list of runs. A new study is a file and an entry."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from softmaxes.lab.records import DataCard, Study
from softmaxes.lab.studies import fair, forensics, many, seed, trees


class Entry(NamedTuple):
    """What the command line needs to know of a study."""

    summary: str
    data: str  # what it is run on unless the user says otherwise
    make: Callable[[DataCard, int, Mapping[str, Any]], Study]  # from the data, how many seeds, changed settings


STUDIES: dict[str, Entry] = {
    "seed": Entry("The original study: three heads on CIFAR-100, SGD, batch 32, 10 epochs.", "cifar100", seed.study),
    "forensics": Entry(
        "What explains the original study's figures: each thing that it left open, tried.", "cifar100", forensics.study
    ),
    "fair": Entry(
        "Heads that differ in kind, each at a setting of its own, tuned with equal effort.", "glyphs", fair.study
    ),
    "many": Entry(
        "Heads for very many classes, each tuned with equal effort; a flat softmax beside them.", "geonames", many.study
    ),
    "trees": Entry("What a tree is worth: one head over many trees, a flat softmax beside it.", "glyphs", trees.study),
}
