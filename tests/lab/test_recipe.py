"""The recipe of a training step: rates as torch's own schedulers give them, draws that know nothing of the head."""

import pytest
import torch
from torch.nn import functional
from torch.optim import lr_scheduler

from softmaxes import Softmax
from softmaxes.lab.data.batches import Examples
from softmaxes.lab.recipe import Draws, draw, learning_rate
from toy import toy_data, toy_run

DATA = toy_data()
EVERYTHING = {"label_smoothing": 0.3, "flips": True, "crops": 2}


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine", "one-cycle"])
@pytest.mark.parametrize("steps", [1, 2, 3, 4, 5, 10, 333])
def test_learning_rates_are_those_of_torch_s_schedulers(schedule: str, steps: int) -> None:
    optimiser = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.3)
    scheduler = {
        "constant": lambda: lr_scheduler.ConstantLR(optimiser, factor=1.0),
        "linear": lambda: lr_scheduler.LinearLR(optimiser, 1.0, 0.0, total_iters=steps),
        "cosine": lambda: lr_scheduler.CosineAnnealingLR(optimiser, T_max=steps),
        "one-cycle": lambda: lr_scheduler.OneCycleLR(optimiser, 0.3, total_steps=steps, cycle_momentum=False),
    }[schedule]()
    run = toy_run(DATA, lr=0.3, lr_schedule=schedule)
    for step in range(steps):
        assert learning_rate(run, step, steps) == pytest.approx(optimiser.param_groups[0]["lr"], rel=1e-9, abs=1e-12)
        optimiser.step()
        if step < steps - 1:
            scheduler.step()


def test_smoothed_labels_are_drawn_so_often_and_uniformly() -> None:
    labels = torch.full((100_000,), 3)
    drawn = draw(toy_run(DATA, label_smoothing=0.3), 1, labels, 5).targets
    shares = drawn.bincount(minlength=5) / len(labels)
    torch.testing.assert_close(shares, torch.tensor([0.06, 0.06, 0.06, 0.76, 0.06]), atol=0.005, rtol=0)


def test_their_loss_is_in_the_mean_that_of_smoothed_labels() -> None:
    """As torch's cross-entropy has it, for a head that knows nothing of it."""
    torch.manual_seed(0)
    head, input = Softmax(4, 6), 3 * torch.randn(1, 4)
    label = int(head.predict(input))
    labels = torch.full((100_000,), label)
    expected = functional.cross_entropy(head.log_prob(input), labels[:1], label_smoothing=0.2)
    losses = head(input.expand(6, 4), torch.arange(6))  # of each class
    run = toy_run(DATA, label_smoothing=0.2)
    found = losses[draw(run, 1, labels, 6).targets]
    assert abs(found.mean() - expected) < 4 * found.std() / len(labels) ** 0.5
    assert abs(losses[label] - expected) > 0.1


def test_draws_depend_on_seed_and_epoch_alone() -> None:
    def drawn(head: str = "softmax", epoch: int = 1, **fields: object) -> list[torch.Tensor]:
        draws = draw(toy_run(DATA, head, **(EVERYTHING | fields)), epoch, DATA.train_labels, 6)
        assert draws.flipped is not None
        assert draws.corner is not None
        return [draws.targets, draws.flipped, draws.corner]

    def same(other: list[torch.Tensor]) -> list[bool]:
        return [one.equal(two) for one, two in zip(drawn(), other, strict=True)]

    assert same(drawn("hierarchical", batch_size=7, lr=1.0)) == [True, True, True]
    assert same(drawn(epoch=2)) == [False, False, False]
    assert same(drawn(seed=1)) == [False, False, False]
    assert same(drawn(label_smoothing=0.0)) == [False, True, True]  # each has draws of its own
    assert same(drawn(flips=False)) == [True, False, True]
    assert same(drawn(crops=1)) == [True, True, False]


def test_without_them_nothing_is_drawn() -> None:
    draws = draw(toy_run(DATA), 1, DATA.train_labels, 6)
    assert draws.targets is DATA.train_labels
    assert draws.images(DATA.train_inputs, torch.arange(120)) is DATA.train_inputs


@pytest.mark.parametrize(("channels", "height", "width"), [(3, 16, 16), (1, 5, 9), (3, 9, 5)])
@pytest.mark.parametrize("fields", [{"flips": True}, {"crops": 3}, {"flips": True, "crops": 4}], ids=str)
def test_images_are_mirrored_and_cropped_as_one_by_one(
    channels: int, height: int, width: int, fields: dict[str, int]
) -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(1, 256, (50, channels, height, width), generator=generator).to(torch.uint8)
    rows = torch.randperm(50, generator=generator)[:20]
    draws = draw(toy_run(DATA, **fields), 1, torch.zeros(50, dtype=torch.int64), 6)
    assert draws.flipped is not None
    assert draws.corner is not None
    moved = Examples.of(images, torch.zeros(50, dtype=torch.int64)).batch(rows, draws)
    assert moved.dtype == torch.uint8
    assert moved.is_contiguous(memory_format=torch.channels_last)
    for image, row in zip(moved, rows.tolist(), strict=True):
        down, across = draws.corner[row].tolist()
        padded = functional.pad(images[row], [fields.get("crops", 0)] * 4)
        expected = padded[:, down : down + height, across : across + width]
        assert image.equal(expected.flip(2) if draws.flipped[row] else expected)


def test_half_of_the_images_are_mirrored_and_every_crop_occurs() -> None:
    draws = draw(toy_run(DATA, flips=True, crops=1), 1, torch.zeros(9_000, dtype=torch.int64), 6)
    assert draws.flipped is not None
    assert draws.corner is not None
    assert draws.flipped.float().mean() == pytest.approx(0.5, abs=0.03)
    counts = (3 * draws.corner[:, 0] + draws.corner[:, 1]).bincount(minlength=9)
    assert len(counts) == 9
    assert 850 < counts.min() <= counts.max() < 1150
    assert not draw(toy_run(DATA, crops=1), 1, DATA.train_labels, 6)[1].any()  # type: ignore[union-attr]


def test_draws_are_a_function_of_their_fields() -> None:
    """A crop at the middle of the padding is the image itself."""
    draws = Draws(DATA.train_labels, torch.zeros(120, dtype=torch.bool), torch.full((120, 2), 2), 2)
    assert draws.images(DATA.train_inputs, torch.arange(120)).equal(DATA.train_inputs)
