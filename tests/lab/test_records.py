"""What a record refuses."""

import numpy as np
import pytest
from pydantic import ValidationError

from reports import make_card, make_run, whole_study
from softmaxes.lab.bits import packed
from softmaxes.lab.records import (
    Result,
)


def test_a_card_is_of_images_or_of_vectors() -> None:
    for fields in ({"image_shape": None}, {"vector_size": 64}):
        with pytest.raises(ValidationError, match="expected either image_shape or vector_size"):
            make_card(**fields)
    with pytest.raises(ValidationError, match="expected no samples of vectors"):
        make_card(image_shape=None, vector_size=64)


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
