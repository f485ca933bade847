"""Options that several verbs share."""

from collections.abc import Sequence
from typing import Annotated, Any

from cyclopts import Group, Parameter, Token
from pydantic import BaseModel

from softmaxes.lab.records import Source

MOST_DIGITS = 60


def _whole(_kind: type, tokens: Sequence[Token]) -> int:
    """A whole number; 2.5 would be rounded otherwise."""
    text = tokens[0].value.strip()
    try:
        if len(text) > MOST_DIGITS:
            raise ValueError
        return int(text)
    except ValueError:
        raise ValueError(f"expected a whole number, got {text[:MOST_DIGITS]!r}.") from None


Whole = Annotated[int, Parameter(converter=_whole)]


From = Annotated[Source | None, Parameter(name="*", group=Group("Data", sort_key=1))]


def given(record: BaseModel | None) -> dict[str, Any]:
    """The fields of a record that were typed."""
    return {} if record is None else {name: getattr(record, name) for name in record.model_fields_set}
