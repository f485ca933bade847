"""Every law over every case; what keeps a law from being trusted is in `breaks`, and must then really break it."""

import sys

import pytest

from cases import CASES, ONE_OF_EACH, Case, public_heads
from softmaxes import testing
from softmaxes.testing import LAWS, Law

# A graph takes a second and more to make: one case of each head, in which all of its code is, and what these go past.
OTHER_GRAPHS = ("entmax-3-softmax", "entmax-12-learned")
GRAPHS = {
    testing.compiled: ONE_OF_EACH,
    testing.exported: [*ONE_OF_EACH, *(case for case in CASES if case.name in OTHER_GRAPHS)],
}


SLOW = (*GRAPHS, testing.separable_classes_are_learned)
SLOW_FOR_ALL = (  # some seconds for all cases: only those of `ONE_OF_EACH` are quick
    testing.batch_does_not_matter,
    testing.recomputation_is_the_same,
    testing.gradient_of_log_prob,
    testing.meta_device,
    testing.leading_dimensions,
    testing.low_precision,
)


def is_slow(case: Case, law: Law) -> bool:
    return law in SLOW or (law in SLOW_FOR_ALL and case not in ONE_OF_EACH)


PAIRS = [
    pytest.param(case, law, marks=[pytest.mark.slow] if is_slow(case, law) else [], id=f"{case.name}-{law.__name__}")
    for case in CASES
    for law in LAWS
    if case in GRAPHS.get(law, CASES)
]


@pytest.mark.parametrize(("case", "law"), PAIRS)
def test_law(case: Case, law: Law, monkeypatch: pytest.MonkeyPatch) -> None:
    if law.__name__ in case.breaks:
        # Torch looks for a wrong gradient again, number by number, so as to say where it is: seconds for nothing.
        monkeypatch.setattr(sys.modules["torch.autograd.gradcheck"], "_run_slow_mode_and_get_error", lambda *_: "")
        with pytest.raises(AssertionError):
            law(case.make, case.in_features)
    else:
        law(case.make, case.in_features)


def test_every_public_head_has_a_case() -> None:
    assert {type(case.make(case.in_features)) for case in ONE_OF_EACH} == public_heads()
    assert {type(case.make(case.in_features)) for case in CASES} == public_heads()
