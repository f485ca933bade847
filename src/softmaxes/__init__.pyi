from .head import Head as Head
from .heads.flat import Softmax as Softmax
from .heads.gumbel import GumbelSoftmax as GumbelSoftmax
from .heads.hierarchical import HierarchicalSoftmax as HierarchicalSoftmax
from .trees.tree import Tree as Tree

__version__: str
