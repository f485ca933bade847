"""The kinds of bad input, and how many of each are tried."""

from collections.abc import Callable
from typing import NamedTuple

from campaign import cifar, downloads, images, kills, options, stores, surroundings, texts, trees, vectors
from campaign.bases import Bases
from campaign.case import Case, Place


class Kind(NamedTuple):
    """A kind of bad input.

    Attributes:
        about: what it is, in words.
        share: how many there are, if not said otherwise; of fewer or more in proportion.
        make: lays a case out in its place; a number has the same case always.
        kills: whether it is of kills, which are counted apart.
    """

    about: str
    share: int
    make: Callable[[Place, Bases, int], Case]
    kills: bool = False


KINDS = {
    "cifar": Kind("files in the layouts of CIFAR, in folders and archives", 60, cifar.cifar),
    "pickles": Kind("pickles made for harm", 60, cifar.pickles),
    "archives": Kind("archives that are damaged or made for harm", 50, cifar.archives),
    "images": Kind("folders of images", 50, images.images),
    "fonts": Kind("fonts", 35, images.fonts),
    "npz": Kind("vectors in .npz", 50, vectors.npz),
    "npy": Kind("vectors in a folder of .npy", 45, vectors.npy),
    "parquet": Kind("vectors in parquet", 40, vectors.parquet),
    "texts": Kind("texts in fastText's format and in tables", 40, texts.texts),
    "sparse": Kind("sparse vectors of the Extreme Classification Repository", 60, texts.sparse),
    "stores": Kind("stored comparisons: `report`, and results for trees", 100, stores.stores),
    "scales": Kind("stored measurements, and tables for `advise`", 40, stores.scales),
    "resumed": Kind("runs that were cut off and damaged since", 9, stores.resumed),
    "caches": Kind("drawn and converted data that were damaged in the cache", 15, stores.caches),
    "options": Kind("options and words of every verb", 165, options.options),
    "files": Kind("pipes, devices, folders, links and holes in place of files", 70, surroundings.files),
    "names": Kind("odd names of files, folders, classes and nodes", 100, surroundings.names),
    "folders": Kind("folders for results that hold something else", 35, surroundings.folders),
    "disks": Kind("disks that are full", 18, surroundings.disks),
    "environments": Kind("encodings, terminals, homes and outputs", 49, surroundings.environments),
    "downloads": Kind("servers that misbehave", 48, downloads.downloads),
    "kills": Kind("commands that are killed, and typed again", 0, kills.kills, kills=True),
    "trees": Kind("files with trees, in five formats", 75, trees.trees),
    "tables": Kind("counts, paths and vectors of `tree build`", 45, trees.tables),
}
