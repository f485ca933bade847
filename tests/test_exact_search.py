"""Exact search finds what scoring all classes finds, in each of its ways; the rounded rows never hide a class."""

import math
import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from softmaxes import (
    NCE,
    CosineSoftmax,
    Entmax,
    ExactSearch,
    GumbelSoftmax,
    Head,
    HierarchicalSoftmax,
    NegativeSampling,
    NeighborSampledSoftmax,
    OneVsRest,
    SampledSoftmax,
    Sampler,
    Sigsoftmax,
    Softmax,
    Tree,
    TreeSampledSoftmax,
    exact_search,
    rounded,
)

CLASSES, FEATURES = 1003, 37  # no multiples of what a register holds
KINDS: dict[str, Callable[..., Head]] = {
    "softmax": Softmax,
    "softmax without bias": lambda d, c, **o: Softmax(d, c, bias=False, **o),
    "cosine": lambda d, c, **o: CosineSoftmax(d, c, scale=7.0, learn_scale=True, **o),
    "sampled": lambda d, c, **o: SampledSoftmax(d, Sampler.uniform(c), 8, **o),
    "neighbor": lambda d, c, **o: NeighborSampledSoftmax(d, c, 8, **o),
    "tree-sampled": lambda d, c, **o: TreeSampledSoftmax(d, Tree.balanced(c), 4, **o),
    "nce": lambda d, c, **o: NCE(d, Sampler.uniform(c), 8, **o),
    "negative sampling": lambda d, c, **o: NegativeSampling(d, Sampler.uniform(c), 8, **o),
    "one-vs-rest": OneVsRest,
    "sigsoftmax": Sigsoftmax,
    "gumbel": GumbelSoftmax,
}
WAYS = [
    pytest.param(way, marks=pytest.mark.skipif(rounded.way() < way, reason="this processor cannot"))
    for way in (0, 1, 2)
]


