"""What records are made of: the frozen record itself, and numbers with bounds."""

import math
from typing import Annotated, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator


def _in_float32(value: float) -> float:
    if math.isfinite(value) and abs(value) > MOST_NATS:
        raise ValueError(f"expected at most {MOST_NATS:g}, or none that is finite")
    return value


def _none_or_some(value: float) -> float:
    if not (math.isnan(value) or 0 <= value <= 10**9):
        raise ValueError(f"expected 0 to {10**9}, or NaN")
    return value


# Each number has bounds within which sums, squares and quotients of some thousands of them are numbers too.
MOST_NATS = 1e39  # what float32 can hold is less
MOST_RATE = 1e38  # float32 can hold it
PositiveInt = Annotated[int, Field(gt=0, le=10**9)]
NonNegativeInt = Annotated[int, Field(ge=0, le=2**63 - 1)]
Count = Annotated[int, Field(ge=0, le=10**12)]
Share = Annotated[float, Field(ge=0, le=1)]
Seconds = Annotated[float, Field(ge=0, le=10**9, allow_inf_nan=False)]
Rate = Annotated[float, Field(gt=0, le=MOST_RATE, allow_inf_nan=False)]
Knob = Annotated[float, Field(ge=-(10**9), le=10**9, allow_inf_nan=False)]
Loss = Annotated[float, AfterValidator(_in_float32)]
Peak = Annotated[float, AfterValidator(_none_or_some)]
Nats = Annotated[float, Field(ge=0), AfterValidator(_in_float32)]


class Record(BaseModel):
    """A frozen record that refuses fields it does not know and keeps infinities through JSON.

    Its texts are printable, so that a record from a stranger cannot write to the terminal what it likes.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings", protected_namespaces=())

    @model_validator(mode="after")
    def _printable(self) -> Self:
        for name, value in self:
            texts = value if isinstance(value, tuple) else (value,)
            if not all(text.isprintable() for text in texts if isinstance(text, str)):
                raise ValueError(f"expected printable characters in {name}")
        return self

    def check(self) -> None:
        """Refuse what one field says and another contradicts, when the record is read from a file.

        Raises:
            ValueError: they do not agree; the message says in what.
        """
