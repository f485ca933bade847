"""The compiled half of the hierarchical softmax: it is there, it is right, and without it all else works."""

import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from cases import CASES, RAGGED, Case
from softmaxes import ForestSoftmax, HierarchicalSoftmax, Tree, rows, testing
from softmaxes.heads.hierarchical import compiled as kernel
from softmaxes.heads.hierarchical import head as hierarchical
from softmaxes.testing import LAWS, Law

ROOT = Path(__file__).parents[1]
COMPILER = any(shutil.which(name) for name in ("c++", "g++", "clang++"))
TREES = {
    "two": Tree.balanced(2),
    "binary": Tree.balanced(1000),
    "huffman": Tree.huffman([3.0**-c for c in range(30)]),
    "deep": Tree.huffman([1.1**-c for c in range(900)], arity=3),
    "deep and binary": Tree.huffman([2.0**-c for c in range(100)]),
    "wide": Tree.balanced(60, arity=60),
    "mixed": Tree.random(200, arity=7, seed=1),
    "ragged": RAGGED,
    "only children": Tree([2, 3, 4, 4, -1]),
}
REACHING = [  # laws that call the compiled half; `test_these_laws_reach_it` says which do
    testing.answers_are_well_formed,
    testing.leading_dimensions,
    testing.batch_does_not_matter,
    testing.target_log_prob_is_the_gather,
    testing.loss_is_what_it_says,
    testing.gradient_of_the_training_loss,
    testing.gradient_of_log_prob,
    testing.every_parameter_learns,
    testing.extreme_features,
    testing.separable_classes_are_learned,
    testing.recomputation_is_the_same,
    testing.inference_mode_leaves_no_mark,
    testing.averages_are_heads,
    testing.infinite_biases_agree,
    testing.forward_mode_is_reverse_mode,
    testing.function_transforms,
    testing.integers_are_integers,
]
OVER_TREES = [case for case in CASES if isinstance(case.make(case.in_features), HierarchicalSoftmax | ForestSoftmax)]


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """The compiled half for every tree, also where plain PyTorch is as fast."""
    if kernel.LIBRARY is None:
        pytest.skip(f"{kernel.MISSING}")
    monkeypatch.setattr(hierarchical, "COMPILED_RATIO", 0)


