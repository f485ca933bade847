"""What a record refuses."""

import numpy as np
import pytest
from pydantic import ValidationError

from reports import make_card, make_run, whole_study
from softmaxes.lab.bits import packed
from softmaxes.lab.records import (
    DataCard,
    Result,
)


def test_a_card_is_of_one_kind_of_inputs() -> None:
    for fields in ({"image_shape": None}, {"vector_size": 64}, {"text_size": 9}, {"sparse_size": 9}):
        with pytest.raises(
            ValidationError, match="expected one of image_shape, vector_size, text_size and sparse_size"
        ):
            make_card(**fields)
    with pytest.raises(ValidationError, match="expected no samples of vectors"):
        make_card(image_shape=None, vector_size=64)
    with pytest.raises(ValidationError, match="expected no samples of sparse vectors"):
        make_card(image_shape=None, sparse_size=64)
    with pytest.raises(ValidationError, match="expected samples that are texts"):
        make_card(image_shape=None, text_size=9)
    with pytest.raises(ValidationError, match="expected samples that are images"):
        DataCard.model_validate(make_card().model_dump() | {"samples": ({"target": 0, "text": "a"},)})
    for sample in ({"target": 0}, {"target": 0, "png": "iVBORw0KGgo=", "text": "a"}):
        with pytest.raises(ValidationError, match="expected either png or text"):
            DataCard.model_validate(make_card().model_dump() | {"samples": (sample,)})


def test_coarser_groups_number_the_groups_below_them() -> None:
    grouped = {"group_names": ("a", "b", "c"), "group_of_class": [c % 3 for c in range(100)]}
    levels, names = ((0, 1, 0), (0, 0)), (("d", "e"), ("f",))
    assert make_card(**grouped, coarser_groups=levels, coarser_names=names).coarser_groups == levels
    with pytest.raises(ValidationError, match="expected a name for each group of each level in coarser_names"):
        make_card(**grouped, coarser_groups=levels, coarser_names=names[:1])
    for levels in (((0, 1),), ((0, 2, 0),), ((0, 1, 0), (0,))):
        with pytest.raises(ValidationError, match="in coarser_groups, numbered without gaps"):
            make_card(**grouped, coarser_groups=levels)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"correct": packed(np.ones(8, dtype=bool))}, "expected a bit for each of 2000 examples in correct"),
        ({"correct": "no base64!"}, "Only base64 data is allowed"),
        ({"calibration": {"reliability": {"examples": [1], "confidence": [1], "accuracy": [1]}}}, "at least 15 items"),
        (
            {"calibration": {"reliability": {"examples": [1] * 15, "confidence": [1], "accuracy": [1]}}},
            "expected a confidence and an accuracy for each of 15 bins",
        ),
    ],
)
def test_what_is_no_statistic_is_refused(fields: dict[str, object], message: str) -> None:
    _, _, results = whole_study()
    with pytest.raises(ValidationError, match=message):
        Result.model_validate(dict(results[0]) | fields)


@pytest.mark.parametrize("name", ["\u202egnp", "a\u200bb", "\x1b[31m", "a\nb", "\ud800", "\u2066x"])
def test_a_name_that_turns_or_hides_letters_is_refused(name: str) -> None:
    for make in (lambda: make_run(name), lambda: make_card(class_names=(name, *map(str, range(99))))):
        with pytest.raises(ValidationError, match="expected printable characters"):
            make()