@pytest.fixture(params=WAYS, ids=["torch", "avx512", "amx"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """How the searches of a test are done."""
    number: int = request.param
    monkeypatch.setattr(rounded, "way", lambda: number)
    return number


@pytest.fixture
def by_rounding(way: int, monkeypatch: pytest.MonkeyPatch) -> int:
    """As `way`; a compiled search that scores all classes fails."""

    def never(*_: object) -> None:
        raise AssertionError("all classes were scored")

    if way > 0:
        monkeypatch.setattr(exact_search, "_of_all", never)
    return way


def truth(query: Tensor, weight: Tensor, bias: Tensor | None, k: int) -> tuple[Tensor, Tensor]:
    """The best by logits that are summed in float64 and rounded once."""
    logits = query.double() @ weight.detach().double().t() + (0 if bias is None else bias.detach().double())
    values, classes = logits.to(query.dtype).sort(dim=-1, descending=True, stable=True)
    return values[..., :k], classes[..., :k]


def agree(search: ExactSearch, input: Tensor, k: int) -> None:
    """The search finds classes of the best logits, in order, by more than rounding."""
    values, classes = search.topk(input, k)
    expected, _ = truth(input, search.head.weight, search.head.bias, k)
    torch.testing.assert_close(values, expected)
    logits, _ = truth(input, search.head.weight, search.head.bias, search.head.num_classes)
    assert logits.shape[-1] == search.head.num_classes
    own = input.double() @ search.head.weight.detach().double().t()
    own = own if search.head.bias is None else own + search.head.bias.detach().double()
    torch.testing.assert_close(own.gather(-1, classes).to(values.dtype), values)
    assert classes.sort(-1).values.diff(dim=-1).gt(0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", KINDS)
def test_it_is_topk_of_the_head(kind: str, dtype: torch.dtype, by_rounding: int) -> None:
    torch.manual_seed(0)
    head = KINDS[kind](FEATURES, CLASSES, dtype=dtype)
    search = ExactSearch(head)
    assert search.compiled == (by_rounding > 0)
    input = torch.randn(5, 7, FEATURES, dtype=dtype, requires_grad=True)
    for k in (1, 5, 100):
        logits, classes = search.topk(input, k)
        log_prob, expected = head.topk(input, k)
        torch.testing.assert_close(head.log_prob(input).gather(-1, classes), log_prob)
        assert classes.eq(expected).double().mean() > 0.999  # others are equal in the head's float32
        assert logits.shape == (5, 7, k)
        assert not logits.requires_grad
    assert torch.equal(search.predict(input), search.topk(input, 1)[1].squeeze(-1))
    if kind in ("softmax", "cosine"):
        torch.testing.assert_close(logits.diff(dim=-1), log_prob.detach().diff(dim=-1), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("examples", [1, 16, 33, 700])
@pytest.mark.parametrize(("classes", "features"), [(400, 1), (512, 32), (5000, 65)])
def test_any_size(classes: int, features: int, examples: int, way: int) -> None:
    torch.manual_seed(classes)
    search = ExactSearch(Softmax(features, classes))
    agree(search, torch.randn(examples, features), 7)


def test_threads_share_the_classes(by_rounding: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounded, "PART", 2**15)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    torch.manual_seed(1)
    search = ExactSearch(Softmax(16, 2500))
    with torch.no_grad():
        search.head.weight[[7, 900, 1801, 2499]] = 1.0  # equal ones, in each part
        search.head.bias[[7, 900, 1801, 2499]] = 0.5
    agree(search, torch.randn(40, 16), 9)
    assert search.topk(torch.ones(16, 16), 4)[1].tolist() == [[7, 900, 1801, 2499]] * 16


def test_equal_logits_are_in_order(way: int) -> None:
    search = ExactSearch(Softmax(8, 600))
    with torch.no_grad():
        search.head.weight.zero_()
        search.head.bias.zero_()
    assert search.topk(torch.ones(20, 8), 3)[1].tolist() == [[0, 1, 2]] * 20
    with torch.no_grad():
        search.head.weight[[500, 30, 300]] = 1.0
    assert search.topk(torch.ones(20, 8), 5)[1].tolist() == [[30, 300, 500, 0, 1]] * 20


@pytest.mark.parametrize("close", [1e-2, 1e-3, 1e-5])
def test_rounding_hides_nothing(close: float, by_rounding: int) -> None:
    """Rows that bfloat16 cannot tell apart, one of which is the best."""
    torch.manual_seed(2)
    head = Softmax(48, 3000)
    with torch.no_grad():
        head.weight[100:160] = head.weight[100] + close * torch.randn(60, 48)
        head.bias.zero_()
    search = ExactSearch(head)
    agree(search, head.weight.detach()[100] + 0.01 * torch.randn(64, 48), 5)


@torch.no_grad()
def test_the_worst_rounding_hides_nothing(by_rounding: int) -> None:
    """The best row is rounded away from the example, another towards it; or the example is."""
    head = Softmax(32, 700)
    rows = {name: head.weight[number] for name, number in (("best", 500), ("other", 100))}
    half, little = 1 + 2.0**-8, 2.0**-20  # between two numbers of bfloat16
    for number in (16, 40):
        head.weight.zero_()
        head.bias.zero_()
        head.bias[500] = 0.01
        rows["other"].fill_(half + little)
        rows["best"].fill_(half - little)
        agree(ExactSearch(head), torch.ones(number, 32), 1)
        rows["other"][:16], rows["other"][16:] = 0, 1
        rows["best"][:16], rows["best"][16:] = 1, 0
        example = torch.full((number, 32), half - little)
        example[:, 16:] = half + little
        agree(ExactSearch(head), example, 1)


@torch.no_grad()
def test_numbers_that_become_zero_hide_nothing(way: int) -> None:
    head = Softmax(32, 700)
    head.weight.zero_()
    head.bias.zero_()
    head.weight[100, :29], head.weight[500] = 1.2e-38, 1.1e-38  # the second is below the smallest normal number
    assert ExactSearch(head).predict(torch.ones(20, 32)).eq(500).all()


@pytest.mark.parametrize("scale", [1e-15, 1e-5, 1.0, 1e12])
def test_the_error_is_bounded(scale: float) -> None:
    torch.manual_seed(3)
    weight, query = scale * torch.randn(500, 40), torch.randn(30, 40) / scale
    query[0] *= 1e-3
    bias = 10 * torch.randn(500)
    rows = rounded.RoundedRows(weight, bias)
    small = query.bfloat16().float()
    twin = small @ rows.rows[:500, :40].float().t() + rows.column[:500]
    exact = query.double() @ weight.double().t() + bias.double()
    error = rows._error(query, small)
    assert ((twin.double() - exact).abs() <= error.double().unsqueeze(1)).all()
    assert (error < 0.02 * query.norm(dim=1) * weight.norm(dim=1).max() + 1e-4).all()  # it is of use


def test_where_too_many_are_close_all_are_scored(way: int) -> None:
    torch.manual_seed(4)
    head = Softmax(24, 4000)
    with torch.no_grad():
        head.weight.copy_(head.weight[0] + 1e-4 * torch.randn(4000, 24))
        head.bias.zero_()
    agree(ExactSearch(head), torch.randn(40, 24), 5)
    if way > 0:
        assert not ExactSearch(head)._copy.rows.best(torch.randn(40, 24), 5).decided.any()  # type: ignore[union-attr]


ODD: dict[str, Callable[[Softmax, Tensor], object]] = {
    "a bias of minus infinity": lambda head, _: head.bias.__setitem__(slice(0, 990), -math.inf),
    "a bias of infinity": lambda head, _: head.bias.__setitem__(17, math.inf),
    "a bias that is no number": lambda head, _: head.bias.__setitem__(17, math.nan),
    "a row that is no number": lambda head, _: head.weight.__setitem__((17, 2), math.nan),
    "an infinite row": lambda head, _: head.weight.__setitem__((17, 2), math.inf),
    "an example that is no number": lambda _, x: x.__setitem__((3, 2), math.nan),
    "an infinite example": lambda _, x: x.__setitem__((3, 2), math.inf),
    "large rows": lambda head, _: head.weight.mul_(1e25),
    "rows larger than bfloat16": lambda head, _: head.weight.__setitem__((17, 2), 3.4e38),
    "large examples": lambda _, x: x.mul_(1e30),
    "small rows": lambda head, _: (head.weight.mul_(1e-39), head.bias.zero_()),
    "small examples": lambda head, x: (x.mul_(1e-40), head.bias.zero_()),
}


@pytest.mark.parametrize("what", ODD)
@torch.no_grad()
def test_odd_numbers(what: str, way: int) -> None:
    """As the head does, which scores all classes."""
    torch.manual_seed(5)
    head, input = Softmax(12, 1000), torch.randn(40, 12)
    ODD[what](head, input)
    search = ExactSearch(head)
    for k in (5, 20):
        _, classes = search.topk(input, k)
        logits = torch.nn.functional.linear(input, head.weight, head.bias)
        values, _ = logits.topk(k)
        torch.testing.assert_close(logits.gather(1, classes), values, rtol=1e-5, atol=0.0, equal_nan=True)


@pytest.mark.parametrize("k", [250, 1000, 1500, 3000])
def test_many_of_the_best(k: int, way: int) -> None:
    torch.manual_seed(6)
    agree(ExactSearch(Softmax(16, 3000)), torch.randn(17, 16), k)


def test_what_changes_is_copied_anew(by_rounding: int) -> None:
    torch.manual_seed(7)
    head, input = Softmax(16, 800), torch.randn(20, 16)
    search = ExactSearch(head)
    optimizer = torch.optim.SGD(head.parameters(), lr=5.0)
    for _ in range(2):
        head(input, torch.arange(20)).sum().backward()
        optimizer.step()
        agree(search, input, 3)
    head.load_state_dict(Softmax(16, 800).state_dict())
    agree(search, input, 3)
    head.weight = nn.Parameter(torch.randn(800, 16))
    agree(search, input, 3)
    head.weight.data.mul_(-1)  # nobody is told
    search.refresh()
    agree(search, input, 3)
    head.double()
    agree(search, input.double(), 3)


def test_a_linear_layer_will_do(by_rounding: int) -> None:
    layer, input = nn.Linear(16, 800), torch.randn(20, 16)
    search = ExactSearch(layer)
    assert search.head.weight is layer.weight
    torch.testing.assert_close(search.topk(input, 4)[0], layer(input).topk(4).values)


def test_half_precision_and_autocast_score_all(way: int) -> None:
    torch.manual_seed(8)
    head, input = Softmax(16, 800, dtype=torch.bfloat16), torch.randn(20, 16, dtype=torch.bfloat16)
    search = ExactSearch(head)
    assert not search.compiled
    assert torch.equal(search.topk(input, 3)[1], head.topk(input, 3)[1])
    head, input = head.float(), input.float()
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(search.topk(input, 3)[1], head.topk(input, 3)[1])
    cosine = CosineSoftmax(16, 800, dtype=torch.bfloat16)  # its directions are float32
    assert ExactSearch(cosine).compiled == (way > 0)
    assert torch.equal(ExactSearch(cosine).topk(input.bfloat16(), 3)[1], cosine.topk(input.bfloat16(), 3)[1])


def test_in_a_graph_and_under_vmap(way: int) -> None:
    head, input = Softmax(16, 800), torch.randn(20, 16)
    search = ExactSearch(head)
    expected = search.topk(input, 3)[1]
    assert torch.equal(torch.func.vmap(lambda one: search.topk(one, 3)[1])(input), expected)
    with torch.inference_mode():
        assert torch.equal(search.topk(input, 3)[1], expected)
        made = Softmax(16, 800)
        assert torch.equal(ExactSearch(made).topk(input, 3)[1], made.topk(input, 3)[1])


def test_no_examples(way: int) -> None:
    values, classes = ExactSearch(Softmax(16, 800)).topk(torch.empty(0, 2, 16), 3)
    assert values.shape == classes.shape == (0, 2, 3)
    assert classes.dtype == torch.int64


@pytest.mark.parametrize(
    ("input", "k", "error", "words"),
    [
        (torch.randn(3, 16), 0, ValueError, r"expected k in 1\.\.800, got 0"),
        (torch.randn(3, 16), 801, ValueError, r"expected k in 1\.\.800, got 801"),
        (torch.randn(3, 16), 2.0, TypeError, "expected k to be an int"),
        (torch.randn(3, 15), 2, ValueError, r"expected input of shape \(\*, 16\), got \(3, 15\)"),
        (torch.randn(3, 16).double(), 2, TypeError, "expected input of dtype torch.float32"),
        ([1.0] * 16, 2, TypeError, "expected input to be a Tensor, got list"),
    ],
)
def test_bad_input_is_told(input: Any, k: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        ExactSearch(Softmax(16, 800)).topk(input, k)


@pytest.mark.parametrize("head", [HierarchicalSoftmax(4, Tree.balanced(8)), Entmax(4, 8), nn.Conv2d(1, 1, 1), None])
def test_other_kinds_are_refused(head: Any) -> None:
    with pytest.raises(
        TypeError, match=rf"expected one of Softmax, .* or a torch.nn.Linear, got {type(head).__name__}"
    ):
        ExactSearch(head)


def test_all_its_kinds_are_tried() -> None:
    made = {type(make(4, 40)) for make in KINDS.values()}
    assert made == set(exact_search.KINDS)


@pytest.mark.parametrize("default", [torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_whatever_the_default_dtype_is(default: torch.dtype, dtype: torch.dtype, way: int) -> None:
    torch.manual_seed(5)
    head, input = Softmax(64, 1500, dtype=dtype), torch.randn(64, 64, dtype=dtype)
    expected = (input @ head.weight.t() + head.bias).topk(3).indices
    before = torch.get_default_dtype()
    try:
        torch.set_default_dtype(default)
        found = ExactSearch(head).topk(input, 3)[1]
    finally:
        torch.set_default_dtype(before)
    assert torch.equal(found, expected)


@pytest.mark.parametrize("scale", [1e-10, 1e-20, 1e-24, 1e-30])
def test_tiny_rows_are_told_apart(scale: float, way: int) -> None:
    """Their squares are no numbers of float32."""
    torch.manual_seed(0)
    head, input = Softmax(64, 3000, bias=False), torch.randn(64, 64)
    with torch.no_grad():
        rows = torch.randn(30, 64)[torch.randint(30, (3000,))] + 1e-4 * torch.randn(3000, 64)
        head.weight.copy_(scale * rows)
    logits = input.double() @ head.weight.double().t()
    found = logits.gather(1, ExactSearch(head).predict(input).unsqueeze(1)).squeeze(1)
    largest = logits.amax(1)
    assert bool((found >= largest - 1e-6 * largest.abs()).all())


@pytest.mark.parametrize("rule", [torch.optim.SGD, torch.optim.Adagrad, torch.optim.AdamW])
def test_the_steps_of_a_fused_optimiser_are_seen(rule: Any, way: int) -> None:
    """PyTorch counts no change of what they step."""
    head, input = Softmax(32, 2000), torch.randn(64, 32)
    search = ExactSearch(head)
    search.topk(input, 5)
    optimiser = rule(head.parameters(), lr=0.5, fused=True)
    head(input, torch.randint(2000, (64,))).sum().backward()
    optimiser.step()
    assert torch.equal(search.predict(input), (input @ head.weight.t() + head.bias).argmax(1))


def test_what_is_loaded_in_inference_mode_is_seen(way: int) -> None:
    input = torch.randn(64, 32)
    with torch.inference_mode():
        head = Softmax(32, 2000)
        search = ExactSearch(head)
        head.load_state_dict(Softmax(32, 2000).state_dict())
        assert torch.equal(search.predict(input), (input @ head.weight.t() + head.bias).argmax(1))


def test_a_parameter_that_a_linear_layer_gets_later_is_seen(way: int) -> None:
    layer, input = nn.Linear(32, 2000), torch.randn(64, 32)
    search = ExactSearch(layer)
    layer.weight = nn.Embedding(2000, 32).weight
    assert torch.equal(search.predict(input), layer(input).argmax(1))
    layer.load_state_dict(nn.Linear(32, 2000).state_dict(), assign=True)
    assert torch.equal(search.predict(input), layer(input).argmax(1))
    nn.utils.parametrizations.weight_norm(layer)
    with pytest.raises(TypeError, match=r"^ExactSearch: expected linear to be a torch\.nn\.Linear with parameters"):
        search.predict(input)


class Negated(nn.Linear):
    def forward(self, input: Tensor) -> Tensor:
        return -super().forward(input)


@pytest.mark.parametrize(("layer", "error"), [(Negated(4, 9), TypeError), (nn.Linear(4, 1), ValueError)])
def test_other_layers_are_refused(layer: nn.Linear, error: type[Exception]) -> None:
    with pytest.raises(error, match=r"^ExactSearch: expected "):
        ExactSearch(layer)


def test_memory_that_was_exchanged_is_seen(way: int) -> None:
    """`Module.to` may bring a parameter back to an address and a version that it had."""
    input = torch.randn(64, 16)
    for _ in range(100):
        head = CosineSoftmax(16, 1500)
        search = ExactSearch(head)
        search.topk(input, 3)
        head.bfloat16().float()
        assert torch.equal(search.topk(input, 5)[0], ExactSearch(head).topk(input, 5)[0])


def test_a_sign_that_is_kept_apart_counts(way: int) -> None:
    head, input = Softmax(32, 2000, bias=False), torch._neg_view(torch.randn(64, 32))
    assert torch.equal(ExactSearch(head).predict(input), (input.resolve_neg() @ head.weight.t()).argmax(1))


def test_threads_may_search_while_another_refreshes(way: int) -> None:
    head, input = Softmax(16, 3000), torch.randn(32, 16)
    search, expected = ExactSearch(head), (input @ head.weight.t() + head.bias).argmax(1)
    going, failed = threading.Event(), list[object]()

    def ask() -> None:
        while not going.is_set():
            try:
                if not torch.equal(search.predict(input), expected):
                    failed.append("another answer")
            except Exception as error:
                failed.append(error)

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(200):
        search.refresh()
    going.set()
    for thread in threads:
        thread.join()
    assert not failed