@pytest.fixture
def calls(compiled: None, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Which of its functions were called."""
    called: list[str] = []

    def call(function: str, *arguments: Tensor | int | None) -> int:
        called.append(function)
        return real(function, *arguments)

    real = kernel._call
    monkeypatch.setattr(kernel, "_call", call)
    return called


def plainly(head: HierarchicalSoftmax, input: Tensor, target: Tensor) -> Tensor:
    return head._of_branches(input, target, head.weight, head.bias)


def examples(head: HierarchicalSoftmax, rows: int = 150) -> tuple[Tensor, Tensor, Tensor]:
    dtype = head.weight.dtype
    input = torch.randn(rows, head.in_features, dtype=dtype, requires_grad=True)
    return input, torch.randint(head.num_classes, (rows,)), torch.linspace(-1, 2, rows, dtype=dtype)


@pytest.mark.skipif(not COMPILER, reason="no C++ compiler")
def test_it_is_there_where_there_is_a_compiler() -> None:
    assert kernel.LIBRARY is not None, kernel.MISSING
    assert kernel.MISSING is None
    assert rows.LIBRARY is not None


@pytest.mark.slow
def test_these_laws_reach_it(calls: list[str]) -> None:
    """And no others, but the one that compiles, which `test_laws` tries on a case of each head."""
    reaching = []
    for law in LAWS:
        if law is not testing.compiled:
            calls.clear()
            law(lambda d, **kw: HierarchicalSoftmax(d, Tree.balanced(100), **kw), 6)
            reaching += [law] if calls else []
    assert reaching == REACHING


@pytest.mark.slow
@pytest.mark.parametrize("law", REACHING, ids=lambda law: law.__name__)
@pytest.mark.parametrize("case", OVER_TREES, ids=lambda case: case.name)
def test_the_laws_with_it(case: Case, law: Law, compiled: None) -> None:
    law(case.make, case.in_features)


@pytest.mark.slow
@pytest.mark.parametrize("law", REACHING, ids=lambda law: law.__name__)
@pytest.mark.parametrize("case", OVER_TREES, ids=lambda case: case.name)
def test_the_laws_without_it(case: Case, law: Law, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "LIBRARY", None)
    law(case.make, case.in_features)


@pytest.mark.parametrize("features", [1, 7, 33, 100, 128])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("sparse", [False, True], ids=["dense", "sparse"])
@pytest.mark.parametrize("name", TREES)
def test_it_says_what_plain_pytorch_says(
    name: str, sparse: bool, dtype: torch.dtype, features: int, calls: list[str]
) -> None:
    torch.manual_seed(0)
    head = HierarchicalSoftmax(features, TREES[name], bias=features != 7, sparse=sparse, dtype=dtype)
    input, target, upstream = examples(head)
    wanted = [input, *head.parameters()]
    got, expected = head.target_log_prob(input, target), plainly(head, input, target)
    torch.testing.assert_close(got, expected)
    got_gradients = torch.autograd.grad(got, wanted, upstream)
    expected_gradients = torch.autograd.grad(expected, wanted, upstream)
    for got_one, expected_one in zip(got_gradients, expected_gradients, strict=True):
        assert got_one.is_sparse == expected_one.is_sparse
        torch.testing.assert_close(got_one.to_dense(), expected_one.to_dense(), rtol=1e-4, atol=1e-5)
    assert sorted(set(calls)) == [f"softmaxes_{part}_{str(dtype)[6:]}" for part in ("backward", "forward")]


def test_a_path_of_more_even_decisions_than_a_double_has_powers_of_two(compiled: None) -> None:
    chain = Tree([1300, 1300, *range(1301, 2599), *range(1301, 2599), -1])
    assert chain.depth == 1299
    head = HierarchicalSoftmax(4, chain)
    input, target = torch.zeros(2, 4), torch.tensor([0, 5])
    torch.nn.init.zeros_(head.get_parameter("bias"))
    torch.testing.assert_close(head.target_log_prob(input, target), -math.log(2) * torch.tensor([1299.0, 1295.0]))


@pytest.mark.slow
def test_a_sparse_gradient_has_each_row_of_the_paths_once_in_order(compiled: None) -> None:
    head = HierarchicalSoftmax(5, Tree.balanced(10**6), sparse=True)
    input, target, _ = examples(head, rows=300)
    gradient, of_bias = torch.autograd.grad(head(input, target).mean(), [head.weight, head.bias])
    assert gradient.is_coalesced()
    rows = gradient.indices().squeeze(0)
    touched: set[int] = set()
    for node in target.tolist():
        while (owner := int(head.tables.parent[node])) != node:
            touched.add(int(head.tables.first_row[owner]))
            node = owner
    assert rows.tolist() == sorted(touched)
    assert of_bias.indices().equal(gradient.indices())


@pytest.mark.filterwarnings("ignore:Sparse invariant checks are implicitly disabled")  # Adagrad's own
@pytest.mark.parametrize(
    "optimiser",
    [torch.optim.SGD, torch.optim.SparseAdam, torch.optim.Adagrad],
    ids=lambda optimiser: optimiser.__name__,
)
def test_optimisers_take_its_gradients(optimiser: type[torch.optim.Optimizer], calls: list[str]) -> None:
    after = []
    for plain in (False, True):
        torch.manual_seed(0)
        head = HierarchicalSoftmax(6, Tree.balanced(500), sparse=True, dtype=torch.float64)
        steps = optimiser(head.parameters(), lr=0.1)  # type: ignore[call-arg]
        for _ in range(5):
            input, target, upstream = examples(head)
            steps.zero_grad()
            log_prob = plainly(head, input, target) if plain else head.target_log_prob(input, target)
            (-log_prob * upstream).mean().backward()
            steps.step()
        after.append(torch.cat([parameter.detach().flatten() for parameter in head.parameters()]))
    torch.testing.assert_close(*after)
    assert len(calls) == 10


@pytest.mark.parametrize("frozen", ["input", "weight", "bias", "weight and bias"])
def test_what_is_frozen_gets_no_gradient(frozen: str, calls: list[str]) -> None:
    head = HierarchicalSoftmax(6, Tree.balanced(50))
    input, target, upstream = examples(head)
    for name, tensor in {"input": input, "weight": head.weight, "bias": head.bias}.items():
        assert tensor is not None
        tensor.requires_grad_(name not in frozen)
    wanted = [tensor for tensor in (input, head.weight, head.bias) if tensor is not None and tensor.requires_grad]
    got = torch.autograd.grad(head.target_log_prob(input, target), wanted, upstream)
    expected = torch.autograd.grad(plainly(head, input, target), wanted, upstream)
    torch.testing.assert_close(got, expected)
    assert ("softmaxes_backward_float32" in calls) == (frozen != "weight and bias")


def test_the_gradient_has_a_gradient_and_can_be_asked_for_twice(compiled: None) -> None:
    head = HierarchicalSoftmax(4, RAGGED, dtype=torch.float64)
    input, target, upstream = examples(head, rows=9)
    wanted = [input, *head.parameters()]
    penalties = []
    for log_prob in (head.target_log_prob(input, target), plainly(head, input, target)):
        (slope,) = torch.autograd.grad(log_prob, [input], upstream, create_graph=True)
        penalties.append(torch.autograd.grad(slope.square().sum(), wanted))
    torch.testing.assert_close(*penalties)
    value = head.target_log_prob(input, target)
    once = torch.autograd.grad(value, wanted, upstream, retain_graph=True)
    torch.testing.assert_close(torch.autograd.grad(value, wanted, upstream), once)


def test_tensors_that_are_not_in_one_piece(calls: list[str]) -> None:
    head = HierarchicalSoftmax(6, Tree.balanced(50))
    input, target, _ = examples(head)
    (gradient,) = torch.autograd.grad(head(input, target).sum(), [input])
    part, turned = torch.cat([input, input], 1)[::2, 6:], input.detach().t().contiguous().t().requires_grad_()
    torch.testing.assert_close(head(part, target[::2]), head(input, target)[::2])
    torch.testing.assert_close(torch.autograd.grad(head(turned, target).sum(), [turned])[0], gradient)
    head.weight = nn.Parameter(head.weight.detach().t().contiguous().t())
    torch.testing.assert_close(torch.autograd.grad(head(input, target).sum(), [input])[0], gradient)
    assert "softmaxes_forward_float32" in calls


def test_what_it_cannot_take_goes_the_plain_way(calls: list[str]) -> None:
    head = HierarchicalSoftmax(6, Tree.balanced(50))
    input, target, _ = examples(head)
    one = torch.func.vmap(lambda x, y: head(x, y))(input, target)
    torch.testing.assert_close(one, plainly(head, input, target).neg())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        head(input, target)
    head.bfloat16()(input.bfloat16(), target)
    head.float().to("meta")(input.to("meta"), target.to("meta"))
    assert calls == []
    head = HierarchicalSoftmax(6, Tree.balanced(50))
    with torch.no_grad():
        head(input, target)
    assert calls == ["softmaxes_forward_float32"]


def test_more_logits_than_it_can_number_are_refused(compiled: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "MOST", 300)
    head = HierarchicalSoftmax(6, Tree.balanced(64))
    input, target, _ = examples(head)
    head(input[:49], target[:49])
    input, target = input[:50], target[:50]
    with pytest.raises(ValueError, match="expected fewer than 300 logits on the targets' paths, got up to 300; "):
        head(input, target)


@pytest.mark.slow
def test_without_the_file_everything_works_and_one_line_says_what_is_lost(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "src/softmaxes", tmp_path / "softmaxes", ignore=shutil.ignore_patterns("*.so", "*.pyd"))
    script = """
import torch
from softmaxes import HierarchicalSoftmax, Tree
from softmaxes.heads.hierarchical import compiled as kernel
head = HierarchicalSoftmax(8, Tree.balanced(100), sparse=True)
head(torch.randn(4, 8), torch.arange(4)).sum().backward()
print(kernel.__file__, head.weight.grad.is_sparse)
print(kernel.MISSING)
"""

    def printed() -> list[str]:
        environment = os.environ | {"PYTHONPATH": str(tmp_path)}
        command = [sys.executable, "-c", script]
        return subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout.splitlines()

    where, missing = printed()
    assert where == f"{tmp_path / 'softmaxes/heads/hierarchical/compiled.py'} True"
    assert missing == (
        "The compiled step of HierarchicalSoftmax is missing (it was not built: no C++ compiler was found when "
        "softmaxes was installed); plain PyTorch does the same, slower."
    )
    if kernel.LIBRARY is not None:
        broken = tmp_path / "softmaxes/heads/hierarchical" / Path(kernel.LIBRARY._name).name
        broken.write_bytes(b"no library")
        where, missing = printed()
        assert where.endswith("True")
        assert missing.startswith(f"The compiled step of HierarchicalSoftmax is missing ({broken} does not load: ")


@pytest.mark.slow
def test_it_is_left_out_where_there_is_no_compiler(tmp_path: Path) -> None:
    for name in (
        "setup.py",
        "pyproject.toml",
        "README.md",
        "LICENSE",
        "src/softmaxes/__init__.py",
        "src/softmaxes/heads/hierarchical/compiled.cpp",
        "src/softmaxes/native.h",
        "src/softmaxes/rows.cpp",
        "src/softmaxes/rounded.cpp",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    command = [sys.executable, "setup.py", "build_ext", "--inplace"]
    none = os.environ | {"CC": "no-such-compiler", "CXX": "no-such-compiler"}
    subprocess.run(command, check=True, capture_output=True, cwd=tmp_path, env=none)
    built = ("src/softmaxes/heads/hierarchical/_compiled*", "src/softmaxes/_rows*", "src/softmaxes/_rounded*")
    assert [list(tmp_path.glob(one)) for one in built] == [[], [], []]
    if COMPILER:
        subprocess.run(command, check=True, capture_output=True, cwd=tmp_path)
        assert [len(list(tmp_path.glob(one))) for one in built] == [1, 1, 1]


def test_a_call_numbers_as_many_logits_as_int32_can() -> None:
    assert torch.iinfo(torch.int32).max + 1 == kernel.MOST
