"""What is particular to a head and no law can know."""

import math
from typing import Any

import pytest
import torch

from softmaxes import GumbelSoftmax, Softmax


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"noise": "uniform"}, "expected noise to be 'gumbel' or 'normal', got 'uniform'"),
        ({"scale": -0.1}, "expected scale to be finite and at least 0, got -0.1"),
        ({"scale": math.nan}, "expected scale to be finite and at least 0, got nan"),
        ({"temperature": 0.0}, "expected temperature to be finite and above 0, got 0.0"),
        ({"temperature": math.inf}, "expected temperature to be finite and above 0, got inf"),
        ({"anneal_steps": 5}, "expected final_temperature and anneal_steps together or neither, got None and 5"),
        ({"final_temperature": 0.0, "anneal_steps": 5}, "expected final_temperature to be finite and above 0, got 0.0"),
        ({"final_temperature": 0.5, "anneal_steps": 0}, "expected anneal_steps to be at least 1, got 0"),
    ],
)
def test_gumbel_refuses(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"GumbelSoftmax: {message}"):
        GumbelSoftmax(4, 3, **arguments)


def test_sizes_are_ints() -> None:
    with pytest.raises(TypeError, match=r"Softmax: expected num_classes to be an int, got 10.0"):
        Softmax(4, 10.0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="Softmax: expected num_classes to be at least 2, got 1"):
        Softmax(4, 1)


@pytest.mark.parametrize("noise", ["gumbel", "normal"])
def test_the_loss_is_the_nll_of_the_perturbed_softmax(noise: Any) -> None:
    """Against the formula, with noise from torch's own distributions: equal in mean and spread over many draws."""
    head = GumbelSoftmax(2, 3, noise=noise, scale=0.7, temperature=0.5, dtype=torch.float64)
    x = torch.tensor([0.3, -1.2], dtype=torch.float64)
    rows = 40_000
    torch.manual_seed(0)
    with torch.no_grad():
        losses = head(x.expand(rows, 2), torch.ones(rows, dtype=torch.int64))
        one = torch.ones((), dtype=torch.float64)
        law = (
            torch.distributions.Gumbel(0 * one, one) if noise == "gumbel" else torch.distributions.Normal(0 * one, one)
        )
        assert head.bias is not None
        perturbed = (head.weight @ x + head.bias + 0.7 * law.sample((rows, 3))) / 0.5
    expected = -perturbed.log_softmax(1)[:, 1]
    error = float(expected.std()) / math.sqrt(rows)
    assert float(losses.mean()) == pytest.approx(float(expected.mean()), abs=5 * error)
    assert float(losses.std()) == pytest.approx(float(expected.std()), rel=0.05)


def test_the_temperature_is_exact_in_float64() -> None:
    head = GumbelSoftmax(4, 3, scale=0.0, temperature=0.7, dtype=torch.float64)
    x, y = torch.randn(6, 4, dtype=torch.float64), torch.tensor([0, 1, 2, 0, 1, 2])
    logits = torch.nn.functional.linear(x, head.weight, head.bias)
    expected = torch.nn.functional.cross_entropy(logits / 0.7, y, reduction="none")
    torch.testing.assert_close(head(x, y), expected, rtol=1e-14, atol=1e-14)


def test_the_hard_sample_has_the_probabilities_of_the_softmax() -> None:
    """The Gumbel-max theorem: a straight-through loss is 0 just as often as the softmax says."""
    head = GumbelSoftmax(2, 3, straight_through=True)
    x = torch.tensor([0.3, -1.2])
    rows = 20_000
    torch.manual_seed(0)
    with torch.no_grad():
        losses = head(x.expand(rows, 2), torch.ones(rows, dtype=torch.int64))
    hits = losses.abs() < 1e-6
    torch.testing.assert_close(losses[~hits], torch.full_like(losses[~hits], math.log(3)))
    expected = head.log_prob(x)[1].exp().item()
    assert float(hits.double().mean()) == pytest.approx(expected, abs=5 * math.sqrt(0.25 / rows))


def test_the_temperature_follows_its_schedule_through_a_checkpoint() -> None:
    head = GumbelSoftmax(2, 3, temperature=2.0, final_temperature=0.5, anneal_steps=4)
    x, y = torch.randn(5, 2), torch.zeros(5, dtype=torch.int64)
    temperatures = []
    for step in range(6):
        if step == 3:
            state = head.state_dict()
            head = GumbelSoftmax(2, 3, temperature=2.0, final_temperature=0.5, anneal_steps=4)
            head.load_state_dict(state)
        temperatures.append(float(head.current_temperature()))
        head(x, y)
        head.eval()(x, y)  # no step
        head.train()
    assert temperatures == pytest.approx([2.0, 2 * 0.5**0.5, 1.0, 0.5**0.5, 0.5, 0.5])


def test_class_weights_and_ignored_labels_are_one_line_outside() -> None:
    torch.manual_seed(0)
    head = Softmax(4, 3)
    x, y = torch.randn(6, 4), torch.tensor([0, 1, 2, 0, 1, -100])
    weight = torch.tensor([1.0, 5.0, 0.0])
    keep = y != -100
    loss = head(x[keep], y[keep])
    logits = torch.nn.functional.linear(x, head.weight, head.bias)
    expected = torch.nn.functional.cross_entropy(logits, y, weight, reduction="sum")
    torch.testing.assert_close((weight[y[keep]] * loss).sum(), expected)
