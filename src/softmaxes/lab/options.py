"""Numbers on the command line."""

from collections.abc import Sequence
from typing import Annotated

from cyclopts import Parameter, Token

from softmaxes.lab import InputError

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


def check_between(option: str, value: int, least: int, most: int) -> None:
    """Refuse a number that an option cannot be."""
    if not least <= value <= most:
        raise InputError(f"{option}: expected {least:,} to {most:,}, got {value:,}.")
