"""One training: paired randomness, exact resumption, honest records."""

import dataclasses
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from cases import public_heads
from softmaxes import HierarchicalSoftmax, NeighborSampledSoftmax, Tree, metrics
from softmaxes.lab import Entry, InputError
from softmaxes.lab.agreement import check_on
from softmaxes.lab.bits import unpacked
from softmaxes.lab.comparison.execute import check
from softmaxes.lab.data.batches import Examples, channels_last, held_out_rows, lay_out
from softmaxes.lab.data.dataset import Data
from softmaxes.lab.devices import Devices
from softmaxes.lab.heads.registry import HEADS, entry_of
from softmaxes.lab.recipe import draw, learning_rate
from softmaxes.lab.records import Result, Run, Scores, TrainedTree
from softmaxes.lab.store import Store
from softmaxes.lab.training import classifier as classifying
from softmaxes.lab.training import judge
from softmaxes.lab.training import train as training
from softmaxes.lab.training.backbones import TinyVGG
from softmaxes.lab.training.classifier import (
    Classifier,
    UnfitError,
    build,
    grow,
    mean_and_std,
    means_of_classes,
)
from softmaxes.lab.training.fabric import Fabric
from softmaxes.lab.training.judge import Judge
from softmaxes.lab.training.train import Progress, train
from toy import numbers, toy_data, toy_run, trained

DATA = toy_data()
TRAIN, TEST = (
    Examples.of(inputs, labels)
    for inputs, labels in ((DATA.train_inputs, DATA.train_labels), (DATA.test_inputs, DATA.test_labels))
)
INPUTS = TRAIN.inputs
RECIPE: dict[str, Any] = {
    "lr_schedule": "one-cycle",
    "label_smoothing": 0.2,
    "flips": True,
    "crops": 2,
    "backbone": "resnet",
    "width": 4,
    "channels": 10,
}


def judge_of(examples: Examples) -> Judge:
    """Who judges a classifier on some examples of the toy data."""
    return Judge(Fabric(accelerator="cpu", devices=1), DATA.card(), examples)


def with_tree(head: str, learned: Callable[[torch.Tensor], Tree]) -> Entry:
    """A head that learns its tree with another function."""
    entry = entry_of(head)
    assert entry.growth is not None
    return entry._replace(growth=dataclasses.replace(entry.growth, tree=learned))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path)
    lay_out(DATA, store)
    return store


def final(result: Result) -> Scores:
    scores = result.epochs[-1].scores
    assert scores is not None
    return scores


def test_every_public_head_is_in_the_registry() -> None:
    built = [entry.build(8, DATA.card()) for entry in HEADS.values()]
    assert {type(head) for head in built} == public_heads()
    assert {head.num_classes for head in built} == {6}


def test_a_head_that_needs_groups_says_so() -> None:
    card = DATA.card().model_copy(update={"group_names": None, "group_of_class": None})
    with pytest.raises(InputError, match="hierarchical-groups: expected data with groups of classes, got toy"):
        HEADS["hierarchical-groups"].build(8, card)


