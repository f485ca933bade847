"""Every law over every case; what keeps a law from being trusted is in `breaks`, and must then really break it."""

import pytest

from cases import CASES, Case, public_heads
from softmaxes.testing import LAWS, Law


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_law(case: Case, law: Law) -> None:
    if law.__name__ in case.breaks:
        with pytest.raises(AssertionError):
            law(case.make, case.in_features)
    else:
        law(case.make, case.in_features)


def test_every_public_head_has_a_case() -> None:
    assert {type(case.make(case.in_features)) for case in CASES} == public_heads()
