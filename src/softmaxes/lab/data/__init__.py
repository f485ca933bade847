"""Data sets for the lab: each source gives images or vectors, checked labels, names, counts, and groups if known."""

from softmaxes.lab.data.dataset import Data as Data
from softmaxes.lab.data.sources import load as load
