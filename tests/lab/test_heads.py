"""The registry: every head that can be imported can be compared, built from what is known of the data alone."""

import pytest
import torch

from cases import public_heads
from softmaxes import Entmax, GumbelSoftmax, HierarchicalSoftmax, Tree
from softmaxes.lab import Entry, InputError
from softmaxes.lab.comparison.plan import named_heads
from softmaxes.lab.heads.families import FAMILIES
from softmaxes.lab.heads.registry import FORMER, HEADS, NAMES, entry_of, one_name, settings_of, typed
from toy import toy_data


def test_every_public_head_is_in_the_lab() -> None:
    card = toy_data(12).card()
    assert {type(entry.build(16, card)) for entry in HEADS.values()} == public_heads()


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("classes", [3, 12])
def test_a_head_of_the_lab_fits_the_data(name: str, classes: int) -> None:
    head = HEADS[name].build(16, toy_data(classes).card())
    assert (head.in_features, head.num_classes) == (16, classes)
    target = torch.arange(classes)
    head(torch.randn(classes, 16), target).mean().backward()
    assert head.log_prob(torch.randn(5, 16)).shape == (5, classes)


def test_the_tree_of_groups_is_that_of_the_data_s_labels() -> None:
    card = toy_data(12).card()
    assert card.group_of_class is not None
    head = HEADS["hierarchical-groups"].build(16, card)
    assert isinstance(head, HierarchicalSoftmax)
    above = [head.tree.ancestors(c)[0] for c in range(12)]
    for one in range(12):
        for other in range(12):
            together = card.group_of_class[one] == card.group_of_class[other]
            assert (above[one] == above[other]) == together


@pytest.mark.parametrize("name", [name for name, entry in HEADS.items() if entry.sparse is not None])
def test_sparse_gradients_make_the_same_step(name: str) -> None:
    """From the same weights, at the same draws: another form of the gradient and no other head."""
    entry, card = HEADS[name], toy_data(12).card()
    assert entry.sparse is not None
    stepped = []
    for build in (entry.build, entry.sparse):
        torch.manual_seed(0)
        head = build(16, card)
        optimiser = torch.optim.SGD(head.parameters(), lr=0.5)
        head(torch.randn(8, 16), torch.arange(8)).mean().backward()
        rows = [parameter for name, parameter in head.named_parameters() if not name.startswith("layers.")]
        layouts = {parameter.grad.layout for parameter in rows if parameter.grad is not None}
        assert layouts == {torch.sparse_coo if build is entry.sparse else torch.strided}
        optimiser.step()
        stepped.append(list(head.parameters()))
    torch.testing.assert_close(*stepped)


@pytest.mark.parametrize("name", ["sampled", "nce", "negative-sampling", "adaptive", "hierarchical-huffman"])
def test_a_class_that_was_never_seen_is_served(name: str) -> None:
    card = toy_data(12).card()
    card = card.model_copy(update={"train_counts": (0, *card.train_counts[1:])})
    head = HEADS[name].build(16, card)
    assert head.log_prob(torch.randn(5, 16)).isfinite().all()


def tree_of(name: str, classes: int = 12) -> Tree:
    """The tree that the head of a name begins with."""
    head = entry_of(name).build(16, toy_data(classes).card())
    assert isinstance(head, HierarchicalSoftmax)
    return head.tree


def growth_of(name: str) -> tuple[bool, bool, Tree]:
    """From what a head's first tree is learned, whether it is learned again, and the tree of some vectors."""
    growth = entry_of(name).growth
    assert growth is not None
    return growth.from_means, growth.again, growth.tree(VECTORS)


VECTORS = torch.randn(12, 4, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("name", "tree"),
    [
        ("hierarchical:arity=3", Tree.balanced(12, arity=3)),
        ("hierarchical:tree=random,arity=3", Tree.random(12, arity=3)),
        ("hierarchical:tree=clustered,start=random,arity=3", Tree.random(12, arity=3)),
        ("hierarchical-random:arity=3", Tree.random(12, arity=3)),
        ("hierarchical-random-10", Tree.random(12, arity=10)),
    ],
)
def test_a_setting_gives_the_tree_that_a_head_begins_with(name: str, tree: Tree) -> None:
    assert tree_of(name) == tree


@pytest.mark.parametrize(
    ("name", "growth"),
    [
        ("hierarchical-clustered", (False, False, Tree.clustered(VECTORS))),
        ("hierarchical:tree=clustered,arity=3", (False, False, Tree.clustered(VECTORS, arity=3))),
        ("hierarchical:tree=agglomerative,arity=3", (False, False, Tree.agglomerative(VECTORS, arity=3))),
        ("hierarchical:tree=random,arity=3,start=flat", (False, False, Tree.random(12, arity=3))),
        ("hierarchical:tree=balanced,start=flat", (False, False, Tree.balanced(12))),
        ("hierarchical:tree=clustered,start=random", (True, False, Tree.clustered(VECTORS))),
        ("hierarchical-relearned-10", (False, True, Tree.clustered(VECTORS, arity=10))),
        ("hierarchical-grown-10", (True, True, Tree.clustered(VECTORS, arity=10))),
        ("hierarchical-grown:arity=3", (True, True, Tree.clustered(VECTORS, arity=3))),
        ("tree-sampled-grown:arity=3", (True, True, Tree.clustered(VECTORS, arity=3))),
    ],
)
def test_settings_say_which_tree_is_learned_and_from_what(name: str, growth: tuple[bool, bool, Tree]) -> None:
    assert growth_of(name) == growth