@pytest.mark.slow
@pytest.mark.parametrize("fields", [{}, RECIPE], ids=["plain", "recipe"])
def test_at_one_seed_heads_share_trunk_and_batches(
    fields: dict[str, Any], store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The initial weights of the trunk and every batch are bit-identical, and differ at another seed."""
    forward = Classifier.forward
    seen: list[str] = []

    def spy(self: Classifier, image: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        seen.append(hashlib.sha256(image.contiguous().numpy().tobytes() + target.numpy().tobytes()).hexdigest())
        return forward(self, image, target)

    def watched(run: Run) -> tuple[str, list[str]]:
        trunk = build(run, DATA.card(), INPUTS).trunk.state_dict()
        weights = hashlib.sha256(b"".join(tensor.numpy().tobytes() for tensor in trunk.values())).hexdigest()
        seen.clear()
        monkeypatch.setattr(Classifier, "forward", spy)
        train(run, DATA.card(), store)
        return weights, list(seen)

    first = watched(toy_run(DATA, "softmax", epochs=4, **fields))
    assert len(first[1]) == 3 + 4 * 4  # three to warm up; 120 images in batches of 32
    assert len(set(first[1])) == 1 + 4 * 4
    for head in HEADS:
        assert watched(toy_run(DATA, head, epochs=4, **fields)) == first
    other = watched(toy_run(DATA, "softmax", epochs=4, seed=1, **fields))
    assert other[0] != first[0]
    assert other[1] != first[1]


def test_batches_are_what_was_drawn_for_their_epoch(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    forward = Classifier.forward
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []

    def spy(self: Classifier, image: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        seen.append((image, target))
        return forward(self, image, target)

    monkeypatch.setattr(Classifier, "forward", spy)
    run = toy_run(DATA, **RECIPE)
    train(run, DATA.card(), store)
    seen = seen[3:]  # three to warm up
    for epoch in range(1, run.epochs + 1):
        draws = draw(run, epoch, DATA.train_labels, 6)
        for rows in TRAIN.shuffled(run, epoch):
            image, target = seen.pop(0)
            assert image.equal(draws.images(INPUTS[rows], rows).permute(0, 3, 1, 2))
            assert not image.equal(DATA.train_inputs[rows])
            assert target.equal(draws.targets[rows])
    assert seen == []


def test_epochs_see_every_example_once_in_another_order() -> None:
    run = toy_run(DATA)
    orders = [torch.cat(TRAIN.shuffled(run, epoch)) for epoch in (1, 2)]
    for order in orders:
        assert sorted(order.tolist()) == list(range(120))
    assert not torch.equal(*orders)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("head", "fields"),
    [(head, {}) for head in ("softmax", "gumbel-annealed", "hierarchical", "hierarchical-clustered")]
    + [
        ("hierarchical-relearned", {}),
        ("softmax", RECIPE),
        ("hierarchical-grown-10", RECIPE),
        ("tree-sampled-grown", {}),
        ("neighbor-sampled", {}),
    ],
)
def test_an_interrupted_run_ends_as_an_uninterrupted_one(
    head: str, fields: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut off in the middle of the second, third and fourth epoch: final numbers and weights are equal, bit for bit."""
    monkeypatch.setattr(training, "LOSS_EVERY", 3)  # windows of losses that reach over the end of an epoch
    run = toy_run(DATA, head, momentum=0.9, epochs=4, **fields)
    whole, cut = Store(tmp_path / "whole"), Store(tmp_path / "cut")
    for store in (whole, cut):
        lay_out(DATA, store)
    expected = train(run, DATA.card(), whole)

    class Killed(BaseException):
        pass

    for last in (6, 11, 14):

        def watch(progress: Progress, last: int = last) -> None:
            if progress.step == last:
                raise Killed

        with pytest.raises(Killed):
            train(run, DATA.card(), cut, watch=watch)
        assert cut.checkpoint(run).exists()
        assert cut.result(run) is None
    steps: list[int] = []
    result = train(run, DATA.card(), cut, watch=lambda progress: steps.append(progress.step))
    assert min(steps) == 13  # it went on from the fourth epoch
    assert numbers(result) == numbers(expected)
    weights, reference = (load_file(store.weights(run)) for store in (cut, whole))
    assert weights.keys() == reference.keys()
    assert all(torch.equal(weights[name], reference[name]) for name in reference)
    assert not cut.checkpoint(run).exists()
    assert sorted(path.suffix for path in cut.weights(run).parent.iterdir()) == [".json", ".safetensors"]


def test_nothing_is_written_elsewhere(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a process that is killed would leave behind."""
    monkeypatch.setattr("tempfile.tempdir", "/nowhere")
    train(toy_run(DATA, epochs=2), DATA.card(), store)


@pytest.mark.slow
def test_the_result_is_what_the_stored_weights_give(store: Store) -> None:
    """The referee asked again, from the files: accuracy, NLL, confusion matrix and guesses."""
    run = toy_run(DATA, "gumbel", epochs=25, momentum=0.9)
    train(run, DATA.card(), store)
    result = store.result(run)
    assert result is not None
    classifier = build(run, DATA.card(), INPUTS)
    classifier.load_state_dict(load_file(store.weights(run)))
    judged = metrics.judge(classifier.log_prob(DATA.test_inputs).detach(), DATA.test_labels)
    scores = result.epochs[-1].scores
    assert scores is not None
    assert scores.accuracy == metrics.accuracy(judged) > 0.5
    assert scores.nll == pytest.approx(metrics.nll(judged), rel=1e-5)
    assert [list(row) for row in result.confusion] == metrics.confusion(judged, 6).tolist()
    assert sum(count for _, _, count in result.confusion) == len(DATA.test_labels)
    samples = classifier.log_prob(DATA.test_inputs[DATA.samples()]).topk(5).indices
    assert [list(guess.classes) for guess in result.guesses] == samples.tolist()
    assert result.parameters == sum(parameter.numel() for parameter in classifier.parameters())
    assert result.head_parameters == classifier.head_parameters() == 6 * classifier.head.in_features + 6
    assert len(result.epochs) == 25
    assert all(epoch.train_seconds > 0 for epoch in result.epochs)
    assert result.peak_memory_mib > 50


@pytest.mark.slow
@pytest.mark.parametrize(("head", "rows"), [("softmax-hidden", 6), ("hierarchical-grown-10-hidden", 6)])
def test_a_head_s_hidden_layer_is_its_own_and_is_kept(head: str, rows: int, store: Store) -> None:
    """The trunk is that of any head; what a tree learns from, and the head over it, are behind the same layer."""
    run = Run(head=head, seed=0, data="toy", fingerprint=DATA.fingerprint, epochs=4, lr=0.05)
    classifier = build(run, DATA.card(), INPUTS)
    plain = build(run.model_copy(update={"head": "softmax"}), DATA.card(), INPUTS)
    torch.testing.assert_close(classifier.trunk.state_dict(), plain.trunk.state_dict(), rtol=0, atol=0)
    width = classifier.head.in_features
    assert classifier.head_parameters() == width * width + width + rows * width + rows
    images = DATA.train_inputs[:3]
    below = classifier.trunk((images.float() - classifier.mean) / classifier.std)
    layer = classifier.hidden.get_submodule("0")
    torch.testing.assert_close(classifier.features(images), torch.relu(layer(below)))
    before = layer.get_parameter("weight").detach().clone()
    result = train(run, DATA.card(), store)
    assert result.head_parameters == classifier.head_parameters()
    weights = load_file(store.weights(run))
    moved = (weights["hidden.0.weight"] - before).abs()
    assert 0 < float(moved.mean()) < float(before.abs().mean())  # trained on, and never drawn anew


@pytest.mark.slow
@pytest.mark.parametrize("head", ["softmax", "hierarchical-relearned"])
def test_statistics_of_a_normalising_trunk_are_of_training_steps_alone(head: str, store: Store) -> None:
    """Not of the warm-up, the tests or the mean features; and the stored ones give the scores."""
    run = toy_run(DATA, head, **(RECIPE | {"epochs": 15, "momentum": 0.9}))
    result = train(run, DATA.card(), store)
    weights = load_file(store.weights(run))
    counted = [steps for name, steps in weights.items() if name.endswith("num_batches_tracked")]
    assert [steps.item() for steps in counted] == [15 * 4] * 7
    if head == "softmax":
        classifier = build(run, DATA.card(), INPUTS)
        classifier.load_state_dict(weights)
        judged = metrics.judge(classifier.eval().log_prob(DATA.test_inputs).detach(), DATA.test_labels)
        assert metrics.accuracy(judged) == final(result).accuracy > 0.5
        assert metrics.nll(judged) == pytest.approx(final(result).nll, rel=1e-5)


@pytest.mark.parametrize("schedule", ["linear", "constant", "cosine", "one-cycle"])
def test_each_step_has_its_learning_rate(schedule: str, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also those after a learned tree has brought another optimiser."""
    rates: list[float] = []
    step = torch.optim.SGD.step

    def watched(self: torch.optim.SGD, *rest: Any) -> Any:
        rates.append(self.param_groups[0]["lr"])
        return step(self, *rest)

    monkeypatch.setattr(torch.optim.SGD, "step", watched)
    run = toy_run(DATA, "hierarchical-clustered", epochs=3, lr_schedule=schedule)
    train(run, DATA.card(), store)
    assert rates == [learning_rate(run, step, 12) for step in range(12)]


@pytest.mark.slow
def test_a_tree_is_learned_from_the_first_epochs(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A flat softmax first, as the head `softmax` is trained; then its weights are clustered, and the tree trained."""
    flat = train(toy_run(DATA, "softmax", epochs=5, lr_schedule="constant"), DATA.card(), store)
    seen: list[torch.Tensor] = []

    def learned(vectors: torch.Tensor) -> Tree:
        seen.append(vectors)
        return Tree([8, 8, 7, 7, 6, 6, 9, 9, -1, 8])

    entry = with_tree("hierarchical-clustered", learned)
    monkeypatch.setitem(HEADS, "hierarchical-clustered", entry)
    run = toy_run(DATA, "hierarchical-clustered", epochs=5, lr_schedule="constant")
    result = train(run, DATA.card(), store)
    assert result.epochs[0].scores == flat.epochs[0].scores
    assert result.epochs[1].scores != flat.epochs[1].scores
    assert result.tree is not None
    assert result.tree.parent == (8, 8, 7, 7, 6, 6, 9, 9, -1, 8)
    assert result.tree.learned_after == (1,)
    assert 0 < result.tree.seconds < result.epochs[1].train_seconds
    (vectors,) = seen
    first = train(toy_run(DATA, "softmax", epochs=1, lr_schedule="constant"), DATA.card(), store)
    assert torch.equal(vectors, load_file(store.weights(first.run))["head.weight"])
    classifier = build(run, DATA.card(), INPUTS)
    grow(run, classifier, vectors)
    classifier.load_state_dict(load_file(store.weights(run)))
    judged = metrics.judge(classifier.log_prob(DATA.test_inputs).detach(), DATA.test_labels)
    assert metrics.accuracy(judged) == final(result).accuracy


@pytest.mark.slow
def test_a_tree_is_learned_again_half_way(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the mean features of each class, in the trunk as it then is."""
    seen: list[torch.Tensor] = []

    def learned(vectors: torch.Tensor) -> Tree:
        seen.append(vectors)
        return Tree.balanced(6) if len(seen) == 1 else Tree([8, 8, 7, 7, 6, 6, 9, 9, -1, 8])

    entry = with_tree("hierarchical-relearned", learned)
    monkeypatch.setitem(HEADS, "hierarchical-relearned", entry)
    run = toy_run(DATA, "hierarchical-relearned", epochs=5, lr_schedule="constant")
    result = train(run, DATA.card(), store)
    assert result.tree is not None
    assert result.tree.learned_after == (1, 2)
    assert result.tree.parent == (8, 8, 7, 7, 6, 6, 9, 9, -1, 8)
    entry = with_tree("hierarchical-clustered", lambda vectors: Tree.balanced(6))
    monkeypatch.setitem(HEADS, "hierarchical-clustered", entry)
    once = train(toy_run(DATA, "hierarchical-clustered", epochs=2, lr_schedule="constant"), DATA.card(), store)
    assert [epoch.scores for epoch in once.epochs] == [epoch.scores for epoch in result.epochs[:2]]
    classifier = build(once.run, DATA.card(), INPUTS)
    grow(once.run, classifier, seen[0])
    classifier.load_state_dict(load_file(store.weights(once.run)))
    features = classifier.features(DATA.train_inputs).detach()
    for label, mean in enumerate(seen[1]):
        torch.testing.assert_close(mean, features[DATA.train_labels == label].mean(0))


@pytest.mark.slow
def test_a_tree_can_be_grown_without_a_flat_start(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[torch.Tensor] = []

    def learned(vectors: torch.Tensor) -> Tree:
        seen.append(vectors)
        return Tree.clustered(vectors)

    entry = with_tree("hierarchical-grown", learned)
    monkeypatch.setitem(HEADS, "hierarchical-grown", entry)
    run = toy_run(DATA, "hierarchical-grown", epochs=5, lr_schedule="constant")
    assert type(build(run, DATA.card(), INPUTS).head) is HierarchicalSoftmax
    result = train(run, DATA.card(), store)
    assert result.tree is not None
    assert (result.tree.learned_after, result.tree.from_means) == ((1, 2), True)
    once = train(toy_run(DATA, "hierarchical-random", epochs=1, lr_schedule="constant"), DATA.card(), store)
    classifier = build(once.run, DATA.card(), INPUTS)
    classifier.load_state_dict(load_file(store.weights(once.run)))
    features = classifier.features(DATA.train_inputs).detach()
    for label, mean in enumerate(seen[0]):
        torch.testing.assert_close(mean, features[DATA.train_labels == label].mean(0))
    assert not seen[1].equal(seen[0])


@pytest.mark.slow
def test_a_tree_that_only_proposes_is_grown_beside_its_softmax(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The flat rows go on from epoch to epoch; nothing is searched in a tree by which nothing is decided."""
    kept: list[bool] = []

    def watched(run: Run, classifier: Classifier, vectors: torch.Tensor, devices: Devices) -> Tree:
        before = classifier.head
        weight = before.get_parameter("weight").detach().clone()
        tree = grow(run, classifier, vectors, devices)
        kept.append(classifier.head is before and classifier.head.get_parameter("weight").equal(weight))
        return tree

    monkeypatch.setattr(training, "grow", watched)
    result = train(toy_run(DATA, "tree-sampled-grown", epochs=4), DATA.card(), store)
    assert kept == [True, True]
    assert result.tree is not None
    assert (result.tree.learned_after, result.tree.from_means, result.tree.searched) == ((1, 2), True, None)
    assert all(guess.path == () for guess in result.guesses)
    names = load_file(store.weights(result.run))
    assert {"head.weight", "head.proposal.weight"} <= set(names)
    grown = torch.tensor(result.tree.parent)
    assert names["head.proposal.parent"].equal(grown.where(grown >= 0, grown.argmin()))


def test_neighbors_are_looked_for_in_the_first_epoch_and_before_the_others(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights: list[torch.Tensor] = []
    refresh = NeighborSampledSoftmax.refresh
    monkeypatch.setattr(
        NeighborSampledSoftmax, "refresh", lambda head: (weights.append(head.weight.detach().clone()), refresh(head))[1]
    )
    train(toy_run(DATA, "neighbor-sampled", epochs=3), DATA.card(), store)
    assert len(weights) == 5  # at three quarters of the first epoch, and before the two others
    assert not weights[0].equal(weights[1])


def test_a_class_without_images_has_the_mean_of_all(store: Store) -> None:
    classifier = build(toy_run(DATA), DATA.card(), INPUTS)
    some = (DATA.train_labels != 2).nonzero().squeeze(1)
    means = means_of_classes(Fabric(accelerator="cpu", devices=1), classifier, TRAIN.only(some))
    torch.testing.assert_close(means[2], classifier.features(DATA.train_inputs[some]).mean(0).detach())


def test_a_share_of_each_class_is_held_out_whatever_the_head_and_the_seed() -> None:
    labels = torch.tensor([0, 1, 2, 1, 1, 0, 3, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 3])
    run = toy_run(DATA, validation=0.25)
    rows, held_out = held_out_rows(run, labels)
    assert torch.cat([rows, held_out]).sort().values.equal(torch.arange(len(labels)))
    assert labels[held_out].bincount(minlength=4).tolist() == [1, 2, 0, 0]  # a quarter of 7, 10, 1, 2
    assert run.steps_per_epoch(len(rows)) == 1
    assert run.model_copy(update={"batch_size": 16}).steps_per_epoch(len(rows)) == 2
    for other in (toy_run(DATA, "gumbel", validation=0.25), toy_run(DATA, validation=0.25, seed=3)):
        assert held_out_rows(other, labels)[1].equal(held_out)
    assert held_out_rows(toy_run(DATA), labels)[0].equal(torch.arange(len(labels)))


def test_an_example_of_several_labels_is_held_out_whole() -> None:
    """No label of it is trained on; of the held-out ones a share of each class by their first label."""
    examples = torch.arange(40).repeat_interleave(torch.tensor([1, 2, 3, 1] * 10))
    labels = torch.randint(4, (len(examples),), generator=torch.Generator().manual_seed(0))
    first = torch.tensor([int((examples == one).nonzero()[0]) for one in range(40)])
    run = toy_run(DATA, validation=0.25)
    rows, held_out = held_out_rows(run, labels, examples=examples)
    assert not set(examples[rows].tolist()) & set(examples[held_out].tolist())
    assert set(examples[rows].tolist()) | set(examples[held_out].tolist()) == set(range(40))
    assert set(held_out.tolist()) <= set(first.tolist())  # each once, as in the test
    counts = labels[first].bincount(minlength=4)
    assert labels[held_out].bincount(minlength=4).tolist() == [run.held_out(count) for count in counts.tolist()]
    whole = torch.cat([rows, held_out])
    assert len(whole) < len(labels)
    assert held_out_rows(toy_run(DATA), labels, examples=examples)[0].equal(torch.arange(len(labels)))


def test_a_validation_part_of_the_data_is_held_out_and_nothing_else() -> None:
    labels = torch.tensor([0, 1, 0, 1, 0, 1])
    own = torch.tensor([False, False, True, False, False, True])
    for share in (0.0, 0.5):
        rows, held_out = held_out_rows(toy_run(DATA, validation=share), labels, own)
        assert (rows.tolist(), held_out.tolist()) == ([0, 1, 3, 4], [2, 5])


@pytest.mark.parametrize("several", [False, True], ids=["a part of the data", "several labels"])
def test_what_the_data_hold_out_is_what_a_run_is_scored_on(several: bool, tmp_path: Path) -> None:
    """Through the store, as a comparison does it; and the result agrees with the data card."""
    data, part = toy_data(), torch.arange(120) % 5 == 0
    if several:
        data = dataclasses.replace(data, train_examples=torch.arange(60).repeat_interleave(2))
    else:
        data = dataclasses.replace(data, validation=part)
        assert sum(data.card().train_counts) == 96
    run = toy_run(data, epochs=1, validation=0.2, scored_on="validation")
    (result,) = trained(data, tmp_path, run)
    card = data.card()
    check_on(result, card)
    assert result.examples == sum(card.held_out(run)) == (12 if several else 24)
    with_test = toy_run(data, epochs=1, validation=0.2)
    (result,) = trained(data, tmp_path, with_test)
    assert result.calibration is not None
    assert result.calibration.scaled is not None
    assert result.calibration.scaled.fitted_on == sum(card.held_out(run))


@pytest.mark.parametrize("head", ["softmax", "hierarchical-clustered"])
def test_what_is_held_out_is_scored_and_nothing_of_the_test_set_is_read(head: str, tmp_path: Path) -> None:
    run = toy_run(DATA, head, validation=0.25, scored_on="validation", epochs=2)
    found = []
    for poison in (False, True):
        inputs = DATA.test_inputs.flip(0) if poison else DATA.test_inputs
        data = dataclasses.replace(DATA, test_inputs=inputs)
        store = Store(tmp_path / str(poison))
        lay_out(data, store)
        found.append(numbers(train(run, DATA.card(), store)))
    assert found[0] == found[1]
    assert sum(count for _, _, count in found[0]["confusion"]) == 6 * 5
    assert found[0]["guesses"] == []


@pytest.mark.slow
@pytest.mark.parametrize("head", ["softmax", "sparsemax"])
def test_confidence_is_kept_before_and_after_the_temperature_of_the_held_out_part(
    head: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of it asked again, from the stored weights; and of very many classes a part is held, the same each time."""
    run = toy_run(DATA, head, validation=0.25, epochs=10)
    result = train(run, DATA.card(), store)
    classifier = build(run, DATA.card(), INPUTS)
    classifier.load_state_dict(load_file(store.weights(run)))
    _, held_out = held_out_rows(run, DATA.train_labels)
    with torch.no_grad():
        log_prob = classifier.log_prob(DATA.test_inputs)
        held = classifier.log_prob(DATA.train_inputs[held_out])
    judged = metrics.judge(log_prob, DATA.test_labels)
    temperature = metrics.fit_temperature(held, DATA.train_labels[held_out])
    assert temperature is not None
    after = metrics.judge(metrics.at_temperature(log_prob, temperature), DATA.test_labels)

    assert result.examples == 30
    assert result.correct is not None
    assert unpacked(result.correct, 30).tolist() == (judged.rank == 0).tolist()
    assert result.calibration is not None
    scaled = result.calibration.scaled
    assert scaled is not None
    for curve, expected in ((result.calibration.reliability, judged), (scaled.reliability, after)):
        for found, column in zip(dict(curve).values(), metrics.reliability(expected), strict=True):
            assert found == pytest.approx(column.tolist(), rel=1e-4)
    assert (scaled.temperature, scaled.fitted_on) == (pytest.approx(temperature, rel=1e-3), len(held_out))
    assert scaled.nll == pytest.approx(metrics.nll(after), rel=1e-4)
    assert scaled.calibration_error == pytest.approx(metrics.calibration_error(after), rel=1e-3)
    if head == "softmax":
        assert final(result).nll > scaled.nll
        assert final(result).calibration_error != scaled.calibration_error

    monkeypatch.setattr(judge, "FIT_NUMBERS", 6 * 7 + 1)
    fewer = [train(run, DATA.card(), store).calibration for _ in range(2)]
    assert fewer[0] == fewer[1]
    assert fewer[0] is not None
    if fewer[0].scaled is not None:
        assert fewer[0].scaled.fitted_on == 7
        assert fewer[0].scaled.temperature != scaled.temperature


@pytest.mark.slow
def test_without_a_held_out_part_there_is_no_temperature(store: Store) -> None:
    for fields in ({}, {"validation": 0.25, "scored_on": "validation"}, {"validation": 0.01}):  # the last: of 20, none
        result = train(toy_run(DATA, epochs=1, **fields), DATA.card(), store)
        assert result.calibration is not None
        assert result.calibration.scaled is None
        assert sum(result.calibration.reliability.examples) == result.examples
        assert result.correct is not None


def test_where_no_held_out_target_is_in_the_support_there_is_no_temperature() -> None:
    part, test = (TEST.only(torch.tensor(rows)) for rows in ([0, 1, 3], [2, 4]))
    assert DATA.test_labels[:5].tolist() == [0, 1, 2, 3, 4]  # of which Sparse knows 2 and 4
    assert judge_of(test)._scaled(Sparse(), part) is None
    scaled = judge_of(part)._scaled(Sparse(), test)
    assert scaled is not None
    assert (scaled.fitted_on, scaled.nll) == (2, torch.inf)
    assert type(scaled).model_validate_json(scaled.model_dump_json()) == scaled


def test_what_is_held_out_is_not_trained_on(tmp_path: Path) -> None:
    run = toy_run(DATA, validation=0.25, epochs=2)
    _, held_out = held_out_rows(run, DATA.train_labels)
    found = []
    for poison in (False, True):
        inputs = DATA.train_inputs.clone()
        if poison:
            inputs[held_out] = inputs[held_out].flip(0)  # mean and deviation of all stay what they are
        store = Store(tmp_path / str(poison))
        lay_out(dataclasses.replace(DATA, train_inputs=inputs), store)
        found.append(numbers(train(run, DATA.card(), store)))
    fitted = [result["calibration"].pop("scaled") for result in found]
    assert fitted[0] != fitted[1]  # of all that is kept the temperature alone has seen them
    assert found[0] == found[1]


def test_the_tree_that_was_trained_is_kept(store: Store) -> None:
    result = train(toy_run(DATA, "hierarchical", epochs=1), DATA.card(), store)
    assert result.tree is not None
    assert result.tree.model_copy(update={"searched": None}) == TrainedTree(
        parent=tuple(Tree.balanced(6).parent.tolist())
    )
    assert train(toy_run(DATA, "softmax", epochs=1), DATA.card(), store).tree is None


@pytest.mark.parametrize(("head", "epochs"), [("hierarchical-clustered", 2), ("hierarchical-relearned", 4)])
def test_a_tree_cannot_be_learned_in_too_few_epochs(head: str, epochs: int) -> None:
    build(toy_run(DATA, head, epochs=epochs), DATA.card(), INPUTS)
    with pytest.raises(UnfitError, match=rf"{head}: expected at least {epochs} epochs, .* got {epochs - 1}\."):
        build(toy_run(DATA, head, epochs=epochs - 1), DATA.card(), INPUTS)


def test_losses_are_recorded_every_so_many_batches(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a window of four batches, an epoch here, the mean is that of the epoch."""
    monkeypatch.setattr(training, "LOSS_EVERY", 4)
    result = train(toy_run(DATA, batch_size=30), DATA.card(), store)
    assert [point.step for point in result.losses] == [4, 8, 12]
    for point, epoch in zip(result.losses, result.epochs, strict=True):
        assert point.loss == pytest.approx(epoch.train_loss)


def test_a_run_that_diverges_is_recorded_as_such(store: Store) -> None:
    result = train(toy_run(DATA, lr=1e30), DATA.card(), store)
    assert result.diverged == len(result.epochs)
    assert result.epochs[-1].scores is None
    again = store.result(result.run)
    assert again is not None
    assert result.correct is result.calibration is None
    assert repr(again) == repr(result)  # also where a loss is NaN, which equals nothing


def test_a_broken_checkpoint_is_refused(store: Store) -> None:
    run = toy_run(DATA)
    store.checkpoint(run).parent.mkdir()
    store.checkpoint(run).write_bytes(b"not a checkpoint")
    with pytest.raises(InputError, match=r"expected a whole checkpoint .*; delete it to start the run anew"):
        train(run, DATA.card(), store)


def test_a_checkpoint_cannot_run_code(store: Store, tmp_path: Path) -> None:
    run = toy_run(DATA)
    mark = tmp_path / "ran"

    class Hostile:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (mark,)

    store.checkpoint(run).parent.mkdir()
    torch.save({"model": Hostile()}, store.checkpoint(run))
    with pytest.raises(InputError, match="expected a whole checkpoint"):
        train(run, DATA.card(), store)
    assert not mark.exists()


def test_the_trunk_is_tinyvgg_as_it_is_usually_written() -> None:
    """To the last bit, values and gradients: the ReLU after the pool and in place is only quicker."""
    torch.manual_seed(0)
    trunk = TinyVGG((3, 32, 32)).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    layers: list[nn.Module] = []
    for inputs in (3, 10):
        layers += [nn.Conv2d(inputs, 10, 3), nn.ReLU(), nn.Conv2d(10, 10, 3), nn.ReLU(), nn.MaxPool2d(2)]
    usual = nn.Sequential(*layers).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    usual.load_state_dict(trunk.blocks.state_dict())
    image = torch.randint(0, 5, (8, 3, 32, 32)).float().contiguous(memory_format=torch.channels_last)
    features, expected = trunk(image), usual(image).flatten(1)
    assert features.equal(expected)
    assert 0 < (features == 0).float().mean() < 1
    upstream = torch.randn_like(features)
    for one, other in zip(
        torch.autograd.grad(features, list(trunk.parameters()), upstream),
        torch.autograd.grad(expected, list(usual.parameters()), upstream),
        strict=True,
    ):
        assert one.equal(other)


def test_images_that_are_too_small_are_refused() -> None:
    run = toy_run(DATA)
    card = DATA.card().model_copy(update={"image_shape": (3, 12, 12)})
    with pytest.raises(ValueError, match="TinyVGG: expected images of at least 16x16 at padding 0, got 12x12"):
        build(run, card, INPUTS)


def test_what_does_not_fit_is_the_head_or_the_network() -> None:
    """Only a head can be left out of a comparison."""
    card = DATA.card().model_copy(update={"group_names": None, "group_of_class": None})
    with pytest.raises(UnfitError, match="hierarchical-groups: expected data with groups"):
        check(toy_run(DATA, "hierarchical-groups"), DATA, card)
    check(toy_run(DATA), DATA, card)
    small = DATA.card().model_copy(update={"image_shape": (3, 12, 12)})
    with pytest.raises(InputError, match="TinyVGG: expected images of at least 16x16") as caught:
        check(toy_run(DATA), DATA, small)
    assert not isinstance(caught.value, UnfitError)


class Sparse(torch.nn.Module):
    """A head and trunk in one that knows two classes, with probabilities that rounding puts above one."""

    def log_prob(self, image: torch.Tensor) -> torch.Tensor:
        log_prob = torch.full((len(image), 6), -torch.inf)
        log_prob[:, 4] = 1e-7
        log_prob[:, 2] = -20.0
        return log_prob


def test_a_sparse_distribution_is_scored_stored_and_shown() -> None:
    """Two of six classes have a probability: four of six targets have none, and two classes are the guesses."""
    judged = judge_of(TEST).judge(Sparse())
    assert judged is not None
    scores = judge_of(TEST).scores(judged)
    assert (scores.nll, scores.outside_support) == (torch.inf, pytest.approx(2 / 3))
    assert (scores.accuracy, scores.top5) == pytest.approx((1 / 6, 1 / 3))
    assert scores.calibration_error == pytest.approx(5 / 6)
    assert Scores.model_validate_json(scores.model_dump_json()) == scores
    (guess,) = judge_of(TEST).guesses(Sparse(), build(toy_run(DATA), DATA.card(), INPUTS), torch.tensor([0]))
    assert guess.classes == (4, 2)
    assert guess.probabilities == pytest.approx((1, 2e-9), abs=1e-9)


def test_scores_from_before_they_knew_of_the_support_are_read() -> None:
    scores = '{"accuracy":0,"top5":0,"precision":0,"recall":0,"f1":0,"nll":"Infinity","calibration_error":0}'
    assert Scores.model_validate_json(scores).outside_support == 0


@pytest.mark.parametrize("device", ["cuda"])
def test_on_a_gpu(store: Store, device: str) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no GPU")
    result = train(toy_run(DATA, "gumbel", epochs=25, momentum=0.9), DATA.card(), store, device=device)
    assert result.epochs[-1].scores is not None
    assert result.epochs[-1].scores.accuracy > 0.5


def vectors(size: int = 8) -> Data:
    """The toy images as vectors: their mean colours, and noise."""
    generator = torch.Generator().manual_seed(0)

    def part(images: torch.Tensor) -> torch.Tensor:
        noise = torch.randn(len(images), size - 3, generator=generator)
        return torch.cat([images.float().mean((2, 3)), noise], dim=1)

    return dataclasses.replace(DATA, train_inputs=part(DATA.train_inputs), test_inputs=part(DATA.test_inputs))


@pytest.mark.slow
def test_vectors_are_learned_by_every_head(tmp_path: Path) -> None:
    """With a hidden layer better than by chance; and by a softmax of the vectors themselves well."""
    data, store = vectors(), Store(tmp_path)
    lay_out(data, store)
    for head in HEADS:
        result = train(toy_run(data, head, channels=10, epochs=8, hidden_units=32, lr=0.2), data.card(), store)
        assert final(result).accuracy > 0.2, head
    result = train(toy_run(data, "softmax", channels=10, epochs=20, lr=1.0), data.card(), store)
    assert final(result).accuracy > 0.9


def test_vectors_are_standardised_number_by_number() -> None:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(20_000, 3, generator=generator) * torch.tensor([0.01, 1, 50]) + torch.tensor([5.0, 0, -7])
    inputs = torch.cat([inputs, torch.full((20_000, 1), 3.0)], dim=1)
    mean, std = mean_and_std(inputs)
    scaled = (inputs - mean) / std
    torch.testing.assert_close(scaled.mean(0), torch.zeros(4).double(), atol=0.05, rtol=0)
    torch.testing.assert_close(scaled.std(0), torch.tensor([1.0, 1, 1, 0]).double(), atol=0.05, rtol=0)
    assert mean_and_std(inputs[:1])[1].tolist() == [[1, 1, 1, 1]]


def test_images_are_scaled_as_before() -> None:
    mean, std = mean_and_std(INPUTS)
    pixels = DATA.train_inputs.double()
    assert torch.equal(mean, pixels.mean((0, 2, 3), keepdim=True))
    assert torch.equal(std, pixels.std((0, 2, 3), keepdim=True))


def test_of_very_many_classes_a_test_batch_is_smaller(monkeypatch: pytest.MonkeyPatch) -> None:
    """No more numbers than the bound, at least one example, and the same scores."""
    sizes: list[int] = []

    class Watched(Sparse):
        def log_prob(self, image: torch.Tensor) -> torch.Tensor:
            sizes.append(len(image))
            return super().log_prob(image)

    whole = judge_of(TEST).judge(Watched())
    assert sizes == [30]
    for bound, expected in ((6 * 7, [7, 7, 7, 7, 2]), (5, [1] * 30)):
        monkeypatch.setattr(judge, "TEST_NUMBERS", bound)
        sizes.clear()
        parts = judge_of(TEST).judge(Watched())
        assert sizes == expected
        assert whole is not None
        assert parts is not None
        assert all(torch.equal(one, other) for one, other in zip(whole, parts, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("head", ["hierarchical", "sampled", "hierarchical-clustered"])
def test_large_heads_have_sparse_gradients_where_that_is_the_same_step(
    head: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not with momentum or weight decay, not on a GPU, not of a small head; the numbers are those of dense ones."""

    def sparse(device: str = "cpu", **fields: object) -> bool:
        run = toy_run(DATA, head, **fields)
        classifier = build(run, DATA.card(), INPUTS, Devices(device))
        if HEADS[head].growth is not None and device == "cpu":
            grow(run, classifier, classifier.head.get_parameter("weight").detach())
        return bool(classifier.head.__dict__.get("sparse", False))

    monkeypatch.setattr(classifying, "SPARSE", 6 * 4)
    assert sparse()
    assert sparse(**RECIPE)
    assert not sparse(momentum=0.9)
    assert not sparse(weight_decay=0.1)
    assert not sparse(device="cuda")
    for fields in ({}, RECIPE):
        monkeypatch.setattr(classifying, "SPARSE", 6 * 4)
        run = toy_run(DATA, head, epochs=4, **fields)
        large = train(run, DATA.card(), store)
        monkeypatch.setattr(classifying, "SPARSE", 6 * 16 + 1)
        assert not sparse(**fields)
        small = train(run, DATA.card(), store)
        losses = [[epoch.train_loss for epoch in result.epochs] for result in (large, small)]
        assert losses[0] == pytest.approx(losses[1])


def test_ward_s_clustering_of_very_many_classes_is_refused_before_training() -> None:
    data = toy_data(12)
    card = data.card().model_copy(update={"class_names": tuple(map(str, range(20_001)))})
    for head, entry in HEADS.items():
        assert (entry.most_classes is not None) == ("agglomerative" in head)
    with pytest.raises(UnfitError, match="agglomerative-4: expected at most 20,000 classes, got 20,001"):
        build(toy_run(data, "hierarchical-agglomerative-4", epochs=4), card, channels_last(data.train_inputs))


@pytest.mark.parametrize("asked", [7, None])
def test_epochs_before_the_last_are_scored_on_a_fixed_part(
    asked: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same part of a run that was cut off and of one that was not, and all at the end."""
    monkeypatch.setattr("softmaxes.lab.training.judge.FEW", 5)
    monkeypatch.setattr("softmaxes.lab.training.judge.LEAST_SCORED", 4)
    monkeypatch.setattr("softmaxes.lab.training.judge.TEST_BATCH", 4)
    monkeypatch.setattr("softmaxes.lab.training.train.SCORING", 0.0)  # the least that there must be
    run = toy_run(DATA, score=asked)
    whole, cut = Store(tmp_path / "whole"), Store(tmp_path / "cut")
    for store in (whole, cut):
        lay_out(DATA, store)
    result = train(run, DATA.card(), whole)
    assert [epoch.scored for epoch in result.epochs] == [asked or 4, asked or 4, None]

    def stop(progress: Progress) -> None:
        if progress.epoch is not None and progress.epoch.epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(run, DATA.card(), cut, watch=stop)
    assert numbers(train(run, DATA.card(), cut)) == numbers(result)


def test_all_are_scored_where_there_are_few(tmp_path: Path) -> None:
    store = Store(tmp_path)
    lay_out(DATA, store)
    assert {epoch.scored for epoch in train(toy_run(DATA), DATA.card(), store).epochs} == {None}
