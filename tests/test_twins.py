"""Twins agree to machine precision in float64, in training and in evaluation."""

import pytest
import torch

from cases import public_heads
from twins import LOSS_IN_TRAINING_ALONE, TWINS, Twin


@pytest.mark.parametrize("twin", TWINS, ids=lambda twin: twin.__name__)
@pytest.mark.parametrize("training", [True, False])
def test_twin(twin: Twin, training: bool) -> None:
    torch.manual_seed(0)
    heads = twin(7)
    input = torch.randn(9, 7, dtype=torch.float64)
    target = torch.randint(heads[0].num_classes, (9,))
    upstream = torch.linspace(-1, 2, 9, dtype=torch.float64)
    results = []
    for head in heads:
        head.train(training)
        x = input.clone().requires_grad_()
        loss = head(x, target)
        if not training and twin in LOSS_IN_TRAINING_ALONE:
            loss = -head.target_log_prob(x, target)
        (upstream * loss).sum().backward()
        results.append((loss, head.log_prob(input), head.target_log_prob(input, target), x.grad))
    torch.testing.assert_close(results[0], results[1], rtol=1e-14, atol=1e-14)


def test_every_public_head_has_a_twin() -> None:
    assert {type(head) for twin in TWINS for head in twin(4)} & public_heads() == public_heads()
