"""The original study's open questions as runs, and the mistakes that it may have made as heads."""

from typing import Any

import pytest
import torch
from torch.nn import functional as F

from softmaxes import Head, HierarchicalSoftmax, Tree
from softmaxes.lab import InputError
from softmaxes.lab.data.batches import channels_last
from softmaxes.lab.heads.mistakes import LeakyTree, NoisySoftmax, SoftmaxTwice
from softmaxes.lab.heads.registry import entry_of
from softmaxes.lab.records import Training
from softmaxes.lab.studies import STUDIES
from softmaxes.lab.studies.forensics import LIKELY, UNLIKELY
from softmaxes.lab.training.classifier import build
from softmaxes.testing import check_head
from toy import toy_data, toy_run

DATA = toy_data()
NORMAL = "gumbel:noise=normal"


def head_of(name: str, classes: int = 12) -> Head:
    torch.manual_seed(0)
    return entry_of(name).build(6, toy_data(classes).card())


@pytest.mark.parametrize(
    "make",
    [
        lambda d: SoftmaxTwice(d, 12),
        lambda d: LeakyTree(d, 12),
        lambda d: LeakyTree(d, 16),
        lambda d: NoisySoftmax(d, 12),
        lambda d: NoisySoftmax(d, 12, of_probabilities=True),
    ],
)
def test_a_mistake_in_the_loss_leaves_a_lawful_head(make: Any) -> None:
    def made(in_features: int, *, device: object = None, dtype: torch.dtype | None = None) -> Head:
        head: Head = make(in_features).to(dtype=dtype)
        return head

    check_head(made, 6, quick=True)


def test_a_softmax_before_the_loss_is_taken_twice() -> None:
    head = head_of("softmax:twice=yes")
    assert isinstance(head, SoftmaxTwice)
    x, y = torch.randn(5, 6), torch.arange(5)
    torch.testing.assert_close(head(x, y), F.cross_entropy(head.linear(x).softmax(1), y, reduction="none"))
    assert head.log_prob(100 * x).exp().max().item() < torch.e / (torch.e + 11) + 1e-6


def test_noise_in_the_test_and_a_loss_of_probabilities() -> None:
    x, y = torch.randn(5, 6), torch.arange(5)
    for noisy in (False, True):
        for of_probabilities in (False, True):
            words = f"noisy_test={'yes' if noisy else 'no'},of_probabilities={'yes' if of_probabilities else 'no'}"
            head = head_of(f"{NORMAL},{words}") if noisy or of_probabilities else NoisySoftmax(6, 12)
            assert isinstance(head, NoisySoftmax)
            torch.manual_seed(1)
            loss = head(x, y)
            torch.manual_seed(1)
            log_prob = (head.linear(x) + torch.randn(5, 12)).log_softmax(1)
            own = log_prob.gather(1, y[:, None])[:, 0]
            torch.testing.assert_close(loss, -own.exp() if of_probabilities else -own)
            head.eval()
            assert torch.equal(head.log_prob(x), head.log_prob(x)) is not noisy


def test_unused_leaves_take_probability_from_the_loss_and_not_from_the_test() -> None:
    head = head_of("hierarchical:unused_leaves=yes")
    assert isinstance(head, LeakyTree)
    whole = head.whole
    assert isinstance(whole, HierarchicalSoftmax)
    assert whole.tree == Tree.balanced(16)
    x, y = torch.randn(5, 6), torch.arange(5)
    torch.testing.assert_close(head(x, y), -whole.target_log_prob(x, y))
    lost = whole.log_prob(x)[:, 12:].exp().sum(1)
    assert bool((lost > 0.01).all())
    torch.testing.assert_close(head.target_log_prob(x, y), whole.target_log_prob(x, y) - torch.log1p(-lost))


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("gumbel:noisy_test=yes", "noise=normal and no other setting"),
        (f"{NORMAL},noisy_test=yes,num_samples=4", "noise=normal and no other setting"),
        ("hierarchical:unused_leaves=yes,arity=4", "expected no with another tree"),
        ("hierarchical-random:unused_leaves=yes", "expected no with another tree"),
    ],
)
def test_a_mistake_goes_with_one_setting(name: str, line: str) -> None:
    with pytest.raises(InputError, match=line):
        entry_of(name)


def test_pixels_are_brought_to_0_to_1_where_they_are_not_standardised() -> None:
    images = channels_last(DATA.train_inputs)
    seen = {}
    for standardise in (True, False):
        made = build(toy_run(DATA, standardise=standardise), DATA.card(), images)
        made.trunk = torch.nn.Flatten()
        seen[standardise] = made.features(DATA.train_inputs)
    torch.testing.assert_close(seen[False], DATA.train_inputs.flatten(1) / 255)
    assert float(seen[True].mean().abs()) < 0.01


def test_the_study_tries_every_level_of_each_factor() -> None:
    study = STUDIES["forensics"].make(DATA.card(), 1, {"channels": 4})
    assert len(study.runs) == len({run.key for run in study.runs}) == 53
    assert {run.head for run in study.runs} == {head for head, _ in (*LIKELY, *UNLIKELY)}
    for head, _ in LIKELY:
        found = {(run.standardise, run.padding) for run in study.runs if (run.head, run.lr) == (head, 0.1)}
        assert found == {(True, 0), (True, 1), (False, 0), (False, 1)}
    for head in ("softmax", "gumbel-normal", "hierarchical"):
        assert {run.lr for run in study.runs if run.head == head} == {0.1, 0.01, 0.001}
    layers = {(run.head.partition(":")[0].partition("-")[0], run.hidden_units) for run in study.runs}
    assert layers == {("softmax", None), ("gumbel", None), ("hierarchical", 100), ("hierarchical", None)}
    seed = STUDIES["seed"].make(DATA.card(), 1, {"channels": 4})
    assert {run.key for run in seed.runs} <= {run.key for run in study.runs}
    assert study.published == seed.published
    fewer = STUDIES["forensics"].make(DATA.card(), 1, {"lr": 0.05})
    assert len(fewer.runs) == len({run.key for run in fewer.runs}) < 53
    assert Training.model_fields["standardise"].default is True
