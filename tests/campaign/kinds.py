"""The kinds of bad input, and how many of each are tried."""

from collections.abc import Callable
from typing import NamedTuple

from campaign import cifar, images, options, stores, surroundings, trees, vectors
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
    "stores": Kind("stored comparisons: `report`, and results for trees", 110, stores.stores),
    "scales": Kind("stored measurements, and tables for `advise`", 50, stores.scales),
    "resumed": Kind("runs that were cut off and damaged since", 8, stores.resumed),
    "options": Kind("options and words of every verb", 220, options.options),
    "files": Kind("pipes, devices, folders, links and holes in place of files", 110, surroundings.files),
    "names": Kind("odd names of files, folders, classes and nodes", 120, surroundings.names),
    "folders": Kind("folders for results that hold something else", 30, surroundings.folders),
    "disks": Kind("disks that are full", 18, surroundings.disks),
    "environments": Kind("encodings, terminals, homes and outputs", 50, surroundings.environments),
    "trees": Kind("files with trees, in five formats", 90, trees.trees),
    "tables": Kind("counts, paths and vectors of `tree build`", 60, trees.tables),
}
