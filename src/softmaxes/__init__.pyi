from .exact_search import ExactSearch as ExactSearch
from .head import Head as Head
from .heads.adaptive import AdaptiveSoftmax as AdaptiveSoftmax
from .heads.cosine import CosineSoftmax as CosineSoftmax
from .heads.entmax import Entmax as Entmax
from .heads.flat import Softmax as Softmax
from .heads.forest import ForestSoftmax as ForestSoftmax
from .heads.gumbel import GumbelSoftmax as GumbelSoftmax
from .heads.hierarchical import HierarchicalSoftmax as HierarchicalSoftmax
from .heads.mixture import MixtureOfSoftmaxes as MixtureOfSoftmaxes
from .heads.nce import NCE as NCE
from .heads.negative_sampling import NegativeSampling as NegativeSampling
from .heads.neighbor_sampled import NeighborSampledSoftmax as NeighborSampledSoftmax
from .heads.one_vs_rest import OneVsRest as OneVsRest
from .heads.sampled import SampledSoftmax as SampledSoftmax
from .heads.sigsoftmax import Sigsoftmax as Sigsoftmax
from .heads.sparsemax import Sparsemax as Sparsemax
from .heads.spherical import SphericalSoftmax as SphericalSoftmax
from .heads.taylor import TaylorSoftmax as TaylorSoftmax
from .heads.tree_sampled import TreeSampledSoftmax as TreeSampledSoftmax
from .optim import SGDInBackward as SGDInBackward
from .sampler import Sampler as Sampler
from .trees.tree import Tree as Tree

__version__: str