def test_settings_of_other_heads_reach_them() -> None:
    card = toy_data(12).card()
    entmax = entry_of("entmax:alpha=1.25").build(16, card)
    assert isinstance(entmax, Entmax)
    assert entmax.alpha == 1.25
    gumbel = entry_of("gumbel:noise=normal,num_samples=3,final_temperature=0.5,anneal_steps=7").build(16, card)
    assert isinstance(gumbel, GumbelSoftmax)
    found = gumbel.noise, gumbel.num_samples, gumbel.final_temperature, gumbel.anneal_steps, gumbel.straight_through
    assert found == ("normal", 3, 0.5, 7, False)
    assert entry_of("softmax:hidden=yes").hidden
    assert not entry_of("softmax:hidden=no").hidden


@pytest.mark.parametrize("family", FAMILIES)
def test_each_setting_of_a_head_says_what_it_is(family: str) -> None:
    assert all(one.description.endswith(".") and one.kind for one in settings_of(family))


def test_what_is_set_is_not_tuned() -> None:
    assert HEADS["entmax"].knob is not None
    assert entry_of("entmax:alpha=1.25").knob is None
    assert HEADS["cosine"].knob is not None
    assert HEADS["cosface"].knob is None
    assert HEADS["gumbel-normal"].knob is not None
    assert entry_of("entmax:learn_alpha=yes").knob is None


def test_a_head_has_one_name_however_it_is_typed() -> None:
    for name, (settings, _) in NAMES.items():
        assert one_name(settings) == one_name(name) == name
    assert one_name("hierarchical:arity=2") == one_name("hierarchical:tree=balanced") == "hierarchical"
    assert one_name("hierarchical: hidden=yes, arity=4") == "hierarchical:arity=4,hidden=yes"
    assert one_name("cosine:scale=30.0,learn_scale=false,cosine_margin=.35") == "cosface"
    assert one_name("somewhere:make") == "somewhere:make"
    with pytest.raises(InputError, match="each head once"):
        named_heads("--heads", ["hierarchical-random", "hierarchical:tree=random"])


@pytest.mark.parametrize("name", FORMER)
def test_a_name_that_stored_results_have_is_still_a_head(name: str) -> None:
    entry, new = entry_of(name), entry_of(one_name(name))
    assert name not in HEADS
    assert isinstance(entry, Entry)
    assert (entry.summary, entry.cost, entry.knob is None) == (new.summary, new.cost, new.knob is None)
    assert type(entry.build(16, toy_data(12).card())) is type(new.build(16, toy_data(12).card()))


@pytest.mark.parametrize(
    ("name", "line"),
    [
        (
            "hierarchical:bush=1",
            "expected one of tree, arity, start, relearn, hidden, .* as a setting of hierarchical, got",
        ),
        ("sigsoftmax:order=2", "expected none as a setting of sigsoftmax, got order"),
        ("hierarchical:tree=bush", "hierarchical: tree: expected 'balanced', 'random', .* got bush"),
        ("hierarchical:arity=1", "hierarchical: arity: expected greater than or equal to 2, got 1"),
        ("hierarchical:arity=many", "hierarchical: arity: expected a valid integer, got many"),
        ("hierarchical:arity=2,arity=3", "each setting once, as key=value, got arity=3"),
        ("hierarchical:arity=2,tree", "each setting once, as key=value, got tree"),
        (
            "hierarchical:tree=huffman,start=flat",
            "start: expected balanced or .* with start=flat, got huffman",
        ),
        ("hierarchical:relearn=yes", "relearn: expected no with start=tree"),
        ("hierarchical:tree=groups,arity=3", "arity: expected none with tree=groups"),
        ("tree-sampled:relearn=yes", "relearn: expected no with tree=random"),
        ("softmax:hidden=perhaps", "hidden: expected a valid boolean, .*got perhaps"),
        ("entmax:alpha=nan", "alpha: expected a finite number, got nan"),
        ("hierarchical-random:bush=1", "as a setting of hierarchical, got bush"),
        ("hierarchical:", "each setting once, as key=value, got nothing"),
        ("hierarchical:arity", "each setting once, as key=value, got arity"),
        ("hierarchical:=4", "as a setting of hierarchical, got nothing"),
        ("hierarchical:arity=", "arity: expected a valid integer, got nothing"),
        ("hierarchical:arity=" + 5000 * "9", "arity: expected a smaller integer, got 9+…9+"),
        ("hierarchicals:arity=4", "did you mean hierarchical\\? There are softmax, "),
    ],
)
def test_a_setting_that_cannot_be_is_refused_in_one_line(name: str, line: str) -> None:
    with pytest.raises(InputError, match=f"^--heads: .*{line}") as refused:
        named_heads("--heads", ["softmax", name])
    assert "\n" not in str(refused.value)


def test_values_are_typed_as_they_are_read() -> None:
    assert [typed(value) for value in (True, False, 4, 0.5, "flat")] == ["yes", "no", "4", "0.5", "flat"]
