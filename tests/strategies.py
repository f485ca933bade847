"""Trees that hypothesis draws."""

from hypothesis import strategies as st

from softmaxes import Tree


@st.composite
def parents(draw: st.DrawFn) -> list[int]:
    """A random tree: inner nodes below earlier ones, a leaf under each of them that has no child, some leaves more."""
    inner = draw(st.integers(1, 12))
    above = [-1] + [draw(st.integers(0, node - 1)) for node in range(1, inner)]
    childless = [node for node in range(inner) if node not in above]
    leaves = childless + draw(st.lists(st.integers(0, inner - 1), min_size=1, max_size=12))
    leaves = draw(st.permutations(leaves))
    return [len(leaves) + node for node in leaves] + [-1] + [len(leaves) + node for node in above[1:]]


def trees() -> st.SearchStrategy[Tree]:
    return parents().filter(lambda parent: sum(node not in parent for node in range(len(parent))) >= 2).map(Tree)
