"""The kinds of bad input, and how many of each are tried."""

from collections.abc import Callable
from typing import NamedTuple

from campaign import cifar, images, trees, vectors
from campaign.bases import Bases
from campaign.case import Case, Place


class Kind(NamedTuple):
    """A kind of bad input.

    Attributes:
        about: what it is, in words.
        share: how many of all cases, in parts.
        make: lays a case out in its place; a number has the same case always.
        kills: whether it is of kills, which are counted apart.
    """

    about: str
    share: int
    make: Callable[[Place, Bases, int], Case]
    kills: bool = False


KINDS = {
    "cifar": Kind("files in the layouts of CIFAR, in folders and archives", 80, cifar.cifar),
    "pickles": Kind("pickles made for harm", 70, cifar.pickles),
    "archives": Kind("archives that are damaged or made for harm", 70, cifar.archives),
    "images": Kind("folders of images", 60, images.images),
    "fonts": Kind("fonts", 50, images.fonts),
    "npz": Kind("vectors in .npz", 60, vectors.npz),
    "npy": Kind("vectors in a folder of .npy", 50, vectors.npy),
    "parquet": Kind("vectors in parquet", 50, vectors.parquet),
    "trees": Kind("files with trees, in five formats", 90, trees.trees),
    "tables": Kind("counts, paths and vectors of `tree build`", 60, trees.tables),
}
