"""Every law over every case; what keeps a law from being trusted is in `breaks`, and must then really break it."""

import pytest

from cases import CASES, ONE_OF_EACH, Case, public_heads
from softmaxes.testing import LAWS, Law, compiled

# Compiling takes seconds: one case of each head is compiled, in which all of its code is.
PAIRS = [(case, law) for case in CASES for law in LAWS if law is not compiled or case in ONE_OF_EACH]


@pytest.mark.parametrize(("case", "law"), PAIRS, ids=lambda one: one.name if isinstance(one, Case) else one.__name__)
def test_law(case: Case, law: Law) -> None:
    if law.__name__ in case.breaks:
        with pytest.raises(AssertionError):
            law(case.make, case.in_features)
    else:
        law(case.make, case.in_features)


def test_every_public_head_has_a_case() -> None:
    assert {type(case.make(case.in_features)) for case in ONE_OF_EACH} == public_heads()
    assert {type(case.make(case.in_features)) for case in CASES} == public_heads()
