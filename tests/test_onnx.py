"""Every head as an ONNX file: ONNX Runtime says what the head says, for batches of any size."""

import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from cases import CASES, ONE_OF_EACH, Case, public_heads
from softmaxes import Head, HierarchicalSoftmax, Softmax, Tree
from softmaxes.testing import Served, same_answers

pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
onnxruntime = pytest.importorskip("onnxruntime")

pytestmark = pytest.mark.slow

# Of each head the last case of up to twelve classes: a graph that grows with them takes long to make. And what these go
# past: the largest coefficients, and an entmax that is not bisected.
SMALL = {type(head): case for case in CASES if (head := case.make(case.in_features)).num_classes <= 12}
OTHERS = [case for case in CASES if case.name in ("taylor-100-order-12", "entmax-2")]


def in_onnx_runtime(module: nn.Module, example: Tensor, path: Path) -> Callable[[Tensor], list[Tensor]]:
    """A module by way of a file, run by ONNX Runtime in one thread."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own
        program = torch.onnx.export(module, (example,), dynamo=True, dynamic_shapes={"input": {0: "batch"}})
    assert program is not None
    program.save(path)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options)
    (name,) = (one.name for one in session.get_inputs())
    return lambda x: [torch.from_numpy(array) for array in session.run(None, {name: x.numpy()})]


@pytest.mark.parametrize("case", [*SMALL.values(), *OTHERS], ids=lambda case: case.name)
def test_a_file_says_what_body_and_head_say(case: Case, tmp_path: Path) -> None:
    torch.manual_seed(0)
    head = case.make(case.in_features)
    body = nn.Sequential(nn.Linear(4, case.in_features), nn.ReLU())
    classifier = nn.Sequential(body, Served(head, min(3, head.num_classes))).eval()
    program = in_onnx_runtime(classifier, torch.randn(7, 4), tmp_path / "file.onnx")
    for rows in (1, 3, 1000):
        for scale in (1.0, 5.0, 100.0):
            same_answers(classifier, program, scale * torch.randn(rows, 4))


def test_no_head_is_left_out() -> None:
    assert set(SMALL) == public_heads() == {type(case.make(case.in_features)) for case in ONE_OF_EACH}


@pytest.mark.parametrize("make", [lambda: Softmax(4, 9), lambda: HierarchicalSoftmax(4, Tree.balanced(8))])
@torch.no_grad()
def test_of_equal_classes_the_lower_comes_first(make: Callable[[], Head], tmp_path: Path) -> None:
    head = make().eval()
    for parameter in head.parameters():
        parameter.zero_()
    served = Served(head, 5)
    program = in_onnx_runtime(served, torch.randn(1, 4), tmp_path / "file.onnx")
    for rows in (1, 2, 50):
        _, predicted, _, classes = program(torch.randn(rows, 4))
        assert torch.equal(classes, torch.arange(5).expand(rows, -1))
        assert not predicted.any()
